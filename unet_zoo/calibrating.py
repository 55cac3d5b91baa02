"""What an int8 network is calibrated on: images as the network sees them."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unet_zoo import images, tiling
from unet_zoo.errors import InputError

Shown = np.ndarray | str | os.PathLike[str] | images.Image
MOST = 8  # images; more change the ranges of values in their last digits only
_SIDE = 512  # pixels of each that are looked at, from its middle


def batches(
    shown: Sequence[Shown], facts: Mapping[str, Any], step: int
) -> list[np.ndarray]:
    """Return float32 (1, Y, X, C) batches: what the network sees of some images.

    Normalised over the whole image and scaled as `segment` does it, at most 512 x 512
    pixels from the middle of at most 8 frames, at a size that the network takes.

    Args:
        shown: images of the kind that will be segmented: (Y, X), (Y, X, C) or
            (T, Y, X, C), or paths, or what `images.open_image` gave.
        facts: of the weights.
        step: the pixels that the network's deepest level groups to one.

    Raises:
        InputError: without an image, or for another number of channels.

    >>> facts = {"model": "unet", "model_arguments": {"padding": "same"}, "scale": 1.0}
    >>> facts |= {"channels": 1, "normalization": "zscore"}
    >>> batches([np.eye(20)], facts, 16)[0].shape
    (1, 32, 32, 1)
    """
    found = [
        _batch(frame, facts, step)
        for frame in itertools.islice(_frames(shown, facts["channels"]), MOST)
    ]
    if not found:
        message = (
            "The precision 'int8' is calibrated on images: `calibration` must hold "
            "some of the kind that will be segmented, up to 8. Received none."
        )
        raise InputError(message)
    return found


def spread(every: Sequence[Any]) -> Iterator[Any]:
    """Return up to 8 of the images, evenly spread.

    >>> list(spread("abcdefghijklmno"))
    ['a', 'c', 'e', 'g', 'i', 'k', 'm', 'o']
    """
    count = min(MOST, len(every))
    wanted = {round(n * (len(every) - 1) / max(1, count - 1)) for n in range(count)}
    return (each for number, each in enumerate(every) if number in wanted)


def words(which: str) -> str:
    """Return what to tell of images that nobody chose."""
    return f"int8 is calibrated on up to {MOST} {which}; --calibrate takes others."


def _frames(shown: Sequence[Shown], channels: int) -> Iterator[np.ndarray]:
    for each in shown:
        if isinstance(each, str | os.PathLike):
            with images.open_image(each) as opened:
                yield from _frames([opened.read_all()], channels)
            continue
        if isinstance(each, images.Image):
            yield from _frames([each.read_all()], channels)
            continue
        image = np.asarray(each)
        image = image[..., None] if image.ndim == 2 else image
        if image.ndim not in (3, 4) or image.shape[-1] != channels:
            message = (
                f"`calibration` must hold images (Y, X, {channels}), as the network "
                f"takes them. Received: {image.shape}"
            )
            raise InputError(message)
        yield from image if image.ndim == 4 else [image]


def _batch(image: np.ndarray, facts: Mapping[str, Any], step: int) -> np.ndarray:
    image = images.normalize(image, facts["normalization"])
    if facts["scale"] != 1.0:
        image = images.rescale(image, float(facts["scale"]))
    default = "valid" if facts["model"] == "unet" else "same"
    valid = facts["model_arguments"].get("padding", default) == "valid"
    part = []
    for size in image.shape[:2]:
        seen = tiling.fitting(min(size, _SIDE), step, -4 % step if valid else 0)
        if valid:  # the smallest that leaves anything
            seen = max(seen, tiling.fitting(12 * step, step, -4 % step))
        start = (size - min(size, _SIDE)) // 2
        part.append(slice(start, start + seen))
    return tiling.mirrored(image, (part[0], part[1]))[None]
