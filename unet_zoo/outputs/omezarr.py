"""Results as OME-Zarr: the image, and the labels as a layer upon it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import files, images

if TYPE_CHECKING:
    from unet_zoo.outputs.result import Result

_CHUNK = 512
_SMALLEST = 1024  # the last level of detail is no larger
LABELS = "objects"


def write(path: Path, result: Result) -> None:
    """Write an OME-Zarr 0.4: the image (T, C, Z, Y, X) with the labels "objects".

    Of T and Z there is what the image has. Both have the same levels of detail, each
    half as large as the one before, down to 1,024 pixels. Without a pixel size,
    lengths are in pixels; those along Z always are planes.

    Format: https://ngff.openmicroscopy.org/0.4/
    """
    import zarr

    stack = result.ndim > 2
    frames = images.stacked(result.shape[:-2], result.planes)
    image = np.asarray(result.image)
    image = image if image.ndim > result.ndim else image[..., None]
    image = np.moveaxis(image if stack else image[None], -1, 1)
    labels = (result.labels if stack else result.labels[None])[:, None]
    wide = labels.max(initial=0) > np.iinfo(np.uint16).max
    depth = np.uint32 if wide else np.uint16
    # The order that the format asks for, whatever the file's was.
    names = "".join(name for name in "tczyx" if name in f"c{frames.axes.lower()}yx")
    with files.replacing_folder(path) as part:
        root = zarr.open_group(str(part), mode="w", zarr_format=2)
        _pyramid(root, image, names, frames, result, _halved)
        layers = root.create_group("labels")
        layers.attrs["labels"] = [LABELS]
        layer = layers.create_group(LABELS)
        layer.attrs["image-label"] = {"version": "0.4", "source": {"image": "../../"}}
        _pyramid(layer, labels, names.replace("c", ""), frames, result, _thinned, depth)


def _pyramid(
    group: Any,
    planes: np.ndarray,
    names: str,
    frames: images.Planes,
    result: Result,
    smaller: Any,
    dtype: Any = None,
) -> None:
    """Write (T, C, Y, X), level by level, with the axes of these names.

    `frames` says which z and t those are that `planes` counts.
    """
    import numcodecs

    sizes = [planes.shape[2:]]
    while max(sizes[-1]) > _SMALLEST:
        sizes.append(tuple(-(-size // 2) for size in sizes[-1]))
    count = dict(zip(frames.axes.lower(), frames.sizes, strict=True))
    arrays = []
    for level, (height, width) in enumerate(sizes):
        count |= {"c": planes.shape[1], "y": height, "x": width}
        chunk = {"y": min(height, _CHUNK), "x": min(width, _CHUNK)}
        arrays.append(
            group.create_array(
                str(level),
                shape=tuple(count[name] for name in names),
                chunks=tuple(chunk.get(name, 1) for name in names),
                dtype=dtype or (np.uint8 if planes.dtype == bool else planes.dtype),
                compressors=numcodecs.Blosc("zstd", 5, numcodecs.Blosc.SHUFFLE),
                chunk_key_encoding={"name": "v2", "separator": "/"},
            )
        )
    for number, plane in enumerate(planes):
        place = dict(zip("zt", frames.place(number), strict=True))
        index = tuple(place.get(name, slice(None)) for name in names)
        for level, array in enumerate(arrays):
            plane = plane if level == 0 else smaller(plane)
            array[index] = plane if "c" in names else plane[0]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "name": result.name,
            "axes": [_axis(name, result.pixel_size is not None) for name in names],
            "datasets": [
                {
                    "path": str(level),
                    "coordinateTransformations": _place(names, level, result),
                }
                for level in range(len(sizes))
            ],
        }
    ]


def _axis(name: str, known: bool) -> dict[str, str]:
    kind = {"t": "time", "c": "channel"}.get(name, "space")
    unit = {"unit": "micrometer"} if known and name in "yx" else {}
    return {"name": name, "type": kind, **unit}


def _place(names: str, level: int, result: Result) -> list[dict[str, Any]]:
    """Return how large a pixel of this level is, and where the middle of the first."""
    height, width = result.pixel_size or (1.0, 1.0)
    size = {"y": height, "x": width}
    scale = [
        size.get(name, 1.0) * (2.0**level if name in size else 1) for name in names
    ]
    found: list[dict[str, Any]] = [{"type": "scale", "scale": scale}]
    if level:
        away = [size.get(name, 0.0) * (2**level - 1) / 2 for name in names]
        found.append({"type": "translation", "translation": away})
    return found


def _halved(plane: np.ndarray) -> np.ndarray:
    """Return (C, Y, X) at half the size, each pixel the mean of four."""
    odd = [(0, 0), *((0, size % 2) for size in plane.shape[1:])]
    plane = np.pad(plane, odd, mode="edge")
    count, height, width = plane.shape
    blocks = plane.reshape(count, height // 2, 2, width // 2, 2).mean(axis=(2, 4))
    return blocks.round().astype(plane.dtype) if plane.dtype.kind in "ui" else blocks


def _thinned(plane: np.ndarray) -> np.ndarray:
    return plane[:, ::2, ::2]
