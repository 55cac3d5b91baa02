"""The KiU-Net has two branches, one ever larger, that tell each other what they see."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, predict

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# The authors' class has 290,658 parameters and 1,568 statistics. Of these two
# convolutions of 64 channels, and their normalisations, do not occur in its `forward`.
UNUSED = 2 * (64 * 64 * 9 + 64 + 2 * 64)
UNUSED_STATISTICS = 2 * 2 * 64
PINNED = [
    ({}, 292_226 - UNUSED - UNUSED_STATISTICS, 290_658 - UNUSED),
]


def test_one_branch_halves_and_the_other_doubles() -> None:
    model = build("kiunet", depth=3)
    sizes = {
        branch: [
            model.get_layer(f"{stage}_{branch}_relu").output.shape[1]
            for stage in ("encoder0", "encoder1", "encoder2", "decoder2", "decoder1")
        ]
        for branch in ("u", "ki")
    }
    assert sizes == {"u": [24, 12, 6, 12, 24], "ki": [96, 192, 384, 192, 96]}
    fused = model.get_layer("fuse")
    assert [each.shape[1:3] for each in fused.input] == [(48, 64), (48, 64)]


@pytest.mark.parametrize("factor", [4, 16, 64])
def test_reducing_takes_the_values_at_the_middle_of_squares(factor: int) -> None:
    from unet_zoo.models import kiunet

    inputs = keras.Input((None, None, 1))
    reduce = keras.Model(inputs, kiunet._reduce(inputs, factor, "reduce"))
    image = np.random.default_rng(0).normal(size=(1, 2 * factor, 3 * factor, 1))
    middle = slice(factor // 2 - 1, factor // 2 + 1)
    squares = image.reshape(2, factor, 3, factor)[:, middle, :, middle]
    expected = squares.mean((1, 3))[None, ..., None]
    np.testing.assert_allclose(predict(reduce, image), expected, atol=1e-6)


def test_dropout_at_the_bottom_is_in_both_branches_of_the_last_two_levels() -> None:
    model = build("kiunet", depth=3, dropout=0.5)
    found = [layer.name for layer in model.layers if layer.name.endswith("_dropout")]
    assert sorted(found) == [
        f"encoder{level}_{branch}_dropout" for level in (1, 2) for branch in ("ki", "u")
    ]


def test_one_compiled_function_serves_any_size() -> None:
    # TensorFlow compiles for one size, for another, and then for sizes in general.
    model = build("kiunet", (None, None))
    for size in ((16, 24), (24, 16), (32, 8)):
        inputs = np.random.default_rng(0).normal(size=(1, *size, 1)).astype("float32")
        found = model.predict_on_batch(inputs)
        np.testing.assert_allclose(found, predict(model, inputs), atol=1e-5)
