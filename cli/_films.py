"""Films for the Cell Tracking Challenge: which images they consist of, and writing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import errors

if TYPE_CHECKING:
    import numpy as np

    from unet_zoo.cli.segment import Job
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


def segment(
    segmenter: Segmenter, film: Film, options: dict[str, Any], tick: Any
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
            job.image = None

    outputs.write_ctc(film.results[0], frames(), film.frames)
    return objects
