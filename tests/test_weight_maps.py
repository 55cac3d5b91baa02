"""Weight maps, separation and distances against their definitions, written plainly."""

from __future__ import annotations

import io
import itertools
import re
import zipfile

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from unet_zoo import weight_maps
from unet_zoo.errors import InputError


def scattered(seed: int, shape=(40, 52), count=9, radius=9.0, unknown=True):
    """Return labels of touching, cut and free objects, ids with gaps, some -1."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.int32)
    ids = generator.choice(np.arange(1, 5 * count), count, replace=False)
    seeds.flat[generator.choice(seeds.size, count, replace=False)] = ids
    distance, (rows, columns) = ndimage.distance_transform_edt(
        seeds == 0, return_indices=True
    )
    limit = generator.uniform(2, radius, 5 * count)[seeds[rows, columns]]
    labels = np.where(distance < limit, seeds[rows, columns], 0)
    if unknown:
        labels[5:12, 20:30] = -1
    return labels.astype(np.int32)


def border_term(labels, w0, sigma):
    """Return the paper's border term with one full distance transform per object."""
    ids = np.unique(labels[labels > 0])
    if len(ids) < 2:
        return np.zeros(labels.shape)
    distances = [ndimage.distance_transform_edt(labels != number) for number in ids]
    both = np.sort(distances, axis=0)[:2].sum(axis=0)
    return np.where(labels == 0, w0 * np.exp(-(both**2) / (2 * sigma**2)), 0)


def touching(labels):
    """Return the positions and ids of 8-neighbours that are different objects."""
    height, width = labels.shape
    found = []
    for y, x in itertools.product(range(height), range(width)):
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
            if not (y + dy < height and 0 <= x + dx < width):
                continue
            one, other = labels[y, x], labels[y + dy, x + dx]
            if one > 0 and other > 0 and one != other:
                found.append((y, x, int(one), int(other)))
    return found


NESTED = np.pad(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 0]]), 5, constant_values=2)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("w0", "sigma"), [(10, 5), (10, 1.5), (200, 3)])
def test_border_weights_equal_one_transform_per_object(seed, w0, sigma):
    labels = scattered(seed)
    weights = weight_maps.border_weights(labels, w0, sigma, balance=False)
    expected = np.where(labels >= 0, 1 + border_term(labels, w0, sigma), 0)
    assert weights.dtype == np.float32
    # 1e-6 for the usual w0 of 10; float32 cannot hold more than that of 200.
    np.testing.assert_allclose(weights, expected, rtol=1e-7, atol=1e-6 * w0 / 10)


@pytest.mark.parametrize(
    "labels",
    [
        NESTED,
        np.pad(NESTED, 3),
        np.array([[1, 0, 2]]),
        np.array([[4], [0], [0], [9], [0], [4]]),
        np.array([[1, 2], [3, 4]]),
        np.array([[0, 0, 70000], [2_000_000_000, 0, 0]]),
    ],
)
def test_border_weights_of_nested_touching_and_tiny_objects(labels):
    weights = weight_maps.border_weights(labels, balance=False)
    np.testing.assert_allclose(weights, 1 + border_term(labels, 10, 5), atol=1e-6)


def test_border_weights_match_on_real_cells(shared_data):
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        name = next(
            n for n in archive.namelist() if n.endswith("02_GT/SEG/man_seg006.tif")
        )
        labels = tifffile.imread(io.BytesIO(archive.read(name)))
    weights = weight_maps.border_weights(labels, balance=False)
    assert len(np.unique(labels)) > 10
    np.testing.assert_allclose(weights, 1 + border_term(labels, 10, 5), atol=1e-6)


def test_border_weights_of_thousands_of_cells():
    labels = np.zeros((300, 300), np.int32)
    labels[::6, ::6] = np.arange(2500).reshape(50, 50) + 1
    weights = weight_maps.border_weights(labels, balance=False)
    # The lattice repeats: two neighbours 6 apart, d1 + d2 = 6 between them.
    middle = weights[30:270, 30:270].reshape(40, 6, 40, 6)
    assert np.ptp(middle, axis=(0, 2)).max() == 0
    assert middle[0, 0, 0, 3] == pytest.approx(1 + 10 * np.exp(-36 / 50), abs=1e-6)


@pytest.mark.parametrize("labels", [np.zeros((9, 9), int), np.eye(9, dtype=int)])
def test_fewer_than_two_objects_have_no_border(labels):
    weights = weight_maps.border_weights(labels, balance=False)
    np.testing.assert_array_equal(weights, np.ones(labels.shape))


def test_border_term_is_on_background_only_and_nowhere_unknown():
    labels = scattered(3)
    plain = weight_maps.border_weights(labels, w0=0)
    weights = weight_maps.border_weights(labels)
    np.testing.assert_array_equal(weights[labels > 0], plain[labels > 0])
    assert (weights[labels == 0] > plain[labels == 0]).any()
    assert not weights[labels < 0].any()


def test_separated_cells_get_a_heavy_line():
    labels = np.repeat([[1] * 12 + [2] * 12], 9, axis=0)
    assert np.unique(weight_maps.border_weights(labels)).tolist() == [1.0]
    apart = weight_maps.separate(labels)
    weights = weight_maps.border_weights(apart, balance=False)
    np.testing.assert_allclose(weights[apart == 0], 1 + 10 * np.exp(-4 / 50), rtol=1e-6)


@pytest.mark.parametrize("seed", range(4))
def test_balanced_classes_weigh_the_same_and_one_on_average(seed):
    labels = scattered(seed)
    weights = weight_maps.border_weights(labels, w0=0).astype(float)
    background, foreground = weights[labels == 0].sum(), weights[labels > 0].sum()
    assert background == pytest.approx(foreground, rel=1e-6)
    assert weights[labels >= 0].mean() == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("value", [0, 1, -1])
def test_a_single_class_weighs_one_and_unknown_nothing(value):
    weights = weight_maps.border_weights(np.full((4, 5), value))
    np.testing.assert_array_equal(weights, np.full((4, 5), float(value >= 0)))


@pytest.mark.parametrize("seed", range(12))
def test_separate_leaves_no_two_objects_adjacent_and_cuts_no_more(seed):
    labels = scattered(seed, count=14, radius=14)
    before = labels.copy()
    apart = weight_maps.separate(labels)
    assert touching(labels)
    assert touching(apart) == []
    assert apart.dtype == labels.dtype
    assert np.unique(apart).tolist() == np.unique(labels).tolist()
    np.testing.assert_array_equal(labels, before)
    cut = apart != labels
    assert not apart[cut].any()
    # Minimal: no pixel could be given back.
    for y, x in np.argwhere(cut):
        around = apart[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        assert ((around > 0) & (around != labels[y, x])).any()


def test_separate_cuts_one_pixel_from_the_larger():
    labels = np.repeat([[3, 3, 3, 3, 1, 1, 1, 8, 8]], 3, axis=0)
    expected = np.repeat([[3, 3, 3, 0, 1, 1, 0, 8, 8]], 3, axis=0)
    np.testing.assert_array_equal(weight_maps.separate(labels), expected)


def test_separate_does_not_depend_on_the_numbers_of_unequal_objects():
    labels = np.repeat([[1] * 6 + [2] * 4 + [3] * 5], 4, axis=0)
    renamed = np.array([0, 9, 30, 2])[labels]
    np.testing.assert_array_equal(
        weight_maps.separate(labels) > 0, weight_maps.separate(renamed) > 0
    )


def test_separate_lets_a_thin_object_live():
    # The column of 2 is the largest, one pixel wide, and meets small ones everywhere.
    labels = np.array(
        [[1, 2, 5], [1, 2, 5], [3, 2, 6], [3, 2, 6], [4, 2, 7], [4, 2, 7]]
    )
    wide = np.repeat(labels, [2, 1, 2], axis=1)
    apart = weight_maps.separate(wide)
    assert touching(apart) == []
    assert np.unique(apart).tolist() == list(range(8))


def test_separate_keeps_every_object_even_where_there_is_no_room():
    labels = np.array([[1, 2], [3, 4]])
    np.testing.assert_array_equal(weight_maps.separate(labels), labels)
    stripes = np.arange(1, 8).reshape(1, 7)
    assert np.unique(weight_maps.separate(stripes)).tolist() == stripes[0].tolist()


def test_separate_leaves_free_objects_and_unknown_pixels_alone():
    labels = np.array([[1, 1, 0, 2], [1, -1, -1, 2], [0, 0, 0, 2]])
    np.testing.assert_array_equal(weight_maps.separate(labels), labels)
    empty = np.zeros((3, 4), np.int32)
    np.testing.assert_array_equal(weight_maps.separate(empty), empty)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("width", [1, 2, 3])
def test_touching_border_is_where_two_ids_are_near(seed, width):
    labels = scattered(seed, shape=(24, 30), count=7)
    expected = np.zeros(labels.shape, bool)
    for y, x in itertools.product(*map(range, labels.shape)):
        near = labels[
            max(y - width, 0) : y + width + 1, max(x - width, 0) : x + width + 1
        ]
        expected[y, x] = len(set(near[near > 0])) > 1 and labels[y, x] >= 0
    assert expected.any()
    np.testing.assert_array_equal(weight_maps.touching_border(labels, width), expected)


@pytest.mark.parametrize("labels", [np.zeros((5, 5), int), np.ones((5, 5), int)])
def test_touching_border_of_less_than_two_objects_is_empty(labels):
    assert not weight_maps.touching_border(labels, 2).any()


@pytest.mark.parametrize("seed", range(4))
def test_object_distance_is_to_the_nearest_other_pixel_of_the_image(seed):
    labels = scattered(seed, shape=(22, 26), count=6)
    places = np.argwhere(labels == labels)
    expected = np.zeros(labels.shape)
    for y, x in np.argwhere(labels > 0):
        outside = places[labels.ravel() != labels[y, x]]
        expected[y, x] = np.sqrt(((outside - (y, x)) ** 2).sum(axis=1).min())
    for number in np.unique(labels[labels > 0]):
        expected[labels == number] /= expected[labels == number].max()
    result = weight_maps.object_distance(labels)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_object_distance_goes_on_beyond_the_edge_of_the_image():
    labels = np.array([[5, 5, 5, 5, 0, 0]] * 3)
    np.testing.assert_allclose(
        weight_maps.object_distance(labels), [[1, 0.75, 0.5, 0.25, 0, 0]] * 3
    )
    full = weight_maps.object_distance(np.full((4, 3), 2))
    np.testing.assert_array_equal(full, np.ones((4, 3)))


@pytest.mark.parametrize(
    "function",
    [
        weight_maps.border_weights,
        weight_maps.separate,
        weight_maps.touching_border,
        weight_maps.object_distance,
    ],
)
@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4), bool),
        np.zeros((2, 4, 4), int),
        np.zeros(3, int),
    ],
)
def test_what_is_no_label_image_is_refused(function, labels):
    received = re.escape(f"Received: shape {labels.shape}, dtype {labels.dtype}")
    with pytest.raises(InputError, match=received):
        function(labels)


def test_impossible_arguments_are_refused():
    labels = np.zeros((3, 3), int)
    with pytest.raises(InputError, match=r"`sigma` .* Received: sigma=0"):
        weight_maps.border_weights(labels, sigma=0)
    with pytest.raises(InputError, match=r"`w0` .* Received: w0=-1"):
        weight_maps.border_weights(labels, w0=-1)
    with pytest.raises(InputError, match=r"`width` .* Received: 0\.5"):
        weight_maps.touching_border(labels, width=0.5)
