"""Weight maps, separation and distances against their definitions, written plainly."""

from __future__ import annotations

import io
import itertools
import re
import time
import zipfile

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from unet_zoo import weight_maps
from unet_zoo.errors import InputError

FUNCTIONS = [
    weight_maps.border_weights,
    weight_maps.separate,
    weight_maps.touching_border,
    weight_maps.object_distance,
]


def scattered(seed, shape=(40, 52), count=9, radius=9.0, unknown=True):
    """Return labels of touching, cut and free objects, ids with gaps, some -1."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros(shape, np.int32)
    ids = generator.choice(np.arange(1, 5 * count), count, replace=False)
    seeds.flat[generator.choice(seeds.size, count, replace=False)] = ids
    distance, nearest = ndimage.distance_transform_edt(seeds == 0, return_indices=True)
    owner = seeds[tuple(nearest)]
    limit = generator.uniform(2, radius, 5 * count)[owner]
    labels = np.where(distance < limit, owner, 0)
    if unknown:
        labels[..., 5:12, 20:30] = -1
    return labels.astype(np.int32)


def stack(seed, **options):
    """Return `scattered` of a small stack."""
    return scattered(seed, shape=(11, 24, 32), count=12, **options)


def border_term(labels, w0, sigma, spacing=None):
    """Return the paper's border term with one full distance transform per object."""
    ids = np.unique(labels[labels > 0])
    if len(ids) < 2:
        return np.zeros(labels.shape)
    distances = [
        ndimage.distance_transform_edt(labels != number, sampling=spacing)
        for number in ids
    ]
    both = np.sort(distances, axis=0)[:2].sum(axis=0)
    return np.where(labels == 0, w0 * np.exp(-(both**2) / (2 * sigma**2)), 0)


def check(labels, w0=10, sigma=5, spacing=None):
    """Compare border_weights with the definition, to 1e-6 of w0."""
    weights = weight_maps.border_weights(
        labels, w0, sigma, balance=False, spacing=spacing
    )
    assert weights.dtype == np.float32
    assert weights.shape == labels.shape
    expected = np.where(labels >= 0, 1 + border_term(labels, w0, sigma, spacing), 0)
    np.testing.assert_allclose(weights, expected, rtol=0, atol=1e-6 * w0)
    return weights


def around(labels, place, width=1):
    """Return the part of `labels` within `width` of `place` along every axis."""
    return labels[tuple(slice(max(i - width, 0), i + width + 1) for i in place)]


def touching(labels):
    """Return the places of pixels with a different object among their neighbours."""
    return [
        tuple(place)
        for place in np.argwhere(labels > 0)
        if ((near := around(labels, place)) > 0).any()
        and np.unique(near[near > 0]).size > 1
    ]


NESTED = np.pad(np.array([[2, 0, 0], [0, 3, 0], [0, 0, 0]]), 5, constant_values=2)


CONTAINED = np.zeros((40, 40), np.int32)
CONTAINED[2:38, 2:38] = 9
CONTAINED[8:32, 8:32] = 0
CONTAINED[15:25, 15:25] = 4
CONTAINED[19:21, 19:21] = 0
SEVERAL_PARTS = np.zeros((30, 46), np.int32)
SEVERAL_PARTS[4:9, 3:9] = SEVERAL_PARTS[20:26, 30:40] = SEVERAL_PARTS[3, 41] = 3
SEVERAL_PARTS[12:16, 10:20] = SEVERAL_PARTS[4:9, 30:34] = 5
AT_THE_EDGES = np.pad(np.zeros((20, 30), np.int32), 1, constant_values=8)
AT_THE_EDGES[:, 12:19], AT_THE_EDGES[8:12, 12:19] = 0, 2


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("w0", "sigma"), [(10, 5), (10, 1.5), (200, 3), (0.5, 40)])
def test_border_weights_equal_one_transform_per_object(seed, w0, sigma):
    check(scattered(seed), w0, sigma)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("spacing", "sigma"),
    [
        (None, 4),
        ((3, 1, 1), 3),
        ((2.5, 0.5, 0.5), 1.7),
        ((0.7, 1.3, 1.1), 2),
        ((0.29, 0.1, 0.1), 30),
    ],
)
def test_border_weights_of_stacks_equal_one_transform_per_object(seed, spacing, sigma):
    check(stack(seed), 10, sigma, spacing)
    check(stack(seed, radius=4.0).transpose(1, 2, 0), 10, sigma, spacing)


@pytest.mark.parametrize("spacing", [(2, 2), (0.5, 1.5), (1, 7), (0.37, 0.11)])
def test_spacing_is_the_unit_of_sigma(spacing):
    check(scattered(1), 10, 5 * min(spacing), spacing)


@pytest.mark.parametrize(
    "labels",
    [
        NESTED,
        np.pad(NESTED, 3),
        CONTAINED,
        SEVERAL_PARTS,
        AT_THE_EDGES,
        np.stack([CONTAINED] * 2 + [np.zeros_like(CONTAINED)] * 3 + [CONTAINED.T]),
        np.array([[1, 0, 2]]),
        np.array([[1, 0, 1]]),
        np.array([[4], [0], [0], [9], [0], [4]]),
        np.array([[1, 2], [3, 4]]),
        np.array([[0, 0, 70000], [2_000_000_000, 0, 0]]),
        np.array([[0, 2**40, 0, 0, 7]]),
        np.array([[1, -1, 0, -1, 2]]),
    ],
)
def test_border_weights_of_nested_parted_touching_and_tiny_objects(labels):
    for turned in (labels, labels.swapaxes(-1, -2), labels[..., ::-1]):
        check(turned)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int64", "uint64"])
def test_border_weights_take_any_integers(dtype):
    labels = scattered(2, unknown=False)
    expected = weight_maps.border_weights(labels)
    np.testing.assert_array_equal(
        weight_maps.border_weights(labels.astype(dtype)), expected
    )


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (2, 0, 3)])
def test_an_empty_image_has_empty_maps(shape):
    labels = np.zeros(shape, int)
    for function in FUNCTIONS:
        assert function(labels).shape == shape


def test_border_weights_match_on_real_cells(shared_data):
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        name = next(
            n for n in archive.namelist() if n.endswith("02_GT/SEG/man_seg006.tif")
        )
        labels = tifffile.imread(io.BytesIO(archive.read(name)))
    assert len(np.unique(labels)) > 10
    check(labels)
    check(weight_maps.separate(labels))


@pytest.mark.parametrize("shape", [(480, 520), (24, 96, 108)])
def test_border_weights_of_five_thousand_cells(shape):
    labels = scattered(0, shape, count=5000, radius=4.0)
    labels = weight_maps.separate(labels)
    weights = weight_maps.border_weights(labels, balance=False)
    places = np.argwhere(labels > 0)
    ids = labels[labels > 0]
    places, ids = places[np.argsort(ids)], np.sort(ids)
    firsts = np.flatnonzero(np.diff(ids, prepend=0))
    assert len(firsts) > 4900
    background = np.argwhere(labels == 0)
    generator = np.random.default_rng(0)
    for place in generator.choice(background, 150, replace=False):
        squares = ((places - place) ** 2).sum(axis=1)
        two = np.sqrt(np.sort(np.minimum.reduceat(squares, firsts))[:2])
        expected = 1 + 10 * np.exp(-(two.sum() ** 2) / 50)
        assert weights[tuple(place)] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("side", "step"), [(50, 6), (190, 2)])
def test_border_weights_of_a_lattice_repeat(side, step):
    labels = np.zeros((side * step, side * step), np.int32)
    labels[::step, ::step] = np.arange(side**2).reshape(side, side) + 1
    weights = weight_maps.border_weights(labels, balance=False)
    inner = weights[5 * step : -5 * step, 5 * step : -5 * step]
    inner = inner.reshape(side - 10, step, side - 10, step)
    assert np.ptp(inner, axis=(0, 2)).max() == 0
    # Between two neighbours d1 + d2 is the step.
    middle = 1 + 10 * np.exp(-(step**2) / 50)
    assert inner[0, 0, 0, step // 2] == pytest.approx(middle, abs=1e-6)


def test_border_weights_do_not_cost_a_transform_per_object():
    labels = weight_maps.separate(scattered(0, (256, 256), 60, 12.0))

    def seconds(function, *arguments):
        # Of this thread: what else the machine does is left out.
        start = time.thread_time()
        function(*arguments)
        return time.thread_time() - start

    quick = min(seconds(weight_maps.border_weights, labels) for _ in range(5))
    assert seconds(border_term, labels, 10, 5) > 10 * quick


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


def test_unknown_pixels_are_neither_background_nor_objects():
    labels = scattered(4)
    filled = np.maximum(labels, 0)
    weights = weight_maps.border_weights(labels, balance=False)
    # Distances are the same as if nothing were there, and seen through it.
    np.testing.assert_array_equal(
        weights[labels >= 0],
        weight_maps.border_weights(filled, balance=False)[labels >= 0],
    )
    counts = [(labels == 0).sum(), (labels > 0).sum()]
    balanced = weight_maps.border_weights(labels, w0=0)
    for value, count in zip((0, 1), counts, strict=True):
        assert balanced[np.minimum(labels, 1) == value].min() == pytest.approx(
            sum(counts) / (2 * count)
        )


@pytest.mark.parametrize("make", [scattered, stack])
@pytest.mark.parametrize("seed", range(6))
def test_separate_leaves_no_two_objects_adjacent_and_cuts_no_more(seed, make):
    labels = make(seed, radius=14)
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
    for place in np.argwhere(cut):
        near = around(apart, place)
        assert ((near > 0) & (near != labels[tuple(place)])).any()


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
    cube = np.arange(1, 9).reshape(2, 2, 2)
    np.testing.assert_array_equal(weight_maps.separate(cube), cube)
    stripes = np.arange(1, 8).reshape(1, 7)
    assert np.unique(weight_maps.separate(stripes)).tolist() == stripes[0].tolist()


def test_separate_leaves_free_objects_and_unknown_pixels_alone():
    labels = np.array([[1, 1, 0, 2], [1, -1, -1, 2], [0, 0, 0, 2]])
    np.testing.assert_array_equal(weight_maps.separate(labels), labels)
    empty = np.zeros((3, 4), np.int32)
    np.testing.assert_array_equal(weight_maps.separate(empty), empty)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("shape", [(24, 30), (7, 13, 30)])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_touching_border_is_where_two_ids_are_near(seed, shape, width):
    labels = scattered(seed, shape, count=7)
    expected = np.zeros(labels.shape, bool)
    for place in itertools.product(*map(range, labels.shape)):
        near = around(labels, place, width)
        expected[place] = len(set(near[near > 0])) > 1 and labels[place] >= 0
    assert expected.any()
    np.testing.assert_array_equal(weight_maps.touching_border(labels, width), expected)


def test_touching_border_knows_the_largest_id_of_a_small_dtype():
    labels = np.array([[255, 255, 3, 3, 0, 0, 0, 255]], np.uint8)
    assert np.flatnonzero(weight_maps.touching_border(labels)).tolist() == [1, 2]


@pytest.mark.parametrize("labels", [np.zeros((5, 5), int), np.ones((5, 5), int)])
def test_touching_border_of_less_than_two_objects_is_empty(labels):
    assert not weight_maps.touching_border(labels, 2).any()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("shape", "spacing"),
    [
        ((22, 26), None),
        ((22, 26), (2.5, 0.4)),
        ((6, 13, 26), None),
        ((6, 13, 26), (3, 1, 1)),
    ],
)
def test_object_distance_is_to_the_nearest_other_pixel(seed, shape, spacing):
    labels = scattered(seed, shape, count=6)
    steps = np.ones(labels.ndim) if spacing is None else spacing
    places = np.argwhere(np.ones(shape)) * steps
    expected = np.zeros(labels.shape)
    for place in np.argwhere(labels > 0):
        outside = places[labels.ravel() != labels[tuple(place)]]
        squares = ((outside - place * steps) ** 2).sum(axis=1)
        expected[tuple(place)] = np.sqrt(squares.min())
    for number in np.unique(labels[labels > 0]):
        expected[labels == number] /= expected[labels == number].max()
    result = weight_maps.object_distance(labels, spacing=spacing)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_maps_of_five_thousand_objects_never_work_on_the_image_for_each():
    small = scattered(0, (280, 280), count=5000, radius=2.5, unknown=False)
    large = np.zeros((2000, 2000), np.int32)
    large[:280, :280] = small
    for function in (weight_maps.separate, weight_maps.object_distance):
        expected = function(np.pad(small, ((0, 1), (0, 1))))
        start = time.thread_time()
        result = function(large)
        seconds = time.thread_time() - start
        np.testing.assert_array_equal(result[:281, :281], expected)
        # Five thousand comparisons of the whole image would take ten.
        assert seconds < 3


def test_object_distance_goes_on_beyond_the_edge_of_the_image():
    labels = np.array([[5, 5, 5, 5, 0, 0]] * 3)
    np.testing.assert_allclose(
        weight_maps.object_distance(labels), [[1, 0.75, 0.5, 0.25, 0, 0]] * 3
    )
    full = weight_maps.object_distance(np.full((4, 3), 2))
    np.testing.assert_array_equal(full, np.ones((4, 3)))


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize(
    "labels",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4), bool),
        np.zeros((1, 2, 4, 4), int),
        np.zeros(3, int),
    ],
)
def test_what_is_no_label_image_is_refused(function, labels):
    received = re.escape(f"Received: shape {labels.shape}, dtype {labels.dtype}")
    with pytest.raises(InputError, match=received):
        function(labels)


@pytest.mark.parametrize(
    "spacing", [(1,), (1, 1, 1), (1, 0), (1, -2), (1, np.nan), (1, np.inf), "ab", 3]
)
@pytest.mark.parametrize(
    "function", [weight_maps.border_weights, weight_maps.object_distance]
)
def test_impossible_spacing_is_refused(function, spacing):
    received = re.escape(f"Received: {spacing!r}")
    with pytest.raises(InputError, match=rf"`spacing` must be 2 .* {received}"):
        function(np.zeros((3, 3), int), spacing=spacing)


def test_impossible_arguments_are_refused():
    labels = np.zeros((3, 3), int)
    with pytest.raises(InputError, match=r"`sigma` .* Received: sigma=0"):
        weight_maps.border_weights(labels, sigma=0)
    with pytest.raises(InputError, match=r"`w0` .* Received: w0=-1"):
        weight_maps.border_weights(labels, w0=-1)
    with pytest.raises(InputError, match=r"`width` .* Received: 0\.5"):
        weight_maps.touching_border(labels, width=0.5)
