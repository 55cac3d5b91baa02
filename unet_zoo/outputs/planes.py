"""Results as images: labels, masks, probabilities and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.outputs import overlays

if TYPE_CHECKING:
    from unet_zoo.outputs.result import Result


def labels(path: Path, result: Result) -> None:
    """Write the label image, as OME-TIFF where the pixel size is known."""
    images.write_labels(
        path, result.labels, pixel_size=result.pixel_size, planes=result.planes
    )


def mask(path: Path, result: Result) -> None:
    """Write 255 where there is an object, 0 elsewhere."""
    images.write_png(path, np.where(result.labels > 0, 255, 0).astype(np.uint8))


def overlay(path: Path, result: Result) -> None:
    """Write the image with the outlines."""
    overlays.write_overlay(path, result.image, result.labels)


def probability(path: Path, result: Result) -> None:
    """Write float32: the foreground's, or one channel for each of several classes."""
    values = result.probability
    if values is None:
        message = (
            f"{path}: what the network predicted is not known any more, only the "
            "labels; segment again to write probabilities."
        )
        raise InputError(message)
    stored = images.stacked(result.shape[:-2], result.planes)
    axes = stored.axes
    names: list[str] = []
    if result.classes:
        values = np.moveaxis(np.asarray(result.prediction), -1, -3)
        axes += "C"
        names = ["background", *(f"class {n}" for n in range(1, values.shape[-3]))]
    values = np.ascontiguousarray(values, np.float32)
    images.write_tiff(
        path,
        values.reshape(*stored.sizes, *values.shape[result.ndim - 2 :]),
        f"{axes}YX",
        result.pixel_size,
        ome=True,
        channels=names,
    )
