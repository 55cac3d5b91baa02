"""Each change of grey values does what its range says, to the image alone."""

from __future__ import annotations

import dataclasses
import logging

import keras
import numpy as np
import scipy.ndimage
from augmenting import NOTHING, RANDOM, changed, draws, pictures

from unet_zoo import augment


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


def test_nothing_is_logged_while_it_is_compiled(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("tensorflow"), "propagate", True)
    image = pictures(size=128)  # large enough to be compiled
    every = dataclasses.replace(NOTHING, blur=1.0, clahe=1.0, inversion=1.0)
    changed(image, every, blur=0.5)
    assert not caplog.records
