"""Films for the Cell Tracking Challenge: which images they consist of, and writing."""

from __future__ import annotations

import itertools
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unet_zoo import errors
from unet_zoo.cli import _batches, _common

if TYPE_CHECKING:
    import numpy as np

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
    overwrite: bool,
    workers: int,
    dask: str | None,
) -> None:
    """Segment films, and say how many objects there are.

    Frames are segmented as the images of any batch are, into `folder`, and linked in
    the end, one after the other. A film of which a frame is broken is not written.
    """
    from unet_zoo.batch import jobs

    if planned.broken:  # a film lacks no frame
        raise errors.InputError(planned.broken[0].reason)
    films = arranged(planned.every, output)
    # Where frames wait, a run was ended; it may have linked some of its films.
    jobs.check_results(films, overwrite=overwrite or bool(planned.kept))
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
    objects = sum(map(_link, films))
    shutil.rmtree(folder(output))
    _batches.tell(objects, len({job.source for job in planned.every}), output)


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
