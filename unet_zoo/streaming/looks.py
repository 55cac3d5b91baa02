"""Pictures of a frame that is never whole in memory: an overlay, made smaller; a mask.

They are given whole rows of names from top to bottom, and the image part by part.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np

from unet_zoo import images, outputs

SIDE, _LEAST = 2048, 512  # of an overlay in pixels, at most and in any case
# Bytes that a pixel of an overlay takes while it is drawn, and for each channel.
_PER_PIXEL, _PER_CHANNEL = 30, 30
_SHARE = 0.5  # of the memory that is left; the rest is for what is read
_AT_ONCE = 2**19  # names that are looked at
_SHOWN = 3  # channels, see `images.to_uint8`
_SIGNATURE = b"\x89PNG\r\n\x1a\n"

Path = str | os.PathLike[str]


class Look(Protocol):
    """What looks at a frame as its parts go by."""

    def rows(self, names: np.ndarray) -> None:
        """Take the next rows of the names, (y, X)."""

    def part(self, image: np.ndarray, top: int, left: int) -> None:
        """Take a part of the image (y, x, C)."""


@dataclasses.dataclass(frozen=True)
class Frame:
    """What is known of a frame: size, channels, numbers, and the ids of its names."""

    shape: tuple[int, int]
    channels: int
    dtype: Any
    ids: np.ndarray
    objects: int


Opened = Callable[[Frame], contextlib.AbstractContextManager[Look]]


def factor(shape: Sequence[int], channels: int, room: float) -> int:
    """Return how many pixels of an image (Y, X) become one of its overlay, each way.

    So many that both sides are 2,048 pixels at most, fewer where `room` bytes are too
    little to draw that.

    >>> factor((2000, 100), 1, 1e9), factor((20000, 15000), 1, 1e9)
    (1, 10)
    >>> factor((20000, 15000), 1, 2e7)
    39
    """
    per_pixel = _PER_PIXEL + _PER_CHANNEL * min(channels, _SHOWN)
    bytes_ = math.prod(shape) * per_pixel
    fitting = math.sqrt(bytes_ / max(1.0, _SHARE * room))
    return max(
        1,
        math.ceil(max(shape) / SIDE),
        min(math.ceil(fitting), max(shape) // _LEAST),
    )


@contextlib.contextmanager
def overlay(path: Path, times: int, frame: Frame) -> Iterator[Overlay]:
    """Write an overlay that is smaller by a whole number once the frame is complete."""
    found = Overlay(frame, times)
    yield found
    images.write_png(path, found.draw())


@contextlib.contextmanager
def mask(path: Path, frame: Frame) -> Iterator[Mask]:
    """Write what `outputs` writes as a mask: objects 255, the rest 0, at full size."""
    with images.replacing(path) as part, part.open("wb") as file:
        found = Mask(file, frame)
        yield found
        found.finish()


class Overlay:
    """The image and its labels in blocks of `times` x `times` pixels.

    A block is the mean of its values, so that nothing aliases. It belongs to what most
    of its pixels belong to, background or object, so that outlines are where they are
    in the image. An object that has most of no block gets that which holds most of it,
    unless another object would vanish by it.

    >>> ids = np.arange(3)
    >>> picture = Overlay(Frame((4, 6), 1, np.dtype("u1"), ids, 2), 3)
    >>> picture.part(np.full((4, 6, 1), 7), 0, 0)
    >>> picture.rows(np.array([[1, 1, 1, 0, 0, 0]] * 3 + [[1, 1, 1, 0, 0, 2]]))
    >>> picture.labels().tolist()
    [[1, 0], [1, 2]]
    """

    def __init__(self, frame: Frame, times: int) -> None:
        self._frame, self._times = frame, times
        small = [-(-size // times) for size in frame.shape]
        self._sums = np.zeros((*small, min(frame.channels, _SHOWN)), np.float32)
        self._labels: np.ndarray = np.zeros(small, np.uint32)
        # Of each object, the block with most of it and how much that is.
        self._most = np.zeros(frame.objects + 1, np.uint32)
        self._where = np.zeros(frame.objects + 1, np.int32)
        self._rest: np.ndarray = np.zeros((0, frame.shape[1]), np.uint32)
        self._done = self._given = 0

    def part(self, image: np.ndarray, top: int, left: int) -> None:
        """Take a part of the image (y, x, C)."""
        times, sums = self._times, image[..., :_SHOWN]
        place = []
        for axis, start in enumerate((top, left)):
            # A part may begin and end within a block.
            cuts = np.arange(times - start % times, image.shape[axis], times)
            cuts = np.append(0, cuts)
            sums = np.add.reduceat(sums, cuts, axis, dtype=np.float64)
            place.append(slice(start // times, start // times + len(cuts)))
        self._sums[tuple(place)] += sums

    def rows(self, names: np.ndarray) -> None:
        """Take the next rows of the names, (y, X)."""
        times = self._times
        self._given += len(names)
        last = self._given == self._frame.shape[0]
        begun = -len(self._rest) % times
        if begun:
            self._rest = np.concatenate([self._rest, names[:begun]])
            names = names[begun:]
        if len(self._rest) == times or (last and not len(names)):
            self._reduce(self._rest)
            self._rest = self._rest[:0]
        whole = len(names) if last else len(names) - len(names) % times
        self._reduce(names[:whole])
        if whole < len(names):
            self._rest = names[whole:].copy()

    def _reduce(self, names: np.ndarray) -> None:
        """Find the owners of some rows of blocks."""
        if not len(names):
            return
        times, top = self._times, self._done
        wide = max(1, _AT_ONCE // (len(names) * times)) * times
        for left in range(0, names.shape[1], wide):
            ids = self._frame.ids[names[:, left : left + wide]]
            beyond = [(0, -size % times) for size in ids.shape]
            ids = np.pad(ids, beyond, mode="edge").astype(np.uint32, copy=False)
            down, across = (size // times for size in ids.shape)
            apart = ids.reshape(down, times, across, times).swapaxes(1, 2)
            blocks = apart.reshape(down * across, times**2)
            owners = blocks.min(axis=1)
            mixed = np.flatnonzero(owners != blocks.max(axis=1))
            here = np.s_[top : top + down, left // times : left // times + across]
            if len(mixed):
                down_at, across_at = np.divmod(mixed, across)
                places = (top + down_at) * self._labels.shape[1]
                places += left // times + across_at
                owners[mixed] = self._owners(blocks[mixed], places)
            self._labels[here] = owners.reshape(down, across)
        self._done += -(-len(names) // times)

    def _owners(self, blocks: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Return the most frequent id of each of some blocks, (n, pixels)."""
        blocks = np.sort(blocks, axis=1)
        begins = np.ones(blocks.shape, bool)
        begins[:, 1:] = blocks[:, 1:] != blocks[:, :-1]
        starts = np.flatnonzero(begins)
        counts = np.diff(np.append(starts, blocks.size))
        ids, block = blocks.ravel()[starts], starts // blocks.shape[1]
        # In each block the largest first; of two, an object before background.
        order = np.lexsort((ids, ids == 0, -counts, block))
        owners = ids[order[np.append(True, np.diff(block[order]) > 0)]]
        better = np.flatnonzero((ids > 0) & (counts > self._most[ids]))
        better = better[np.argsort(counts[better], kind="stable")]  # the last stays
        self._most[ids[better]] = counts[better]
        self._where[ids[better]] = places[block[better]]
        return owners

    def labels(self) -> np.ndarray:
        """Return the owner of each block."""
        labels = self._labels.copy()
        sizes = np.bincount(labels.ravel(), minlength=len(self._most))
        lost = np.flatnonzero((sizes == 0) & (self._most > 0))
        lost = lost[np.argsort(self._most[lost], kind="stable")]  # the last stays
        owners = labels.ravel()[self._where[lost]]
        wanted = np.bincount(owners, minlength=len(sizes))
        free = (owners == 0) | (sizes[owners] > wanted[owners])
        labels.ravel()[self._where[lost[free]]] = lost[free]
        return labels

    def draw(self) -> np.ndarray:
        """Return what `outputs.overlay` draws of image and labels, uint8 (Y, X, 3)."""
        image, times = self._sums, self._times
        for axis, size in enumerate(self._frame.shape):
            there = np.full(image.shape[axis], times, np.float32)
            there[-1] = size - times * (len(there) - 1)
            image /= np.expand_dims(there, [n for n in range(3) if n != axis])
        if np.dtype(self._frame.dtype).kind in "ui":
            image = np.round(image).astype(self._frame.dtype)
        # Of what was made smaller, a thick line would hide the small objects.
        thin = 1 if times > 1 else None
        return outputs.overlay(image, self.labels(), thickness=thin)


class Mask:
    """A PNG that is written row by row."""

    def __init__(self, file: BinaryIO, frame: Frame) -> None:
        self._file, self._frame = file, frame
        self._deflate = zlib.compressobj(1)
        file.write(_SIGNATURE)
        height, width = frame.shape
        self._chunk(b"IHDR", struct.pack(">2I5B", width, height, 8, 0, 0, 0, 0))

    def part(self, image: np.ndarray, top: int, left: int) -> None:
        """Take a part of the image, which a mask does not show."""

    def rows(self, names: np.ndarray) -> None:
        """Take the next rows of the names, (y, X)."""
        there = self._frame.ids > 0
        for row in names:
            # Each row begins with the number of its filter: none.
            line = b"\0" + (there[row] * np.uint8(255)).tobytes()
            self._data(self._deflate.compress(line))

    def finish(self) -> None:
        """Write what is left."""
        self._data(self._deflate.flush())
        self._chunk(b"IEND", b"")

    def _data(self, content: bytes) -> None:
        if content:
            self._chunk(b"IDAT", content)

    def _chunk(self, kind: bytes, content: bytes) -> None:
        self._file.write(struct.pack(">I", len(content)) + kind + content)
        self._file.write(struct.pack(">I", zlib.crc32(kind + content)))
