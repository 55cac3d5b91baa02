"""Objects through time: linked by overlap, written as the Cell Tracking Challenge."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_zoo import files, images
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    from unet_zoo.outputs.result import Result

# Of the smaller of two objects, at least so much lies in both for them to be one.
SHARED = 0.25
# A daughter is at least so large beside the largest; what is smaller is a fragment.
DAUGHTER = 0.25
_MOST = np.iinfo(np.uint16).max


class Tracks:
    """Gives objects of one frame after another the numbers of their tracks.

    An object goes on as the one of the next frame that shares most pixels with it, and
    at least a quarter of the smaller of the two. Where two or more objects of
    similar size come of one, its track ends and they are its daughters. An object that
    was away for a frame begins a new track.

    >>> tracks = Tracks()
    >>> first = tracks.add(np.array([[1, 1, 1, 1, 0, 2]]))
    >>> tracks.add(np.array([[9, 9, 4, 4, 0, 5]])).tolist()
    [[4, 4, 3, 3, 0, 2]]
    >>> tracks.table.tolist()
    [[1, 0, 0, 0], [2, 0, 1, 0], [3, 1, 1, 1], [4, 1, 1, 1]]
    """

    def __init__(self) -> None:
        self._rows: list[list[int]] = []  # first frame, last frame, parent
        self._frame = 0
        self._before: np.ndarray | None = None

    @property
    def table(self) -> np.ndarray:
        """Return int (N, 4): track, first and last frame, parent or 0."""
        rows = [[number, *row] for number, row in enumerate(self._rows, start=1)]
        return np.array(rows, np.int64).reshape(-1, 4)

    def add(self, labels: np.ndarray) -> np.ndarray:
        """Return the labels (Y, X) of the next frame with the numbers of tracks."""
        labels = np.maximum(labels, 0)
        if self._before is not None and labels.shape != self._before.shape:
            message = (
                f"All frames of a film must be of one size. Frame {self._frame} is of "
                f"{labels.shape}, those before are of {self._before.shape}."
            )
            raise InputError(message)
        ids, compact = np.unique(np.append(0, labels), return_inverse=True)
        compact = compact[1:].reshape(labels.shape)
        areas = np.bincount(compact.ravel(), minlength=len(ids))
        tracks = np.zeros(len(ids), np.int64)
        for mother, daughters in self._daughters(compact, areas).items():
            largest = max(areas[each] for each in daughters)
            grown = [each for each in daughters if areas[each] >= DAUGHTER * largest]
            if len(grown) == 1:
                tracks[grown[0]] = mother
                self._rows[mother - 1][1] = self._frame
            else:
                for each in grown:
                    tracks[each] = self._begin(mother)
        for each in range(1, len(ids)):
            if not tracks[each]:
                tracks[each] = self._begin(0)
        self._before = tracks[compact]
        self._frame += 1
        return self._before.astype(np.int32)

    def _begin(self, parent: int) -> int:
        self._rows.append([self._frame, self._frame, parent])
        return len(self._rows)

    def _daughters(
        self, compact: np.ndarray, areas: np.ndarray
    ) -> dict[int, list[int]]:
        """Return what becomes of the tracks of the frame before, each in order."""
        if self._before is None:
            return {}
        both = (self._before > 0) & (compact > 0)
        pairs, shared = np.unique(
            self._before[both] * len(areas) + compact[both], return_counts=True
        )
        tracks, objects = np.divmod(pairs, len(areas))
        sizes = np.bincount(self._before.ravel())
        enough = shared >= SHARED * np.minimum(sizes[tracks], areas[objects])
        tracks, objects, shared = tracks[enough], objects[enough], shared[enough]
        order = np.lexsort((tracks, -shared, objects))
        _, first = np.unique(objects[order], return_index=True)
        found: dict[int, list[int]] = {}
        best = order[first]
        for track, each in zip(
            tracks[best].tolist(), objects[best].tolist(), strict=True
        ):
            found.setdefault(track, []).append(each)
        return found


def link(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Link the objects of a film, labels (T, Y, X), by overlap; see `Tracks`.

    Returns:
        int32 (T, Y, X), where an object has the number of its track in all frames; and
        int (N, 4), one row per track: its number, first and last frame, and the track
        that it came of by division, or 0.

    >>> tracked, tracks = link(np.array([[[0, 7]], [[3, 3]]]))
    >>> tracked.tolist(), tracks.tolist()
    ([[[0, 1]], [[1, 1]]], [[1, 0, 1, 0]])
    """
    tracks = Tracks()
    return np.stack([tracks.add(frame) for frame in labels]), tracks.table


def write_ctc(
    folder: str | os.PathLike[str], frames: Iterable[np.ndarray], count: int
) -> int:
    """Write a film as a result of the Cell Tracking Challenge, replacing `folder`.

    That is mask000.tif, mask001.tif, ... (uint16, four digits from 1,001 frames on),
    whose numbers are tracks, and res_track.txt: track, first frame, last frame, parent.
    The challenge's checker refuses a film without any object.

    Args:
        folder: such as "01_RES"; all of it is written, or nothing.
        frames: labels (Y, X) one after the other; they are not kept.
        count: how many.

    Returns:
        The number of tracks.

    Raises:
        InputError: for more than 65,535 tracks, which the format cannot number, or
            frames of different sizes.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp()) / "01_RES"
    >>> write_ctc(folder, [np.eye(3, dtype=int), np.eye(3, dtype=int)], 2)
    1
    >>> (folder / "res_track.txt").read_text()
    '1 0 1 0\\n'
    """
    tracks = Tracks()
    digits = max(3, len(str(count - 1)))
    with files.replacing_folder(folder) as part:
        for number, frame in enumerate(frames):
            tracked = tracks.add(frame)
            if tracked.max(initial=0) > _MOST:
                message = (
                    f"{folder} would hold more than {_MOST} tracks, which the Cell "
                    "Tracking Challenge has no numbers for. Give fewer frames, or drop "
                    "small objects."
                )
                raise InputError(message)
            name = f"mask{number:0{digits}d}.tif"
            images.write_tiff(part / name, tracked.astype(np.uint16), "YX")
        rows = tracks.table
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows.tolist())
        (part / "res_track.txt").write_text(text, encoding="ascii")
    return len(rows)


def ctc(path: Path, result: Result) -> None:
    """Write a film, or one image as a film of one frame."""
    frames = [each.labels for each in result.frames]
    write_ctc(path, frames, len(frames))
