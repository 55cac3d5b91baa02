"""Transposed convolutions as products of matrices are those of Keras."""

import json
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
from test_fusing import taught

from unet_zoo.devices import transposing

LAYERS = [
    keras.layers.Conv1DTranspose,
    keras.layers.Conv2DTranspose,
    keras.layers.Conv3DTranspose,
]


def network(rank, **options):
    """Return one such layer as a network of images of any size."""
    options = {"kernel_size": 2, "strides": 2, **options}
    layer = LAYERS[rank - 1](4, **options)
    made = keras.Sequential([keras.Input((*[None] * rank, 3)), layer])
    generator = np.random.default_rng(0)
    made.set_weights([generator.normal(size=each.shape) for each in made.weights])
    return made


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"padding": "same"},
        {"use_bias": False, "activation": "relu"},
        {"kernel_size": 3, "strides": 3},
    ],
    ids=str,
)
def test_a_product_does_and_learns_what_the_layer_does(rank, options):
    x = np.random.default_rng(1).normal(size=(*(2, 3, 5, 4)[: rank + 1], 3))
    stock, direct = network(rank, **options), network(rank, **options)
    transposing.directly(direct)
    assert "call" in vars(direct.layers[-1])
    expected = taught(stock, x.astype("float32"))
    found = taught(direct, x.astype("float32"))
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "options",
    [{"strides": 1}, {"kernel_size": 3}, {"output_padding": 1}],
    ids=str,
)
def test_windows_that_meet_are_left_to_the_layer(options):
    made = network(2, **options)
    transposing.directly(made)
    assert "call" not in vars(made.layers[-1])


def test_sizes_of_each_axis_are_its_own():
    made = network(2, kernel_size=(1, 3), strides=(1, 3))
    x = np.random.default_rng(1).normal(size=(1, 4, 5, 3)).astype("float32")
    expected = made(x)
    transposing.directly(made)
    np.testing.assert_allclose(made(x), expected, atol=1e-5)


PROGRAM = """
import json, tempfile
import numpy as np
from unet_zoo import devices, registry
import keras
made = registry.build("unet", input_shape=(None, None, 1), padding="same",
    filters=4, depth=2)
x = np.random.default_rng(0).normal(size=(2, 32, 48, 1)).astype("float32")
stock = np.asarray(made(x))
devices.fuse(made)
direct = [each.name for each in made.layers if "call" in vars(each)]
with tempfile.TemporaryDirectory() as folder:
    made.save(folder + "/made.keras")
    back = keras.models.load_model(folder + "/made.keras")
kept = not any("call" in vars(each) for each in back.layers)
off = float(np.abs(np.asarray(made.predict(x, verbose=0)) - stock).max())
print(json.dumps([len(direct), off, kept]))
"""


def test_jax_has_it_in_its_networks_and_not_in_its_files():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
    )
    count, off, kept = json.loads(done.stdout.splitlines()[-1])
    assert (count, kept) == (2, True)
    assert off < 1e-5
