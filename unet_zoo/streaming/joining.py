"""Objects that were found block by block, made one again."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

_STATE = ("parents", "firsts", "sizes", "cut")


@dataclasses.dataclass(frozen=True)
class View:
    """The edge of what one block saw: labels (y, x) beside a seam, and where."""

    labels: np.ndarray
    top: int
    left: int

    def part(self, rows: slice, columns: slice) -> np.ndarray:
        """Return the labels at these rows and columns of the image."""
        return self.labels[
            rows.start - self.top : rows.stop - self.top,
            columns.start - self.left : columns.stop - self.left,
        ]

    def near(self, place: int, distance: int, axis: int) -> View:
        """Return what lies within `distance` of a row or column of the image."""
        begin = (self.top, self.left)[axis]
        low = max(0, place - distance - begin)
        some = self.labels[:, low : place + distance - begin]
        if axis == 0:
            some = self.labels[low : place + distance - begin]
        top, left = self.top + low * (axis == 0), self.left + low * (axis == 1)
        return View(some.copy(), top, left)


@dataclasses.dataclass
class Edges:
    """What blocks saw beside the four seams around a part of the image."""

    top: list[View] = dataclasses.field(default_factory=list)
    bottom: list[View] = dataclasses.field(default_factory=list)
    left: list[View] = dataclasses.field(default_factory=list)
    right: list[View] = dataclasses.field(default_factory=list)


class Joiner:
    """Numbers the objects of all blocks of an image, and knows which are the same.

    Every block is decoded with its surroundings, of which its neighbours see a part
    too. Where both name the same pixels, the objects are one.

    Args:
        width: columns of the image.
        share: two names are one where they have more than this share of their pixels
            in common, of all that either has where both blocks look. 0: where they
            have any.

    >>> joiner = Joiner(width=8, share=0.5)
    >>> left, right = np.array([[0, 1, 1]]), np.array([[1, 1, 0]])
    >>> a = joiner.add(left[:, :2], left, 0, 0)
    >>> b = joiner.add(right[:, 1:], right, 0, 2)
    >>> joiner.meet(View(left[:, 1:] + a, 0, 1), View(right[:, :2] + b, 0, 1))
    >>> joiner.finish(min_size=0)[0].tolist()
    [0, 1, 1]
    """

    def __init__(self, width: int, share: float) -> None:
        self._width, self._share = width, share
        self._parents = np.zeros(1, np.int64)
        self._firsts = np.full(1, np.iinfo(np.int64).max)
        self._sizes = np.zeros(1, np.int64)
        self._cut = np.zeros(1, np.int64)
        self._count = 1

    def add(self, core: np.ndarray, window: np.ndarray, top: int, left: int) -> int:
        """Take in the labels of one block; return what is added to make them names.

        Args:
            core: labels (y, x) of the block itself.
            window: labels of all that it saw.
            top: row of the image where `core` begins.
            left: column of the image where `core` begins.
        """
        number = int(window.max(initial=0))
        offset = self._count - 1
        self._reserve(self._count + number)
        flat = core.ravel()
        names = slice(self._count, self._count + number)
        self._parents[names] = np.arange(names.start, names.stop)
        self._sizes[names] = np.bincount(flat, minlength=number + 1)[1:]
        # Of several values for one name the last is kept: from the end, the first.
        first = np.full(number + 1, -1)
        first[flat[::-1]] = np.arange(len(flat) - 1, -1, -1)
        y, x = np.divmod(first[1:], core.shape[1])
        place = (top + y) * self._width + left + x
        self._firsts[names] = np.where(first[1:] < 0, np.iinfo(np.int64).max, place)
        self._cut[names] = 0
        self._count += number
        return offset

    def cut(self, names: np.ndarray) -> None:
        """Note that a block saw no end of these objects; those outside it count not."""
        self._cut[names[(names > 0) & (self._sizes[names] > 0)]] = 1

    def meet(self, one: View, other: View) -> None:
        """Join the objects of two blocks where both look at the same pixels."""
        top, left = max(one.top, other.top), max(one.left, other.left)
        bottom = min(each.top + each.labels.shape[0] for each in (one, other))
        right = min(each.left + each.labels.shape[1] for each in (one, other))
        if top >= bottom or left >= right:
            return
        here = slice(top, bottom), slice(left, right)
        a, b = (each.part(*here) for each in (one, other))
        both = (a > 0) & (b > 0)
        if not both.any():
            return
        pairs = np.stack([a[both], b[both]], axis=1)
        pairs, common = np.unique(pairs, axis=0, return_counts=True)
        if self._share:
            size_a = dict(zip(*np.unique(a, return_counts=True), strict=True))
            size_b = dict(zip(*np.unique(b, return_counts=True), strict=True))
            either = [
                size_a[first] + size_b[second] - shared
                for (first, second), shared in zip(pairs, common, strict=True)
            ]
            pairs = pairs[common > self._share * np.asarray(either)]
        for first, second in pairs.tolist():
            low, high = sorted((self._root(first), self._root(second)))
            self._parents[high] = low

    def meet_all(self, ones: Iterable[View], others: Sequence[View]) -> None:
        """Join the objects on both sides of a seam between two parts."""
        for one in ones:
            for other in others:
                self.meet(one, other)

    def state(self) -> dict[str, np.ndarray]:
        """Return all that is known of the names, for another joiner to take in."""
        return {
            word: getattr(self, f"_{word}")[1 : self._count].copy() for word in _STATE
        }

    def take_in(self, state: Mapping[str, np.ndarray]) -> int:
        """Take in another part's names; return what is added to make them names here.

        >>> part, whole = Joiner(width=2, share=0), Joiner(width=2, share=0)
        >>> labels = np.array([[1, 2]])
        >>> _ = part.add(labels, labels, 0, 0)
        >>> whole.take_in(part.state()), whole.take_in(part.state())
        (0, 2)
        """
        offset, number = self._count - 1, len(state["parents"])
        self._reserve(self._count + number)
        names = slice(self._count, self._count + number)
        for word in _STATE:
            getattr(self, f"_{word}")[names] = state[word]
        self._parents[names] += offset
        self._count += number
        return offset

    def finish(self, min_size: int) -> tuple[np.ndarray, int, int]:
        """Return the label of every name, the number of objects and of those cut.

        Labels are numbered by their first pixel, row by row, so they do not depend on
        the blocks. Objects of fewer pixels than `min_size` become background.
        """
        names = np.arange(self._count)
        roots = self._parents[: self._count].copy()
        while True:  # a parent has a smaller name than its child
            higher = roots[roots]
            if (higher == roots).all():
                break
            roots = higher
        sizes = np.bincount(roots, self._sizes[: self._count], self._count)
        firsts = np.full(self._count, np.iinfo(np.int64).max)
        np.minimum.at(firsts, roots, self._firsts[: self._count])
        kept = (sizes >= max(1, min_size)) & (names > 0)
        order = np.flatnonzero(kept)
        order = order[np.argsort(firsts[order], kind="stable")]
        labels = np.zeros(self._count, np.uint32)
        labels[order] = np.arange(1, len(order) + 1)
        cut = np.unique(roots[self._cut[: self._count] > 0])
        return labels[roots], len(order), int(np.count_nonzero(labels[cut]))

    def _root(self, name: int) -> int:
        parents = self._parents
        while parents[name] != name:
            parents[name] = parents[parents[name]]
            name = int(parents[name])
        return name

    def _reserve(self, count: int) -> None:
        if count <= len(self._parents):
            return
        for word in ("_parents", "_firsts", "_sizes", "_cut"):
            old = getattr(self, word)
            new = np.zeros(max(count, 2 * len(old)), np.int64)
            new[: len(old)] = old
            setattr(self, word, new)
