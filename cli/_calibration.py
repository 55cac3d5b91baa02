"""What --precision int8 is calibrated on: the images themselves, or others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unet_zoo import errors

option = click.option(
    "--calibrate",
    type=click.Path(exists=True, path_type=Path),
    metavar="FOLDER",
    help="For --precision int8: images that decide what 8 bits stand for.  [default: "
    "up to 8 of those that are looked at; of a dataset, of its training images]",
)


def check(calibrate: Path | None, precision: str) -> None:
    """Refuse images to calibrate on where nothing is calibrated."""
    if calibrate is not None and precision != "int8":
        message = "--calibrate is for --precision int8. Give both, or neither."
        raise errors.InputError(message)


def of_dataset(calibrate: Path | None, precision: str, data: Any) -> list[Any]:
    """Return up to 8 training images of a dataset, or those given for it."""
    from unet_zoo import calibrating, images

    if precision != "int8":
        return []
    split = "train" if data.size_of.get("train") else next(iter(data.readers))
    if calibrate is not None:
        return list(calibrating.spread(images.find([calibrate])))
    click.echo(calibrating.words(f"of the split {split!r}"), err=True)
    return [example.image for example in calibrating.spread(data.sequence(split))]
