"""The turned copies of an image that a prediction averages (test-time augmentation)."""

from __future__ import annotations

import math

import numpy as np
import scipy.ndimage

from unet_zoo.errors import InputError

# How many turned copies of an image may be averaged: itself, its flips, rotations by
# sevenths of the circle (Ronneberger et al. 2015), its flips and their transposes.
TTA = (1, 4, 7, 8)


def check(tta: int) -> None:
    """Refuse a number of turned copies that cannot be averaged.

    >>> check(5)
    Traceback (most recent call last):
    unet_zoo.errors.InputError: `tta` must be 1, 4, 7 or 8. Received: 5
    """
    if tta not in TTA:
        message = f"`tta` must be 1, 4, 7 or 8. Received: {tta}"
        raise InputError(message)


def turn(image: np.ndarray, index: int, of: int) -> np.ndarray:
    """Return the image in position `index` of those that `TTA` gives for `of`."""
    if of == 7:
        angle = 2 * math.pi * index / 7
        height, width = image.shape[:2]
        sine, cosine = abs(math.sin(angle)), abs(math.cos(angle))
        # Large enough to hold every corner of the turned image.
        rows = math.ceil(height * cosine + width * sine)
        columns = math.ceil(height * sine + width * cosine)
        return _rotate(image, angle, (rows, columns)) if index else image
    if index & 1:
        image = image[::-1]
    if index & 2:
        image = image[:, ::-1]
    if index & 4:
        image = image.swapaxes(0, 1)
    return image


def turn_back(
    image: np.ndarray, index: int, of: int, shape: tuple[int, int]
) -> np.ndarray:
    """Undo `turn` of an image of `shape`."""
    if of == 7:
        return _rotate(image, -2 * math.pi * index / 7, shape) if index else image
    if index & 4:
        image = image.swapaxes(0, 1)
    if index & 2:
        image = image[:, ::-1]
    if index & 1:
        image = image[::-1]
    return image


def _rotate(image: np.ndarray, angle: float, shape: tuple[int, int]) -> np.ndarray:
    """Return the image turned about its middle, as the middle of one of `shape`."""
    sine, cosine = math.sin(angle), math.cos(angle)
    matrix = np.asarray([[cosine, -sine], [sine, cosine]])
    middle = (np.asarray(image.shape[:2]) - 1) / 2
    offset = middle - matrix @ ((np.asarray(shape) - 1) / 2)
    channels = [
        scipy.ndimage.affine_transform(
            channel, matrix, offset, output_shape=shape, order=1, mode="mirror"
        )
        for channel in np.moveaxis(image, -1, 0)
    ]
    return np.stack(channels, axis=-1)
