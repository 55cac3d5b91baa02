"""`registering`: masks that lie beside their image are found, others left alone."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import scipy.ndimage
import skimage.segmentation
import tifffile

from unet_zoo.checking import registering
from unet_zoo.datasets.blobs import generate


def moved(labels: np.ndarray, down: int, right: int) -> np.ndarray:
    """Return labels moved within the frame, with background where they came from."""
    padded = np.pad(labels, 40)
    height, width = labels.shape
    return padded[40 - down :, 40 - right :][:height, :width]


@pytest.fixture(scope="module")
def cells(shared_data) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return real cells with silver truth, of both sequences."""
    found = []
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        for sequence in ("01", "02"):
            for number in range(3, 84, 16):
                names = (
                    f"{sequence}/t{number:03d}.tif",
                    f"{sequence}_ST/SEG/man_seg{number:03d}.tif",
                )
                image, labels = (
                    tifffile.imread(io.BytesIO(archive.read(f"DIC-C2DH-HeLa/{name}")))
                    for name in names
                )
                found.append((image[..., None], labels.astype("int32")))
    return found


@pytest.mark.parametrize("what", ["cells", *generate.DIFFICULTIES])
def test_shifts_are_found_where_they_are_and_nowhere_else(what, request):
    """Real cells and blobs, 6 to 30 pixels in any direction: found to two pixels."""
    random = np.random.default_rng(0)
    if what == "cells":
        frames = request.getfixturevalue("cells")
    else:
        seeds = range(100, 112)
        frames = [generate.generate(what, (192, 192), seed=seed) for seed in seeds]
    found = alarms = 0
    for image, labels in frames:
        fit = registering.register(image, labels)
        assert fit is not None
        alarms += fit.shifted or bool(fit.turn)
        angle, length = random.uniform(0, 2 * np.pi), random.uniform(6, 30)
        by = round(length * np.sin(angle)), round(length * np.cos(angle))
        fit = registering.register(image, moved(labels, *by))
        off = np.hypot(fit.move[0] + by[0], fit.move[1] + by[1])
        found += fit.shifted and off <= 2
    assert alarms == 0
    assert found >= 0.9 * len(frames)


def wider(labels: np.ndarray) -> np.ndarray:
    return skimage.segmentation.expand_labels(labels, 4)


def tighter(labels: np.ndarray) -> np.ndarray:
    edges = skimage.segmentation.find_boundaries(labels, mode="inner")
    inner = scipy.ndimage.distance_transform_edt((labels > 0) & ~edges) > 3
    return np.where(inner, labels, 0)


def boxed(labels: np.ndarray) -> np.ndarray:
    boxes = np.zeros_like(labels)
    for number, place in enumerate(scipy.ndimage.find_objects(labels), start=1):
        boxes[place] = number
    return boxes


def some(labels: np.ndarray) -> np.ndarray:
    return np.where(labels % 4 == 1, labels, 0)


@pytest.mark.parametrize("draw_badly", [wider, tighter, boxed, some])
def test_masks_drawn_badly_are_not_shifted(draw_badly, cells):
    """Too wide, too tight, as boxes, or not all of them: but in their place."""
    frames = list(cells[::3])
    for difficulty in generate.DIFFICULTIES:
        seeds = range(200, 206)
        frames += [generate.generate(difficulty, (192, 192), seed=s) for s in seeds]
    for image, labels in frames:
        fit = registering.register(image, draw_badly(labels))
        assert fit is None or not (fit.shifted or fit.turn)


@pytest.mark.parametrize("seed", range(8))
def test_noise_raises_no_alarm(seed):
    """An image without edges says nothing about where its mask belongs."""
    image = np.random.default_rng(seed).normal(0, 1, (160, 160, 1))
    labels = generate.generate("medium", (160, 160), seed=seed)[1]
    fit = registering.register(image, labels)
    assert not fit.shifted
    assert not fit.turn


@pytest.mark.parametrize(
    ("image", "labels"),
    [
        (np.zeros((64, 64, 1)), np.pad(np.ones((30, 30), int), 17)),
        (np.random.default_rng(0).random((64, 64, 1)), np.zeros((64, 64), int)),
        (np.random.default_rng(0).random((5, 5, 1)), np.eye(5, dtype=int)),
    ],
)
def test_without_edges_nothing_is_said(image, labels):
    assert registering.register(image, labels) is None


def test_large_images_are_registered_in_their_own_pixels():
    image, labels = generate.generate("medium", (128, 128), seed=3)
    image, labels = (np.kron(e, np.ones((9, 9))) for e in (image[..., 0], labels))
    fit = registering.register(
        image[..., None], np.roll(labels, 72, axis=1).astype(int)
    )
    assert fit.shifted
    assert abs(fit.move[0]) <= 3
    assert abs(fit.move[1] + 72) <= 3
