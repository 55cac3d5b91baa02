"""What is worth telling about one frame."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from unet_zoo.catalog import Problem
from unet_zoo.checking.looks import Look
from unet_zoo.checking.registering import LOST

SEVERITIES = ("error", "warning", "note")
# Registered frames whose edges lie on the mask's, to call another one a stranger.
_FITTING = 8.0
_SATURATED = 0.1


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that was found.

    `severity` is "error" (training would be refused, in the same words), "warning" (it
    would learn something wrong, or measure it) or "note" (good to know). `kind` is a
    word for programs. `frame` is the number of the example that shows it.
    """

    severity: str
    kind: str
    file: str
    what: str
    way_out: str = ""
    frame: int | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return plain values."""
        return dataclasses.asdict(self)


def of_problem(problem: Problem) -> Finding:
    """Return the finding for what opening the dataset would raise."""
    return Finding(
        "error", "unusable", str(problem.file), problem.what, problem.way_out
    )


def of_image(number: int, look: Look) -> Iterator[Finding]:
    """Yield what is amiss with an image."""
    file = str(look.image_file)

    def tell(severity: str, kind: str, what: str, way_out: str) -> Finding:
        return Finding(severity, kind, file, what, way_out, number)

    objects = "the objects" if len(look.ids) else "all"
    if look.low == look.high:
        yield tell(
            "warning",
            "empty image",
            f"The image {look.name} holds {look.low:g} and nothing else.",
            "Take it away, or export it anew.",
        )
        return
    if look.two_values:
        yield tell(
            "warning",
            "two values",
            f"The image {look.name} holds {look.low:g} and {look.high:g} only: it looks"
            " like a mask.",
            "Were image and mask exchanged?",
        )
    elif look.saturated >= _SATURATED:
        yield tell(
            "warning",
            "saturated",
            f"{look.saturated:.0%} of the values in {objects} of the image {look.name}"
            f" are {look.high:g}, the highest there is: what was brighter is lost.",
            "Record with less light, or leave such images out.",
        )
    if look.channels > 1 and look.constant_channels:
        which = ", ".join(map(str, look.constant_channels))
        yield tell(
            "warning",
            "empty channel",
            f"Channel {which} of the image {look.name} is the same in every pixel.",
            "Export it with all channels, or leave that channel out of all images.",
        )


def of_mask(number: int, look: Look) -> Iterator[Finding]:
    """Yield what is amiss with a mask."""
    file = str(look.mask_file)

    def tell(severity: str, kind: str, what: str, way_out: str) -> Finding:
        return Finding(severity, kind, file, what, way_out, number)

    if look.one_value == -1:
        yield tell(
            "warning",
            "not annotated",
            f"Nothing in {look.name} is annotated: its mask is -1 throughout.",
            "It teaches nothing; annotate it or take it away.",
        )
    elif look.one_value is not None and look.one_value > 0:
        yield tell(
            "warning",
            "one value",
            f"The mask of {look.name} holds the value {look.one_value} and nothing"
            " else: the whole image is one object.",
            "Background must be 0. Draw the mask anew, or take the pair away.",
        )
    if _resampled(look):
        yield tell(
            "warning",
            "resampled",
            f"The mask of {look.name} has {len(look.ids)} values, most of them thin"
            " rims around others: it was made larger or smaller as a picture is, with"
            " values in between.",
            "Resize masks with the nearest neighbour, and save them as PNG or TIFF.",
        )


def _resampled(look: Look) -> bool:
    """Return whether values are rims: many of them, in pieces of few pixels."""
    return (
        len(look.ids) >= 8
        and look.in_pieces >= 1.5 * len(look.ids)
        and look.typical_piece <= 3
    )


def of_fit(number: int, look: Look, usual: float) -> Iterator[Finding]:
    """Yield where a mask lies beside its image; `usual` is the height of the others."""
    fit = look.fit
    if fit is None:
        return
    file = str(look.mask_file)
    if fit.shifted:
        down, right = fit.move
        where = [
            f"{abs(pixels)} pixels {word[pixels > 0]}"
            for pixels, word in ((down, ("up", "down")), (right, ("left", "right")))
            if pixels
        ]
        yield Finding(
            "warning",
            "shifted",
            file,
            f"The mask of {look.name} fits its image better {' and '.join(where)}"
            f" (edges agree {fit.best:.0f} standard deviations above chance there,"
            f" {fit.here:.0f} where it is).",
            "Move it back, or draw it on this version of the image.",
            number,
        )
    elif fit.turn:
        yield Finding(
            "warning",
            "turned",
            file,
            f"The mask of {look.name} fits its image only when {fit.turn} (edges agree"
            f" {fit.best:.0f} standard deviations above chance at most as it is).",
            "Save it the way the image is, or turn it.",
            number,
        )
    elif fit.here < LOST and usual >= _FITTING:
        yield Finding(
            "warning",
            "mismatch",
            file,
            f"The mask of {look.name} has edges where its image has none (they agree"
            f" {fit.here:.1f} standard deviations above chance; in the other images"
            f" {usual:.0f}).",
            "Does it belong to another image?",
            number,
        )
