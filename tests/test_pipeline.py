"""The n-th example of a training is the n-th example, however it is fetched."""

from __future__ import annotations

import numpy as np
import pytest

from unet_zoo import pipeline, targets
from unet_zoo.catalog import Example
from unet_zoo.errors import InputError
from unet_zoo.recipe import Recipe

SIZES = [(70, 64), (90, 81), (64, 100), (75, 75), (66, 120)]
PLAN = Recipe(patch=32, batch=2, steps=10, seed=4)


def examples(sizes=SIZES, channels: int = 1) -> list[Example]:
    """Return examples whose every pixel says which one it is of, and where."""
    made = []
    for number, (rows, columns) in enumerate(sizes):
        generator = np.random.default_rng(number)
        image = generator.integers(0, 255, (rows, columns, channels), dtype=np.uint8)
        labels = np.zeros((rows, columns), "int32")
        labels[4:10, 5:12], labels[10:30, 5:22], labels[-9:, :] = 1, 2, -1
        made.append(Example(f"e{number}", image, labels))
    return made


def stacks(sizes=SIZES) -> list[np.ndarray]:
    """Return stacks of one constant channel: the number of the image."""
    return [np.full((*size, 1), n, "float32") for n, size in enumerate(sizes)]


def rows(made, plan: Recipe, start: int = 0) -> dict[str, np.ndarray]:
    """Return all examples of the batches, one after the other."""
    batches = list(pipeline.batches(made, plan, start).as_numpy_iterator())
    return {key: np.concatenate([each[key] for each in batches]) for key in batches[0]}


def test_one_seed_is_one_training():
    made = pipeline.prepare(examples(), PLAN, targets.get("distance"))
    first, second = rows(made, PLAN), rows(made, PLAN)
    other = rows(made, PLAN.replace(seed=5))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
        assert (value != other[key]).any()
    assert first["stack"].shape == (20, 48, 48, 5)
    assert first["stack"].dtype == np.float32


@pytest.mark.parametrize("batch", [1, 4, 5])
def test_batches_of_any_size_hold_the_same_examples(batch):
    made = pipeline.prepare(examples(), PLAN, targets.get("distance"))
    reference = rows(made, PLAN)
    found = rows(made, PLAN.replace(batch=batch, steps=20 // batch))
    for key, value in reference.items():
        np.testing.assert_array_equal(value, found[key])


@pytest.mark.parametrize("start", [1, 7])
def test_a_resumed_training_goes_on_where_it_was(start):
    made = stacks()
    reference, found = rows(made, PLAN), rows(made, PLAN, start)
    for key, value in reference.items():
        np.testing.assert_array_equal(value[2 * start :], found[key])


@pytest.mark.parametrize("count", [1, 2, 5, 7])
def test_every_epoch_holds_every_image_once(count):
    made = stacks([(40, 40)] * count)
    plan = PLAN.replace(batch=1, steps=12 * count)
    order = rows(made, plan)["stack"][:, 0, 0, 0].reshape(12, count)
    assert (np.sort(order, axis=1) == np.arange(count)).all()
    if count > 2:
        assert len(np.unique(order, axis=0)) > 3


def test_windows_come_from_everywhere_and_stay_inside():
    size, plan = 55, PLAN.replace(batch=10, steps=40)
    y, x = np.mgrid[:size, :size].astype("float32")
    found = rows([np.stack([y, x], axis=-1)], plan)["stack"]
    assert found.shape[1:3] == (48, 48)
    corners = found[:, 0, 0]
    # Every window is one piece: nothing padded, nothing wrapped around.
    inside = np.mgrid[:48, :48].transpose(1, 2, 0)
    np.testing.assert_array_equal(found, corners[:, None, None] + inside)
    for axis in (0, 1):
        assert sorted(set(corners[:, axis])) == list(range(8))


def test_small_images_are_mirrored_up_to_the_patch():
    image = np.arange(20 * 30, dtype="float32").reshape(20, 30, 1)
    found = rows([image, np.full((90, 90, 1), -1, "float32")], PLAN)["stack"]
    assert found.shape[1:3] == (32, 32)
    padded = np.pad(image, [(6, 6), (1, 1), (0, 0)], mode="symmetric")
    small = [each for each in found if each[0, 0, 0] >= 0]
    assert len(small) == 10
    for each in small:
        np.testing.assert_array_equal(each, padded)


def test_numbers_are_uniform_normal_and_independent():
    plan = PLAN.replace(batch=50, steps=40)
    found = rows(stacks([(32, 32)]), plan)
    uniform, normal = found["uniform"], found["normal"]
    assert uniform.shape == (2000, 12)
    assert normal.shape == (2000, 27)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean(axis=0) - 0.5).max() < 0.03
    assert abs(uniform.std(axis=0) - 12**-0.5).max() < 0.02
    assert abs(normal.mean(axis=0)).max() < 0.12
    assert abs(normal.std(axis=0) - 1).max() < 0.1
    both = np.concatenate([uniform, normal], axis=1)
    both = np.concatenate([both[1:], both[:-1]], axis=1)  # and with those before
    correlation = np.corrcoef(both.T) - np.eye(both.shape[1])
    assert abs(correlation).max() < 0.13


def test_all_four_flips_are_drawn():
    uniform = rows(stacks([(32, 32)]), PLAN.replace(batch=50, steps=8))["uniform"]
    kinds = (uniform[:, 2] < 0.5) + 2 * (uniform[:, 3] < 0.5)
    assert (abs(np.bincount(kinds) - 100) < 40).all()


# === Examples to stacks ===


def test_targets_are_encoded_at_the_size_the_network_sees():
    labels = np.zeros((80, 80), "int32")
    labels[8:40, 8:72], labels[40:72, 8:72], labels[:4] = 1, 2, -1
    example = Example("a", np.zeros((80, 80, 1), np.uint8), labels)
    target = targets.get("distance", border=1)
    (stack,) = pipeline.prepare([example], Recipe(scale=0.5), target)
    np.testing.assert_array_equal(stack[..., 1:], target.encode(labels[::2, ::2]))
    # A line two pixels wide in the small image, not the remains of one in the large.
    border = stack[..., 3]
    np.testing.assert_array_equal(np.unique(np.nonzero(border)[0]), [19, 20])


def test_images_are_normalised_before_they_are_cut():
    made = pipeline.prepare(examples(channels=2), Recipe(), targets.get("semantic"))
    for stack in made:
        assert stack.dtype == np.float32
        np.testing.assert_allclose(stack[..., :2].mean(axis=(0, 1)), 0, atol=1e-5)
        np.testing.assert_allclose(stack[..., :2].std(axis=(0, 1)), 1, atol=1e-5)


def test_channels_must_agree():
    mixed = examples(SIZES[:2], 1) + examples(SIZES[:1], 3)
    with pytest.raises(InputError, match=r"the same channels. Received: \[1, 3\]"):
        pipeline.prepare(mixed, Recipe(), targets.get("distance"))


def test_nothing_to_train_on_is_said():
    with pytest.raises(InputError, match="training split is empty"):
        pipeline.batches([], PLAN)


@pytest.mark.parametrize(
    ("side", "scale"), [(10, 1.0), (70, 1.0), (72, 0.5), (140, 0.5), (280, 0.25)]
)
def test_scale_brings_objects_into_sight(side, scale):
    labels = np.zeros((400, 700), int)
    labels[5 : 5 + side, 5 : 5 + side] = 7
    labels[5 : 5 + side, 390 : 390 + side] = 3
    assert pipeline.choose_scale([labels, labels - 1]) == scale


def test_scale_without_objects_is_one():
    assert pipeline.choose_scale([np.zeros((9, 9), int)]) == 1.0
    assert pipeline.choose_scale([np.full((9, 9), -1)]) == 1.0
