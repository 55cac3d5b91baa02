"""`unet-zoo prepare`: a dataset as plain files."""

from __future__ import annotations

from pathlib import Path

import click

from unet_zoo import files
from unet_zoo.cli import _common, _options


@click.command()
@_options.dataset_argument
@click.option(
    "--output",
    required=True,
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="A new or empty folder.",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(("tiff", "png", "npy", "coco")),
    default="tiff",
    show_default=True,
    help="tiff keeps every depth, any channels, and -1.",
)
@click.option(
    "--split",
    "splits",
    type=click.Choice(("train", "validation", "test")),
    multiple=True,
    help="What to write; may be given again.  [default: all]",
)
@click.option(
    "--unannotated",
    type=click.IntRange(0, 65535),
    metavar="NUMBER",
    help="Write this instead of -1 where nothing is annotated; 0 is background.",
)
@_options.source_options
def command(
    dataset: str,
    output: Path,
    file_format: str,
    splits: tuple[str, ...],
    unannotated: int | None,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
) -> None:
    """Write a dataset as plain files.

    DATASET is a name that `unet-zoo datasets` lists, or a folder of your own. For every
    split, the folder --output then holds

    \b
      train/images/   the images, in their own depth and channels
      train/masks/    files of the same names: 0 is background, 1, 2, ... the objects
      README.txt      what is what, and how to cite the data

    and with --format coco `train/annotations.json` instead of the masks. Gold truth,
    where there is any, is in train/reference/.

    `unet-zoo train unet --dataset FOLDER` reads TIFF, PNG and COCO again, with the
    same examples.

    \b
    Example:
      unet-zoo prepare blobs --format png --output blobs-png/
    """
    from unet_zoo import preparing

    _common.check_dataset(dataset, config)
    # Refused now, not once everything is loaded.
    files.check_unused(output, "Give --output {free}, which is free.")
    _common.check_writable(output)
    data = _common.open_dataset(
        dataset, None, config=config, manual_dir=manual_dir, data_dir=data_dir
    )
    written = 0
    with _common.progress_bar("image") as show:

        def tick(done: int, total: int) -> None:
            nonlocal written
            written = done
            show(done, total)

        preparing.prepare(
            data,
            output,
            format=file_format,
            splits=splits or None,
            unannotated=unannotated,
            progress=tick,
        )
    click.echo(f"{written} image{'s' * (written != 1)} of {data.name} in {output}")
