"""The Half-UNet is as small as its paper says, and adds up levels of one width."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect, joins, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

PINNED = [
    # No code to count: the paper's equation (3) for each of its 12 modules.
    (dict(), 210_466, 208_930),
    (dict(normalization=None), 207_394, 207_394),
    # Its equation (1) in their place: 12 convolutions.
    (dict(normalization=None, ghost=False), 406_978, 406_978),
]


def expected_count(ghost: bool) -> int:
    """Return the paper's equations, summed over Figure 3, one channel, two classes."""

    def module(channels: int) -> int:
        full = (9 * channels + 1) * 64  # equation (1)
        return (9 * (channels + 1) + 2) * 32 if ghost else full  # equation (3)

    return module(1) + 11 * module(64) + 2 * (64 + 1)


def test_pinned_counts_are_the_equations_of_the_paper() -> None:
    assert expected_count(ghost=True) == PINNED[1][1]
    assert expected_count(ghost=False) == PINNED[2][1]
    counts = [round(count / 1e6, 2) for _, count, _ in PINNED]
    assert counts == [0.21, 0.21, 0.41]  # Table 3


def test_a_ghost_is_made_of_one_channel_alone() -> None:
    model = build("half_unet", filters=8, normalization=None)
    layer = model.get_layer("encoder1_ghost1")
    part = keras.Model(model.get_layer("encoder1_relu1").output, layer.output)
    x = np.random.default_rng(0).normal(size=(1, 24, 32, 4)).astype("float32")
    before = predict(part, x)
    x[..., 2] += 1
    changed = np.abs(predict(part, x) - before).max(axis=(0, 1, 2))
    assert list(changed > 1e-6) == [False, False, True, False]
    join = model.get_layer("encoder1_concat1")
    assert [each.shape[-1] for each in join.input] == [4, 4]


def test_ghosts_start_as_large_as_what_they_are_made_of() -> None:
    model = registry.build("half_unet")
    kernel = keras.ops.convert_to_numpy(model.get_layer("bottom_ghost1").kernel)
    # He: the variance is two divided by the number of inputs, which is 9.
    assert kernel.var() == pytest.approx(2 / 9, rel=0.3)


@pytest.mark.parametrize("ghost", [True, False])
def test_all_levels_are_enlarged_and_added_once(ghost: bool) -> None:
    model = build("half_unet", depth=3, ghost=ghost)
    (add,) = [each for each in joins(model) if isinstance(each, keras.layers.Add)]
    assert [each.shape for each in add.input] == [(None, 48, 64, 4)] * 4
    ups = [model.get_layer(f"up{level}") for level in (1, 2, 3)]
    assert [up.size for up in ups] == [(2, 2), (4, 4), (8, 8)]
    assert inputs_without_effect(model) == []
    tensors = [*add.input, add.output]
    *levels, total = keras.Model(model.input, tensors)(image(model))
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(sum(levels)),
        keras.ops.convert_to_numpy(total),
        rtol=1e-5,
    )


def test_odd_widths_have_no_halves() -> None:
    with pytest.raises(errors.InputError, match=r"must be even.* Received: 5"):
        registry.build("half_unet", filters=5)
    assert build("half_unet", filters=5, ghost=False).count_params() > 0
