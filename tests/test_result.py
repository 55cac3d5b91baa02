"""A result is taken for its labels, and makes the rest when it is asked."""

from __future__ import annotations

import copy
import io

import numpy as np
import PIL.Image
import pytest
import skimage.measure

import unet_zoo
from unet_zoo import images, outputs
from unet_zoo.errors import InputError


def labels() -> np.ndarray:
    found = np.zeros((30, 44), int)
    found[3:9, 4:20], found[12:20, 30:44], found[25, 1] = 1, 2, 3
    return found


def result(stack: int = 0, **options: object) -> outputs.Result:
    found = np.stack([labels()] * stack) if stack else labels()
    values = np.random.default_rng(0).random((*found.shape, 3), "float32")
    options = {"prediction": values, "foreground": lambda each: each[..., 0], **options}
    return outputs.Result(found, (found * 50).astype("uint8"), **options)


def test_it_is_public():
    assert unet_zoo.Result is outputs.Result


@pytest.mark.parametrize("stack", [0, 3])
def test_it_is_an_array_of_its_labels(stack):
    found = result(stack)
    assert found.labels.dtype == np.int32
    assert (found.shape, found.ndim) == (found.labels.shape, 2 + bool(stack))
    assert (found.size, found.dtype) == (found.labels.size, np.int32)
    assert np.asarray(found) is found.labels
    assert np.array(found) is not found.labels
    assert np.array(found, copy=False) is found.labels
    assert np.asarray(found, "float32").dtype == np.float32
    with pytest.raises(ValueError, match="copy"):
        np.array(found, "float32", copy=False)
    assert np.unique(found).tolist() == [0, 1, 2, 3]
    assert np.max(found) == 3
    np.testing.assert_array_equal(found[..., 5], found.labels[..., 5])
    flat = result().labels
    assert len(skimage.measure.regionprops(flat)) == 3


def test_what_it_has_not_says_where_it_is():
    with pytest.raises(AttributeError, match=r"result\.labels\.max"):
        result().max()
    with pytest.raises(AttributeError, match=r"no attribute 'maxx'\.$"):
        _ = result().maxx
    assert copy.copy(result()).count == 3


def test_the_image_is_not_copied_and_nothing_is_made_unasked():
    image, found = np.zeros(labels().shape), labels().astype(np.int32)
    asked = []
    one = outputs.Result(
        found, image, prediction=lambda: asked.append(1) or np.ones((30, 44, 1))
    )
    assert one.image is image
    assert one.labels is found
    assert one.probability is None  # nothing says what of the prediction it is
    one.overlay(), one.table(), repr(one), one._repr_png_()
    assert not asked
    assert one.prediction.shape == (30, 44, 1)
    assert asked == [1]


@pytest.mark.parametrize("stack", [0, 3])
def test_table_and_probability(stack):
    found = result(stack, pixel_size=2)
    assert found.probability.shape == found.shape
    np.testing.assert_array_equal(found.probability, found.prediction[..., 0])
    rows = found.table()
    assert len(rows) == found.count == 3 * max(1, stack)
    first = outputs.table(
        labels(),
        labels() * 50,
        probability=found.frames[0].probability,
        pixel_size=2,
    )
    if stack:
        assert rows.columns[0] == "frame"
        assert rows["frame"].tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
        rows = rows[rows["frame"] == 0].drop(columns="frame")
    np.testing.assert_allclose(rows.astype(float), first.astype(float))
    rows["area"] = 0  # a table given away is the owner's
    assert found.table()["area"].all()
    found.forget()
    assert found.prediction is None
    assert found.probability is None


@pytest.mark.parametrize("stack", [0, 3])
def test_a_pixel_size_and_a_name_can_be_set(stack, tmp_path):
    """Also after tables were made; and what a stack was made of keeps its own."""
    one = result(name="one")
    found = outputs.Result.stack([one] * stack) if stack else one
    assert "area_um2" not in found.table()
    found.pixel_size, found.name = (0.5, 0.25), "film.tif"
    assert [each.pixel_size for each in found.frames] == [(0.5, 0.25)] * max(1, stack)
    assert {each.name for each in found.frames} == {"film.tif"}
    assert found.table()["area_um2"].tolist() == (found.table()["area"] / 8).tolist()
    found.save(tmp_path / "a.geojson")
    assert '"area_um2"' in (tmp_path / "a.geojson").read_text()
    found.pixel_size = 2
    assert found.pixel_size == (2.0, 2.0)
    assert found.table()["area_um2"].tolist() == (found.table()["area"] * 4).tolist()
    with pytest.raises(InputError, match="above 0"):
        found.pixel_size = 0
    if stack:
        assert (one.pixel_size, one.name) == (None, "one")
        assert "area_um2" not in one.table()


def test_a_stack_of_results_is_the_result_of_a_stack():
    one, whole = result(), result(2)
    stacked = outputs.Result.stack([one, one])
    np.testing.assert_array_equal(stacked.labels, whole.labels)
    np.testing.assert_array_equal(stacked.image, whole.image)
    np.testing.assert_array_equal(stacked.overlay(), whole.overlay())
    np.testing.assert_array_equal(stacked.prediction[1], one.prediction)
    assert stacked.table()["label"].tolist() == [1, 2, 3, 1, 2, 3]
    one.forget()
    assert outputs.Result.stack([one, one]).prediction is None


def test_overlay_and_the_picture_for_jupyter():
    found = result()
    expected = outputs.overlay(found.image, labels(), fill=0.3)
    np.testing.assert_array_equal(found.overlay(fill=0.3), expected)
    assert result(2).overlay().shape == (2, 30, 44, 3)
    for each in (found, result(2)):
        picture = np.asarray(PIL.Image.open(io.BytesIO(each._repr_png_())))
        np.testing.assert_array_equal(picture, outputs.overlay(found.image, labels()))
    large = outputs.Result(np.ones((100, 3000), int), np.zeros((100, 3000)))
    assert PIL.Image.open(io.BytesIO(large._repr_png_())).size == (1024, 34)


def test_save_to_a_file_says_by_its_suffix_what_it_becomes(tmp_path):
    found = result(name="dish.tif")
    for name, kind in (
        ("a.tif", "labels"),
        ("a.tiff", "labels"),
        ("a.png", "overlay"),
        ("a.csv", "csv"),
        ("a.geojson", "geojson"),
        ("a.json", "coco"),
        ("a.ome.zarr", "ome-zarr"),
        ("a.zip", "rois"),
        ("a.parquet", "parquet"),
    ):
        (path,) = found.save(tmp_path / "files" / name)
        assert path == tmp_path / "files" / name
        (other,) = found.save(tmp_path / "folder", kind, stem=name)
        if path.is_file() and kind != "rois":  # a zip holds the time
            assert path.read_bytes() == other.read_bytes()
        with pytest.raises(InputError, match="is there already"):
            found.save(path)
        assert found.save(path, overwrite=True) == [path]
    assert [path.name for path in found.save(tmp_path / "v1.2")] == [
        "dish_masks.tif",
        "dish_objects.csv",
    ]
    paths = result(2).save(tmp_path / "b.png")
    assert [path.name for path in paths] == ["b_t000.png", "b_t001.png"]


def test_what_does_not_fit_is_refused():
    image = np.zeros((4, 5))
    for found, words in (
        (np.zeros((4, 5)), "whole numbers"),
        (np.zeros((1, 2, 4, 5), int), r"\(Y, X\) or \(T, Y, X\)"),
        (np.zeros((4, 6), int), r"`image` must be of the size .* Received: \(4, 5\)"),
        (np.full((4, 5), 2**32), "ids up to 2147483647"),
    ):
        with pytest.raises(InputError, match=words):
            outputs.Result(found, image)
    stack, planes = np.zeros((4, 5, 6), int), images.Planes("TZ", (2, 3))
    with pytest.raises(InputError, match="`planes` must be of the 4 frames"):
        outputs.Result(stack, stack, planes=planes)
