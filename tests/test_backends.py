"""TensorFlow, JAX and torch train, and give the same results from the same numbers.

Each backend needs a process of its own: this file, run as a script.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import three_backends
from three_backends import BACKENDS

PLAN = {
    "model_arguments": {
        "padding": "same",
        "filters": 2,
        "depth": 1,
        "normalization": "batch",
    },
    "scale": 1.0,
    "patch": 24,
    "batch": 2,
    "steps": 2,
    "validate_every": 1,
    "tta": 1,
    "optimizer": {"average": 0.9},
}


def work(folder: Path, weights: Path) -> None:
    """Do on the backend of this process what is compared, and write it down."""
    import keras  # first: torch crashes where tensorflow was imported before it

    from unet_zoo import augment, recipe, segmenter, training
    from unet_zoo.catalog import Dataset, Example

    results = {}
    loaded = segmenter.load(weights)
    results["logits"] = keras.ops.convert_to_numpy(
        loaded.network.predict_on_batch(picture(32, 40)[None] / 50 - 2)
    )
    results["tiled"] = loaded.predict(picture(50, 45), tile=32, tta=4)
    results["labels"] = loaded.segment(picture(50, 45)).labels

    # Grey levels of 0 to 255; ranges to match.
    ranges = recipe.Augmentation(brightness=40, light=20, noise=10)
    layer = augment.Augment(ranges, (40, 40), 1, ("nearest", "linear"))
    generator = np.random.default_rng(1)
    uniforms, normals = augment.draw_size(ranges)
    stack = np.stack([picture(60, 60)[..., 0]] * 3, axis=-1)
    out = layer(
        np.stack([stack] * 6),
        generator.random((6, uniforms)).astype("float32"),
        generator.normal(size=(6, normals)).astype("float32"),
    )
    results["augmented"] = keras.ops.convert_to_numpy(out)
    seeds = np.arange(5, dtype="int32") * 2**28
    noise = augment.hashed_normal(seeds, (30, 30, 2))
    results["noise"] = keras.ops.convert_to_numpy(noise)

    labels = np.zeros((30, 36), "int32")
    labels[4:14, 5:16], labels[14:25, 5:16] = 1, 2
    example = Example("a", picture(30, 36).astype("uint8"), labels)
    readers = dict.fromkeys(("train", "validation"), lambda: [example])
    data = Dataset("one", "1", None, "instances", "", {}, readers)
    losses = []
    trained = training.train(
        recipe.from_dict(PLAN),
        data,
        folder / "run",
        progress=lambda progress: losses.append(progress.loss),
    )
    results["losses"] = np.array(losses)
    results["trained"] = trained.predict(example.image)
    results["moved"] = np.array([v.numpy().std() for v in trained.network.variables])
    results["backend"] = np.array(keras.backend.backend())
    np.savez(folder / "results.npz", **results)


def picture(rows: int, columns: int) -> np.ndarray:
    """Return a smooth grey image, float32 (rows, columns, 1) from 0 to 255."""
    y, x = np.mgrid[:rows, :columns]
    waves = np.sin(y / 5) * np.cos(x / 7) + 0.3 * np.sin((x + 2 * y) / 4)
    return ((waves - waves.min()) / np.ptp(waves) * 255).astype("float32")[..., None]


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Return one weights file for all backends."""
    from unet_zoo import registry, segmenter

    path = tmp_path_factory.mktemp("weights") / "w.h5"
    arguments = {**PLAN["model_arguments"], "depth": 2}
    network = registry.build(
        "unet", input_shape=(None, None, 1), classes=3, **arguments
    )
    generator = np.random.default_rng(0)
    network.set_weights(
        # Biases, and the scales and statistics of the normalisation.
        [
            w + (w.ndim == 1) * abs(generator.normal(0, 0.1, w.shape))
            for w in network.get_weights()
        ]
    )
    facts = segmenter.describe("unet", arguments, channels=1)
    segmenter.Segmenter(network, facts).save(path)
    return path


@pytest.fixture(scope="module")
def results(weights, tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """Return what every backend wrote down."""
    return three_backends.results(__file__, tmp_path_factory, weights, timeout=300)


@pytest.mark.parametrize("backend", BACKENDS)
def test_every_backend_trains(results, backend):
    found = results[backend]
    assert found["backend"] == backend
    assert found["losses"].shape == (2,)
    assert np.isfinite(found["losses"]).all()
    assert np.isfinite(found["moved"]).all()
    assert found["trained"].shape == (30, 36, 3)
    assert found["trained"].std() > 1e-4


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_one_weights_file_is_one_network(results, backend):
    reference, found = results["tensorflow"], results[backend]
    assert reference["logits"].std() > 1e-2
    np.testing.assert_allclose(found["logits"], reference["logits"], atol=1e-4)
    np.testing.assert_allclose(found["tiled"], reference["tiled"], atol=1e-4)
    assert (found["labels"] != reference["labels"]).mean() < 0.01


@pytest.mark.parametrize("backend", BACKENDS[1:])
def test_examples_look_alike_on_every_backend(results, backend):
    reference, found = results["tensorflow"], results[backend]
    np.testing.assert_array_equal(found["noise"], reference["noise"])
    assert np.ptp(reference["augmented"]) > 200
    # Image and what is linear: to a thousandth of a grey level of 255.
    for channel in (0, 2):
        np.testing.assert_allclose(
            found["augmented"][..., channel],
            reference["augmented"][..., channel],
            atol=1e-3,
        )
    # What is nearest may pick the other of two equally near pixels.
    other = found["augmented"][..., 1] != reference["augmented"][..., 1]
    assert other.mean() < 1e-3


if __name__ == "__main__":
    work(Path(sys.argv[1]), Path(sys.argv[2]))
