"""The pixel weights of the U-Net paper."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unet_zoo.errors import InputError
from unet_zoo.weight_maps import _labels, _nearest

# In sigmas: beyond, the border term is below 7e-7 of w0.
_REACH = 5.35


def border_weights(
    labels: np.ndarray,
    w0: float = 10.0,
    sigma: float = 5.0,
    balance: bool = True,
    *,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Return the pixel weights of the U-Net paper, float32 of the shape of `labels`.

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

    d1 and d2 are the Euclidean distances from x to the nearest pixel of the nearest
    and of the second nearest object. The border term is added on background pixels
    only: the separating line that it teaches is background, and inside an object the
    paper leaves open which border d1 would be measured to. Objects that touch have
    no background between them, so pass the labels through `separate` first. With
    fewer than two objects there is no border term.

    w_c balances the two classes: with n annotated pixels of which n_c belong to a
    pixel's class (background or foreground), w_c = n / (2 * n_c). Both classes
    then weigh the same in total and the mean of w_c is 1. It is 1 everywhere if
    only one class occurs or `balance` is false. Where labels are -1 the weight is 0.

    The result is what one full distance transform per object gives, to 1e-6 of w0,
    in about the time of one or two transforms however many objects there are; the
    time grows with sigma. A border term below 7e-7 of w0 is left away.

    Args:
        labels: integer (Y, X) or (Z, Y, X).
        w0: weight of the border term, 0 or more.
        sigma: width of the border in the unit of `spacing`, by default in pixels.
        balance: whether classes are balanced.
        spacing: size of a pixel along each axis of `labels`, 1 by default.

    >>> labels = np.array([[1, 1, 0, 2, 2, 0, 0, -1]])
    >>> print(border_weights(labels, balance=False).round(2))
    [[ 1.    1.   10.23  1.    1.    7.07  4.75  0.  ]]

    Paper: Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597
    """
    labels = _labels.checked(labels)
    if not (np.isfinite(w0) and w0 >= 0):
        message = f"`w0` must be a finite number of 0 or more. Received: w0={w0}"
        raise InputError(message)
    if not (np.isfinite(sigma) and sigma > 0):
        message = f"`sigma` must be a finite number above 0. Received: sigma={sigma}"
        raise InputError(message)
    steps = _labels.steps(spacing, labels)
    background, foreground = _class_weights(labels, balance)
    weights = np.where(labels > 0, np.float32(foreground), np.float32(background))
    if w0 > 0:
        places, term = _between(labels, sigma, steps)
        term *= w0
        term += background
        weights.reshape(-1)[places] = term
    weights[labels < 0] = 0
    return weights


def _class_weights(labels: np.ndarray, balance: bool) -> tuple[float, float]:
    """Return w_c of background and of foreground."""
    counts = np.count_nonzero(labels == 0), np.count_nonzero(labels > 0)
    if not (balance and all(counts)):
        return 1.0, 1.0
    return sum(counts) / (2 * counts[0]), sum(counts) / (2 * counts[1])


def _between(
    labels: np.ndarray, sigma: float, steps: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the flat places of background that have a border term, and it for w0 1."""
    # d1 is never more than d2, and on background never less than the smallest step.
    half, far = _REACH * sigma / 2, _REACH * sigma - steps.min()
    squares = _nearest.two_nearest(labels, half, far, steps) if far > 0 else None
    if squares is None:
        return np.empty(0, np.intp), np.empty(0)
    near = labels == 0
    near &= squares.first <= int(squares.unit * half**2)
    near &= squares.second <= int(squares.unit * far**2)
    places = np.flatnonzero(near)
    total = np.zeros(len(places))
    for image in (squares.first, squares.second):
        distance = image.reshape(-1)[places].astype(float)
        distance /= squares.unit
        total += np.sqrt(distance, out=distance)
    total *= total
    total *= -1 / (2 * sigma**2)
    return places, np.exp(total, out=total)
