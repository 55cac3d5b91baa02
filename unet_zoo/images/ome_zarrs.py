"""OME-Zarr 0.4 and 0.5, and plain Zarr arrays: which array, and what its axes are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo.images import numpys, refusing, units, zarrs
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import PixelSize, Source

_LETTERS = "TCZYXSP"


def open_zarr(path: Path) -> Source:
    """Return the source of a folder: the full resolution of an image, or an array."""
    array = zarrs.open_array(path)
    if array is not None:
        return _plain(path, array)
    told = zarrs.attributes(path)
    told = _object(told.get("ome")) or told
    pyramids = told.get("multiscales")
    if not isinstance(pyramids, list) or not pyramids:
        return _within(path, told)
    return _image(path, told, _object(pyramids[0]))


def _image(path: Path, told: dict[str, Any], pyramid: dict[str, Any]) -> Source:
    levels = pyramid.get("datasets")
    level = _object(levels[0]) if isinstance(levels, list) and levels else {}
    name = level.get("path")
    inside = isinstance(name, str) and name and not Path(name).is_absolute()
    if not inside or ".." in Path(str(name)).parts:
        raise refusing.damaged(path, f"its first resolution lies at {name!r}")
    array = zarrs.open_array(path / str(name))
    if array is None:
        raise refusing.damaged(path, f"there is no array {name!r} in it")
    axes = [
        each if isinstance(each, dict) else {"name": each}
        for each in pyramid.get("axes") or []
    ]
    names = [str(each.get("name")) for each in axes]
    if not names and len(array.shape) == 5:  # before version 0.3
        names = list("tczyx")
    letters = _letters(tuple(names), len(array.shape))
    if letters is None:
        reason = f"its axes {names} do not name those of its shape {array.shape}"
        raise refusing.unreadable(path, reason)
    source = _source(array, letters)
    source.pixel_size = _pixel_size(letters, axes, level, pyramid)
    labels = [
        _object(each).get("label")
        for each in _object(told.get("omero")).get("channels") or []
    ]
    if labels and all(isinstance(each, str) and each for each in labels):
        source.channels = tuple(map(str, labels))
    return source


def _within(path: Path, told: dict[str, Any]) -> Source:
    """Open the one image in a group that is none itself, or name those there are."""
    if "plate" in told or "well" in told:
        wells = _object(told.get("plate")).get("wells") or _object(
            told.get("well")
        ).get("images")
        first = _object((wells or [{}])[0]).get("path", "A/1")
        reason = f"it is a plate or a well; name an image in it, such as {path / first}"
        raise refusing.unreadable(path, reason)
    try:
        inside = sorted(each for each in path.iterdir() if zarrs.is_zarr(each))
    except OSError as error:
        raise refusing.unreadable(path, refusing.reason(error)) from error
    inside = [each for each in inside if each.name not in ("OME", "labels")]
    if len(inside) == 1 and not inside[0].is_symlink():
        return open_zarr(inside[0])
    if not inside:
        raise refusing.unreadable(path, "it holds no Zarr array, or none of its own")
    some = ", ".join(str(each) for each in inside[:3])
    reason = f"it is a group of {len(inside)}; name one of them, such as {some}"
    raise refusing.unreadable(path, reason)


def _plain(path: Path, array: zarrs.Array) -> Source:
    letters = _letters(array.names, len(array.shape))
    if letters is not None:
        return _source(array, letters)
    source = numpys.unnamed(path, array.shape, array.dtype, array.fetch)
    source.unit = array.chunks
    return source


def _source(array: zarrs.Array, letters: str) -> Source:
    def fetch(selection: Selection) -> np.ndarray:
        return array.fetch(selection)

    return Source(array.shape, letters, array.dtype, fetch, array.chunks)


def _letters(names: tuple[str | None, ...] | None, count: int) -> str | None:
    """Return a letter per axis, None unless every axis has a name of its own."""
    letters = "".join((each or "?")[:1].upper() for each in names or ())
    known = all(each in _LETTERS for each in letters)
    once = len(set(letters)) == len(letters) == count
    return letters if known and once and {"Y", "X"} <= set(letters) else None


def _pixel_size(
    letters: str,
    axes: list[dict[str, Any]],
    level: dict[str, Any],
    pyramid: dict[str, Any],
) -> PixelSize:
    scale = [1.0] * len(letters)
    found = False
    for owner in (level, pyramid):
        for step in owner.get("coordinateTransformations") or []:
            factors = _object(step).get("scale")
            if isinstance(factors, list) and len(factors) == len(letters):
                try:
                    scale = [a * float(b) for a, b in zip(scale, factors, strict=True)]
                except (TypeError, ValueError):
                    return None
                found = True
    if not found or len(axes) != len(letters):
        return None
    y, x = letters.index("Y"), letters.index("X")
    # A scale without a unit counts in something; nobody knows in what.
    one, other = (axes[n].get("unit") for n in (y, x))
    if one != other:
        return None
    return units.micrometres(scale[y], scale[x], one)


def _object(found: Any) -> dict[str, Any]:
    return found if isinstance(found, dict) else {}
