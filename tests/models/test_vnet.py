"""The V-Net has the layers of its authors' file and adds each level to its input."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect, predict

from unet_zoo import registry

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# Another value of each argument that is neither shared nor true or false.
OTHER = dict(convolutions="paper")
PINNED = [
    # The authors' Caffe file: 61,979,512 in convolutions, 3,170 slopes of PReLU.
    (dict(input_shape=(128, 128, 64, 1)), 61_982_682, 61_982_682),
    # The same file with windows of two axes; nobody has published such a network.
    (dict(), 12_636_314, 12_636_314),
]


def test_slopes_are_counted_apart_and_one_for_each_channel() -> None:
    model = registry.build("vnet", input_shape=(None, None, None, 1))
    slopes = [v for v in model.weights if v.name == "alpha"]
    assert sum(int(np.prod(v.shape)) for v in slopes) == 3_170
    assert all(v.shape[:-1] == (1, 1, 1) for v in slopes)


@pytest.mark.parametrize(
    ("convolutions", "fields"),
    [("paper", [5, 22, 72, 172, 372]), ("released", [5, 14, 48, 148, 348])],
)
def test_receptive_fields_are_those_of_the_papers_table(
    convolutions: str, fields: list[int]
) -> None:
    model = registry.build("vnet", filters=1, convolutions=convolutions)
    names = [layer.name for layer in model.layers]
    field = step = 1
    found = []
    for level, stage in enumerate(["encoder0", "encoder1", "encoder2", "encoder3"]):
        number = sum(name.startswith(f"{stage}_conv") for name in names)
        assert number == sum(name.startswith(f"decoder{level}_conv") for name in names)
        field += 4 * step * number
        found.append(field)
        field, step = field + step, 2 * step
    number = sum(name.startswith("bottom_conv") for name in names)
    assert [*found, field + 4 * step * number] == fields


@pytest.mark.parametrize("channels", [1, 3, 7])
def test_the_first_level_is_added_to_the_image_repeated(channels: int) -> None:
    model = build("vnet", channels=channels)
    inputs = image(model, 1)
    for layer in (model.get_layer("encoder0_conv1"),):
        layer.set_weights([np.zeros_like(each) for each in layer.get_weights()])
    first = keras.Model(model.input, model.get_layer("encoder0_add").output)
    expected = np.take(inputs, [n % channels for n in range(4)], axis=-1)
    np.testing.assert_array_equal(predict(first, inputs), expected)


def test_the_papers_convolutions_are_all_used() -> None:
    model = build("vnet", depth=3, convolutions="paper", normalization="instance")
    assert inputs_without_effect(model) == []
