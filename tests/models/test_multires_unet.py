"""The MultiResUNet's widths, skips and normalised output, and what it refuses."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from battery import build, image, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RGB = dict(input_shape=(None, None, 3), classes=1)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(alpha=2.0)
PINNED = [
    # The authors' Keras code; 7,262,750 is the paper's number too.
    (RGB, 7_262_750, 7_238_228),
    (dict(classes=1), 7_262_504, 7_237_982),
    # A bias of the output in place of its shift, mean and variance.
    (RGB | dict(normalize_logits=False), 7_262_748, 7_238_228),
]
# With 4, first convolutions of few channels blow rounding up in group normalisation.
TINY = dict(filters=6)


def test_levels_share_out_their_filters_as_the_paper_says() -> None:
    model = registry.build("multires_unet")
    widths = [
        [model.get_layer(f"{stage}_conv{n}").filters for n in (1, 2, 3)]
        for stage in ("encoder0", "encoder1", "encoder2", "encoder3", "bottom")
    ]
    assert widths == [
        [8, 17, 26],
        [17, 35, 53],
        [35, 71, 106],
        [71, 142, 213],
        [142, 284, 427],
    ]


def test_higher_skips_pass_more_convolutions() -> None:
    model = registry.build("multires_unet", filters=4)
    names = [layer.name for layer in model.layers]
    passed = [
        sum(
            name.startswith(f"skip{level}_") and name.endswith("_add") for name in names
        )
        for level in range(4)
    ]
    assert passed == [4, 3, 2, 1]


def test_the_second_and_third_convolution_see_5x5_and_7x7_pixels() -> None:
    model = build("multires_unet", (16, 16), normalization=None, depth=1)
    ends = [model.get_layer(f"encoder0_conv{number}").output for number in (1, 2, 3)]
    seen = keras.Model(model.input, ends)
    # Positive weights: no ReLU hides how far a pixel is seen.
    for variable in seen.trainable_variables:
        variable.assign(keras.ops.abs(variable))
    pixel = np.zeros((1, 16, 16, 1), "float32")
    pixel[0, 8, 8] = 1
    for output, size in zip(seen(pixel), (3, 5, 7), strict=True):
        output = keras.ops.convert_to_numpy(output)
        assert (output[0].max(-1) > 0).sum() == size**2


def test_normalised_logits_have_unit_variance_over_a_batch() -> None:
    model = build("multires_unet")
    values = predict(model, image(model), training=True)
    np.testing.assert_allclose(values.std((0, 1, 2)), 1, atol=0.01)
    plain = build("multires_unet", normalize_logits=False)
    plain.get_layer("logits").kernel.assign(10 * plain.get_layer("logits").kernel)
    values = predict(plain, image(plain), training=True)
    assert values.std((0, 1, 2)).min() > 2


@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1", True])
def test_alpha_is_checked(value: Any) -> None:
    with pytest.raises(errors.InputError, match="`alpha` must be a number above 0"):
        registry.build("multires_unet", alpha=value)
