"""nnU-Net plans as nnU-Net does, and has the counts of nnU-Net's networks."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
from battery import build, inputs_without_effect, predict

from unet_zoo import errors, registry
from unet_zoo.models import nnunet

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

RESIDUAL = dict(encoder="residual", deep_supervision=True)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(
    encoder="residual", max_filters=6, spacing=dict(spacing=(1.0, 0.2), depth=None)
)
PINNED = [
    # What is planned for 512x512, 256x256 and 128x128; nnU-Net counts all heads.
    (dict(deep_supervision=True), 46_324_558, 46_324_558),
    (
        dict(input_shape=(256, 256, 1), depth=None, deep_supervision=True),
        33_471_820,
        33_471_820,
    ),
    (dict(depth=5, deep_supervision=True), 20_619_082, 20_619_082),
    # Without the six other heads: 1x1 from 64, 128, 256, 512, 512, 512 to 2.
    (dict(), 46_324_558 - 3_980, 46_324_558 - 3_980),
    (RESIDUAL | dict(depth=7), 140_017_038, 140_017_038),
    (RESIDUAL | dict(depth=6), 105_916_812, 105_916_812),
    (RESIDUAL | dict(depth=5), 71_816_586, 71_816_586),
]


# Sizes, spacing; planned by the authors' planner: halvings of each axis, and how many
# of the stages have kernels of 1 along the first axis.
@pytest.mark.parametrize(
    ("sizes", "spacing", "halvings", "flat"),
    [
        ((512, 512), None, (7, 7), 0),
        ((500, 500), None, (7, 7), 0),
        ((256, 200), None, (5, 5), 0),
        ((512, 64), None, (6, 4), 0),
        ((128, 128, 128), None, (5, 5, 5), 0),
        ((20, 320, 256), (5.0, 1.0, 1.0), (2, 6, 6), 2),
        ((9, 9), None, (1, 1), 0),
        ((11, 7), None, (0, 0), 0),
        ((12, 7), None, (1, 0), 0),
    ],
)
def test_plans_are_those_of_the_authors_planner(
    sizes: tuple[int, ...],
    spacing: tuple[float, ...] | None,
    halvings: tuple[int, ...],
    flat: int,
) -> None:
    strides, kernels = nnunet.plan(sizes, spacing)
    planned = tuple(np.log2(np.prod(strides, axis=0)).astype(int).tolist())
    assert planned == halvings
    assert sum(kernel[0] == 1 for kernel in kernels) == flat
    assert len(strides) == len(kernels)


def test_a_planned_network_follows_its_plan_along_each_axis() -> None:
    volume = dict(input_shape=(8, 32, 32, 1), spacing=(3, 1, 1), filters=4)
    model = registry.build("nnunet", depth=None, **volume)
    sizes = [
        model.get_layer(f"{stage}_relu2").output.shape[1:4]
        for stage in ("encoder0", "encoder1", "encoder2", "bottom")
    ]
    assert sizes == [(8, 32, 32), (8, 16, 16), (4, 8, 8), (4, 4, 4)]
    kernel = model.get_layer("encoder0_conv1").kernel_size
    assert kernel == model.get_layer("decoder0_conv2").kernel_size == (1, 3, 3)
    assert model.get_layer("encoder2_conv1").kernel_size == (3, 3, 3)
    assert model.output_shape == (None, 8, 32, 32, 2)
    assert inputs_without_effect(model) == []
    narrow = registry.build("nnunet", input_shape=(64, 16, 1), filters=4, depth=None)
    assert narrow.get_layer("bottom_relu2").output.shape[1:3] == (8, 4)
    assert inputs_without_effect(narrow) == []


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(input_shape=(None, 64, 1)), "`depth` None is planned from the size"),
        (dict(input_shape=(7, 11, 1)), "`input_shape` (7, 11) is too small to plan"),
        (dict(input_shape=(500, 90, 1)), "multiples of (64, 16). Pad to (512, 96)."),
        (dict(input_shape=(64, 64, 1), spacing=(1, 1, 1)), "`spacing` must be 2"),
        (dict(input_shape=(64, 64, 1), spacing=(1, 0)), "Received: (1, 0)."),
        (dict(depth=2, spacing=(1, 1)), "`spacing` is for planning: pass `depth=None`"),
        (dict(depth=2, encoder="residul"), "Did you mean 'residual'?"),
        (dict(depth=2, max_filters=0), "`max_filters` must be a whole number"),
    ],
)
def test_what_cannot_be_planned_is_refused(arguments: dict, says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build("nnunet", **(dict(depth=None) | arguments))


def test_widths_stop_growing() -> None:
    shallow = dict(filters=200, depth=2)
    flat = registry.build("nnunet", **shallow)
    assert flat.get_layer("bottom_conv2").filters == 512
    volume = registry.build("nnunet", input_shape=(None, None, None, 1), **shallow)
    assert volume.get_layer("bottom_conv2").filters == 320
    model = build("nnunet", depth=3, max_filters=8)
    assert model.get_layer("encoder2_conv1").filters == 8


def test_deep_supervision_halves_from_head_to_head() -> None:
    model = build("nnunet", depth=3, deep_supervision=True)
    assert model.output_names == ["logits", "logits1", "logits2"]
    assert [each.shape[1] for each in model.outputs] == [48, 24, 12]


def test_residual_blocks_start_as_their_shortcuts_and_are_all_used() -> None:
    model = build("nnunet", depth=3, encoder="residual")
    blocks = [layer for layer in model.layers if layer.name.endswith("_add")]
    assert len(blocks) == 1 + 3 + 4 + 6
    last = [layer for layer in model.layers if re.search("block._norm2", layer.name)]
    assert len(last) == len(blocks)
    assert all(np.abs(layer.get_weights()[0]).max() == 0 for layer in last)
    for layer in last:
        layer.gamma.assign(keras.ops.ones_like(layer.gamma))
    assert inputs_without_effect(model) == []


def test_halving_is_centred_on_the_first_pixel_of_two() -> None:
    model = build("nnunet", depth=1, filters=1, normalization=None)
    layer = model.get_layer("bottom_conv1")
    kernel = np.zeros((3, 3, *layer.kernel.shape[2:]), "float32")
    kernel[1, 1] = 1
    layer.kernel.assign(kernel)
    first = keras.Model(model.input, model.get_layer("encoder0_relu2").output)
    down = keras.Model(model.input, layer.output)
    inputs = np.random.default_rng(0).normal(size=(1, 48, 64, 1)).astype("float32")
    expected = predict(first, inputs)[:, ::2, ::2]
    np.testing.assert_allclose(predict(down, inputs)[..., :1], expected, atol=1e-6)
