"""The ResUNet-a's pooling over parts, dilations and conditioned tasks."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from battery import build, image, inputs_without_effect, predict

from unet_zoo import errors, registry
from unet_zoo.models import resunet_a

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

ISPRS = dict(input_shape=(None, None, 5), classes=6, multitask=True)
ONE = dict(classes=1, multitask=True)
# Another value of each argument that is neither shared nor true or false.
OTHER = dict(pyramid=1)
PINNED = [
    # The authors' d6 and d7, conditioned multi-tasking.
    (ISPRS, 58_070_453, 58_037_781),
    (ONE, 58_065_510, 58_032_838),
    (ISPRS | dict(depth=6), 184_591_021, 184_537_873),
]
# Small images have pixels for few parts only. With 4 filters one level passes 2 up,
# which without normalisation a ReLU may silence.
TINY = dict(filters=8, pyramid=2)


def test_parts_are_pooled_alone() -> None:
    values = np.random.default_rng(0).normal(size=(2, 8, 12, 3)).astype("float32")
    found = keras.ops.convert_to_numpy(resunet_a.PartMaxPooling(4)(values))
    for row in range(4):
        for column in range(4):
            part = np.s_[:, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
            expected = values[part].max((1, 2), keepdims=True)
            assert (found[part] == expected).all()


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (5, [(1, 3, 5), (1, 3, 15), *[(1, 3, 15, 31)] * 3]),
        (6, [(1,), (1, 3, 15), *[(1, 3, 15, 31)] * 4]),
    ],
)
def test_dilations_are_those_of_the_authors(
    depth: int, expected: list[tuple[int, ...]]
) -> None:
    model = registry.build("resunet_a", filters=4, depth=depth)

    def dilations(stage: str) -> tuple[int, ...]:
        branches = [
            layer.dilation_rate[0]
            for layer in model.layers
            if layer.name.startswith(f"{stage}_dilated") and "conv1" in layer.name
        ]
        return tuple(sorted(branches))

    down = [dilations(f"encoder{level}") for level in range(depth)]
    assert down[:4] == [(1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15), (1, 3, 5)]
    assert {*down[4:], dilations("bottom")} == {(1,)}
    up = [dilations(f"decoder{level}") for level in reversed(range(depth))]
    assert up == expected


@pytest.mark.parametrize("depth", [5, 6])
def test_sizes_must_have_all_parts(depth: int) -> None:
    with pytest.raises(errors.InputError, match=r"Pad to \(256, 512\)"):
        registry.build("resunet_a", input_shape=(250, 260, 1), filters=4, depth=depth)


@pytest.mark.parametrize("classes", [1, 3])
def test_tasks_are_conditioned_as_the_paper_says(classes: int) -> None:
    model = build("resunet_a", (16, 16), depth=1, classes=classes, multitask=True)
    names = ["logits", "boundary", "distance", "color"]
    assert model.output_names == names
    assert [each.shape[-1] for each in model.outputs] == [classes] * 3 + [3]
    assert {each.dtype for each in model.outputs} == {"float32"}
    inputs = image(model)

    def outputs() -> list[np.ndarray]:
        return [keras.ops.convert_to_numpy(each) for each in model(inputs)]

    before = outputs()
    changed = {}
    for name in names:
        layer = model.get_layer(name)
        kernel = keras.ops.convert_to_numpy(layer.kernel)
        layer.kernel.assign(3 * kernel)
        pairs = zip(names, before, outputs(), strict=True)
        changed[name] = [
            each for each, old, new in pairs if np.abs(new - old).max() > 0
        ]
        layer.kernel.assign(kernel)
    assert changed == {
        "logits": ["logits"],
        "boundary": ["logits", "boundary"],
        "distance": ["logits", "boundary", "distance"],
        "color": ["color"],
    }


def test_every_join_of_the_tasks_is_used() -> None:
    model = build("resunet_a", (16, 16), depth=1, multitask=True)
    first = keras.Model(model.input, model.outputs[0])
    assert inputs_without_effect(first) == []


@pytest.mark.parametrize("kind", ["group", "instance"])
def test_pooling_over_everything_survives_normalisation(kind: str) -> None:
    model = build("resunet_a", (16, 16), depth=1, normalization=kind)
    end = keras.Model(model.input, model.get_layer("end_parts1_conv").output)
    values = predict(end, image(model))
    assert np.ptp(values, axis=(1, 2)).max() == 0
    assert np.abs(values[0] - values[1]).max() > 1e-3


def test_pyramid_is_checked() -> None:
    with pytest.raises(errors.InputError, match="`pyramid` must be a whole number"):
        registry.build("resunet_a", pyramid=0)
