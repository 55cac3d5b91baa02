"""How the verbs that look at images are told what is in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors
from unet_zoo.cli import _common

if TYPE_CHECKING:
    from unet_zoo import images

options = _common.together(
    click.option(
        "--axes",
        metavar="LETTERS",
        help="What the axes of the files are, such as TZCYX, where they do not say or "
        "are wrong: C channels, S colours; others are frames.",
    ),
    click.option(
        "--channel",
        metavar="N|NAME",
        help="Look at this channel only; the first is 0.",
    ),
    click.option(
        "--pixel-size",
        type=click.FloatRange(0, min_open=True),
        metavar="UM",
        help="Size of a pixel in micrometres, where the files do not say or are "
        "wrong.  Images are scaled to what the weights were trained at.",
    ),
)


class Understanding:
    """The options as given, and what of the files has been told already."""

    def __init__(
        self, axes: str | None, channel: str | None, pixel_size: float | None
    ) -> None:
        self.axes, self.channel, self.pixel_size = axes, channel, pixel_size
        self._told: set[tuple[str, str]] = set()

    def open(self, path: Path) -> images.Image:
        """Open an image; say how it was understood, once per kind of file."""
        from unet_zoo import images

        opened = images.open_image(
            path, axes=self.axes, channel=self.channel, pixel_size=self.pixel_size
        )
        kind = (path.suffix.lower(), opened.axes)
        if opened.note and kind not in self._told:
            self._told.add(kind)
            click.echo(f"{path}: {opened.note}.", err=True)
        return opened

    def check_channels(self, opened: images.Image, wanted: int) -> None:
        """Refuse an image with another number of channels than the weights take."""
        there = opened.shape[3]
        if there == wanted:
            return
        names = f" ({', '.join(opened.channels)})" if opened.channels else ""
        message = (
            f"{opened.path} has {there} channel(s){names}, the model takes {wanted}."
        )
        if wanted == 1:
            message += " Choose one, such as --channel 0."
        raise errors.InputError(message)

    def warn(self, facts: dict[str, Any], model: str) -> None:
        """Say that a given pixel size changes nothing, if so."""
        if self.pixel_size is not None and facts.get("pixel_size") is None:
            click.echo(
                f"{model} does not say at which pixel size it was trained: nothing is "
                "rescaled to it.",
                err=True,
            )
