"""The MedNeXt has its authors' counts, windows where theirs are, and all it needs."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, inputs_without_effect, predict

from unet_zoo import errors, registry
from unet_zoo.models import mednext

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# The authors' networks less their `dummy_tensor`, a parameter that takes no part.
COUNTS = {
    ("S", 3): 5_471_970 - 1,
    ("B", 3): 10_447_362 - 1,
    ("M", 3): 17_418_178 - 1,
    ("L", 3): 61_556_322 - 1,
    ("S", 5): 5_542_114 - 1,
    ("B", 5): 10_517_506 - 1,
    ("M", 5): 17_534_402 - 1,
    ("L", 5): 61_754_466 - 1,
}
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(scale="B", kernel=5)
PINNED = [
    (dict(classes=1, scale=scale, kernel=kernel), count, count)
    for (scale, kernel), count in COUNTS.items()
]


@pytest.mark.parametrize("scale", ["B", "M", "L"])
def test_larger_ones_have_more_blocks_and_wider_ones(scale: str) -> None:
    model = registry.build("mednext", scale=scale, filters=1)
    names = [layer.name for layer in model.layers]
    stages = [f"encoder{n}" for n in range(4)] + ["bottom"]
    stages += [f"decoder{n}" for n in reversed(range(4))]
    numbers = [
        sum(name.startswith(stage) and name.endswith("_add") for name in names)
        for stage in stages
    ]
    expected = {
        "B": [2, 2, 2, 2, 2, 2, 2, 2, 2],
        "M": [3, 4, 4, 4, 4, 4, 4, 4, 3],
        "L": [3, 4, 8, 8, 8, 8, 8, 4, 3],
    }
    assert numbers == expected[scale]
    factors = []
    for stage in stages:
        layer = model.get_layer(f"{stage}_block1_expand")
        factors.append(layer.filters // layer.input.shape[-1])
    base = [2, 3, 4, 4, 4, 4, 4, 3, 2]
    assert factors == ([3, 4, 8, 8, 8, 8, 8, 4, 3] if scale == "L" else base)


@pytest.mark.parametrize("kernel", [1, 3, 5, 7])
def test_down_takes_every_other_pixel_and_up_puts_it_back(kernel: int) -> None:
    model = build("mednext", depth=1, filters=1, kernel=kernel)
    inputs = np.random.default_rng(0).normal(size=(1, 48, 64, 1)).astype("float32")
    for name in ("down0_depthwise", "up0_depthwise"):
        layer = model.get_layer(name)
        one = np.zeros((kernel, kernel, *layer.kernel.shape[2:]), "float32")
        one[kernel // 2, kernel // 2] = 1
        layer.kernel.assign(one)
    before = keras.Model(model.input, model.get_layer("encoder0_block2_add").output)
    after = keras.Model(model.input, model.get_layer("down0_depthwise").output)
    expected = predict(before, inputs)[:, ::2, ::2]
    np.testing.assert_allclose(predict(after, inputs), expected, atol=1e-6)

    before = keras.Model(model.input, model.get_layer("bottom_block2_add").output)
    after = keras.Model(model.input, model.get_layer("up0_depthwise").output)
    expected = np.zeros((1, 47, 63, 2), "float32")
    expected[:, ::2, ::2] = predict(before, inputs)
    np.testing.assert_allclose(predict(after, inputs), expected, atol=1e-6)


def test_spread_keeps_all_pixels_and_puts_zeros_between() -> None:
    inputs = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("float32")
    spread = keras.ops.convert_to_numpy(mednext.Spread()(inputs))
    expected = np.zeros((2, 5, 7, 5), "float32")
    expected[:, ::2, ::2] = inputs
    np.testing.assert_array_equal(spread, expected)


def test_deep_supervision_halves_down_to_the_bottom() -> None:
    model = build("mednext", deep_supervision=True)
    assert model.output_names == ["logits", "logits1", "logits2"]
    assert [each.shape[1] for each in model.outputs] == [48, 24, 12]


def test_wide_windows_and_the_largest_scale_use_all_they_have() -> None:
    assert inputs_without_effect(build("mednext", scale="L", kernel=5, depth=1)) == []


def test_a_kernel_without_a_middle_is_refused() -> None:
    with pytest.raises(errors.InputError, match=r"`kernel` must be odd. Received: 4."):
        build("mednext", kernel=4)
    with pytest.raises(errors.InputError, match="Unknown `scale` 's'"):
        build("mednext", scale="s")
