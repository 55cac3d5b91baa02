"""Randomness and image arithmetic that give the same bytes on every machine.

Only two sources are trusted: the raw integers of numpy's Philox, and operations
that are exact (integers, comparisons) or correctly rounded by IEEE 754
(+ - * / sqrt, one element at a time). exp, sin, cos, matrix products and sums of
floats are avoided: their last bit depends on the processor and the build.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Item = TypeVar("Item")
Window = tuple[slice, slice]


class Dice:
    """Draw from one Philox stream, chosen by two integers.

    `numpy.random.Generator` would be shorter, but may change its numbers between
    releases of numpy; the raw integers of Philox may not.

    >>> Dice(7, 0).uniform(0, 1) == Dice(7, 0).uniform(0, 1)
    True
    """

    def __init__(self, seed: int, stream: int) -> None:
        key = np.array([seed, stream], dtype=np.uint64)
        self._philox = np.random.Philox(key=key)
        self._pool: list[int] = []

    def uniform(self, low: float, high: float) -> float:
        """Return a float in [low, high)."""
        if not self._pool:
            self._pool = self._philox.random_raw(256).tolist()
        return low + (high - low) * ((self._pool.pop() >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        """Return True with this probability."""
        return self.uniform(0, 1) < probability

    def integer(self, low: int, high: int) -> int:
        """Return an integer in low..high, both included."""
        return low + int(self.uniform(0, 1) * (high - low + 1))

    def choice(self, options: Sequence[Item]) -> Item:
        """Return one of the options."""
        return options[self.integer(0, len(options) - 1)]

    def direction(self) -> tuple[float, float]:
        """Return (x, y) on the unit circle, without a sine."""
        while True:
            x, y = self.uniform(-1, 1), self.uniform(-1, 1)
            length = np.sqrt(x * x + y * y)
            if 0.1 < length <= 1:
                return float(x / length), float(y / length)

    def octave(self, low: float, high: float) -> float:
        """Return a float in [low, high), each doubling about equally likely."""
        ends = [low]
        while ends[-1] * 2 < high:
            ends.append(ends[-1] * 2)
        start = self.choice(ends)
        return self.uniform(start, min(2 * start, high))

    def array(self, *shape: int) -> np.ndarray:
        """Return float64 in [-1, 1) of this shape."""
        raw = self._philox.random_raw(int(np.prod(shape)))
        return ((raw >> np.uint64(11)) * 2.0**-52 - 1).reshape(shape)

    def bells(self, height: int, width: int) -> np.ndarray:
        """Return float64 (height, width), nearly normal: the sum of four bytes.

        Mean 0, standard deviation 1, never beyond 3.46.
        """
        number = height * width
        raw = self._philox.random_raw(-(-number // 2)).astype("<u8")
        four = raw.view(np.uint8).reshape(-1, 4).astype(np.int64)
        total = four[:, 0] + four[:, 1] + four[:, 2] + four[:, 3] - 510
        return (total[:number] / 147.8).reshape(height, width)


def value_noise(dice: Dice, shape: tuple[int, int], cell: float) -> np.ndarray:
    """Return smooth noise in [-1, 1): random values `cell` pixels apart, blended.

    The grid is shifted at random, so that its knots do not favour a corner.
    """
    axes = []
    for length in shape:
        at = (np.arange(length) + dice.uniform(0, cell)) / cell
        knot = np.floor(at).astype(np.int64)
        part = at - knot
        axes.append((knot, part * part * (3 - 2 * part)))
    (rows, down), (columns, right) = axes
    grid = dice.array(int(rows[-1]) + 2, int(columns[-1]) + 2)
    down, right = down[:, None], right[None, :]
    lines = grid[rows] * (1 - down) + grid[rows + 1] * down
    return lines[:, columns] * (1 - right) + lines[:, columns + 1] * right


def blur(image: np.ndarray, sigma: float) -> np.ndarray:
    """Return the image blurred by three box filters: about a Gaussian of `sigma`.

    The ends of the boxes have a fractional weight, so that the variance is exact
    (Gwosdek et al. 2011, doi 10.1007/978-3-642-24785-9_38). Sums are of integers, in
    units of 2**-20, since sums of floats depend on their order.
    """
    variance = sigma * sigma / 3
    radius = int((float(np.sqrt(1 + 12 * variance)) - 1) / 2)
    inner = 2 * radius + 1
    missing = inner * (variance - radius * (radius + 1) / 3)
    end = missing / (2 * ((radius + 1) * (radius + 1) - variance))
    for axis in (0, 1) * 3:
        pad = [(0, 0), (0, 0)]
        pad[axis] = (radius + 2, radius + 1)
        fixed = np.rint(image * 2.0**20).astype(np.int64)
        total = np.cumsum(np.pad(fixed, pad, mode="edge"), axis=axis)
        if axis == 1:
            total = total.T
        short = total[inner + 1 : -1] - total[1 : -inner - 1]
        long = total[inner + 2 :] - total[: -inner - 2]
        sums = (short + end * (long - short)) / ((inner + 2 * end) * 2.0**20)
        image = sums.T if axis == 1 else sums
    return image


def pieces(mask: np.ndarray) -> list[int]:
    """Return the sizes of the mask's 4-connected pieces, largest first."""
    return sorted((size for _, size in _components(mask)), reverse=True)


def largest(mask: np.ndarray) -> np.ndarray:
    """Return the mask of the largest 4-connected piece (the first, among equals)."""
    runs = max(_components(mask), key=lambda piece: piece[1], default=([], 0))[0]
    result = np.zeros(mask.shape, dtype=bool)
    for row, start, stop in runs:
        result[row, start:stop] = True
    return result


def _components(mask: np.ndarray) -> list[tuple[list[tuple[int, int, int]], int]]:
    """Return each piece as its runs (row, start, stop) and its size in pixels."""
    padded = np.zeros((mask.shape[0], mask.shape[1] + 2), dtype=np.int8)
    padded[:, 1:-1] = mask
    rows, edges = np.nonzero(np.diff(padded, axis=1))
    runs = list(
        zip(rows[::2].tolist(), edges[::2].tolist(), edges[1::2].tolist(), strict=True)
    )
    parent = list(range(len(runs)))

    def root(at: int) -> int:
        while parent[at] != at:
            parent[at] = parent[parent[at]]
            at = parent[at]
        return at

    above = 0
    for at, (row, start, stop) in enumerate(runs):
        # Skip runs that end before this one, or lie more than one row up.
        while runs[above][0] < row - 1 or (
            runs[above][0] == row - 1 and runs[above][2] <= start
        ):
            above += 1
        other = above
        while runs[other][0] == row - 1 and runs[other][1] < stop:
            parent[root(at)] = root(other)
            other += 1
    groups: dict[int, list[tuple[int, int, int]]] = {}
    for at, run in enumerate(runs):
        groups.setdefault(root(at), []).append(run)
    return [
        (group, sum(stop - start for _, start, stop in group))
        for group in groups.values()
    ]
