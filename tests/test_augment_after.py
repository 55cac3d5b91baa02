"""Targets that were moved are close to targets of the moved labels.

A target is encoded once and then moved as an image is. A rotation keeps distances; a
magnification or an elastic deformation changes them, and here stands by how much. The
objects compared are those that lie in the patch as a whole: of one that the edge cuts,
the moved target knows more than labels that end there.
"""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
import scipy.ndimage

from unet_zoo import augment, targets, weight_maps
from unet_zoo.policies import Augmentation

WINDOW, PATCH = 384, 256
GREY = ("gamma", "contrast", "brightness", "light", "blur", "noise")


def cells(seed: int) -> np.ndarray:
    """Return labels of round cells that touch, 40 pixels wide."""
    generator = np.random.default_rng(seed)
    seeds = np.zeros((WINDOW, WINDOW), "int32")
    seeds[tuple(generator.integers(0, WINDOW, (2, 60)))] = np.arange(1, 61)
    away, nearest = scipy.ndimage.distance_transform_edt(
        seeds == 0, return_indices=True
    )
    return np.where(away <= 22, seeds[tuple(nearest)], 0).astype("int32")


def border(labels: np.ndarray) -> np.ndarray:
    """Return the weights between objects; balance is a matter of the whole image."""
    apart = weight_maps.separate(labels)
    return weight_maps.border_weights(apart, balance=False)[..., None]


def moved_and_made(ranges: Augmentation, encode, kinds):
    """Yield of each example: labels, moved maps, maps of the labels, margin."""
    ranges = dataclasses.replace(
        ranges, poisson=0.0, clahe=0.0, inversion=0.0, **dict.fromkeys(GREY, 0.0)
    )
    labels = np.stack([cells(seed) for seed in range(2)])
    stack = [np.concatenate([one[..., None], encode(one)], axis=-1) for one in labels]
    layer = augment.Augment(ranges, (PATCH, PATCH), 0, ("nearest", *kinds))
    numbers = augment.draws(ranges, 1, np.arange(2))
    out = keras.ops.convert_to_numpy(layer(np.stack(stack), *numbers))
    fields = [
        keras.ops.convert_to_numpy(axis)
        for axis in layer.field(*numbers, (WINDOW, WINDOW))
    ]
    for number, moved in enumerate(out):
        known = np.ones((PATCH, PATCH), bool)
        for axis in fields:
            known &= (axis[number] >= 0) & (axis[number] <= WINDOW - 1)
        known[[0, -1]] = known[:, [0, -1]] = False
        found = moved[..., 0].astype("int32")
        margin = scipy.ndimage.distance_transform_edt(known)
        yield found, moved[..., 1:], encode(found), margin


@pytest.mark.parametrize(
    ("policy", "mean", "most"),
    [
        ("light", 0.025, 0.08),
        ("paper", 0.04, 0.2),
        ("default", 0.04, 0.2),
        ("strong", 0.06, 0.3),
    ],
)
def test_moved_distances_are_close_to_those_of_moved_labels(policy, mean, most):
    errors, target = [], targets.get("distance")
    for labels, moved, made, margin in moved_and_made(
        Augmentation.named(policy), target.encode, target.interpolation
    ):
        whole = (labels > 0) & ~np.isin(labels, np.unique(labels[margin == 0]))
        errors.append(abs(moved - made)[..., 1][whole])
    away = np.concatenate(errors)
    assert len(away) > 10_000
    assert away.mean() < mean
    assert np.quantile(away, 0.99) < most


@pytest.mark.parametrize("policy", ["paper", "default", "strong"])
def test_moved_weights_are_close_to_those_of_moved_labels(policy):
    for _, moved, made, margin in moved_and_made(
        Augmentation.named(policy), border, ("nearest",)
    ):
        inner = margin > 16
        # Lines are one pixel wide: moved by one, they teach the same.
        here, there = (
            scipy.ndimage.uniform_filter(part[..., -1], 5)[inner]
            for part in (moved, made)
        )
        assert made[..., -1][inner].max() > 5
        assert abs(here.sum() / there.sum() - 1) < 0.1
        assert (abs(here - there) / there).mean() < 0.12


def test_quarter_turns_and_flips_spoil_no_distance():
    ranges = dataclasses.replace(Augmentation.named("none"), rotation=180.0, flip=True)
    target, labels = targets.get("distance"), cells(0)
    stack = np.concatenate([labels[..., None], target.encode(labels)], axis=-1)
    kinds = ("nearest", *target.interpolation)
    layer = augment.Augment(ranges, (WINDOW, WINDOW), 0, kinds)
    uniform, normal = augment.draws(ranges, 0, np.arange(4))
    uniform[:, augment.UNIFORM.index("rotation")] = 0, 0.25, 0.75, 0.5
    out = layer(np.repeat(stack[None], 4, axis=0).astype("float32"), uniform, normal)
    for moved in keras.ops.convert_to_numpy(out):
        made = target.encode(moved[..., 0].astype("int32"))
        np.testing.assert_allclose(moved[..., 1:3], made[..., :2], atol=1e-6)
