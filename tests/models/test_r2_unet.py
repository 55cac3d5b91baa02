"""The R2U-Net's recurrences share weights, and its attention gates the skips."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RGB = dict(input_shape=(None, None, 3), classes=1)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(recurrences=1)
PINNED = [
    # The de-facto reference, LeeJunHyun/Image_Segmentation: R2U_Net and R2AttU_Net.
    (RGB, 39_105_089, 39_091_393),
    (dict(classes=1), 39_104_961, 39_091_265),
    (RGB | dict(attention=True), 39_458_549, 39_442_925),
    (dict(classes=1, attention=True), 39_458_421, 39_442_797),
]


def test_a_recurrence_applies_the_same_convolution_to_input_plus_output() -> None:
    model = build("r2_unet", recurrences=3, normalization=None)
    inputs = image(model)
    x = around = model.get_layer("encoder0_conv0")(inputs)
    for conv in (model.get_layer(f"encoder0_conv{number}") for number in (1, 2)):
        last = keras.ops.relu(conv(x))
        for _ in range(3):
            last = keras.ops.relu(conv(x + last))
        x = last
    expected = keras.ops.convert_to_numpy(around + x)
    block = keras.Model(model.input, model.get_layer("encoder0_add").output)
    np.testing.assert_allclose(predict(block, inputs), expected, rtol=1e-4, atol=1e-4)


def test_recurrences_cost_no_parameters_and_change_the_output() -> None:
    models = [build("r2_unet", recurrences=times) for times in (1, 2)]
    weights = [[variable.path for variable in model.weights] for model in models]
    assert weights[0] == weights[1]
    models[1].set_weights(models[0].get_weights())
    first, second = (predict(model, image(model)) for model in models)
    assert np.abs(first - second).max() > 1e-3


@pytest.mark.parametrize("kind", [None, "batch", "group", "instance", "layer"])
def test_attention_weights_each_pixel_of_a_skip(kind: str | None) -> None:
    model = build("r2_unet", (16, 16), attention=True, normalization=kind)
    ends = [
        model.get_layer("encoder1_add").output,
        model.get_layer("attention1_sigmoid").output,
        model.get_layer("attention1").output,
    ]
    skip, weight, gated = (
        keras.ops.convert_to_numpy(x)
        for x in keras.Model(model.input, ends)(image(model))
    )
    assert weight.shape == (*skip.shape[:-1], 1)
    assert 0 <= weight.min() < weight.max() <= 1
    np.testing.assert_allclose(gated, skip * weight, rtol=1e-6, atol=1e-9)


def test_every_gate_is_used() -> None:
    model = build("r2_unet", (16, 16), attention=True, depth=1, recurrences=1)
    assert inputs_without_effect(model) == []


def test_a_closed_gate_leaves_only_what_comes_up() -> None:
    model = build("r2_unet", attention=True)
    for level in range(2):
        beta = model.get_layer(f"attention{level}_weight_norm").beta
        beta.assign(beta - 200)
    joined = model.get_layer("concat1").output
    joined = predict(keras.Model(model.input, joined), image(model))
    assert not joined[..., :8].any()
    assert joined[..., 8:].any()


def test_recurrences_are_checked() -> None:
    with pytest.raises(errors.InputError, match="`recurrences` must be a whole number"):
        registry.build("r2_unet", recurrences=0)
