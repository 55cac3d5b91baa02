"""Seeded watershed that asks two questions before it keeps two neighbours apart."""

from __future__ import annotations

import heapq

import numpy as np

# Mean probability of a touching border, along a common boundary, that parts objects.
_BORDER = 0.45
# No two peaks nearer than this many pixels. Noise of a flat top makes them too, but
# those are joined again; objects of a few pixels that share a peak are not parted.
_APART = 3


def basins(
    height: np.ndarray,
    border: np.ndarray,
    foreground: np.ndarray,
    *,
    lowest: float,
    dip: float,
) -> np.ndarray:
    """Return one object per peak of `height`, peaks of one object joined.

    Every peak floods its basin within the foreground. Then the neighbours with the
    least reason to be two are joined, one pair after the other, for as long as there
    are neighbours between which the height falls by less than `dip` from the lower
    peak and along whose boundary hardly any border was seen.

    Args:
        height: float (Y, X), high inside objects.
        border: float (Y, X) in [0, 1], how likely two objects touch here.
        foreground: bool (Y, X).
        lowest: a peak is higher than this.
        dip: how far the height falls between two objects, in units of `height`.

    Returns:
        int32 (Y, X), ids not dense, 0 outside the foreground and where no peak floods.

    Example:
        >>> two = np.asarray([0.2, 0.6, 1.0, 0.8, 0.7, 0.8, 0.9, 0.5, 0.2])
        >>> ridge = two.repeat(5)[None].repeat(9, axis=0)
        >>> none = np.zeros_like(ridge)
        >>> for dip in (0.1, 0.3):
        ...     found = basins(ridge, none, ridge > 0, lowest=0.1, dip=dip)
        ...     print(len(np.unique(found)))
        2
        1
    """
    import skimage.feature
    import skimage.segmentation

    peaks = skimage.feature.peak_local_max(
        height,
        min_distance=_APART,
        threshold_abs=lowest,
        labels=foreground.astype("uint8"),
        exclude_border=False,
    )
    markers = np.zeros(height.shape, "int32")
    markers[tuple(peaks.T)] = np.arange(1, len(peaks) + 1)
    labels = skimage.segmentation.watershed(-height, markers, mask=foreground)
    return _joined(labels.astype("int32"), height, border, dip)


def _joined(
    labels: np.ndarray, height: np.ndarray, border: np.ndarray, dip: float
) -> np.ndarray:
    count = int(labels.max(initial=0))
    names = np.arange(count + 1, dtype="int32")
    if count < 2:
        return labels
    highest = np.full(count + 1, -np.inf, height.dtype)
    inside = labels > 0
    np.maximum.at(highest, labels[inside], height[inside])
    tops = highest.tolist()
    # shared[a][b] and shared[b][a] are the boundary of a and b.
    shared: list[dict[int, tuple[float, float, float]]] = [{} for _ in names]
    for (a, b), boundary in _boundaries(labels, height, border).items():
        shared[a][b] = shared[b][a] = boundary

    def reason(a: int, b: int) -> float:
        """Return how much speaks for two objects; below 1 is too little."""
        length, seen, saddle = shared[a][b]
        fall = min(tops[a], tops[b]) - saddle
        return max(fall / dip, seen / length / _BORDER)

    # What is said of a pair changes as its objects grow: what was true when it was put
    # here is asked again when its turn comes.
    turns = [
        (reason(a, b), a, b) for a, near in enumerate(shared) for b in near if a < b
    ]
    heapq.heapify(turns)
    while turns and turns[0][0] < 1:
        before, kept, gone = heapq.heappop(turns)
        if gone not in shared[kept] or reason(kept, gone) != before:
            continue
        names[names == gone] = kept
        tops[kept] = max(tops[kept], tops[gone])
        # The boundaries of the one that is gone are now the other's.
        for other, (length, seen, saddle) in shared[gone].items():
            del shared[other][gone]
            if other == kept:
                continue
            more = shared[kept].get(other, (0.0, 0.0, -np.inf))
            shared[kept][other] = shared[other][kept] = (
                length + more[0],
                seen + more[1],
                max(saddle, more[2]),
            )
        shared[gone] = {}
        for other in shared[kept]:
            pair = min(kept, other), max(kept, other)
            heapq.heappush(turns, (reason(*pair), *pair))
    return names[labels]


def _boundaries(
    labels: np.ndarray, height: np.ndarray, border: np.ndarray
) -> dict[tuple[int, int], tuple[float, float, float]]:
    """Return, for each two neighbours, length, summed border and highest saddle."""
    pairs, seen, saddles = [], [], []
    base = np.int64(labels.max(initial=0)) + 1
    for here, there in (
        (np.s_[:-1, :], np.s_[1:, :]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        a, b = labels[here], labels[there]
        meet = (a != b) & (a > 0) & (b > 0)
        a, b = a[meet], b[meet]
        # A pair as one number: numpy sorts numbers far faster than rows.
        pairs.append(np.minimum(a, b) * base + np.maximum(a, b))
        seen.append(np.maximum(border[here][meet], border[there][meet]))
        saddles.append(np.minimum(height[here][meet], height[there][meet]))
    which, index = np.unique(np.concatenate(pairs), return_inverse=True)
    length = np.bincount(index, minlength=len(which))
    total = np.bincount(index, np.concatenate(seen), minlength=len(which))
    highest = np.full(len(which), -np.inf)
    np.maximum.at(highest, index, np.concatenate(saddles))
    return {
        divmod(pair, int(base)): (float(n), float(s), float(h))
        for pair, n, s, h in zip(which.tolist(), length, total, highest, strict=True)
    }
