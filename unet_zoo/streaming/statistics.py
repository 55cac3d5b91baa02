"""What `images.normalize` needs to know of a whole image, read region by region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.streaming.sources import Source, regions

_DIGIT = 16  # bits of a value that one pass over the image counts
_PERCENTILES = (1.0, 99.8)


class Scaling(NamedTuple):
    """How the values of an image become those that the network sees, per channel."""

    method: str
    offset: np.ndarray
    scale: np.ndarray
    constant: np.ndarray

    def apply(self, region: np.ndarray) -> np.ndarray:
        """Return a region (y, x, C) as `images.normalize` has it of the whole image."""
        if self.method in ("unit", "none"):
            return images.normalize(region, "unit")
        result = (region - self.offset) / np.where(self.constant, 1, self.scale)
        result[..., self.constant] = 0
        return result.astype(np.float32)


class _Moments(NamedTuple):
    pixels: int
    low: np.ndarray
    high: np.ndarray
    mean: np.ndarray
    squares: np.ndarray  # summed squared distances from the mean


def measure(source: Source, frame: int, method: str = "zscore") -> Scaling:
    """Return the scaling of one frame; see `images.normalize` for the methods.

    The numbers are those of the whole frame: mean and deviation in float64, percentiles
    exact for every number type, in one pass over the image for integers of up to 16
    bits, two for 32 and four for 64. NaN and infinite values are refused.

    >>> from unet_zoo.streaming.sources import Array
    >>> found = measure(Array(np.arange(12.0).reshape(3, 4)), 0)
    >>> found.offset.tolist(), found.scale.round(3).tolist()
    ([5.5], [3.452])
    """
    moments = _moments(source, frame)
    channels = source.shape[3]
    if method in ("unit", "none"):
        images.normalize(np.zeros((1, 1, 1), source.dtype), "unit")  # refuses others
        none = np.zeros(channels)
        return Scaling(method, none, none + 1, none > 0)
    low, high = moments.low, moments.high
    if method == "zscore":
        offset, scale = moments.mean, np.sqrt(moments.squares / moments.pixels)
    elif method == "percentile":
        offset, top = _percentiles(source, frame)
        sparse = top <= offset
        offset, top = np.where(sparse, low, offset), np.where(sparse, high, top)
        scale = top - offset
    else:
        # One place says which methods there are.
        images.normalize(np.zeros((1, 1, 1)), method)
        raise AssertionError(method)
    return Scaling(method, offset, scale, (low == high) | (scale == 0))


def _read(source: Source, frame: int) -> Iterator[tuple[slice, slice, np.ndarray]]:
    for rows, columns in regions(source.shape[1:3]):
        yield rows, columns, source.read(frame, rows, columns)


def _moments(source: Source, frame: int) -> _Moments:
    total: _Moments | None = None
    wrong: list[tuple[int, int, int]] = []
    bad = 0
    for rows, columns, region in _read(source, frame):
        if region.dtype.kind == "f":
            unfit = np.argwhere(~np.isfinite(region))
            if len(unfit):
                y, x, channel = unfit[0].tolist()
                wrong.append((rows.start + y, columns.start + x, channel))
                bad += len(unfit)
                continue
        values = region.reshape(-1, region.shape[-1]).astype(np.float64)
        mean = values.mean(axis=0)
        low, high = values.min(axis=0), values.max(axis=0)
        values -= mean
        values *= values
        here = _Moments(len(values), low, high, mean, values.sum(axis=0))
        total = here if total is None else _together(total, here)
    if bad or total is None:
        y, x, channel = min(wrong)
        message = (
            f"`image` has {bad} values that are NaN or infinite, the first at y={y}, "
            f"x={x}, channel={channel}; replace them, for instance with np.nan_to_num"
        )
        raise InputError(message)
    return total


def _together(a: _Moments, b: _Moments) -> _Moments:
    count = a.pixels + b.pixels
    apart = b.mean - a.mean
    return _Moments(
        count,
        np.minimum(a.low, b.low),
        np.maximum(a.high, b.high),
        a.mean + apart * (b.pixels / count),
        a.squares + b.squares + apart**2 * (a.pixels * b.pixels / count),
    )


def _percentiles(source: Source, frame: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the two percentiles of every channel, as numpy interpolates them."""
    count = source.shape[1] * source.shape[2]
    places = [share / 100 * (count - 1) for share in _PERCENTILES]
    ranks = sorted({int(place) + more for place in places for more in (0, 1)})
    ranks = [min(rank, count - 1) for rank in ranks]
    ordered = _ordered(source, frame, ranks)
    found = []
    for place in places:
        low = int(place)
        a, b = ordered[low], ordered[min(low + 1, count - 1)]
        found.append(a + (b - a) * (place - low))
    return found[0], found[1]


def _ordered(source: Source, frame: int, ranks: list[int]) -> dict[int, np.ndarray]:
    """Return, for each rank, the values per channel that stand there when sorted.

    The leading digits of the values are counted first, then, within the digit that a
    rank falls into, the next: the memory it takes does not depend on the image.
    """
    dtype, channels = source.dtype, source.shape[3]
    bits = 8 * dtype.itemsize
    digit = min(bits, _DIGIT)
    wanted = {(rank, channel) for rank in ranks for channel in range(channels)}
    prefix = dict.fromkeys(wanted, 0)
    left = {(rank, channel): rank for rank, channel in wanted}
    for shift in range(bits - digit, -1, -digit):
        counts = {
            (prefix[each], each[1]): np.zeros(2**digit, np.int64) for each in wanted
        }
        for _, _, region in _read(source, frame):
            keys = _sortable(region.reshape(-1, channels))
            for (start, channel), count in counts.items():
                values = keys[:, channel]
                if shift + digit < bits:
                    values = values[(values >> (shift + digit)) == start]
                number = ((values >> shift) & (2**digit - 1)).astype(np.int64)
                count += np.bincount(number, minlength=2**digit)
        for each in wanted:
            below = np.cumsum(counts[prefix[each], each[1]])
            here = int(np.searchsorted(below, left[each], side="right"))
            left[each] -= int(below[here - 1]) if here else 0
            prefix[each] = prefix[each] << digit | here
    return {
        rank: np.asarray(
            [
                _from_sortable(prefix[rank, channel], dtype)
                for channel in range(channels)
            ]
        )
        for rank in ranks
    }


def _sortable(values: np.ndarray) -> np.ndarray:
    """Return unsigned integers in the order of the values."""
    values = np.ascontiguousarray(values)
    if values.dtype.kind == "b":
        return values.view(np.uint8)
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if values.dtype.kind == "u":
        return values.astype(unsigned, copy=False)
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    raw = values.view(unsigned)
    if values.dtype.kind == "i":
        return raw ^ sign
    return np.where(raw & sign, ~raw, raw | sign)


def _from_sortable(key: int, dtype: np.dtype) -> float:
    if dtype.kind == "b":
        return float(key)
    unsigned = np.dtype(f"u{dtype.itemsize}")
    raw = np.asarray([key], unsigned)
    sign = unsigned.type(1 << (8 * unsigned.itemsize - 1))
    if dtype.kind == "i":
        raw = raw ^ sign
    elif dtype.kind == "f":
        raw = np.where(raw & sign, raw & ~sign, ~raw)
    return float(raw.view(dtype.newbyteorder("="))[0])
