"""Label images that are never whole in memory."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

import numpy as np
import tifffile

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.images import writing
from unet_zoo.streaming.looks import Frame, Opened
from unet_zoo.streaming.sources import Source, regions

if TYPE_CHECKING:
    import pandas

TILE = 512
_PIXEL = 4  # bytes of a name


class Readable(Protocol):
    """The names of one frame, (Y, X), that can be read row by row."""

    @property
    def shape(self) -> tuple[int, int]:
        """Return (Y, X)."""

    def read(self, rows: slice) -> np.ndarray:
        """Return the uint32 names of whole rows: one row of tiles."""


class Scratch:
    """The names of one frame, (Y, X), in a file that nobody else sees.

    Not a memory map: what it has read would count as memory of this process.
    """

    def __init__(self, folder: Path | None, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._file = tempfile.TemporaryFile(dir=folder, buffering=0)  # noqa: SIM115

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, top: int, left: int, names: np.ndarray) -> None:
        """Write uint32 names (y, x) at a place."""
        names = np.ascontiguousarray(names, np.uint32)
        for row, values in enumerate(names, start=top):
            self._file.seek((row * self.shape[1] + left) * _PIXEL)
            rest = values.data.cast("B")
            while rest:
                rest = rest[self._file.write(rest) :]

    def read(self, rows: slice) -> np.ndarray:
        """Return the names of whole rows."""
        names = np.empty((rows.stop - rows.start, self.shape[1]), np.uint32)
        self._file.seek(rows.start * self.shape[1] * _PIXEL)
        rest = names.data.cast("B")
        while rest:
            count = self._file.readinto(rest)
            if not count:
                break
            rest = rest[count:]
        return names


class Table:
    """Those columns of `outputs.table` that regions of an image can be summed to.

    >>> table = Table(objects=1, shape=(2, 3), channels=1)
    >>> table.add(np.array([[0, 1, 1]]), np.array([[[9], [4], [6]]]), 1, 0)
    >>> table.frame()[["label", "area", "centroid_x", "mean_intensity"]]
       label  area  centroid_x  mean_intensity
    0      1     2         1.5             5.0
    """

    def __init__(self, objects: int, shape: tuple[int, int], channels: int) -> None:
        self.objects, self._shape = objects, shape
        self._area = np.zeros(objects, np.int64)
        self._sums = np.zeros((2 + channels, objects))
        self._low = np.full((2, objects), max(shape), np.int64)
        self._high = np.zeros((2, objects), np.int64)

    def add(self, labels: np.ndarray, image: np.ndarray, top: int, left: int) -> None:
        """Take in a region: labels (y, x), image (y, x, C) and where it begins."""
        y, x = np.nonzero(labels)
        if not len(y):
            return
        ids, member, area = np.unique(
            labels[y, x], return_inverse=True, return_counts=True
        )
        ids = ids.astype(np.int64) - 1
        self._area[ids] += area
        values = [y + float(top), x + float(left)]
        values += list(image[y, x].T.astype(np.float64))
        for sums, value in zip(self._sums, values, strict=True):
            sums[ids] += np.bincount(member, value, len(ids))
        for axis, place in enumerate((y + top, x + left)):
            low = np.full(len(ids), max(self._shape))
            high = np.zeros(len(ids), np.int64)
            np.minimum.at(low, member, place)
            np.maximum.at(high, member, place + 1)
            self._low[axis, ids] = np.minimum(self._low[axis, ids], low)
            self._high[axis, ids] = np.maximum(self._high[axis, ids], high)

    def frame(self, pixel_size: tuple[float, float] | None = None) -> pandas.DataFrame:
        """Return one row per object, or per class that is somewhere.

        With lengths in micrometres where the size of a pixel, (y, x), is known.
        """
        import pandas

        means = self._sums / np.maximum(self._area, 1)
        columns: dict[str, np.ndarray] = {
            "label": np.arange(1, len(self._area) + 1),
            "area": self._area,
        }
        columns |= {"centroid_y": means[0], "centroid_x": means[1]}
        columns |= {"min_y": self._low[0], "min_x": self._low[1]}
        columns |= {"max_y": self._high[0], "max_x": self._high[1]}
        for channel, mean in enumerate(means[2:]):
            several = f"_{channel}" if len(means) > 3 else ""
            columns[f"mean_intensity{several}"] = mean
        height, width = self._shape
        columns["touches_edge"] = (self._low == 0).any(axis=0) | (
            self._high == [[height], [width]]
        ).any(axis=0)
        if pixel_size is not None:
            high, wide = pixel_size
            columns["area_um2"] = self._area * high * wide
            columns["centroid_y_um"] = means[0] * high
            columns["centroid_x_um"] = means[1] * wide
        return pandas.DataFrame(columns)[self._area > 0].reset_index(drop=True)


def tiles(
    scratches: Sequence[Readable],
    names: Sequence[np.ndarray],
    tables: Sequence[Table],
    source: Source,
    dtype: type,
    looks: Sequence[Sequence[Opened]] = (),
) -> Iterator[tuple[int, int, int, np.ndarray]]:
    """Yield (frame, top, left, labels) of every tile of every frame in order.

    The tables are filled as the tiles go by, and `looks`, those of each frame, see
    them too.
    """
    for frame, (scratch, new, table) in enumerate(
        zip(scratches, names, tables, strict=True)
    ):
        known = Frame(scratch.shape, source.shape[3], source.dtype, new, table.objects)
        with contextlib.ExitStack() as stack:
            opened = looks[frame] if looks else ()
            looking = [stack.enter_context(look(known)) for look in opened]
            for rows, _ in regions(scratch.shape, TILE, scratch.shape[1]):
                band = scratch.read(rows)
                for look in looking:
                    look.rows(band)
                for _, columns in regions((1, scratch.shape[1]), 1, TILE):
                    labels = new[band[:, columns]]
                    image = source.read(frame, rows, columns)
                    table.add(labels, image, rows.start, columns.start)
                    for look in looking:
                        look.part(image, rows.start, columns.start)
                    yield frame, rows.start, columns.start, labels.astype(dtype)


def write_tiff(
    path: str | os.PathLike[str],
    shape: tuple[int, int, int],
    parts: Iterator[tuple[int, int, int, np.ndarray]],
    dtype: type,
    pixel_size: tuple[float, float] | None = None,
    planes: images.Planes | None = None,
) -> None:
    """Write tiles of labels as a tiled BigTIFF, zlib, the whole file or nothing.

    With a pixel size, (y, x) in micrometres, it is an OME-TIFF that says so. `planes`
    as in `images.write_labels`.
    """
    path = Path(path)
    if path.suffix.lower() not in (".tif", ".tiff"):
        message = f"Label images are TIFF files: name {path} with the suffix .tif"
        raise InputError(message)

    def whole() -> Iterator[np.ndarray]:
        for _, _, _, labels in parts:
            tile: np.ndarray = np.zeros((TILE, TILE), dtype)
            tile[: labels.shape[0], : labels.shape[1]] = labels
            yield tile

    stored = images.stacked(() if shape[0] == 1 else shape[:1], planes)
    metadata, more = writing.tiff_facts(f"{stored.axes}YX", pixel_size)
    with (
        images.replacing(path) as part,
        tifffile.TiffWriter(part, bigtiff=True, ome=pixel_size is not None) as file,
    ):
        file.write(
            whole(),
            shape=(*stored.sizes, *shape[1:]),
            dtype=dtype,
            tile=(TILE, TILE),
            photometric="minisblack",
            compression="zlib",
            maxworkers=1,  # others would hurry ahead and fill the memory
            metadata=metadata,
            **more,
        )
        for _ in parts:  # the last tile may not have been the end
            pass
