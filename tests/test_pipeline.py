"""The n-th example of a training is the n-th example, however it is fetched."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from unet_zoo import augment, pipeline, recipe, targets
from unet_zoo.catalog import Example
from unet_zoo.errors import InputError
from unet_zoo.recipe import Augmentation, Recipe

SIZES = [(70, 64), (90, 81), (64, 100), (75, 75), (66, 120)]
STILL = Augmentation(rotation=0, scale=0, shift=0, elastic=0)  # needs no margin
PLAN = Recipe(patch=32, batch=2, steps=10, seed=4, augmentation=STILL)
FIELDS = {field.name for field in dataclasses.fields(Augmentation)}
MOVED = PLAN.replace(augmentation=Augmentation())


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
    made = pipeline.prepare(examples(), MOVED, targets.get("distance"))
    first, second = rows(made, MOVED), rows(made, MOVED)
    other = rows(made, MOVED.replace(seed=5))
    for key, value in first.items():
        np.testing.assert_array_equal(value, second[key])
        assert (value != other[key]).any()
    window = pipeline.window_size(Augmentation(), 32, SIZES)
    assert first["stack"].shape == (20, window, window, 5)
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


def test_patches_come_from_everywhere_and_stay_inside():
    size, plan = 39, PLAN.replace(batch=10, steps=60)
    y, x = np.mgrid[:size, :size].astype("float32")
    found = rows([np.stack([y, x], axis=-1)], plan)["stack"]
    assert found.shape[1:3] == (32, 32)
    corners = found[:, 0, 0]
    # Every patch is one piece: nothing padded, nothing wrapped around.
    inside = np.mgrid[:32, :32].transpose(1, 2, 0)
    np.testing.assert_array_equal(found, corners[:, None, None] + inside)
    for axis in (0, 1):
        counts = np.bincount(corners[:, axis].astype(int))
        # 75 each: the edges of an image are learned from as often as the rest.
        assert len(counts) == 8
        assert abs(counts - 75).max() < 35


def test_margins_are_of_the_same_patches_and_mirrored_at_the_images_edge():
    image = np.random.default_rng(0).random((80, 70, 2), dtype=np.float32)
    bare, wide = rows([image], PLAN), rows([image], MOVED)
    margin = (wide["stack"].shape[1] - 32) // 2
    assert 4 < margin < 30
    middle = wide["stack"][:, margin:-margin, margin:-margin]
    np.testing.assert_array_equal(middle, bare["stack"])
    padded = np.pad(image, [(margin, margin)] * 2 + [(0, 0)], mode="reflect")
    for each in wide["stack"]:
        # Found by its first pixel; the values are all different.
        y, x = np.argwhere(image[..., 0] == each[margin, margin, 0])[0]
        side = 32 + 2 * margin
        np.testing.assert_array_equal(each, padded[y : y + side, x : x + side])


@pytest.mark.parametrize("policy", ["default", "paper"])
def test_no_more_than_one_pixel_in_a_hundred_is_read_from_beyond(policy):
    ranges, patch = recipe.named(policy).augmentation, 96
    window = pipeline.window_size(ranges, patch, [(1000, 900)])
    assert window % 2 == 0
    assert patch < window < 1.8 * patch
    # Moves a map that is 1 in the window and 0 around it.
    side = 4 * patch
    edge = (side - window) // 2
    stack = np.zeros((100, side, side, 2), "float32")
    stack[:, edge:-edge, edge:-edge, 1] = 1
    layer = augment.Augment(ranges, (patch, patch), 1, ("nearest",))
    generator = np.random.default_rng(7)
    uniforms, normals = augment.draw_size(ranges)
    uniform = generator.random((100, uniforms), dtype=np.float32)
    normal = generator.standard_normal((100, normals), dtype=np.float32)
    beyond = 1 - np.asarray(layer(stack, uniform, normal))[..., 1].mean()
    assert 0.003 < beyond < 0.016


def test_windows_are_no_larger_than_the_images_need():
    for size, window in (((64, 50), 64), ((40, 30), 64), ((70, 60), 76)):
        assert pipeline.window_size(Augmentation(), 64, [size]) == window
    assert pipeline.window_size(STILL, 64, [(1000, 1000)]) == 64
    # Whatever the size of the patch, and of the bend with it.
    one = pipeline.window_size(Augmentation(), 128, [(9999, 9999)])
    ten = pipeline.window_size(Augmentation(elastic=100), 1280, [(9999, 9999)])
    assert abs(10 * one - ten) <= 20


@pytest.mark.skipif("border" not in FIELDS, reason="no other border yet")
def test_other_borders_keep_mirrored_pixels_out():
    image = np.random.default_rng(0).random((50, 64, 2), dtype=np.float32) + 1
    plan = MOVED.replace(steps=20, augmentation={"border": "constant"})
    found = rows([image], plan)["stack"]
    margin = (found.shape[1] - 32) // 2
    padded = np.pad(image, [(margin, margin)] * 2 + [(0, 0)])
    assert (found == 0).any()
    for each in found:
        y, x = np.argwhere(image[..., 0] == each[margin, margin, 0])[0]
        side = 32 + 2 * margin
        np.testing.assert_array_equal(each, padded[y : y + side, x : x + side])
    found = rows([image], plan.replace(augmentation={"border": "crop"}))["stack"]
    assert 32 < found.shape[1] <= 50
    side = found.shape[1]
    for each in found:
        y, x = np.argwhere(image[..., 0] == each[0, 0, 0])[0]
        np.testing.assert_array_equal(each, image[y : y + side, x : x + side])


def test_small_images_are_mirrored_up_to_the_patch():
    image = np.arange(20 * 30, dtype="float32").reshape(20, 30, 1)
    found = rows([image, np.full((90, 90, 1), -1, "float32")], PLAN)["stack"]
    assert found.shape[1:3] == (32, 32)
    padded = np.pad(image, [(6, 6), (1, 1), (0, 0)], mode="reflect")
    small = [each for each in found if each[0, 0, 0] >= 0]
    assert len(small) == 10
    for each in small:
        np.testing.assert_array_equal(each, padded)


def test_tiny_images_are_mirrored_more_than_once():
    image = np.arange(6, dtype="float32").reshape(2, 3, 1)
    (found, *_) = rows([image], PLAN)["stack"]
    padded = np.pad(image, [(15, 15), (14, 15), (0, 0)], mode="reflect")
    np.testing.assert_array_equal(found, padded)
    (found, *_) = rows([np.full((1, 1, 2), 7, "float32")], PLAN)["stack"]
    assert (found == 7).all()


def test_numbers_are_uniform_normal_and_independent():
    plan = PLAN.replace(batch=50, steps=40)
    found = rows(stacks([(32, 32)]), plan)
    uniform, normal = found["uniform"], found["normal"]
    sizes = augment.draw_size(plan.augmentation)
    assert (uniform.shape, normal.shape) == tuple((2000, size) for size in sizes)
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


# === Patches brought to objects ===


def marked(boxes, size=(100, 120), classes=()) -> Example:
    """Return an example whose image is the labels: a box for each object."""
    labels = np.zeros(size, "int32")
    for number, (y, x, height, width) in enumerate(boxes, start=1):
        number = classes[number - 1] if classes else number
        labels[y : y + height, x : x + width] = number
    return Example("m", labels[..., None].astype("float32"), labels)


def centres(found: np.ndarray) -> np.ndarray:
    """Return the value in the middle of each patch."""
    return found[:, 16, 16, 0].astype(int)


def crops(made, target, share: float = 1.0, **changes) -> np.ndarray:
    plan = PLAN.replace(normalization="unit", batch=50, steps=24)
    plan = plan.replace(foreground_crops=share, **changes)
    return rows(pipeline.prepare(made, plan, target), plan)["stack"]


def test_every_object_of_the_training_is_equally_likely():
    # Of very different size, five in one image, one in another, none in the third.
    boxes = [(20, 20, 2, 2), (20, 30, 3, 30), (40, 20, 30, 20), (50, 60, 1, 1)]
    boxes += [(60, 70, 9, 9)]
    lone = marked([(40, 40, 5, 5)])
    lone = Example("l", lone.image * 6, lone.labels)
    found = crops([marked(boxes), lone, marked([])], targets.get("border"))
    # Each patch is centred within its object; 1,200 patches, 200 for each object.
    counts = np.bincount(centres(found))
    assert counts[0] == 0
    assert len(counts) == 7
    assert abs(counts[1:] - 200).max() < 60


def test_the_place_within_an_object_varies():
    found = crops([marked([(30, 30, 20, 30)])], targets.get("border"))
    corners = {each[..., 0].argmax() for each in found}
    assert len(corners) > 100


def test_only_the_share_asked_for_is_brought_to_objects():
    one = marked([(50, 60, 1, 1)], size=(300, 300))
    for share in (0.0, 0.3):
        at = centres(crops([one], targets.get("border"), share)).mean()
        assert abs(at - share) < 0.05


def test_patches_brought_to_objects_stay_within_the_image():
    corners = [(0, 0, 2, 2), (0, 118, 2, 2), (98, 0, 2, 2), (98, 118, 2, 2)]
    found = crops([marked(corners)], targets.get("border"))
    holds = [set(np.unique(each[..., 0])) for each in found]
    assert all(len(each) == 2 for each in holds)  # the one object and background
    for y, x in ((0, 0), (0, 30), (30, 0), (30, 30)):
        assert 200 < (found[:, y, x, 0] > 0).sum() < 400


def test_rare_classes_are_as_likely_as_common_ones():
    common = [(0, 0, 40, 120), (50, 0, 40, 120)]
    images = [marked(common, classes=(1, 2)) for _ in range(9)]
    images.append(marked([*common, (44, 50, 2, 2)], classes=(1, 2, 3)))
    found = crops(images, targets.get("semantic", classes=4))
    # Of the classes 1 and 2, some lie too near the edge to be in the middle.
    counts = np.bincount(centres(found), minlength=4)
    assert abs(counts[3] - 400) < 60


def test_crops_on_objects_are_reproducible_and_leave_the_others_alone():
    target, made = targets.get("distance"), examples()
    stacked = pipeline.prepare(made, PLAN, target)
    half = PLAN.replace(foreground_crops=0.5, steps=40)
    found = rows(stacked, half)
    for plan, start in ((half.replace(batch=5, steps=16), 0), (half, 9)):
        again = rows(stacked, plan, start)
        for key, value in again.items():
            np.testing.assert_array_equal(value, found[key][start * plan.batch :])
    plain = rows(stacked, half.replace(foreground_crops=0.0))
    np.testing.assert_array_equal(plain["uniform"], found["uniform"])
    same = (plain["stack"] == found["stack"]).all(axis=(1, 2, 3)).mean()
    assert 0.3 < same < 0.7


def test_without_objects_patches_lie_anywhere():
    found = crops([marked([])], targets.get("border"), batch=2)
    plain = crops([marked([])], targets.get("border"), 0.0, batch=2)
    np.testing.assert_array_equal(found, plain)


# === Class balance ===


def test_class_weights_follow_the_shares_of_annotated_pixels():
    counts = np.array([800, 150, 50, 0])
    for balance in (0.0, 0.5, 1.0):
        weights = pipeline.class_weights(counts, balance).astype(float)
        assert weights @ counts == pytest.approx(counts.sum())
        if balance == 0:
            np.testing.assert_allclose(weights[:3], 1)
        if balance == 1:
            np.testing.assert_allclose((weights * counts)[:3], 1000 / 3, rtol=1e-6)
        if balance == 0.5:
            ratio = weights[2] / weights[0]
            assert ratio == pytest.approx((800 / 50) ** 0.5)


def test_balanced_classes_weigh_the_same_in_the_whole_training():
    labels = np.zeros((32, 64), "int32")
    labels[:5, :9], labels[20:22, 20:23], labels[:, 32:] = 1, 2, -1
    one = Example("a", labels[..., None].astype("uint8"), labels)
    other = Example("b", one.image, np.where(labels == 2, -1, labels))
    target = targets.get("semantic", classes=3)
    plan = PLAN.replace(target="semantic", class_balance=1.0, patch=64, batch=2)
    made = pipeline.prepare([one, other], plan, target)
    annotated = np.concatenate([each.labels for each in (one, other)])
    counts = np.bincount(annotated[annotated >= 0])
    np.testing.assert_array_equal(made.class_counts(), counts)
    truth = rows(made, plan.replace(steps=1))["stack"][:, 16:48]
    for number, count in enumerate(counts):
        expected = counts.sum() / 3 / count
        inside = (truth[..., 1] == number) & (truth[..., 2] > 0)
        np.testing.assert_allclose(truth[..., 2][inside], expected, rtol=1e-6)
    # What is not annotated weighs nothing, as without a balance.
    plain = rows(made, plan.replace(steps=1, class_balance=0.0))["stack"][:, 16:48]
    np.testing.assert_array_equal(truth[..., 2] > 0, plain[..., 2] > 0)
    assert (plain[..., 2] == 0).any()


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
