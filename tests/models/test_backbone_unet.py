"""A backbone's stages are found, its weights kept, nothing is downloaded unasked."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from battery import build, image, predict

from unet_zoo import errors, registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# The default normalises over the batch whatever `normalization` says; VGG does not.
TINY = dict(backbone="vgg16")
MOBILE = dict(backbone="mobilenet", filters=2, depth=3)
# segmentation-models-pytorch counts 32,521,105 on a ResNet-50 of 23,508,032.
SMP_DECODER = 32_521_105 - 23_508_032
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(backbone="resnet50", weights=None)
PINNED = [
    # Keras counts 23,587,712 for ResNet50 without its top, 53,120 of them statistics.
    # The decoder has two for each of its 992 normalised channels.
    (
        dict(classes=1),
        23_587_712 + SMP_DECODER + 2 * 992,
        23_587_712 - 53_120 + SMP_DECODER,
    ),
]


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **options: Any) -> None:
        raise AssertionError(arguments)

    monkeypatch.setattr(keras.utils, "get_file", refuse)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(backbone="resnet5"), "Unknown `backbone` 'resnet5'. Did you mean"),
        (dict(backbone=None), "Unknown `backbone` 'None'."),
        (dict(backbone="inception_v3"), "has: none. Choose another backbone"),
        (dict(backbone="vgg16", depth=6), "layers are needed at 1/64 of the image's"),
        (dict(weights="imagenet", input_shape=(64, 64, 1)), "has 1. Use three, or"),
        (dict(weights="no/such.h5"), "Received: 'no/such.h5', which is no file."),
        (dict(trainable="no"), "`trainable` must be True or False. Received: 'no'."),
    ],
)
def test_own_arguments_are_checked(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build("backbone_unet", **arguments)


@pytest.mark.parametrize(
    ("backbone", "widths"),
    [
        ("resnet50", [None, 64, 256, 512, 1024]),
        ("VGG16", [64, 128, 256, 512, 512]),
        ("mobilenet_v2", [None, 96, 144, 192, 576]),
        ("convnexttiny", [None, None, 96, 192, 384]),
    ],
)
def test_skips_start_at_the_last_layer_of_each_resolution(
    backbone: str, widths: list[int | None]
) -> None:
    model = registry.build("backbone_unet", backbone=backbone, input_shape=(64, 96, 3))
    joined = {
        layer.name: layer.input[1].shape
        for layer in model.layers[-40:]
        if layer.name.startswith("concat")
    }
    expected = {
        f"concat{level}": (None, 64 >> level, 96 >> level, width)
        for level, width in enumerate(widths)
        if width
    }
    assert joined == expected


def test_what_lies_below_the_depth_is_left_out() -> None:
    model = registry.build("backbone_unet", **MOBILE)
    names = [layer.name for layer in model.layers]
    assert "conv_pw_5_relu" in names
    assert "conv_pw_6_relu" not in names


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    network = keras.applications.MobileNet(
        include_top=False, weights=None, input_shape=(None, None, 3)
    )
    network.save_weights(tmp_path / "mobilenet.weights.h5")
    path = str(tmp_path / "mobilenet.weights.h5")
    model = registry.build("backbone_unet", weights=path, **MOBILE)
    inputs = np.random.default_rng(0).normal(size=(1, 32, 48, 3)).astype("float32")
    for name in ("conv1_relu", "conv_pw_5_relu"):
        theirs = keras.Model(network.input, network.get_layer(name).output)
        ours = keras.Model(model.input, model.get_layer(name).output)
        np.testing.assert_array_equal(predict(ours, inputs), predict(theirs, inputs))


def test_a_fixed_backbone_stays_as_it_is() -> None:
    model = registry.build(
        "backbone_unet", input_shape=(32, 32, 3), trainable=False, **MOBILE
    )
    names = {variable.path.split("/")[0] for variable in model.trainable_variables}
    assert {name.rstrip("0123456789") for name in names} == {
        "decoder0_conv",
        "decoder0_norm",
        "decoder1_conv",
        "decoder1_norm",
        "decoder2_conv",
        "decoder2_norm",
        "logits",
    }
    before = model.get_layer("conv1_bn").get_weights()
    model(image(model), training=True)
    for old, new in zip(before, model.get_layer("conv1_bn").get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    again = type(model).from_config(model.get_config())
    assert len(again.trainable_variables) == len(model.trainable_variables)


def test_names_do_not_depend_on_what_was_built_before() -> None:
    # Xception leaves naming some of its layers to Keras, which counts per process.
    paths = [
        [
            variable.path
            for variable in build("backbone_unet", backbone="xception", depth=4).weights
        ]
        for _ in range(2)
    ]
    assert paths[0] == paths[1]
    assert any("backbone_conv2d0" in path for path in paths[0])


def test_any_number_of_channels_and_any_size_goes_without_pretrained_weights() -> None:
    model = registry.build(
        "backbone_unet", input_shape=(None, None, 7), **MOBILE | dict(classes=3)
    )
    for size in ((32, 48), (40, 8)):
        inputs = np.ones((1, *size, 7), "float32")
        assert predict(model, inputs).shape == (1, *size, 3)
