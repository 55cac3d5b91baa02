"""Files of outlines: ImageJ's ROIs, QuPath's GeoJSON and COCO's JSON."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo.catalog import outlines
from unet_zoo.catalog.outlines import Outline
from unet_zoo.catalog.problems import Problem

# Beside NAME.tif or in masks/: NAME.zip and NAME_RoiSet.zip as Fiji's ROI Manager has
# them, NAME_rois.zip as Cellpose does, NAME.geojson as QuPath does.
ENDINGS = ("", "_RoiSet", "_rois")
SUFFIXES = (".zip", ".roi", ".geojson")
_POINTS_OF_OVAL = 360
_LARGEST = 2**28
# What reading a value of JSON raises where it is not what is expected.
_WRONG = (OverflowError, TypeError, ValueError)


def read(path: Path) -> tuple[list[Outline], Counter[str]]:
    """Return the outlines in a file, and what was left out of it."""
    return _geojson(path) if path.suffix.lower() == ".geojson" else _rois(path)


# === ImageJ ===


def _rois(path: Path) -> tuple[list[Outline], Counter[str]]:
    try:
        import roifile
    except ImportError as error:
        message = f"{path} needs the package 'roifile' to be read."
        way_out = "Install it with: pip install 'unet-zoo[imagej]'"
        raise Problem(path, message, way_out) from error
    empty = False
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                empty = not archive.infolist()  # as of an image without objects
                inner = [e for e in archive.infolist() if e.filename.endswith(".roi")]
                if sum(each.file_size for each in inner) > _LARGEST:
                    message = f"it unpacks to more than {_LARGEST} bytes"
                    raise ValueError(message)
                found = [roifile.ImagejRoi.frombytes(archive.read(e)) for e in inner]
        else:
            found = [roifile.ImagejRoi.frombytes(path.read_bytes())]
    except Exception as error:  # a broken file lets the decoder raise anything
        message = f"{path} is damaged or holds no ROIs of ImageJ ({error})."
        way_out = "Save it anew: ROI Manager > More > Save."
        raise Problem(path, message, way_out) from error
    if not found and not empty:
        message = f"{path} holds no ROIs of ImageJ (files that end in .roi)."
        way_out = "Save them with ROI Manager > More > Save, or take the file away."
        raise Problem(path, message, way_out)
    result, told = [], Counter[str]()
    for roi in found:
        rings = _rings(roi, roifile.ROI_TYPE)
        if not rings:
            told[outlines.FLAT] += 1
            continue
        page, z, t = (
            place - 1 if place > 0 else None  # 0: all of them
            for place in (roi.position, roi.z_position, roi.t_position)
        )
        plane = None if z is None and t is None else (z, t)
        result.append(Outline([rings], page=page, plane=plane))
    return result, told


def _rings(roi: Any, kinds: Any) -> list[np.ndarray]:
    """Return the rings of a ROI, none where it has no area."""
    if roi.multi_coordinates is not None:
        return [np.asarray(ring, float) for ring in roi.coordinates(multi=True)]
    if roi.roitype in (kinds.RECT, kinds.OVAL):
        x, y = float(roi.left), float(roi.top)
        width, height = roi.right - x, roi.bottom - y
        if roi.subpixelrect:
            x, y, width, height = roi.xd, roi.yd, roi.widthd, roi.heightd
        if roi.roitype == kinds.RECT:
            corners = [(x, y), (x + width, y), (x + width, y + height), (x, y + height)]
            return [np.array(corners, float)]
        turn = np.linspace(0, 2 * np.pi, _POINTS_OF_OVAL, endpoint=False)
        round_ = np.stack([1 + np.cos(turn), 1 + np.sin(turn)], axis=-1) / 2
        return [round_ * (width, height) + (x, y)]
    if roi.roitype in (kinds.POLYGON, kinds.FREEHAND, kinds.TRACED):
        ring = np.asarray(roi.coordinates(), float)
        return [ring] if len(ring) > 2 else []
    return []


# === QuPath ===


def _geojson(path: Path) -> tuple[list[Outline], Counter[str]]:
    content = _json(path)
    if isinstance(content, dict):
        if content.get("features") == []:  # as of an image without objects
            return [], Counter()
        content = content.get("features", [content])
    listed = content if isinstance(content, list) else []
    features = [each for each in listed if isinstance(each, dict)]
    if not features or any(each.get("type") != "Feature" for each in features):
        message = f"{path} holds no features of GeoJSON."
        way_out = "In QuPath: File > Export objects as GeoJSON."
        raise Problem(path, message, way_out)
    result, told = [], Counter[str]()
    for number, feature in enumerate(features, start=1):
        try:
            outline = _outline(feature)
        except _WRONG as error:
            message = f"Feature {number} in {path} cannot be read ({error})."
            way_out = "Export the objects anew from QuPath, or take the feature out."
            raise Problem(path, message, way_out) from error
        if outline is None:
            told[outlines.FLAT] += 1
        else:
            result.append(outline)
    return result, told


def _outline(feature: Mapping[str, Any]) -> Outline | None:
    """Return the outline of a feature, None where it has no area.

    Raises one of `_WRONG` where a value is of the wrong kind.
    """
    geometry = _member(feature, "geometry")
    polygons = _polygons(geometry)
    plane = _member(geometry, "plane")  # left out by QuPath where it is the first
    place = _index(plane, "z"), _index(plane, "t")
    role = _role(class_of(feature))
    return Outline(polygons, role=role, plane=place) if polygons else None


def _member(owner: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object within another one, empty where there is none."""
    found = owner.get(name)
    if found is not None and not isinstance(found, dict):
        message = f"`{name}` is not an object but {type(found).__name__}"
        raise TypeError(message)
    return found or {}


def _index(plane: Mapping[str, Any], axis: str) -> int:
    """Return a position along an axis, from 0."""
    index = plane.get(axis, 0)
    if isinstance(index, str) or index is None or int(index) != index or index < 0:
        message = f"the {axis} of its plane is {index!r}, not 0 or more"
        raise ValueError(message)
    return int(index)


def class_of(feature: Mapping[str, Any]) -> str:
    """Return the name of a feature's class, "" without one.

    >>> class_of({"properties": {"classification": {"name": "Tumor"}}})
    'Tumor'
    """
    kind = _member(feature, "properties").get("classification")
    name = kind.get("name") if isinstance(kind, dict) else kind
    return name if isinstance(name, str) else ""


def _role(name: str) -> str:
    """Return what a class stands for: to QuPath two names mean more than a class."""
    return {"Ignore*": "ignore", "Region*": "region"}.get(name, "object")


def _polygons(geometry: Mapping[str, Any]) -> list[list[np.ndarray]]:
    coordinates = geometry.get("coordinates")
    match geometry.get("type"):
        case "Polygon":
            polygons = [coordinates]
        case "MultiPolygon":
            polygons = list(coordinates or [])
        case _:
            return []
    return [[_ring(points) for points in each] for each in polygons if each]


def _ring(points: Any) -> np.ndarray:
    """Return float (N, 2), x and y of points that may have more coordinates."""
    ring = np.array(points, float)
    if ring.ndim != 2 or ring.shape[1] < 2:
        message = "a ring is not a list of points [x, y]"
        raise ValueError(message)
    return _finite(ring[:, :2])


def _finite(ring: np.ndarray) -> np.ndarray:
    if not np.isfinite(ring).all():
        message = "a coordinate is not finite"
        raise ValueError(message)
    return ring


# === COCO ===


@dataclasses.dataclass(frozen=True)
class Pictured:
    """What a COCO file says about one image."""

    file: Path
    name: str
    shape: tuple[int, int] | None
    annotations: Sequence[Mapping[str, Any]]

    def read(self) -> tuple[list[Outline], Counter[str]]:
        """Return the outlines of the image; crowds are not annotated (-1)."""
        result, told = [], Counter[str]()
        for each in self.annotations:
            outline = self._outline(each)
            if outline is None:
                told[outlines.FLAT] += 1
            else:
                result.append(outline)
        return result, told

    def _outline(self, annotation: Mapping[str, Any]) -> Outline | None:
        drawn = annotation.get("segmentation")
        role = "ignore" if annotation.get("iscrowd") else "object"
        try:
            if isinstance(drawn, dict):
                shape, runs = run_lengths(drawn)
                return Outline(runs=runs, shape=shape, role=role)
            rings = [
                _finite(np.array(each, float).reshape(-1, 2)) for each in drawn or []
            ]
        except (KeyError, *_WRONG) as error:
            which = annotation.get("id", "without id")
            message = (
                f"The segmentation of annotation {which} in {self.file} cannot be read"
                f" ({error})."
            )
            way_out = "Export the file anew, or take the annotation out."
            raise Problem(self.file, message, way_out) from error
        # Several polygons are the visible parts of one object.
        rings = [ring for ring in rings if len(ring) > 2]
        return Outline([[ring] for ring in rings], role=role) if rings else None


def is_coco(path: Path) -> bool:
    """Return whether a JSON file has images and annotations as COCO's files have."""
    try:
        content = _json(path)
    except Problem:
        return False
    return isinstance(content, dict) and {"images", "annotations"} <= content.keys()


def coco(path: Path) -> tuple[list[Pictured], int]:
    """Return the images that a COCO file names, and the number of its classes."""
    content = _json(path)
    lists = content if isinstance(content, dict) else {}
    if not all(isinstance(lists.get(name), list) for name in ("images", "annotations")):
        message = f"{path} has no `images` and `annotations`; it is not COCO's JSON."
        raise Problem(path, message, "Give a COCO file of object segmentation.")
    of_image: dict[Any, list[Any]] = {}
    try:
        for each in [*content["images"], *content["annotations"]]:
            if not isinstance(each, dict):
                message = f"it is not an object but {type(each).__name__}"
                raise TypeError(message)
        for each in content["images"]:
            of_image[each["id"]] = []
        for each in content["annotations"]:
            of_image[each["image_id"]].append(each)
        found = [
            Pictured(path, str(each["file_name"]), _size(each), of_image[each["id"]])
            for each in content["images"]
        ]
        classes = {each.get("category_id") for each in content["annotations"]}
    except KeyError as error:
        message = (
            f"{path} is not whole: {error} is missing, in an image or annotation or"
            " as the image that an annotation belongs to."
        )
        raise Problem(path, message, "Export it anew.") from error
    except _WRONG as error:
        message = f"{path} has an image or annotation that cannot be read ({error})."
        raise Problem(path, message, "Export it anew.") from error
    if not found:
        message = f"{path} names no images."
        raise Problem(path, message, "Export it anew with its images.")
    return found, len(classes)


def _size(image: Mapping[str, Any]) -> tuple[int, int] | None:
    height, width = image.get("height"), image.get("width")
    return (int(height), int(width)) if height and width else None


def run_lengths(
    encoded: Mapping[str, Any],
) -> tuple[tuple[int, int], list[int]]:
    """Return (Y, X) of COCO's run lengths, and the lengths, a text or numbers there.

    >>> run_lengths({"size": [2, 3], "counts": "123"})
    ((2, 3), [1, 2, 3])
    """
    height, width = map(int, encoded["size"])
    counts = encoded["counts"]
    runs = list(map(int, _runs(counts) if isinstance(counts, str) else counts))
    if min(runs, default=0) < 0 or sum(runs) != height * width:
        message = f"its runs make {sum(runs)} pixels, its size {height} x {width}"
        raise ValueError(message)
    return (height, width), runs


def _runs(text: str) -> Iterator[int]:
    """Yield the numbers of COCO's compressed run lengths.

    Five bits a character above "0", the sixth says that more follow; from the fourth
    number on, the difference to the last but one.
    """
    before: list[int] = []
    number = shift = 0
    for character in text:
        bits = ord(character) - 48
        number |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            number -= 1 << shift
        if len(before) > 2:
            number += before[-2]
        before.append(number)
        yield number
        number = shift = 0
    if shift:
        message = "its compressed runs end in the middle of a number"
        raise ValueError(message)


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        message = f"Cannot read {path}: {(error.strerror or str(error)).lower()}."
        raise Problem(path, message) from error
    except (ValueError, RecursionError) as error:
        message = f"{path} is not JSON: {error}."
        raise Problem(path, message, "Export it anew; it may be cut off.") from error
