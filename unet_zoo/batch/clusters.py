"""A Dask cluster segments images: somebody else's scheduler, any number of machines.

Every image is a task; Dask repeats those of a worker that is gone. The workers read
images and weights, and write results, by the same paths as this machine. `distributed`
is imported only here, and only when a cluster is used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.util
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo._version import __version__
from unet_zoo.batch import pipeline
from unet_zoo.batch.jobs import Broken, Job, Network
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    from unet_zoo.segmenter import Segmenter

# Tasks for each thread of the cluster: one is done, the others need not be waited for.
_PER_THREAD = 3
_PATIENCE = 10  # seconds, for the scheduler and for files to be seen everywhere
_loading = threading.Lock()


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

    with _connected(address) as client:
        threads = _check_workers(client, address, jobs)
        waiting = iter(jobs)
        running: dict[Any, Job] = {}
        finished = distributed.as_completed(loop=client.loop)
        while True:
            for job in itertools.islice(waiting, _PER_THREAD * threads - len(running)):
                future = client.submit(segment, _absolute(job), pure=False)
                running[future] = job
                finished.add(future)
            if not running:
                return
            future = next(finished)
            job = running.pop(future)
            outcome = _outcome(future, job, address)
            if outcome.broken is None:
                _check_there(job, address)
            tick(job.frames)
            report(job, outcome)


def segment(job: Job) -> pipeline.Outcome:
    """Segment one image: what a worker does."""
    outcomes: list[pipeline.Outcome] = []
    with _loading:
        segmenter = _loaded(job.settings.network)
    pipeline.run(
        segmenter, [job], lambda _, outcome: outcomes.append(outcome), several=False
    )
    return outcomes[0]


def _absolute(job: Job) -> Job:
    """Return the job with paths that do not depend on the folder of a process."""
    settings = dataclasses.replace(
        job.settings, output=Path(os.path.abspath(job.output))
    )
    source = Path(os.path.abspath(job.source))
    return dataclasses.replace(job, source=source, settings=settings)


@functools.lru_cache(maxsize=1)
def _loaded(network: Network) -> Segmenter:
    return network.load()


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


def _check_workers(client: Any, address: str, jobs: Sequence[Job]) -> int:
    """Return how many threads the workers have; refuse those that cannot do it."""
    try:
        client.wait_for_workers(1, timeout=_PATIENCE)
        network = jobs[0].settings.network
        first = _absolute(jobs[0])
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
    for worker, (version, missing) in seen.items():
        if version != __version__:
            message = (
                f"The Dask worker {worker} has unet-zoo {version}, here is "
                f"{__version__}. Install the same everywhere."
            )
            raise InputError(message)
        if missing:
            message = (
                f"The Dask worker {worker} does not see {missing[0]}. Workers must "
                "see weights, images and --output by the same paths."
            )
            raise InputError(message)
    return sum(client.nthreads().values())


def _seen(paths: Sequence[Path]) -> tuple[str, list[Path]]:
    """Return the version of this package and the paths that are not there."""
    return __version__, [path for path in paths if not path.exists()]


def _outcome(future: Any, job: Job, address: str) -> pipeline.Outcome:
    """Return what became of a task."""
    import distributed

    try:
        outcome: pipeline.Outcome = future.result()
    except distributed.KilledWorker as error:
        reason = (
            f"{job.source}: every worker that segmented it died, "
            f"{error.last_worker.address} last, perhaps for want of memory"
        )
        return pipeline.Outcome(broken=Broken(job.source, reason))
    except (CancelledError, TimeoutError) as error:
        message = (
            f"The Dask scheduler at {address} was lost. What is finished is kept: "
            "--resume goes on."
        )
        raise InputError(message) from error
    return outcome


def _check_there(job: Job, address: str) -> None:
    """Refuse to go on where results are on a disk that this machine does not see."""
    until = time.monotonic() + _PATIENCE
    while missing := [path for path in job.results if not path.exists()]:
        if time.monotonic() > until:
            message = (
                f"A Dask worker of {address} has written {missing[0]}, which is not to "
                "be seen here. Workers must see --output by the same path."
            )
            raise InputError(message)
        time.sleep(0.1)
