"""The tasks that a cluster makes of an image: one, or of a large image many.

A large image is cut into parts. It is surveyed and its values are measured, then every
part is segmented by whoever is free, and a last task makes the parts the results. What
is known of the parts meanwhile lies in files in a folder beside the results: a worker
that is lost loses what it was at, and nothing that it had done.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from unet_zoo.batch import pieces, pipeline
from unet_zoo.batch.jobs import BROKEN, Broken, Job, Network, broken
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo.images import Image
    from unet_zoo.segmenter import Segmenter
    from unet_zoo.streaming import running, shares

PATIENCE = 10  # seconds, for files to be seen everywhere
# What is to be called with what a task returned, the task's function, its arguments.
Task = tuple[Any, ...]
_T = TypeVar("_T")
_loading = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Workers:
    """Who segments.

    Attributes:
        threads: of all processes.
        each: of one process, at most.
        given: bytes that a process may hold.
    """

    threads: int
    each: int
    given: int


class Whole:
    """An image that is one task; `outcome` is what became of it, once it is known."""

    def __init__(self, job: Job) -> None:
        self.job, self._sent = job, absolute(job)
        self.outcome: pipeline.Outcome | None = None

    def begin(self) -> Iterator[Task]:
        """Yield the tasks to begin with."""
        yield self._segmented, _segment, self._sent

    def end(self) -> None:
        """Remove what there is beside the results."""

    def _segmented(self, outcome: pipeline.Outcome) -> Iterator[Task]:
        self.outcome = outcome
        yield from ()


class Shared(Whole):
    """An image whose parts are tasks."""

    def __init__(self, job: Job, workers: Workers) -> None:
        super().__init__(job)
        self._workers, self._begun = workers, time.monotonic()
        name = f".{job.source.stem}.{secrets.token_hex(4)}.part"
        self._folder = self._sent.output / name
        self._survey: shares.Survey | None = None
        self._scalings: dict[int, Any] = {}
        self._parts: list[shares.Part] = []
        self._found: dict[int, shares.Found] = {}

    def begin(self) -> Iterator[Task]:
        self._folder.mkdir()
        yield self._surveyed, _done, _survey, self._sent, self._workers
        for frame in range(self.job.frames):
            then = functools.partial(self._measured, frame)
            yield then, _done, _measure, self._sent, frame

    def end(self) -> None:
        """Remove what is known of parts; who is at one will notice and give it up."""
        until = time.monotonic() + PATIENCE
        shutil.rmtree(self._folder, ignore_errors=True)
        while self._folder.exists() and time.monotonic() < until:
            time.sleep(0.05)  # somebody began another file, or has one open
            shutil.rmtree(self._folder, ignore_errors=True)

    def _surveyed(self, survey: shares.Survey) -> Iterator[Task]:
        self._survey, self._parts = survey, survey.parts(self._workers.threads)
        for frame in self._scalings:
            yield from self._ready(frame)

    def _measured(self, frame: int, scalings: Any) -> Iterator[Task]:
        self._scalings[frame] = scalings
        if self._survey is not None:
            yield from self._ready(frame)

    def _ready(self, frame: int) -> Iterator[Task]:
        for number, part in enumerate(self._parts):
            if part.frame == frame:
                then = functools.partial(self._had, number)
                given = self._survey, part, self._scalings[frame], self._folder
                yield then, _done, _find, self._sent, *given

    def _had(self, number: int, found: shares.Found) -> Iterator[Task]:
        self._found[number] = found
        if len(self._found) == len(self._parts):
            ordered = [self._found[number] for number in sorted(self._found)]
            given = self._survey, ordered, self._workers.given
            yield self._joined, _done, _join, self._sent, *given

    def _joined(self, summary: running.Summary) -> Iterator[Task]:
        seconds = time.monotonic() - self._begun
        summary = dataclasses.replace(summary, seconds=seconds)
        count = len(self._parts)
        processes = len({found.process for found in self._found.values()})
        said = (
            f"{self.job.source.name} in {count} part{'s' * (count > 1)} by {processes} "
            f"Dask worker{'s' * (processes > 1)}, {pieces.told(self.job)}: "
            f"{summary}"
        )
        self.outcome = pipeline.Outcome(sum(summary.objects), said=said)
        yield from ()


def absolute(job: Job) -> Job:
    """Return the job with paths that do not depend on the folder of a process."""
    settings = dataclasses.replace(
        job.settings, output=Path(os.path.abspath(job.output))
    )
    source = Path(os.path.abspath(job.source))
    return dataclasses.replace(job, source=source, settings=settings)


def _segment(job: Job) -> pipeline.Outcome:
    """Segment one image."""
    outcomes: list[pipeline.Outcome] = []
    segmenter = _segmenter(job.settings.network)
    pipeline.run(
        segmenter, [job], lambda _, outcome: outcomes.append(outcome), several=False
    )
    return outcomes[0]


def _done(function: Callable[..., _T], job: Job, *arguments: Any) -> _T | Broken:
    """Do something with an image; return what is wrong with one where it cannot be."""
    segmenter = _segmenter(job.settings.network)
    try:
        with job.open() as image:
            return function(segmenter, job, image, *arguments)
    except (*BROKEN, OSError) as error:
        return broken(job.source, error)


def _survey(
    segmenter: Segmenter, job: Job, image: Image, workers: Workers
) -> shares.Survey:
    from unet_zoo.streaming import shares

    asked = pieces.asked(job)
    return shares.survey(segmenter, image, asked, workers.given, workers.each)


def _measure(segmenter: Segmenter, job: Job, image: Image, frame: int) -> Any:
    from unet_zoo.streaming import shares

    return shares.measured(segmenter, image, frame)


def _find(
    segmenter: Segmenter,
    job: Job,
    image: Image,
    survey: shares.Survey,
    part: shares.Part,
    scalings: Any,
    folder: Path,
) -> shares.Found:
    from unet_zoo.streaming import shares

    seen(folder)
    asked = pieces.asked(job)
    return shares.find(segmenter, image, asked, survey.plan, part, scalings, folder)


def _join(
    segmenter: Segmenter,
    job: Job,
    image: Image,
    survey: shares.Survey,
    found: list[shares.Found],
    given: int,
) -> running.Summary:
    from unet_zoo.streaming import shares

    for each in found:
        seen(each.path)
    asked, more = pieces.asked(job), pieces.pictures(job)
    with writers.all_or_none(job.results):
        path = pieces.labels(job)
        summary = shares.join(
            segmenter, image, path, asked, survey.plan, found, given, **more
        )
        pieces.write_tables(job, summary)
    return dataclasses.replace(summary, table=summary.table[:0])


def seen(path: Path) -> bool:
    """Wait until a file that was written elsewhere is seen here; return whether."""
    until = time.monotonic() + PATIENCE
    while not path.exists():
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


def _segmenter(network: Network) -> Segmenter:
    with _loading:
        return _loaded(network)


@functools.lru_cache(maxsize=1)
def _loaded(network: Network) -> Segmenter:
    return network.load()
