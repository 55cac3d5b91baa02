"""How deep pixels lie in their objects."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from unet_zoo.weight_maps import _labels


def object_distance(
    labels: np.ndarray, *, spacing: Sequence[float] | None = None
) -> np.ndarray:
    """Return how deep each pixel lies in its object, float32 in [0, 1].

    The Euclidean distance to the nearest pixel that is not of the same object,
    divided by the largest such distance in the object: 1 at its deepest point, 0 on
    background. Other objects count as outside, and so do pixels of label -1; the
    edge of the image does not, since a cell that it cuts goes on beyond it. An
    object that fills the image is 1 everywhere.

    Args:
        labels: integer (Y, X) or (Z, Y, X).
        spacing: size of a pixel along each axis of `labels`, 1 by default.

    >>> object_distance(np.array([[0, 1, 1, 1, 2, 2]])).tolist()
    [[0.0, 0.5, 1.0, 0.5, 0.5, 1.0]]
    """
    labels = _labels.checked(labels)
    steps = _labels.steps(spacing, labels)
    index, sizes = _labels.compact(labels)
    result = np.zeros(labels.shape, np.float32)
    # Of an image without pixels scipy finds no boxes either, but raises.
    boxes = ndimage.find_objects(index) if len(sizes) else []
    for number, box in enumerate(boxes, start=1):
        wide = _labels.widened(box, index.shape)
        own = index[wide] == number
        distance = _labels.to_outside(own, steps)
        result[wide][own] = (distance / distance.max())[own]
    return result
