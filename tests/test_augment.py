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

NOTHING = Augmentation(**{field.name: 0 for field in dataclasses.fields(Augmentation)})
NOTHING = dataclasses.replace(NOTHING, flip=False, elastic_points=3)
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
            uniform[:, int(name[1:])] = value
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
    np.testing.assert_array_equal(changed(stack, still, u0=0.5), stack)
    cut = changed(stack, still, size=24, u0=0.5)
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
    alone = augment.warp(labels, y, x, ("nearest",))
    three = ("nearest", "linear", "nearest")
    mixed = augment.warp(np.repeat(labels, 3, axis=-1), y, x, three)
    alone, mixed = map(keras.ops.convert_to_numpy, (alone, mixed))
    np.testing.assert_array_equal(mixed[..., 0], mixed[..., 2])
    np.testing.assert_array_equal(mixed[..., :1], alone)


@pytest.mark.parametrize("ends", [0.0, np.nextafter(np.float32(1), np.float32(0))])
@pytest.mark.parametrize("flat", [False, True])
def test_extreme_draws_stay_finite(ends, flat):
    stack = pictures(2, channels=2) * (0 if flat else 1e3)
    out = changed(stack, Augmentation(), **{f"u{n}": ends for n in range(12)})
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
    np.testing.assert_array_equal(changed(stack, only, u2=0.1), stack[:, ::-1])
    np.testing.assert_array_equal(changed(stack, only, u3=0.1), stack[:, :, ::-1])


@pytest.mark.parametrize("size", [40, 41])
def test_a_quarter_turn_is_that_of_numpy(size):
    stack = pictures(size=size, channels=2)
    only = dataclasses.replace(NOTHING, rotation=180.0)
    turned = changed(stack, only, u0=0.75)
    expected = np.rot90(stack, -1, axes=(1, 2))
    np.testing.assert_allclose(turned, expected, atol=1e-4)
    labels = np.floor(3 * stack)
    y, x, _ = fields(only, size=size, count=2, u0=0.75)
    nearest = augment.warp(labels, y, x, ("nearest",) * 2)
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(nearest), np.rot90(labels, -1, axes=(1, 2))
    )


def test_magnification_has_its_factor():
    only = dataclasses.replace(NOTHING, scale=math.log(2))
    for drawn, step in ((0.0, 2.0), (0.5, 1.0), (1.0, 0.5)):
        y, x, _ = fields(only, u1=drawn)
        np.testing.assert_allclose(np.diff(y, axis=1), step, rtol=1e-5)
        np.testing.assert_allclose(np.diff(x, axis=2), step, rtol=1e-5)
        assert y[0, 16, 16] == x[0, 16, 16] == 16


def test_shift_is_a_fraction_of_the_patch():
    stack = pictures()
    only = dataclasses.replace(NOTHING, shift=0.1)
    moved = changed(stack, only, u4=1.0, u5=0.0)
    np.testing.assert_allclose(moved[:, :-4, 4:], stack[:, 4:, :-4], atol=1e-5)


def test_without_elasticity_shapes_stay_similar():
    y, x, _ = fields(dataclasses.replace(GEOMETRY, elastic=0, shift=0), count=50)
    down = np.stack([y[:, 1, 0] - y[:, 0, 0], x[:, 1, 0] - x[:, 0, 0]])
    right = np.stack([y[:, 0, 1] - y[:, 0, 0], x[:, 0, 1] - x[:, 0, 0]])
    np.testing.assert_allclose((down * right).sum(axis=0), 0, atol=1e-4)
    lengths = np.sqrt((down**2).sum(axis=0)), np.sqrt((right**2).sum(axis=0))
    np.testing.assert_allclose(*lengths, rtol=1e-4)
    assert (abs(np.log(lengths[0])) <= 0.3001).all()
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


@pytest.mark.parametrize("size", [1, 2, 5, 8])
def test_outside_is_mirrored_as_numpy_pads(size):
    expected = np.pad(np.arange(size), 20, mode="reflect" if size > 1 else "edge")
    places = np.arange(-20, size + 20).astype("float32")
    found = keras.ops.convert_to_numpy(augment.mirror(places, size))
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("nearest", 0)])
def test_warp_reads_as_scipy_does(kind, order):
    stack = pictures(2, size=20, channels=3)[:, :, :15]
    y, x = RANDOM.uniform(-30, 50, (2, 2, 9, 11)).astype("float32")
    found = keras.ops.convert_to_numpy(augment.warp(stack, y, x, (kind,) * 3))
    for n, k in itertools.product(range(2), range(3)):
        expected = scipy.ndimage.map_coordinates(
            stack[n, ..., k], (y[n], x[n]), order=order, mode="mirror"
        )
        np.testing.assert_allclose(found[n, ..., k], expected, atol=1e-4)


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
    out = changed(image, only, u7=1.0)
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
    out = changed(image, only, u8=1.0)
    np.testing.assert_allclose(out, image * np.exp(0.45), rtol=1e-5)
    out = changed(image, dataclasses.replace(NOTHING, brightness=0.3), u9=0.0)
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
    out = changed(image, dataclasses.replace(NOTHING, noise=0.2), u10=0.75, u11=0.3)
    assert abs((out - image).std() - 0.15) < 0.005


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
