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

# Columns that a sweep takes at once, so that what it works on stays in the cache.
_STRIP = 192


class Squares(NamedTuple):
    """Squared distances; divide by `unit` to have them in the unit of the steps."""

    first: np.ndarray
    second: np.ndarray
    none: int
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
    and up to `second`, which is no less; beyond, they may be too large, and they are
    `none` at most.
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
    unit = numbers.scale / smallest**2
    return Squares(images.first, images.second, numbers.none, unit)


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
    """The runs of object pixels along the last axis, all lines laid end to end.

    Between lines lies more than `reach` of nothing, so that none sees another.
    """

    def __init__(self, labels: np.ndarray, reach: int) -> None:
        width = labels.shape[-1]
        self.shape = (*labels.shape[:-1], width + reach + 1)
        self.width, self.reach = width, reach
        lines = np.zeros(self.shape, labels.dtype)
        np.maximum(labels, 0, out=lines[..., :width])
        flat = lines.reshape(-1)
        edges = np.flatnonzero(flat[1:] != flat[:-1]) + 1
        if flat[:1].any():
            edges = np.concatenate([[0], edges])
        values = flat[edges]
        own = np.flatnonzero(values)
        # Every line ends in nothing, so every run has an edge after it.
        self.starts, self.ends = edges[own], edges[own + 1] - 1
        ids, self.names = np.unique(values[own], return_inverse=True)
        self.ids: int = len(ids)

    def spread(self, small: type[np.signedinteger], factor: int) -> _Images:
        """Return the images of distances along the lines, of the size of labels."""
        size = int(np.prod(self.shape))
        # Differences need one bit more than places.
        places = _signed(max(16, size.bit_length() + 1))
        starts, ends = self.starts.astype(places), self.ends.astype(places)
        nowhere = self.reach + 1
        # Where runs of one object follow each other, the next other one lies beyond.
        last = np.flatnonzero(self.names[1:] != self.names[:-1])
        together = np.diff(last, prepend=-1, append=len(starts) - 1)
        before = np.repeat(np.r_[places(-nowhere), ends[last]], together)
        after = np.repeat(np.r_[starts[last + 1], places(size + nowhere)], together)
        # Every pixel belongs to the run that is nearest.
        middles = (ends[:-1] + starts[1:]) // 2 + 1
        counts = np.diff(middles, prepend=0, append=size)

        def lines(values: np.ndarray) -> np.ndarray:
            return values.reshape(self.shape)[..., : self.width]

        def squared(distance: np.ndarray) -> np.ndarray:
            np.minimum(distance, nowhere, out=distance)
            square = lines(distance).astype(small)
            square *= square
            if factor > 1:
                square *= small(factor)
            return square

        def each(values: np.ndarray) -> np.ndarray:
            return np.repeat(values, counts)

        at = np.arange(size, dtype=places)
        outside = np.maximum(each(starts) - at, at - each(ends))
        first = squared(np.maximum(outside, 0, out=outside))
        second = squared(np.minimum(at - each(before), each(after) - at, out=outside))
        label = (self.names + 1).astype(_signed(self.ids.bit_length()))
        return _Images(first, lines(each(label)), second)


def _sweep(
    images: _Images, numbers: _Numbers, axis: int, near: int, far: int
) -> _Images:
    """Return the images with distances along `axis` added, which comes first in them.

    With a square s of the shift d, first(y) becomes the smallest first(y + d) + s, of
    shifts up to `near`, and label(y) its label. second(y) becomes the smallest such sum
    of what is not of this label, of shifts up to `far`.
    """
    length = len(images.first)
    swept = _Images(*(np.empty(image.shape, image.dtype) for image in images))
    inputs = _Images(*(image.reshape(length, -1) for image in images))
    outputs = _Images(*(image.reshape(length, -1) for image in swept))
    blank = (numbers.none, 0, numbers.none)
    squares = [numbers.factors[axis] * d * d for d in range(far + 1)]
    for start in range(0, inputs.first.shape[1], _STRIP):
        strip = np.s_[:, start : start + _STRIP]
        padded = _Images(
            *(
                np.pad(image[strip], ((far, far), (0, 0)), constant_values=fill)
                for image, fill in zip(inputs, blank, strict=True)
            )
        )
        first, label = _nearest(padded, numbers, squares[: near + 1], far)
        outputs.first[strip], outputs.label[strip] = first, label
        outputs.second[strip] = _others(padded, label, squares)
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
