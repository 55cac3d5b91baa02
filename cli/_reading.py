"""How the verbs that look at images are told what is in a file."""

from __future__ import annotations

import click

from unet_zoo.cli import _common

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
