"""Losses that are a mean over pixels, each pixel compared by itself."""

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
    # Smooth: the kinks of max and abs cancel but at 0 exactly, where the logits of a
    # new network lie wherever all its features are off.
    values = truth * ops.softplus(-logits) + (1.0 - truth) * ops.softplus(logits)
    return annotated_mean(values, weights)


def focal(
    classes: Tensor,
    logits: Tensor,
    weights: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> Tensor:
    """Return the focal loss over classes: pixels that are right already count little.

    FL = -a_l(x) w(x) (1 - p_l(x))^gamma log p_l(x), the mean over annotated pixels.

    Args:
        classes: float or int (batch, Y, X), the class of each pixel.
        logits: float (batch, Y, X, classes).
        weights: float (batch, Y, X), 0 where nothing is annotated.
        gamma: how little; 0 is `alpha` times the cross-entropy.
        alpha: factor a of the classes but the background, whose factor is 1 - alpha.

    Returns:
        float (batch,).

    Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.

    Example:
        >>> import numpy as np
        >>> even = np.zeros((1, 2, 2, 2), "float32")
        >>> one = np.ones((1, 2, 2), "float32")
        >>> float(focal(one, even, one, gamma=1, alpha=0.5)[0]).__round__(4)
        0.1733
    """
    chosen = ops.one_hot(ops.cast(classes, "int32"), logits.shape[-1])
    right = ops.sum(chosen * ops.log_softmax(logits, axis=-1), axis=-1)
    # log(1 - p) as the share of the others: it keeps its digits where p is nearly 1.
    wrong = ops.logsumexp(logits - 1e9 * chosen, axis=-1)
    wrong = wrong - ops.logsumexp(logits, axis=-1)
    factor = ops.where(classes > 0, alpha, 1.0 - alpha)
    return annotated_mean(-factor * ops.exp(gamma * wrong) * right, weights)


def binary_focal(
    truth: Tensor,
    logits: Tensor,
    weights: Tensor,
    gamma: float = 2.0,
    alpha: float = 0.25,
) -> Tensor:
    """Return the focal loss of a mask; see `focal`.

    Args:
        truth: float (batch, Y, X), 0 or 1.
        logits: float (batch, Y, X).
        weights: float (batch, Y, X), 0 where nothing is annotated.
        gamma: see `focal`.
        alpha: factor of the pixels of the mask; the others have 1 - alpha.

    Returns:
        float (batch,).

    Paper: Lin et al. 2017, https://arxiv.org/abs/1708.02002, equation 5.

    Example:
        >>> import numpy as np
        >>> one = np.ones((1, 2, 2), "float32")
        >>> float(binary_focal(one, 0 * one, one, gamma=1, alpha=0.5)[0]).__round__(4)
        0.1733
    """
    signed = logits * (2.0 * truth - 1.0)
    # log p = -softplus(-signed), log(1 - p) = -softplus(signed)
    values = ops.exp(-gamma * ops.softplus(signed)) * ops.softplus(-signed)
    return annotated_mean((1.0 - alpha + truth * (2.0 * alpha - 1.0)) * values, weights)
