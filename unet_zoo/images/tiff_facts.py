"""What a TIFF says beside its pixels: their size, the names of channels."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

import tifffile

from unet_zoo.images import units
from unet_zoo.images.sources import PixelSize


def pixel_size(file: tifffile.TiffFile) -> PixelSize:
    """Return the size of a pixel (y, x) in micrometres, where the file says it.

    OME's PhysicalSize, ImageJ's unit and resolution, then the resolution of TIFF. What
    is meant for printers is left out, also where ImageJ took inches over from a TIFF.
    """
    if file.is_ome:
        pixels = _first(file, "Pixels")
        return None if pixels is None else _physical(pixels)
    page: Any = file.pages[0]
    x, y = (_per_unit(page, tag) for tag in (282, 283))
    if x is None or y is None:
        return None
    if file.is_imagej:
        told = str((file.imagej_metadata or {}).get("unit", "")).strip().lower()
        size = units.micrometres(1 / y, 1 / x, told)
        if told not in ("inch", "in"):  # what it makes of dpi by itself
            return size
    else:
        unit = {2: "inch", 3: "cm"}.get(int(page.tags.valueof(296, 1)))
        size = units.micrometres(1 / y, 1 / x, unit)
    return size if size is not None and max(size) < units.PRINTED else None


def channels(file: tifffile.TiffFile) -> tuple[str, ...] | None:
    """Return the names of the channels, None where there are none or not for all."""
    if file.is_ome:
        pixels = _first(file, "Pixels")
        found = [] if pixels is None else _children(pixels, "Channel")
        names = [each.get("Name") or each.get("Fluor") for each in found]
        return tuple(names) if names and all(names) else None  # type: ignore[arg-type]
    labels = (file.imagej_metadata or {}).get("Labels") if file.is_imagej else None
    count = (file.imagej_metadata or {}).get("channels", 1) if labels else 0
    # ImageJ labels every slice; the first ones are the channels of the first.
    if labels and count == len(labels) and all(map(str, labels)):
        return tuple(map(str, labels))
    return None


def _physical(pixels: ElementTree.Element) -> PixelSize:
    size = [pixels.get(f"PhysicalSize{axis}") for axis in "YX"]
    unit = [pixels.get(f"PhysicalSize{axis}Unit", "\u00b5m") for axis in "YX"]
    if None in size:
        return None
    y = units.micrometres(size[0], size[0], unit[0])
    x = units.micrometres(size[1], size[1], unit[1])
    return None if y is None or x is None else (y[0], x[1])


def _first(file: tifffile.TiffFile, name: str) -> ElementTree.Element | None:
    try:
        root = ElementTree.fromstring(file.ome_metadata or "")
    except ElementTree.ParseError:
        return None
    return next((each for each in root.iter() if _local(each) == name), None)


def _children(parent: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    return [each for each in parent if _local(each) == name]


def _local(element: ElementTree.Element) -> str:
    return str(element.tag).rpartition("}")[2]


def _per_unit(page: Any, tag: int) -> float | None:
    try:
        above, below = page.tags.valueof(tag, (0, 1))
        return above / below if above > 0 and below > 0 else None
    except (TypeError, ValueError):
        return None
