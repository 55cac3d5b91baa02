"""Augmentation is right, and the same, on TensorFlow, JAX and PyTorch.

Each backend needs a process of its own: this file, run as a script.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import three_backends
from three_backends import BACKENDS

SIZE = 144  # enough pixels that TensorFlow compiles


def picture(seed: int) -> np.ndarray:
    """Return labels of a few round objects, int32."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:SIZE, :SIZE]
    labels = np.zeros((SIZE, SIZE), "int32")
    for number, (row, column) in enumerate(generator.uniform(0, SIZE, (25, 2)), 1):
        labels[np.hypot(y - row, x - column) < 5 + number / 2] = number
    return labels


def grey(labels: np.ndarray) -> np.ndarray:
    """Return what a microscope might see of them, float32 from 0 to 255."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:SIZE, :SIZE]
    texture = 40 * np.sin(y / 2) * np.cos(x / 3) + 20 * generator.normal(size=y.shape)
    image = (labels * 37 % 120)[..., None] + 60 + texture[..., None]
    return np.clip(image, 0, 255).astype("float32")


def work(folder: Path) -> None:
    """Do on the backend of this process what is compared, and write it down."""
    import dataclasses

    import keras

    from unet_zoo import augment, policies
    from unet_zoo.policies import Augmentation

    found = {}
    arrays = keras.ops.convert_to_numpy
    labels = np.stack([picture(1), picture(2)])
    image = np.stack([grey(one) for one in labels])
    place = np.array([3, 4000000000])

    # Everything at once, with Keras' own policy names.
    layer = augment.Augmenter("strong", seed=7)
    out = layer({"images": image, "labels": labels, "masks": labels}, index=place)
    found |= {f"strong {name}": arrays(part) for name, part in out.items()}

    # Where the image is the label itself.
    geometry = dataclasses.replace(
        Augmentation(shear=0.1),
        **dict.fromkeys(("gamma", "contrast", "brightness"), 0.0),
        **dict.fromkeys(("light", "blur", "noise"), 0.0),
    )
    stack = np.repeat(labels[..., None], 4, axis=-1).astype("float32")
    draws = augment.draws(geometry, 1, place)
    kinds = ("linear", "nearest", "nearest")
    moving = augment.Augment(geometry, (128, 136), 1, kinds)
    found["stack"] = arrays(moving(stack, *draws))

    still = augment.Augmenter("none")
    out = still({"images": image, "labels": labels})
    found["identity"] = np.array(
        [
            (arrays(out["images"]) == image).all(),
            (arrays(out["labels"]) == labels).all(),
        ]
    )

    # Small from here on: nothing is compiled for it.
    flips = dataclasses.replace(Augmentation.named("none"), flip=True)
    numbers = augment.draws(flips, 0, np.arange(2000))
    field = augment.Augment(flips, (3, 3), 1, ()).field(*numbers, (3, 3))
    found["flips"] = np.stack([arrays(axis) for axis in field])
    for border in ("constant", "crop"):
        ranges = dataclasses.replace(
            geometry, border=border, interpolation="cubic", elastic=3.0
        )
        moving = augment.Augment(ranges, (24, 24), 1, ("nearest",))
        places = moving.field(*augment.draws(ranges, 2, place), (40, 40))
        found[border] = np.stack([arrays(axis) for axis in places])
    small = image[:, :16, :16]
    cubic = augment.warp(
        small, augment.at((15 * small[..., 0] / 255, small[..., 0] / 9)), ("cubic",)
    )
    found["cubic"] = arrays(cubic)
    volume = dataclasses.replace(geometry, tilt=20.0, elastic=2.0)
    places = augment.Augment(volume, (4, 9, 8), 1, ()).field(
        *augment.draws(volume, 3, place, rank=3), (6, 12, 12)
    )
    found["volume"] = np.stack([arrays(axis) for axis in places])
    found["noise"] = arrays(
        augment.hashed_normal(np.arange(5, dtype="int32") * 2**28, (30, 30, 2))
    )

    # In a tf.data pipeline, whatever the backend.
    import tensorflow as tf

    data = tf.data.Dataset.from_tensors((place, image, labels)).map(
        lambda n, x, y: layer({"images": x, "labels": y, "masks": y}, index=n)
    )
    for name, part in next(iter(data.as_numpy_iterator())).items():
        found[f"piped {name}"] = part
    assert set(policies.AUGMENTATIONS) == {
        "none",
        "light",
        "default",
        "paper",
        "strong",
    }
    np.savez(folder / "results.npz", **found)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """Return what every backend wrote down."""
    return three_backends.results(__file__, tmp_path_factory, timeout=600)


@pytest.mark.parametrize("backend", BACKENDS)
def test_image_and_label_are_one(results, backend):
    found = results[backend]
    linear, other, nearest, again = np.moveaxis(found["stack"], -1, 0)
    np.testing.assert_array_equal(linear, other)
    np.testing.assert_array_equal(nearest, again)
    # Away from edges a bilinear label is the label; and the edges are few.
    whole = linear == nearest
    assert whole.mean() > 0.8
    pure = linear == np.round(linear)
    assert (whole | ~pure).mean() > 0.999
    moved = nearest != np.stack([picture(1), picture(2)])[:, 8:-8, 4:-4]
    assert moved.mean() > 0.3
    np.testing.assert_array_equal(found["strong labels"], found["strong masks"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_four_flips_occur_equally_often(results, backend):
    y, x = results[backend]["flips"]
    kinds = np.sign(y[:, 2, 1] - y[:, 0, 1]) + 10 * np.sign(x[:, 1, 2] - x[:, 1, 0])
    _, counts = np.unique(kinds, return_counts=True)
    # Four standard deviations of a fair draw.
    assert len(counts) == 4
    assert (abs(counts - 500) < 4 * np.sqrt(2000 * 0.25 * 0.75)).all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_identity_is_exact(results, backend):
    assert results[backend]["identity"].all()


@pytest.mark.parametrize("backend", BACKENDS)
def test_pipelines_give_what_the_layer_gives(results, backend):
    found = results[backend]
    images = abs(found["piped images"] - found["strong images"])
    assert images.max() < 1e-3
    np.testing.assert_array_equal(found["piped labels"], found["strong labels"])


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_all_backends_agree(results, backend):
    reference, found = results["tensorflow"], results[backend]
    assert np.ptp(reference["strong images"]) > 200
    # To a thousandth of a grey level of 255.
    for name in ("strong images", "cubic"):
        assert abs(found[name] - reference[name]).max() < 1e-3
    assert abs(found["stack"] - reference["stack"])[..., :2].max() < 1e-3
    # What is nearest may pick the other of two equally near pixels.
    for name in ("strong labels", "strong masks"):
        assert (found[name] != reference[name]).mean() < 1e-4
    for name in ("constant", "crop", "volume"):
        assert abs(found[name] - reference[name]).max() < 1e-5
    np.testing.assert_array_equal(found["flips"], reference["flips"])
    np.testing.assert_array_equal(found["noise"], reference["noise"])


if __name__ == "__main__":
    work(Path(sys.argv[1]))
