"""Labels, pictures and tables as short text for a page."""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import documents, images

if TYPE_CHECKING:
    import pandas

SMALLEST = 256  # side of a picture that is never shrunk, however little the room
_THUMBNAIL = 72
_STRIP = 1024  # rows


def frame(
    picture: np.ndarray | None, labels: np.ndarray, side: int, room: float
) -> tuple[dict[str, Any], str]:
    """Return one frame as plain values, size, picture, labels, ids; and a thumbnail.

    Picture and labels are shrunk to `side`, and by a third further until both together
    take at most `room` bytes or are at `SMALLEST`. Of labels without a picture, the
    thumbnail shows the foreground.

    Args:
        picture: (Y, X, C), any numbers; None: there is none.
        labels: (Y, X), 0 is background.
        side: the most that height and width may be.
        room: bytes.
    """
    while True:
        shape = _fitting(labels.shape, side)
        found: dict[str, Any] = {"width": shape[1], "height": shape[0], "picture": ""}
        small = shrunk(labels, shape)
        drawn = np.uint8(255) * (small > 0)
        if picture is not None:
            drawn = shown(picture, shape)
            found["picture"] = _jpeg(drawn, 85)
        found["ids"], found["labels"] = _packed(small)
        size = len(found["picture"]) + len(found["labels"])
        if size <= room or max(shape) <= SMALLEST:
            return found, _jpeg(_resized(drawn, _fitting(shape, _THUMBNAIL)), 70)
        side = max(SMALLEST, round(0.7 * max(shape)))


def table(found: pandas.DataFrame) -> dict[str, Any]:
    """Return a table as {"columns": names, "rows": count, "data": packed columns}."""
    columns = [_plain(found[name].tolist()) for name in found]
    return {
        "columns": [str(name) for name in found],
        "rows": len(found),
        "data": _deflated(json.dumps(columns, separators=(",", ":")).encode()),
    }


def shown(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return a picture for people of that shape, uint8 (Y, X) or (Y, X, 3).

    >>> shown(np.arange(64).reshape(8, 8, 1), (4, 4)).shape
    (4, 4)
    """
    # What is far larger than shown is thinned first: fast, and little memory.
    step = max(1, min(n // (2 * m) for n, m in zip(picture.shape, shape, strict=False)))
    picture = images.to_uint8(picture[::step, ::step])
    grey = (picture == picture[..., :1]).all()
    return _resized(picture[..., 0] if grey else picture, shape)


def shrunk(labels: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Return labels of that shape; of an object that falls between, one pixel stays.

    >>> labels = np.zeros((8, 8), int)
    >>> labels[3, 3] = 5
    >>> int((shrunk(labels, (2, 2)) == 5).sum())
    1
    """
    height, width = shape
    small = images.rescale_labels(labels, shape=(height, width))
    if small.shape == labels.shape:
        return small
    small, known = small.copy(), np.unique(small)
    for top in range(0, labels.shape[0], _STRIP):  # whole, it would take much memory
        part = labels[top : top + _STRIP]
        lost = np.setdiff1d(part, known)
        if len(lost):
            y, x = np.nonzero(np.isin(part, lost))
            _, first = np.unique(part[y, x], return_index=True)
            y, x = y[first] + top, x[first]
            rows, columns = y * height // labels.shape[0], x * width // labels.shape[1]
            small[rows, columns] = labels[y, x]
            known = np.union1d(known, lost)
    return small


def _packed(labels: np.ndarray) -> tuple[list[int], str]:
    """Return the ids of the objects, and every pixel's rank among them from 1.

    Rows are stored as differences from the row above, which are nearly all 0.
    """
    ids, ranks = np.unique(np.maximum(labels, 0), return_inverse=True)
    if ids[0] != 0:  # no background at all: rank 0 is kept free for it
        ids, ranks = np.insert(ids, 0, 0), ranks + 1
    kind = "<u2" if len(ids) <= 2**16 else "<u4"
    plane = ranks.reshape(labels.shape).astype(kind)
    plane[1:] -= plane[:-1].copy()
    return ids[1:].tolist(), _deflated(plane.tobytes())


def _deflated(content: bytes) -> str:
    return base64.b64encode(zlib.compress(content, 6)).decode()


def _plain(values: list[Any]) -> list[Any]:
    """Return values as JSON has them; seven digits are more than any measurement."""
    return [
        (float(f"{value:.7g}") if math.isfinite(value) else None)
        if isinstance(value, float)
        else value
        if isinstance(value, bool | int | str)
        else str(value)
        for value in values
    ]


def _fitting(shape: Sequence[int], side: int) -> tuple[int, int]:
    factor = min(1.0, side / max(shape))
    return max(1, round(factor * shape[0])), max(1, round(factor * shape[1]))


def _resized(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    import PIL.Image

    height, width = shape
    if picture.shape[:2] == (height, width):
        return picture
    drawn = PIL.Image.fromarray(picture)
    return np.asarray(drawn.resize((width, height), PIL.Image.Resampling.BOX))


def _jpeg(picture: np.ndarray, quality: int) -> str:
    return documents.jpeg(picture, quality=quality, subsampling=2)
