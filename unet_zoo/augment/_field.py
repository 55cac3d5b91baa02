"""One field of source places per example, composed of all geometric changes.

    place = matrix * (pixel + elastic displacement) + middle of the source + shift

The affine part is computed in integers, in units of 2**-16 pixel: backends agree on
it to the last bit, and the identity, flips and quarter turns are exact. Only the
elastic displacement, a few pixels, is a float.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.ndimage
from keras import ops

from unet_zoo.augment._draws import uniform_of
from unet_zoo.augment._warp import Places
from unet_zoo.errors import InputError
from unet_zoo.recipe import Augmentation

Tensor = Any

LARGEST = 4096  # pixels a side: longer ones would overflow the integers

_BITS = 16
_ONE = 2 ** (_BITS - 1)  # a matrix entry of 1; pixels count in halves from the middle
# Angles and magnifications come from tables of this many steps: sines and exponents
# would differ between backends in their last bits, and a table does not.
_STEPS = 2**14
_AXES = "zyx"


@functools.cache
def cubic_upsampling(points: int, size: int) -> np.ndarray:
    """Return the (size, points) matrix that upsamples control points by cubic spline.

    The first control point falls on the first pixel, the last on the last, as in the
    coarse grid of Ronneberger et al. 2015.

    >>> cubic_upsampling(3, 5)[[0, 2, 4]].round(6).tolist()
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    """
    where = np.linspace(0, points - 1, size)
    rows = [
        scipy.ndimage.map_coordinates(unit, [where], order=3, mode="mirror")
        for unit in np.eye(points)
    ]
    matrix = np.stack(rows, axis=1)
    matrix[np.abs(matrix) < 1e-12] = 0.0
    matrix = matrix.astype("float32")
    matrix.flags.writeable = False  # one for all who ask
    return matrix


def upsampled(grid: Tensor, size: Sequence[int]) -> Tensor:
    """Return control points (batch, n, ..., n) as a smooth field (batch, *size)."""
    for axis, length in enumerate(size, start=1):
        points = grid.shape[axis]
        matrix = cubic_upsampling(points, length)
        if points > 8:
            order = [*range(axis), len(size), *range(axis, len(size))]
            moved = ops.tensordot(grid, ops.convert_to_tensor(matrix.T), [[axis], [0]])
            grid = ops.transpose(moved, order)
            continue
        # Not as a product of matrices, which some devices round to 10 bits; and the
        # last of these sums is never stored, the compiler reads through it.
        shape = [1] * (len(size) + 1)
        shape[axis] = length
        total: Tensor = 0.0
        for point in range(points):
            weights = ops.convert_to_tensor(matrix[:, point].reshape(shape))
            here = ops.expand_dims(ops.take(grid, point, axis=axis), axis)
            total = total + here * weights
        grid = total
    return grid


def places(
    augmentation: Augmentation,
    uniform: Tensor,
    normal: Tensor,
    size: Sequence[int],
    source: Sequence[int],
) -> Places:
    """Return where to read every pixel of the result.

    Args:
        augmentation: the ranges.
        uniform, normal: the draws of each example (see `draws`).
        size: (rows, columns) or (planes, rows, columns) of the result.
        source: the same of what is read; its middle falls on the result's middle.
    """
    if max(*size, *source) > LARGEST:
        message = (
            f"`size` and the images must be of {LARGEST} pixels a side at most. "
            f"Received: size={tuple(size)}, images of {tuple(source)}. Cut patches."
        )
        raise InputError(message)
    rank = len(size)
    axes = _AXES[-rank:]
    batch = (-1,) + (1,) * rank
    moved = None
    if augmentation.elastic:
        points = (augmentation.elastic_points,) * rank
        count = rank * math.prod(points)
        moved = augmentation.elastic * ops.reshape(
            normal[:, :count], (-1, rank, *points)
        )
    matrix = _matrix(augmentation, uniform, axes, size)
    shift = [
        ops.cast(
            ops.round(
                (2.0 * uniform_of(uniform, f"shift_{axis}", rank) - 1.0)
                * (augmentation.shift * length * 2**_BITS)
            ),
            "int32",
        )
        for axis, length in zip(axes, size, strict=True)
    ]
    if augmentation.border == "crop":
        matrix, shift = _kept_inside(matrix, shift, moved, size, source)
    # Twice the distance from the middle, a whole number.
    along = []
    for axis, length in enumerate(size):
        shape = [1] * (rank + 1)
        shape[axis + 1] = length
        steps = 2 * np.arange(length, dtype="int32") - (length - 1)
        along.append(ops.convert_to_tensor(steps.reshape(shape)))
    whole, part = [], []
    for axis in range(rank):
        place = shift[axis] + (source[axis] - 1) * _ONE
        for other in range(rank):
            if matrix[axis][other] is not None:
                place = place + matrix[axis][other] * along[other]
        between = ops.cast(ops.bitwise_and(place, 2**_BITS - 1), "float32")
        between = between * 2.0**-_BITS
        place = ops.right_shift(place, _BITS)
        if moved is not None:
            # Turned as control points, the field need not be turned pixel by pixel.
            grid: Tensor = 0.0
            for other in range(rank):
                if matrix[axis][other] is not None:
                    factor = ops.cast(matrix[axis][other], "float32") * (1.0 / _ONE)
                    grid = grid + ops.reshape(factor, batch) * moved[:, other]
            between = between + upsampled(grid, size)
            below = ops.floor(between)
            place = place + ops.cast(below, "int32")
            between = between - below
        whole.append(place)
        part.append(between)
    return Places(tuple(whole), tuple(part))


def _matrix(
    augmentation: Augmentation, uniform: Tensor, axes: str, size: Sequence[int]
) -> list[list[Tensor | None]]:
    """Return the matrix's entries, int32 (batch, 1, ...), None for those always 0."""
    rank = len(axes)
    y, x = rank - 2, rank - 1
    unit = functools.partial(uniform_of, uniform, rank=rank)
    one = ops.cast(ops.zeros_like(unit("scale")), "int32") + _ONE
    matrix: list[list[Tensor | None]] = [
        [one if row == column else None for column in range(rank)]
        for row in range(rank)
    ]

    def angle(name: str, degrees: float) -> tuple[Tensor, Tensor]:
        """Return the cosine and sine of an angle of at most `degrees` either way."""
        number = unit(name)
        if name == "rotation" and augmentation.quarter_turns:
            # The number says the quarter, and by its place in it the angle.
            number = 4.0 * number - ops.floor(4.0 * number)
        radians = np.radians(np.linspace(-degrees, degrees, _STEPS + 1))
        return tuple(_looked_up(number, way(radians)) for way in (np.cos, np.sin))

    def turn(cosine: Tensor, sine: Tensor, first: int, second: int) -> None:
        """Multiply by a rotation in the plane of two axes."""
        for row in matrix:
            a, b = row[first], row[second]
            row[first] = _sum(_times(a, cosine), _times(b, sine))
            row[second] = _sum(_times(a, -sine), _times(b, cosine))

    if augmentation.scale:
        widths = np.exp(-np.linspace(-1, 1, _STEPS + 1) * augmentation.scale)
        zoom = _looked_up(unit("scale"), widths)
        matrix = [[_times(entry, zoom) for entry in row] for row in matrix]
    if augmentation.quarter_turns:
        quarter = ops.floor(4.0 * unit("rotation"))
        turned = [ops.equal(quarter, number) for number in range(4)]
        cosine, sine = (
            ops.cast(turned[ahead], "float32") - ops.cast(turned[back], "float32")
            for ahead, back in ((0, 2), (1, 3))
        )
        turn(cosine, sine, y, x)
    if augmentation.rotation:
        turn(*angle("rotation", augmentation.rotation), y, x)
    if augmentation.tilt and rank == 3:
        turn(*angle("tilt_y", augmentation.tilt), 0, x)
        turn(*angle("tilt_x", augmentation.tilt), 0, y)
    if augmentation.shear:
        slope = (2.0 * unit("shear") - 1.0) * augmentation.shear
        for row in matrix:
            row[y] = _sum(row[y], _times(row[x], slope))
    if augmentation.flip:
        for column, axis in enumerate(axes):
            sign = ops.where(unit(f"flip_{axis}") < 0.5, -1, 1)
            for row in matrix:
                if row[column] is not None:
                    row[column] = row[column] * ops.cast(sign, "int32")
    return matrix


def _looked_up(number: Tensor, table: np.ndarray) -> Tensor:
    """Return the value at a part `number` in [0, 1] of the table's way."""
    place = ops.cast(ops.floor(number * float(len(table))), "int32")
    place = ops.minimum(place, len(table) - 1)
    return ops.take(ops.convert_to_tensor(table.astype("float32")), place, axis=0)


def _times(entry: Tensor | None, factor: Tensor) -> Tensor | None:
    """Return entry * factor, rounded. A single float product: no two backends differ.

    Sums of float products do, where a backend adds without rounding the product.
    """
    if entry is None:
        return None
    return ops.cast(ops.round(ops.cast(entry, "float32") * factor), "int32")


def _sum(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _kept_inside(
    matrix: list[list[Tensor | None]],
    shift: list[Tensor],
    moved: Tensor | None,
    size: Sequence[int],
    source: Sequence[int],
) -> tuple[list[list[Tensor | None]], list[Tensor]]:
    """Return matrix and shift such that no place lies outside the source.

    The example is magnified as little as needed, all axes alike, and shifted no
    further than what is left then. An axis of one pixel has no outside.
    """
    rank = len(size)
    # Twice the largest distance of a pixel, bent by its elastic displacement.
    reach: list[Tensor] = [length - 1 for length in size]
    if moved is not None:
        most = ops.max(ops.abs(moved), axis=tuple(range(2, rank + 2)))
        # A spline leaves the range of its control points by this much at most.
        swing = math.prod(
            float(abs(cubic_upsampling(moved.shape[2], length)).sum(axis=1).max())
            for length in size
        )
        for axis in range(rank):
            pixels = ops.cast(ops.ceil(most[:, axis] * swing), "int32")
            pixels = ops.reshape(pixels, (-1,) + (1,) * rank)
            reach[axis] = reach[axis] + 2 * pixels

    def extents(matrix: list[list[Tensor | None]]) -> list[Tensor]:
        found = []
        for row in matrix:
            total: Tensor = 0
            for entry, way in zip(row, reach, strict=True):
                if entry is not None:
                    total = total + ops.abs(entry) * way
            found.append(total)
        return found

    halves = [(length - 1) * _ONE for length in source]
    factor: Tensor = 1.0
    for half, extent in zip(halves, extents(matrix), strict=True):
        if half:
            fitting = float(half) / ops.cast(ops.maximum(extent, 1), "float32")
            factor = ops.minimum(factor, fitting)
    smaller: list[list[Tensor | None]] = []
    for row in matrix:
        smaller.append([])
        for entry in row:
            if entry is not None:
                # Towards zero: rounding must not make it larger.
                size_of = ops.floor(ops.cast(ops.abs(entry), "float32") * factor)
                entry = ops.sign(entry) * ops.cast(size_of, "int32")
            smaller[-1].append(entry)
    limited = []
    for amount, half, extent in zip(shift, halves, extents(smaller), strict=True):
        room = ops.maximum(half - extent, 0)
        limited.append(ops.maximum(ops.minimum(amount, room), -room))
    return smaller, limited
