"""The Attention U-Net's gates weight every pixel of a skip by what comes up."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect, predict

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

PINNED = [
    # The de-facto reference, LeeJunHyun/Image_Segmentation: AttU_Net.
    (dict(input_shape=(None, None, 3), classes=1), 34_894_197, 34_878_573),
    (dict(classes=1), 34_893_045, 34_877_421),
]


def outputs(model: keras.Model, names: list[str]) -> list[np.ndarray]:
    """Return what the named layers give for one image."""
    tensors = {name: model.get_layer(name).output for name in names}
    found = keras.Model(model.input, tensors)(image(model))
    return [keras.ops.convert_to_numpy(found[name]) for name in names]


@pytest.mark.parametrize("kind", [None, "batch", "group", "instance", "layer"])
def test_gates_weight_each_pixel_of_a_skip_between_0_and_1(kind: str | None) -> None:
    model = build("attention_unet", normalization=kind)
    assert inputs_without_effect(model) == []
    for level in range(2):
        gate = f"attention{level}"
        skip, weight, gated = outputs(
            model, [f"encoder{level}_relu2", f"{gate}_sigmoid", gate]
        )
        assert weight.shape == (*skip.shape[:-1], 1)
        assert 0 < weight.min() < weight.max() < 1
        np.testing.assert_allclose(gated, skip * weight, rtol=1e-6)


def test_a_gate_looks_at_the_skip_and_at_what_comes_up() -> None:
    model = build("attention_unet")
    (before,) = outputs(model, ["attention0_sigmoid"])
    for which in ("up", "skip"):
        kernel = model.get_layer(f"attention0_{which}").kernel
        old = keras.ops.convert_to_numpy(kernel)
        kernel.assign(0 * old)
        (after,) = outputs(model, ["attention0_sigmoid"])
        kernel.assign(old)
        assert np.abs(after - before).max() > 1e-3


def test_a_closed_gate_leaves_only_what_comes_up() -> None:
    model = build("attention_unet")
    beta = model.get_layer("attention0_weight_norm").beta
    beta.assign(beta - 200)
    (joined,) = outputs(model, ["concat0"])
    assert not joined[..., :4].any()
    assert joined[..., 4:].any()
    beta.assign(beta + 400)
    skip, joined = outputs(model, ["encoder0_relu2", "concat0"])
    np.testing.assert_allclose(joined[..., :4], skip)


def test_volumes_have_the_same_layers_as_images() -> None:
    flat = build("attention_unet")
    deep = build("attention_unet", (16, 16, 16))
    names = [layer.name for layer in flat.layers]
    assert [layer.name for layer in deep.layers] == names
    (weight,) = outputs(deep, ["attention1_sigmoid"])
    assert weight.shape == (2, 8, 8, 8, 1)
    assert predict(deep, image(deep)).shape == (2, 16, 16, 16, 2)
