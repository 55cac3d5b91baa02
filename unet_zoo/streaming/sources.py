"""Images of which one region at a time is read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from unet_zoo.errors import InputError

_ROWS, _COLUMNS = 256, 8192  # of what is read at once where all of it is looked at


class Source(Protocol):
    """An image (T, Y, X, C) that gives regions of its frames."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (T, Y, X, C)."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """Return the number type of `read`."""

    def read(self, frame: int, rows: slice, columns: slice) -> np.ndarray:
        """Return the region (y, x, C) of a frame; it lies within the image."""


class Array:
    """An array or memory map (Y, X), (Y, X, C) or (T, Y, X, C) as a source.

    >>> Array(np.zeros((5, 6))).shape
    (1, 5, 6, 1)
    """

    def __init__(self, values: Any) -> None:
        if values.ndim not in (2, 3, 4) or 0 in values.shape:
            message = (
                "`image` must be (Y, X), (Y, X, C) or (T, Y, X, C) and hold pixels. "
                f"Received: {tuple(values.shape)}"
            )
            raise InputError(message)
        self._values = values
        self.dtype = np.dtype(values.dtype)
        shape = tuple(int(size) for size in values.shape)
        frames = shape[0] if values.ndim == 4 else 1
        rows, columns = shape[1:3] if values.ndim == 4 else shape[:2]
        self.shape = (frames, rows, columns, shape[-1] if values.ndim > 2 else 1)

    def read(self, frame: int, rows: slice, columns: slice) -> np.ndarray:
        """Return the region (y, x, C) of a frame."""
        plane = self._values[frame] if self._values.ndim == 4 else self._values
        region = np.asarray(plane[rows, columns])
        return region if region.ndim == 3 else region[..., None]


def as_source(image: Any) -> Source:
    """Return what has `read` as it is, and anything like an array as a source."""
    if hasattr(image, "read") and hasattr(image, "shape"):
        source: Source = image
        return source
    return Array(image if hasattr(image, "ndim") else np.asarray(image))


def regions(
    shape: tuple[int, int], rows: int = _ROWS, columns: int = _COLUMNS
) -> Iterator[tuple[slice, slice]]:
    """Yield regions that cover an image of `shape` once, row by row.

    >>> list(regions((2, 5), columns=4))[1]
    (slice(0, 2, None), slice(4, 5, None))
    """
    for top in range(0, shape[0], rows):
        for left in range(0, shape[1], columns):
            yield (
                slice(top, min(top + rows, shape[0])),
                slice(left, min(left + columns, shape[1])),
            )
