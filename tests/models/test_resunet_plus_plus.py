"""The ResUNet++'s attention and excitation weigh, and its pyramids see far."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RGB = dict(input_shape=(None, None, 3), classes=1)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(squeeze=2, sigmoid=True)
PINNED = [
    # The authors' Keras code and their PyTorch code.
    (RGB, 4_070_385, 4_062_993),
    (dict(classes=1), 4_070_065, 4_062_673),
    (RGB | dict(sigmoid=True), 4_070_385, 4_062_993),
]
# Fewer would leave squeeze and excitation one channel, which a ReLU may silence.
TINY = dict(squeeze=1)


def outputs(model: keras.Model, *names: str) -> list[np.ndarray]:
    ends = [model.get_layer(name).output for name in names]
    found = keras.Model(model.input, ends)(image(model))
    return [keras.ops.convert_to_numpy(each) for each in found]


def test_the_decoder_has_the_widths_of_the_paper() -> None:
    model = registry.build("resunet_plus_plus")
    stages = ["encoder0", "encoder1", "encoder2", "encoder3"]
    stages += ["decoder2", "decoder1", "decoder0"]
    widths = [model.get_layer(f"{stage}_conv2").filters for stage in stages]
    assert widths == [16, 32, 64, 128, 128, 64, 32]
    assert model.get_layer("bottom_conv").filters == 256
    assert model.get_layer("end_conv").filters == 16


@pytest.mark.parametrize("sigmoid", [False, True])
def test_attention_multiplies_what_comes_from_below(sigmoid: bool) -> None:
    model = build("resunet_plus_plus", sigmoid=sigmoid)
    last = "attention1_sigmoid" if sigmoid else "attention1_weight"
    below, weight, product = outputs(model, "bottom_conv", last, "attention1")
    np.testing.assert_allclose(product, below * weight, rtol=1e-5)
    assert (weight.min() >= 0) == sigmoid
    assert weight.std() > 0.01
    assert model.count_params() == build("resunet_plus_plus").count_params()


def test_values_stay_moderate_without_normalisation() -> None:
    model = build("resunet_plus_plus", normalization=None)
    assert np.abs(predict(model, image(model))).max() < 100
    raw = build("resunet_plus_plus", normalization=None, sigmoid=False)
    assert np.abs(predict(raw, image(raw))).max() > 1000


def test_excitation_weighs_each_channel_alike_at_every_pixel() -> None:
    model = build("resunet_plus_plus")
    x, weight, product = outputs(
        model, "encoder1_add", "encoder1_dense2", "encoder1_excite"
    )
    assert weight.shape == (2, 1, 1, 8)
    np.testing.assert_allclose(product, x * weight, rtol=1e-5)


def test_the_pyramid_at_the_end_sees_18_pixels_far() -> None:
    model = build("resunet_plus_plus", (64, 64), normalization=None)
    tail = keras.Model(model.get_layer("decoder0_excite").output, model.output)
    flat = np.zeros((1, 64, 64, 8), "float32")
    dot = flat.copy()
    dot[0, 32, 32] = 1
    differs = np.abs(predict(tail, dot) - predict(tail, flat)).max(-1)[0] > 1e-6
    rows = np.flatnonzero(differs.any(1)) - 32
    assert rows.tolist() == [-18, -12, -6, -1, 0, 1, 6, 12, 18]


def test_squeeze_is_checked() -> None:
    with pytest.raises(errors.InputError, match="`squeeze` must be a whole number"):
        registry.build("resunet_plus_plus", squeeze=0)
