"""The SmaAt-UNet's attention gates the skips and nothing else."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, predict

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# The canonical reduction would leave a gate one hidden value here, which may be dead.
TINY = dict(reduction=1)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(kernels_per_channel=1, reduction=2)
PINNED = [
    # The authors' network for maps of rain, and their counts for other images.
    (dict(input_shape=(None, None, 12), classes=1), 4_042_379, 4_033_537),
    (dict(input_shape=(None, None, 3), classes=1), 4_041_047, 4_032_205),
    (dict(classes=1), 4_040_751, 4_031_909),
    (dict(input_shape=(None, None, 3), classes=21), 4_042_347, 4_033_505),
]


def test_gates_scale_each_channel_and_then_each_pixel() -> None:
    model = build("smaat_unet")
    names = ("encoder0_relu2", "attention0_channel_gate", "attention0_pixel_gate")
    ends = [model.get_layer(name).output for name in (*names, "attention0_pixel_scale")]
    before, channels, pixels, after = (
        keras.ops.convert_to_numpy(x)
        for x in keras.Model(model.input, ends)(image(model))
    )
    assert channels.shape == (2, 1, 1, 4)
    assert pixels.shape == (2, 48, 64, 1)
    for gate in (channels, pixels):
        assert 0 < gate.min() < gate.max() - 0.05 < 1
    np.testing.assert_allclose(after, before * channels * pixels, atol=1e-6)


def test_attention_is_beside_the_contracting_path_not_in_it() -> None:
    model = build("smaat_unet", depth=2)
    parents = model.get_layer("down0").input
    assert parents is model.get_layer("encoder0_relu2").output
    for level in (0, 1):
        skip, _ = model.get_layer(f"concat{level}").input
        assert skip is model.get_layer(f"attention{level}_pixel_scale").output


def test_layer_normalisation_leaves_the_pixel_gate_something_to_say() -> None:
    model = build("smaat_unet", normalization="layer")
    gate = keras.Model(model.input, model.get_layer("attention0_pixel_gate").output)
    assert predict(gate, image(model)).std() > 0.01


def test_one_compiled_function_serves_any_size() -> None:
    # TensorFlow compiles for one size, for another, and then for sizes in general.
    model = build("smaat_unet", (None, None))
    for size in ((16, 24), (24, 16), (32, 8)):
        inputs = np.random.default_rng(0).normal(size=(1, *size, 1)).astype("float32")
        found = model.predict_on_batch(inputs)
        np.testing.assert_allclose(found, predict(model, inputs), atol=1e-5)
