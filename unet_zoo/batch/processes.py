"""Several processes segment images, each on its share of the processors.

They are programs of their own, started by the same Python, so that nothing of this
process has to be copied or imported again. One that dies is replaced: what it had at
hand is segmented once more, an image at a time; the image on which the next one dies as
well is broken.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import pickle
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from unet_zoo.batch.jobs import Broken, Job, Network
from unet_zoo.batch.pipeline import Outcome
from unet_zoo.errors import InputError

# Images that a worker has at hand: it reads and writes while it segments another.
AHEAD = 4
_PATIENCE = 60  # seconds that a worker may take to end


def run(
    count: int,
    network: Network,
    jobs: Sequence[Job],
    report: Callable[[Job, Outcome], None],
    tick: Callable[[int], None] = lambda frames: None,
) -> None:
    """Segment images by `count` processes; see `pipeline.run`."""
    team = _Team(network, jobs, min(count, len(jobs)))
    try:
        while team.left:
            worker, words = team.answers.get()
            if words is None:
                for job in team.bury(worker):
                    reason = (
                        f"{job.source}: the process that segmented it was ended twice, "
                        "perhaps for want of memory"
                    )
                    tick(job.frames)
                    report(job, Outcome(broken=Broken(job.source, reason)))
            elif words[0] == "ready":
                worker.ready = True
            elif words[0] == "frames":
                tick(words[1])
            elif words[0] == "image":
                report(worker.jobs.pop(words[1]), words[2])
                team.left -= 1
            else:
                raise words[1]
            team.send()
    finally:
        team.end()


class _Team:
    """The workers, and what is to be done."""

    def __init__(self, network: Network, jobs: Sequence[Job], count: int) -> None:
        self.answers = queue.SimpleQueue[tuple[_Worker, tuple[Any, ...] | None]]()
        self.left = len(jobs)
        self._network = network
        self._waiting = collections.deque(jobs)
        self._suspects = collections.deque[Job]()
        self._workers: list[_Worker] = []
        for share in shares(count):
            self._workers.append(_Worker(network, share, self.answers))
        self.send()

    def send(self) -> None:
        """Give every worker enough to do; a suspect is a worker's only job."""
        for worker in self._workers:
            worker.alone &= bool(worker.jobs)
            if self._suspects and not worker.jobs:
                worker.send(self._suspects.popleft(), alone=True)
            while self._waiting and not worker.alone and len(worker.jobs) < AHEAD:
                worker.send(self._waiting.popleft())

    def bury(self, dead: _Worker) -> list[Job]:
        """Replace a worker that died; return the job that killed two of them.

        Raises:
            InputError: for one that died before it could begin.
        """
        if not dead.ready:
            message = (
                f"A worker ended before it could segment: {dead.last_words()}. "
                "Try fewer --workers."
            )
            raise InputError(message)
        dead.end()
        guilty = list(dead.jobs.values()) if dead.alone else []
        if not dead.alone:
            self._suspects.extend(dead.jobs.values())
        self.left -= len(guilty)
        place = self._workers.index(dead)
        self._workers[place] = _Worker(self._network, dead.share, self.answers)
        return guilty

    def end(self) -> None:
        """Let all workers end; they finish what they are writing."""
        for worker in self._workers:
            worker.close(finished=not self.left)
        for worker in self._workers:
            worker.end()


class _Worker:
    """A process, and the images that it has at hand."""

    def __init__(
        self,
        network: Network,
        share: set[int],
        answers: queue.SimpleQueue[tuple[_Worker, tuple[Any, ...] | None]],
    ) -> None:
        self.jobs: dict[tuple[Path, int | None], Job] = {}
        self.share, self.ready, self.alone = share, False, False
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        limit = str(len(share) or 1)
        threads = {"OMP_NUM_THREADS": limit, "TF_NUM_INTRAOP_THREADS": limit}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "unet_zoo.batch.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=threads | os.environ,
        )
        self._requests = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)
        self._put((network, share))

        def listen() -> None:
            with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError):
                while True:
                    answers.put((self, pickle.load(self._answers)))
            answers.put((self, None))

        self._listener = threading.Thread(target=listen, daemon=True)
        self._listener.start()

    def send(self, job: Job, *, alone: bool = False) -> None:
        self.jobs[job.key], self.alone = job, alone
        self._put(job)

    def _put(self, value: Any) -> None:
        with contextlib.suppress(OSError):  # of one that died, the listener tells
            pickle.dump(value, self._requests)
            self._requests.flush()

    def close(self, *, finished: bool) -> None:
        """Send nothing more."""
        if finished:
            self._put(None)
        with contextlib.suppress(OSError):
            self._requests.close()

    def end(self) -> None:
        """Wait until it has ended."""
        self.close(finished=False)
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._listener.join()
        self._answers.close()
        self._errors.close()

    def last_words(self) -> str:
        """Return the last line that it wrote about errors."""
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return lines[-1] if lines else f"exit code {self._process.returncode}"


def shares(count: int) -> list[set[int]]:
    """Return the processors of each of `count` workers, as even as can be.

    Empty sets where this cannot be said to a process.

    >>> import os
    >>> all = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    >>> set().union(*shares(3)) == all
    True
    """
    if not hasattr(os, "sched_getaffinity"):
        return [set() for _ in range(count)]
    there = sorted(os.sched_getaffinity(0))
    if count >= len(there):
        return [{there[number % len(there)]} for number in range(count)]
    size = len(there) / count
    cuts = [round(number * size) for number in range(count + 1)]
    return [set(there[a:b]) for a, b in itertools.pairwise(cuts)]
