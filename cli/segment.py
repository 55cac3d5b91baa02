"""`unet-zoo segment`: images in, label images, outlines and tables out."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, files
from unet_zoo.cli import _calibration, _common, _reading
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    import numpy as np

    from unet_zoo.segmenter import Segmenter

KEPT_IN_MEMORY = 2**30  # bytes; images beyond are read a second time
WRITE = "labels,csv,overlay"
# What needs a table of the objects, or what was predicted of every pixel.
_WITH_TABLE = ("csv", "parquet", "geojson")


def _kinds() -> str:
    """Return what `--write` may name, as text for `--help`."""
    width = max(map(len, writers.WRITERS))
    lines = [
        f"  {each.name:{width}}  {each.pattern.format(stem='NAME')}: {each.what}"
        for each in writers.WRITERS.values()
    ]
    return "\n".join(["\b", "What --write can name, and what is written:", *lines])


@click.command(epilog=_kinds())
@click.argument("paths", nargs=-1, required=True, metavar="IMAGES...")
@_common.models_option
@click.option(
    "--output",
    required=True,
    type=_common.NEW_PATH,
    metavar="FOLDER",
    help="Where results go; made if it is not there.",
)
@_common.segment_options
@_reading.options
@click.option(
    "--write",
    "names",
    metavar="KIND,...",
    help=f"What to write for each image; see below.  [default: {WRITE}]",
)
@click.option(
    "--format",
    "layout",
    type=click.Choice(("ctc",)),
    help="Write films as results of the Cell Tracking Challenge instead: 01_RES with "
    "mask000.tif, ... and res_track.txt.",
)
@click.option("--overwrite", is_flag=True, help="Replace results that are there.")
@_common.engine_options
@_calibration.option
def command(
    paths: tuple[str, ...],
    models: tuple[str, ...],
    output: Path,
    axes: str | None,
    channel: str | None,
    pixel_size: float | None,
    names: str | None,
    layout: str | None,
    overwrite: bool,
    engine: str | None,
    precision: str,
    backend: str | None,
    calibrate: Path | None,
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

    or what --write names, and segmentation.json, which says what was segmented with
    what; `unet-zoo view` makes a page to look through of all this. A stack gives a
    stack of labels, one overlay per frame (NAME_t000.png, ...) and one table; every
    frame is segmented, and its objects are numbered, on its own.

    With --format ctc, every stack is a film, or all images together are one if each is
    a single frame; objects are linked from frame to frame by their overlap, and have
    one number throughout.

    All images are read and checked before the first result is written.

    \b
    Example:
      unet-zoo segment my_images/ --model unet-blobs --output masks/
      unet-zoo segment my_images/ --model unet-blobs --output masks/ \\
          --write labels,geojson,csv
    """
    from unet_zoo import images, records, weights
    from unet_zoo.cli import _films

    kinds = _chosen(names, layout)
    _calibration.check(calibrate, precision)
    _common.check_engine(backend, engine, precision)
    sources = images.find(paths)
    folders = {path.parent for each in kinds for path in each.paths(output, "a", None)}
    for folder in (output, *sorted(folders - {output})):
        files.check_folder(folder)
    _common.check_writable(output)
    model = " + ".join(models)
    file = _common.find_weights(models)
    facts = weights.read_facts(file)
    reading = _reading.Understanding(axes, channel, pixel_size)
    reading.warn(facts, model)
    jobs = _checked(sources, output, kinds, facts, reading)
    films = _films.arranged(jobs, output) if layout == "ctc" else []
    _refuse_clashes(films or jobs, overwrite)
    shown = _calibration.of_files(
        calibrate, precision, sources, reading, facts["channels"]
    )
    segmenter = _common.load(file, backend, engine, precision, shown)
    segment = _films.segment if films else _segment
    chosen = _common.given(**options)
    asked = chosen | _common.given(engine=engine, precision=precision)
    asked |= _common.given(axes=axes, pixel_size=pixel_size, calibrate=calibrate)
    found = [
        records.Image(job.source.stem, job.source, job.frames, channel) for job in jobs
    ]
    with _emptied(output), contextlib.ExitStack() as after:
        if not films:
            record = records.kept(
                output, found, model=model, weights_file=file, options=asked
            )
            after.enter_context(record)
        objects = _run(segmenter, films or jobs, chosen, segment)
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
    kinds: Sequence[writers.Writer] = ()
    frames: int = 1
    size: tuple[int, int] = (0, 0)
    pixel_size: tuple[float, float] | None = None  # (y, x) in micrometres
    scaled: bool = False  # to the pixel size that the weights were trained at
    image: np.ndarray | None = None  # (T, Y, X, C), None where it is read again

    @property
    def results(self) -> list[Path]:
        frames = None if self.frames == 1 else self.frames
        return [
            path
            for kind in self.kinds
            for path in kind.paths(self.output, self.source.stem, frames)
        ]

    @property
    def folders(self) -> set[Path]:
        """Return those of the results that are folders."""
        frames = None if self.frames == 1 else self.frames
        paths = [
            k.paths(self.output, self.source.stem, frames)
            for k in self.kinds
            if k.folder
        ]
        return {path for each in paths for path in each}

    @property
    def scaling(self) -> dict[str, Any]:
        """Return what `segment` is told of the size of this image's pixels."""
        return {"pixel_size": self.pixel_size} if self.scaled else {}

    def read(self) -> np.ndarray:
        """Return the image (T, Y, X, C) with the channels the network is shown."""
        if self.image is not None:
            return self.image
        with self.reading.open(self.source) as opened:
            return opened.read_all()


def _chosen(names: str | None, layout: str | None) -> list[writers.Writer]:
    """Return what is to be written for each image; refuse what cannot be."""
    if layout is not None:
        if names is not None:
            message = (
                f"--format {layout} says by itself what is written. Leave out --write, "
                "or --format."
            )
            raise errors.InputError(message)
        return []
    asked = (WRITE if names is None else names).split(",")
    found = writers.chosen([each.strip().lower() for each in asked if each.strip()])
    if not found:
        message = f"--write names nothing. Known: {', '.join(writers.WRITERS)}."
        raise errors.InputError(message)
    return found


def _checked(
    sources: Sequence[Path],
    output: Path,
    kinds: Sequence[writers.Writer],
    facts: dict[str, Any],
    reading: _reading.Understanding,
) -> list[Job]:
    """Read every image once; the first that cannot be segmented is refused."""
    import numpy as np

    jobs: list[Job] = []
    held = 0
    for source in sources:
        job = Job(source, output, reading, kinds)
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
        job.frames, job.size = len(image), image.shape[1:3]
        if held + image.nbytes <= KEPT_IN_MEMORY:
            job.image, held = image, held + image.nbytes
        jobs.append(job)
    return jobs


def _refuse_clashes(jobs: Sequence[Any], overwrite: bool) -> None:
    takers: dict[str, Any] = {}
    for job in jobs:
        for path in job.results:
            # Some file systems take a.tif and A.tif for one.
            other = takers.setdefault(str(path).casefold(), job)
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
            if path.is_dir() != (path in job.folders) and path.exists():
                there = "folder" if path.is_dir() else "file"
                message = f"{path} is a {there} where a result would go."
                raise errors.InputError(message)


@contextlib.contextmanager
def _emptied(output: Path) -> Iterator[None]:
    """Make the folder; after a failure, take it away if it holds nothing."""
    made = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


def _run(
    segmenter: Segmenter, jobs: Sequence[Any], options: dict[str, Any], segment: Any
) -> int:
    import tqdm

    objects = done = 0
    frames = sum(job.frames for job in jobs)
    try:
        with tqdm.tqdm(total=frames, unit="frame", disable=None, leave=False) as bar:
            for job in jobs:
                bar.set_description(job.source.name)
                objects += segment(segmenter, job, options, bar.update)
                done += 1
    except KeyboardInterrupt as interrupt:
        what = f"{done} of {len(jobs)} images are complete in {jobs[0].output}."
        _common.keep(interrupt, what)
        raise
    return objects


def _segment(segmenter: Segmenter, job: Job, options: dict[str, Any], tick: Any) -> int:
    """Write all results of one image, or none; return the number of objects."""
    from unet_zoo import outputs

    names = [kind.name for kind in job.kinds]
    image = job.read()
    frames = []
    for frame in image:
        found = segmenter.segment(frame, **job.scaling, **options)
        found.name, found.pixel_size = job.source.name, job.pixel_size
        if any(name in _WITH_TABLE for name in names):
            found.table()  # while it is known what was predicted
        if "probability" not in names:
            found.forget()
        frames.append(found)
        tick()
    result = frames[0] if len(frames) == 1 else outputs.Result.stack(frames, image)
    try:
        outputs.write(result, job.output, job.source.stem, names, overwrite=True)
    finally:
        job.image = None
    return result.count
