"""What every metric needs: pairs of frames, checked, counted and scored."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from unet_zoo.errors import InputError

NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Score:
    """A value, and how many reference objects in how many frames it stands on."""

    value: float
    objects: int
    frames: int


def score(part: float, whole: float, objects: int, frames: int) -> Score:
    """Return part / whole, or nan where there is nothing to divide by."""
    value = float(part / whole) if objects and whole else NAN
    return Score(value, objects, frames)


def pairs(
    reference: np.ndarray, prediction: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of labels that occur and how often, -1 in the reference not.

    Three arrays (pairs,): reference label, predicted label, pixels.
    """
    first, second = reference.ravel(), prediction.ravel()
    known = first >= 0
    if not known.all():
        first, second = first[known], second[known]
    if not first.size:
        return (np.zeros(0, np.int64),) * 3
    width = int(second.max()) + 1
    codes = first.astype(np.int64) * width + second.astype(np.int64)
    # Counting into a table is many times faster than sorting, while it is small.
    if (int(first.max()) + 1) * width <= 4 * codes.size:
        table = np.bincount(codes)
        found = np.flatnonzero(table)
        counts = table[found]
    else:
        found, counts = np.unique(codes, return_counts=True)
    return found // width, found % width, counts


def sums(labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids above 0 in ascending order and the sum of counts of each."""
    positive = labels > 0
    ids, places = np.unique(labels[positive], return_inverse=True)
    areas = np.bincount(places, counts[positive], minlength=len(ids))
    return ids, areas.astype(np.int64)


def frames(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the pairs of frames, or say what is wrong with which."""
    references, predictions = list(references), list(predictions)
    if len(references) != len(predictions):
        message = (
            "References and predictions must be as many. Received: "
            f"{len(references)} references, {len(predictions)} predictions."
        )
        raise InputError(message)
    if not references:
        message = "There is no frame to measure. Pass lists of at least one array."
        raise InputError(message)
    checked = []
    for index, two in enumerate(zip(references, predictions, strict=True)):
        reference, prediction = (
            _labels(labels, f"{name} {index}")
            for name, labels in zip(("Reference", "Prediction"), two, strict=True)
        )
        if reference.shape != prediction.shape:
            message = (
                f"Frame {index}: the reference has shape {reference.shape}, the "
                f"prediction {prediction.shape}. They must be the same size."
            )
            raise InputError(message)
        if prediction.size and prediction.min() < 0:
            message = (
                f"Prediction {index} holds {prediction.min()}; only references may "
                "say that something is not annotated. Were the two exchanged?"
            )
            raise InputError(message)
        checked.append((reference, prediction))
    return checked


def _labels(labels: np.ndarray, name: str) -> np.ndarray:
    """Return `labels` as an array, or say why they are none."""
    labels = np.asarray(labels)
    if labels.ndim != 2:
        message = (
            f"{name} must be an array (Y, X). Received shape {labels.shape}. Put a "
            "single frame in a list; pass a stack frame by frame."
        )
        raise InputError(message)
    if labels.dtype.kind not in "iu":
        message = (
            f"{name} must hold integer labels. Received dtype {labels.dtype}. Number "
            "the objects of a mask with skimage.measure.label."
        )
        raise InputError(message)
    if labels.size and labels.max() > np.iinfo(np.int32).max:
        message = (
            f"{name} holds the id {labels.max()}, above 2147483647. Renumber it with "
            "skimage.segmentation.relabel_sequential."
        )
        raise InputError(message)
    return labels
