"""Label images and pictures to files, the whole file or nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet_zoo import files
from unet_zoo.errors import InputError
from unet_zoo.images.axes import Planes


def write_labels(
    path: str | os.PathLike[str],
    labels: np.ndarray,
    *,
    pixel_size: tuple[float, float] | None = None,
    planes: Planes | None = None,
) -> None:
    """Write labels (Y, X) or (T, Y, X) as a TIFF, zlib-compressed.

    Stored as uint16, or as uint32 when ids exceed 65535. With a pixel size, (y, x) in
    micrometres, it is an OME-TIFF that says so. Of `planes`, of the image that the
    labels are of, z stays z: (Z, Y, X) or (T, Z, Y, X) is stored. Whoever looks at
    `path` sees the old file or the whole new one.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "labels.tif"
    >>> write_labels(path, np.array([[0, 70000]]))
    >>> tifffile.imread(path)
    array([[    0, 70000]], dtype=uint32)
    """
    path, labels = Path(path), np.asarray(labels)
    if path.suffix.lower() not in (".tif", ".tiff"):
        message = f"Label images are TIFF files: name {path} with the suffix .tif"
        raise InputError(message)
    if labels.ndim not in (2, 3) or labels.size == 0 or labels.dtype.kind not in "bui":
        message = (
            f"`labels` for {path} must be whole numbers (Y, X) or (T, Y, X), "
            f"got {labels.dtype} of shape {labels.shape}"
        )
        raise InputError(message)
    if labels.min() < 0 or labels.max() > np.iinfo(np.uint32).max:
        message = (
            f"`labels` for {path} must be 0..4294967295, got {labels.min()}.."
            f"{labels.max()}; -1 (not annotated) has no place in a result: "
            "write np.maximum(labels, 0)"
        )
        raise InputError(message)
    dtype = np.uint16 if labels.max() <= np.iinfo(np.uint16).max else np.uint32
    stored = stacked(labels.shape[:-2], planes)
    labels = labels.astype(dtype).reshape(*stored.sizes, *labels.shape[-2:])
    write_tiff(path, labels, f"{stored.axes}YX", pixel_size)


def stacked(frames: tuple[int, ...], planes: Planes | None) -> Planes:
    """Return where frames are stored; `frames` is (), or (T,).

    >>> stacked((6,), Planes("TZ", (2, 3))).axes, stacked((6,), None).sizes
    ('TZ', (6,))
    >>> stacked((), None)
    Planes(axes='', sizes=(), channels=1)
    """
    if not frames or planes is None:
        return Planes("T"[: len(frames)], frames)
    return planes.stacked


def write_tiff(
    path: str | os.PathLike[str],
    pixels: np.ndarray,
    axes: str,
    pixel_size: tuple[float, float] | None = None,
    *,
    ome: bool = False,
    channels: Sequence[str] = (),
) -> None:
    """Write planes as a TIFF, zlib-compressed, the whole file or nothing.

    Args:
        path: where to.
        pixels: any numbers.
        axes: one letter for each axis of `pixels`, such as "TCYX".
        pixel_size: (y, x) in micrometres; with it, the file is an OME-TIFF.
        ome: write an OME-TIFF in any case.
        channels: their names, for an OME-TIFF.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "a.tif"
    >>> write_tiff(path, np.zeros((4, 5), "float32"), "YX", (0.5, 0.5))
    >>> with tifffile.TiffFile(path) as file:
    ...     "PhysicalSizeX" in file.ome_metadata
    True
    """
    metadata, more = tiff_facts(axes, pixel_size)
    if channels:
        metadata["Channel"] = {"Name": list(channels)}
    with replacing(path) as part:
        tifffile.imwrite(
            part,
            pixels,
            photometric="minisblack",
            compression="zlib",
            ome=ome or pixel_size is not None,
            metadata=metadata,
            **more,
        )


def tiff_facts(
    axes: str, pixel_size: tuple[float, float] | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what tifffile is told of axes and pixel size: metadata, and other words.

    >>> tiff_facts("YX", (0.5, 0.5))[1]
    {'resolution': (20000.0, 20000.0), 'resolutionunit': 3}
    """
    metadata: dict[str, Any] = {"axes": axes}
    more: dict[str, Any] = {}
    if pixel_size is not None:
        height, width = pixel_size
        metadata |= {"PhysicalSizeX": width, "PhysicalSizeXUnit": "µm"}
        metadata |= {"PhysicalSizeY": height, "PhysicalSizeYUnit": "µm"}
        # For readers that look at TIFF's own tags.
        more = {"resolution": (1e4 / width, 1e4 / height), "resolutionunit": 3}
    return metadata, more


def write_png(path: str | os.PathLike[str], rgb: np.ndarray) -> None:
    """Write a uint8 picture (Y, X, 3) or (Y, X) as PNG, the whole file or nothing.

    >>> import tempfile
    >>> write_png(Path(tempfile.mkdtemp()) / "a.png", np.zeros((5, 6, 3), np.uint8))
    """
    import imagecodecs

    path, rgb = Path(path), np.asarray(rgb)
    if path.suffix.lower() != ".png":
        message = f"Pictures are PNG files: name {path} with the suffix .png"
        raise InputError(message)
    grey = rgb.ndim == 2
    if rgb.dtype != np.uint8 or not (grey or rgb.shape[2:] == (3,)):
        message = (
            f"`rgb` for {path} must be uint8 (Y, X, 3) or (Y, X), "
            f"got {rgb.dtype} {rgb.shape}; see to_uint8"
        )
        raise InputError(message)
    with replacing(path) as part:
        # Of noisy pictures this is smaller than zlib's own choice after PNG's filters,
        # in a tenth of the time.
        part.write_bytes(
            imagecodecs.png_encode(np.ascontiguousarray(rgb), level=1, filter=8)
        )


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path to write to as `files.replacing` does, with errors for people.

    >>> import tempfile
    >>> with replacing(Path(tempfile.mkdtemp()) / "a.txt") as part:
    ...     _ = part.write_text("whole")
    """
    path = Path(path)
    try:
        with files.replacing(path) as part:
            yield part
    except OSError as error:
        hint = "" if path.parent.is_dir() else f"; make the folder {path.parent} first"
        reason = (error.strerror or str(error)).lower()
        message = f"Cannot write {path}: {reason}{hint}"
        raise InputError(message) from error
