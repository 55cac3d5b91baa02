"""The UNeXt shifts, and keeps its tokens apart from its convolutions."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from battery import build, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# One level of convolutions above two of tokens.
TINY = dict(depth=3)
SMALL = dict(filters=8, multipliers=(1, 2, 4, 8, 16))
RGB = dict(input_shape=(None, None, 3), classes=1)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(multipliers=(1, 2, 3, 4), shifts=3)
PINNED = [
    # The authors' network and their small one.
    (RGB, 1_472_945, 1_471_921),
    (RGB | SMALL, 253_913, 253_561),
    # The first convolution of 16 kernels loses two of three channels.
    (dict(classes=1), 1_472_945 - 2 * 9 * 16, 1_471_921 - 2 * 9 * 16),
]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(depth=6), "`multipliers` must have one number for each of the 6 levels."),
        (dict(multipliers=(1, 2, 0.5, 4, 8)), "`multipliers[2]` must be a whole"),
        (dict(shifts=0), "`shifts` must be a whole number of at least 1."),
    ],
)
def test_own_arguments_are_checked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build("unext", **arguments)


@pytest.mark.parametrize("axis", [1, 2])
@pytest.mark.parametrize(("channels", "groups"), [(10, 5), (12, 5), (4, 5), (6, 1)])
def test_groups_of_channels_move_by_their_distance_from_the_middle(
    axis: int, channels: int, groups: int
) -> None:
    from unet_zoo.models import unext

    inputs = np.random.default_rng(0).normal(size=(2, 7, 9, channels))
    inputs = inputs.astype("float32")
    moved = predict(unext.Shift(axis, groups), inputs)
    size = -(-channels // groups)
    for channel in range(channels):
        by = channel // size - groups // 2
        expected = np.roll(inputs[..., channel], by, axis)
        outside = [slice(None)] * 3
        outside[axis] = slice(None, by) if by > 0 else slice(by, None)
        if by:
            expected[tuple(outside)] = 0
        np.testing.assert_array_equal(moved[..., channel], expected)


def test_only_the_two_lowest_levels_and_their_mirrors_are_tokens() -> None:
    model = registry.build("unext", filters=2)
    blocks = [layer.name for layer in model.layers if layer.name.endswith("_dense1")]
    assert blocks == [
        f"{stage}_dense1" for stage in ("encoder3", "bottom", "decoder4", "decoder3")
    ]
    kept = build("unext", normalization=None)
    norms = [layer for layer in kept.layers if "norm" in layer.name]
    assert norms
    assert {type(layer) for layer in norms} == {keras.layers.LayerNormalization}


def test_one_compiled_function_serves_any_size() -> None:
    # TensorFlow compiles for one size, for another, and then for sizes in general.
    model = build("unext", (None, None))
    for size in ((16, 24), (24, 16), (32, 8)):
        inputs = np.random.default_rng(0).normal(size=(1, *size, 1)).astype("float32")
        found = model.predict_on_batch(inputs)
        np.testing.assert_allclose(found, predict(model, inputs), atol=1e-5)
