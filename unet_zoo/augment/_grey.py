"""Changes of an image's grey values; places stay where they are."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from keras import ops

from unet_zoo.augment import _clahe, _compile
from unet_zoo.augment._draws import LIGHT, hashed_normal, uniform_of
from unet_zoo.augment._field import upsampled
from unet_zoo.recipe import Augmentation

Tensor = Any

Stage = Callable[[Tensor, Tensor, Tensor], Tensor]


def changing(augmentation: Augmentation, size: Sequence[int]) -> Stage | None:
    """Return the function that changes grey values, None if the ranges reach none.

    In the order of light on its way: blur, local contrast, inversion, gamma, contrast,
    brightness, a gradient of light, and the noise of what was counted at last.

    Args:
        augmentation: the ranges.
        size: of one example in pixels.

    Returns:
        A function of an image, float (batch, *size, channels) in standard deviations,
        and the draws `uniform` and `normal` of each example.
    """
    ranges = augmentation
    unit = functools.partial(uniform_of, rank=len(size) + 1)
    stages: list[Stage] = []
    if ranges.blur:

        def blurred(
            axis: int, image: Tensor, uniform: Tensor, normal: Tensor
        ) -> Tensor:
            del normal  # no "_": TensorFlow warns of such a name
            sigma = ranges.blur * ops.reshape(unit(uniform, "blur"), (-1,))
            return _blurred(image, sigma, ranges.blur, axis)

        stages += [functools.partial(blurred, axis) for axis in range(1, len(size) + 1)]
    if ranges.clahe:

        def equalized(image: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
            del normal
            chosen = unit(uniform, "clahe") < ranges.clahe
            return ops.where(chosen, _clahe.equalize(image), image)

        stages.append(equalized)
    if ranges.inversion:

        def inverted(image: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
            del normal
            low, span = _ends(image)
            chosen = unit(uniform, "inversion") < ranges.inversion
            return ops.where(chosen, (2.0 * low + span) - image, image)

        stages.append(inverted)
    if ranges.gamma or ranges.contrast or ranges.brightness or ranges.light:
        stages.append(functools.partial(_lit, ranges))
    if ranges.noise or ranges.poisson:
        stages.append(functools.partial(_noisy, ranges))
    if not stages:
        return None
    kernels = [_compile.kernel(stage, tuple(size)) for stage in stages]

    def change(image: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        for stage in kernels:
            image = stage(image, uniform, normal)
        return image

    return change


def _ends(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return the darkest value of each channel, and the range above it."""
    axes = tuple(range(1, len(image.shape) - 1))
    low = ops.min(image, axis=axes, keepdims=True)
    return low, ops.max(image, axis=axes, keepdims=True) - low


def _lit(
    ranges: Augmentation, image: Tensor, uniform: Tensor, normal: Tensor
) -> Tensor:
    """Return the image with another gamma, contrast, brightness and light."""
    size = tuple(image.shape[1:-1])

    def within(name: str, limit: float) -> Tensor:
        return (2.0 * uniform_of(uniform, name, len(size) + 1) - 1.0) * limit

    if ranges.gamma:
        low, span = _ends(image)
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
    return image


def _noisy(
    ranges: Augmentation, image: Tensor, uniform: Tensor, normal: Tensor
) -> Tensor:
    """Return the image with noise; independent normal noises are one, of the sum of
    their variances."""
    unit = functools.partial(uniform_of, uniform, rank=len(image.shape) - 1)
    deviation: Tensor = unit("noise") * ranges.noise
    if ranges.poisson:
        low, span = _ends(image)
        counted = ops.maximum(image - low, 0.0) / (span + 1e-6)
        brightest = unit("poisson") * ranges.poisson
        deviation = ops.sqrt(deviation**2 + brightest**2 * counted)
    seed = ops.cast(ops.reshape(unit("seed"), (-1,)) * 2.0**30, "int32")
    return image + hashed_normal(seed, image.shape[1:]) * deviation


def blur(image: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur each example by a Gaussian of its own width, edges mirrored.

    Args:
        image: float (batch, *size, channels).
        sigma: float (batch,), standard deviations in pixels.
        largest: no sigma is greater; decides the length of the kernel.
    """
    for axis in range(1, len(image.shape) - 1):
        image = _blurred(image, sigma, largest, axis)
    return image


def _blurred(image: Tensor, sigma: Tensor, largest: float, axis: int) -> Tensor:
    radius = max(1, math.ceil(3 * largest))
    offsets = ops.arange(-radius, radius + 1, dtype="float32")
    kernel = ops.exp(-0.5 * (offsets / ops.maximum(sigma, 1e-2)[:, None]) ** 2)
    kernel = kernel / ops.sum(kernel, axis=1, keepdims=True)
    axes = len(image.shape)
    weights = ops.reshape(kernel, (-1, 2 * radius + 1) + (1,) * (axes - 1))
    length = image.shape[axis]
    if length > radius:
        padding = [(0, 0)] * axes
        padding[axis] = (radius, radius)
        padded = ops.pad(image, padding, mode="reflect")
    else:
        # Mirrored more than once, which backends do not all pad.
        period = max(1, 2 * (length - 1))
        places = abs(np.arange(-radius, length + radius)) % period
        places = np.minimum(places, 2 * (length - 1) - places).astype("int32")
        padded = ops.take(image, ops.convert_to_tensor(places), axis=axis)
    windows = []
    for start in range(2 * radius + 1):
        span = [slice(None)] * axes
        span[axis] = slice(start, start + length)
        windows.append(padded[tuple(span)])
    total = windows[radius] * weights[:, radius]
    for step in range(1, radius + 1):
        pair = windows[radius - step] + windows[radius + step]
        total = total + pair * weights[:, radius + step]
    return total
