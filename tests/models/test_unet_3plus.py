"""The UNet 3+ joins all scales at every level, and can say that an image is empty."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from battery import build, image, joins, predict

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RGB = dict(input_shape=(None, None, 3), classes=1)
DEEP = dict(deep_supervision=True)
GUIDED = dict(classification=True)
PINNED = [
    # The authors' code, ZJUGiveLab/UNet-Version: plain, with 5 outputs, with CGM.
    (RGB, 26_984_833, 26_971_777),
    (RGB | DEEP, 27_002_693, 26_989_637),
    (RGB | DEEP | GUIDED, 27_004_743, 26_991_687),
    (dict(classes=1), 26_983_681, 26_970_625),
]


def outputs(model: keras.Model, inputs: np.ndarray) -> dict[str, np.ndarray]:
    found = model(inputs)
    found = found if isinstance(found, list) else [found]
    return {
        name: keras.ops.convert_to_numpy(each)
        for name, each in zip(model.output_names, found, strict=True)
    }


def test_every_level_of_the_decoder_joins_as_much_of_every_scale() -> None:
    model = build("unet_3plus", depth=3)
    sources = {
        join.name: [x._keras_history.operation.name for x in join.input]
        for join in joins(model)
    }
    assert sources == {
        "decoder2_concat": [
            f"decoder2_relu_{source}"
            for source in ("encoder0", "encoder1", "encoder2", "bottom")
        ],
        "decoder1_concat": [
            f"decoder1_relu_{source}"
            for source in ("encoder0", "encoder1", "decoder2", "bottom")
        ],
        "decoder0_concat": [
            f"decoder0_relu_{source}"
            for source in ("encoder0", "decoder1", "decoder2", "bottom")
        ],
    }
    for join in joins(model):
        assert {x.shape[-1] for x in join.input} == {4}
        level = int(join.name[len("decoder")])
        assert model.get_layer(f"decoder{level}_conv").filters == 16


def test_deep_supervision_has_an_output_of_every_level_at_full_size() -> None:
    model = build("unet_3plus", depth=3, classes=3, **DEEP)
    found = outputs(model, image(model))
    assert list(found) == ["logits", "logits1", "logits2", "logits3"]
    assert {each.shape for each in found.values()} == {(2, 48, 64, 3)}
    # Of level 3, the bottom, one pixel in 8 is free; the others lie on lines between.
    line = found["logits3"][0, 4, 4:60, 0]
    bends = np.flatnonzero(np.abs(np.diff(line, 2)) > 1e-4 * np.ptp(line))
    assert len(bends) > 0
    assert len(set(bends % 8)) <= 2


@pytest.mark.parametrize("arguments", [{}, DEEP])
def test_an_image_said_to_be_empty_has_empty_maps(arguments: dict[str, bool]) -> None:
    plain = build("unet_3plus", **arguments)
    model = build("unet_3plus", **arguments, **GUIDED)
    inputs = image(model)
    assert model.output_names == [*plain.output_names, "classification"]
    for layer in plain.layers:
        if layer.weights:
            # The name of an output is that of its last step, here the gate.
            name = "logits_conv" if layer.name == "logits" else layer.name
            model.get_layer(name).set_weights(layer.get_weights())
    answers = outputs(model, inputs)["classification"]
    assert answers.shape == (2, 2)
    # Between the two images, so that one is said to be empty and the other is not.
    shift = (answers[:, 1] - answers[:, 0]).mean()
    conv = model.get_layer("classification_conv")
    conv.bias.assign([shift, 0.0])
    found = outputs(model, inputs)
    there = found.pop("classification").argmax(axis=-1)
    assert sorted(there) == [0, 1]
    for name, expected in outputs(plain, inputs).items():
        np.testing.assert_allclose(found[name][there == 1], expected[there == 1])
        assert not found[name][there == 0].any()
        # What that means: background, by threshold and among classes.
        assert not found[name][there == 0].argmax(axis=-1).any()


def test_the_guided_network_can_be_trained_and_saved(tmp_path: Path) -> None:
    model = build("unet_3plus", classes=1, **DEEP, **GUIDED)
    loss = keras.losses.BinaryCrossentropy(from_logits=True)
    answer = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", [loss, loss, loss, answer])
    before = model.get_layer("classification_conv").get_weights()[0]
    mask = np.zeros((2, 48, 64, 1))
    model.train_on_batch(image(model), [mask, mask, mask, np.array([[0, 1], [1, 0]])])
    after = model.get_layer("classification_conv").get_weights()[0]
    assert np.abs(after - before).max() > 1e-4
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    inputs = image(model)
    expected = outputs(model, inputs)
    for name, each in outputs(again, inputs).items():
        np.testing.assert_array_equal(each, expected[name])


def test_mixed_precision_keeps_the_guided_outputs_in_float32() -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build("unet_3plus", **DEEP, **GUIDED)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {output.dtype for output in model.outputs} == {"float32"}
    found = outputs(model, image(model))
    assert {str(each.dtype) for each in found.values()} == {"float32"}


def test_dropout_ends_the_stages_that_it_is_told() -> None:
    model = build("unet_3plus", dropout=0.1, dropout_at="all")
    found = sorted(each.name for each in model.layers if "dropout" in each.name)
    stages = ["bottom", "decoder0", "decoder1", "encoder0", "encoder1"]
    assert found == [f"{stage}_dropout" for stage in stages]
    inputs = image(model)
    assert np.ptp(predict(model, inputs, training=True)) > 0
