"""The U2-Net has the paper's blocks, widths and seven predictions."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect

from unet_zoo import registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

PINNED = [
    # The paper's network and its small relative, three channels to one class.
    (dict(input_shape=(320, 320, 3), classes=1), 44_038_669, 44_009_869),
    (dict(input_shape=(320, 320, 3), classes=1, lite=True), 1_136_877, 1_131_181),
    (dict(classes=1, deep_supervision=True), 44_037_517, 44_008_717),
    (dict(classes=1, lite=True, deep_supervision=True), 1_135_725, 1_130_029),
]
# A quarter of the filters goes through the blocks, and one channel may well be dead.
TINY = dict(filters=16)


def test_every_block_ends_at_the_lowest_resolution_and_the_last_two_dilate() -> None:
    model = build("u2net", (64, 96), depth=5, filters=4)
    stages = [f"encoder{n}" for n in range(5)] + [f"decoder{n}" for n in range(5)]
    for stage in [*stages, "bottom"]:
        level = 5 if stage == "bottom" else int(stage[-1])
        first = model.get_layer(f"{stage}_in_conv").output.shape[1]
        last = model.get_layer(f"{stage}_bottom_conv")
        assert first == 64 // 2**level
        if level < 4:
            assert (last.output.shape[1], last.dilation_rate) == (2, (2, 2))
        else:
            assert (last.output.shape[1], last.dilation_rate) == (first, (8, 8))
            back = [model.get_layer(f"{stage}_{n}_back_conv") for n in range(3)]
            assert [each.dilation_rate[0] for each in back] == [1, 2, 4]


@pytest.mark.parametrize("lite", [False, True])
def test_widths_are_those_of_the_paper(lite: bool) -> None:
    model = registry.build("u2net", lite=lite)
    stages = [f"encoder{n}" for n in range(5)] + ["bottom"]
    stages += [f"decoder{n}" for n in reversed(range(5))]
    inside = [model.get_layer(f"{stage}_0_conv").filters for stage in stages]
    widths = [model.get_layer(f"{stage}_add").output.shape[-1] for stage in stages]
    if lite:
        assert (inside, widths) == ([16] * 11, [64] * 11)
    else:
        assert inside == [32, 32, 64, 128, 256, 256, 256, 128, 64, 32, 16]
        assert widths == [64, 128, 256, 512, 512, 512, 512, 256, 128, 64, 64]


def test_the_logits_are_made_of_what_the_levels_predict() -> None:
    model = build("u2net", deep_supervision=True, classes=1)
    assert model.output_names == ["logits", "logits1", "logits2", "logits3"]
    outputs = [keras.ops.convert_to_numpy(each) for each in model(image(model))]
    assert {each.shape for each in outputs} == {(2, 48, 64, 1)}
    kernel, bias = model.get_layer("logits").get_weights()
    expected = np.concatenate(outputs[1:], axis=-1) @ kernel[0, 0] + bias
    np.testing.assert_allclose(outputs[0], expected, atol=1e-5)


def test_lite_uses_all_it_has() -> None:
    assert inputs_without_effect(build("u2net", lite=True)) == []
