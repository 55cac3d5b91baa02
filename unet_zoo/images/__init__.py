"""Images in, label images out: one array layout whatever the file's format."""

from __future__ import annotations

from unet_zoo.images.axes import Planes
from unet_zoo.images.finding import MASK_SUFFIXES, READABLE, SUFFIXES, find, stem
from unet_zoo.images.reading import Image, open_image, read, read_one
from unet_zoo.images.values import normalize, rescale, rescale_labels, to_uint8
from unet_zoo.images.writing import (
    replacing,
    stacked,
    write_labels,
    write_png,
    write_tiff,
)

__all__ = [
    "MASK_SUFFIXES",
    "READABLE",
    "SUFFIXES",
    "Image",
    "Planes",
    "find",
    "normalize",
    "open_image",
    "read",
    "read_one",
    "replacing",
    "rescale",
    "rescale_labels",
    "stacked",
    "stem",
    "to_uint8",
    "write_labels",
    "write_png",
    "write_tiff",
]
