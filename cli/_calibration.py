"""What --precision int8 is calibrated on: the images themselves, or others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors
from unet_zoo.cli import _reading

if TYPE_CHECKING:
    import numpy as np

MOST = 8

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


def of_files(
    calibrate: Path | None,
    precision: str,
    sources: Sequence[Path],
    reading: _reading.Understanding,
    channels: int,
) -> list[np.ndarray]:
    """Return up to 8 of the images, or of those given for it, spread evenly.

    They are those of `sources`, whatever of them is segmented already: the same command
    calibrates on the same images again.
    """
    from unet_zoo import images

    if precision != "int8":
        return []
    _say(calibrate, "of the images to be segmented")
    shown = []
    for path in _spread(images.find([calibrate]) if calibrate else sources):
        with reading.open(path) as opened:
            reading.check_channels(opened, channels)
            shown.append(opened.read(opened.shape[0] // 2))
    return shown


def of_dataset(calibrate: Path | None, precision: str, data: Any) -> list[Any]:
    """Return up to 8 training images of a dataset, or those given for it."""
    from unet_zoo import images

    if precision != "int8":
        return []
    split = "train" if data.size_of.get("train") else next(iter(data.readers))
    _say(calibrate, f"of the split {split!r}")
    if calibrate is not None:
        return list(_spread(images.find([calibrate])))
    return [example.image for example in _spread(data.sequence(split))]


def _spread(every: Sequence[Any]) -> Iterable[Any]:
    count = min(MOST, len(every))
    wanted = {round(n * (len(every) - 1) / max(1, count - 1)) for n in range(count)}
    return (each for number, each in enumerate(every) if number in wanted)


def _say(calibrate: Path | None, which: str) -> None:
    if calibrate is None:
        click.echo(
            f"int8 is calibrated on up to {MOST} {which}; --calibrate takes others.",
            err=True,
        )
