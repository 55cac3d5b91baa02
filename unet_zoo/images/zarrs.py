"""Zarr arrays of versions 2 and 3, chunk by chunk.

The few codecs that images are stored with are decoded here by imagecodecs, each into
the room that the array's metadata give a chunk: a chunk that claims more is refused
before there is any for it, which the Zarr library leaves to its codecs.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo.errors import InputError
from unet_zoo.images import refusing
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import Recent, extent

_MOST = 2**22  # bytes of a metadata file; real ones have a few thousand
_ABSENT = 2**64 - 1  # offset and length of a chunk that a shard lacks


@dataclass
class Array:
    """A Zarr array whose metadata are understood; see `open_array`."""

    path: Path
    shape: tuple[int, ...]
    chunks: tuple[int, ...]  # of what is decoded at once
    dtype: np.dtype
    fill: Any
    name: Callable[[tuple[int, ...]], str]
    steps: list[tuple[str, dict[str, Any]]]  # codecs, in the order of decoding
    order: tuple[int, ...]  # of the axes within a chunk
    per_shard: tuple[int, ...] | None = None  # chunks along each axis of a shard
    at_end: bool = True
    checked: bool = False  # the index of a shard ends in a checksum
    attributes: dict[str, Any] = field(default_factory=dict)
    names: tuple[str | None, ...] | None = None
    recent: Recent = field(default_factory=Recent)

    def fetch(self, selection: Selection) -> np.ndarray:
        """Return a part; chunks that were never written have the fill value."""
        bounds = [
            extent(part, size) for part, size in zip(selection, self.shape, strict=True)
        ]
        found = np.full([b - a for a, b in bounds], self.fill, self.dtype)
        if found.size:
            grid = [
                range(a // size, -(-b // size))
                for (a, b), size in zip(bounds, self.chunks, strict=True)
            ]
            for place in itertools.product(*grid):
                self._fill(found, bounds, place)
        return found[tuple(0 if isinstance(n, int) else slice(None) for n in selection)]

    def _fill(
        self,
        found: np.ndarray,
        bounds: list[tuple[int, int]],
        place: tuple[int, ...],
    ) -> None:
        chunk = self.recent.get(place, lambda: self._chunk(place))
        if not chunk.size:
            return
        into, part = [], []
        for (a, b), n, size in zip(bounds, place, self.chunks, strict=True):
            start, stop = max(a, n * size), min(b, (n + 1) * size)
            into.append(slice(start - a, stop - a))
            part.append(slice(start - n * size, stop - n * size))
        found[tuple(into)] = chunk[tuple(part)]

    def _chunk(self, place: tuple[int, ...]) -> np.ndarray:
        try:
            data = self._stored(place)
            if data is None:
                return np.empty(0, self.dtype)
            return self._decode(data)
        except InputError:
            raise
        except Exception as error:
            where = f"chunk {place}: {refusing.reason(error)}"
            raise refusing.damaged(self.path, where) from error

    def _stored(self, place: tuple[int, ...]) -> bytes | None:
        room = 2 * math.prod(self.chunks) * self.dtype.itemsize + 2**16
        if self.per_shard is None:
            return _bytes(self.path / self.name(place), None, room)
        shard = tuple(n // k for n, k in zip(place, self.per_shard, strict=True))
        inside = tuple(n % k for n, k in zip(place, self.per_shard, strict=True))
        file = self.path / self.name(shard)
        if not file.is_file():
            return None
        count = math.prod(self.per_shard)
        length = 16 * count + 4 * self.checked
        index = self.recent.get(
            ("index", shard), lambda: self._index(file, length)
        ).reshape(*self.per_shard, 2)
        offset, size = (int(value) for value in index[inside])
        if offset == size == _ABSENT:
            return None
        return _bytes(file, (offset, size), room)

    def _index(self, file: Path, length: int) -> np.ndarray:
        start = os.path.getsize(file) - length if self.at_end else 0
        found = _bytes(file, (start, length), length) or b""
        content = found[: length - 4 * self.checked]
        if self.checked and crc32c(content) != int.from_bytes(found[-4:], "little"):
            message = "the checksum of its shard's index is wrong"
            raise ValueError(message)
        return np.frombuffer(content, "<u8")

    def _decode(self, data: bytes) -> np.ndarray:
        room = math.prod(self.chunks) * self.dtype.itemsize
        for n, (name, options) in enumerate(self.steps):
            last = n == len(self.steps) - 1
            # What another codec made is a little longer than what it was made of.
            data = decode(name, options, data, room if last else 2 * room + 2**16)
        if len(data) != room:
            message = f"{len(data)} bytes where {room} are expected"
            raise ValueError(message)
        array = np.frombuffer(data, self.dtype)
        stored = [self.chunks[axis] for axis in self.order]
        return array.reshape(stored).transpose(np.argsort(self.order))


def decode(name: str, options: dict[str, Any], data: bytes, room: int) -> bytes:
    """Return what a codec made `data` of, at most `room` bytes of it.

    >>> import zlib
    >>> decode("zlib", {}, zlib.compress(b"abc"), 3)
    b'abc'
    """
    import imagecodecs

    if name == "crc32c":
        if crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
            message = "its checksum is wrong"
            raise ValueError(message)
        return data[:-4]
    if name == "lz4":  # of numcodecs: the length, then the block
        claimed = int.from_bytes(data[:4], "little")
        return bytes(imagecodecs.lz4_decode(data[4:], out=min(claimed, room)))
    if name in ("bz2", "lzma"):  # these stop where the room ends, and say nothing
        room += 1
    function = getattr(imagecodecs, f"{name}_decode")
    return bytes(function(data, out=room))


_CODECS = ("blosc", "zlib", "gzip", "zstd", "lz4", "bz2", "lzma", "crc32c")


def crc32c(data: bytes) -> int:
    """Return the checksum that Zarr stores (Castagnoli's polynomial).

    >>> hex(crc32c(b"123456789"))
    '0xe3069283'
    """
    crc = 0xFFFFFFFF
    for byte in data:
        crc = (crc >> 8) ^ _TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def _row(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (0x82F63B78 if value & 1 else 0)
    return value


_TABLE = [_row(value) for value in range(256)]


# === Metadata ===


def read_json(path: Path) -> dict[str, Any] | None:
    """Return the object in a JSON file, None where there is no file."""
    try:
        data = _bytes(path, None, _MOST)
        if data is None:
            return None
        found = json.loads(data)
    except (ValueError, RecursionError, OSError) as error:
        raise refusing.damaged(path, error) from error
    if not isinstance(found, dict):
        raise refusing.damaged(path, "no JSON object")
    return found


def attributes(path: Path) -> dict[str, Any]:
    """Return what a Zarr group or array says of itself, {} where it says nothing."""
    found = read_json(path / "zarr.json")
    told = read_json(path / ".zattrs") if found is None else found.get("attributes")
    return told if isinstance(told, dict) else {}


def is_zarr(path: Path) -> bool:
    """Return whether a folder is a Zarr group or array, by name or content."""
    marks = ("zarr.json", ".zarray", ".zgroup")
    return path.suffix.lower() == ".zarr" or any((path / m).is_file() for m in marks)


def open_array(path: Path) -> Array | None:
    """Return the array in a folder; None where it holds none, but a group.

    Raises:
        InputError: for metadata that are damaged, or a codec that is not known here.
    """
    third = read_json(path / "zarr.json")
    second = read_json(path / ".zarray") if third is None else None
    if third is not None and third.get("node_type") == "array":
        make, meta = _third, third
    elif second is not None:
        make, meta = _second, second
    else:
        return None
    try:
        array = make(path, meta)
        sizes = (*array.shape, *array.chunks)
        if len(array.shape) != len(array.chunks) or any(
            not isinstance(size, int) or size < 0 for size in sizes
        ):
            message = f"shape {array.shape} in chunks {array.chunks}"
            raise ValueError(message)
        if 0 in array.chunks or sorted(array.order) != list(range(len(array.shape))):
            message = f"chunks {array.chunks} with axes in the order {array.order}"
            raise ValueError(message)
        np.asarray(array.fill).astype(array.dtype)
    except InputError:
        raise
    except Exception as error:
        why = f"its metadata make no sense: {refusing.reason(error)}"
        raise refusing.damaged(path, why) from error
    return array


def _second(path: Path, meta: dict[str, Any]) -> Array:
    shape, chunks = tuple(meta["shape"]), tuple(meta["chunks"])
    separator = str(meta.get("dimension_separator", "."))
    steps = []
    compressor, filters = meta.get("compressor"), meta.get("filters")
    if compressor:
        steps.append((str(compressor["id"]), dict(compressor)))
    steps += [(str(each["id"]), dict(each)) for each in reversed(filters or [])]
    axes = range(len(shape))
    told = attributes(path)
    return Array(
        path,
        shape,
        chunks,
        np.dtype(meta["dtype"]),
        _number(meta.get("fill_value")),
        lambda place: separator.join(map(str, place)) or "0",
        _known(path, steps),
        tuple(reversed(axes) if meta.get("order") == "F" else axes),
        attributes=told,
        names=_names(told.get("_ARRAY_DIMENSIONS"), shape),
    )


def _third(path: Path, meta: dict[str, Any]) -> Array:
    shape = tuple(meta["shape"])
    grid, encoding = meta["chunk_grid"], meta["chunk_key_encoding"]
    if grid["name"] != "regular" or not isinstance(meta["data_type"], str):
        message = f"grid {grid['name']!r} of {meta['data_type']!r}"
        raise ValueError(message)
    chunks = tuple(grid["configuration"]["chunk_shape"])
    default = {"default": "/", "v2": "."}[encoding["name"]]
    separator = encoding.get("configuration", {}).get("separator", default)
    prefix = ("c",) if encoding["name"] == "default" else ()
    codecs = meta["codecs"]
    shard: dict[str, Any] = {}
    if codecs and codecs[0]["name"] == "sharding_indexed":
        if len(codecs) > 1:
            message = "a shard that is encoded as a whole"
            raise ValueError(message)
        options = codecs[0]["configuration"]
        whole, chunks = chunks, tuple(options["chunk_shape"])
        if any(a % b for a, b in zip(whole, chunks, strict=True)):
            message = f"shards of {whole} in chunks of {chunks}"
            raise ValueError(message)
        index = [each["name"] for each in options["index_codecs"]]
        if index not in (["bytes"], ["bytes", "crc32c"]):
            message = f"a shard's index in {index}"
            raise ValueError(message)
        shard = {
            "per_shard": tuple(a // b for a, b in zip(whole, chunks, strict=True)),
            "at_end": options.get("index_location", "end") == "end",
            "checked": "crc32c" in index,
        }
        codecs = options["codecs"]
    dtype, order, steps = np.dtype(meta["data_type"]), tuple(range(len(shape))), []
    for codec in codecs:
        options = codec.get("configuration") or {}
        if codec["name"] == "transpose":
            order = tuple(order[n] for n in options["order"])
        elif codec["name"] == "bytes":
            big = options.get("endian") == "big"
            dtype = dtype.newbyteorder(">" if big else "<")
        else:
            steps.append((codec["name"].removeprefix("numcodecs."), options))
    told = meta.get("attributes") or {}
    return Array(
        path,
        shape,
        chunks,
        dtype,
        _number(meta.get("fill_value")),
        lambda place: separator.join((*prefix, *map(str, place))) or "0",
        _known(path, steps[::-1]),
        order,
        attributes=told,
        names=_names(meta.get("dimension_names"), shape),
        **shard,
    )


def _known(
    path: Path, steps: list[tuple[str, dict[str, Any]]]
) -> list[tuple[str, dict[str, Any]]]:
    for name, _ in steps:
        if name not in _CODECS:
            reason = (
                f"its chunks are encoded by {name!r}, which is not among "
                f"{', '.join(_CODECS)}; write it anew with one of those"
            )
            raise refusing.unreadable(path, reason)
    return steps


def _number(value: Any) -> Any:
    return 0 if value is None else float(value) if isinstance(value, str) else value


def _names(found: Any, shape: tuple[int, ...]) -> tuple[str | None, ...] | None:
    if isinstance(found, list) and len(found) == len(shape):
        return tuple(None if each is None else str(each) for each in found)
    return None


def _bytes(file: Path, part: tuple[int, int] | None, most: int) -> bytes | None:
    """Return a file's content or a part of it; None where there is no file."""
    try:
        with file.open("rb") as data:
            size = os.fstat(data.fileno()).st_size
            start, length = (0, size) if part is None else part
            if length > most or start < 0 or start + length > size:
                message = f"{length} bytes at {start} of {size}, at most {most}"
                raise ValueError(message)
            data.seek(start)
            return data.read(length)
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        return None
