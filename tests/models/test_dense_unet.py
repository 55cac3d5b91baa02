"""The FC-DenseNet's layers see all before them, and only new channels go up."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from battery import build, image, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

CAMVID = dict(input_shape=(None, None, 3), classes=11)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(layers=(1, 2), growth=3)
PINNED = [
    # FC-DenseNet103, 67 and 56. The paper says 9.4, 3.5 and 1.5 million, its code no
    # exact number: these are of what that code describes, and others' copies of it.
    (CAMVID, 9_425_163, 9_322_091),
    (CAMVID | dict(layers=5), 3_502_923, 3_463_243),
    (CAMVID | dict(layers=4, growth=12), 1_397_963, 1_376_795),
]
TINY = dict(layers=2, growth=4)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [({}, 103), (dict(layers=5), 67), (dict(layers=4, growth=12), 56)],
)
def test_the_network_has_the_layers_in_its_name(
    arguments: dict[str, Any], expected: int
) -> None:
    model = registry.build("dense_unet", **arguments)
    kinds = (keras.layers.Conv2D, keras.layers.Conv2DTranspose)
    assert sum(isinstance(layer, kinds) for layer in model.layers) == expected
    widths = [model.get_layer(f"down{level}_conv").filters for level in range(5)]
    layers = arguments.get("layers")
    growth = arguments.get("growth", 16)
    counts = [layers] * 5 if layers else [4, 5, 7, 10, 12]
    assert widths == [48 + growth * sum(counts[: n + 1]) for n in range(5)]


def test_only_new_channels_go_up() -> None:
    model = build("dense_unet", layers=(2, 3, 5), depth=2, growth=4)
    assert [model.get_layer(f"up{level}").filters for level in (1, 0)] == [20, 12]
    # 4 of the first convolution, 2 x 4 grown, 12 from below, and 2 x 4 grown anew.
    assert model.get_layer("logits").input.shape[-1] == 4 + 8 + 12 + 8


def test_a_layer_sees_all_before_it() -> None:
    model = build("dense_unet", (16, 16), layers=3, depth=1, dropout=0)
    names = ["stem", "encoder0_conv1", "encoder0_conv2", "encoder0_conv3"]
    ends = [model.get_layer(name).output for name in [*names, "encoder0_concat3"]]
    found = keras.Model(model.input, ends)(image(model))
    *parts, joined = (keras.ops.convert_to_numpy(each) for each in found)
    np.testing.assert_array_equal(joined, np.concatenate(parts, axis=-1))
    seen = [model.get_layer(f"encoder0_conv{n}").input.shape[-1] for n in (1, 2, 3)]
    assert seen == [4, 8, 12]


def test_levels_beyond_the_last_have_its_layers() -> None:
    few = build("dense_unet", layers=(1, 2), depth=3)
    all_ = build("dense_unet", layers=[1, 2, 2, 2], depth=3)
    shapes = [[(w.path, w.shape) for w in model.weights] for model in (few, all_)]
    assert shapes[0] == shapes[1]
    assert predict(few, image(few)).shape == (2, 48, 64, 2)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(layers=0), r"`layers` must be a whole number of at least 1"),
        (dict(layers=(4, 0)), r"`layers\[1\]` must be a whole number of at least 1"),
        (dict(layers=[True]), r"`layers\[0\]` must be a whole number of at least 1"),
        (dict(layers=()), r"`layers` must be a whole number, or one for each level"),
        (dict(layers="45"), r"`layers` must be a whole number, or one for each level"),
        (dict(growth=0), r"`growth` must be a whole number of at least 1"),
    ],
)
def test_own_arguments_are_checked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InputError, match=says):
        registry.build("dense_unet", **arguments)
