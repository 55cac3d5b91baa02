"""Losses of regions: how far a predicted mask overlaps the true one.

Sums run over the pixels of one example, each counted as often as its weight says.
`SMOOTH` is added above and below each fraction: where there is nothing to find and
nothing is found, the loss is 0, and its gradient is finite everywhere.
"""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any
SMOOTH = 1.0


def dice(truth: Tensor, chance: Tensor, weights: Tensor) -> Tensor:
    """Return the soft Dice loss.

    L = 1 - (2 sum w g p + s) / (sum w g + sum w p + s), with s = 1.

    Args:
        truth: float (batch, Y, X), g: 0 or 1.
        chance: float (batch, Y, X), p: predicted probability.
        weights: float (batch, Y, X), w: 0 where nothing is annotated.

    Returns:
        float (batch,) within [0, 1).

    Paper: Milletari et al. 2016, https://arxiv.org/abs/1606.04797, with the plain sums
    of Drozdzal et al. 2016, https://arxiv.org/abs/1608.04117, below the line.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[[1, 1], [0, 0]]], "float32")
        >>> float(dice(truth, 0 * truth + 0.5, 0 * truth + 1)[0]).__round__(2)
        0.4
    """
    both = _sum(weights * truth * chance)
    each = _sum(weights * (truth + chance))
    return 1.0 - (2.0 * both + SMOOTH) / (each + SMOOTH)


def tversky(
    truth: Tensor,
    chance: Tensor,
    weights: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
) -> Tensor:
    """Return the Tversky loss: Dice with a price for each kind of error.

    L = 1 - T, T = (TP + s) / (TP + alpha FP + beta FN + s), with TP = sum w g p,
    FP = sum w (1 - g) p, FN = sum w g (1 - p) and s = 1. With both 0.5 it is Dice, with
    both 1 Jaccard (s aside).

    Args:
        truth: see `dice`.
        chance: see `dice`.
        weights: see `dice`.
        alpha: price of what is found and is not there.
        beta: price of what is there and is not found.

    Returns:
        float (batch,) within [0, 1).

    Paper: Salehi et al. 2017, https://arxiv.org/abs/1706.05721, equation 3.
    """
    both = _sum(weights * truth * chance)
    invented = _sum(weights * (1.0 - truth) * chance)
    missed = _sum(weights * truth * (1.0 - chance))
    below = both + alpha * invented + beta * missed + SMOOTH
    return 1.0 - (both + SMOOTH) / below


def focal_tversky(
    truth: Tensor,
    chance: Tensor,
    weights: Tensor,
    alpha: float = 0.3,
    beta: float = 0.7,
    gamma: float = 4 / 3,
) -> Tensor:
    """Return the focal Tversky loss, which goes on teaching small regions.

    L = (1 - T)^(1 / gamma), T as in `tversky`. At T = 1 that slope is infinite; a
    millionth is added to 1 - T, and the root of it taken off, to keep it finite.

    Args:
        truth: see `dice`.
        chance: see `dice`.
        weights: see `dice`.
        alpha: see `tversky`.
        beta: see `tversky`.
        gamma: 1 is `tversky`; above, examples that are nearly right count more.

    Returns:
        float (batch,) within [0, 1).

    Paper: Abraham and Khan 2018, https://arxiv.org/abs/1810.07842, equation 4.
    """
    wrong = ops.maximum(tversky(truth, chance, weights, alpha, beta), 0.0)
    least = 1e-6
    return ops.power(wrong + least, 1.0 / gamma) - least ** (1.0 / gamma)


def lovasz_hinge(truth: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return the Lovasz hinge: the Jaccard loss of a mask, made convex.

    L = sum_i relu(e_i) (J_i - J_(i-1)) over the pixels in the order of falling errors
    e = 1 - z (2 g - 1), J_i being the Jaccard loss 1 - |and| / |or| if the first i were
    wrong and all others right.

    Args:
        truth: float (batch, Y, X), g: 0 or 1.
        logits: float (batch, Y, X), z.
        weights: float (batch, Y, X), 0 where nothing is annotated.

    Returns:
        float (batch,); 0 where every pixel is right by a margin of 1.

    Paper: Berman et al. 2018, https://arxiv.org/abs/1705.08790, equation 12.

    Example:
        >>> import numpy as np
        >>> truth = np.array([[[1, 1], [0, 0]]], "float32")
        >>> float(lovasz_hinge(truth, 2 * truth - 1, 0 * truth + 1)[0])
        0.0
    """
    errors = ops.relu(1.0 - logits * (2.0 * truth - 1.0))
    return _lovasz(errors, truth, weights)


def lovasz_softmax(classes: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """Return the Lovasz-softmax: the Jaccard loss of classes, made continuous.

    As `lovasz_hinge`, with the errors |g - p| of each class, the background among
    them; the mean over the classes that the example shows.

    Args:
        classes: float or int (batch, Y, X), the class of each pixel.
        logits: float (batch, Y, X, classes).
        weights: float (batch, Y, X), 0 where nothing is annotated.

    Returns:
        float (batch,) within [0, 1].

    Paper: Berman et al. 2018, https://arxiv.org/abs/1705.08790, equation 11.
    """
    chances = ops.softmax(logits, axis=-1)
    total, shown = 0.0, 0.0
    for number in range(logits.shape[-1]):
        truth = ops.cast(ops.equal(classes, number), chances.dtype)
        present = ops.cast(_sum(weights * truth) > 0, chances.dtype)
        errors = ops.abs(truth - chances[..., number])
        total = total + present * _lovasz(errors, truth, weights)
        shown = shown + present
    return total / ops.maximum(shown, 1.0)


def _lovasz(errors: Tensor, truth: Tensor, weights: Tensor) -> Tensor:
    """Return the Lovasz extension of the Jaccard loss at `errors`."""
    counted = ops.cast(weights > 0, errors.dtype)
    errors, truth, weights, counted = (
        ops.reshape(each, (ops.shape(each)[0], -1))
        for each in (errors * counted, truth, weights, counted)
    )
    order = ops.argsort(-ops.stop_gradient(errors), axis=-1)
    errors, truth, weights, counted = (
        ops.take_along_axis(each, order, axis=-1)
        for each in (errors, truth, weights, counted)
    )
    inside = weights * truth
    whole = ops.sum(inside, axis=-1, keepdims=True)
    both = whole - ops.cumsum(inside, axis=-1)
    either = whole + ops.cumsum(weights - inside, axis=-1)
    # Before the first pixel that counts, of an example without the class, 0 of 0.
    jaccard = ops.where(either > 0, 1.0 - both / ops.maximum(either, 1e-9), 0.0)
    before = ops.pad(jaccard[:, :-1], ((0, 0), (1, 0)))
    # Sums of floats may differ in the last bit where nothing was added.
    steps = ops.stop_gradient((jaccard - before) * counted)
    return ops.sum(errors * steps, axis=-1)


def _sum(values: Tensor) -> Tensor:
    return ops.sum(values, axis=(1, 2))
