"""What a loss or a target needs to know about the borders between objects.

All functions take labels: an integer array (Y, X) with 0 for background, one
positive id per object and -1 where nobody annotated. None of them changes it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from unet_zoo.errors import InputError

# Class weights are never below 0.5, and half the spacing of float32 there is
# 2**-25: a border term smaller than that would be lost in the sum anyway.
_NEGLIGIBLE = 2.0**-25
# 2**31 - 1, as rank of what is no object: it never wins against one.
_NOBODY = np.iinfo(np.int32).max


def border_weights(
    labels: np.ndarray, w0: float = 10.0, sigma: float = 5.0, balance: bool = True
) -> np.ndarray:
    """Return the pixel weights of the U-Net paper, float32 (Y, X).

    w(x) = w_c(x) + w0 * exp(-(d1(x) + d2(x))**2 / (2 * sigma**2))

    d1 and d2 are the Euclidean distances in pixels from x to the nearest pixel of
    the nearest and of the second nearest object. The border term is added on
    background pixels only: the separating line that it teaches is background, and
    inside an object the paper leaves open which border d1 would be measured to.
    Objects that touch have no background between them, so pass the labels through
    `separate` first. With fewer than two objects there is no border term.

    w_c balances the two classes: with n annotated pixels of which n_c belong to a
    pixel's class (background or foreground), w_c = n / (2 * n_c). Both classes
    then weigh the same in total and the mean of w_c is 1. It is 1 everywhere if
    only one class occurs or `balance` is false. Where labels are -1 the weight is 0.

    The result is what one full distance transform per object gives, to the
    resolution of float32: around each object, distances are computed only as far as
    the border term exceeds that.

    >>> labels = np.array([[1, 1, 0, 2, 2, 0, 0, -1]])
    >>> print(border_weights(labels, balance=False).round(2))
    [[ 1.    1.   10.23  1.    1.    7.07  4.75  0.  ]]

    Paper: Ronneberger, Fischer, Brox 2015, https://arxiv.org/abs/1505.04597
    """
    labels = _checked(labels)
    if not (np.isfinite(w0) and w0 >= 0):
        message = f"`w0` must be a finite number of 0 or more. Received: w0={w0}"
        raise InputError(message)
    if not (np.isfinite(sigma) and sigma > 0):
        message = f"`sigma` must be a finite number above 0. Received: sigma={sigma}"
        raise InputError(message)
    weights = _class_weights(labels, balance)
    if w0 > _NEGLIGIBLE:
        reach = sigma * np.sqrt(2 * np.log(w0 / _NEGLIGIBLE))
        total = _two_nearest(labels, reach)
        near = (labels == 0) & (total <= reach)
        weights[near] += w0 * np.exp(-(total[near] ** 2) / (2 * sigma**2))
    return weights.astype(np.float32)


def separate(labels: np.ndarray) -> np.ndarray:
    """Return a copy in which a line of background parts touching objects.

    Of two neighbouring pixels (diagonals count) with different ids, the one of the
    larger object becomes 0; of equally large objects, the one with the higher id.
    Lines are therefore one pixel wide: afterwards no pixel has a different object
    among its 8 neighbours, and no pixel that became 0 could be given back.

    No object disappears. One that would, because it is thin and hemmed in by
    smaller ones, takes precedence over them instead. Where even that leaves no
    room (four ids on 2 x 2 pixels), it keeps its innermost pixel: this is the only
    case in which two ids may still touch.

    >>> separate(np.array([[1, 1, 1, 2, 2, 0, 3]])).tolist()
    [[1, 1, 0, 2, 2, 0, 3]]
    """
    labels = _checked(labels)
    ids, index = _compact(labels)
    sizes = np.bincount(index.ravel(), minlength=len(ids) + 1)[1:]
    order = np.argsort(sizes, kind="stable")
    promoted = np.zeros(len(ids), bool)
    while True:
        given = _giving_way(index, order)
        kept = np.bincount(index[~given], minlength=len(ids) + 1)[1:] > 0
        if not (~kept & ~promoted).any():
            break
        promoted |= ~kept
        # Stable: among the promoted, and among the rest, small ones still win.
        order = order[np.argsort(~promoted[order], kind="stable")]
    apart = np.where(given, 0, index)
    for number in np.flatnonzero(~kept) + 1:
        own = index == number
        apart.flat[np.where(own, _to_outside(own), -1).argmax()] = number
    # Where three objects meet, a pixel may have given way to one that gave way too.
    for y, x in np.argwhere(given & ~_beside_another(apart, index)):
        around = apart[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        if not ((around > 0) & (around != index[y, x])).any():
            apart[y, x] = index[y, x]
    return np.where(apart == index, labels, 0)


def touching_border(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Return where two different objects meet, bool (Y, X).

    True where at least two ids lie within `width` pixels, counted along rows and
    columns (a square of 2 * width + 1), the pixel's own id included. So both sides
    of a contact are marked, and a gap of background between two objects is marked
    too if it is narrow enough. Never true where labels are -1.

    >>> touching_border(np.array([[1, 1, 1, 2, 2, 0, 3]])).tolist()
    [[False, False, True, True, False, True, False]]
    """
    labels = _checked(labels)
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        message = f"`width` must be a whole number of 1 or more. Received: {width!r}"
        raise InputError(message)
    _, index = _compact(labels)
    size = 2 * int(width) + 1
    highest = ndimage.maximum_filter(index, size, mode="constant", cval=0)
    lowest = ndimage.minimum_filter(
        np.where(index > 0, index, _NOBODY), size, mode="constant", cval=_NOBODY
    )
    # Without any object in the square, lowest stays at its maximum.
    return (lowest < highest) & (labels >= 0)


def object_distance(labels: np.ndarray) -> np.ndarray:
    """Return how deep each pixel lies in its object, float32 (Y, X) in [0, 1].

    The Euclidean distance to the nearest pixel that is not of the same object,
    divided by the largest such distance in the object: 1 at its deepest point, 0 on
    background. Other objects count as outside, and so do pixels of label -1; the
    edge of the image does not, since a cell that it cuts goes on beyond it. An
    object that fills the image is 1 everywhere.

    >>> object_distance(np.array([[0, 1, 1, 1, 2, 2]])).tolist()
    [[0.0, 0.5, 1.0, 0.5, 0.5, 1.0]]
    """
    labels = _checked(labels)
    _, index = _compact(labels)
    result = np.zeros(labels.shape, np.float32)
    for number, box in _boxes(index, 1):
        own = index[box] == number
        distance = _to_outside(own)
        result[box][own] = (distance / distance.max())[own]
    return result


def _checked(labels: np.ndarray) -> np.ndarray:
    """Return `labels` as an array, or say why they are none."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        message = (
            "`labels` must be an integer array (Y, X): 0 background, one id per "
            f"object, -1 not annotated. Received: shape {labels.shape}, dtype "
            f"{labels.dtype}. Number the objects of a mask with skimage.measure.label."
        )
        raise InputError(message)
    return labels


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids in ascending order, and labels as int32 places in them, from 1.

    Ids may be as large as 2**32: what is indexed by them must not be.
    """
    ids = np.unique(labels)
    ids = ids[ids > 0]
    if len(ids) and ids[-1] == len(ids):
        return ids, np.maximum(labels, 0).astype(np.int32)
    index = np.searchsorted(ids, labels, side="right").astype(np.int32)
    return ids, index


def _boxes(index: np.ndarray, margin: int) -> Iterator[tuple[int, tuple[slice, ...]]]:
    """Yield each object's number and its bounding box, widened within the image."""
    for number, box in enumerate(ndimage.find_objects(index), start=1):
        yield (
            number,
            tuple(
                slice(max(side.start - margin, 0), min(side.stop + margin, length))
                for side, length in zip(box, index.shape, strict=True)
            ),
        )


def _class_weights(labels: np.ndarray, balance: bool) -> np.ndarray:
    """Return w_c of `border_weights`, float64."""
    background, foreground = labels == 0, labels > 0
    counts = np.count_nonzero(background), np.count_nonzero(foreground)
    weights = np.zeros(labels.shape)
    for members, count in zip((background, foreground), counts, strict=True):
        weights[members] = sum(counts) / (2 * count) if balance and all(counts) else 1.0
    return weights


def _two_nearest(labels: np.ndarray, reach: float) -> np.ndarray:
    """Return d1 + d2 of every pixel, exact up to `reach` and no less beyond it.

    If d1 + d2 <= reach, the pixel lies in the boxes of both objects widened by
    `reach`: one transform per object suffices, and only of its box.
    """
    _, index = _compact(labels)
    first = np.full(labels.shape, np.inf)
    second = np.full(labels.shape, np.inf)
    for number, box in _boxes(index, int(np.ceil(reach))):
        distance = ndimage.distance_transform_edt(index[box] != number)
        np.minimum(second[box], np.maximum(first[box], distance), out=second[box])
        np.minimum(first[box], distance, out=first[box])
    return first + second


def _giving_way(index: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the object pixels beside an object that stands earlier in `order`."""
    ranks = np.full(len(order) + 1, _NOBODY, np.int32)
    ranks[order + 1] = np.arange(len(order))
    rank = ranks[index]
    lowest = ndimage.minimum_filter(rank, 3, mode="constant", cval=_NOBODY)
    return (index > 0) & (lowest < rank)


def _beside_another(apart: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return which pixels have an object around them that is not `index` there."""
    highest = ndimage.maximum_filter(apart, 3, mode="constant", cval=0)
    lowest = ndimage.minimum_filter(
        np.where(apart > 0, apart, _NOBODY), 3, mode="constant", cval=_NOBODY
    )
    return (highest > 0) & ((highest != index) | (lowest != index))


def _to_outside(own: np.ndarray) -> np.ndarray:
    """Return the distance to the nearest False, 1 everywhere if there is none."""
    if own.all():
        return np.ones(own.shape)
    return ndimage.distance_transform_edt(own)
