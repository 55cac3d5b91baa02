"""Each change of places does what its range says, to all maps alike."""

from __future__ import annotations

import dataclasses
import itertools
import math

import keras
import numpy as np
import pytest
import scipy.ndimage
from augmenting import GEOMETRY, NOTHING, RANDOM, changed, draws, fields, pictures

from unet_zoo import augment
from unet_zoo.policies import Augmentation

# === All together ===


def test_nothing_is_changed_where_all_ranges_are_zero():
    stack = pictures(3, channels=2)
    np.testing.assert_array_equal(changed(stack, NOTHING), stack)


def test_the_middle_of_all_ranges_changes_no_place():
    stack = pictures(3, channels=2)
    still = dataclasses.replace(GEOMETRY, elastic=0)
    np.testing.assert_array_equal(changed(stack, still, rotation=0.5), stack)
    cut = changed(stack, still, size=24, rotation=0.5)
    np.testing.assert_array_equal(cut, stack[:, 8:-8, 8:-8])


def test_image_and_maps_move_together():
    image = pictures(6)
    stack = np.concatenate([image, image, image], axis=-1)
    layer = augment.Augment(GEOMETRY, (40, 40), 1, ("linear", "nearest"))
    out = keras.ops.convert_to_numpy(layer(stack, *draws(6, GEOMETRY)))
    np.testing.assert_array_equal(out[..., 0], out[..., 1])
    # What is nearest is a value that was there, not a mixture, of the same place.
    assert np.isin(out[..., 2], image).all()
    assert np.corrcoef(out[..., 0].ravel(), out[..., 2].ravel())[0, 1] > 0.98
    assert (out[..., 0] != out[..., 2]).any()


def test_labels_read_as_labels_are_equal_in_every_pixel():
    labels = np.floor(3 * pictures(4)) % 5
    y, x, _ = fields(GEOMETRY, size=40, count=4)
    alone = augment.warp(labels, (y, x), ("nearest",))
    three = ("nearest", "linear", "nearest")
    mixed = augment.warp(np.repeat(labels, 3, axis=-1), (y, x), three)
    alone, mixed = map(keras.ops.convert_to_numpy, (alone, mixed))
    np.testing.assert_array_equal(mixed[..., 0], mixed[..., 2])
    np.testing.assert_array_equal(mixed[..., :1], alone)


@pytest.mark.parametrize("ends", [0.0, np.nextafter(np.float32(1), np.float32(0))])
@pytest.mark.parametrize("flat", [False, True])
def test_extreme_draws_stay_finite(ends, flat):
    stack = pictures(2, channels=2) * (0 if flat else 1e3)
    out = changed(stack, Augmentation(), **dict.fromkeys(augment.UNIFORM, ends))
    assert np.isfinite(out).all()
    assert (out[..., 1].min() >= stack.min()) & (out[..., 1].max() <= stack.max())


def test_only_the_image_gets_other_grey_values():
    still = dataclasses.replace(
        Augmentation(), rotation=0, flip=False, scale=0, shift=0, elastic=0
    )
    stack = pictures(3, channels=3)
    out = changed(stack, still)
    np.testing.assert_array_equal(out[..., 1:], stack[..., 1:])
    assert (out[..., 0] != stack[..., 0]).mean() > 0.9


def test_an_example_does_not_depend_on_its_batch():
    stack, (uniform, normal) = pictures(4, channels=2), draws(4, Augmentation())
    layer = augment.Augment(Augmentation(), (40, 40), 1, ("linear",))
    together = keras.ops.convert_to_numpy(layer(stack, uniform, normal))
    alone = layer(stack[2:3], uniform[2:3], normal[2:3])
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(alone), together[2:3], atol=1e-5
    )


# === Places ===


def test_all_four_flips_occur_equally_often():
    only = dataclasses.replace(NOTHING, flip=True)
    y, x, _ = fields(only, size=3, count=4000)
    kinds = np.sign(y[:, 2, 1] - y[:, 0, 1]) + 10 * np.sign(x[:, 1, 2] - x[:, 1, 0])
    _, counts = np.unique(kinds, return_counts=True)
    # Four standard deviations of a fair draw.
    assert len(counts) == 4
    assert (abs(counts - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)).all()


def test_flips_are_those_of_numpy():
    stack = pictures()
    only = dataclasses.replace(NOTHING, flip=True)
    np.testing.assert_array_equal(changed(stack, only, flip_y=0.1), stack[:, ::-1])
    np.testing.assert_array_equal(changed(stack, only, flip_x=0.1), stack[:, :, ::-1])


@pytest.mark.parametrize("size", [40, 41])
def test_a_quarter_turn_is_that_of_numpy(size):
    stack = pictures(size=size, channels=2)
    only = dataclasses.replace(NOTHING, rotation=180.0)
    turned = changed(stack, only, rotation=0.75)
    expected = np.rot90(stack, -1, axes=(1, 2))
    np.testing.assert_array_equal(turned, expected)
    labels = np.floor(3 * stack)
    y, x, _ = fields(only, size=size, count=2, rotation=0.75)
    nearest = augment.warp(labels, (y, x), ("nearest",) * 2)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(nearest), np.rot90(labels, -1, axes=(1, 2))
    )


def test_quarter_turns_and_flips_show_all_eight_ways_and_no_other():
    ways = dataclasses.replace(NOTHING, quarter_turns=True, flip=True)
    stack = pictures(size=24)
    y, x, _ = fields(ways, size=24, count=800)
    shown = augment.warp(np.repeat(stack[:1], 800, axis=0), (y, x), ("linear",))
    shown = keras.ops.convert_to_numpy(shown)[..., 0]
    turns = [np.rot90(stack[0, ..., 0], turn) for turn in range(4)]
    eight = {each.tobytes() for turned in turns for each in (turned, turned.T)}
    kinds, counts = np.unique([each.tobytes() for each in shown], return_counts=True)
    assert set(kinds) == eight
    # Four standard deviations of a fair draw.
    assert (abs(counts - 100) < 4 * np.sqrt(800 / 8 * 7 / 8)).all()


def test_a_rotation_after_a_quarter_turn_is_as_free_as_one_without():
    both = dataclasses.replace(NOTHING, quarter_turns=True, rotation=10.0)
    y, x, _ = fields(both, size=3, count=4000)
    angles = np.degrees(np.arctan2(y[:, 1, 2] - y[:, 1, 1], x[:, 1, 2] - x[:, 1, 1]))
    rest = (angles + 45) % 90 - 45
    assert abs(rest).max() <= 10.01
    for turn in range(4):
        here = rest[((angles + 45) // 90).astype(int) % 4 == turn]
        # Uniform in -10 to 10: mean 0 and standard deviation 5.77, of 1,000 or so.
        assert 850 < len(here) < 1150
        assert abs(here.mean()) < 4 * 5.77 / math.sqrt(len(here))
        assert abs(here.std() - 5.77) < 0.5


def test_magnification_has_its_factor():
    only = dataclasses.replace(NOTHING, scale=math.log(2))
    for drawn, step in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):
        y, x, _ = fields(only, scale=drawn)
        np.testing.assert_allclose(np.diff(y, axis=1), step, rtol=1e-4)
        np.testing.assert_allclose(np.diff(x, axis=2), step, rtol=1e-4)
        assert y[0, 16, 16] == x[0, 16, 16] == 16


@pytest.mark.parametrize("degrees", [-180, -33.75, 10, 45, 90, 170])
def test_rotation_turns_by_the_drawn_angle(degrees):
    only = dataclasses.replace(NOTHING, rotation=180.0)
    size, middle = 101, 50
    y, x, _ = fields(only, size=size, rotation=0.5 + degrees / 360)
    # What the picture shows to the right of its middle comes from this direction.
    down, right = y[0, middle, -1] - middle, x[0, middle, -1] - middle
    off = np.degrees(np.arctan2(-down, right)) - degrees
    assert abs((off + 180) % 360 - 180) < 0.02
    assert abs(np.hypot(down, right) - middle) < 0.005
    only = dataclasses.replace(only, border="constant")  # no mirrored spots
    # Seen with rows going down, it turns clockwise: from below to the left.
    image = np.zeros((1, size, size, 1), "float32")
    image[0, middle + 30, middle] = 1
    turned = changed(image, only, rotation=0.5 + degrees / 360)[0, ..., 0]
    found = np.array(scipy.ndimage.center_of_mass(turned)) - middle
    angle = np.radians(degrees)
    expected = 30 * np.array([np.cos(angle), -np.sin(angle)])
    np.testing.assert_allclose(found, expected, atol=0.35)


def test_shear_shifts_rows_along_themselves():
    only = dataclasses.replace(NOTHING, shear=0.25)
    y, x, _ = fields(only, shear=1.0)
    rows, columns = np.mgrid[:33, :33]
    np.testing.assert_array_equal(y[0], rows)
    np.testing.assert_allclose(x[0], columns + 0.25 * (rows - 16), atol=1e-4)


def test_shift_is_a_fraction_of_the_patch():
    stack = pictures()
    only = dataclasses.replace(NOTHING, shift=0.1)
    moved = changed(stack, only, shift_y=1.0, shift_x=0.0)
    np.testing.assert_allclose(moved[:, :-4, 4:], stack[:, 4:, :-4], atol=1e-5)


def test_without_elasticity_shapes_stay_similar():
    y, x, _ = fields(dataclasses.replace(GEOMETRY, elastic=0, shift=0), count=50)
    down = np.stack([y[:, 1, 0] - y[:, 0, 0], x[:, 1, 0] - x[:, 0, 0]])
    right = np.stack([y[:, 0, 1] - y[:, 0, 0], x[:, 0, 1] - x[:, 0, 0]])
    np.testing.assert_allclose((down * right).sum(axis=0), 0, atol=5e-4)
    lengths = np.sqrt((down**2).sum(axis=0)), np.sqrt((right**2).sum(axis=0))
    np.testing.assert_allclose(*lengths, rtol=5e-4)
    assert (abs(np.log(lengths[0])) <= 0.301).all()
    assert np.log(lengths[0]).std() > 0.1


def test_elastic_displacement_is_a_spline_through_normal_control_points():
    only = dataclasses.replace(NOTHING, elastic=10.0)
    size, count = 33, 300
    y, x, normal = fields(only, size=size, count=count)
    base = np.arange(size)
    moved = np.stack([y - base[:, None], x - base], axis=1)
    at_points = moved[:, :, ::16, ::16]
    assert at_points.shape == (count, 2, 3, 3)
    grid = normal[:, :18].reshape(count, 2, 3, 3)
    np.testing.assert_allclose(at_points, 10 * grid, atol=1e-3)
    assert abs(at_points.std() - 10) < 0.5
    where = np.meshgrid(*[np.linspace(0, 2, size)] * 2, indexing="ij")
    for n, k in itertools.product(range(3), range(2)):
        expected = scipy.ndimage.map_coordinates(
            10.0 * grid[n, k], where, order=3, mode="mirror"
        )
        np.testing.assert_allclose(moved[n, k], expected, atol=1e-3)


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_outside_is_mirrored_as_numpy_pads(size, kind):
    values = RANDOM.normal(size=size).astype("float32")
    expected = np.pad(values, 20, mode="reflect" if size > 1 else "edge")
    places = np.arange(-20, size + 20).astype("float32")[None, :, None]
    stack = values[None, :, None, None]
    found = augment.warp(stack, (places, np.zeros_like(places)), (kind,))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(found)[0, :, 0, 0], expected
    )


@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("nearest", 0)])
def test_warp_reads_as_scipy_does(kind, order):
    stack = pictures(2, size=20, channels=3)[:, :, :15]
    y, x = RANDOM.uniform(-30, 50, (2, 2, 9, 11)).astype("float32")
    found = keras.ops.convert_to_numpy(augment.warp(stack, (y, x), (kind,) * 3))
    for n, k in itertools.product(range(2), range(3)):
        expected = scipy.ndimage.map_coordinates(
            stack[n, ..., k], (y[n], x[n]), order=order, mode="mirror"
        )
        np.testing.assert_allclose(found[n, ..., k], expected, atol=1e-4)


def test_cubic_reads_parabolas_and_pixels_exactly():
    rows, columns = np.mgrid[:24, :20].astype("float32")

    def surface(y, x):
        return 3 + 0.5 * y - x + 0.1 * x * y + 0.2 * y**2 - 0.05 * x**2 * y**2

    stack = surface(rows, columns)[None, ..., None]
    y, x = RANDOM.uniform(1, 18, (2, 1, 30, 30)).astype("float32")
    for kind, right in (("cubic", True), ("linear", False)):
        found = keras.ops.convert_to_numpy(augment.warp(stack, (y, x), (kind,)))
        close = np.allclose(found[0, ..., 0], surface(y, x)[0], atol=5e-3)
        assert close == right
    # Keys' kernel for a = -1/2, at distances 1.5, 0.5, 0.5, 1.5.
    row = RANDOM.normal(size=(1, 1, 8, 1)).astype("float32")
    places = [np.full((1, 1, 1), at, "float32") for at in (0, 3.5)]
    found = augment.warp(row, places, ("cubic",))
    expected = row[0, 0, 2:6, 0] @ [-0.0625, 0.5625, 0.5625, -0.0625]
    np.testing.assert_allclose(keras.ops.convert_to_numpy(found).item(), expected, 1e-5)
    cubic = dataclasses.replace(NOTHING, interpolation="cubic")
    stack = pictures(2, channels=2)
    np.testing.assert_array_equal(changed(stack, cubic), stack)


def test_beyond_a_constant_border_nothing_is_known():
    ranges = dataclasses.replace(GEOMETRY, border="constant", shift=0.5)
    stack = 5 + 0 * pictures(8, channels=3)
    layer = augment.Augment(ranges, (40, 40), 1, ("linear", "nearest"))
    uniform, normal = draws(8, ranges)
    out = keras.ops.convert_to_numpy(layer(stack, uniform, normal))
    y, x = map(keras.ops.convert_to_numpy, layer.field(uniform, normal, (40, 40)))
    near = np.minimum(abs(y + 0.5) % 40, abs(x + 0.5) % 40) > 1e-3
    inside = (y > -0.5) & (y < 39.5) & (x > -0.5) & (x < 39.5)
    assert 0.2 < inside.mean() < 0.9
    for channel in range(3):
        expected = np.where(inside, 5, 0)
        np.testing.assert_allclose(out[..., channel][near], expected[near], atol=1e-5)


@pytest.mark.parametrize("source", [(40, 40), (64, 50), (90, 200), (24, 40)])
def test_cropping_never_reads_outside(source):
    ranges = dataclasses.replace(
        GEOMETRY, border="crop", shift=0.3, shear=0.3, elastic=6.0
    )
    layer = augment.Augment(ranges, (40, 40), 1, ())
    for ends in (None, 0.0, 1.0):
        uniform, normal = draws(200, ranges)
        if ends is not None:
            uniform[:] = ends
        fields = layer.field(uniform, normal, source)
        for places, length in zip(fields, source, strict=True):
            found = keras.ops.convert_to_numpy(places)
            assert found.min() >= -1e-3
            assert found.max() <= length - 1 + 1e-3
    # With room enough, nothing is magnified: steps have the lengths they had.
    free = augment.Augment(
        dataclasses.replace(ranges, border="mirror"), (40, 40), 1, ()
    )
    if min(source) == 90:
        one, other = (
            [
                keras.ops.convert_to_numpy(axis)
                for axis in each.field(uniform, normal, (400, 400))
            ]
            for each in (layer, free)
        )
        np.testing.assert_array_equal(one, other)


def test_cropping_magnifies_as_little_as_a_turn_needs():
    ranges = dataclasses.replace(NOTHING, rotation=180.0, border="crop")
    y, x, _ = fields(ranges, size=41, rotation=0.5 + 45 / 360)
    step = np.hypot(y[0, 0, 1] - y[0, 0, 0], x[0, 0, 1] - x[0, 0, 0])
    np.testing.assert_allclose(step, np.sqrt(0.5), rtol=1e-3)
    stack = pictures(2, channels=2)
    plain = dataclasses.replace(NOTHING, flip=True, border="crop")
    np.testing.assert_array_equal(changed(stack, plain, flip_y=0.1), stack[:, ::-1])


@pytest.mark.parametrize("points", [2, 5, 12])
def test_any_grid_of_control_points_is_a_spline(points):
    only = dataclasses.replace(NOTHING, elastic=4.0, elastic_points=points)
    y, _, normal = fields(only, size=30)
    grid = normal[0, : points**2].reshape(points, points)
    where = np.meshgrid(*[np.linspace(0, points - 1, 30)] * 2, indexing="ij")
    expected = scipy.ndimage.map_coordinates(4 * grid, where, order=3, mode="mirror")
    np.testing.assert_allclose(y[0] - np.arange(30)[:, None], expected, atol=1e-3)
