"""`unet-zoo segment`: images in, label images, outlines and tables out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors
from unet_zoo.cli import _batches, _calibration, _common, _films, _options, _reading
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo.segmenter import Segmenter

WRITE = "labels,csv,overlay"


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
@_options.models_option
@click.option(
    "--output",
    required=True,
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="Where results go; made if it is not there.",
)
@_options.segment_options
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
@_batches.options
@_options.engine_options
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
    resume: bool,
    workers: int,
    dask: str | None,
    max_memory: str | None,
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
    one number throughout. The labels of frames wait in a folder of --output until all
    are there; then they are linked and go away.

    Of an image all results are written, or none. One that is broken is left out: the
    others are segmented, the broken ones listed at the end, and the exit code is 1.
    What was interrupted or killed goes on with the same command and --resume, which
    takes the place of --overwrite.

    \b
    Example:
      unet-zoo segment my_images/ --model unet-blobs --output masks/
      unet-zoo segment my_images/ --model unet-blobs --output masks/ \\
          --write labels,geojson,csv
    """
    from unet_zoo import batch

    write = _chosen(names, layout)
    _calibration.check(calibrate, precision)
    _common.check_engine(backend, engine, precision)
    _common.check_writable(output)
    chosen = _options.given(**options)
    said = functools.partial(click.echo, err=True)
    _batches.check(workers=workers, dask=dask)
    films = layout == "ctc"
    planned = batch.plan(
        paths,
        models,
        _films.folder(output) if films else output,
        write=write,
        apart=films,
        axes=axes,
        channel=channel,
        pixel_size=pixel_size,
        overwrite=overwrite,
        resume=resume,
        max_memory=max_memory,
        said=said,
        engine=engine,
        precision=precision,
        backend=backend,
        calibrate=calibrate,
        **chosen,
    )
    network = planned.settings.network

    def load() -> Segmenter:
        shown = network.calibration()
        return _common.load(network.weights, backend, engine, precision, shown)

    shared: dict[str, Any] = {"workers": workers, "dask": dask}
    if films:
        _films.segment(planned, load, output, resume=resume, **shared)
    else:
        _batches.segment(planned, load, **shared)


def _chosen(names: str | None, layout: str | None) -> list[str]:
    """Return what is to be written for each image; refuse what cannot be."""
    if layout is not None:
        if names is not None:
            message = (
                f"--format {layout} says by itself what is written. Leave out --write, "
                "or --format."
            )
            raise errors.InputError(message)
        return ["labels"]
    asked = (WRITE if names is None else names).split(",")
    found = [each.strip().lower() for each in asked if each.strip()]
    if not found:
        message = f"--write names nothing. Known: {', '.join(writers.WRITERS)}."
        raise errors.InputError(message)
    return found
