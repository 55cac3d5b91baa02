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
    says which frame of a stack it is in.
    """
    features = [
        feature
        for number, frame in enumerate(result.frames)
        for feature in _features(frame, number if result.ndim > 2 else None)
    ]
    content = {"type": "FeatureCollection", "features": features}
    with images.replacing(path) as part:
        part.write_text(json.dumps(content, separators=(",", ":")), encoding="utf-8")


def _features(result: Result, frame: int | None) -> list[dict[str, Any]]:
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
        if frame is not None:
            geometry["plane"] = {"c": -1, "z": 0, "t": frame}
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

    Of a stack, names begin with the frame ("t000-0001") and the ROI has its position.
    Objects with holes or of several pieces are composite ROIs.
    """
    import zipfile

    with images.replacing(path) as part, zipfile.ZipFile(part, "w") as archive:
        for number, frame in enumerate(result.frames):
            stack = result.ndim > 2
            for label, polygons in outlines.polygons(frame.labels).items():
                name = f"t{number:03d}-{label:04d}" if stack else f"{label:04d}"
                rings = [ring for each in polygons for ring in each]
                roi = _roi(rings, name, number if stack else None)
                archive.writestr(f"{name}.roi", roi)


def _roi(rings: Sequence[np.ndarray], name: str, position: int | None) -> bytes:
    import roifile

    if len(rings) == 1:
        roi = roifile.ImagejRoi.frompoints(rings[0], name=name, position=position)
        roi.roitype = roifile.ROI_TYPE.TRACED
        return roi.tobytes()
    every = np.concatenate(rings)
    (left, top), (right, bottom) = every.min(axis=0), every.max(axis=0)
    steps: list[float] = []
    for ring in rings:
        # 0 moves to, 1 draws a line to, 4 closes.
        kinds = [0.0] + [1.0] * (len(ring) - 1)
        steps += np.column_stack([kinds, ring]).ravel().tolist()
        steps.append(4.0)
    roi = roifile.ImagejRoi()
    roi.roitype, roi.name = roifile.ROI_TYPE.RECT, name
    roi.left, roi.top = int(left), int(top)
    roi.right, roi.bottom = int(right), int(bottom)
    roi.position = 0 if position is None else position + 1
    roi.multi_coordinates = np.array(steps, np.float32)
    roi.shape_roi_size = len(steps)
    return roi.tobytes()
