"""The ResUNet's shortcuts, and what it refuses."""

from __future__ import annotations

import re
from typing import Any

import keras
import numpy as np
import pytest

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RESUNET_PAPER = dict(
    input_shape=(None, None, 3),
    classes=1,
    filters=64,
    depth=3,
    bridge=0,
    wide_decoder=False,
)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(shortcut="identity", bridge=1)
PINNED = [
    # The slim network that is widespread in Keras, by its printed summary.
    (dict(input_shape=(512, 512, 1), classes=1), 4_722_737, 4_715_441),
    # The paper's widths with each kind of shortcut.
    (RESUNET_PAPER | dict(shortcut="identity"), 7_795_713, 7_789_313),
    (RESUNET_PAPER | dict(shortcut="conv"), 8_227_393, 8_220_993),
    (RESUNET_PAPER, 8_233_025, 8_223_809),
]


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("unet", dict(padding="valdi"), "Unknown `padding` 'valdi'. Did you mean"),
        ("unet", dict(dropout_at="botom"), "Did you mean 'bottom'?"),
        ("resunet", dict(shortcut="con"), "Did you mean 'conv'"),
        ("resunet", dict(bridge=-1), "`bridge` must be a whole number of at least 0."),
    ],
)
def test_own_arguments_are_checked(
    name: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build(name, **arguments)


def test_identity_shortcut_keeps_values_and_has_nothing_to_learn() -> None:
    arguments = RESUNET_PAPER | dict(filters=4, depth=1, shortcut="identity")
    model = registry.build("resunet", **arguments)
    assert not any("shortcut" in variable.path for variable in model.variables)
    inputs = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    # With the convolutions silenced only the shortcuts are left.
    for stage in ("encoder0", "bottom", "decoder0"):
        conv = model.get_layer(f"{stage}_conv2")
        conv.kernel.assign(keras.ops.zeros_like(conv.kernel))
    ends = [model.get_layer(f"{n}_add").output for n in ("encoder0", "bottom")]
    ends.append(model.get_layer("decoder0_add").output)
    first, bottom, last = (
        keras.ops.convert_to_numpy(x) for x in keras.Model(model.input, ends)(inputs)
    )
    np.testing.assert_array_equal(first[..., :3], inputs)
    assert not first[..., 3:].any()
    np.testing.assert_array_equal(bottom[..., :3], inputs[:, ::2, ::2])
    assert not bottom[..., 3:].any()
    np.testing.assert_array_equal(last, first)
