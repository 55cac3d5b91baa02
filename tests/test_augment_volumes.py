"""Volumes move as images do, in three directions."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import scipy.ndimage
from augmenting import GEOMETRY, NOTHING, RANDOM

from unet_zoo import augment
from unet_zoo.policies import Augmentation

SIZE = (6, 16, 16)
VOLUMES = RANDOM.normal(size=(2, *SIZE, 2)).astype("float32")


def numbers(ranges: Augmentation, count: int = 2, **fixed: float):
    uniform, normal = augment.draws(ranges, 5, np.arange(count), rank=3)
    for name, value in fixed.items():
        uniform[:, augment.UNIFORM.index(name)] = value
    return uniform, normal


def changed(ranges: Augmentation, stack: np.ndarray = VOLUMES, **fixed: float):
    layer = augment.Augment(ranges, stack.shape[1:4], 1, ("linear",))
    return keras.ops.convert_to_numpy(
        layer(stack, *numbers(ranges, len(stack), **fixed))
    )


def fields(ranges: Augmentation, source=SIZE, count: int = 2, **fixed: float):
    layer = augment.Augment(ranges, SIZE, 1, ())
    uniform, normal = numbers(ranges, count, **fixed)
    found = layer.field(uniform, normal, source)
    return np.stack([keras.ops.convert_to_numpy(axis) for axis in found]), normal


def test_identity_is_exact():
    np.testing.assert_array_equal(changed(NOTHING), VOLUMES)


def test_planes_turn_about_the_first_axis():
    only = dataclasses.replace(NOTHING, rotation=180.0)
    expected = np.rot90(VOLUMES, -1, axes=(2, 3))
    np.testing.assert_array_equal(changed(only, rotation=0.75), expected)


@pytest.mark.parametrize(("name", "axis"), [("z", 1), ("y", 2), ("x", 3)])
def test_each_axis_flips(name, axis):
    only = dataclasses.replace(NOTHING, flip=True)
    fixed = {f"flip_{each}": 0.1 if each == name else 0.9 for each in "zyx"}
    np.testing.assert_array_equal(changed(only, **fixed), np.flip(VOLUMES, axis))


def test_all_eight_flips_occur_equally_often():
    places, _ = fields(dataclasses.replace(NOTHING, flip=True), count=4000)
    signs = [
        np.sign(places[0][:, 1, 0, 0] - places[0][:, 0, 0, 0]),
        np.sign(places[1][:, 0, 1, 0] - places[1][:, 0, 0, 0]),
        np.sign(places[2][:, 0, 0, 1] - places[2][:, 0, 0, 0]),
    ]
    _, counts = np.unique(np.stack(signs), axis=1, return_counts=True)
    assert len(counts) == 8
    assert (abs(counts - 500) < 4 * np.sqrt(4000 * 7 / 64)).all()


def test_tilts_are_rotations_of_their_angles():
    ranges = dataclasses.replace(NOTHING, rotation=180.0, tilt=30.0)
    places, _ = fields(ranges, count=50)
    steps = [np.diff(places, axis=axis)[:, :, 0, 0, 0] for axis in (2, 3, 4)]
    matrix = np.stack(steps, axis=-1).transpose(1, 0, 2)
    unit = matrix @ matrix.transpose(0, 2, 1)
    np.testing.assert_allclose(unit, np.eye(3)[None].repeat(50, 0), atol=1e-3)
    np.testing.assert_allclose(np.linalg.det(matrix), 1, atol=1e-3)
    # Two tilts of 30 degrees take the first axis no further than this.
    assert matrix[:, 0, 0].min() >= np.cos(np.radians(30)) ** 2 - 1e-3
    assert matrix[:, 0, 0].min() < 0.95
    places, _ = fields(
        dataclasses.replace(ranges, rotation=0.0), tilt_y=1.0, tilt_x=0.5
    )
    leaning = np.degrees(
        np.arctan2(*(np.diff(places[k], axis=3)[0, 0, 0, 0] for k in (0, 2)))
    )
    np.testing.assert_allclose(abs(leaning), 30, atol=0.02)


def test_elastic_displacement_is_a_spline_in_three_directions():
    only = dataclasses.replace(NOTHING, elastic=2.0)
    places, normal = fields(only)
    moved = places - np.indices(SIZE)[:, None]
    grid = normal[:, :81].reshape(2, 3, 3, 3, 3)
    where = np.meshgrid(*[np.linspace(0, 2, side) for side in SIZE], indexing="ij")
    for example in range(2):
        for axis in range(3):
            expected = scipy.ndimage.map_coordinates(
                2.0 * grid[example, axis], where, order=3, mode="mirror"
            )
            np.testing.assert_allclose(moved[axis, example], expected, atol=1e-3)


@pytest.mark.parametrize(("kind", "order"), [("linear", 1), ("nearest", 0)])
def test_warp_reads_as_scipy_does(kind, order):
    where = RANDOM.uniform(-20, 30, (3, 2, 3, 5, 4)).astype("float32")
    found = keras.ops.convert_to_numpy(augment.warp(VOLUMES, where, (kind,) * 2))
    for example in range(2):
        for channel in range(2):
            expected = scipy.ndimage.map_coordinates(
                VOLUMES[example, ..., channel],
                where[:, example],
                order=order,
                mode="mirror",
            )
            np.testing.assert_allclose(
                found[example, ..., channel], expected, atol=1e-4
            )


def test_a_volume_of_one_plane_is_an_image():
    ranges = dataclasses.replace(GEOMETRY, elastic=0.0, shear=0.2)
    image = VOLUMES[:, 0]
    uniform, normal = augment.draws(ranges, 5, np.arange(2))
    layer = augment.Augment(ranges, SIZE[1:], 1, ("linear",))
    flat = keras.ops.convert_to_numpy(layer(image, uniform, normal))
    deep = changed(ranges, image[:, None], flip_z=0.9)
    np.testing.assert_allclose(deep[:, 0], flat, atol=1e-6)


@pytest.mark.parametrize("source", [SIZE, (1, 30, 30), (20, 12, 40)])
def test_cropping_never_reads_outside(source):
    ranges = dataclasses.replace(GEOMETRY, border="crop", tilt=20.0, elastic=2.0)
    places, _ = fields(ranges, source, count=100)
    for axis, length in zip(places, source, strict=True):
        # An axis of one pixel has no outside.
        if length > 1:
            assert axis.min() >= -1e-3
            assert axis.max() <= length - 1 + 1e-3


def test_grey_values_change_in_volumes():
    ranges = dataclasses.replace(
        Augmentation.named("strong"),
        **dict.fromkeys(("rotation", "scale", "shift", "elastic", "shear"), 0.0),
        flip=False,
        clahe=1.0,
    )
    out = changed(ranges)
    np.testing.assert_array_equal(out[..., 1], VOLUMES[..., 1])
    assert np.isfinite(out).all()
    assert (out[..., 0] != VOLUMES[..., 0]).mean() > 0.99
    even = dataclasses.replace(NOTHING, light=0.5)
    light = (changed(even) - VOLUMES)[..., 0]
    assert light.std() > 0.05
    assert abs(np.diff(light, axis=3)).max() < 0.5
    blurred = changed(dataclasses.replace(NOTHING, blur=1.0), blur=1.0)[..., 0]
    expected = scipy.ndimage.gaussian_filter(
        VOLUMES[0, ..., 0], 1.0, mode="mirror", radius=3
    )
    np.testing.assert_allclose(blurred[0], expected, atol=1e-4)
