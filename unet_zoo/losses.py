"""Losses in `keras.ops`: one number per example, pixels without annotation left out.

Every loss takes a map of weights that is 0 where nothing is annotated, and divides by
the number of annotated pixels, so that a weight map changes the weight of pixels
against each other without changing the size of the step.
"""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

Tensor = Any


def annotated_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Return the sum of `values * weights` per example over its annotated pixels.

    Args:
        values: float (batch, Y, X).
        weights: float (batch, Y, X), 0 where nothing is annotated.

    Returns:
        float (batch,); 0 for an example without annotation.
    """
    counted = ops.sum(ops.cast(weights > 0, values.dtype), axis=(1, 2))
    return ops.sum(values * weights, axis=(1, 2)) / ops.maximum(counted, 1.0)


def cross_entropy(classes: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted softmax cross-entropy of Ronneberger et al. 2015.

    E = -sum_x w(x) log p_l(x)(x), divided by the number of annotated pixels.

    Args:
        classes: float or int (batch, Y, X), the class of each pixel.
        logits: float (batch, Y, X, classes).
        weights: float (batch, Y, X), 0 where nothing is annotated.

    Returns:
        float (batch,).

    Example:
        >>> import numpy as np
        >>> even = np.zeros((1, 2, 2, 2), "float32")
        >>> one = np.ones((1, 2, 2), "float32")
        >>> float(cross_entropy(one, even, one)[0]).__round__(4)
        0.6931
    """
    values = keras.losses.sparse_categorical_crossentropy(
        ops.cast(classes, "int32"), logits, from_logits=True
    )
    return annotated_mean(values, weights)


def binary_cross_entropy(truth: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return the weighted binary cross-entropy; `truth` may lie between 0 and 1.

    For a truth between 0 and 1 the minimum is where the sigmoid equals the truth,
    which makes it a regression whose gradient does not vanish at the ends.

    Args:
        truth: float (batch, Y, X) within [0, 1].
        logits: float (batch, Y, X).
        weights: float (batch, Y, X), 0 where nothing is annotated.

    Returns:
        float (batch,).

    Example:
        >>> import numpy as np
        >>> half = np.full((1, 2, 2), 0.5, "float32")
        >>> float(binary_cross_entropy(half, 0 * half, half + 0.5)[0]).__round__(4)
        0.6931
    """
    values = ops.maximum(logits, 0.0) - logits * truth + ops.softplus(-ops.abs(logits))
    return annotated_mean(values, weights)
