"""Exact outlines: polygons along the sides of pixels, and the same pixels inside."""

from __future__ import annotations

import numpy as np

# Sides of a pixel in the order in which its outline passes them, the object on the
# right: along its top to the right, down, along its bottom to the left, up.
_AHEAD = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
_FROM = np.array([(0, 0), (0, 1), (1, 1), (1, 0)])


def polygons(labels: np.ndarray) -> dict[int, list[list[np.ndarray]]]:
    """Return the polygons of every object, by its id.

    An object has one polygon for each of its pieces (pixels that touch by their sides).
    A polygon is a list of rings: the outer one, then one for each hole. A ring is int32
    (N, 2), x and y of its corners in pixels from the image's upper left corner, so that
    the first pixel reaches from 0 to 1; the first corner is not repeated at the end.
    Rings have no corner twice, and only corners where they turn. With y pointing down,
    outer rings turn clockwise and holes the other way. A pixel is of the object exactly
    when its centre is inside the outer ring and in no hole.

    >>> ring = np.full((3, 3), 4)
    >>> ring[1, 1] = 0
    >>> [each.tolist() for each in polygons(ring)[4][0]]
    [[[0, 0], [3, 0], [3, 3], [0, 3]], [[1, 2], [2, 2], [2, 1], [1, 1]]]
    """
    import skimage.measure

    labels = np.maximum(np.asarray(labels), 0)
    pieces = skimage.measure.label(labels, background=0, connectivity=1)
    count = int(pieces.max(initial=0))
    if not count:
        return {}
    corners, ring, piece = _rings(pieces)
    starts = np.flatnonzero(np.append(True, ring[1:] != ring[:-1]))
    # A ring that meets itself in a corner is several: the outer one, and holes.
    meeting = _meeting(corners, ring)
    outer: list[np.ndarray | None] = [None] * (count + 1)
    holes: list[list[np.ndarray]] = [[] for _ in range(count + 1)]
    numbers = piece[starts].tolist()
    loops = np.split(corners, starts[1:])
    for which, (number, each) in enumerate(zip(numbers, loops, strict=True)):
        parts = _parted(each) if which in meeting else [each]
        for part in parts:
            if _area(part) > 0:
                outer[number] = part
            else:
                holes[number].append(part)
    owner = np.zeros(count + 1, labels.dtype)
    owner[pieces.ravel()] = labels.ravel()
    found: dict[int, list[list[np.ndarray]]] = {}
    for number in np.argsort(owner, kind="stable").tolist():
        shell = outer[number]
        if shell is not None:  # 0 is the background
            found.setdefault(int(owner[number]), []).append([shell, *holes[number]])
    return found


def _rings(pieces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return corners (N, 2) in order, and for each the number of its ring and piece."""
    padded = np.pad(pieces, 1)
    width, flat = padded.shape[1], padded.ravel()
    ahead = _AHEAD @ (width, 1)
    left = np.roll(ahead, 1)
    # Every side of a pixel with something else beyond it, side by side of the pixel.
    found = []
    for beyond in np.roll(_AHEAD, 1, axis=0):
        other = np.roll(padded, -beyond, (0, 1))
        found.append(np.flatnonzero((padded > 0) & (padded != other)))
    counts = [len(each) for each in found]
    pixel = np.concatenate(found)
    side = np.repeat(np.arange(4), counts)
    keys = side * flat.size + pixel  # rising
    # Where does the outline go on? Around this pixel, straight on along the next, or
    # around the one diagonally ahead: only if it touches by a side.
    own = flat[pixel]
    straight = pixel + ahead[side]
    across = straight + left[side]
    on = flat[straight] == own
    turned = on & (flat[across] == own)
    next_pixel = np.where(turned, across, np.where(on, straight, pixel))
    next_side = np.where(turned, side - 1, np.where(on, side, side + 1)) % 4
    after = np.searchsorted(keys, next_side * flat.size + next_pixel)
    order, ring = _chained(after)
    side, pixel = side[order], pixel[order]
    corner = np.append(True, ring[1:] != ring[:-1])
    before = np.roll(side, 1)
    # The first of a ring follows its last.
    starts = np.flatnonzero(corner)
    before[starts] = side[np.append(starts[1:], len(side)) - 1]
    turns = side != before
    side, pixel, ring = side[turns], pixel[turns], ring[turns]
    y, x = np.divmod(pixel, width)
    corners = np.stack([x - 1 + _FROM[side, 1], y - 1 + _FROM[side, 0]], axis=1)
    return corners.astype(np.int32), ring, flat[pixel]


def _chained(after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the places in the order of their rings, and the rings' numbers."""
    following = after.tolist()
    seen = bytearray(len(following))
    order: list[int] = []
    sizes = []
    for start in range(len(following)):
        if seen[start]:
            continue
        before, place = len(order), start
        while not seen[place]:
            seen[place] = 1
            order.append(place)
            place = following[place]
        sizes.append(len(order) - before)
    return np.array(order), np.repeat(np.arange(len(sizes)), sizes)


def _meeting(corners: np.ndarray, ring: np.ndarray) -> set[int]:
    """Return the numbers of the rings that pass a corner twice."""
    wide, high = corners.max(axis=0).astype(np.int64) + 1
    keys = (ring * high + corners[:, 1]) * wide + corners[:, 0]
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    return set(ring[order[1:][same]].tolist())


def _parted(ring: np.ndarray) -> list[np.ndarray]:
    """Return the loops of a ring, none of which has a corner twice."""
    path: list[tuple[int, int]] = []
    parts, places = [], dict[tuple[int, int], int]()
    for x, y in ring.tolist():
        if (x, y) in places:
            first = places[x, y]
            parts.append(path[first:])
            for corner in path[first + 1 :]:
                del places[corner]
            del path[first + 1 :]
        else:
            places[x, y] = len(path)
            path.append((x, y))
    return [np.array(part, np.int32) for part in [*parts, path]]


def _area(ring: np.ndarray) -> int:
    """Return twice the signed area of a ring."""
    x, y = ring.astype(np.int64).T
    return int(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))
