"""TIFF in all its kinds: what its axes are, and the tiles that a region needs."""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import math
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet_zoo.images import codestreams, refusing, tiff_facts
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import Recent, Source, extent

# tifffile logs these and goes on with the frames it has: half a stack would pass
# for a whole one.
_BROKEN = re.compile(r"invalid (page )?offset|corrupt|failed to read", re.IGNORECASE)
_JPEG = (6, 7, 33007, 34892)
_PLAIN = (1, 5, 8, 32773, 32946, 50000)  # what gives back the values as they were
_COLOURS: dict[int | None, str] = {
    tifffile.PHOTOMETRIC.SEPARATED: "CMYK",
    tifffile.PHOTOMETRIC.CIELAB: "L*a*b*",
    tifffile.PHOTOMETRIC.ICCLAB: "L*a*b*",
}
_ALPHA = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)


def open_tiff(path: Path, indices: bool) -> Source:
    """Return the source of a TIFF; its file stays open until the source is closed."""
    # Not by its name: tifffile forgets to close what it opens and cannot parse.
    data = path.open("rb")
    try:
        with _heard(path):
            return _source(path, tifffile.TiffFile(data), indices, data.close)
    except BaseException:
        data.close()
        raise


def _source(
    path: Path, file: tifffile.TiffFile, indices: bool, close: Callable[[], None]
) -> Source:
    if not file.series:
        reason = "it is a TIFF without images, damaged or truncated"
        raise refusing.unreadable(path, reason)
    series, first = file.series[0], file.series[0].keyframe
    remark = _others(path, file)
    axes, shape = series.get_axes(False), series.get_shape(False)
    if axes.count("Y") != 1 or axes.count("X") != 1:
        raise refusing.unreadable(path, f"its axes {axes!r} lack Y or X")
    guess = unclear = ""
    row = axes.index("Y")
    last = axes.endswith("YX") or (axes.endswith("YXS") and shape[-1] == 1)
    if axes[:row].endswith("Q") and last and shape[row - 1] > 1 and shape[row + 1] <= 4:
        unclear = (
            f"its axes have no names and its shape {series.shape} leaves open "
            "whether the last one is colour; save it with axes, such as "
            "tifffile.imwrite(..., metadata={'axes': 'YXC'})"
        )
        axes = axes[: row - 1] + "YXC" + axes[row + 2 :]
        guess = "its axes have no names, and the last is as short as colours"
    elif set(axes[:row]) & set("QI") and math.prod(shape[:row]) > 1:
        guess = "its pages have no names"
    if series.kind == "ome":
        homes = {page and page.parent for page in series.pages}
        if None in homes:
            reason = "pages that its OME metadata name are missing"
            raise refusing.unreadable(path, reason)
        if len(homes) > 1:
            remark = f"it is one of {len(homes)} files that each stand for all of them"
    colours = _COLOURS.get(first.photometric)
    if first.photometric == tifffile.PHOTOMETRIC.YCBCR and first.compression in _PLAIN:
        colours = "YCbCr"  # which only JPEG's and such decoders turn into RGB
    if colours is not None:
        reason = f"its colours are {colours}; convert it to RGB"
        raise refusing.unreadable(path, reason)
    if series.dtype is None:
        raise refusing.unreadable(path, "its values are of no known type")
    values = _values(path, file, series)
    source = Source(
        shape=shape,
        axes=axes,
        dtype=series.dtype,
        fetch=values.fetch,
        unit=values.unit,
        pixel_size=tiff_facts.pixel_size(file),
        channels=tiff_facts.channels(file),
        guess=guess,
        remark=remark,
        unclear=unclear,
        close=close,
    )
    # ImageJ's palettes colour what is shown; its values are the measurement.
    palette = None if indices or file.is_imagej else first.colormap
    if first.photometric == tifffile.PHOTOMETRIC.PALETTE and palette is not None:
        return _coloured(source, palette)
    if first.extrasamples and first.extrasamples[-1] in _ALPHA and "S" in axes:
        return opaque(path, source)
    return source


def _others(path: Path, file: tifffile.TiffFile) -> str:
    """Refuse several images in one file, unless one is the image of the others."""
    if len(file.series) == 1:
        return ""
    rest = file.series[1:]
    if file.series[0].name == "Baseline":  # slide scanners
        return f"thumbnail and label are left out ({len(rest)} pictures)"
    if all(each.keyframe.is_reduced for each in rest):
        return ""
    shapes = ", ".join(str(each.shape) for each in file.series[:4])
    reason = f"it holds {len(file.series)} images ({shapes})"
    raise refusing.unreadable(path, f"{reason}; save each to its own file")


def _coloured(source: Source, palette: np.ndarray) -> Source:
    fetch = source.fetch

    def colours(selection: Selection) -> np.ndarray:
        found = np.moveaxis(palette[:, fetch(selection[:-1])], 0, -1)
        return (found >> 8).astype(np.uint8)[..., selection[-1]]

    source.fetch, source.dtype = colours, np.dtype(np.uint8)
    # A palette has one number a pixel: where there is an axis of samples, it is 1.
    source.shape, source.axes = (*source.shape, 3), source.axes.replace("S", "R") + "S"
    return source


def opaque(path: Path, source: Source) -> Source:
    """Drop the last sample, transparency; refuse where it is any."""
    fetch, axis = source.fetch, source.axes.index("S")
    count = source.shape[axis]

    def colours(selection: Selection) -> np.ndarray:
        chosen = list(selection)
        chosen[axis] = slice(None)
        found = fetch(tuple(chosen))
        there = axis - sum(isinstance(each, int) for each in selection[:axis])
        found = np.moveaxis(found, there, -1)
        alpha = found[..., -1]
        full = np.iinfo(alpha.dtype).max if alpha.dtype.kind in "ui" else 1
        clear = int(np.count_nonzero(alpha != full))
        if clear:
            reason = (
                f"{clear} of its {alpha.size} pixels are transparent; flatten it, or, "
                "if the last channel is not transparency, save it as a plain channel"
            )
            raise refusing.unreadable(path, reason)
        first, last = extent(selection[axis], count - 1)
        return np.moveaxis(found[..., first:last], -1, there)

    source.fetch = colours
    source.shape = tuple(size - (n == axis) for n, size in enumerate(source.shape))
    return source


# === Values ===


def _values(
    path: Path, file: tifffile.TiffFile, series: tifffile.TiffPageSeries
) -> _Mapped | _Paged | _Whole:
    size = os.path.getsize(path)
    if series.dataoffset is not None:
        end = series.dataoffset + math.prod(series.shape) * series.dtype.itemsize
        if end > size:
            reason = f"its pixels end at byte {end}, the file at {size}"
            raise refusing.damaged(path, reason)
        first_page: Any = series[0]
        if first_page.parent is file:
            return _Mapped(path, file, series)
    first = series.keyframe
    full = series.get_shape(False)
    split = next(
        (n for n in range(len(full)) if math.prod(full[:n]) == len(series)), None
    )
    plain = (
        split is not None
        and series.transform is None
        and math.prod(full[split:]) == first.size
        and series.get_axes(False)[split:].find("Y") >= 0
        and series.get_axes(False)[split:].find("X") >= 0
        and series.keyframe.imagedepth == 1
    )
    if plain:
        return _Paged(path, series, split or 0)
    return _Whole(path, series)


@dataclass
class _Mapped:
    """Pixels that lie in the file as they are: only what is asked for is touched."""

    path: Path
    file: tifffile.TiffFile
    series: tifffile.TiffPageSeries
    unit = ()

    def fetch(self, selection: Selection) -> np.ndarray:
        # Mapped anew each time: what was read before does not stay in memory.
        mapped = np.memmap(
            self.path,
            dtype=self.series.dtype.newbyteorder(self.file.byteorder),
            mode="r",
            offset=self.series.dataoffset or 0,
            shape=self.series.get_shape(False),
        )
        return np.array(mapped[selection])


@dataclass
class _Whole:
    """Layouts that only tifffile itself puts together, as a whole."""

    path: Path
    series: tifffile.TiffPageSeries

    def __post_init__(self) -> None:
        self._lock = threading.Lock()

    @property
    def unit(self) -> tuple[int, ...]:
        return tuple(self.series.shape)

    def fetch(self, selection: Selection) -> np.ndarray:
        with self._lock, _heard(self.path):
            whole = self.series.asarray()
        return whole.reshape(self.series.get_shape(False))[selection]


class _Paged:
    """Pages in strips or tiles; those that a region touches are decoded."""

    def __init__(self, path: Path, series: tifffile.TiffPageSeries, split: int) -> None:
        self._path, self._series, self._split = path, series, split
        self._key = first = series.keyframe
        self._full = series.get_shape(False)
        self._recent = Recent()
        self._lock = threading.Lock()
        planes, _, height, width, samples = first.shaped
        if first.is_tiled:
            self._size = (first.tilelength, first.tilewidth)
        else:
            self._size = (min(first.rowsperstrip, height) or height, width)
        self._planes, self._samples = planes, samples
        self.unit = (*self._size, samples)

    def fetch(self, selection: Selection) -> np.ndarray:
        leading, within = selection[: self._split], selection[self._split :]
        numbers = np.arange(len(self._series)).reshape(self._full[: self._split])
        numbers = np.asarray(numbers[leading])
        pages = [self._page(int(number), within) for number in numbers.ravel()]
        return np.stack(pages).reshape(*numbers.shape, *pages[0].shape)

    def _page(self, number: int, within: Selection) -> np.ndarray:
        axes = self._series.get_axes(False)[self._split :]
        sizes = self._full[self._split :]
        y, x = axes.index("Y"), axes.index("X")
        rows, columns = extent(within[y], sizes[y]), extent(within[x], sizes[x])
        found = self._region(number, rows, columns)
        shape = list(sizes)
        shape[y], shape[x] = rows[1] - rows[0], columns[1] - columns[0]
        chosen = list(within)
        for axis in (y, x):
            if isinstance(chosen[axis], slice):
                chosen[axis] = slice(None)
            else:
                chosen[axis] = 0
        return found.reshape(shape)[tuple(chosen)]

    def _region(
        self, number: int, rows: tuple[int, int], columns: tuple[int, int]
    ) -> np.ndarray:
        """Return (planes, rows, columns, samples) of a page."""
        with self._lock, _heard(self._path):
            page = self._series[number]
        if page is None:
            raise refusing.unreadable(self._path, f"its page {number} is missing")
        shape = (
            self._planes, rows[1] - rows[0], columns[1] - columns[0], self._samples,
        )  # fmt: skip
        found = np.full(shape, self._key.nodata, self._series.dtype)
        if 0 in shape:
            return found
        high, wide = self._size
        _, _, height, width, _ = self._key.shaped
        per_row = -(-width // wide)
        per_plane = -(-height // high) * per_row
        touched = itertools.product(
            range(self._planes),
            range(rows[0] // high, -(-rows[1] // high)),
            range(columns[0] // wide, -(-columns[1] // wide)),
        )
        for plane, row, column in touched:
            index = plane * per_plane + row * per_row + column
            make = functools.partial(self._segment, page, index)
            segment = self._recent.get((number, index), make)
            top, left = row * high, column * wide
            y0, x0 = max(rows[0], top), max(columns[0], left)
            y1 = min(rows[1], top + segment.shape[0])
            x1 = min(columns[1], left + segment.shape[1])
            part = segment[y0 - top : y1 - top, x0 - left : x1 - left]
            y0, y1, x0, x1 = (
                y0 - rows[0],
                y1 - rows[0],
                x0 - columns[0],
                x1 - columns[0],
            )
            found[plane, y0:y1, x0:x1] = part
        return found

    def _room(self, index: int) -> int:
        """Return how many bytes a strip or tile decodes to at least."""
        high, wide = self._size
        _, _, height, width, _ = self._key.shaped
        per_row = -(-width // wide)
        row = index % (-(-height // high) * per_row) // per_row
        rows, bits = min(high, height - row * high), self._key.bitspersample
        bits = bits if isinstance(bits, int) else 1
        return rows * min(wide, width) * self._samples * bits // 8

    def _segment(self, page: Any, index: int) -> np.ndarray:
        """Decode one strip or tile, (rows, columns, samples)."""
        with self._lock, _heard(self._path), _opened(page) as handle:
            tables = page.jpegtables if self._key.compression in _JPEG else None
            if index >= len(page.dataoffsets) or index >= len(page.databytecounts):
                raise refusing.damaged(self._path, f"its segment {index} is missing")
            offset, count = page.dataoffsets[index], page.databytecounts[index]
            data = None
            if count:
                if offset + count > handle.size:
                    reason = (
                        f"a segment ends at byte {offset + count}, the file at "
                        f"{handle.size}"
                    )
                    raise refusing.damaged(self._path, reason)
                handle.seek(offset)
                data = handle.read(count)
        options: dict[str, Any] = {}
        if data is not None:
            codestreams.check(
                data, self._key.compression, self._size, self._room(index)
            )
        if self._key.compression in _JPEG:
            options = {"jpegtables": tables, "jpegheader": self._key.jpegheader}
        with _heard(self._path):
            decoded, _, shape = self._key.decode(data, index, **options)
        if decoded is None:  # a tile that was never written
            decoded = np.full(shape, self._key.nodata, self._series.dtype)
        return decoded[0].astype(self._series.dtype, copy=False)


@contextlib.contextmanager
def _opened(page: Any) -> Iterator[Any]:
    """Yield the file of a page; of an OME-TIFF of several, tifffile keeps one open."""
    handle = page.parent.filehandle
    closed = handle.closed
    if closed:
        handle.open()
    try:
        yield handle
    finally:
        if closed:
            handle.close()


# === What tifffile says ===


@contextlib.contextmanager
def _heard(path: Path) -> Iterator[None]:
    """Refuse what tifffile logs as broken; keep the rest from the terminal."""
    messages: list[str] = []
    own = threading.get_ident()

    def keep(record: logging.LogRecord) -> bool:
        if record.thread != own:
            return True
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)
    broken = [message for message in messages if _BROKEN.search(message)]
    if broken:
        raise refusing.damaged(path, broken[0])
