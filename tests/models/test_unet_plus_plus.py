"""The UNet++ holds smaller UNet++s, which can be cut out and compute the same."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest
from battery import build, image, joins, predict

from unet_zoo import errors
from unet_zoo.models import unet_plus_plus as module

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RGB = dict(input_shape=(None, None, 3), classes=1)
DEEP = dict(deep_supervision=True)
PINNED = [
    # The authors' Keras code, MrGiovanni/UNetPlusPlus: plain, and with four outputs.
    (dict(classes=1), 9_041_601, 9_041_601),
    (dict(classes=1) | DEEP, 9_041_700, 9_041_700),
    (RGB, 9_042_177, 9_042_177),
    (RGB | DEEP, 9_042_276, 9_042_276),
]


def test_pruned_networks_have_the_published_sizes() -> None:
    model = module.unet_plus_plus(classes=1, deep_supervision=True)
    sizes = [module.prune(model, level).count_params() for level in (1, 2, 3, 4)]
    assert sizes == [100_961, 511_105, 2_204_961, 9_041_601]


@pytest.mark.parametrize("size", [(48, 64), (16, 16, 16)])
def test_pruned_networks_compute_the_outputs_of_the_whole(size: tuple[int]) -> None:
    model = build("unet_plus_plus", size, depth=3, **DEEP)
    inputs = image(model)
    whole = dict(zip(model.output_names, model(inputs), strict=True))
    assert list(whole) == ["logits", "logits1", "logits2"]
    for level, name in ((1, "logits1"), (2, "logits2"), (3, "logits")):
        part = module.prune(model, level)
        expected = keras.ops.convert_to_numpy(whole[name])
        assert expected.shape == (2, *size, 2)
        np.testing.assert_allclose(predict(part, inputs), expected, atol=1e-6)
        deepest = min(layer.output.shape[1] for layer in part.layers)
        assert deepest == size[0] // 2**level


def test_a_pruned_network_is_a_smaller_one_and_can_be_saved(tmp_path: Path) -> None:
    part = module.prune(build("unet_plus_plus", depth=3, **DEEP), 2)
    small = build("unet_plus_plus", depth=2)
    shapes = [[tuple(v.shape) for v in model.weights] for model in (part, small)]
    assert sorted(shapes[0]) == sorted(shapes[1])
    part.save(tmp_path / "part.keras")
    again = keras.saving.load_model(tmp_path / "part.keras")
    inputs = image(part)
    np.testing.assert_array_equal(predict(again, inputs), predict(part, inputs))


def test_the_whole_network_can_be_pruned_to_itself() -> None:
    model = build("unet_plus_plus")
    inputs = image(model)
    expected = predict(model, inputs)
    np.testing.assert_array_equal(predict(module.prune(model, 2), inputs), expected)


def test_what_cannot_be_pruned_is_refused() -> None:
    plain = build("unet_plus_plus")
    with pytest.raises(errors.InputError, match=r"level 1\. It has: 2\. Build .*deep"):
        module.prune(plain, 1)
    deep = build("unet_plus_plus", depth=3, **DEEP)
    with pytest.raises(errors.InputError, match=r"level 4\. It has: 1, 2, 3\."):
        module.prune(deep, 4)
    with pytest.raises(errors.InputError, match="`level` must be a whole number of"):
        module.prune(deep, 0)


def test_every_node_is_fed_by_all_to_its_left_and_one_below() -> None:
    model = build("unet_plus_plus", depth=3)
    widths = {join.name: [x.shape[-1] for x in join.input] for join in joins(model)}
    assert widths == {
        "nested0-1_concat": [4, 4],
        "nested1-1_concat": [8, 8],
        "decoder2_concat": [16, 16],
        "nested0-2_concat": [4, 4, 4],
        "decoder1_concat": [8, 8, 8],
        "decoder0_concat": [4, 4, 4, 4],
    }


@pytest.mark.parametrize(
    ("where", "stages"),
    [
        ("bottom", ["bottom", "encoder1"]),
        ("encoder", ["bottom", "encoder0", "encoder1"]),
        ("decoder", ["decoder0", "decoder1", "nested0-1"]),
    ],
)
def test_dropout_follows_each_convolution_of_its_stages(
    where: str, stages: list[str]
) -> None:
    model = build("unet_plus_plus", dropout_at=where, spatial_dropout=True)
    found = [each for each in model.layers if "dropout" in each.name]
    assert {type(each) for each in found} == {keras.layers.SpatialDropout2D}
    names = sorted(each.name for each in found)
    assert names == [f"{stage}_dropout{n}" for stage in stages for n in (1, 2)]
