"""Reading images and maps at places between their pixels."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from keras import ops

Tensor = Any


class Places(NamedTuple):
    """Where to read, per axis: pixel `whole` + `part`, both broadcast together.

    A coordinate of 500 pixels in float32 is good to 3e-5 pixels, and backends round
    differently. The whole pixels are therefore integers, and only what lies between
    two pixels is a float: it is good to 1e-6 pixels, far from the origin as well.
    """

    whole: tuple[Tensor, ...]  # int32 (batch, *size), or 1 where an axis is the same
    part: tuple[Tensor, ...]  # float32, within [0, 1]


def at(coordinates: Sequence[Tensor]) -> Places:
    """Return the places of float coordinates in pixels, one tensor per axis."""
    coordinates = [ops.convert_to_tensor(axis, "float32") for axis in coordinates]
    floors = [ops.floor(axis) for axis in coordinates]
    whole = tuple(ops.cast(floor, "int32") for floor in floors)
    part = tuple(axis - floor for axis, floor in zip(coordinates, floors, strict=True))
    return Places(whole, part)


def warp(
    stack: Tensor,
    places: Places | Sequence[Tensor],
    interpolation: Sequence[str],
    border: str = "mirror",
    outside: Sequence[float] | None = None,
) -> Tensor:
    """Read every channel of `stack` at `places`.

    Args:
        stack: (batch, Y, X, channels) or (batch, Z, Y, X, channels); float, or of any
            type where all channels are "nearest".
        places: `Places`, or float coordinates in pixels, one tensor per axis.
        interpolation: for each channel "nearest", "linear", or "cubic": the
            convolution of Keys 1981 with a = -1/2, which reproduces polynomials of
            the second degree and gives a pixel's own value at the pixel.
        border: "mirror": an image goes on beyond its edge pixels as in a mirror.
            "constant": where the nearest pixel would lie outside, it is `outside`.
            "crop" reads as "mirror": its places lie inside.
        outside: one value per channel for "constant", 0 if None.

    Returns:
        (batch, *size, channels) of the type of `stack`.

    Paper: Keys 1981, https://doi.org/10.1109/TASSP.1981.1163711
    """
    return joined(planes(stack, places, interpolation, border, outside))


def joined(images: Sequence[Tensor]) -> Tensor:
    """Return (batch, *size, channels) of images (batch, *size)."""
    if len(images) == 1:
        return ops.expand_dims(images[0], -1)
    # Quicker than to stack along the last axis, pixel by pixel.
    stacked = ops.stack(images, axis=1)
    return ops.transpose(stacked, (0, *range(2, len(stacked.shape)), 1))


def planes(
    stack: Tensor,
    places: Places | Sequence[Tensor],
    interpolation: Sequence[str],
    border: str = "mirror",
    outside: Sequence[float] | None = None,
) -> list[Tensor]:
    """Return the channels of `warp` one by one, each (batch, *size)."""
    if not isinstance(places, Places):
        places = at(places)
    stack = ops.convert_to_tensor(stack)
    batch, *sizes, channels = ops.shape(stack)
    flat = ops.reshape(stack, (-1,))
    # Distances between neighbours in `flat`, per axis.
    strides = [channels * math.prod(sizes[axis + 1 :]) for axis in range(len(sizes))]
    corner = ops.reshape(
        ops.arange(batch, dtype="int32") * (channels * math.prod(sizes)),
        (-1,) + (1,) * len(sizes),
    )
    first, parts = [], []
    for whole, part, size in zip(*places, sizes, strict=True):
        low, part = _inside(whole, part, size)
        first.append(low)
        parts.append(part)
    for low, stride in zip(first, strides, strict=True):
        corner = corner + low * stride
    # An axis of one pixel has no neighbour to step to.
    steps = [
        stride if size > 1 else 0 for stride, size in zip(strides, sizes, strict=True)
    ]
    kinds = set(interpolation)
    reads: dict[str, list[list[tuple[Tensor, Tensor]]]] = {}
    nearest = corner
    if "nearest" in kinds:
        for part, step in zip(parts, steps, strict=True):
            nearest = nearest + ops.where(part >= 0.5, step, 0)
    if "linear" in kinds:
        reads["linear"] = [
            [(0, 1.0 - part), (step, part)]
            for part, step in zip(parts, steps, strict=True)
        ]
    if "cubic" in kinds:
        reads["cubic"] = [
            _keys(*axis) for axis in zip(first, parts, steps, sizes, strict=True)
        ]
    images = []
    for channel, kind in enumerate(interpolation):
        if kind == "nearest":
            images.append(ops.take(flat, nearest + channel, axis=0))
            continue
        total: Tensor = 0.0
        for taps in itertools.product(*reads[kind]):
            place, weight = corner + channel, 1.0
            for step, factor in taps:
                place, weight = place + step, weight * factor
            total = total + ops.take(flat, place, axis=0) * weight
        images.append(total)
    if border == "constant":
        known = _known(places, sizes)
        values = outside or (0,) * channels
        images = [
            ops.where(known, image, ops.cast(value, image.dtype))
            for image, value in zip(images, values, strict=True)
        ]
    return images


def _inside(whole: Tensor, part: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Return the lower of two neighbours inside, and the way towards the upper one.

    Beyond the edge pixels everything comes back as in a mirror, any number of times.
    """
    if size == 1:
        return ops.zeros_like(whole), ops.zeros_like(part)
    period = 2 * (size - 1)
    times = ops.round(ops.cast(whole, "float32") * (1.0 / period))
    folded = whole - period * ops.cast(times, "int32")  # from 1 - size to size - 1
    back = folded < 0
    low = ops.where(back, -1 - folded, folded)
    # On the last pixel the way leads back as well, from the pixel before.
    last = low == size - 1
    return (
        ops.minimum(low, size - 2),
        ops.where(ops.logical_or(back, last), 1.0 - part, part),
    )


def _keys(
    low: Tensor, part: Tensor, step: int, size: int
) -> list[tuple[Tensor, Tensor]]:
    """Return the four neighbours along an axis, as steps from `low`, and weights."""
    square = part * part
    cube = square * part
    return [
        (ops.where(low == 0, step, -step), square - 0.5 * (part + cube)),
        (0, 1.0 - 2.5 * square + 1.5 * cube),
        (step, 0.5 * part + 2.0 * square - 1.5 * cube),
        (ops.where(low >= size - 2, 0, 2 * step), 0.5 * (cube - square)),
    ]


def _known(places: Places, sizes: Sequence[int]) -> Tensor:
    """Return where the nearest pixel lies in the image."""
    known: Tensor = True
    for whole, part, size in zip(*places, sizes, strict=True):
        nearest = whole + ops.cast(part >= 0.5, "int32")
        known = ops.logical_and(
            known, ops.logical_and(nearest >= 0, nearest <= size - 1)
        )
    return known
