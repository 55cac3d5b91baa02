"""Regions of the image as the network sees it: normalised, rescaled, mirrored."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from unet_zoo import tiling
from unet_zoo.streaming.sources import Source
from unet_zoo.streaming.statistics import Scaling

Read = Callable[[slice, slice], np.ndarray]


class Grid:
    """One frame of a source in pixels of the network's image."""

    def __init__(
        self, source: Source, frame: int, scaling: Scaling, scales: tuple[float, float]
    ):
        self._source, self._frame, self._scaling = source, frame, scaling
        self._old = (source.shape[1], source.shape[2])
        self.shape = scaled(self._old, scales)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return float32 (y, x, C); what lies outside the image is mirrored."""
        inside, places = [], []
        for part, size in zip((rows, columns), self.shape, strict=True):
            index = tiling.reflect(np.arange(part.start, part.stop), size)
            inside.append(slice(int(index.min()), int(index.max()) + 1))
            places.append(index - inside[-1].start)
        region = resized(self._normalized, self._old, self.shape, *inside)
        if all(
            part == there for part, there in zip((rows, columns), inside, strict=True)
        ):
            return region
        return region[places[0][:, None], places[1]]

    def _normalized(self, rows: slice, columns: slice) -> np.ndarray:
        return self._scaling.apply(self._source.read(self._frame, rows, columns))


def scaled(shape: tuple[int, int], scales: tuple[float, float]) -> tuple[int, int]:
    """Return the size that `images.rescale` gives an image of `shape`."""
    height, width = (
        max(1, round(size * scale)) for size, scale in zip(shape, scales, strict=True)
    )
    return height, width


def resized(
    read: Read,
    old: tuple[int, int],
    new: tuple[int, int],
    rows: slice,
    columns: slice,
) -> np.ndarray:
    """Return a region of what `images.rescale` makes of a whole image.

    Args:
        read: gives a region (y, x, C) of the image.
        old: size of the image (Y, X).
        new: size of the rescaled image.
        rows: of the rescaled image, inside it.
        columns: as `rows`.

    Returns:
        float32 (y, x, C). It differs from that region of the whole by rounding.

    >>> image = np.arange(48.0, dtype="float32").reshape(6, 8, 1)
    >>> read = lambda rows, columns: image[rows, columns]
    >>> resized(read, (6, 8), (3, 4), slice(1, 2), slice(0, 2))[..., 0]
    array([[20.714287, 22.5     ]], dtype=float32)
    """
    if old == new:
        return np.asarray(read(rows, columns), np.float32)
    down, up = _taps(old[0], new[0], rows)
    across, along = _taps(old[1], new[1], columns)
    part = slice(int(down.min()), int(down.max()) + 1)
    beside = slice(int(across.min()), int(across.max()) + 1)
    region = np.asarray(read(part, beside), np.float32)
    wide = sum(
        region[:, across[:, tap] - beside.start] * along[:, tap, None]
        for tap in range(across.shape[1])
    )
    return np.asarray(
        sum(
            wide[down[:, tap] - part.start] * up[:, tap, None, None]
            for tap in range(down.shape[1])
        ),
        np.float32,
    )


def needed(old: int, new: int, part: slice) -> slice:
    """Return which pixels of an axis of `old` make `part` of one of `new`."""
    if old == new:
        return part
    index, _ = _taps(old, new, part)
    return slice(int(index.min()), int(index.max()) + 1)


def _taps(old: int, new: int, part: slice) -> tuple[np.ndarray, np.ndarray]:
    """Return, for each new pixel, the old ones that count and how much (float32).

    A triangle around the new pixel's middle, as wide as the step between new pixels
    but never narrower than that between old ones: bilinear, without aliasing.
    """
    step = old / new
    width = max(1.0, step)
    middle = (np.arange(part.start, part.stop) + 0.5) * step
    first = np.maximum(0, (middle - width + 0.5).astype(int))
    last = np.minimum(old, (middle + width + 0.5).astype(int))
    index = first[:, None] + np.arange(int((last - first).max()))
    weight = np.maximum(0, 1 - abs(index + 0.5 - middle[:, None]) / width)
    weight[index >= last[:, None]] = 0
    weight /= weight.sum(axis=1, keepdims=True)
    return np.minimum(index, old - 1), weight.astype(np.float32)
