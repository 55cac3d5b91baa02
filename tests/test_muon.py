"""Muon: what it takes for a matrix, and what its updates are."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import muon

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")


def stepped(shape: tuple[int, ...], rate: float = 0.1, **options) -> np.ndarray:
    """Return how a kernel of zeros changes by one step along a random gradient."""
    kernel = keras.Variable(np.zeros(shape, "float32"), name="kernel")
    optimizer = muon.Muon(rate, weight_decay=None, **options)
    optimizer.build([kernel])
    gradient = np.random.default_rng(0).normal(size=shape).astype("float32")
    optimizer.apply([keras.ops.convert_to_tensor(gradient)])
    return keras.ops.convert_to_numpy(kernel)


@pytest.mark.parametrize(
    "shape", [(3, 3, 8, 16), (2, 2, 24, 8), (1, 1, 4, 32), (3, 3, 3, 2, 6), (12, 20)]
)
def test_an_update_of_a_kernel_is_nearly_orthogonal(shape):
    rows = int(np.prod(shape[:-1]))
    update = stepped(shape).reshape(rows, -1)
    # 0.2 sqrt(longer side) gives an orthogonal matrix the root mean square of AdamW's.
    values = np.linalg.svd(update / (0.1 * 0.2 * max(update.shape) ** 0.5))[1]
    assert values.min() > 0.6
    assert values.max() < 1.25
    assert np.sqrt(np.mean(update**2)) == pytest.approx(0.02, rel=0.15)


def test_a_bias_goes_by_adamw():
    # AdamW's first step is the rate, whatever the gradient.
    assert np.abs(stepped((7,))) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("shape", [(144, 16), (16, 144), (20, 20)])
@pytest.mark.parametrize("condition", [1, 1e3, 1e6])
def test_the_short_way_gives_what_keras_gives(shape, condition):
    left, _, right = np.linalg.svd(
        np.random.default_rng(0).normal(size=shape), full_matrices=False
    )
    spread = np.geomspace(1, 1 / condition, min(shape))
    update = keras.ops.convert_to_tensor(((left * spread) @ right).astype("float32"))
    ours, theirs = (
        keras.ops.convert_to_numpy(kind().zeropower_via_newtonschulz5(update, 5))
        for kind in (muon.Muon, keras.optimizers.Muon)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-3)


def test_named_layers_are_left_out():
    plain, left_out = stepped((3, 3, 4, 4)), stepped((3, 3, 4, 4), exclude_layers=["k"])
    assert np.abs(left_out) == pytest.approx(0.1, rel=1e-3)
    assert np.abs(plain).max() < 0.09
