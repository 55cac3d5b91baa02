"""Results as outlines for QuPath and ImageJ, exact to the pixel."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import images
from unet_zoo.outputs import outlines, overlays

if TYPE_CHECKING:
    from unet_zoo.outputs.result import Result

# What is no measurement of an object, but says which and where it is.
_PLACES = ("frame", "min_y", "min_x", "max_y", "max_x")


def geojson(path: Path, result: Result) -> None:
    """Write QuPath's GeoJSON: a detection per object, with its measurements.

    Coordinates are pixels from the upper left corner of the image, as QuPath has them;
    rings are closed. The name of a detection is its id in the label image; `plane`
    says at which z and t of a stack it is.
    """
    planes = _planes(result)
    features = [
        feature
        for number, frame in enumerate(result.frames)
        for feature in _features(frame, number, planes)
    ]
    content = {"type": "FeatureCollection", "features": features}
    with images.replacing(path) as part:
        part.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _planes(result: Result) -> images.Planes | None:
    """Return where the frames of a stack lie, None of a single image."""
    if result.ndim < 3:
        return None
    return result.planes or images.Planes("T", (len(result.labels),))


def _features(
    result: Result, number: int, planes: images.Planes | None
) -> list[dict[str, Any]]:
    frame = None if planes is None else number
    rows = {row["label"]: row for row in result.table().to_dict("records")}
    found = []
    for label, polygons in outlines.polygons(result.labels).items():
        closed = [
            [np.concatenate([ring, ring[:1]]).tolist() for ring in rings]
            for rings in polygons
        ]
        geometry: dict[str, Any] = (
            {"type": "Polygon", "coordinates": closed[0]}
            if len(closed) == 1
            else {"type": "MultiPolygon", "coordinates": closed}
        )
        if planes is not None:
            z, t = planes.place(number)
            geometry["plane"] = {"c": -1, "z": z, "t": t}
        kind = f"class {label}" if result.classes else "object"
        place = (label - 1) % len(overlays.COLOURS) if result.classes else 0
        colour = overlays.COLOURS[place].tolist()
        measured = {
            name: float(value)
            for name, value in rows[label].items()
            if name not in _PLACES and math.isfinite(value)
        }
        # The same object has the same id, whenever it is written.
        which = uuid.uuid5(uuid.NAMESPACE_URL, f"{result.name}/{frame}/{label}")
        found.append(
            {
                "type": "Feature",
                "id": str(which),
                "geometry": geometry,
                "properties": {
                    "objectType": "detection",
                    "name": str(label),
                    "classification": {"name": kind, "color": colour},
                    "measurements": measured,
                },
            }
        )
    return found


def rois(path: Path, result: Result) -> None:
    """Write a zip of ImageJ's ROIs, one per object, named by its id in four digits.

    Of a stack, names begin with the frame ("t000-0001") and the ROI has its position:
    the slice, or z and t where ImageJ shows a hyperstack, there in all channels.
    Objects with holes or of several pieces are composite ROIs.
    """
    import zipfile

    planes = _planes(result)
    with images.replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for number, frame in enumerate(result.frames):
            position = {} if planes is None else _position(planes, number)
            for label, polygons in outlines.polygons(frame.labels).items():
                name = f"t{number:03d}-{label:04d}" if planes else f"{label:04d}"
                rings = [ring for each in polygons for ring in each]
                roi = _roi(rings)
                roi.name = name
                for which, place in position.items():
                    setattr(roi, which, place)
                archive.writestr(f"{name}.roi", roi.tobytes())


def _position(planes: images.Planes, number: int) -> dict[str, int]:
    """Return what a ROI has to say to be on one frame; ImageJ counts from 1."""
    if not planes.hyperstack:
        return {"position": number + 1}
    z, t = planes.place(number)
    return {"z_position": z + 1, "t_position": t + 1}


def _roi(rings: Sequence[np.ndarray]) -> Any:
    import roifile

    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0])
        roi.roitype = roifile.ROI_TYPE.TRACED
        return roi
    every = np.concatenate(rings)
    (left, top), (right, bottom) = every.min(axis=0), every.max(axis=0)
    steps: list[float] = []
    for ring in rings:
        # 0 moves to, 1 draws a line to, 4 closes.
        kinds = [0.0] + [1.0] * (len(ring) - 1)
        steps += np.column_stack([kinds, ring]).ravel().tolist()
        steps.append(4.0)
    roi = roifile.ImagejRoi()
    roi.roitype = roifile.ROI_TYPE.RECT
    roi.left, roi.top = int(left), int(top)
    roi.right, roi.bottom = int(right), int(bottom)
    roi.multi_coordinates = np.array(steps, np.float32)
    roi.shape_roi_size = len(steps)
    return roi
