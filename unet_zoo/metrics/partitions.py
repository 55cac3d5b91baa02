"""Metrics of partitions: which pixels are together, for membranes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from scipy import ndimage

from unet_zoo.metrics import _frames
from unet_zoo.metrics._frames import Score


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
    parts, objects = [], 0
    for joint, reference, prediction in _partitions(references, predictions, thin):
        parts.append(_rand_parts(joint, reference, prediction))
        objects += len(reference)
    together, apart = np.sum(parts, axis=0)
    return _frames.score(together, apart, objects, len(parts))


def v_rand_parts(
    references: Sequence[np.ndarray],
    predictions: Sequence[np.ndarray],
    thin: bool = True,
) -> np.ndarray:
    """Return float (frames, 2): what V^Rand sums over the frames, and divides by.

    >>> reference = np.array([[1, 1, 1, 0, 2, 2, 2]])
    >>> part, whole = v_rand_parts([reference], [np.array([[4, 4, 0, 0, 0, 5, 5]])])[0]
    >>> float(part / whole)
    1.0
    """
    found = _partitions(references, predictions, thin)
    return np.array([_rand_parts(*each) for each in found], float).reshape(-1, 2)


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
    return _frames.score(mutual, entropy, objects, frames)


def _partitions(
    references: Sequence[np.ndarray], predictions: Sequence[np.ndarray], thin: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield, per frame, the areas of pairs, of reference and of predicted segments."""
    for reference, prediction in _frames.frames(references, predictions):
        grown = _grown(prediction) if thin else prediction
        first, second, shared = _frames.pairs(reference, grown)
        inside = first > 0
        # Shifted by one, 0 is a segment like the others.
        _, segments = _frames.sums(second[inside] + 1, shared[inside])
        yield shared[inside], _frames.sums(first, shared)[1], segments


def _grown(labels: np.ndarray) -> np.ndarray:
    """Return labels with each background pixel given to the object nearest to it."""
    background = labels == 0
    if background.all() or not background.any():
        return labels
    rows, columns = ndimage.distance_transform_edt(
        background, return_distances=False, return_indices=True
    )
    return labels[rows, columns]


def _rand_parts(
    joint: np.ndarray, reference: np.ndarray, prediction: np.ndarray
) -> tuple[float, float]:
    whole = (_pair_count(reference) + _pair_count(prediction)) / 2
    return _pair_count(joint), whole


def _pair_count(areas: np.ndarray) -> float:
    """Return in how many ordered ways two pixels of the same segment can be drawn."""
    areas = areas.astype(np.float64)
    return float((areas * (areas - 1)).sum())


def _information(areas: np.ndarray) -> float:
    """Return entropy times pixels: how much the segments tell about all of them."""
    if len(areas) < 2:
        return 0.0
    return float(-(areas * np.log(areas / areas.sum())).sum())
