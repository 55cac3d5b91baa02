"""PNG, JPEG and BMP: decoded as a whole, since they have no parts."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo.images import refusing
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import Source
from unet_zoo.images.tiff import opaque

# No file of n bytes holds more values: deflate gives 1032 bytes for one, JPEG eight
# blocks of 64 (more where colours are coarser).
_DENSEST = {"png": 8 * 1032, "jpeg": 2048, "bmp": 2048}
_TURNED = range(5, 9)  # EXIF orientations that lay the image on its side


def open_picture(path: Path, kind: str, indices: bool) -> Source:
    """Return the source of a picture, of which only the header has been read."""
    with path.open("rb") as data:
        opened = _opened(data, kind)
        if getattr(opened, "n_frames", 1) > 1:
            reason = "it is animated; save its frames as a TIFF stack"
            raise refusing.unreadable(path, reason)
        if opened.mode == "CMYK":
            raise refusing.unreadable(path, "its colours are CMYK; convert it to RGB")
        deep = _deep(data, kind, opened.mode)
        mode = deep or opened.mode
        if mode == "P" and not indices:
            mode = "RGBA" if "transparency" in opened.info else "RGB"
        elif mode in ("L", "RGB") and "transparency" in opened.info:
            mode += "A"
        height, width = opened.height, opened.width
        if kind == "jpeg" and opened.getexif().get(0x0112) in _TURNED:
            height, width = width, height
    bands = {"LA": 2, "PA": 2, "RGB": 3, "RGBA": 4}.get(mode, 1)
    shape = (height, width, bands)
    bytes_there = os.path.getsize(path)
    if height * width * bands > _DENSEST[kind] * bytes_there:
        reason = (
            f"its header asks for {height * width * bands} values, more than its "
            f"{bytes_there} bytes can hold"
        )
        raise refusing.damaged(path, reason)
    dtypes = {"1": "u1", "I;16": "u2", "I;16B": "u2", "I": "i4", "F": "f4"}
    dtype = np.dtype("u2" if deep else dtypes.get(opened.mode, "u1"))
    pixels = _Pixels(path, kind, mode, shape, bool(deep))
    source = Source(shape, "YXS", dtype, pixels.fetch, shape)
    return opaque(path, source) if bands in (2, 4) else source


class _Pixels:
    def __init__(
        self, path: Path, kind: str, mode: str, shape: tuple[int, ...], deep: bool
    ) -> None:
        self._path, self._kind, self._mode = path, kind, mode
        self._shape, self._deep = shape, deep
        self._lock = threading.Lock()
        self._decoded: np.ndarray | None = None

    def fetch(self, selection: Selection) -> np.ndarray:
        with self._lock:
            if self._decoded is None:
                self._decoded = self._decode()
        return self._decoded[selection]

    def _decode(self) -> np.ndarray:
        from PIL import ImageOps

        with self._path.open("rb") as data:
            opened = _opened(data, self._kind)
            opened.load()
            if self._deep:
                import imagecodecs

                # Pillow keeps only the high byte of 16-bit colours.
                data.seek(0)
                pixels = imagecodecs.png_decode(data.read())
            else:
                if self._kind == "jpeg":
                    opened = ImageOps.exif_transpose(opened)
                if opened.mode != self._mode:
                    opened = opened.convert(self._mode)
                pixels = np.asarray(opened)
        pixels = pixels.reshape(*pixels.shape[:2], -1)
        if pixels.shape != self._shape:
            reason = f"{pixels.shape} values where its header says {self._shape}"
            raise refusing.damaged(self._path, reason)
        return pixels


def _opened(data: Any, kind: str) -> Any:
    from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin

    # Not Image.open: its limit on sizes is global and may be a warning or an error.
    decoders: dict[str, Any] = {
        "png": PngImagePlugin.PngImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
    }
    return decoders[kind](data)


def _deep(data: Any, kind: str, mode: str) -> str:
    """Return the mode of a PNG with 16 bits for each of several values, else ""."""
    data.seek(24)
    depth, colours = data.read(2)
    if kind != "png" or depth != 16 or mode == "I;16":
        return ""
    return {2: "RGB", 4: "LA", 6: "RGBA"}.get(colours, "")
