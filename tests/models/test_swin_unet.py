"""The Swin-Unet attends within windows, shifted ones included, and nowhere else."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest
from battery import build, image, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# In training, skipped blocks would hide what the battery looks for. Shifted windows
# come with the second block, and are tested here.
TINY = dict(patch=2, window=2, heads=1, blocks=1, drop_path=0.0)
RGB = dict(input_shape=(224, 224, 3))
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(patch=4, window=3, heads=2, blocks=2, drop_path=0.1)
PINNED = [
    # The authors' tiny network with 9 classes, with one, and with more blocks.
    (RGB | dict(classes=9), 27_168_900, 27_168_900),
    (RGB | dict(classes=1), 27_168_132, 27_168_132),
    (RGB | dict(classes=9, blocks=(2, 2, 6, 2)), 41_380_836, 41_380_836),
]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(input_shape=(None, 230, 1)), "of 224. Pad to (None, 448)."),
        (dict(filters=100), "`filters` must be a multiple of `heads` 3. Received: 100"),
        (dict(blocks=(2, 2)), "`blocks` must be a number or one for each of the 4"),
        (dict(blocks=(2, 2, 0, 2)), "`blocks[2]` must be a whole number"),
        (dict(blocks="2"), "`blocks` must be a whole number"),
        (dict(window=0), "`window` must be a whole number of at least 1."),
        (dict(drop_path=1), "`drop_path` must be at least 0 and below 1."),
    ],
)
def test_own_arguments_are_checked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build("swin_unet", **arguments)


def attention(**arguments: Any) -> keras.layers.Layer:
    from unet_zoo.models import swin_unet

    keras.utils.set_random_seed(3)
    layer = swin_unet.WindowAttention(heads=2, **arguments)
    layer.build((None, None, None, 6))
    for variable in layer.trainable_variables:
        variable.assign(keras.random.normal(variable.shape, stddev=0.3))
    return layer


@pytest.mark.parametrize("shift", [0, 1, 2])
def test_tokens_attend_within_their_window_only(shift: int) -> None:
    # Windows as they lie in the image; those that reach over its edge are cut there.
    layer = attention(window=4, shift=shift)
    tokens = np.random.default_rng(0).normal(size=(1, 8, 12, 6)).astype("float32")
    expected = predict(layer, tokens)
    rows, columns = np.indices((8, 12))
    window = (rows - shift) // 4 * 100 + (columns - shift) // 4
    for row, column in ((0, 0), (0, 5), (7, 11), (3, 2), (4, 11)):
        changed = tokens.copy()
        changed[0, row, column] += 1
        seen = np.abs(predict(layer, changed) - expected).max(axis=-1)[0] > 1e-6
        np.testing.assert_array_equal(seen, window == window[row, column])


def test_a_single_window_is_not_shifted() -> None:
    still, shifted = attention(window=4), attention(window=4, shift=2)
    shifted.set_weights(still.get_weights())
    tokens = np.random.default_rng(0).normal(size=(2, 4, 4, 6)).astype("float32")
    np.testing.assert_allclose(
        predict(still, tokens), predict(shifted, tokens), atol=1e-5
    )


def test_free_sizes_shift_as_fixed_ones_do() -> None:
    # The lowest stage of the smaller image is a single window high.
    fixed = build("swin_unet", (16, 48), blocks=2)
    free = build("swin_unet", (None, None), blocks=2)
    free.set_weights(fixed.get_weights())
    inputs = image(fixed)
    expected = predict(fixed, inputs)
    np.testing.assert_allclose(predict(free, inputs), expected, atol=1e-5)
    # Compiled for one size, for another, and thereafter for sizes in general.
    for height in (32, 48, 16):
        larger = np.resize(inputs, (1, height, 32, 1))
        found = free.predict_on_batch(larger)
        np.testing.assert_allclose(found, predict(free, larger), atol=1e-5)


def test_offsets_say_who_attends_to_whom() -> None:
    layer = attention(window=3)
    for dense in (layer.inward, layer.outward):
        dense.kernel.assign(keras.ops.zeros_like(dense.kernel))
        dense.bias.assign(keras.ops.zeros_like(dense.bias))
    # Values pass through; queries and keys say nothing.
    layer.inward.kernel.assign(np.hstack([np.zeros((6, 12)), np.eye(6)]))
    layer.outward.kernel.assign(np.eye(6))
    offsets = np.zeros((5, 5, 2))
    # Head 0 attends to what lies one row up and two columns to the right.
    offsets[1 + 2, -2 + 2, 0] = 50
    layer.offsets.assign(offsets.reshape(25, 2))
    tokens = np.random.default_rng(0).normal(size=(1, 3, 3, 6)).astype("float32")
    found = predict(layer, tokens)
    np.testing.assert_allclose(found[0, 1:, 0, :3], tokens[0, :2, 2, :3], atol=1e-5)
    mean = tokens.mean((1, 2))[0, 3:]
    np.testing.assert_allclose(found[0, 2, 1, 3:], mean, atol=1e-5)


def test_expanding_undoes_merging() -> None:
    from unet_zoo.models import swin_unet

    tokens = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3).astype("float32")
    merged = predict(swin_unet.SpaceToDepth(), tokens)
    assert merged.shape == (2, 2, 3, 12)
    # Merging goes column by column, expanding row by row, as in the authors' code.
    rows_first = merged.reshape(2, 2, 3, 2, 2, 3).swapaxes(3, 4).reshape(merged.shape)
    found = predict(swin_unet.DepthToSpace(2), rows_first)
    np.testing.assert_array_equal(found, tokens)


def test_blocks_are_skipped_in_training_the_later_the_more() -> None:
    model = build("swin_unet", drop_path=0.3, blocks=2, depth=1)
    rates = {
        layer.name: round(layer.rate, 6)
        for layer in model.layers
        if layer.name.endswith("add1_path")
    }
    assert rates == {
        "encoder0_block1_add1_path": 0.1,
        "bottom_block0_add1_path": 0.2,
        "bottom_block1_add1_path": 0.3,
        "decoder0_block1_add1_path": 0.1,
    }
    inputs = image(model)
    layer = model.get_layer("bottom_block1_add1_path")
    dropped = [predict(layer, np.ones((50, 2, 2, 3)), training=True)]
    # Of one image all or nothing.
    assert {len(np.unique(one)) for one in dropped[0]} == {1}
    assert 0 < (dropped[0][:, 0, 0, 0] == 0).mean() < 1
    np.testing.assert_array_equal(predict(model, inputs), predict(model, inputs))
