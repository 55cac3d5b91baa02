"""A Dask cluster segments images: somebody else's scheduler, any number of machines.

Every image is a task, a large one many (see `sharing`); Dask repeats those of a worker
that is gone. The workers read images and weights, and write results, by the same paths
as this machine. `distributed` is imported only here, and only when a cluster is used.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.util
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

from unet_zoo import memory
from unet_zoo._version import __version__
from unet_zoo.batch import pipeline, sharing
from unet_zoo.batch.jobs import Broken, Job
from unet_zoo.errors import InputError

# Tasks for each thread of the cluster: one is done, the others need not be waited for.
_PER_THREAD = 3
_PATIENCE = 10  # seconds, for the scheduler
_SHARE = 0.7  # of the memory that Dask grants a worker; from 0.8 on it is sent nothing


def check() -> None:
    """Refuse where the package `distributed` is missing."""
    if importlib.util.find_spec("distributed") is None:
        message = (
            "A Dask cluster needs the package 'distributed'. Install it with: "
            "pip install 'unet-zoo[dask]'"
        )
        raise InputError(message)


def run(
    address: str,
    jobs: Sequence[Job],
    report: Callable[[Job, pipeline.Outcome], None],
    tick: Callable[[int], None] = lambda frames: None,
) -> None:
    """Segment images by the workers of a scheduler; see `pipeline.run`.

    Raises:
        InputError: without a scheduler at the address, without workers, or with some
            that lack this version of unet_zoo or do not see the same files.
    """
    check()
    import distributed

    with contextlib.ExitStack() as leftovers, _connected(address) as client:
        workers = _check_workers(client, address, jobs)
        waiting = iter(jobs)
        running: dict[Any, tuple[sharing.Whole, Callable[[Any], Iterable[Any]]]] = {}
        finished = distributed.as_completed(loop=client.loop)

        def submit(work: sharing.Whole, tasks: Iterable[sharing.Task]) -> None:
            for then, *task in tasks:
                future = client.submit(*task, pure=False)
                running[future] = work, then
                finished.add(future)

        while True:
            while len(running) < _PER_THREAD * workers.threads:
                job = next(waiting, None)
                if job is None:
                    break
                work = sharing.Whole(job)
                if job.large:
                    work = sharing.Shared(job, workers)
                    leftovers.callback(work.end)
                submit(work, work.begin())
            if not running:
                return
            future = next(finished)
            if future not in running:  # of an image that was given up
                continue
            work, then = running.pop(future)
            result = _result(future, work.job, address)
            if isinstance(result, Broken):
                work.outcome = pipeline.Outcome(broken=result)
                others = [key for key, (whose, _) in running.items() if whose is work]
                for other in others:
                    del running[other]
                client.cancel(others)
            else:
                submit(work, then(result))
            if work.outcome is None:
                continue
            work.end()
            if work.outcome.broken is None:
                _check_there(work.job, address)
            tick(work.job.frames)
            report(work.job, work.outcome)


@contextlib.contextmanager
def _connected(address: str) -> Iterator[Any]:
    import distributed

    try:
        client = distributed.Client(
            address, timeout=_PATIENCE, name="unet-zoo", set_as_default=False
        )
    except (OSError, ValueError) as error:
        message = (
            f"There is no Dask scheduler at {address!r} ({error}). Start one with "
            "`dask scheduler`, which prints its address, such as tcp://10.0.0.1:8786."
        )
        raise InputError(message) from error
    with client:
        yield client


@dataclasses.dataclass(frozen=True)
class _Seen:
    """What a worker says of itself."""

    version: str
    missing: list[Path]
    host: str
    threads: int
    free: int
    held: int
    limit: int

    def given(self, asked: int | None, processes: int) -> int:
        """Return the bytes that it may hold beside as many processes of its host."""
        given = self.free // processes + self.held if asked is None else asked
        return min(given, int(_SHARE * self.limit)) if self.limit else given


def _check_workers(client: Any, address: str, jobs: Sequence[Job]) -> sharing.Workers:
    """Return what the workers have; refuse those that cannot do it."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
        network = jobs[0].settings.network
        first = sharing.absolute(jobs[0])
        paths = [network.weights, first.output, first.source]
        seen = client.run(_seen, paths)
    except TimeoutError as error:
        message = (
            f"The Dask scheduler at {address} has no workers. Start some with: "
            f"dask worker {address}"
        )
        raise InputError(message) from error
    except ImportError as error:
        message = (
            f"A Dask worker of {address} cannot import unet_zoo ({error}). Install "
            f"unet-zoo {__version__} where the workers run."
        )
        raise InputError(message) from error
    for worker, each in seen.items():
        if each.version != __version__:
            message = (
                f"The Dask worker {worker} has unet-zoo {each.version}, here is "
                f"{__version__}. Install the same everywhere."
            )
            raise InputError(message)
        if each.missing:
            message = (
                f"The Dask worker {worker} does not see {each.missing[0]}. Workers "
                "must see weights, images and --output by the same paths."
            )
            raise InputError(message)
    hosts = collections.Counter(each.host for each in seen.values())
    return sharing.Workers(
        sum(each.threads for each in seen.values()),
        max(each.threads for each in seen.values()),
        min(
            each.given(jobs[0].settings.max_memory, hosts[each.host])
            for each in seen.values()
        ),
    )


def _seen(paths: Sequence[Path], dask_worker: Any) -> _Seen:
    """Say whether paths are there, and what this worker has."""
    from unet_zoo.streaming import planning

    return _Seen(
        __version__,
        [path for path in paths if not path.exists()],
        socket.gethostname(),
        dask_worker.state.nthreads,
        memory.default_memory(),
        planning.resident(),
        dask_worker.memory_manager.memory_limit or 0,
    )


def _result(future: Any, job: Job, address: str) -> Any:
    """Return what a task returned."""
    import distributed

    try:
        return future.result()
    except distributed.KilledWorker as error:
        reason = (
            f"{job.source}: every worker that segmented it died, "
            f"{error.last_worker.address} last, perhaps for want of memory"
        )
        return Broken(job.source, reason)
    except (CancelledError, TimeoutError) as error:
        message = (
            f"The Dask scheduler at {address} was lost. What is finished is kept: "
            "--resume goes on."
        )
        raise InputError(message) from error


def _check_there(job: Job, address: str) -> None:
    """Refuse to go on where results are on a disk that this machine does not see."""
    for path in job.results:
        if not sharing.seen(path):
            message = (
                f"A Dask worker of {address} has written {path}, which is not to "
                "be seen here. Workers must see --output by the same path."
            )
            raise InputError(message)
