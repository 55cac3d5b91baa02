"""Checks and preparations that every weight map begins with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unet_zoo.errors import InputError


def checked(labels: np.ndarray) -> np.ndarray:
    """Return `labels` as an array in C order, or say why they are none."""
    labels = np.asarray(labels)
    if labels.ndim not in (2, 3) or labels.dtype.kind not in "iu":
        message = (
            "`labels` must be an integer array (Y, X) or (Z, Y, X): 0 background, one "
            "id per object, -1 not annotated. Received: shape "
            f"{labels.shape}, dtype {labels.dtype}. Number the objects of a mask with "
            "skimage.measure.label."
        )
        raise InputError(message)
    return np.ascontiguousarray(labels)


def steps(spacing: Sequence[float] | None, labels: np.ndarray) -> np.ndarray:
    """Return the size of a pixel along each axis, float64."""
    if spacing is None:
        return np.ones(labels.ndim)
    try:
        sizes = np.asarray(spacing, float)
    except (TypeError, ValueError):
        sizes = np.empty(0)
    if sizes.shape != (labels.ndim,) or not (np.isfinite(sizes) & (sizes > 0)).all():
        message = (
            f"`spacing` must be {labels.ndim} finite numbers above 0, one per axis of "
            f"`labels` of shape {labels.shape}. Received: {spacing!r}"
        )
        raise InputError(message)
    return sizes


def compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return objects numbered from 1 in the order of their ids, int32, and their sizes.

    Ids may be as large as 2**32: what is indexed by them must not be.
    """
    positive = np.maximum(labels, 0)
    if positive.max(initial=0) > 2 * labels.size:
        ids, index, sizes = np.unique(positive, return_inverse=True, return_counts=True)
        first = int(ids[0] == 0)
        return (index.reshape(labels.shape) + 1 - first).astype(np.int32), sizes[first:]
    sizes = np.bincount(positive.reshape(-1).astype(np.intp), minlength=1)
    there = sizes > 0
    there[0] = False
    if there[1:].all():
        return positive.astype(np.int32), sizes[1:]
    return np.cumsum(there, dtype=np.int32)[positive] * (positive > 0), sizes[there]


def widened(box: tuple[slice, ...], shape: tuple[int, ...]) -> tuple[slice, ...]:
    """Return the box with the pixels around it, as far as the image goes."""
    return tuple(
        slice(max(side.start - 1, 0), min(side.stop + 1, length))
        for side, length in zip(box, shape, strict=True)
    )


def to_outside(own: np.ndarray, steps: np.ndarray | None = None) -> np.ndarray:
    """Return the distance to the nearest False, 1 everywhere if there is none."""
    if own.all():
        return np.ones(own.shape)
    return ndimage.distance_transform_edt(own, sampling=steps)
