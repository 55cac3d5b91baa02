"""Tables of objects, to calculate with."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.outputs import shapes
from unet_zoo.outputs.overlays import checked

if TYPE_CHECKING:
    import pandas


def table(
    labels: np.ndarray,
    image: np.ndarray,
    *,
    probability: np.ndarray | None = None,
    pixel_size: float | tuple[float, float] | None = None,
) -> pandas.DataFrame:
    """Return one row per object: where it is, its size and shape, how bright it is.

    Columns, in pixels and in the image's own values, as `skimage.measure.regionprops`
    defines them:

    - label, area, centroid_y, centroid_x, min_y, min_x, max_y, max_x (the bounding
      box, its maximum exclusive);
    - mean_intensity, min_intensity, max_intensity, std_intensity; with several channels
      mean_intensity_0, mean_intensity_1, ...;
    - touches_edge: the object may continue outside the image;
    - perimeter, major_axis, minor_axis (of the ellipse with the same second moments),
      orientation (radians, from the rows' axis to the long axis), eccentricity,
      solidity (area over that of the convex hull), equivalent_diameter (of the circle
      of the same area);
    - mean_confidence, where there is a probability: its mean over the object;
    - area_um2, centroid_y_um, centroid_x_um, perimeter_um, major_axis_um,
      minor_axis_um, equivalent_diameter_um, where the pixel size is known. Where pixels
      are not square, axes are exact and perimeter_um is NaN: no one number of pixels
      has a length then.

    Labels without objects give an empty table with the same columns. Rows are sorted
    by label.

    Args:
        labels: whole numbers (Y, X), 0 is background, -1 not annotated.
        image: (Y, X) or (Y, X, C), any numbers.
        probability: (Y, X), of each pixel to be of an object.
        pixel_size: micrometres, one number or (y, x).

    Raises:
        InputError: when sizes differ, or the pixel size is not positive.

    >>> labels = np.array([[0, 0, 0, 0], [0, 7, 7, 0], [0, 0, 0, 0]])
    >>> table(labels, labels * 10)[["label", "area", "centroid_x", "mean_intensity"]]
       label  area  centroid_x  mean_intensity
    0      7     2         1.5            70.0
    >>> table(labels, labels, pixel_size=0.5)["area_um2"].item()
    0.5
    """
    import pandas

    labels, image = checked(labels, image), np.asarray(image)
    size = as_pixel_size(pixel_size)
    found = shapes.runs(labels)
    box = shapes.boxes(found)
    area, y, x, yy, xx, yx = shapes.moments(found)
    columns: dict[str, np.ndarray] = {
        "label": found.labels,
        "area": area.astype(np.int64),
        "centroid_y": y,
        "centroid_x": x,
    }
    columns |= dict(zip(("min_y", "min_x", "max_y", "max_x"), box, strict=True))
    inside = labels > 0
    image = image[..., None] if image.ndim == 2 else image
    for channel in range(image.shape[-1]):
        end = f"_{channel}" if image.shape[-1] > 1 else ""
        measured = _intensities(found, area, image[..., channel][inside])
        columns |= {f"{name}_intensity{end}": each for name, each in measured.items()}
    columns["touches_edge"] = (box[:2] == 0).any(axis=0) | (
        box[2:] == np.array(labels.shape)[:, None]
    ).any(axis=0)
    perimeter = shapes.perimeters(labels, found)
    major, minor, angle = shapes.axes(yy, xx, yx)
    diameter = np.sqrt(4 * area / np.pi)
    flat = np.divide(minor, major, out=np.ones_like(major), where=major > 0)
    columns |= {
        "perimeter": perimeter,
        "major_axis": major,
        "minor_axis": minor,
        "orientation": angle,
        "eccentricity": np.sqrt(np.maximum(1 - flat**2, 0)),
        "solidity": area / shapes.hull_areas(found),
        "equivalent_diameter": diameter,
    }
    if probability is not None:
        if np.shape(probability) != labels.shape:
            message = (
                f"`probability` must be (Y, X) of the size of `labels` {labels.shape}, "
                f"got {np.shape(probability)}"
            )
            raise InputError(message)
        values = _intensities(found, area, np.asarray(probability)[inside])
        columns["mean_confidence"] = values["mean"]
    if size is not None:
        high, wide = size
        long, short, _ = shapes.axes(yy * high**2, xx * wide**2, yx * high * wide)
        columns |= {
            "area_um2": area * high * wide,
            "centroid_y_um": y * high,
            "centroid_x_um": x * wide,
            "perimeter_um": perimeter * (high if high == wide else np.nan),
            "major_axis_um": long,
            "minor_axis_um": short,
            "equivalent_diameter_um": diameter * np.sqrt(high * wide),
        }
    return pandas.DataFrame(columns)


def as_pixel_size(
    given: float | tuple[float, float] | None,
) -> tuple[float, float] | None:
    """Return the height and width of a pixel in micrometres, None where unknown.

    >>> as_pixel_size(0.25), as_pixel_size((0.5, 0.25)), as_pixel_size(None)
    ((0.25, 0.25), (0.5, 0.25), None)
    """
    if given is None:
        return None
    size = np.ravel(np.asarray(given, float))
    if size.size not in (1, 2) or not (np.isfinite(size) & (size > 0)).all():
        message = (
            "`pixel_size` must be micrometres above 0, one number or (y, x). "
            f"Received: {given}"
        )
        raise InputError(message)
    return float(size[0]), float(size[-1])


def _intensities(
    found: shapes.Runs, area: np.ndarray, values: np.ndarray
) -> dict[str, np.ndarray]:
    """Return (N,) each, of the values of all objects' pixels in the image's order."""
    plain = np.dtype(float if values.dtype.kind == "f" else np.int64)
    if not len(values):
        none, least = np.zeros(0), np.zeros(0, plain)
        return {"mean": none, "min": least, "max": least, "std": none}
    if values.dtype == bool:
        values = values.astype(np.uint8)
    length = found.length
    first = np.cumsum(length) - length
    mean = found.sums(np.add.reduceat(values, first, dtype=float)) / area
    away = np.repeat(mean[found.member], length)
    np.subtract(values, away, out=away)
    np.square(away, out=away)
    return {
        "mean": mean,
        "min": found.lowest(np.minimum.reduceat(values, first)).astype(plain),
        "max": found.highest(np.maximum.reduceat(values, first)).astype(plain),
        "std": np.sqrt(found.sums(np.add.reduceat(away, first)) / area),
    }


def write_table(path: str | os.PathLike[str], frame: pandas.DataFrame) -> None:
    """Write a table as CSV with a header and without row numbers.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "objects.csv"
    >>> rows = table(np.array([[0, 3]]), np.array([[5, 6]]))
    >>> write_table(path, rows[["label", "area", "touches_edge"]])
    >>> path.read_text().splitlines()[1]
    '3,1,True'
    """
    with images.replacing(path) as part:
        frame.to_csv(part, index=False, lineterminator="\n")


def write_parquet(path: str | os.PathLike[str], frame: pandas.DataFrame) -> None:
    """Write a table as Parquet; needs pyarrow.

    >>> import pandas, pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "objects.parquet"
    >>> write_parquet(path, table(np.array([[0, 3]]), np.array([[5, 6]])))
    >>> pandas.read_parquet(path)["label"].item()
    3
    """
    with images.replacing(path) as part:
        frame.to_parquet(part, index=False, engine="pyarrow")
