"""Blobs: the same bytes everywhere, labels that are right, difficulty that is real."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
import scipy.ndimage
import skimage.filters

from unet_zoo import errors
from unet_zoo.datasets.blobs import exact, generate, placing

# SHA-256 of image and labels (little-endian) of size (101, 137), seed 11. A change
# here changes the dataset: raise VERSION of its builder along with it.
PINNED = {
    "easy": "ba63b8ebeed8587d42cc8464528d954652b059db549c0c16e41542df085f19ca",
    "medium": "496dca016c36e1680a3262b096fda94a8fd415355eef2cedc65924c72b8577ee",
    "hard": "9277148e299a259571bf6c0b244cb353460447a173e9c934b83ee1f86fd03dc1",
}
ALL = pytest.mark.parametrize("difficulty", generate.DIFFICULTIES)


def digest(difficulty: str, size: tuple[int, int] = (101, 137), seed: int = 11) -> str:
    image, labels = generate.generate(difficulty, size, seed)
    return hashlib.sha256(image.tobytes() + labels.astype("<i4").tobytes()).hexdigest()


@ALL
def test_bytes_are_pinned(difficulty):
    assert digest(difficulty) == PINNED[difficulty]


def test_hard_is_pinned_in_all_its_ways():
    # One scene of many is drawn for each seed: these meet every kind of them.
    together = "".join(digest("hard", (64, 80), seed) for seed in range(40))
    found = hashlib.sha256(together.encode()).hexdigest()
    assert found == "3424f32f123ded298095b96270d98be63b144b3f2be93c2c64db6dfa126beb35"


def test_fresh_process_on_a_lesser_processor_gives_the_same_bytes():
    """Without AVX and the like numpy runs other code; the bytes stay."""
    code = (
        "import hashlib\n"
        "from unet_zoo.datasets.blobs.generate import generate\n"
        "digest = hashlib.sha256()\n"
        "for seed in range(2**64 - 20, 2**64):\n"
        "    image, labels = generate('hard', (64, 67), seed)\n"
        "    digest.update(image.tobytes() + labels.tobytes())\n"
    )
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    run = subprocess.run(
        [sys.executable, "-c", code + "raise SystemExit(digest.hexdigest())"],
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(simd)},
        capture_output=True,
        text=True,
    )
    here: dict = {}
    exec(code, here)
    assert run.stderr.strip().endswith(here["digest"].hexdigest())


def test_seed_difficulty_and_global_state():
    before = np.random.get_state()[1].copy()
    first = generate.generate("medium", (48, 48), seed=1)[0]
    assert (np.random.get_state()[1] == before).all()
    np.random.seed(0)
    np.testing.assert_array_equal(
        first, generate.generate("medium", (48, 48), seed=1)[0]
    )
    assert (first != generate.generate("medium", (48, 48), seed=2)[0]).any()
    assert (first != generate.generate("easy", (48, 48), seed=1)[0]).any()


@ALL
@pytest.mark.parametrize("size", [(16, 16), (101, 37), (37, 101), (160, 256)])
def test_labels_are_dense_connected_and_no_slivers(difficulty, size):
    for seed in range(6):
        image, labels = generate.generate(difficulty, size, seed)
        assert image.shape == (*size, 1)
        assert image.dtype == np.uint8
        assert labels.shape == size
        assert labels.dtype == np.int32
        number = labels.max()
        assert number >= 1
        np.testing.assert_array_equal(
            np.unique(labels[labels > 0]), np.arange(1, number + 1)
        )
        for each in range(1, number + 1):
            # scipy's default is the 4-connected neighbourhood.
            assert scipy.ndimage.label(labels == each)[1] == 1
        assert np.bincount(labels.ravel())[1:].min() >= 5


@ALL
@pytest.mark.parametrize("count", [0, 1, 2, 9, 50])
def test_count_is_kept(difficulty, count):
    for seed in range(3):
        labels = generate.generate(difficulty, (90, 96), seed, count)[1]
        assert labels.max() == count


@ALL
def test_objects_differ_from_the_ground_beside_them(difficulty):
    """Objects are drawn where the labels say: moved labels fit the image worse."""
    fit = {0: 0.0, 9: 0.0}
    for seed in range(8):
        image, labels = generate.generate(difficulty, (128, 128), seed)
        smooth = scipy.ndimage.gaussian_filter(image[..., 0].astype(float), 1)
        slope = scipy.ndimage.gaussian_gradient_magnitude(smooth, 1)
        outline = (labels > 0) ^ scipy.ndimage.binary_erosion(labels > 0)
        for shift in fit:
            fit[shift] += slope[np.roll(outline, shift, (0, 1))].mean() / slope.mean()
    assert fit[0] > 1.3 * fit[9]


def accuracy(difficulty: str) -> float:
    """Return which part of an image's objects Otsu's threshold finds, on average.

    Found is an intersection over union above 0.5 with a piece on the better side of
    the threshold.
    """
    parts = []
    for seed in range(30):
        image, labels = generate.generate(difficulty, (160, 160), seed)
        bright = image[..., 0] > skimage.filters.threshold_otsu(image[..., 0])
        found = 0
        for mask in (bright, ~bright):
            pieces = scipy.ndimage.label(mask)[0]
            both = np.zeros((labels.max() + 1, pieces.max() + 1))
            np.add.at(both, (labels, pieces), 1)
            union = both.sum(1)[:, None] + both.sum(0)[None, :] - both
            found = max(found, np.count_nonzero((both / union)[1:, 1:] > 0.5))
        parts.append(found / labels.max())
    return float(np.mean(parts))


def test_difficulty_rises():
    easy, medium, hard = map(accuracy, generate.DIFFICULTIES)
    assert easy > 0.95
    assert medium < 0.85 * easy
    assert hard < 0.75 * medium


def test_background_can_outshine_objects():
    """Light is so uneven that no single threshold can be right."""
    overlapping = 0
    for seed in range(30):
        image, labels = generate.generate("hard", (96, 96), seed)
        grey = image[..., 0].astype(float)
        means = scipy.ndimage.mean(grey, labels, np.arange(1, labels.max() + 1))
        low, high = np.percentile(grey[labels == 0], [2, 98])
        overlapping += means.min() < high and means.max() > low
    assert overlapping >= 15


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("hrad",), "Unknown difficulty 'hrad'. Did you mean 'hard'"),
        ((3,), "Unknown difficulty '3'. Known: easy, hard, medium"),
        (("easy", (15, 64)), r"each at least 16.*Received: size=\(15, 64\)"),
        (("easy", (64.5, 64)), r"whole pixels.*Received: size=\(64.5, 64\)"),
        (("easy", 64), r"must be \(height, width\).*Received: size=64"),
        (("easy", (64, 64, 1)), r"must be \(height, width\)"),
        (("easy", (64, 64), -1), r"`seed` must be .*Received: seed=-1"),
        (("easy", (64, 64), 2**64), "`seed` must be a whole number in 0..2"),
        (("easy", (64, 64), "1"), "Received: seed='1'"),
        (("easy", (64, 64), 0, -1), "0 or more.*Received: count=-1"),
        (("easy", (64, 64), 0, 1.5), "Received: count=1.5"),
        (("easy", (64, 64), 0, 28), r"do not fit into size=\(64, 64\).*at most 27"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(errors.InputError, match=message):
        generate.generate(*arguments)


@pytest.mark.parametrize("size", [(16, 40), (64, 64), (37, 101)])
@ALL
def test_as_many_fit_as_the_error_says(difficulty, size):
    most = size[0] * size[1] // generate.PIXELS_PER_OBJECT
    for seed in range(3):
        assert generate.generate(difficulty, size, seed, most)[1].max() == most


def test_occluded_objects_stay_whole():
    """With much overlap allowed, still at least half of each object is seen."""
    layout = placing.Layout(radius=12, cover=0.6, gap=None, overlap=0.4)
    blobs, labels = placing.place(exact.Dice(5, 0), layout, (128, 128), None)
    hidden = 0
    for each, blob in enumerate(blobs, start=1):
        full = np.count_nonzero(blob.distance <= 1)
        seen = np.count_nonzero(labels == each)
        assert seen >= 0.55 * full
        hidden += seen < full
    assert hidden >= 3


def test_pieces_match_scipy():
    for seed in range(60):
        dice = exact.Dice(seed, 9)
        mask = dice.array(13, 17) > dice.uniform(-0.6, 0.6)
        labels, _ = scipy.ndimage.label(mask)
        sizes = np.sort(np.bincount(labels.ravel())[1:])[::-1]
        assert exact.pieces(mask) == sizes.tolist()
        if mask.any():
            assert np.count_nonzero(exact.largest(mask)) == sizes[0]


def test_blur_is_about_gaussian_and_keeps_the_sum():
    point = np.zeros((61, 61))
    point[30, 30] = 1
    for sigma in (0.7, 1.0, 2.0, 4.0):
        spread = exact.blur(point, sigma)
        assert spread.sum() == pytest.approx(1, abs=1e-3)
        expected = scipy.ndimage.gaussian_filter(point, sigma)
        assert np.abs(spread - expected).max() < 0.2 * expected.max()
        across = np.arange(61) - 30
        deviation = np.sqrt((spread.sum(axis=0) * across * across).sum())
        assert deviation == pytest.approx(sigma, rel=0.01)
    flat = np.full((20, 30), 0.3)
    np.testing.assert_allclose(exact.blur(flat, 2.5), flat, atol=1e-5)


def test_bells_are_standard():
    drawn = exact.Dice(3, 0).bells(301, 301)
    assert drawn.mean() == pytest.approx(0, abs=0.01)
    assert drawn.std() == pytest.approx(1, abs=0.01)
    # Within one deviation of a normal distribution lie 68.3 %.
    assert np.mean(np.abs(drawn) < 1) == pytest.approx(0.683, abs=0.02)
