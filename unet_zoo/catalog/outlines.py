"""Outlines drawn by hand become label images: one id for each outline."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

# What happened to outlines, as it is told to their owner after a number.
OVERLAPS = "pixels lie in more than one outline and went to the smaller object"
HIDDEN = "outlines vanish below smaller ones"
TINY = "outlines cover no pixel or lie outside the image"
FLAT = "outlines without an area (points, lines, boxes alone) are left out"
IGNORED = "regions are not annotated (-1)"


@dataclasses.dataclass(frozen=True, eq=False)
class Outline:
    """One object, or one region.

    Attributes:
        polygons: each a list of rings, float (N, 2) of x and y in pixels from the
            image's upper left corner, so that the first pixel reaches from 0 to 1. A
            pixel is inside where its centre is inside an odd number of rings.
        runs: instead of polygons, how many pixels down the columns are outside and
            inside in turn.
        shape: (Y, X) of the image that the runs were made for; `draw` is to be given
            no other.
        role: "object", "ignore" (not annotated) or "region" (all around is not).
        page: of a stack, from 0; None: every page.
        plane: (z, t) of a stack in place of a page, from 0; None in it: every one.
    """

    polygons: Sequence[Sequence[np.ndarray]] = ()
    runs: Sequence[int] | None = None
    shape: tuple[int, int] | None = None
    role: str = "object"
    page: int | None = None
    plane: tuple[int | None, int | None] | None = None


def draw(
    outlines: Sequence[Outline], shape: tuple[int, int]
) -> tuple[np.ndarray, Counter[str]]:
    """Return int32 labels (Y, X) and how often what happened to outlines.

    Object n is the n-th outline. Where outlines overlap, the pixel belongs to the
    object of the smaller area, of equals to the later one, whatever their order: a
    nucleus drawn on its cell stays. Objects lie above what is to be ignored (-1).

    >>> square = np.array([[1, 1], [3, 1], [3, 3], [1, 3]])
    >>> labels, told = draw([Outline([[square]])], (4, 4))
    >>> labels[1:3, 1:3].tolist(), int(labels.sum()), dict(told)
    ([[1, 1], [1, 1]], 4, {})
    """
    labels = np.zeros(shape, np.int32)
    told: Counter[str] = Counter()
    cuts = [_cut(outline, shape) for outline in outlines]
    regions = [
        cut for cut, each in zip(cuts, outlines, strict=True) if each.role == "region"
    ]
    if regions:
        labels[...] = -1
        for place, inside in regions:
            labels[place][inside] = 0
    for (place, inside), outline in zip(cuts, outlines, strict=True):
        if outline.role == "ignore":
            labels[place][inside] = -1
    told[IGNORED] = sum(outline.role != "object" for outline in outlines)
    objects = [
        (int(inside.sum()), number, place, inside)
        for number, ((place, inside), outline) in enumerate(
            zip(cuts, outlines, strict=True), start=1
        )
        if outline.role == "object"
    ]
    for area, number, place, inside in sorted(objects, key=lambda each: -each[0]):
        told[TINY] += area == 0
        here = labels[place]
        told[OVERLAPS] += int(np.count_nonzero(here[inside] > 0))
        here[inside] = number
    visible = np.unique(labels[labels > 0]).size
    told[HIDDEN] = len(objects) - told[TINY] - visible
    return labels, +told  # without what never happened


def _cut(
    outline: Outline, shape: tuple[int, int]
) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return the part of the image that an outline reaches, and its pixels in it."""
    import skimage.draw

    if outline.runs is not None:
        return _box(bitmap(outline.runs, shape))
    points = [ring for rings in outline.polygons for ring in rings if len(ring) > 2]
    if not points:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    every = np.concatenate(points)
    # Clipped on both sides: whole numbers end before the coordinates of a file do.
    left, top = np.clip(np.floor(every.min(axis=0)), 0, shape[::-1]).astype(int)
    right, bottom = np.clip(np.ceil(every.max(axis=0)), 0, shape[::-1]).astype(int)
    size = (max(0, bottom - top), max(0, right - left))
    inside = np.zeros(size, bool)
    for rings in outline.polygons if inside.size else ():
        one = np.zeros(size, bool)
        for ring in rings:
            # Centres of pixels lie at halves of these coordinates.
            y, x = ring[:, 1] - 0.5 - top, ring[:, 0] - 0.5 - left
            one[skimage.draw.polygon(y, x, size)] ^= True
        inside |= one
    return (slice(top, top + size[0]), slice(left, left + size[1])), inside


def bitmap(runs: Sequence[int], shape: tuple[int, int]) -> np.ndarray:
    """Return the bool (Y, X) mask of runs of 0 and of 1 in turn, down the columns.

    >>> bitmap([1, 2, 3], (2, 3)).astype(int).tolist()
    [[0, 1, 0], [1, 0, 0]]
    """
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(shape, order="F")


def _box(mask: np.ndarray) -> tuple[tuple[slice, slice], np.ndarray]:
    """Return where a mask has pixels, and that part of it."""
    y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(y):
        return (slice(0, 0), slice(0, 0)), mask[:0, :0]
    place = slice(int(y[0]), int(y[-1]) + 1), slice(int(x[0]), int(x[-1]) + 1)
    return place, mask[place].copy()
