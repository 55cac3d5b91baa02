"""Values for networks and for people, sizes, and what is written to files."""

from __future__ import annotations

import os

import numpy as np
import pytest
import tifffile

from unet_zoo import images
from unet_zoo.errors import InputError


def noise(*shape: int, dtype: str = "uint8", high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


# --- values ------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int32", "float32"])
def test_zscore(dtype):
    image = noise(40, 50, 3, dtype=dtype, high=200) * np.array([1, 1, 0], dtype) + 3
    result = images.normalize(image.astype(dtype))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.mean(axis=(0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(result.std(axis=(0, 1)), [1, 1, 0], atol=1e-5)
    corner, whole = result[:2, 0, 0], image[:2, 0, 0]  # one slope for every pixel
    assert (corner[0] < corner[1]) == (whole[0] < whole[1])


def test_zscore_adds_up_in_double():
    """In float32, two million values around 1000 lose the digits of the mean."""
    image = np.full((2048, 1024, 2), 1000, np.float32)
    image[::2] += 0.125
    result = images.normalize(image)
    assert np.unique(result).tolist() == [-1, 1]


@pytest.mark.parametrize("method", ["zscore", "percentile"])
@pytest.mark.parametrize("value", [0, 7, 0.1, 1e-30, 3e38, -5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_image_is_zero(method, value, dtype):
    image = np.full((13, 17, 2), value, dtype)
    image[..., 1] = np.arange(17)
    result = images.normalize(image, method)
    assert (result[..., 0] == 0).all()
    assert result[..., 1].std() > 0.1


def test_percentile():
    image = np.arange(1001, dtype=np.uint16).reshape(7, 143, 1)
    result = images.normalize(image, "percentile")
    np.testing.assert_allclose(result.ravel()[[10, 998]], [0, 1], atol=1e-6)
    assert result.min() < 0
    assert result.max() > 1
    sparse = np.zeros((100, 100, 1), np.uint8)
    sparse[50, 50] = 9
    assert images.normalize(sparse, "percentile").max() == 1


@pytest.mark.parametrize("method", ["unit", "none"])
def test_unit(method):
    for dtype in (np.uint8, np.uint16):
        image = np.array([[[0], [np.iinfo(dtype).max]]], dtype)
        assert images.normalize(image, method).ravel().tolist() == [0, 1]
    image = np.array([[[-3.5]]])
    assert images.normalize(image, method).ravel().tolist() == [-3.5]
    with pytest.raises(InputError, match="not of int32"):
        images.normalize(np.zeros((2, 2, 1), np.int32), method)


def test_normalize_refuses():
    image = np.zeros((4, 5, 2), np.float32)
    image[2, 3, 1], image[3] = np.nan, np.inf
    with pytest.raises(InputError, match=r"has 11 .*first at y=2, x=3, channel=1"):
        images.normalize(image)
    with pytest.raises(InputError, match="Unknown normalization 'minmax'"):
        images.normalize(np.zeros((2, 2, 1)), "minmax")
    with pytest.raises(InputError, match=r"image\[..., None\]"):
        images.normalize(np.zeros((4, 5)))


@pytest.mark.parametrize("shape", [(1, 1, 1), (7, 5, 1), (40, 30, 3)])
def test_counted_percentiles_are_numpys(shape):
    image = np.random.default_rng(0).integers(20, 240, shape).astype("uint8")
    low, high = np.percentile(image, (1, 99.8), axis=(0, 1))
    low, high = (low, high) if (high > low).all() else (low, low + 1)
    counted = images.normalize(image, "percentile")
    np.testing.assert_allclose(counted, (image - low) / (high - low), atol=1e-6)


def test_to_uint8():
    ramp = np.linspace(0, 60000, 1000).reshape(20, 50).astype(np.uint16)
    grey = images.to_uint8(ramp)
    assert grey.shape == (20, 50, 3)
    assert grey.dtype == np.uint8
    assert (grey.min(), grey.max()) == (0, 255)
    assert (np.diff(grey[..., 0].ravel().astype(int)) >= 0).all()
    assert (grey == grey[..., :1]).all()
    two = images.to_uint8(np.stack([ramp, ramp[::-1]], axis=-1))
    np.testing.assert_array_equal(two[..., 0], two[..., 2])
    np.testing.assert_array_equal(two[..., 1], grey[::-1, :, 0])
    assert images.to_uint8(np.stack([ramp] * 5, axis=-1)).shape == (20, 50, 3)
    broken = ramp.astype(np.float32)
    broken[0, 0], broken[1, 1] = np.nan, np.inf
    assert abs(images.to_uint8(broken).astype(int) - grey)[2:].max() <= 1
    assert (images.to_uint8(np.full((3, 4), 9)) == 0).all()
    mask = np.eye(9, dtype=bool)
    assert (images.to_uint8(mask)[..., 0] == 255 * mask).all()


def test_to_uint8_keeps_hues_of_8_bit_colours():
    colours = noise(30, 30, 3) // 4 + np.array([100, 20, 60], np.uint8)
    shown = images.to_uint8(colours).astype(int)
    inside = ((shown > 0) & (shown < 255)).all(axis=-1)
    assert inside.mean() > 0.5
    ratio = (shown[..., 0] - shown[..., 1]) / (colours[..., 0] - colours[..., 1] + 1e-9)
    assert ratio[inside].std() < 0.1


# --- sizes -------------------------------------------------------------------


@pytest.mark.parametrize("factor", [0.1, 0.25, 0.5, 0.73, 1, 1.5, 2, 3.3])
def test_rescale_keeps_shape_mean_and_place(factor):
    rows, columns = np.mgrid[:60, :83].astype(np.float32)
    blob = np.exp(-((rows - 20) ** 2 + (columns - 50) ** 2) / 200) * 1000
    result = images.rescale(np.stack([blob, rows, columns], axis=-1), factor)
    assert result.shape == (round(60 * factor), round(83 * factor), 3)
    assert result.dtype == np.float32
    assert result[..., 0].mean() == pytest.approx(blob.mean(), rel=0.02)
    peak = np.unravel_index(result[..., 0].argmax(), result.shape[:2])
    centre = (np.array(peak) + 0.5) * (60 / result.shape[0], 83 / result.shape[1]) - 0.5
    np.testing.assert_allclose(centre, (20, 50), atol=0.6 / factor + 0.5)
    if factor >= 1:  # a ramp stays a ramp, pixels centred
        inner = result[5:-5, 5:-5, 1].mean(axis=1)
        expected = (np.arange(result.shape[0]) + 0.5) * 60 / result.shape[0] - 0.5
        np.testing.assert_allclose(inner, expected[5:-5], atol=1e-3)


def test_rescale_does_not_alias():
    stripes = np.zeros((64, 64, 1), np.uint8)
    stripes[::2] = 200
    small = images.rescale(stripes, 0.5)
    np.testing.assert_allclose(small[1:-1], 100, atol=1)
    assert (images.rescale(stripes, 1) == stripes).all()


@pytest.mark.parametrize("factor", [0.2, 0.5, 1, 1.7, 2, 4])
def test_rescale_labels_follow_the_image(factor):
    labels = np.zeros((50, 71), np.int32)
    labels[5:30, 8:40], labels[30:49, 41:70], labels[:4] = 70000, 3, -1
    result = images.rescale_labels(labels, factor)
    assert result.dtype == labels.dtype
    assert set(np.unique(result)) <= set(np.unique(labels))
    mask = images.rescale((labels == 70000)[..., None], factor)[..., 0] > 0.5
    assert result.shape == mask.shape
    overlap = (mask & (result == 70000)).sum() / (mask | (result == 70000)).sum()
    assert overlap > 0.75
    back = images.rescale_labels(result, shape=(50, 71))
    if factor >= 1:
        np.testing.assert_array_equal(back, labels)


def test_target_sizes():
    image = np.zeros((10, 20, 1))
    assert images.rescale(image, shape=(3, 7)).shape == (3, 7, 1)
    assert images.rescale_labels(image[..., 0], (3, 7)).shape == (3, 7)
    assert images.rescale(image, 0.001).shape == (1, 1, 1)
    for wrong in (
        {},
        {"factor": 2, "shape": (1, 1)},
        {"factor": 0},
        {"factor": float("nan")},
        {"shape": (0, 3)},
        {"shape": (3,)},
    ):
        with pytest.raises(InputError, match=r"`factor`|`shape`"):
            images.rescale(image, **wrong)


# --- writing -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("largest", "dtype"), [(9, "u2"), (65535, "u2"), (65536, "u4")]
)
@pytest.mark.parametrize("shape", [(9, 7), (3, 9, 7), (1, 9, 7), (4, 9, 3)])
def test_labels_come_back(tmp_path, largest, dtype, shape):
    labels = noise(*shape, dtype="int64", high=largest + 1)
    labels.flat[0] = largest
    path = tmp_path / "labels.tif"
    images.write_labels(path, labels)
    with tifffile.TiffFile(path) as file:
        assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
        assert file.pages[0].dtype == dtype
    frames = labels if labels.ndim == 3 else labels[None]
    np.testing.assert_array_equal(images.read(path)[..., 0], frames)
    assert os.listdir(tmp_path) == ["labels.tif"]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([[0, -1]]), "not annotated"),
        (np.array([[0, 2**32]]), r"must be 0\.\.4294967295"),
        (np.zeros((2, 2)), "whole numbers"),
        (np.zeros(4, int), "whole numbers"),
        (np.zeros((0, 4), int), "whole numbers"),
    ],
)
def test_labels_refused(tmp_path, labels, words):
    path = tmp_path / "labels.tif"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match=rf"labels\.tif .*{words}"):
        images.write_labels(path, labels)
    assert path.read_bytes() == b"old"
    assert len(os.listdir(tmp_path)) == 1


def test_png_comes_back(tmp_path):
    for shape in [(9, 7), (9, 7, 3)]:
        images.write_png(tmp_path / "a.png", noise(*shape))
        expected = noise(*shape).reshape(9, 7, -1)
        np.testing.assert_array_equal(images.read_one(tmp_path / "a.png"), expected)
    with pytest.raises(InputError, match=r"uint8 \(Y, X, 3\)"):
        images.write_png(tmp_path / "a.png", noise(9, 7, 3).astype(float))
    with pytest.raises(InputError, match="suffix"):
        images.write_png(tmp_path / "a.jpg", noise(9, 7, 3))


def test_writing_where_one_cannot(tmp_path):
    with pytest.raises(InputError, match=r"Cannot write .*make the folder .*absent"):
        images.write_labels(tmp_path / "absent" / "a.tif", noise(9, 7))
    (tmp_path / "b.png").mkdir()
    with pytest.raises(InputError, match=r"Cannot write .*b\.png: is a directory"):
        images.write_png(tmp_path / "b.png", noise(9, 7))
    assert os.listdir(tmp_path) == ["b.png"]
    with pytest.raises(InputError, match="suffix"):
        images.write_labels(tmp_path / "a.png", noise(9, 7))
