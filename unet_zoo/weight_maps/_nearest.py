"""The exact distances from every pixel to the two nearest objects.

A squared distance is a sum over axes, so the smallest one is found axis by axis. The
same holds for the smallest one to another object than the nearest, if each pass
carries three images: the squared distance to the nearest object, which one it is, and
the squared distance to the nearest of all others. Every pass is a loop over shifts
within reach, of operations on whole images: its time does not depend on the number
of objects. Squares are whole numbers in few bits, of which a processor takes many
at once, and nothing is rounded.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Pixels that a sweep takes at once, so that what it works on stays in the cache.
_STRIP = 2**16


class Squares(NamedTuple):
    """Squared distances; divide by `unit` to have them in the unit of the steps."""

    first: np.ndarray
    second: np.ndarray
    unit: float


class _Images(NamedTuple):
    """Of every pixel: squared distance to the nearest object, which one, to others."""

    first: np.ndarray
    label: np.ndarray
    second: np.ndarray

    def with_axis(self, old: int, new: int) -> _Images:
        return _Images(*(np.moveaxis(image, old, new) for image in self))


class _Numbers(NamedTuple):
    """How squares are written: up to `none`, in `small`; and with a label, in `wide`.

    A square is the sum of `factors` times squared numbers of pixels. The labels'
    `bits` stand below it, so that the smallest of such keys brings its label.
    """

    none: int
    bits: int
    small: type[np.signedinteger]
    wide: type[np.signedinteger]
    factors: list[int]
    scale: int


def two_nearest(
    labels: np.ndarray, first: float, second: float, steps: np.ndarray
) -> Squares | None:
    """Return squared distances to the two nearest objects, None of less than two.

    Objects are the pixels of the same id above 0. Distances are exact up to `first`
    and up to `second`, which is no less; beyond, they may be too large or cut off.
    """
    smallest = float(steps.min())
    ratios = steps / smallest
    # No distance exceeds the diagonal.
    diagonal = float(np.hypot.reduce(np.asarray(labels.shape) * ratios))
    first, second = (min(reach / smallest, diagonal) for reach in (first, second))
    runs = _Runs(labels, int(second / ratios[-1]))
    if runs.ids < 2:
        return None
    numbers = _numbers(second, ratios, runs.ids)
    images = runs.spread(numbers.small, numbers.factors[-1])
    for axis in reversed(range(labels.ndim - 1)):
        last = labels.shape[axis] - 1
        far = min(int(second / ratios[axis]), last)
        # Until the last pass, what is nearest may become the second nearest.
        near = far if axis else min(int(first / ratios[axis]), last)
        swept = _sweep(images.with_axis(axis, 0), numbers, axis, near, far)
        images = swept.with_axis(0, axis)
    return Squares(images.first, images.second, numbers.scale / smallest**2)


def _numbers(reach: float, ratios: np.ndarray, ids: int) -> _Numbers:
    """Return the fewest bits in which squares up to that of `reach` are exact.

    They are whole numbers if squared ratios of the steps are, and 30 bits finer
    otherwise, as far as 64 bits suffice.
    """
    bits = ids.bit_length()
    # Along a line, the first pixel out of reach; sums stay below twice that.
    none = int((reach + ratios.max()) ** 2) + 1
    if np.allclose(ratios**2, np.rint(ratios**2), rtol=1e-12, atol=0):
        scale = 1
    else:
        scale = 2 ** max(0, min(30, 61 - bits - none.bit_length()))
    factors = [round(scale * ratio**2) for ratio in ratios]
    none *= scale
    needed = none.bit_length() + 1
    small, wide = _signed(needed), _signed(needed + bits)
    return _Numbers(none, bits, small, wide, factors, scale)


def _signed(bits: int) -> type[np.signedinteger]:
    """Return the smallest integers that hold so many bits and a sign."""
    return np.int16 if bits < 16 else np.int32 if bits < 32 else np.int64


class _Runs:
    """The runs of object pixels along the last axis, in the order of the pixels."""

    def __init__(self, labels: np.ndarray, reach: int) -> None:
        self.shape, self.reach = labels.shape, reach
        begins = np.ones(labels.shape, bool)
        np.not_equal(labels[..., 1:], labels[..., :-1], out=begins[..., 1:])
        starts = np.flatnonzero(begins)
        ends = np.append(starts[1:], labels.size) - 1
        values = labels.reshape(-1)[starts]
        objects = values > 0
        self.starts, self.ends = starts[objects], ends[objects]
        ids, self.names = np.unique(values[objects], return_inverse=True)
        self.ids: int = len(ids)

    def spread(self, small: type[np.signedinteger], factor: int) -> _Images:
        """Return the images of distances along the lines, of the size of labels."""
        width, size = self.shape[-1], int(np.prod(self.shape))
        nowhere = self.reach + 1
        # Where runs of one object follow each other, the next other one lies beyond.
        last = np.flatnonzero(self.names[1:] != self.names[:-1])
        together = np.diff(last, prepend=-1, append=len(self.names) - 1)
        before = np.repeat(np.append(-1, self.ends[last]), together)
        after = np.repeat(np.append(self.starts[last + 1], size), together)
        # A pixel belongs to the nearest run of its line; what belongs to one run is cut
        # into pieces where a line begins.
        ends, starts = self.ends[:-1], self.starts[1:]
        line = starts // width * width
        middles = np.where(ends < line, line, (ends + starts) // 2 + 1)
        pieces = np.sort(np.concatenate([np.arange(0, size, width), middles]))
        counts = np.diff(pieces, append=size)
        owner = np.searchsorted(middles, pieces, side="right")
        lines = pieces // width * width
        column = np.arange(width, dtype=_signed((width + 2 * nowhere).bit_length()))

        def each(values: np.ndarray) -> np.ndarray:
            return np.repeat(values, counts).reshape(self.shape)

        def left(places: np.ndarray) -> np.ndarray:
            """Return how far each pixel is from the place of its owner to its left."""
            place = np.minimum(places[owner] - lines, width + nowhere)
            place[place < 0] = -nowhere
            distance = each(place.astype(column.dtype))
            return np.subtract(column, distance, out=distance)

        def right(places: np.ndarray) -> np.ndarray:
            place = np.maximum(places[owner] - lines, -nowhere)
            place[place >= width] = width + nowhere
            distance = each(place.astype(column.dtype))
            return np.subtract(distance, column, out=distance)

        def squared(distance: np.ndarray) -> np.ndarray:
            square = np.clip(distance, 0, nowhere, out=distance).astype(small)
            square *= square
            if factor > 1:
                square *= small(factor)
            return square

        distance = right(self.starts)
        first = squared(np.maximum(distance, left(self.ends), out=distance))
        distance = right(after)
        second = squared(np.minimum(distance, left(before), out=distance))
        label = (self.names + 1).astype(_signed(self.ids.bit_length()))
        return _Images(first, each(label[owner]), second)


def _sweep(
    images: _Images, numbers: _Numbers, axis: int, near: int, far: int
) -> _Images:
    """Return the images with distances along `axis` added, which comes first in them.

    With a square s of the shift d, first(y) becomes the smallest first(y + d) + s, of
    shifts up to `near`, and label(y) its label. second(y) becomes the smallest such sum
    of what is not of this label, of shifts up to `far`. The images given may be the
    ones returned.
    """
    length = len(images.first)
    swept = _Images(*(np.ascontiguousarray(image) for image in images))
    flat = _Images(*(image.reshape(length, -1) for image in swept))
    blank = (numbers.none, 0, numbers.none)
    squares = [numbers.factors[axis] * d * d for d in range(far + 1)]
    columns = max(32, _STRIP // (length + 2 * far))
    for start in range(0, flat.first.shape[1], columns):
        strip = np.s_[:, start : start + columns]
        padded = _Images(
            *(
                np.pad(image[strip], ((far, far), (0, 0)), constant_values=fill)
                for image, fill in zip(flat, blank, strict=True)
            )
        )
        first, label = _nearest(padded, numbers, squares[: near + 1], far)
        flat.first[strip], flat.label[strip] = first, label
        flat.second[strip] = _others(padded, label, squares)
    return swept


def _nearest(
    padded: _Images, numbers: _Numbers, squares: list[int], far: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return `first` and `label` of `_sweep`, of one strip padded by `far`."""
    near = len(squares) - 1
    first, label = (image[far - near : len(image) - far + near] for image in padded[:2])
    length = len(first) - 2 * near
    keys = (first.astype(numbers.wide) << numbers.bits) | label
    best = keys[near:][:length].copy()
    sums = np.empty_like(best)
    for d in range(1, near + 1):
        np.minimum(keys[near - d :][:length], keys[near + d :][:length], out=sums)
        sums += numbers.wide(squares[d] << numbers.bits)
        np.minimum(best, sums, out=best)
    mask = numbers.wide(2**numbers.bits - 1)
    return best >> numbers.bits, (best & mask).astype(label.dtype)


def _others(padded: _Images, mine: np.ndarray, squares: list[int]) -> np.ndarray:
    """Return `second` of `_sweep`, of one strip whose nearest labels are `mine`."""
    far, length = len(squares) - 1, len(mine)
    same = np.empty(mine.shape, bool)
    best, above, below = np.empty((3, *mine.shape), padded.second.dtype)

    def other(shift: int, out: np.ndarray) -> np.ndarray:
        rows = slice(far + shift, far + shift + length)
        np.equal(padded.label[rows], mine, out=same)
        # The second is never less than the first, so no branch is needed to choose.
        np.multiply(padded.second[rows], same, out=out)
        return np.maximum(out, padded.first[rows], out=out)

    other(0, best)
    for d in range(1, far + 1):
        np.minimum(other(-d, above), other(d, below), out=above)
        above += best.dtype.type(squares[d])
        np.minimum(best, above, out=best)
    return best
