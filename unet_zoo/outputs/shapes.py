"""Sizes and shapes of all objects at once, from the rows of pixels they consist of.

Objects are numbered 0..N-1 here, in the order of their labels. Definitions are those of
`skimage.measure.regionprops`, which looks at one object after the other.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class Runs:
    """Rows of neighbouring pixels of one object, in the order of the image.

    Attributes:
        labels: (N,) ids of the objects, rising.
        member: (R,) which object a run belongs to.
        y: (R,) its row.
        start: (R,) its first column.
        stop: (R,) the column after its last.
    """

    labels: np.ndarray
    member: np.ndarray
    y: np.ndarray
    start: np.ndarray
    stop: np.ndarray

    @property
    def length(self) -> np.ndarray:
        """Return (R,) pixels of every run."""
        return self.stop - self.start

    def sums(self, values: np.ndarray) -> np.ndarray:
        """Return (N,) sums over objects of one value per run."""
        # Of nothing at all, numpy makes whole numbers.
        return np.bincount(self.member, values, len(self.labels)).astype(float)

    def lowest(self, values: np.ndarray) -> np.ndarray:
        """Return (N,) the smallest value per run of every object."""
        return self._reduced(np.minimum, values)

    def highest(self, values: np.ndarray) -> np.ndarray:
        """Return (N,) the largest value per run of every object."""
        return self._reduced(np.maximum, values)

    def _reduced(self, function: np.ufunc, values: np.ndarray) -> np.ndarray:
        if not len(self.labels):
            return np.zeros(0, values.dtype)
        order = np.argsort(self.member, kind="stable")
        first = np.searchsorted(self.member[order], np.arange(len(self.labels)))
        reduced: np.ndarray = function.reduceat(values[order], first)
        return reduced


def ids(labels: np.ndarray) -> np.ndarray:
    """Return (N,) the ids above 0 in whole numbers of any shape, rising.

    >>> ids(np.array([[7, 0], [-1, 2]]))
    array([2, 7])
    """
    labels = np.maximum(labels, 0)
    highest = int(labels.max(initial=0))
    if highest > 4 * labels.size:  # a table of all numbers would be long
        found = np.unique(labels)
        return found[found > 0]
    there = np.zeros(highest + 1, bool)
    there[labels] = True
    return np.flatnonzero(there[1:]) + 1


def runs(labels: np.ndarray) -> Runs:
    """Return the runs of all objects (above 0) of labels (Y, X).

    >>> found = runs(np.array([[5, 5, 0], [2, 5, 5]]))
    >>> found.labels.tolist(), found.member.tolist(), found.length.tolist()
    ([2, 5], [1, 0, 1], [2, 1, 2])
    """
    width = labels.shape[1]
    flat = labels.ravel()
    begins = np.ones(labels.shape, bool)
    begins[:, 1:] = labels[:, 1:] != labels[:, :-1]
    start = np.flatnonzero(begins)
    stop = np.append(start[1:], flat.size)
    inside = flat[start] > 0
    start, stop = start[inside], stop[inside]
    ids, member = np.unique(flat[start], return_inverse=True)
    y = start // width
    return Runs(ids, member.reshape(-1), y, start - y * width, stop - y * width)


def boxes(found: Runs) -> np.ndarray:
    """Return int (4, N): first row and column, and those after the last."""
    low, high = found.lowest, found.highest
    return np.stack(
        [low(found.y), low(found.start), high(found.y) + 1, high(found.stop)]
    )


def moments(found: Runs) -> tuple[np.ndarray, ...]:
    """Return (N,) each: area, mean y, mean x, and the variances yy, xx and yx.

    A pixel counts as a point, as it does to scikit-image.
    """
    size = found.length.astype(float)
    area = found.sums(size)
    middle = (found.start + found.stop - 1) / 2
    y = found.sums(size * found.y) / area
    x = found.sums(size * middle) / area
    # About the object's own middle: squares of large coordinates lose digits.
    down, right = found.y - y[found.member], middle - x[found.member]
    yy = found.sums(size * down**2) / area
    xx = found.sums(size * (right**2 + (size**2 - 1) / 12)) / area
    yx = found.sums(size * down * right) / area
    return area, y, x, yy, xx, yx


def axes(
    yy: np.ndarray, xx: np.ndarray, yx: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (N,) each: the long and the short axis, and the angle of the long one.

    Of the ellipse with these variances; the angle is between the rows' axis and the
    long axis, in radians within -pi/2 and pi/2.
    """
    middle, half = (yy + xx) / 2, np.sqrt(((yy - xx) / 2) ** 2 + yx**2)
    major = 4 * np.sqrt(np.maximum(middle + half, 0))
    minor = 4 * np.sqrt(np.maximum(middle - half, 0))
    angle = 0.5 * np.arctan2(2 * yx, yy - xx)
    round_ = np.isclose(yy, xx, rtol=1e-12, atol=0)
    angle = np.where(round_, np.where(-yx < 0, np.pi / 4, -np.pi / 4), angle)
    return major, minor, angle


_ROOT = 2**0.5
# What a pixel of the rim adds to the length, by what its neighbours on the rim are:
# 2 for each beside it, 10 for each at its corners, 1 for itself.
_STEP = np.zeros(50)
_STEP[[5, 7, 15, 17, 25, 27]] = 1
_STEP[[21, 33]] = _ROOT
_STEP[[13, 23]] = (1 + _ROOT) / 2


def perimeters(labels: np.ndarray, found: Runs) -> np.ndarray:
    """Return (N,) lengths of the objects' rims in pixels.

    Method: Benkrid and Crookes, Design and FPGA implementation of a perimeter
    estimator, 2000.
    """
    padded = np.pad(labels, 1)
    width = padded.shape[1]
    flat = padded.ravel()
    inner = padded[1:-1, 1:-1]
    rim = np.zeros(padded.shape, bool)
    within = inner > 0
    for shifted in (padded[:-2, 1:-1], padded[2:, 1:-1]):
        within &= shifted == inner
    for shifted in (padded[1:-1, :-2], padded[1:-1, 2:]):
        within &= shifted == inner
    rim[1:-1, 1:-1] = (inner > 0) & ~within
    place = np.flatnonzero(rim)
    own, on_rim = flat[place], rim.ravel()
    kind = np.ones(len(place), np.intp)
    for step in (-width, width, -1, 1):
        kind += 2 * (on_rim[place + step] & (flat[place + step] == own))
    for step in (-width - 1, -width + 1, width - 1, width + 1):
        kind += 10 * (on_rim[place + step] & (flat[place + step] == own))
    member = np.searchsorted(found.labels, own)
    return np.bincount(member, _STEP[kind], len(found.labels)).astype(float)


def hull_areas(found: Runs) -> np.ndarray:
    """Return int (N,): how many pixels have their centre in the convex hull.

    The hull is that of the middles of the pixels' sides. All is reckoned in whole
    numbers of half pixels, so nothing is rounded.
    """
    if not len(found.labels):
        return np.zeros(0, np.int64)
    low = _edge(found, found.start, sign=1)
    high = _edge(found, found.stop - 1, sign=-1)
    box = boxes(found)
    height = box[2] - box[0]
    # One entry per object and row.
    member = np.repeat(np.arange(len(height)), height)
    first = np.cumsum(height) - height
    y = np.arange(height.sum()) - first[member] + box[0][member]
    left, right = _at(low, member, y), -_at(high, member, y)
    return np.bincount(member, right - left + 1, len(height)).astype(np.int64)


_SPAN = np.int64(2**31)  # more than twice the height of any image


def _edge(found: Runs, x: np.ndarray, sign: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners of the hulls' left side, mirrored for sign -1 the right.

    As keys that rise with object and row, and columns; both in half pixels.
    """
    row = found.member * _SPAN + 2 * (found.y + 1)
    keys = np.concatenate([row - 1, row, row + 1])
    columns = np.concatenate([2 * sign * x, 2 * sign * x - 1, 2 * sign * x])
    order = np.lexsort((columns, keys))
    keys, columns = keys[order], columns[order]
    lowest = np.append(True, keys[1:] != keys[:-1])
    keys, columns = keys[lowest], columns[lowest]
    while True:
        # Of three neighbours in one object, the middle one is no corner of the hull
        # if it is not left of the line between the others.
        down, after = np.diff(keys), np.diff(columns)
        same = keys[2:] // _SPAN == keys[:-2] // _SPAN
        between = same & (after[:-1] * down[1:] >= after[1:] * down[:-1])
        if not between.any():
            return keys, columns
        kept = np.ones(len(keys), bool)
        kept[1:-1] = ~between
        keys, columns = keys[kept], columns[kept]


def _at(
    edge: tuple[np.ndarray, np.ndarray], member: np.ndarray, y: np.ndarray
) -> np.ndarray:
    """Return the first whole column that is not left of an edge, in whole rows."""
    keys, columns = edge
    wanted = member * _SPAN + 2 * (y + 1)
    below = np.searchsorted(keys, wanted, side="right")
    above = below - 1
    span = keys[below] - keys[above]
    place = columns[above] * span + (columns[below] - columns[above]) * (
        wanted - keys[above]
    )
    return -(-place // (2 * span))
