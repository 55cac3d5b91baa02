"""Augmentation on the accelerator: one field per example, one gather for everything.

All geometric changes of an example (rotation, flips, magnification, shift and the
elastic deformation of Ronneberger et al. 2015) are composed into one field of source
coordinates. Image, target and weights lie in one tensor and are read through that
field together, so they cannot disagree.

Nothing here draws a random number. `draw_size` numbers per example come with the batch,
drawn on the host from the recipe's seed and the example's position in the training, so
that the same example looks the same on every backend, in any batch, on any device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import scipy.ndimage
from keras import ops

from unet_zoo.recipe import Augmentation

Tensor = Any

_UNIFORM = 12  # numbers in [0, 1) at the head of a draw; normal numbers follow
_LIGHT = 3  # control points per axis of the light field


def draw_size(augmentation: Augmentation) -> tuple[int, int]:
    """Return how many uniform and how many normal numbers one example needs."""
    return _UNIFORM, 2 * augmentation.elastic_points**2 + _LIGHT**2


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
    return matrix.astype("float32")


def mirror(coordinates: Tensor, size: int) -> Tensor:
    """Return coordinates folded into [0, size - 1], mirrored at both edge pixels."""
    last = size - 1
    if last == 0:
        return ops.zeros_like(coordinates)
    folded = ops.mod(coordinates, 2.0 * last)
    return last - ops.abs(folded - last)


def warp(stack: Tensor, y: Tensor, x: Tensor, interpolation: Sequence[str]) -> Tensor:
    """Read every channel of `stack` at the coordinates (`y`, `x`).

    Args:
        stack: float (batch, Y, X, channels).
        y: float (batch, rows, columns), row coordinates in pixels.
        x: the same for columns; coordinates outside are mirrored.
        interpolation: "linear" or "nearest" for each channel.

    Returns:
        float (batch, rows, columns, channels).
    """
    batch, height, width, channels = ops.shape(stack)
    y, x = mirror(y, height), mirror(x, width)
    top, left = ops.floor(y), ops.floor(x)
    down, right = (y - top)[..., None], (x - left)[..., None]
    top, left = ops.cast(top, "int32"), ops.cast(left, "int32")
    flat = ops.reshape(stack, (-1, channels))
    first = ops.reshape(ops.arange(batch) * (height * width), (-1, 1, 1))
    # At the last pixel the neighbour beyond has weight zero: step onto itself.
    below = ops.where(top < height - 1, width, 0)
    beside = ops.where(left < width - 1, 1, 0)
    corner = first + top * width + left
    nearest = np.asarray([kind == "nearest" for kind in interpolation])

    def read(index: Tensor) -> Tensor:
        return ops.take(flat, index, axis=0)

    if nearest.all():
        row = ops.where(down[..., 0] >= 0.5, below, 0)
        column = ops.where(right[..., 0] >= 0.5, beside, 0)
        return read(corner + row + column)
    # Rounding the weights makes the interpolation of a channel a nearest one.
    step = ops.cast(nearest, stack.dtype)
    down = down + step * (ops.cast(down >= 0.5, stack.dtype) - down)
    right = right + step * (ops.cast(right >= 0.5, stack.dtype) - right)
    upper = read(corner) * (1 - right) + read(corner + beside) * right
    lower = read(corner + below) * (1 - right) + read(corner + below + beside) * right
    return upper * (1 - down) + lower * down


def hashed_normal(seed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return about normal noise from an integer hash, equal on every backend.

    Args:
        seed: int32 (batch,).
        shape: (rows, columns, channels).

    Returns:
        float32 (batch, *shape): sums of four uniform numbers, of mean 0 and standard
        deviation 1, so no value lies beyond 3.5.
    """
    count = math.prod(shape)
    state = ops.arange(count, dtype="int32")[None] + seed[:, None] * 668265263
    total: Tensor = 0.0
    factors = (668265263, 374761393, -1640531535, -2048144789, -1028477379, 1540483477)
    for number, factor in enumerate(factors):
        # Multiply-xorshift; the mask keeps the shift logical for negative numbers.
        state = state * factor
        shifted = ops.bitwise_and(ops.right_shift(state, 15), 0x1FFFF)
        state = ops.bitwise_xor(state, shifted)
        # The first two rounds only mix: their low bits still follow the pixel.
        if number >= 2:
            total = total + ops.cast(ops.bitwise_and(state, 0xFFFF), "float32")
    normal = (total / 65536.0 - 2.0) * math.sqrt(3.0)
    return ops.reshape(normal, (-1, *shape))


class Augment(keras.layers.Layer):
    """Change image and target of a batch by one random field per example.

    The recipe's ranges are uniform unless they say otherwise; draws come with the
    batch (see `draw_size`), so the layer is a pure function of what it is given.

    Args:
        augmentation: the ranges.
        size: (rows, columns) of what comes out; the middle of the input, for the
            identity.
        image_channels: how many of the leading channels are the image.
        interpolation: "linear" or "nearest" for each channel after the image.

    Call arguments:
        stack: float (batch, Y, X, channels), image first, then target and weights.
        uniform: float (batch, 12) within [0, 1).
        normal: float (batch, n) standard normal (see `draw_size`).

    Returns:
        float (batch, rows, columns, channels).

    Paper: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, section 3.1.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        size: tuple[int, int],
        image_channels: int,
        interpolation: Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.augmentation = augmentation
        self.size = size
        self.image_channels = image_channels
        self.interpolation = ("linear",) * image_channels + tuple(interpolation)
        points = augmentation.elastic_points
        self._elastic = [cubic_upsampling(points, length) for length in size]
        self._light = [cubic_upsampling(_LIGHT, length) for length in size]

    def call(self, stack: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        y, x = self.field(uniform, normal, ops.shape(stack)[1:3])
        out = warp(stack, y, x, self.interpolation)
        image = out[..., : self.image_channels]
        image = self.change_grey_values(image, uniform, normal)
        return ops.concatenate([image, out[..., self.image_channels :]], axis=-1)

    def field(
        self, uniform: Tensor, normal: Tensor, source: tuple[int, int]
    ) -> tuple[Tensor, Tensor]:
        """Return the source coordinates (y, x) of every output pixel, in pixels."""
        ranges = self.augmentation
        rows, columns = self.size

        def within(index: int, limit: float) -> Tensor:
            return (2.0 * uniform[:, index, None, None] - 1.0) * limit

        def sign(index: int) -> Tensor:
            limit = 0.5 if ranges.flip else 0.0
            return ops.where(uniform[:, index, None, None] < limit, -1.0, 1.0)

        angle = within(0, math.radians(ranges.rotation))
        zoom = ops.exp(-within(1, ranges.scale))
        sine, cosine = ops.sin(angle) * zoom, ops.cos(angle) * zoom
        # Tensors from the start: torch does not add itself to numpy's arrays.
        y = ops.arange(rows, dtype="float32")[None, :, None] - (rows - 1) / 2
        x = ops.arange(columns, dtype="float32")[None, None, :] - (columns - 1) / 2
        if ranges.elastic:
            points = ranges.elastic_points
            grid = ops.reshape(normal[:, : 2 * points**2], (-1, 2, points, points))
            moved = ranges.elastic * ops.einsum(
                "yi,bkij,xj->bkyx", self._elastic[0], grid, self._elastic[1]
            )
            y, x = y + moved[:, 0], x + moved[:, 1]
        y, x = y * sign(2), x * sign(3)
        y, x = cosine * y - sine * x, sine * y + cosine * x
        y = y + (source[0] - 1) / 2 + within(4, ranges.shift * rows)
        x = x + (source[1] - 1) / 2 + within(5, ranges.shift * columns)
        return y, x

    def change_grey_values(
        self, image: Tensor, uniform: Tensor, normal: Tensor
    ) -> Tensor:
        """Return the image with other light, contrast, sharpness and noise."""
        ranges = self.augmentation

        def unit(index: int) -> Tensor:
            return uniform[:, index, None, None, None]

        def within(index: int, limit: float) -> Tensor:
            return (2.0 * unit(index) - 1.0) * limit

        if ranges.blur:
            image = blur(image, ranges.blur * uniform[:, 6], ranges.blur)
        if ranges.gamma:
            low = ops.min(image, axis=(1, 2), keepdims=True)
            span = ops.max(image, axis=(1, 2), keepdims=True) - low + 1e-6
            unity = ops.maximum((image - low) / span, 1e-6)
            image = low + span * ops.power(unity, ops.exp(within(7, ranges.gamma)))
        if ranges.contrast:
            image = image * ops.exp(within(8, ranges.contrast))
        if ranges.brightness:
            image = image + within(9, ranges.brightness)
        if ranges.light:
            grid = ops.reshape(normal[:, -(_LIGHT**2) :], (-1, _LIGHT, _LIGHT))
            light = ops.einsum("yi,bij,xj->byx", self._light[0], grid, self._light[1])
            image = image + ranges.light * light[..., None]
        if ranges.noise:
            seed = ops.cast(uniform[:, 11] * 2.0**30, "int32")
            noise = hashed_normal(seed, (*self.size, self.image_channels))
            image = image + noise * (unit(10) * ranges.noise)
        return image


def blur(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur each example by a Gaussian of its own width, edges mirrored.

    Args:
        image: float (batch, Y, X, channels).
        sigma: float (batch,), standard deviations in pixels.
        largest: no sigma is greater; decides the length of the kernel.
    """
    radius = max(1, math.ceil(3 * largest))
    offsets = ops.arange(-radius, radius + 1, dtype="float32")
    kernel = ops.exp(-0.5 * (offsets / ops.maximum(sigma, 1e-2)[:, None]) ** 2)
    kernel = kernel / ops.sum(kernel, axis=1, keepdims=True)
    for axis in (1, 2):
        length = ops.shape(image)[axis]
        padding = [(0, 0)] * 4
        padding[axis] = (radius, radius)
        padded = ops.pad(image, padding, mode="reflect")
        total: Tensor = 0.0
        for index in range(2 * radius + 1):
            span = [slice(None)] * 4
            span[axis] = slice(index, index + length)
            total = total + padded[tuple(span)] * kernel[:, index, None, None, None]
        image = total
    return image
