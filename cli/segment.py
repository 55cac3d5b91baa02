"""`unet-zoo segment`: images in, label images, outlines and tables out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, files
from unet_zoo.cli import _common, _reading

if TYPE_CHECKING:
    import numpy as np

    from unet_zoo.segmenter import Segmenter

KEPT_IN_MEMORY = 2**30  # bytes; images beyond are read a second time


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="IMAGES...")
@click.option(
    "--model",
    required=True,
    metavar="NAME|FILE",
    help="A name that `unet-zoo weights` lists, or a weights file.",
)
@click.option(
    "--output",
    required=True,
    type=_common.NEW_PATH,
    metavar="FOLDER",
    help="Where results go; made if it is not there.",
)
@_common.segment_options
@_reading.options
@click.option("--overwrite", is_flag=True, help="Replace results that are there.")
@_common.engine_options
def command(
    paths: tuple[str, ...],
    model: str,
    output: Path,
    axes: str | None,
    channel: str | None,
    pixel_size: float | None,
    overwrite: bool,
    engine: str | None,
    precision: str,
    backend: str | None,
    **options: Any,
) -> None:
    """Find the objects in images.

    IMAGES are files, or folders of them: TIFF (OME, ImageJ), PNG, JPEG, BMP, NPY,
    OME-Zarr and Zarr; CZI, LIF and ND2 with the extra of that name. For each image
    NAME the folder --output then holds

    \b
      NAME_masks.tif        label image: 0 is background, 1, 2, ... the objects
      NAME_objects.csv      one row per object: frame, label, area, centroid, ...
      overlays/NAME.png     the image with the outlines found in it

    A stack gives a stack of labels, one overlay per frame (NAME_t000.png, ...) and one
    table; every frame is segmented, and its objects are numbered, on its own.

    All images are read and checked before the first result is written.

    \b
    Example:
      unet-zoo segment my_images/ --model unet-blobs --output masks/
    """
    from unet_zoo import images, weights

    sources = images.find(paths)
    for folder in (output, output / "overlays"):
        files.check_folder(folder)
    _common.check_writable(output)
    file = _common.find_weights(model)
    facts = weights.read_facts(file)
    reading = _reading.Understanding(axes, channel, pixel_size)
    reading.warn(facts, model)
    jobs = _checked(sources, output, facts, reading)
    _refuse_clashes(jobs, overwrite)
    segmenter = _common.load(file, backend, engine, precision)
    with _emptied(output):
        objects = _run(segmenter, jobs, _common.given(**options))
    count = f"{len(jobs)} image{'s' * (len(jobs) != 1)}"
    click.echo(
        f"{objects} object{'s' * (objects != 1)} in {count}; results in {output}"
    )


@dataclass
class Job:
    """One image and where its results go."""

    source: Path
    output: Path
    reading: _reading.Understanding
    frames: int = 1
    pixel_size: tuple[float, float] | None = None
    scaled: bool = False  # to the pixel size that the weights were trained at
    image: np.ndarray | None = None  # (T, Y, X, C), None where it is read again

    @property
    def masks(self) -> Path:
        return self.output / f"{self.source.stem}_masks.tif"

    @property
    def objects(self) -> Path:
        return self.output / f"{self.source.stem}_objects.csv"

    @property
    def overlays(self) -> list[Path]:
        stem, folder = self.source.stem, self.output / "overlays"
        if self.frames == 1:
            return [folder / f"{stem}.png"]
        return [folder / f"{stem}_t{frame:03d}.png" for frame in range(self.frames)]

    @property
    def results(self) -> list[Path]:
        return [self.masks, self.objects, *self.overlays]

    def read(self) -> np.ndarray:
        """Return the image (T, Y, X, C) with the channels the network is shown."""
        if self.image is not None:
            return self.image
        with self.reading.open(self.source) as opened:
            return opened.read_all()


def _checked(
    sources: Sequence[Path],
    output: Path,
    facts: dict[str, Any],
    reading: _reading.Understanding,
) -> list[Job]:
    """Read every image once; the first that cannot be segmented is refused."""
    import numpy as np

    jobs: list[Job] = []
    held = 0
    for source in sources:
        job = Job(source, output, reading)
        with reading.open(source) as opened:
            reading.check_channels(opened, facts["channels"])
            job.pixel_size = opened.pixel_size
            image = opened.read_all()
        job.scaled = facts.get("pixel_size") is not None and job.pixel_size is not None
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            wrong = int(np.count_nonzero(~np.isfinite(image)))
            message = (
                f"{source} has {wrong} values that are NaN or infinite. Replace them, "
                "for instance with numpy.nan_to_num."
            )
            raise errors.InputError(message)
        job.frames = len(image)
        if held + image.nbytes <= KEPT_IN_MEMORY:
            job.image, held = image, held + image.nbytes
        jobs.append(job)
    return jobs


def _refuse_clashes(jobs: Sequence[Job], overwrite: bool) -> None:
    writers: dict[str, Job] = {}
    for job in jobs:
        for path in job.results:
            # Some file systems take a.tif and A.tif for one.
            other = writers.setdefault(str(path).casefold(), job)
            if other is not job:
                message = (
                    f"{other.source} and {job.source} would both be written to {path}. "
                    "Rename one, or segment them into two folders."
                )
                raise errors.InputError(message)
            if path.exists() and not overwrite:
                message = (
                    f"{path} is there already. Give another --output, or --overwrite "
                    "to replace it."
                )
                raise errors.InputError(message)
            if path.is_dir():
                message = f"{path} is a folder where a result would go."
                raise errors.InputError(message)


@contextlib.contextmanager
def _emptied(output: Path) -> Iterator[None]:
    """Make the folders; after a failure, take away those that hold nothing."""
    folder = output / "overlays"
    made = [path for path in (folder, output, *output.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _run(segmenter: Segmenter, jobs: Sequence[Job], options: dict[str, Any]) -> int:
    import tqdm

    objects = done = 0
    frames = sum(job.frames for job in jobs)
    try:
        with tqdm.tqdm(total=frames, unit="frame", disable=None, leave=False) as bar:
            for job in jobs:
                bar.set_description(job.source.name)
                objects += _segment(segmenter, job, options, bar.update)
                done += 1
    except KeyboardInterrupt as interrupt:
        what = f"{done} of {len(jobs)} images are complete in {jobs[0].output}."
        _common.keep(interrupt, what)
        raise
    return objects


def _segment(segmenter: Segmenter, job: Job, options: dict[str, Any], tick: Any) -> int:
    """Write all results of one image, or none; return the number of objects."""
    import numpy as np
    import pandas

    from unet_zoo import images, outputs

    image = job.read()
    if job.scaled:
        options = {**options, "pixel_size": job.pixel_size}
    labels, tables = [], []
    for number, frame in enumerate(image):
        found = segmenter.segment(frame, **options)
        rows = outputs.table(found, frame)
        rows.insert(0, "frame", number)
        rows.insert(0, "image", job.source.name)
        labels.append(found)
        tables.append(rows)
        tick()
    table = pandas.concat(tables, ignore_index=True)
    written: list[Path] = []
    try:
        for path, frame, found in zip(job.overlays, image, labels, strict=True):
            outputs.write_overlay(path, frame, found)
            written.append(path)
        outputs.write_table(job.objects, table)
        written.append(job.objects)
        images.write_labels(job.masks, np.stack(labels) if len(labels) > 1 else found)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    finally:
        job.image = None
    return len(table)
