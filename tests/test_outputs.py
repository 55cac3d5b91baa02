"""Overlays show every object and nothing else; tables count what is there."""

from __future__ import annotations

import math
import time

import numpy as np
import pandas
import pytest
import scipy.ndimage
import shapely
import skimage.measure

from unet_zoo import images, outputs
from unet_zoo.errors import InputError

COLUMNS = [
    "label", "area", "centroid_y", "centroid_x", "min_y", "min_x", "max_y", "max_x",
    "mean_intensity", "min_intensity", "max_intensity", "std_intensity",
    "touches_edge", "perimeter", "major_axis", "minor_axis", "orientation",
    "eccentricity", "solidity", "equivalent_diameter",
]  # fmt: skip


def cells(shape: tuple[int, int], seed: int = 0) -> np.ndarray:
    """Return touching and single cells with gaps in their ids."""
    generator = np.random.default_rng(seed)
    count = max(2, math.prod(shape) // 400)
    seeds = np.zeros(shape, int)
    places = generator.choice(math.prod(shape), count, replace=False)
    seeds.flat[places] = generator.choice(90000, count, replace=False) + 1
    distance, nearest = scipy.ndimage.distance_transform_edt(
        seeds == 0, return_indices=True
    )
    return np.where(distance < 9, seeds[tuple(nearest)], 0)


def grey(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    return np.random.default_rng(1).integers(0, 200, shape).astype(dtype)


# --- overlay -----------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 80), (47, 410)])
@pytest.mark.parametrize("channels", [(), (1,), (2,), (3,), (5,)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_overlay_differs_only_at_the_rim_inside(shape, channels, dtype):
    labels, image = cells(shape), grey((*shape, *channels), dtype)
    drawn, plain = outputs.overlay(image, labels), images.to_uint8(image)
    assert drawn.dtype == np.uint8
    assert drawn.shape == (*shape, 3)
    differs = (drawn != plain).any(axis=-1)
    assert differs.mean() > 0.1
    assert (labels[differs] > 0).all()
    thickness = 2 if max(shape) >= 400 else 1
    for label in np.unique(labels[labels > 0]):
        own = np.pad(labels == label, thickness, mode="edge")
        core = scipy.ndimage.minimum_filter(own, 2 * thickness + 1)
        core = core[thickness:-thickness, thickness:-thickness]
        assert not differs[core].any()
        rim = (labels == label) & ~core
        colours = np.unique(drawn[rim], axis=0)
        assert len(colours) == 1, "an outline has one colour and no gap"
        assert (colours == outputs.COLOURS).all(axis=1).any()


@pytest.mark.parametrize("seed", range(4))
def test_touching_objects_have_different_colours(seed):
    labels = cells((120, 150), seed)
    drawn = outputs.overlay(np.zeros(labels.shape), labels, fill=1)
    pairs = 0
    for axis in (0, 1):
        one, other = (
            np.moveaxis(labels, axis, 0)[part] for part in (slice(1, None), slice(-1))
        )
        touch = (one != other) & (one > 0) & (other > 0)
        colours = np.moveaxis(drawn, axis, 0)
        same = (colours[1:] == colours[:-1]).all(axis=-1)
        assert not (same & touch).any()
        pairs += touch.sum()
    assert pairs > 50


def test_near_objects_have_different_colours():
    """Ids 12 apart begin with the same colour; a neighbour gives way."""
    labels = np.zeros((20, 40), int)
    labels[5:15, 5:15], labels[5:15, 20:30] = 1, 13
    drawn = outputs.overlay(np.zeros(labels.shape), labels)
    assert (drawn[5, 5] != drawn[5, 20]).any()


def test_colour_follows_the_id():
    labels = np.zeros((30, 30), int)
    labels[3:9, 3:9], labels[20:25, 4:9] = 5, 8
    moved = np.roll(labels, 7, axis=1)
    moved[moved == 5] = 0
    first = outputs.overlay(np.zeros(labels.shape), labels)
    second = outputs.overlay(np.zeros(labels.shape), moved)
    np.testing.assert_array_equal(first[20, 4], second[20, 11])


def test_no_outline_where_the_image_ends():
    labels = np.zeros((20, 20), int)
    labels[:8, 5:15] = 1
    drawn = outputs.overlay(np.zeros((20, 20)), labels).any(axis=-1)
    assert drawn[:8, 5].all()
    assert drawn[7, 5:15].all()
    assert not drawn[0, 6:14].any()


def test_overlay_of_nothing_and_of_everything():
    image = grey((20, 30))
    for value in (0, -1):
        labels = np.full((20, 30), value)
        plain = outputs.overlay(image, labels)
        np.testing.assert_array_equal(plain, images.to_uint8(image))
    full = outputs.overlay(image, np.full((20, 30), 4))
    np.testing.assert_array_equal(full, images.to_uint8(image))
    filled = outputs.overlay(image, np.full((20, 30), 4), fill=1)
    assert (filled == outputs.COLOURS[3]).all()
    assert outputs.overlay(np.zeros((1, 1)), np.ones((1, 1), int)).shape == (1, 1, 3)


def test_overlay_leaves_its_arguments_alone():
    image, labels = grey((30, 30, 3)), cells((30, 30))
    before = image.copy(), labels.copy()
    outputs.overlay(image, labels, fill=0.5)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])


def test_write_overlay(tmp_path):
    image, labels = grey((30, 40), "uint16"), cells((30, 40))
    outputs.write_overlay(tmp_path / "a.png", image, labels, fill=0.2)
    expected = outputs.overlay(image, labels, fill=0.2)
    np.testing.assert_array_equal(images.read_one(tmp_path / "a.png"), expected)


# --- table -------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(60, 80), (1, 90), (41, 33)])
@pytest.mark.parametrize("channels", [0, 1, 3])
def test_table_equals_regionprops(shape, channels):
    labels = cells(shape)
    labels[0, :5] = -1
    image = grey((*shape, channels) if channels else shape, "float32")
    frame = outputs.table(labels, image)
    assert frame["area"].sum() == (labels > 0).sum()
    assert frame["label"].tolist() == np.unique(labels[labels > 0]).tolist()
    regions = skimage.measure.regionprops(np.maximum(labels, 0), image)
    assert len(regions) == len(frame) > 0
    for region, row in zip(regions, frame.to_dict("records"), strict=True):
        assert row["label"] == region.label
        assert row["area"] == region.area
        centroid = (row["centroid_y"], row["centroid_x"])
        assert centroid == pytest.approx(region.centroid)
        box = (row["min_y"], row["min_x"], row["max_y"], row["max_x"])
        assert box == region.bbox
        if channels > 1:
            means = [row[f"mean_intensity_{n}"] for n in range(channels)]
        else:
            means = row["mean_intensity"]
        assert means == pytest.approx(np.squeeze(region.intensity_mean).tolist())


# Ours, and scikit-image's name of the same.
SHAPES = {
    "area": "area",
    "perimeter": "perimeter",
    "major_axis": "axis_major_length",
    "minor_axis": "axis_minor_length",
    "eccentricity": "eccentricity",
    "solidity": "solidity",
    "equivalent_diameter": "equivalent_diameter_area",
    "mean_intensity": "intensity_mean",
    "min_intensity": "intensity_min",
    "max_intensity": "intensity_max",
    "std_intensity": "intensity_std",
}


def shapes() -> dict[str, np.ndarray]:
    """Return labels of every kind: touching, in pieces, with holes, of one pixel."""
    random = np.random.default_rng(0)
    lines = np.eye(30, dtype=int) * 3
    lines[5:8, 20], lines[25, 3:9], lines[0, 29] = 9, 11, 70000
    ring = np.zeros((40, 50), int)
    ring[5:30, 5:40], ring[10:20, 10:30], ring[14, 20] = 2, 0, 5
    # Ring and hole meet the outside, and each other, only at corners.
    ring[33:36, 3:6] = [[7, 7, 7], [7, 0, 7], [7, 7, 0]]
    ring[31:35, 20:24] = [[8, 8, 8, 8], [8, 0, 8, 8], [8, 8, 0, 8], [8, 8, 8, 8]]
    return {
        "cells": cells((90, 110)),
        "scattered": random.integers(0, 40, (60, 70)),
        "two": random.integers(0, 3, (50, 60)),
        "dust": random.integers(0, 2, (45, 60)),
        "lines": lines,
        "rings": ring,
        "full": np.full((9, 7), 3),
        "one pixel": np.ones((1, 1), int),
    }


@pytest.mark.parametrize("name", shapes())
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_shapes_equal_regionprops(name, dtype):
    labels = shapes()[name]
    image = grey(labels.shape, dtype)
    frame = outputs.table(labels, image)
    regions = skimage.measure.regionprops(labels, image)
    assert frame["label"].tolist() == [region.label for region in regions]
    for ours, theirs in SHAPES.items():
        expected = [float(getattr(region, theirs)) for region in regions]
        np.testing.assert_allclose(frame[ours], expected, 1e-6, 1e-6, err_msg=ours)
    # An axis points both ways.
    turned = frame["orientation"] - [region.orientation for region in regions]
    np.testing.assert_allclose(np.sin(turned), 0, atol=1e-6)


def test_confidence_and_micrometres():
    labels = shapes()["cells"]
    probability = np.random.default_rng(0).random(labels.shape, "float32")
    plain = outputs.table(labels, labels)
    frame = outputs.table(
        labels, labels, probability=probability, pixel_size=(0.5, 0.5)
    )
    expected = [probability[labels == each].mean() for each in frame["label"]]
    np.testing.assert_allclose(frame["mean_confidence"], expected, 1e-5)
    assert "mean_confidence" not in plain
    assert not [name for name in plain if "_um" in name]
    np.testing.assert_allclose(frame["area_um2"], plain["area"] / 4)
    for name in ("perimeter", "major_axis", "minor_axis", "equivalent_diameter"):
        np.testing.assert_allclose(frame[f"{name}_um"], plain[name] / 2)
    oblong = outputs.table(labels, labels, pixel_size=(0.5, 2.0))
    regions = skimage.measure.regionprops(labels, spacing=(0.5, 2.0))
    assert oblong["perimeter_um"].isna().all()
    for name, theirs in (
        ("area_um2", "area"),
        ("major_axis_um", "axis_major_length"),
        ("minor_axis_um", "axis_minor_length"),
    ):
        expected = [getattr(region, theirs) for region in regions]
        np.testing.assert_allclose(oblong[name], expected, 1e-9, 1e-9)
    centres = [region.centroid for region in regions]
    np.testing.assert_allclose(oblong[["centroid_y_um", "centroid_x_um"]], centres)


@pytest.mark.parametrize("size", [0, -1, math.nan, (1, 2, 3)])
def test_a_pixel_size_that_is_none(size):
    with pytest.raises(InputError, match=r"`pixel_size` must be .* Received"):
        outputs.table(np.eye(3, dtype=int), np.eye(3), pixel_size=size)


def test_ten_thousand_objects_take_no_time():
    """Some 0.3 seconds on one core; looking at one object after the other takes 10."""
    y, x = np.mgrid[:1000, :1000]
    labels = (y // 10) * 100 + x // 10 + 1
    labels[np.hypot(y % 10 - 4.5, x % 10 - 4.5) > 4.3] = 0
    started = time.process_time()
    frame = outputs.table(labels, labels, probability=labels / labels.max())
    assert time.process_time() - started < 5
    assert len(frame) == 10_000


# --- polygons ----------------------------------------------------------------


@pytest.mark.parametrize("name", shapes())
def test_polygons_hold_exactly_their_pixels(name):
    labels = shapes()[name]
    y, x = np.mgrid[: labels.shape[0], : labels.shape[1]] + 0.5
    again = np.zeros_like(labels)
    found = outputs.polygons(labels)
    assert list(found) == np.unique(labels[labels > 0]).tolist()
    for label, polygons in found.items():
        shape = shapely.MultiPolygon([(rings[0], rings[1:]) for rings in polygons])
        assert shape.is_valid, shapely.is_valid_reason(shape)
        assert shape.area == np.count_nonzero(labels == label)
        pieces = skimage.measure.label(labels == label, connectivity=1)
        assert len(polygons) == pieces.max()
        inside = shapely.contains_xy(shape, x, y)
        assert not again[inside].any()
        again[inside] = label
        for ring in (ring for rings in polygons for ring in rings):
            assert len(np.unique(ring, axis=0)) == len(ring)
            assert (np.diff(ring, axis=0, append=ring[:1]) != 0).sum() == len(ring)
    np.testing.assert_array_equal(again, labels)


def test_no_polygons_of_nothing():
    assert outputs.polygons(np.zeros((4, 5), int)) == {}
    assert outputs.polygons(np.full((4, 5), -1)) == {}


def test_touches_edge():
    labels = np.zeros((20, 30), int)
    labels[0:3, 5:9], labels[8:12, 0:2], labels[18:20, 20:22] = 1, 2, 3
    labels[10:14, 28:30], labels[1:19, 10:14] = 4, 5
    labels[5:9, 24:29] = 6
    frame = outputs.table(labels, labels).set_index("label")
    assert frame["touches_edge"].to_dict() == {
        1: True, 2: True, 3: True, 4: True, 5: False, 6: False,
    }  # fmt: skip
    assert (frame["mean_intensity"] == frame.index).all()


def test_empty_table_has_the_same_columns():
    labels = np.zeros((5, 6), np.int32)
    empty, full = (outputs.table(labels + n, grey((5, 6))) for n in (0, 1))
    assert list(empty.columns) == list(full.columns) == COLUMNS
    assert (len(empty), len(full)) == (0, 1)
    assert empty.dtypes.equals(full.dtypes)
    colour = outputs.table(labels, grey((5, 6, 2)))
    assert {"mean_intensity_0", "std_intensity_1"} < set(colour.columns)
    assert "mean_intensity" not in colour


def test_write_table(tmp_path):
    frame = outputs.table(cells((40, 50)), grey((40, 50)))
    outputs.write_table(tmp_path / "a.csv", frame)
    back = pandas.read_csv(tmp_path / "a.csv")
    pandas.testing.assert_frame_equal(back, frame)
    outputs.write_table(tmp_path / "a.csv", frame[:0])
    assert (tmp_path / "a.csv").read_text() == ",".join(COLUMNS) + "\n"
    with pytest.raises(InputError, match=r"Cannot write .*make the folder"):
        outputs.write_table(tmp_path / "absent" / "a.csv", frame)
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]


@pytest.mark.parametrize("function", [outputs.overlay, outputs.table])
def test_what_does_not_fit_is_refused(function):
    arguments = {"image": np.zeros((4, 5)), "labels": np.zeros((4, 5), int)}
    for change, words in [
        ({"labels": np.zeros((4, 6), int)}, r"size of `labels` \(4, 6\), got \(4, 5\)"),
        ({"labels": np.zeros((4, 5))}, "whole numbers"),
        ({"labels": np.zeros((2, 4, 5), int)}, "one by one"),
        ({"image": np.zeros(4)}, "must be"),
    ]:
        with pytest.raises(InputError, match=words):
            function(**{**arguments, **change})


def test_fill_is_a_share():
    with pytest.raises(InputError, match="`fill` must be between 0 and 1, got 2"):
        outputs.overlay(np.zeros((4, 5)), np.zeros((4, 5), int), fill=2)
