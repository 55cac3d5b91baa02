"""The U-Net has the sizes of its paper, with and without padding."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from battery import build, inputs_without_effect, predict, resolutions_joined

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# Another value of each argument that is neither shared nor true or false.
OTHER = dict(padding="same", max_filters=6)
PINNED = [
    # Figure 1 of the paper, and the same with one sigmoid output.
    (dict(input_shape=(572, 572, 1)), 31_030_658, 31_030_658),
    (dict(classes=1), 31_030_593, 31_030_593),
    # The widespread padded U-Net with batch normalisation.
    (
        dict(input_shape=(None, None, 3), padding="same", normalization="batch"),
        31_049_474,
        31_037_698,
    ),
]


def test_unet_has_the_sizes_of_the_paper() -> None:
    unet = registry.get("unet")
    model = unet((572, 572, 1), filters=1)
    sizes = [model.get_layer(f"encoder{n}_relu2").output.shape[1] for n in range(4)]
    assert sizes == [568, 280, 136, 64]
    assert model.get_layer("bottom_relu2").output.shape[1] == 28
    sizes = [model.get_layer(f"decoder{n}_relu2").output.shape[1] for n in range(4)]
    assert sizes == [388, 196, 100, 52]
    crops = [model.get_layer(f"crop{n}").cropping[0][0] for n in range(4)]
    assert crops == [88, 40, 16, 4]
    assert unet((188, 188, 1), filters=1).output_shape == (None, 4, 4, 2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_fitting_sizes_are_those_that_build(depth: int) -> None:
    from unet_zoo.models import unet

    smallest = unet.fitting_size(1, depth)
    for size in (smallest, smallest + 2**depth):
        model = unet.unet((size, None, 1), filters=1, depth=depth)
        assert model.output_shape[1] == size - 2 * unet.margin(depth) > 0
    assert smallest - 2**depth <= 2 * unet.margin(depth)
    for size in range(smallest - 2, smallest + 2**depth):
        fitting = unet.fitting_size(size, depth)
        if fitting != size:
            with pytest.raises(errors.InputError, match=rf"Pad to \({fitting}, None\)"):
                unet.unet((size, None, 1), filters=1, depth=depth)


def test_sizes_that_cannot_be_halved_get_the_next_that_can() -> None:
    says = "`input_shape` (250, 250) cannot be halved 4 times. Pad to (256, 256)."
    for name, arguments in (("unet", dict(padding="same")), ("resunet", {})):
        with pytest.raises(errors.InputError, match=re.escape(says)):
            registry.build(name, input_shape=(250, 250, 1), **arguments)


def test_unpadded_unet_predicts_tiles_as_it_predicts_the_whole() -> None:
    model = registry.build("unet", depth=2, filters=4)
    whole = np.random.default_rng(0).normal(size=(1, 76, 92, 1)).astype("float32")
    expected = predict(model, whole)[:, 16:36, 8:44]
    tile = whole[:, 16:76, 8:84]
    np.testing.assert_allclose(predict(model, tile), expected, atol=1e-5)


def test_padded_unet_keeps_the_size() -> None:
    model = build("unet", padding="same", normalization="batch")
    assert model.output_shape == (None, 48, 64, 2)
    assert len(resolutions_joined(model)) == 2
    assert inputs_without_effect(model) == []


@pytest.mark.parametrize("name", ["unet", "resunet"])
@pytest.mark.parametrize(
    ("where", "stages"),
    [
        ("bottom", ["encoder2", "bottom"]),
        ("encoder", ["encoder0", "encoder1", "encoder2", "bottom"]),
        ("decoder", ["decoder2", "decoder1", "decoder0"]),
    ],
)
@pytest.mark.parametrize("spatial", [False, True])
def test_dropout_goes_where_it_is_told(
    name: str, where: str, stages: list[str], spatial: bool
) -> None:
    model = build(
        name, depth=3, dropout=0.25, dropout_at=where, spatial_dropout=spatial
    )
    kind = keras.layers.SpatialDropout2D if spatial else keras.layers.Dropout
    found = [layer for layer in model.layers if "dropout" in layer.name]
    assert [layer.name for layer in found] == [f"{stage}_dropout" for stage in stages]
    assert all(type(layer) is kind and layer.rate == 0.25 for layer in found)
