"""The TransUNet looks at the whole image, and knows where it looks."""

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

TINY = dict(
    units=(1, 1),
    hidden=8,
    mlp=16,
    heads=2,
    blocks=1,
    widths=(8, 8, 8, 4),
    places=(12, 16),  # of 48 x 64 pixels at depth 2
)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(
    units=(2, 1),
    hidden=12,
    mlp=8,
    heads=4,
    blocks=2,
    widths=(8, 4, 8, 8),
    places=(5, 6),
)
PINNED = [
    # The authors' R50-ViT-B_16 with 9 classes, and with one.
    (dict(classes=9), 105_279_961, 105_277_081),
    (dict(classes=1), 105_278_801, 105_275_921),
]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(places=14), "`places` must be two numbers, rows and columns."),
        (dict(places=(14, 0)), "`places[1]` must be a whole number of at least 1."),
        (dict(input_shape=(230, 224, 3)), "Pad to (240, 224)."),
        (dict(depth=5), "`units` must be at least 4 numbers for this `depth`."),
        (dict(units=3), "`units` must be at least 3 numbers for this `depth`."),
        (dict(widths=(8, 4)), "`widths` must be at least 5 numbers"),
        (dict(units=(3, 0, 9)), "`units[1]` must be a whole number of at least 1."),
        (dict(heads=7), "`hidden` must be a multiple of `heads` 7. Received: 768."),
        (dict(mlp=0), "`mlp` must be a whole number of at least 1."),
    ],
)
def test_own_arguments_are_checked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build("trans_unet", **arguments)


def test_kernels_count_only_by_their_form() -> None:
    from unet_zoo.models import trans_unet

    layer = trans_unet.StandardizedConv2D(3, 3, use_bias=False)
    inputs = np.random.default_rng(0).normal(size=(1, 96, 96, 2)).astype("float32")
    before = predict(layer, inputs)
    layer.kernel.assign(5 * layer.kernel + 2)
    np.testing.assert_allclose(predict(layer, inputs), before, rtol=1e-3, atol=1e-3)
    # White noise, enough of it for any kernel, through 18 values of variance 1.
    assert abs(before.std() / 18**0.5 - 1) < 0.05


def test_what_is_at_one_end_is_seen_at_the_other_through_the_transformer() -> None:
    model = build("trans_unet", (96, 96), depth=3)
    inputs = image(model, 1)
    changed = inputs.copy()
    changed[:, :4, :4] += 5
    tokens = {
        name: keras.Model(model.input, model.get_layer(name).output)
        for name in ("places", "block0_attention")
    }
    # Group normalisation tells of the whole image as well, but little.
    moved = {
        name: np.abs(predict(each, changed) - predict(each, inputs))[0, -1].max()
        for name, each in tokens.items()
    }
    assert moved["block0_attention"] > 1e-3


def test_places_make_like_tokens_differ() -> None:
    model = build("trans_unet", depth=1, normalization=None, places=None)
    (places,) = model.get_layer("places").weights
    assert places.shape == (24 * 32, 8)
    # Inside, a constant image is the same everywhere until tokens know their place.
    flat = np.ones((1, 48, 64, 1), "float32")
    inside = (slice(None), slice(16, 32), slice(16, 48))
    plain = predict(model, flat)[inside]
    places.assign(keras.random.normal(places.shape, seed=1))
    assert np.ptp(plain, axis=(1, 2)).max() < 1e-4
    assert np.ptp(predict(model, flat)[inside], axis=(1, 2)).max() > 1e-2


@pytest.mark.parametrize("size", [(4, 6), (8, 9), (3, 4), (1, 1)], ids=str)
def test_places_are_stretched_to_other_sizes(size: tuple[int, int]) -> None:
    from unet_zoo.models import trans_unet

    layer = trans_unet.Places((4, 6))
    layer.build((None, None, None, 3))
    rows, columns, even = np.meshgrid(range(4), range(6), [1.0], indexing="ij")
    # One channel says the row, one the column, one nothing.
    learned = np.concatenate([rows, columns, even], axis=-1)
    layer.places.assign(learned.reshape(24, 3))
    found = predict(layer, np.zeros((2, *size, 3), "float32"))[1]
    for axis, count in ((0, 4), (1, 6)):
        # The middle of a token, in tokens that were learned; none is beyond the last.
        at = (np.arange(size[axis]) + 0.5) * count / size[axis] - 0.5
        expected = np.clip(at, 0, count - 1)
        np.testing.assert_allclose(
            found[..., axis],
            np.broadcast_to(np.expand_dims(expected, 1 - axis), size),
            atol=1e-6,
        )
    np.testing.assert_allclose(found[..., 2], 1, rtol=1e-6)


def test_sizes_left_open_learn_the_places_of_224_pixels() -> None:
    model = build("trans_unet", (None, None), places=None)
    (places,) = model.get_layer("places").weights
    assert places.shape == (14 * 14, 8)
