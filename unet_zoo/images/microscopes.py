"""Makers' own formats (CZI, LIF, ND2), each read by a package of its own."""

from __future__ import annotations

import functools
import importlib
import itertools
import math
import re
import threading
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unet_zoo.images import refusing, units
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import PixelSize, Recent, Source, extent

_PACKAGES = {"czi": "czifile", "lif": "liffile", "nd2": "nd2"}
_SPARSEST = 100  # times as many pixels as its tiles may the image of a CZI have
_ZSTD = (5, 6)  # compressions of CZI that czifile leaves to others


def open_file(path: Path, kind: str) -> Source:
    """Return the source of a file; without its reader, say how to install it."""
    try:
        package = importlib.import_module(_PACKAGES[kind])
    except ImportError as error:
        reason = (
            f"{kind.upper()} files are read by the package {_PACKAGES[kind]}, which is "
            f"not installed; pip install 'unet-zoo[{kind}]'"
        )
        raise refusing.unreadable(path, reason) from error
    return {"czi": _czi, "lif": _lif, "nd2": _nd2}[kind](path, package)


def _by_frames(
    axes: str,
    shape: tuple[int, ...],
    inner: str,
    get: Callable[[tuple[int, ...]], np.ndarray],
) -> Callable[[Selection], np.ndarray]:
    """Return how to get a part where `get` reads the last axes, `inner`, at once."""
    outer = len(axes) - len(inner)
    recent, lock = Recent(), threading.Lock()

    def read(place: tuple[int, ...]) -> np.ndarray:
        with lock:
            return get(place).reshape(shape[outer:])

    def fetch(selection: Selection) -> np.ndarray:
        ranges = [
            range(*extent(part, size))
            for part, size in zip(selection[:outer], shape, strict=False)
        ]
        parts = [
            recent.get(place, functools.partial(read, place))[selection[outer:]]
            for place in itertools.product(*ranges)
        ]
        kept = [
            len(some)
            for some, part in zip(ranges, selection, strict=False)
            if isinstance(part, slice)
        ]
        return np.stack(parts).reshape(*kept, *parts[0].shape)

    return fetch


# === Nikon ===


def _nd2(path: Path, package: ModuleType) -> Source:
    file = package.ND2File(path)
    try:
        sizes = dict(file.sizes)
        axes = "".join(sizes)
        inner = "".join(name for name in axes if name in "CYXS")
        if not axes.endswith(inner):
            raise refusing.unreadable(path, f"its axes {axes} are in no known order")
        shape = tuple(sizes.values())
        outer = shape[: len(axes) - len(inner)]

        def get(place: tuple[int, ...]) -> np.ndarray:
            number = int(np.ravel_multi_index(place, outer)) if outer else 0
            return np.asarray(file.read_frame(number))

        voxel = file.voxel_size()
        size = units.micrometres(voxel.y, voxel.x, "um")
        channels = getattr(file.metadata, "channels", None) or []
        measured = [flag for c in channels[:1] for flag in c.volume.axesCalibrated[:2]]
        names = tuple(str(each.channel.name) for each in channels)
        unit = shape[len(outer) :]
        return Source(
            shape,
            axes,
            np.dtype(file.dtype),
            _by_frames(axes, shape, inner, get),
            unit,
            pixel_size=size if all(measured) else None,
            channels=names or None,
            close=file.close,
        )
    except BaseException:
        file.close()
        raise


# === Leica ===


def _lif(path: Path, package: ModuleType) -> Source:
    file = package.LifFile(path)
    try:
        if len(file.images) != 1:
            names = ", ".join(repr(each.name) for each in list(file.images)[:4])
            reason = f"it holds {len(file.images)} images ({names}); export one of them"
            raise refusing.unreadable(path, reason)
        image = file.images[0]
        labels = list(image.sizes)
        letters = "".join(_letter(label) for label in labels)
        shape = tuple(image.sizes.values())
        inner = "YXS" if letters.endswith("YXS") else "YX"
        if not letters.endswith(inner):
            raise refusing.unreadable(path, f"its axes {labels} are in no known order")
        outer = labels[: len(labels) - len(inner)]

        def get(place: tuple[int, ...]) -> np.ndarray:
            frame: np.ndarray = image.frame(**dict(zip(outer, place, strict=True)))
            return frame

        return Source(
            shape,
            letters,
            np.dtype(image.dtype),
            _by_frames(letters, shape, inner, get),
            shape[len(outer) :],
            pixel_size=_steps(image.coords, image.sizes),
            close=file.close,
        )
    except BaseException:
        file.close()
        raise


def _letter(label: str) -> str:
    """Return the letter of an axis of Leica's; several of channels stay channels."""
    return label[0]


def _steps(coords: dict[str, Any], sizes: dict[str, int]) -> PixelSize:
    if not {"Y", "X"} <= set(coords) or min(sizes["Y"], sizes["X"]) < 2:
        return None
    y, x = (abs(float(coords[axis][1] - coords[axis][0])) for axis in "YX")
    return units.micrometres(y, x, "m")


# === Zeiss ===


def _czi(path: Path, package: ModuleType) -> Source:
    file = package.CziFile(str(path))
    try:
        blocks = [
            entry
            for entry in file.filtered_subblock_directory
            if entry.stored_shape == entry.shape  # others are levels of a pyramid
        ]
        if not blocks:
            raise refusing.unreadable(path, "it holds no image")
        first, shape = file.start, tuple(int(size) for size in file.shape)
        there = sum(math.prod(entry.shape) for entry in blocks)
        if math.prod(shape) > _SPARSEST * there + 2**20:
            reason = f"its {len(blocks)} tiles lie too far apart, in {shape}"
            raise refusing.damaged(path, reason)
        dtype = np.dtype(file.dtype)
        unit = max((entry.shape for entry in blocks), key=math.prod)
        # Zeiss's S is the scene, and 0 what others call S, the colours.
        axes = str(file.axes).replace("S", "P").replace("0", "S")
        recent, lock = Recent(), threading.Lock()

        def fetch(selection: Selection) -> np.ndarray:
            bounds = [
                extent(part, size) for part, size in zip(selection, shape, strict=True)
            ]
            found = np.zeros([b - a for a, b in bounds], dtype)
            for number, entry in enumerate(blocks):
                into, part = [], []
                for (a, b), start, origin, size in zip(
                    bounds, entry.start, first, entry.shape, strict=True
                ):
                    at = int(start - origin)
                    low, high = max(a, at), min(b, at + size)
                    into.append(slice(low - a, high - a))
                    part.append(slice(low - at, high - at))
                if all(each.stop > each.start for each in into):
                    pixels = recent.get(number, functools.partial(_block, entry, lock))
                    found[tuple(into)] = pixels[tuple(part)]
            whole = [0 if isinstance(each, int) else slice(None) for each in selection]
            return found[tuple(whole)]

        told = file.metadata() or ""
        return Source(
            shape,
            axes,
            dtype,
            fetch,
            tuple(unit),
            pixel_size=_scaling(told),
            channels=_names(told),
            close=file.close,
        )
    except BaseException:
        file.close()
        raise


def _block(entry: Any, lock: threading.Lock) -> np.ndarray:
    """Decode one block of a CZI, at most as large as it says."""
    import imagecodecs

    with lock:
        segment = entry.data_segment()
        if entry.compression not in _ZSTD:
            pixels: np.ndarray = segment.data(resize=False)
            return pixels.reshape(entry.shape)
        data = segment.data(raw=True)
    packed = False
    if entry.compression == 6:
        # A header of 1 byte, or of 3 that end in whether high and low bytes of
        # 16-bit values are stored apart.
        length = data[0]
        packed = length == 3 and bool(data[2] & 1)
        data = data[length:]
    sample = np.dtype(entry.dtype)
    room = math.prod(entry.shape) * sample.base.itemsize
    found = np.frombuffer(imagecodecs.zstd_decode(data, out=room), np.uint8)
    if packed:
        found = np.ascontiguousarray(found.reshape(2, -1).T)
    pixels = found.view(sample.base).reshape(entry.shape)
    return pixels[..., ::-1] if entry.shape[-1] == 3 else pixels


def _scaling(told: str) -> PixelSize:
    """Return the pixel size that Zeiss's XML gives, in metres."""
    found = {}
    for axis in "YX":
        match = re.search(rf'<Distance Id="{axis}"[^>]*>\s*<Value>([^<]*)<', told)
        found[axis] = match[1] if match else None
    return units.micrometres(found["Y"], found["X"], "m")


def _names(told: str) -> tuple[str, ...] | None:
    try:
        root = ElementTree.fromstring(told)
    except ElementTree.ParseError:
        return None
    channels = root.findall("./Metadata/Information/Image/Dimensions/Channels/Channel")
    names = [each.get("Name") for each in channels]
    return tuple(map(str, names)) if names and all(names) else None
