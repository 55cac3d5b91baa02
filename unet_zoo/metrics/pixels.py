"""Metrics of pixels: foreground or not, whatever the object."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from unet_zoo.metrics import _frames
from unet_zoo.metrics._frames import Score


def dice(references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> Score:
    """Return the Dice coefficient of the foreground (labels above 0), from 0 to 1.

    2 |R and S| / (|R| + |S|) over all pixels of all frames; the F1 score of pixels.

    >>> dice([np.array([[1, 1, 0, 0]])], [np.array([[0, 5, 5, 0]])]).value
    0.5
    """
    pixels = _Pixels.of(references, predictions)
    return pixels.score(2 * pixels.both, 2 * pixels.both + pixels.differing)


def iou(references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> Score:
    """Return the intersection over union of the foreground (labels above 0).

    |R and S| / |R or S| over all pixels of all frames; also called Jaccard index.

    >>> round(iou([np.array([[1, 1, 0, 0]])], [np.array([[0, 5, 5, 0]])]).value, 4)
    0.3333
    """
    pixels = _Pixels.of(references, predictions)
    return pixels.score(pixels.both, pixels.both + pixels.differing)


def pixel_accuracy(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
) -> Score:
    """Return the share of pixels rightly called foreground or background.

    Needs no objects: nan only if no pixel is annotated. Compare it with the share of
    the commoner class, which a prediction of that class alone reaches.

    >>> pixel_accuracy([np.array([[1, 1, 0, 0]])], [np.array([[0, 5, 5, 0]])]).value
    0.5
    """
    pixels = _Pixels.of(references, predictions)
    right = pixels.both + pixels.neither
    every = right + pixels.differing
    return Score(right / every if every else _frames.NAN, pixels.objects, pixels.frames)


@dataclasses.dataclass(frozen=True)
class _Pixels:
    """How many pixels of all frames are foreground in both, one or none."""

    both: int
    differing: int
    neither: int
    objects: int
    frames: int

    @classmethod
    def of(
        cls, references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
    ) -> _Pixels:
        """Count them."""
        both, differing, neither, objects, frames = 0, 0, 0, 0, 0
        for reference, prediction in _frames.frames(references, predictions):
            first, second, shared = _frames.pairs(reference, prediction)
            one, other = first > 0, second > 0
            both += int(shared[one & other].sum())
            differing += int(shared[one != other].sum())
            neither += int(shared[~one & ~other].sum())
            objects += len(np.unique(first[one]))
            frames += 1
        return cls(both, differing, neither, objects, frames)

    def score(self, part: int, whole: int) -> Score:
        """Return part / whole."""
        return _frames.score(part, whole, self.objects, self.frames)
