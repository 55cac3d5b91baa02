"""What the tests of augmentation share."""

from __future__ import annotations

import keras
import numpy as np
import scipy.ndimage

from unet_zoo import augment
from unet_zoo.policies import Augmentation

NOTHING = Augmentation.named("none")
GEOMETRY = Augmentation(gamma=0, contrast=0, brightness=0, light=0, blur=0, noise=0)
RANDOM = np.random.default_rng(7)


def pictures(count: int = 2, size: int = 40, channels: int = 1) -> np.ndarray:
    noise = RANDOM.normal(size=(count, size, size, channels))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return (smooth / smooth.std()).astype("float32")


def draws(count: int, augmentation: Augmentation, **fixed: float):
    """Return numbers for `count` examples: random, or in the middle if `fixed`."""
    uniforms, normals = augment.draw_size(augmentation)
    uniform = RANDOM.random((count, uniforms)).astype("float32")
    normal = RANDOM.normal(size=(count, normals)).astype("float32")
    if fixed:
        uniform[:] = 0.5
        for name, value in fixed.items():
            uniform[:, augment.UNIFORM.index(name)] = value
    return uniform, normal


def changed(
    stack: np.ndarray, augmentation: Augmentation, size: int = 0, **fixed: float
) -> np.ndarray:
    """Return one channel of image and linear maps after the augmentation."""
    channels = ("linear",) * (stack.shape[-1] - 1)
    sizes = (size or stack.shape[1], size or stack.shape[2])
    layer = augment.Augment(augmentation, sizes, 1, channels)
    result = layer(stack, *draws(len(stack), augmentation, **fixed))
    return keras.ops.convert_to_numpy(result)


def fields(augmentation: Augmentation, size: int = 33, count: int = 1, **fixed: float):
    layer = augment.Augment(augmentation, (size, size), 1, ())
    uniform, normal = draws(count, augmentation, **fixed)
    y, x = layer.field(uniform, normal, (size, size))
    return (*map(keras.ops.convert_to_numpy, (y, x)), normal)
