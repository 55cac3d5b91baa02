"""Changes of an image's grey values; places stay where they are."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
from keras import ops

from unet_zoo.augment import _clahe
from unet_zoo.augment._draws import LIGHT, hashed_normal, uniform_of
from unet_zoo.augment._field import upsampled
from unet_zoo.recipe import Augmentation

Tensor = Any

_CHANGES = (
    "blur",
    "clahe",
    "inversion",
    "gamma",
    "contrast",
    "brightness",
    "light",
    "poisson",
    "noise",
)


def changes_grey_values(augmentation: Augmentation) -> bool:
    """Return whether any of the ranges reaches the grey values."""
    return any(getattr(augmentation, name) for name in _CHANGES)


def change(
    image: Tensor, augmentation: Augmentation, uniform: Tensor, normal: Tensor
) -> Tensor:
    """Return the image with other sharpness, contrast, light and noise.

    In the order of light on its way: blur, local contrast, inversion, gamma, contrast,
    brightness, a gradient of light, and the noise of what was counted at last.

    Args:
        image: float (batch, *size, channels), in standard deviations.
        augmentation: the ranges.
        uniform, normal: the draws of each example (see `draws`).
    """
    ranges = augmentation
    size = tuple(image.shape[1:-1])
    axes = tuple(range(1, len(size) + 1))
    unit = functools.partial(uniform_of, uniform, rank=len(size) + 1)

    def within(name: str, limit: float) -> Tensor:
        return (2.0 * unit(name) - 1.0) * limit

    def ends(image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the darkest value of each channel, and the range above it."""
        low = ops.min(image, axis=axes, keepdims=True)
        return low, ops.max(image, axis=axes, keepdims=True) - low

    if ranges.blur:
        sigma = ranges.blur * unit("blur")
        image = blur(image, ops.reshape(sigma, (-1,)), ranges.blur)
    if ranges.clahe:
        equal = _clahe.equalize(image)
        image = ops.where(unit("clahe") < ranges.clahe, equal, image)
    if ranges.inversion:
        low, span = ends(image)
        turned = (2.0 * low + span) - image
        image = ops.where(unit("inversion") < ranges.inversion, turned, image)
    if ranges.gamma:
        low, span = ends(image)
        span = span + 1e-6
        unity = ops.maximum((image - low) / span, 1e-6)
        power = ops.power(unity, ops.exp(within("gamma", ranges.gamma)))
        image = low + span * power
    if ranges.contrast:
        image = image * ops.exp(within("contrast", ranges.contrast))
    if ranges.brightness:
        image = image + within("brightness", ranges.brightness)
    if ranges.light:
        points = (LIGHT,) * len(size)
        grid = ops.reshape(normal[:, -math.prod(points) :], (-1, *points))
        image = image + ranges.light * upsampled(grid, size)[..., None]
    if ranges.noise or ranges.poisson:
        # Independent normal noises are one, of the sum of their variances.
        deviation: Tensor = unit("noise") * ranges.noise
        if ranges.poisson:
            low, span = ends(image)
            counted = ops.maximum(image - low, 0.0) / (span + 1e-6)
            brightest = unit("poisson") * ranges.poisson
            deviation = ops.sqrt(deviation**2 + brightest**2 * counted)
        seed = ops.cast(ops.reshape(unit("seed"), (-1,)) * 2.0**30, "int32")
        image = image + hashed_normal(seed, image.shape[1:]) * deviation
    return image


def blur(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur each example by a Gaussian of its own width, edges mirrored.

    Args:
        image: float (batch, *size, channels).
        sigma: float (batch,), standard deviations in pixels.
        largest: no sigma is greater; decides the length of the kernel.
    """
    radius = max(1, math.ceil(3 * largest))
    offsets = ops.arange(-radius, radius + 1, dtype="float32")
    kernel = ops.exp(-0.5 * (offsets / ops.maximum(sigma, 1e-2)[:, None]) ** 2)
    kernel = kernel / ops.sum(kernel, axis=1, keepdims=True)
    rank = len(image.shape) - 2
    weights = ops.reshape(kernel, (-1, 2 * radius + 1) + (1,) * (rank + 1))
    for axis in range(1, rank + 1):
        length = image.shape[axis]
        if length > radius:
            padding = [(0, 0)] * (rank + 2)
            padding[axis] = (radius, radius)
            padded = ops.pad(image, padding, mode="reflect")
        else:
            # Mirrored more than once, which backends do not all pad.
            places = abs(np.arange(-radius, length + radius)) % max(1, 2 * (length - 1))
            places = np.minimum(places, 2 * (length - 1) - places).astype("int32")
            padded = ops.take(image, ops.convert_to_tensor(places), axis=axis)

        windows = []
        for start in range(2 * radius + 1):
            span = [slice(None)] * (rank + 2)
            span[axis] = slice(start, start + length)
            windows.append(padded[tuple(span)])
        total = windows[radius] * weights[:, radius]
        for step in range(1, radius + 1):
            pair = windows[radius - step] + windows[radius + step]
            total = total + pair * weights[:, radius + step]
        image = total
    return image
