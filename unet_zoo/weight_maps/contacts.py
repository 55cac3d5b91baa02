"""Where objects touch, and how they are parted."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from unet_zoo.errors import InputError
from unet_zoo.weight_maps import _labels


def separate(labels: np.ndarray) -> np.ndarray:
    """Return a copy in which a line of background parts touching objects.

    Of two neighbouring pixels (diagonals count) with different ids, the one of the
    larger object becomes 0; of equally large objects, the one with the higher id.
    Lines are therefore one pixel wide: afterwards no pixel has a different object
    among its 8 neighbours, 26 in a stack, and no pixel that became 0 could be given
    back.

    No object disappears. One that would, because it is thin and hemmed in by
    smaller ones, takes precedence over them instead. Where even that leaves no
    room (four ids on 2 x 2 pixels), it keeps its innermost pixel: this is the only
    case in which two ids may still touch.

    Args:
        labels: integer (Y, X) or (Z, Y, X).

    >>> separate(np.array([[1, 1, 1, 2, 2, 0, 3]])).tolist()
    [[1, 1, 0, 2, 2, 0, 3]]
    """
    labels = _labels.checked(labels)
    index, sizes = _labels.compact(labels)
    order = np.argsort(sizes, kind="stable")
    promoted = np.zeros(len(sizes), bool)
    while True:
        given = _giving_way(index, order)
        gone = np.bincount(index[given], minlength=len(sizes) + 1)[1:] == sizes
        if not (gone & ~promoted).any():
            break
        promoted |= gone
        # Stable: among the promoted, and among the rest, small ones still win.
        order = order[np.argsort(~promoted[order], kind="stable")]
    if not given.any():
        return labels.copy()
    apart = np.where(given, 0, index)
    boxes = ndimage.find_objects(index) if gone.any() else []
    for number in np.flatnonzero(gone) + 1:
        box = _labels.widened(boxes[number - 1], index.shape)
        own = index[box] == number
        inner = np.where(own, _labels.to_outside(own), -1)
        apart[box].flat[inner.argmax()] = number
    # Where three objects meet, a pixel may have given way to one that gave way too.
    for place in np.argwhere(given & ~_beside_another(apart, index)):
        around = apart[tuple(slice(max(i - 1, 0), i + 2) for i in place)]
        number = index[tuple(place)]
        if not ((around > 0) & (around != number)).any():
            apart[tuple(place)] = number
    return np.where(apart == index, labels, 0)


def touching_border(labels: np.ndarray, width: int = 1) -> np.ndarray:
    """Return where two different objects meet, bool of the shape of `labels`.

    True where at least two ids lie within `width` pixels, counted along each axis
    (a square or cube of side 2 * width + 1), the pixel's own id included. So both
    sides of a contact are marked, and a gap of background between two objects is
    marked too if it is narrow enough. Never true where labels are -1.

    Args:
        labels: integer (Y, X) or (Z, Y, X).
        width: in pixels, 1 or more.

    >>> touching_border(np.array([[1, 1, 1, 2, 2, 0, 3]])).tolist()
    [[False, False, True, True, False, True, False]]
    """
    labels = _labels.checked(labels)
    if isinstance(width, bool) or not isinstance(width, int | np.integer) or width < 1:
        message = f"`width` must be a whole number of 1 or more. Received: {width!r}"
        raise InputError(message)
    lowest, highest = _range_around(np.maximum(labels, 0), int(width))
    return (lowest < highest) & (labels >= 0)


def _around(values: np.ndarray, choose: np.ufunc, width: int = 1) -> np.ndarray:
    """Return what `choose` leaves of the values up to `width` away along each axis."""
    for axis in range(values.ndim):
        chosen = values.copy()
        old, new = np.moveaxis(values, axis, 0), np.moveaxis(chosen, axis, 0)
        for d in range(1, min(width, len(old) - 1) + 1):
            choose(new[d:], old[:-d], out=new[d:])
            choose(new[:-d], old[d:], out=new[:-d])
        values = chosen
    return values


def _range_around(
    positive: np.ndarray, width: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """Return the lowest and the highest id around each pixel, itself included.

    Without any, the lowest is the largest number of the dtype, and the highest is 0.
    """
    nobody = np.iinfo(positive.dtype).max
    lowest = np.where(positive > 0, positive, nobody)
    return _around(lowest, np.minimum, width), _around(positive, np.maximum, width)


def _giving_way(index: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Return the object pixels beside an object that stands earlier in `order`."""
    ranks = np.empty(len(order) + 1, np.int32)
    # What is no object never wins against one.
    ranks[0] = len(order)
    ranks[order + 1] = np.arange(len(order))
    rank = ranks[index]
    return (index > 0) & (_around(rank, np.minimum) < rank)


def _beside_another(apart: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Return which pixels have an object around them that is not `index` there."""
    lowest, highest = _range_around(apart)
    return (highest > 0) & ((highest != index) | (lowest != index))
