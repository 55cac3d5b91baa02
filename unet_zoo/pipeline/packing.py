"""One encoded example as one row of bytes, exact, of which a window can be read.

A channel with at most 256 different values (the classes, the weights, an 8-bit image
however it was normalised) is kept as one byte per pixel and a table of its values;
any other as float32. Channels lie one after the other, each row after row, so that a
window in a mapped file touches the pages of its own rows only.

    int32    rows, columns, channels, groups, points; length of each channel's table
    int32    id of each group; `points` pixels of each group
    float32  the tables, then the channels without one
    uint8    the channels with one
"""

from __future__ import annotations

import numpy as np

_HEAD = 5
_VALUES = 256  # that fit into one byte
# Pixels kept for all groups of an example together, and for each at least and at most.
_POINTS, _LEAST, _MOST = 4096, 16, 1024

Index = slice | np.ndarray


def pack(stack: np.ndarray, labels: np.ndarray | None = None) -> np.ndarray:
    """Return uint8 (n,): everything that `Packed` reads.

    Args:
        stack: float32 (Y, X, channels).
        labels: int (Y, X); some pixels of every positive id are kept, spread evenly
            over it: 16 to 1,024 of each, about 4,096 in all where that allows.
    """
    rows, columns, channels = stack.shape
    ids, points = _points(labels)
    tables, plain, coded = [], [], []
    for channel in range(channels):
        plane = np.ascontiguousarray(stack[..., channel], np.float32)
        table = _values(plane)
        if len(table):
            coded.append(np.searchsorted(table, plane).astype(np.uint8))
        else:
            plain.append(plane)
        tables.append(table)
    head = [rows, columns, channels, *points.shape, *map(len, tables)]
    parts = [np.asarray(head, np.int32), ids, points, *tables, *plain, *coded]
    return np.concatenate([part.reshape(-1).view(np.uint8) for part in parts])


class Packed:
    """What `pack` made, ready to be read; nothing is unpacked before it is asked for.

    Attributes:
        shape: (rows, columns, channels).
        ids: int32 (groups,), the positive labels.
        points: int32 (groups, points), flat indices of some pixels of each.

    >>> made = Packed(pack(np.float32([[[0, .5], [1, .25]]]), np.array([[0, 7]])))
    >>> made.window(slice(0, 1), np.array([1, 0, 1])).tolist()
    [[[1.0, 0.25], [0.0, 0.5], [1.0, 0.25]]]
    >>> made.ids.tolist(), set(made.points[0].tolist())
    ([7], {1})
    """

    def __init__(self, data: np.ndarray) -> None:
        head = data[: 4 * _HEAD].view(np.int32).tolist()
        rows, columns, channels, groups, points = head
        self.shape = (rows, columns, channels)
        at = 4 * (_HEAD + channels)
        lengths = data[4 * _HEAD : at].view(np.int32).tolist()
        self.ids = data[at : at + 4 * groups].view(np.int32)
        at += 4 * groups
        size = 4 * groups * points
        self.points = data[at : at + size].view(np.int32).reshape(groups, points)
        at += size
        self._tables: list[np.ndarray | None] = []
        for length in lengths:
            values = data[at : at + 4 * length].view(np.float32)
            self._tables.append(values if length else None)
            at += 4 * length
        self._planes: list[np.ndarray] = [data] * channels
        for wanted, kind in ((True, np.float32), (False, np.uint8)):
            size = rows * columns * np.dtype(kind).itemsize
            for channel, table in enumerate(self._tables):
                if (table is None) is wanted:
                    plane = data[at : at + size].view(kind)
                    self._planes[channel] = plane.reshape(rows, columns)
                    at += size

    def channel(
        self, number: int, rows: Index = slice(None), columns: Index = slice(None)
    ) -> np.ndarray:
        """Return float32 (rows, columns): one channel, at those rows and columns."""
        part = self._planes[number][rows][:, columns]
        table = self._tables[number]
        return part if table is None else table[part]

    def window(self, rows: Index, columns: Index) -> np.ndarray:
        """Return float32 (rows, columns, channels): a copy of what lies there."""
        first = self.channel(0, rows, columns)
        out = np.empty((*first.shape, self.shape[2]), np.float32)
        out[..., 0] = first
        for number in range(1, self.shape[2]):
            out[..., number] = self.channel(number, rows, columns)
        return out


def _values(plane: np.ndarray) -> np.ndarray:
    """Return the different values of a plane, ascending; none where too many."""
    # A part of the pixels tells of most planes that they have too many.
    for part in (plane.reshape(-1)[:: 1 + plane.size // 4096], plane):
        values = np.unique(part)
        if len(values) > _VALUES:
            return values[:0]
    return values


def _points(labels: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    if labels is None or not (labels > 0).any():
        return np.empty(0, np.int32), np.empty((0, 0), np.int32)
    flat = labels.reshape(-1)
    inside = np.flatnonzero(flat > 0)
    # Stable, so that the pixels of each id stay in the order of the image.
    inside = inside[np.argsort(flat[inside], kind="stable")]
    ids, first, counts = np.unique(flat[inside], return_index=True, return_counts=True)
    number = int(np.clip(_POINTS // len(ids), _LEAST, _MOST))
    spread = (np.arange(number) + 0.5) / number
    chosen = first[:, None] + (spread * counts[:, None]).astype(np.int64)
    return ids.astype(np.int32), inside[chosen].astype(np.int32)
