"""Films for the Cell Tracking Challenge: which images they consist of, and writing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import errors
from unet_zoo.cli import _batches, _common

if TYPE_CHECKING:
    import numpy as np

    from unet_zoo.batch import Batch
    from unet_zoo.batch.jobs import Job
    from unet_zoo.segmenter import Segmenter


@dataclass
class Film:
    """One film: a stack, or images of one frame each."""

    jobs: Sequence[Job]
    output: Path
    number: str

    @property
    def source(self) -> Path:
        return self.jobs[0].source

    @property
    def frames(self) -> int:
        return sum(job.frames for job in self.jobs)

    @property
    def results(self) -> list[Path]:
        return [self.output / f"{self.number}_RES"]

    @property
    def folders(self) -> set[Path]:
        return set(self.results)


def arranged(jobs: Sequence[Job], output: Path) -> list[Film]:
    """Return every stack as a film, or all images as one if each is a single frame.

    A film is numbered as the folder that its frames lie in, such as 02, otherwise 01;
    stacks are numbered in order.
    """
    single = [job for job in jobs if job.frames == 1]
    if single and len(single) < len(jobs):
        other = next(job for job in jobs if job.frames > 1)
        message = (
            f"{single[0].source} is a single frame and {other.source} a stack of "
            f"{other.frames}: which are one film? Segment them by two commands."
        )
        raise errors.InputError(message)
    if not single:
        return [
            Film([job], output, f"{number:02d}")
            for number, job in enumerate(jobs, start=1)
        ]
    for job in jobs:
        if job.size != jobs[0].size:
            message = (
                f"The frames of a film must be of one size: {jobs[0].source} is "
                f"{jobs[0].size}, {job.source} is {job.size} pixels (Y, X)."
            )
            raise errors.InputError(message)
    folder = jobs[0].source.resolve().parent.name
    return [Film(jobs, output, folder if re.fullmatch(r"\d\d", folder) else "01")]


def segment(planned: Batch, load: Callable[[], Segmenter], *, overwrite: bool) -> None:
    """Segment films, and say how many objects there are."""
    import tqdm

    from unet_zoo.batch import jobs, running

    if planned.broken:  # a film lacks no frame
        raise errors.InputError(planned.broken[0].reason)
    output = planned.settings.output
    films = arranged(planned.jobs, output)
    jobs.check_results(films, overwrite=overwrite)
    segmenter = load()
    options, objects = planned.settings.options, 0
    frames = sum(film.frames for film in films)
    with (
        running.emptied(output),
        tqdm.tqdm(total=frames, unit="frame", disable=None, leave=False) as bar,
    ):
        for done, film in enumerate(films):
            bar.set_description(film.source.name)
            try:
                objects += _segment(segmenter, film, options, bar.update)
            except KeyboardInterrupt as interrupt:
                what = f"{done} of {len(films)} films are complete in {output}."
                _common.keep(interrupt, what)
                raise
    _batches.tell(objects, len(planned.jobs), output)


def _segment(
    segmenter: Segmenter, film: Film, options: Mapping[str, Any], tick: Any
) -> int:
    """Write the result of one film, or nothing; return the number of objects."""
    from unet_zoo import outputs

    objects = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal objects
        for job in film.jobs:
            for frame in job.read():
                found = segmenter.segment(frame, **job.scaling, **options)
                objects += found.count
                yield found.labels
                tick()

    outputs.write_ctc(film.results[0], frames(), film.frames)
    return objects
