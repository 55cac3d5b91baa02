"""How well predicted labels agree with reference labels.

Every metric takes two sequences of frames, integer arrays (Y, X): the references (0
background, one positive id per object, -1 not annotated) and the predictions (0
background, one positive id per object). Ids need not correspond. A frame's objects
are its own: the same id in another frame is another object.

Pixels of -1 in a reference count for nothing: they are taken out of both arrays
before anything is measured. A predicted object with more than half of its pixels
there is never counted as false, since nobody knows whether it is.

All frames are pooled before the division, so a frame with many objects weighs more
than one with few. Without any reference object a value is nan, and `objects` 0.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy import ndimage, sparse

from unet_zoo.errors import InputError

THRESHOLDS = tuple(round(0.5 + 0.05 * step, 2) for step in range(10))

_NAN = float("nan")


@dataclasses.dataclass(frozen=True)
class Score:
    """A value, and how many reference objects in how many frames it stands on."""

    value: float
    objects: int
    frames: int


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
    return _score(total, objects, objects, frames)


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
    return _score(create - min(repair, create), create, objects, frames)


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
        threshold: _score(hits[threshold], objects + false[threshold], objects, frames)
        for threshold in thresholds
    }


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
    return Score(right / every if every else _NAN, pixels.objects, pixels.frames)


def v_rand(
    references: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    thin: bool = True,
) -> Score:
    """Return V^Rand, the foreground-restricted Rand F-score, from 0 to 1.

    Of all pairs of pixels of one frame that lie in reference objects: the share of
    pairs that are together in both, against the mean of those together in the one
    and in the other. References of 0 (for membranes: the membrane) are left out.

    With `thin`, each pixel of 0 in a prediction first joins the nearest object, so
    that the width of predicted borders does not count: the watershed of the
    distance to the objects, without lines. The ISBI 2012 challenge thins to lines
    of one pixel instead and counts pixels on them as segments of their own. Without
    `thin`, and in frames without objects, predicted 0 is one segment like others;
    the result then is 1 - skimage.metrics.adapted_rand_error.

    >>> reference = np.array([[1, 1, 1, 0, 2, 2, 2]])
    >>> prediction = np.array([[4, 4, 0, 0, 0, 5, 5]])
    >>> v_rand([reference], [prediction]).value
    1.0
    >>> round(v_rand([reference], [prediction], thin=False).value, 4)
    0.4444

    Paper: Arganda-Carreras et al. 2015, https://doi.org/10.3389/fnana.2015.00142
    """
    together, apart, objects, frames = 0.0, 0.0, 0, 0
    for joint, reference, prediction in _partitions(references, predictions, thin):
        together += _pair_count(joint)
        apart += (_pair_count(reference) + _pair_count(prediction)) / 2
        objects += len(reference)
        frames += 1
    return _score(together, apart, objects, frames)


def v_info(
    references: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    thin: bool = True,
) -> Score:
    """Return V^Info, the foreground-restricted information F-score, from 0 to 1.

    2 I(S; T) / (H(S) + H(T)): the mutual information of the two partitions against
    the mean of their entropies. Both are summed over the frames, by their pixels in
    reference objects. 1 if neither partition parts anything. `thin` as in `v_rand`.

    >>> reference = np.array([[1, 1, 0, 2, 2]])
    >>> v_info([reference], [np.array([[1, 0, 0, 0, 2]])]).value
    1.0
    >>> v_info([reference], [np.array([[1, 1, 1, 1, 1]])]).value
    0.0

    Paper: Arganda-Carreras et al. 2015, https://doi.org/10.3389/fnana.2015.00142
    """
    mutual, entropy, objects, frames = 0.0, 0.0, 0, 0
    for joint, reference, prediction in _partitions(references, predictions, thin):
        both = _information(reference) + _information(prediction)
        mutual += both - _information(joint)
        entropy += both / 2
        objects += len(reference)
        frames += 1
    if objects and entropy == 0:
        return Score(1.0, objects, frames)
    return _score(mutual, entropy, objects, frames)


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
class _Overlap:
    """Which objects of a frame share how many pixels; only pairs that share any."""

    reference_ids: np.ndarray
    prediction_ids: np.ndarray
    hidden: np.ndarray  # per predicted object: mostly where nobody annotated
    rows: np.ndarray  # per pair: place in reference_ids
    columns: np.ndarray  # per pair: place in prediction_ids
    jaccard: np.ndarray  # per pair
    covering: np.ndarray  # per pair: shares more than half of the reference object

    @classmethod
    def of(cls, reference: np.ndarray, prediction: np.ndarray) -> _Overlap:
        """Measure one frame."""
        first, second, shared = _pairs(reference, prediction)
        reference_ids, reference_areas = _sums(first, shared)
        prediction_ids, prediction_areas = _sums(second, shared)
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
        for reference, prediction in _frames(references, predictions):
            first, second, shared = _pairs(reference, prediction)
            one, other = first > 0, second > 0
            both += int(shared[one & other].sum())
            differing += int(shared[one != other].sum())
            neither += int(shared[~one & ~other].sum())
            objects += len(np.unique(first[one]))
            frames += 1
        return cls(both, differing, neither, objects, frames)

    def score(self, part: int, whole: int) -> Score:
        """Return part / whole."""
        return _score(part, whole, self.objects, self.frames)


def _score(part: float, whole: float, objects: int, frames: int) -> Score:
    """Return part / whole, or nan where there is nothing to divide by."""
    value = float(part / whole) if objects and whole else _NAN
    return Score(value, objects, frames)


def _overlaps(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray]
) -> Iterator[_Overlap]:
    """Yield the overlap of each pair of frames."""
    for reference, prediction in _frames(references, predictions):
        yield _Overlap.of(reference, prediction)


def _partitions(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray], thin: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, per frame, the areas of pairs, of reference and of predicted segments."""
    for reference, prediction in _frames(references, predictions):
        grown = _grown(prediction) if thin else prediction
        first, second, shared = _pairs(reference, grown)
        inside = first > 0
        # Shifted by one, 0 is a segment like the others.
        _, segments = _sums(second[inside] + 1, shared[inside])
        yield shared[inside], _sums(first, shared)[1], segments


def _grown(labels: np.ndarray) -> np.ndarray:
    """Return labels with each background pixel given to the object nearest to it."""
    background = labels == 0
    if background.all() or not background.any():
        return labels
    rows, columns = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )
    return labels[rows, columns]


def _pair_count(areas: np.ndarray) -> float:
    """Return in how many ordered ways two pixels of the same segment can be drawn."""
    areas = areas.astype(np.float64)
    return float((areas * (areas - 1)).sum())


def _information(areas: np.ndarray) -> float:
    """Return entropy times pixels: how much the segments tell about all of them."""
    if len(areas) < 2:
        return 0.0
    return float(-(areas * np.log(areas / areas.sum())).sum())


def _pairs(
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


def _sums(labels: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids above 0 in ascending order and the sum of counts of each."""
    positive = labels > 0
    ids, places = np.unique(labels[positive], return_inverse=True)
    areas = np.bincount(places, counts[positive], minlength=len(ids))
    return ids, areas.astype(np.int64)


def _frames(
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
    pairs = []
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
        pairs.append((reference, prediction))
    return pairs


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
