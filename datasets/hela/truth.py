"""What the Cell Tracking Challenge's annotations say, and what they leave open.

Gold truth outlines cells well but not all of them; silver truth, computed from the
submissions, outlines most; the tracking markers touch every cell. A cell that has a
marker but no outline is not background: here it becomes -1, "not annotated".
Needs numpy and scipy only, and works for every 2D data set of the challenge.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.ndimage


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """What is known about one frame; label images are int32 (Y, X), -1 unknown."""

    silver: np.ndarray
    gold: np.ndarray
    labels: np.ndarray
    complete: bool


def uncovered(markers: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return the ids of the markers of which less than half lies in an object.

    >>> uncovered(np.array([[1, 1, 2, 2, 2]]), np.array([[7, 0, 0, 0, 7]]))
    array([2])
    """
    total = np.bincount(markers.ravel())
    inside = np.bincount(markers[objects > 0].ravel(), minlength=total.size)
    ids = np.arange(total.size)
    return ids[(ids > 0) & (total > 0) & (2 * inside < total)]


def reach(largest: int) -> float:
    """Return how far from its marker an unannotated cell may extend, in pixels.

    1.5 times the radius of a disc as large as the sequence's largest annotated cell:
    wide on purpose, since calling a cell background is worse than ignoring background.

    >>> round(reach(314), 1)
    15.0
    """
    return 1.5 * float(np.sqrt(largest / np.pi))


def largest_area(labels: np.ndarray) -> int:
    """Return the area of the largest object, 0 where there is none."""
    areas = np.bincount(labels[labels > 0].ravel())
    return int(areas.max()) if areas.size else 0


def unannotated(
    objects: np.ndarray,
    markers: np.ndarray,
    distance: float,
    hints: np.ndarray | None = None,
) -> np.ndarray:
    """Return `objects` with -1 where a cell without an outline may lie.

    These are the background pixels within `distance` of a marker that no object
    covers, and those of the object in `hints` that covers the marker.
    """
    missing = uncovered(markers, objects)
    if not missing.size:
        return objects.astype("int32")
    seeds = np.isin(markers, missing)
    unknown = scipy.ndimage.distance_transform_edt(~seeds) <= distance
    if hints is not None:
        seen = np.setdiff1d(missing, uncovered(markers, hints))
        covering = [_most_frequent(hints[markers == marker]) for marker in seen]
        unknown |= np.isin(hints, covering)
    return np.where(unknown & (objects == 0), -1, objects).astype("int32")


def merge(silver: np.ndarray, gold: np.ndarray) -> np.ndarray:
    """Return silver objects with the gold ones laid over them.

    A silver object more than half of which is gold is the same cell: it goes, and the
    gold outline stands for it. Ids stay unique: gold ones are numbered after silver's.

    >>> merge(np.array([[1, 1, 1, 0, 2]]), np.array([[0, 4, 4, 4, 0]]))
    array([[0, 3, 3, 3, 2]], dtype=int32)
    """
    gilded = gold > 0
    areas = np.bincount(silver.ravel())
    shared = np.bincount(silver[gilded].ravel(), minlength=areas.size)
    merged = np.where((2 * shared > areas)[silver], 0, silver)
    ids, position = np.unique(gold[gilded], return_inverse=True)
    merged[gilded] = (np.arange(ids.size) + 1 + int(silver.max(initial=0)))[position]
    return merged.astype("int32")


def frame(
    silver: np.ndarray | None,
    gold: np.ndarray | None,
    markers: np.ndarray | None,
    distance: float,
) -> Truth:
    """Return the truth of one frame from the challenge's label images, (Y, X) each.

    `labels` is what to learn from: gold where it outlines every cell of the frame, else
    gold laid over silver. Give silver, gold or both. Without `markers` nothing tells
    which cells are left out: there is no -1, and gold counts as complete where it
    stands alone. `distance` is `reach` of the sequence's largest gold cell.
    """
    known = [each for each in (silver, gold) if each is not None]
    silver, gold = (
        np.zeros_like(known[0]) if each is None else each for each in (silver, gold)
    )
    if markers is None:
        best = known[0] if len(known) == 1 else merge(silver, gold)
        complete = best is gold
        return Truth(
            silver=silver.astype("int32"),
            gold=gold.astype("int32"),
            labels=best.astype("int32"),
            complete=complete,
        )
    if not gold.any():
        labels = unannotated(silver, markers, distance)
        return Truth(
            silver=labels, gold=gold.astype("int32"), labels=labels, complete=False
        )
    complete = not uncovered(markers, gold).size
    best = gold if complete else merge(silver, gold)
    return Truth(
        silver=unannotated(silver, markers, distance),
        gold=unannotated(gold, markers, distance, hints=silver),
        labels=unannotated(best, markers, distance),
        complete=complete,
    )


def _most_frequent(values: np.ndarray) -> int:
    return int(np.bincount(values[values > 0].ravel()).argmax())
