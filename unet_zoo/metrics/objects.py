"""Metrics of objects: which of them were found, and how well."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy import sparse

from unet_zoo.errors import InputError
from unet_zoo.metrics import _frames
from unet_zoo.metrics._frames import Score

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))


def seg(references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> Score:
    """Return SEG of the Cell Tracking Challenge, from 0 to 1.

    The mean Jaccard index over all reference objects of all frames. A reference
    object R is matched by the predicted object S that covers more than half of it,
    |R and S| > 0.5 |R| (there is at most one), and scores |R and S| / |R or S|, or
    0 if there is none. Predicted objects beyond those cost nothing; see `det`.

    >>> reference = np.array([[1, 1, 1, 0, 2, 2]])
    >>> prediction = np.array([[7, 7, 0, 0, 0, 0]])
    >>> round(seg([reference], [prediction]).value, 4)
    0.3333

    Paper: Maska et al. 2014, https://doi.org/10.1093/bioinformatics/btu080
    """
    total, objects, frames = 0.0, 0, 0
    for overlap in _overlaps(references, predictions):
        total += float(overlap.jaccard[overlap.covering].sum())
        objects += len(overlap.reference_ids)
        frames += 1
    return _frames.score(total, objects, objects, frames)


def det(markers: Sequence[np.ndarray], predictions: Sequence[np.ndarray]) -> Score:
    """Return DET of the Cell Tracking Challenge, from 0 to 1.

    1 - min(D, D0) / D0 with D = 5 NS + 10 FN + 1 FP, the cost of repairing the
    detections, and D0 = 10 * (number of markers), that of making all of them. A
    marker is found by the predicted object that covers more than half of it. FN are
    the markers not found, FP the predicted objects that found none, and NS counts,
    for each that found several, how many too many. `markers` are the tracking truth
    (TRA) of all frames, which names every cell.

    >>> markers = np.array([[1, 0, 2, 0, 3]])
    >>> merged = np.array([[5, 5, 5, 0, 0]])
    >>> det([markers], [merged]).value
    0.5

    Paper: Matula et al. 2015, https://doi.org/10.1371/journal.pone.0144959
    """
    splits, missed, false, objects, frames = 0, 0, 0, 0, 0
    for overlap in _overlaps(markers, predictions):
        finder = overlap.columns[overlap.covering]
        found = np.bincount(finder, minlength=len(overlap.prediction_ids))
        splits += int(np.maximum(found - 1, 0).sum())
        missed += len(overlap.reference_ids) - len(finder)
        false += int(np.count_nonzero((found == 0) & ~overlap.hidden))
        objects += len(overlap.reference_ids)
        frames += 1
    repair, create = 5 * splits + 10 * missed + false, 10 * objects
    return _frames.score(create - min(repair, create), create, objects, frames)


def average_precision(
    references: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    thresholds: Iterable[float] = THRESHOLDS,
) -> dict[float, Score]:
    """Return TP / (TP + FP + FN) at each threshold of the intersection over union.

    What Cellpose, StarDist and the Data Science Bowl 2018 call average precision
    (other fields mean the area under a curve by it). A reference and a predicted
    object can be matched if their intersection over union is at least the
    threshold, each to one at most. Above 0.5 no object has two candidates; at 0.5
    and below it can, and the matching with most pairs is taken. Counts are summed
    over the frames before dividing, as StarDist does; Cellpose gives one value per
    image. The default thresholds are 0.5, 0.55, ... 0.95.

    >>> reference = np.array([[1, 1, 1, 1, 0, 2, 2]])
    >>> prediction = np.array([[3, 3, 3, 0, 0, 4, 4]])
    >>> scores = average_precision([reference], [prediction], thresholds=(0.5, 0.9))
    >>> {threshold: round(score.value, 4) for threshold, score in scores.items()}
    {0.5: 1.0, 0.9: 0.3333}
    """
    thresholds = tuple(thresholds)
    for threshold in thresholds:
        if not 0 < threshold <= 1:
            message = (
                "`thresholds` must be above 0 and at most 1, as an intersection over "
                f"union is. Received: {threshold}"
            )
            raise InputError(message)
    hits, false = dict.fromkeys(thresholds, 0), dict.fromkeys(thresholds, 0)
    objects, frames = 0, 0
    for overlap in _overlaps(references, predictions):
        objects += len(overlap.reference_ids)
        frames += 1
        for threshold in thresholds:
            matched = overlap.matched(threshold)
            hits[threshold] += int(np.count_nonzero(matched))
            false[threshold] += int(np.count_nonzero(~matched & ~overlap.hidden))
    return {
        threshold: _frames.score(
            hits[threshold], objects + false[threshold], objects, frames
        )
        for threshold in thresholds
    }


def per_object(reference: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return for each object of one reference frame what SEG made of it.

    A structured array, one row per object in ascending order of ids, with the fields
    `id`, `matched` (the predicted id that covers more than half of it, else 0) and
    `jaccard` (0 without a match). The mean of `jaccard` is the frame's SEG.

    >>> reference = np.array([[1, 1, 1, 0, 2, 2]])
    >>> per_object(reference, np.array([[7, 7, 0, 0, 0, 0]])).tolist()
    [(1, 7, 0.6666666666666666), (2, 0, 0.0)]
    """
    (overlap,) = _overlaps([reference], [prediction])
    fields = [("id", np.int64), ("matched", np.int64), ("jaccard", np.float64)]
    result = np.zeros(len(overlap.reference_ids), fields)
    result["id"] = overlap.reference_ids
    rows, columns = overlap.rows[overlap.covering], overlap.columns[overlap.covering]
    result["matched"][rows] = overlap.prediction_ids[columns]
    result["jaccard"][rows] = overlap.jaccard[overlap.covering]
    return result


@dataclasses.dataclass(frozen=True)
class ObjectErrors:
    """What became of reference objects, and what was found where there is none.

    `found + missed + merged + split` is `objects`; `extra` counts predicted objects.
    `jaccard` has a value for each reference object, as SEG has it: 0 without a match.
    """

    objects: int
    found: int
    missed: int
    merged: int
    split: int
    extra: int
    jaccard: np.ndarray


def object_errors(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
) -> ObjectErrors:
    """Return how many objects were found, missed, merged, split or made up.

    A reference object that a predicted one covers by more than half is merged if the
    same predicted object covers another one too. Of the others, one that holds more
    than half of each of two or more predicted objects is split; else it is found if it
    is covered, and missed if not. A predicted object is extra if it neither covers a
    reference object nor lies in one by more than half.

    >>> reference = np.array([[1, 1, 1, 0, 2, 2, 3, 3, 0, 4, 4, 4, 4, 0, 0]])
    >>> prediction = np.array([[5, 5, 5, 0, 6, 6, 6, 6, 0, 7, 7, 8, 8, 0, 9]])
    >>> errors = object_errors([reference], [prediction])
    >>> errors.found, errors.merged, errors.split, errors.missed, errors.extra
    (1, 2, 1, 0, 1)
    """
    totals = dict.fromkeys(("found", "missed", "merged", "split", "extra"), 0)
    jaccard = [np.zeros(0)]
    for overlap in _overlaps(references, predictions):
        count, predicted = len(overlap.reference_ids), len(overlap.prediction_ids)
        rows = overlap.rows[overlap.covering]
        columns = overlap.columns[overlap.covering]
        jaccard.append(np.zeros(count))
        jaccard[-1][rows] = overlap.jaccard[overlap.covering]
        covered = np.zeros(count, bool)
        covered[rows] = True
        covers = np.bincount(columns, minlength=predicted)
        merged = np.zeros(count, bool)
        merged[rows] = covers[columns] > 1
        holds = np.bincount(overlap.rows[overlap.inside], minlength=count)
        split = ~merged & (holds > 1)
        whole = covered & ~merged & ~split
        extra = (covers == 0) & ~overlap.hidden
        extra[overlap.columns[overlap.inside]] = False
        missed = ~covered & ~split
        for name, each in zip(
            totals, (whole, missed, merged, split, extra), strict=True
        ):
            totals[name] += int(np.count_nonzero(each))
    values = np.concatenate(jaccard)
    return ObjectErrors(objects=len(values), **totals, jaccard=values)


@dataclasses.dataclass(frozen=True)
class _Overlap:
    """Which objects of a frame share how many pixels; only pairs that share any."""

    reference_ids: np.ndarray
    prediction_ids: np.ndarray
    hidden: np.ndarray  # per predicted object: mostly where nobody annotated
    rows: np.ndarray  # per pair: place in reference_ids
    columns: np.ndarray  # per pair: place in prediction_ids
    jaccard: np.ndarray  # per pair
    covering: np.ndarray  # per pair: shares more than half of the reference object
    inside: np.ndarray  # per pair: shares more than half of the predicted object

    @classmethod
    def of(cls, reference: np.ndarray, prediction: np.ndarray) -> _Overlap:
        """Measure one frame."""
        first, second, shared = _frames.pairs(reference, prediction)
        reference_ids, reference_areas = _frames.sums(first, shared)
        prediction_ids, prediction_areas = _frames.sums(second, shared)
        hidden = np.zeros(len(prediction_ids), bool)
        if (reference < 0).any():
            ids, areas = np.unique(prediction, return_counts=True)
            whole = areas[np.searchsorted(ids, prediction_ids)]
            hidden = 2 * prediction_areas < whole
        both = (first > 0) & (second > 0)
        rows = np.searchsorted(reference_ids, first[both])
        columns = np.searchsorted(prediction_ids, second[both])
        shared = shared[both]
        united = reference_areas[rows] + prediction_areas[columns] - shared
        return cls(
            reference_ids=reference_ids,
            prediction_ids=prediction_ids,
            hidden=hidden,
            rows=rows,
            columns=columns,
            jaccard=shared / united,
            covering=2 * shared > reference_areas[rows],
            inside=2 * shared > prediction_areas[columns],
        )

    def matched(self, threshold: float) -> np.ndarray:
        """Return which predicted objects have a partner, in a largest matching."""
        result = np.zeros(len(self.prediction_ids), bool)
        possible = self.jaccard >= threshold
        rows, columns = self.rows[possible], self.columns[possible]
        if threshold <= 0.5 and len(rows):
            shape = len(self.reference_ids), len(self.prediction_ids)
            graph = sparse.csr_array((np.ones(len(rows)), (rows, columns)), shape)
            columns = sparse.csgraph.maximum_bipartite_matching(graph, "column")
            columns = columns[columns >= 0]
        result[columns] = True
        return result


def _overlaps(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
) -> Iterator[_Overlap]:
    """Yield the overlap of each pair of frames."""
    for reference, prediction in _frames.frames(references, predictions):
        yield _Overlap.of(reference, prediction)
