"""How the verbs that look at images are told what is in a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from unet_zoo import errors
from unet_zoo.cli import _options

if TYPE_CHECKING:
    from unet_zoo import catalog, segmenter
    from unet_zoo.catalog import Example

pixel_size_option = click.option(
    "--pixel-size",
    type=_options.Range(0, min_open=True),
    metavar="UM",
    help="Size of a pixel in micrometres, where the files do not say or are "
    "wrong.  Images are scaled to what the weights were trained at.",
)

options = _options.together(
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
    pixel_size_option,
)


def pixel_size(
    model: segmenter.Segmenter, data: catalog.Dataset, given: float | None
) -> dict[str, float | tuple[float, float]]:
    """Return what the images of a dataset are seen at; say so where that scales them.

    As an option of `Segmenter.predict`; empty where nothing is known.
    """
    size = model.pixel_size_of(data) if given is None else given
    if size is None:
        return {}
    seen, own = model.scales(size), model.scales(None)
    if any(abs(a / b - 1) > 0.005 for a, b in zip(seen, own, strict=True)):
        words = " x ".join(f"{a / b:.3g}" for a, b in zip(seen, own, strict=True))
        click.echo(
            f"The pixels of {data.name} are not of the size that the weights were "
            f"trained at: images are scaled by {words}.",
            err=True,
        )
    return {"pixel_size": size}


def examples(
    data: catalog.Dataset, split: str, channels: int, model: str
) -> Sequence[Example]:
    """Return the images of a split; refuse none, and such as weights cannot take.

    Args:
        data: the dataset.
        split: of it.
        channels: that the weights take.
        model: what the user called the weights.
    """
    found = data.examples(split)
    if not found:
        others = ", ".join(name for name, count in data.size_of.items() if count)
        message = (
            f"The split {split!r} of {data.name} holds no images. Take another: "
            f"{others}."
        )
        raise errors.InputError(message)
    if (there := found[0].image.shape[-1]) != channels:
        message = (
            f"The images of {data.name} have {there} channel(s), {model} takes "
            f"{channels}. Give images of {channels}, or weights that take {there}."
        )
        raise errors.InputError(message)
    return found
