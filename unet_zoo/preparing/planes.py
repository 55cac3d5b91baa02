"""One image or mask into one file."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from unet_zoo.errors import InputError

LARGEST = np.iinfo(np.uint16).max


def write_image(path: Path, image: np.ndarray, name: str) -> None:
    """Write an image (Y, X, C) as the suffix of `path` says; `name` is for errors."""
    channels = image.shape[-1]
    plain = image[..., 0] if channels == 1 else image
    if path.suffix == ".npy":
        np.save(path, plain)
    elif path.suffix == ".tif":
        _write_tiff(path, plain)
    elif image.dtype not in (np.uint8, np.uint16) or channels not in (1, 3):
        message = (
            f"The image {name} holds {image.dtype} in {channels} channel(s); a PNG can "
            "hold uint8 or uint16 in 1 or 3. Take the format tiff or npy."
        )
        raise InputError(message)
    else:
        _write_png(path, plain)


def write_mask(path: Path, labels: np.ndarray, what: str) -> None:
    """Write labels in 16 bits, or with -1 in them as int32."""
    if labels.max() > LARGEST:
        count = len(np.unique(labels[labels > 0]))
        message = (
            f"The labels of {what} have {count} objects with ids up to {labels.max()}; "
            f"masks of 16 bits hold ids up to {LARGEST}. "
        )
        message += (
            "Take the format coco, or cut the image into pieces."
            if count > LARGEST
            else "Take the format coco, or number the objects anew with "
            "skimage.segmentation.relabel_sequential."
        )
        raise InputError(message)
    missing = int(np.count_nonzero(labels < 0))
    if missing and path.suffix == ".png":
        message = (
            f"{missing} pixels of {what} are not annotated (-1), and a PNG cannot hold "
            "-1. Take the format tiff, npy or coco, which keep it, or write another "
            f"number in its place: `unannotated` (--unannotated), {LARGEST} or, for "
            "background, 0."
        )
        raise InputError(message)
    labels = labels.astype(np.int32 if missing else np.uint16)
    if path.suffix == ".npy":
        np.save(path, labels)
    elif path.suffix == ".png":
        _write_png(path, labels)
    else:
        _write_tiff(path, labels)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    import imagecodecs

    # Pillow does not write colours of 16 bits.
    path.write_bytes(imagecodecs.png_encode(np.ascontiguousarray(pixels), level=6))


def _write_tiff(path: Path, pixels: np.ndarray) -> None:
    import tifffile

    colours = pixels.ndim == 3 and pixels.shape[-1] == 3
    if pixels.ndim == 3 and not (colours and pixels.dtype in (np.uint8, np.uint16)):
        # Channels that are not colours, as planes.
        pixels, colours = np.moveaxis(pixels, -1, 0), False
    tifffile.imwrite(
        path,
        np.ascontiguousarray(pixels),
        photometric="rgb" if colours else "minisblack",
        planarconfig="contig" if colours else None,
        compression="zlib",
        metadata={"axes": "YXS" if colours else "CYX"[-pixels.ndim :]},
    )


def replaced(labels: np.ndarray, value: int, what: str) -> np.ndarray:
    """Return labels with `value` instead of -1, unless an object is called so."""
    missing = labels < 0
    if value and (labels == value).any() and missing.any():
        message = (
            f"`unannotated` is {value}, which is the id of an object in {what}. "
            "Choose a number that no object has."
        )
        raise InputError(message)
    return np.where(missing, value, labels)
