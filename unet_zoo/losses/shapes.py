"""Losses of shapes: distances to the true outline, and centre lines."""

from __future__ import annotations

from typing import Any

from keras import ops

from unet_zoo.losses.pixels import annotated_mean
from unet_zoo.losses.regions import SMOOTH, dice

Tensor = Any


def boundary(
    truth: Tensor, chance: Tensor, weights: Tensor, alpha: float = 0.01
) -> Tensor:
    """Return Dice plus the boundary loss: what is wrong costs its way to the outline.

    L = Dice + alpha B, B = mean over annotated pixels of w phi (p - g), where phi is
    `signed_distance` in pixels. Per example, B is the paper's integral over what lies
    between the two outlines. Alone it is flat where an example shows nothing, so the
    paper adds a loss of regions.

    Args:
        truth: float (batch, Y, X), g: 0 or 1.
        chance: float (batch, Y, X), p: predicted probability.
        weights: float (batch, Y, X), w: 0 where nothing is annotated.
        alpha: price of a pixel of distance. The paper raises it by 0.01 an epoch; here
            it stays what it is.

    Returns:
        float (batch,), not negative.

    Paper: Kervadec et al. 2018, https://arxiv.org/abs/1812.07032, equations 2, 5 and 6.
    """
    distance = signed_distance(truth > 0.5, weights > 0)
    integral = annotated_mean(distance * (chance - truth), weights)
    return dice(truth, chance, weights) + alpha * integral


def signed_distance(mask: Tensor, annotated: Tensor) -> Tensor:
    """Return the distance in pixels to the outline of a mask, negative inside.

    It is exact and Euclidean: the distance to the nearest annotated pixel on the other
    side, less half a pixel, since the outline runs between two pixels.

    Args:
        mask: bool (batch, Y, X).
        annotated: bool (batch, Y, X); other pixels are on neither side.

    Returns:
        float32 (batch, Y, X); 0 for an example that lies on one side only.

    Example:
        >>> import numpy as np
        >>> mask = np.array([[[False, False, True, True]]])
        >>> signed_distance(mask, ~mask | mask)[0, 0].__array__().tolist()
        [1.5, 0.5, -0.5, -1.5]
    """
    inside = ops.logical_and(mask, annotated)
    outside = ops.logical_and(ops.logical_not(mask), annotated)
    distance = ops.where(mask, 0.5 - _away(outside), _away(inside) - 0.5)
    both = ops.logical_and(
        ops.any(inside, axis=(1, 2), keepdims=True),
        ops.any(outside, axis=(1, 2), keepdims=True),
    )
    return ops.where(both, distance, 0.0)


def _away(seeds: Tensor) -> Tensor:
    """Return the distance to the nearest True; a large number where there is none."""
    height, width = seeds.shape[1:3]
    far = float(height + width)

    def moved(field: Tensor, amount: int, axis: int, fill: float) -> Tensor:
        """Return the lesser of the two neighbours `amount` away along an axis."""
        pads = [(0, 0), (0, 0), (0, 0)]
        pads[axis] = (amount, amount)
        wide = ops.pad(field, pads, constant_values=fill)
        ahead = (slice(None),) * axis
        back = wide[(*ahead, slice(None, -2 * amount))]
        return ops.minimum(back, wide[(*ahead, slice(2 * amount, None))])

    # Within a row: steps of 1, 2, 4, ... reach every distance.
    away = ops.where(seeds, 0.0, far)
    step = 1
    while step < width:
        away = ops.minimum(away, moved(away, step, 2, far) + float(step))
        step *= 2

    # Between rows: 1 + 3 + 5 + ... are the squares.
    def lower(number: Tensor, squares: Tensor) -> Tensor:
        price = 2.0 * ops.cast(number, "float32") - 1.0
        return ops.minimum(squares, moved(squares, 1, 1, far * far) + price)

    squares = away * away
    if height > 1:
        squares = ops.fori_loop(1, height, lower, squares)
    return ops.sqrt(squares)


def cldice(
    truth: Tensor,
    chance: Tensor,
    weights: Tensor,
    alpha: float = 0.5,
    iterations: int = 3,
) -> Tensor:
    """Return Dice and clDice: thin things must be found along their whole length.

    L = (1 - alpha) Dice + alpha (1 - 2 P R / (P + R)), where the precision P is the
    share of the predicted skeleton that lies in the true mask, and the recall R the
    share of the true skeleton that lies in the predicted one. Pixels of weight 0 are
    background to both.

    Args:
        truth: float (batch, Y, X), 0 or 1.
        chance: float (batch, Y, X), predicted probability.
        weights: float (batch, Y, X), 0 where nothing is annotated.
        alpha: share of clDice; the paper advises at most 0.5.
        iterations: of the skeleton (see `skeleton`): the largest half width in pixels
            of what is thin.

    Returns:
        float (batch,) within [0, 1).

    Paper: Shit et al. 2021, https://arxiv.org/abs/2003.07311, algorithms 1 and 2.
    """
    counted = ops.cast(weights > 0, chance.dtype)
    masked, there = chance * counted, truth * counted
    found, true = (skeleton(each, iterations) for each in (masked, there))

    def share(line: Tensor, mask: Tensor) -> Tensor:
        within = ops.sum(weights * line * mask, axis=(1, 2))
        return (within + SMOOTH) / (ops.sum(weights * line, axis=(1, 2)) + SMOOTH)

    precision, recall = share(found, there), share(true, masked)
    both = 2.0 * precision * recall / (precision + recall)
    return (1.0 - alpha) * dice(truth, chance, weights) + alpha * (1.0 - both)


def skeleton(mask: Tensor, iterations: int = 3) -> Tensor:
    """Return the soft skeleton of masks: what opening takes away, from erosion on.

    Args:
        mask: float (batch, Y, X) within [0, 1].
        iterations: erosions; wider things leave several lines.

    Returns:
        float (batch, Y, X) within [0, 1].

    Paper: Shit et al. 2021, https://arxiv.org/abs/2003.07311, algorithm 1, with the
    cross-shaped erosion of the authors' code.

    Example:
        >>> import numpy as np
        >>> bar = np.zeros((1, 5, 7), "float32"); bar[:, 1:4, 1:6] = 1
        >>> skeleton(bar)[0, 2].__array__().tolist()
        [0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 0.0]
    """

    def largest(x: Tensor, size: tuple[int, int]) -> Tensor:
        return ops.max_pool(
            x, size, strides=1, padding="same", data_format="channels_last"
        )

    def erode(x: Tensor) -> Tensor:
        return -ops.maximum(largest(-x, (3, 1)), largest(-x, (1, 3)))

    def taken(x: Tensor) -> Tensor:
        return ops.relu(x - largest(erode(x), (3, 3)))

    x = ops.expand_dims(mask, -1)
    lines = taken(x)
    for _ in range(iterations):
        x = erode(x)
        more = taken(x)
        lines = lines + ops.relu(more - lines * more)
    return ops.squeeze(lines, -1)
