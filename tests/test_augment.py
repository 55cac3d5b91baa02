"""Each change does what its range says, to the image alone or to all maps alike."""

from __future__ import annotations

import dataclasses
import itertools
import math

import keras
import numpy as np
import pytest
import scipy.ndimage

from unet_zoo import augment
from unet_zoo.recipe import Augmentation

NOTHING = Augmentation.named("none")
GEOMETRY = Augmentation(gamma=0, contrast=0, brightness=0, light=0, blur=0, noise=0)
RANDOM = np.random.default_rng(7)


def pictures(count: int = 2, size: int = 40, channels: int = 1) -> np.ndarray:
    noise = RANDOM.normal(size=(count, size, size, channels))
    smooth = scipy.ndimage.gaussian_filter(noise, (0, 2, 2, 0))
    return (smooth / smooth.std()).astype("float32")


def draws(count: int, augmentation: Augmentation, **fixed: float):
    """Return numbers for `count` examples: random, or in the middle if `fixed`."""
    uniforms, normals = augment.draw_size(augmentation)
    uniform = RANDOM.random((count, uniforms)).astype("float32")
    normal = RANDOM.normal(size=(count, normals)).astype("float32")
    if fixed:
        uniform[:] = 0.5
        for name, value in fixed.items():
            uniform[:, augment.UNIFORM.index(name)] = value
    return uniform, normal


def changed(
    stack: np.ndarray, augmentation: Augmentation, size: int = 0, **fixed: float
) -> np.ndarray:
    """Return one channel of image and linear maps after the augmentation."""
    channels = ("linear",) * (stack.shape[-1] - 1)
    sizes = (size or stack.shape[1], size or stack.shape[2])
    layer = augment.Augment(augmentation, sizes, 1, channels)
    result = layer(stack, *draws(len(stack), augmentation, **fixed))
    return keras.ops.convert_to_numpy(result)


def fields(augmentation: Augmentation, size: int = 33, count: int = 1, **fixed: float):
    layer = augment.Augment(augmentation, (size, size), 1, ())
    uniform, normal = draws(count, augmentation, **fixed)
    y, x = layer.field(uniform, normal, (size, size))
    return (*map(keras.ops.convert_to_numpy, (y, x)), normal)


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


# === Grey values ===


def test_blur_is_that_of_scipy():
    images = pictures(3, channels=2)
    sigma = np.array([0.0, 0.7, 1.2], "float32")
    found = keras.ops.convert_to_numpy(augment.blur(images, sigma, 1.2))
    np.testing.assert_array_equal(found[0], images[0])
    for n in (1, 2):
        expected = scipy.ndimage.gaussian_filter(
            images[n], (sigma[n], sigma[n], 0), mode="mirror", radius=(4, 4, 0)
        )
        np.testing.assert_allclose(found[n], expected, atol=1e-5)
        full = scipy.ndimage.gaussian_filter(
            images[n], (sigma[n], sigma[n], 0), mode="mirror", truncate=8
        )
        np.testing.assert_allclose(found[n], full, atol=5e-3)


def test_gamma_keeps_the_ends_and_the_order():
    image = pictures()
    only = dataclasses.replace(NOTHING, gamma=0.35)
    out = changed(image, only, gamma=1.0)
    for before, after in zip(image[..., 0], out[..., 0], strict=True):
        np.testing.assert_allclose(after.min(), before.min(), atol=1e-4)
        np.testing.assert_allclose(after.max(), before.max(), atol=1e-4)
        assert (np.diff(after.ravel()[np.argsort(before.ravel())]) >= -1e-6).all()
        unit = (before - before.min()) / np.ptp(before)
        expected = before.min() + np.ptp(before) * unit ** np.exp(0.35)
        np.testing.assert_allclose(after, expected, atol=1e-3)


def test_contrast_brightness_and_light_are_what_they_say():
    image = pictures()
    only = dataclasses.replace(NOTHING, contrast=0.45)
    out = changed(image, only, contrast=1.0)
    np.testing.assert_allclose(out, image * np.exp(0.45), rtol=1e-5)
    out = changed(image, dataclasses.replace(NOTHING, brightness=0.3), brightness=0.0)
    np.testing.assert_allclose(out, image - 0.3, atol=1e-6)

    only = dataclasses.replace(NOTHING, light=0.3)
    layer = augment.Augment(only, (41, 41), 1, ())
    uniform, normal = draws(2, only)
    image = pictures(size=41)
    light = keras.ops.convert_to_numpy(layer(image, uniform, normal)) - image
    expected = 0.3 * normal[:, -9:].reshape(2, 3, 3)
    np.testing.assert_allclose(light[:, ::20, ::20, 0], expected, atol=1e-4)
    assert abs(np.diff(light, axis=1)).max() < 0.15


def test_noise_has_the_drawn_deviation():
    image = pictures(size=80)
    out = changed(image, dataclasses.replace(NOTHING, noise=0.2), noise=0.75, seed=0.3)
    assert abs((out - image).std() - 0.15) < 0.005


def test_shot_noise_has_a_variance_in_proportion_to_the_light():
    ramp = np.tile(np.linspace(0, 2, 9, dtype="float32"), (1, 200, 20))[..., None]
    out = changed(ramp, dataclasses.replace(NOTHING, poisson=0.4), poisson=0.75)
    added = (out - ramp)[..., 0]
    for value in np.unique(ramp):
        variance = added[ramp[..., 0] == value].var()
        np.testing.assert_allclose(variance, 0.09 * value / 2, rtol=0.12, atol=1e-6)
    # Together with Gaussian noise, variances add up.
    both = dataclasses.replace(NOTHING, poisson=0.4, noise=0.3)
    out = changed(ramp, both, poisson=1.0, noise=1.0)
    bright = ramp[..., 0] == 2
    np.testing.assert_allclose((out - ramp)[bright].std(), 0.5, rtol=0.05)


def test_inversion_mirrors_the_range_with_its_probability():
    image = pictures(400, size=5)
    only = dataclasses.replace(NOTHING, inversion=0.25)
    out = changed(image, only)
    low, high = (f(image, axis=(1, 2), keepdims=True) for f in (np.min, np.max))
    same = (out == image).all(axis=(1, 2, 3))
    np.testing.assert_allclose(out[~same], (low + high - image)[~same], atol=1e-5)
    assert abs((~same).mean() - 0.25) < 4 * np.sqrt(0.25 * 0.75 / 400)


def test_equalisation_is_that_of_scikit_image():
    from skimage import exposure

    rows, columns = np.mgrid[:128, :128]
    shade = np.sin(rows / 9) * np.cos(columns / 7) + rows / 40 + columns / 60
    image = (shade + 0.2 * RANDOM.normal(size=(128, 128))).astype("float32")
    found = augment.equalize(image[None, ..., None], tiles=4, limit=0.03)
    found = keras.ops.convert_to_numpy(found)[0, ..., 0]
    unit = (image - image.min()) / np.ptp(image)
    expected = exposure.equalize_adapthist(unit, kernel_size=32, clip_limit=0.03)
    # Theirs is stretched to the full range at the end, and counts in whole bins.
    found = (found - found.min()) / np.ptp(found)
    inner = (slice(16, -16),) * 2
    away = abs(found - expected)[inner]
    assert away.mean() < 0.015
    assert np.quantile(away, 0.99) < 0.03
    assert abs(unit - expected)[inner].mean() > 0.05


def test_equalisation_follows_its_definition():
    image = RANDOM.integers(0, 256, (1, 16, 16, 1)).astype("float32")
    image[0, 0, :2, 0] = 0, 255
    # One tile, no limit: the share of pixels that are no brighter.
    found = augment.equalize(image, tiles=1, limit=1.0)
    expected = [(image <= value).mean() * 255 for value in image.ravel()]
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found).ravel(), expected, atol=0.01
    )
    # The limit shares what is above it out among all bins.
    flat = np.zeros((1, 10, 10, 1), "float32")
    flat[0, 0, 0] = 255
    found = keras.ops.convert_to_numpy(augment.equalize(flat, tiles=1, limit=0.1))
    excess = 1 - 0.1 - 0.01
    np.testing.assert_allclose(found[0, 5, 5, 0] / 255, 0.1 + excess / 256, atol=1e-4)


def test_hashed_noise_looks_like_noise():
    seeds = (RANDOM.random(6).astype("float32") * 2.0**30).astype("int32")
    seeds[1] = seeds[0] + 1  # neighbouring seeds are no worse than others
    noise = keras.ops.convert_to_numpy(augment.hashed_normal(seeds, (96, 128, 2)))
    assert noise.shape == (6, 96, 128, 2)
    count = 96 * 128
    assert (abs(noise.mean(axis=(1, 2))) < 5 / np.sqrt(count)).all()
    assert (abs(noise.std(axis=(1, 2)) - 1) < 0.03).all()
    # The tails of a sum of four uniform numbers, t**4 / 4! at distance t of its end.
    for limit, tail in ((2, 0.04254), (3, 0.00043)):
        assert abs((abs(noise) > limit).mean() / tail - 1) < 0.25
    planes = np.moveaxis(noise, -1, 1).reshape(12, -1)
    assert abs(np.corrcoef(planes) - np.eye(12)).max() < 6 / np.sqrt(count)
    for plane in planes.reshape(12, 96, 128):
        power = abs(np.fft.fft2(plane - plane.mean())) ** 2 / count
        alike = abs(np.fft.ifft2(power).real)
        assert alike.ravel()[1:].max() < 7 / np.sqrt(count)
        assert power.max() < 20
        near = np.roll(alike, (2, 2), axis=(0, 1))[:5, :5].copy()
        near[2, 2] = 0
        assert near.max() < 6 / np.sqrt(count)


def test_the_same_seed_gives_the_same_noise():
    seeds = np.array([5, 6, 5], "int32")
    noise = keras.ops.convert_to_numpy(augment.hashed_normal(seeds, (8, 8, 1)))
    np.testing.assert_array_equal(noise[0], noise[2])
    assert abs(np.corrcoef(noise[0].ravel(), noise[1].ravel())[0, 1]) < 0.6
