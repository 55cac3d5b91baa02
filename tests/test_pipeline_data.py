"""Folders as they come: of mixed size and depth, half annotated, larger than memory."""

from __future__ import annotations

import numpy as np
import psutil
import pytest
import tifffile

from unet_zoo import catalog, pipeline, recipe, targets, training
from unet_zoo.catalog.dataset import Dataset, Example, Lazy

PLAN = recipe.from_dict(
    {
        "model_arguments": {"padding": "same", "filters": 2, "depth": 1},
        "scale": 1.0,
        "patch": 32,
        "batch": 2,
        "steps": 4,
        "validate_every": 2,
        "tta": 1,
        "augmentation": {"elastic": 2.0},
    }
)


def scene(number: int, size=(60, 70)) -> tuple[np.ndarray, np.ndarray]:
    """Return an image in [0, 1] and labels of two touching boxes and a lone one."""
    labels = np.zeros(size, "uint16")
    labels[5:20, 5:15], labels[5:20, 15:25], labels[-12:-4, -9:-2] = 1, 2, 3
    noise = np.random.default_rng(number).normal(0.3, 0.05, size)
    return (noise + 0.4 * (labels > 0)).clip(0, 1), labels


def write(folder, images, labels) -> catalog.Dataset:
    for name, arrays in (("images", images), ("masks", labels)):
        (folder / name).mkdir()
        for number, array in enumerate(arrays):
            tifffile.imwrite(folder / name / f"{number:02d}.tif", array)
    return catalog.open_dataset(folder, validation=0.2)


def test_depths_and_sizes_may_be_mixed(tmp_path):
    sizes = [(60, 70), (20, 24), (90, 33), (60, 70)]
    scenes = [scene(0 if n == 3 else n, size) for n, size in enumerate(sizes)]
    deep = [
        (scenes[0][0] * 255).astype("uint8"),
        (scenes[1][0] * 4095).astype("uint16"),
        scenes[2][0].astype("float32"),
        # The first one again, as a camera of 16 bits would have it.
        (scenes[3][0] * 255).astype("uint8").astype("uint16") * 200 + 77,
    ]
    data = write(tmp_path, [*deep, deep[0]], [each[1] for each in (*scenes, scenes[0])])
    taught = data.examples("train")
    assert {each.image.dtype.name for each in taught} == {"uint8", "uint16", "float32"}
    made = pipeline.prepare(taught, PLAN, targets.get("distance"))
    np.testing.assert_allclose(made[0], made[3], atol=1e-5)
    for stack in made:
        assert abs(stack[..., 0].mean()) < 1e-4
        assert abs(stack[..., 0].std() - 1) < 1e-4
    batches = list(pipeline.batches(made, PLAN.replace(steps=20)).as_numpy_iterator())
    stacks = np.concatenate([each["stack"] for each in batches])
    assert np.isfinite(stacks).all()
    # Objects are bright whatever the depth: image and target are of the same place.
    assert stacks[stacks[..., 1] == 1][:, 0].mean() > 1
    assert stacks[stacks[..., 1] == 0][:, 0].mean() < 0
    training.train(PLAN, data, tmp_path / "run")


@pytest.mark.parametrize("name", ["semantic", "border", "distance"])
def test_what_is_not_annotated_weighs_nothing_wherever_it_is_mirrored(tmp_path, name):
    labels = [scene(n, (24, 30))[1].astype("int16") for n in range(3)]
    labels[0][:, 20:] = -1
    labels[1][:] = -1
    # The image says where nothing is known.
    images = [(each < 0).astype("uint8") * 200 for each in labels]
    data = write(tmp_path, images, labels)
    plan = PLAN.replace(normalization="unit", steps=8, augmentation={"elastic": 0.0})
    taught = data.examples("train") + data.examples("validation")
    made = pipeline.prepare(taught, plan, targets.get(name))
    for batch in pipeline.batches(made, plan).as_numpy_iterator():
        unknown = batch["stack"][..., 0] > 0
        assert (batch["stack"][..., -1] == 0).sum() == unknown.sum()
        assert (batch["stack"][..., -1][unknown] == 0).all()
    if name == "distance":
        result = training.train(plan.replace(steps=2), data, tmp_path / "run")
        assert all(np.isfinite(each).all() for each in result.network.get_weights())


def test_balanced_classes_find_what_is_rare(tmp_path):
    generator = np.random.default_rng(0)
    images, masks = [], []
    for _ in range(5):
        mask = np.zeros((64, 64), "int32")
        mask[10:50, 5:60] = 1
        y, x = generator.integers(12, 44, 2)
        mask[y : y + 4, x : x + 4] = 2  # 0.4 % of the pixels
        images.append((60 * mask + generator.normal(60, 30, mask.shape)).clip(0, 255))
        masks.append(mask)
    made = [
        Example(str(n), image[..., None].astype("uint8"), mask)
        for n, (image, mask) in enumerate(zip(images, masks, strict=True))
    ]
    readers = {"train": lambda: made, "validation": list}
    data = Dataset("rare", "1", None, "semantic", "", {}, readers)
    plan = PLAN.replace(
        target="semantic",
        target_arguments={"classes": 3},
        model_arguments={"padding": "same", "filters": 4, "depth": 1, "dropout": 0.0},
        augmentation=dict.fromkeys(("rotation", "scale", "shift", "elastic"), 0.0),
        steps=40,
        validate_every=40,
        optimizer={"learning_rate": 2e-2, "warmup": 2},
    )
    found = {}
    for name, changes in {
        "plain": {},
        "balanced": {"class_balance": 1.0, "foreground_crops": 0.5},
    }.items():
        result = training.train(plan.replace(**changes), data, tmp_path / name)
        rare = [result.segment(one.image)[one.labels == 2] == 2 for one in made]
        found[name] = np.mean(np.concatenate(rare))
    assert found["balanced"] > max(0.3, found["plain"] + 0.2)


# === Larger than memory ===


def resident() -> float:
    return psutil.Process().memory_info().rss / 1e6


def many(folder, count: int, side: int) -> Dataset:
    """Return a dataset whose images are files, read when they are asked for."""
    image, labels = scene(0, (side, side))
    image = np.random.default_rng(0).normal(0.5, 0.1, (side, side, 1))
    for number in range(count):
        np.savez(
            folder / f"{number}.npz",
            image=(image + 0.01 * number).astype("float32"),
            labels=np.roll(labels, number, axis=1).astype("int32"),
        )

    def read():
        for number in range(count):
            with np.load(folder / f"{number}.npz") as file:
                yield Example(str(number), file["image"], file["labels"])

    readers = {
        "train": lambda: Lazy(count, read),
        "validation": lambda: Lazy(1, lambda: iter(list(read())[:1])),
    }
    return Dataset("many", "1", None, "instances", "", {}, readers)


def test_ten_times_the_memory_trains_in_a_flat_one(tmp_path):
    side, count, given = 768, 40, 15_000_000
    data = many(tmp_path, count, side)
    with pipeline.prepare(
        data.sequence("train")[:1], PLAN, targets.get("distance")
    ) as one:
        assert count * one.nbytes > 10 * given
        whole = count * one.nbytes / 1e6
    sizes: list[float] = []
    plan = PLAN.replace(steps=60, validate_every=60, batch=4)
    training.train(
        plan,
        data,
        tmp_path / "run",
        progress=lambda now: sizes.append(resident()),
        cache_memory=given,
    )
    # 240 patches: every image has been read six times.
    late = sizes[15:]
    assert max(late) - late[0] < 0.15 * whole
    assert max(late) - late[0] < 0.05 * late[0]
    # Nothing is left of the files it took, and the run is complete.
    names = {path.name for path in tmp_path.iterdir() if path.suffix != ".npz"}
    assert names == {"run"}
    assert (tmp_path / "run" / "weights.h5").exists()


def test_a_training_uses_a_named_cache_again_and_gives_the_same(tmp_path):
    made = [
        Example(
            str(n), (image * 255).astype("uint8")[..., None], labels.astype("int32")
        )
        for n, (image, labels) in enumerate(map(scene, range(3)))
    ]
    readers = {"train": lambda: made, "validation": list}
    data = Dataset("d", "1", None, "instances", "", {}, readers)
    weights, times = [], []
    for name, memory in (("a", "1GB"), ("b", 0)):
        result = training.train(
            PLAN.replace(validate_every=4),
            data,
            tmp_path / name,
            cache_folder=tmp_path / "cache",
            cache_memory=memory,
        )
        weights.append(result.network.get_weights())
        files = sorted((tmp_path / "cache").iterdir())
        times.append([path.stat().st_mtime_ns for path in files])
        assert len(files) == 3
    assert times[0] == times[1]
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)
