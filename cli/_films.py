"""Films for the Cell Tracking Challenge: which images they consist of, and writing."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors
from unet_zoo.cli import _batches, _common

if TYPE_CHECKING:
    import numpy as np

    from unet_zoo import records
    from unet_zoo.batch import Batch
    from unet_zoo.batch.jobs import Job
    from unet_zoo.segmenter import Segmenter


@dataclass
class Film:
    """One film, frame by frame: a stack, or images of one frame each."""

    jobs: Sequence[Job]
    output: Path
    number: str

    @property
    def source(self) -> Path:
        return self.jobs[0].source

    @property
    def results(self) -> list[Path]:
        return [self.output / f"{self.number}_RES"]

    @property
    def folders(self) -> set[Path]:
        return set(self.results)

    @functools.cached_property
    def frames(self) -> list[records.Image]:
        """Return what the record of the results is to have of it, by the masks."""
        from unet_zoo import records

        return [
            records.Image(
                f"{self.results[0].name}/mask{number:03d}",
                job.source,
                channel=job.settings.channel,
                results=tuple(self.results),
            )
            for number, job in enumerate(self.jobs)
        ]

    def among(self, past: Mapping[str, records.Past]) -> dict[str, records.Past]:
        """Return what a record has of a film of this number, perhaps another one."""
        inside = f"{self.results[0].name}/"
        return {name: each for name, each in past.items() if name.startswith(inside)}


def folder(output: Path) -> Path:
    """Return where the labels of frames wait for being linked."""
    return output / ".frames"


def arranged(jobs: Sequence[Job], output: Path) -> list[Film]:
    """Return every stack as a film, or all images as one if each is a single frame.

    A film is numbered as the folder that its frames lie in, such as 02, otherwise 01;
    stacks are numbered in order. Images of one folder are in natural order however they
    were given: a shell's 02/*.tif names t10.tif before t2.tif.

    Args:
        jobs: one for each frame; those of a stack in order.
        output: folder of the results.
    """
    from unet_zoo.images import finding

    images = [
        list(frames) for _, frames in itertools.groupby(jobs, lambda job: job.source)
    ]
    single = [frames[0] for frames in images if len(frames) == 1]
    stacks = [frames for frames in images if len(frames) > 1]
    if single and stacks:
        message = (
            f"{single[0].source} is a single frame and {stacks[0][0].source} a stack "
            f"of {len(stacks[0])}: which are one film? Segment them by two commands."
        )
        raise errors.InputError(message)
    if stacks:
        return [
            Film(frames, output, f"{number:02d}")
            for number, frames in enumerate(stacks, start=1)
        ]
    for job in jobs:
        if job.size != jobs[0].size:
            message = (
                f"The frames of a film must be of one size: {jobs[0].source} is "
                f"{jobs[0].size}, {job.source} is {job.size} pixels (Y, X)."
            )
            raise errors.InputError(message)
    frames = [
        job
        for _, beside in itertools.groupby(jobs, lambda job: job.source.parent)
        for job in sorted(beside, key=lambda job: finding.natural(job.source.name))
    ]
    inside = frames[0].source.resolve().parent.name
    return [Film(frames, output, inside if re.fullmatch(r"\d\d", inside) else "01")]


def segment(
    planned: Batch,
    load: Callable[[], Segmenter],
    output: Path,
    *,
    resume: bool,
    workers: int,
    dask: str | None,
) -> None:
    """Segment films, and say how many objects there are.

    Frames are segmented as the images of any batch are, into `folder`, and linked in
    the end, one after the other. A film of which a frame is broken is not written.
    """
    from unet_zoo import records
    from unet_zoo.batch import jobs, running

    if planned.broken:  # a film lacks no frame
        raise errors.InputError(planned.broken[0].reason)
    films = arranged(planned.every, output)
    about = {**planned.about, "write": ["ctc"]}
    kept, ours = _finished(films, about) if resume else ([], [])
    rest = [film for film in films if film not in kept]
    jobs.check_results(
        rest, overwrite=planned.overwrite, ours={film.source for film in ours}
    )
    objects = 0
    if rest:
        frames = [image for film in rest for image in film.frames]
        past = records.read(output)
        before = {name for film in rest for name in film.among(past)}
        # Of a longer film, which this one replaces, nothing is left.
        records.forget(output, before - {image.name for image in frames})
        with running.emptied(output), records.kept(output, frames, about) as finish:
            _segment_frames(_of(planned, rest), load, workers=workers, dask=dask)
            for film in rest:
                objects += _link(film)
                for image in film.frames:
                    finish(image.name)
    _clear(planned.every, folder(output))
    made, there = (
        len({job.source for film in each for job in film.jobs}) for each in (rest, kept)
    )
    _batches.tell(objects, made, output, there)


def _finished(
    films: Sequence[Film], about: Mapping[str, Any]
) -> tuple[list[Film], list[Film]]:
    """Return the films that are finished, and those that were at least begun.

    Raises:
        InputError: where films were made by other settings.
    """
    from unet_zoo import records
    from unet_zoo.batch import running

    output = films[0].output
    frames = [image for film in films for image in film.frames]
    running.check_alike(output, frames, about)
    begun = records.read(output, unfinished=True)
    same = records.unchanged(records.read(output), frames)

    def ours(film: Film) -> bool:
        """Whether what is there was made of this film, or of its beginning."""
        sources = {image.name: image.source.resolve() for image in film.frames}
        past = film.among(begun)
        return bool(past) and all(
            each.source == sources.get(name) for name, each in past.items()
        )

    def whole(film: Film) -> bool:
        masks = len(list(film.results[0].glob("mask*.tif")))
        return masks == len(film.jobs) and all(
            image.name in same for image in film.frames
        )

    return [*filter(whole, films)], [*filter(ours, films)]


def _of(planned: Batch, films: Sequence[Film]) -> Batch:
    """Return what of a batch is of these films."""
    wanted = {job.key for film in films for job in film.jobs}
    jobs, kept = (
        tuple(job for job in each if job.key in wanted)
        for each in (planned.jobs, planned.kept)
    )
    return dataclasses.replace(planned, jobs=jobs, kept=kept)


def _segment_frames(
    planned: Batch, load: Callable[[], Segmenter], *, workers: int, dask: str | None
) -> None:
    """Write the labels of all frames; refuse to go on if one is broken."""
    with _common.progress_bar("frame") as progress:
        report = planned.run(workers=workers, dask=dask, load=load, progress=progress)
    for line in report.said:
        click.echo(line, err=True)
    if report.broken:
        message = (
            f"{report.broken[0].reason.rstrip('.')}. A film lacks no frame: what is "
            "finished is kept, and --resume goes on once this is mended."
        )
        raise errors.InputError(message)


def _clear(frames: Sequence[Job], waiting: Path) -> None:
    """Remove the labels of these frames, and their folder if no others wait there."""
    from unet_zoo import files, records

    for job in frames:
        for path in job.results:
            path.unlink(missing_ok=True)
    records.forget(waiting, {job.name for job in frames})
    files.sweep(waiting)
    with contextlib.suppress(OSError):  # frames of a film that was ended
        waiting.rmdir()


def _link(film: Film) -> int:
    """Write the result of one film, or nothing; return the number of objects."""
    import numpy as np
    import tifffile

    from unet_zoo import outputs
    from unet_zoo.outputs import shapes

    objects = 0

    def frames() -> Iterator[np.ndarray]:
        nonlocal objects
        for job in film.jobs:
            labels = tifffile.imread(job.results[0]).astype(np.int32)
            objects += len(shapes.ids(labels))
            yield labels

    outputs.write_ctc(film.results[0], frames(), len(film.jobs))
    return objects
