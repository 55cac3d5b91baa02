"""A training writes what it returns, returns the best it saw, and never looks ahead."""

from __future__ import annotations

import csv
import dataclasses
import tomllib

import keras
import numpy as np
import PIL.Image
import pytest

from unet_zoo import (
    augment,
    learner,
    plots,
    recipe,
    segmenter,
    targets,
    training,
    weights,
)
from unet_zoo.catalog import Dataset, Example
from unet_zoo.errors import InputError
from unet_zoo.models import unet

PLAN = recipe.from_dict(
    {
        "model_arguments": {
            "padding": "same",
            "filters": 6,
            "depth": 2,
            "dropout": 0.0,
            "normalization": "batch",
        },
        "scale": 1.0,
        "patch": 32,
        "batch": 4,
        "steps": 120,
        "validate_every": 40,
        "tta": 1,
        "augmentation": {"elastic": 2.0, "scale": 0.1},
        "optimizer": {"learning_rate": 1e-2, "warmup": 5, "average": 0.9},
    }
)
# Building the graph takes most of the time of a short training: few variables.
SMALL = PLAN.replace(
    model_arguments={"padding": "same", "filters": 3, "depth": 1, "dropout": 0.0},
    patch=24,
    batch=2,
    steps=6,
    validate_every=3,
)


def blob(number: int, side: int = 48, channels: int = 1) -> Example:
    """Return bright discs on noise; some touch."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:side, :side]
    labels = np.zeros((side, side), "int32")
    for n in range(1, 5):
        centre_y, centre_x = generator.integers(6, side - 6, 2)
        inside = (y - centre_y) ** 2 + (x - centre_x) ** 2 < 49
        labels[inside & (labels == 0)] = n
    image = 60 + 90 * (labels > 0) + generator.normal(0, 12, labels.shape)
    image = np.repeat(image.clip(0, 255).astype("uint8")[..., None], channels, axis=-1)
    return Example(f"seq/{number}", image, labels)


def never() -> list[Example]:
    message = "the test split was read"
    raise AssertionError(message)


def data(held_out: int = 2, kind: str = "instances", **blobs) -> Dataset:
    readers = {
        "train": lambda: [blob(n, **blobs) for n in range(6)],
        "validation": lambda: [blob(n, **blobs) for n in range(10, 10 + held_out)],
        "test": never,
    }
    sizes = {"train": 6, "validation": held_out, "test": 1}
    return Dataset(
        "discs", "1.2.3", None, kind, "Discs.", sizes, readers, pixel_size=(0.5, 0.25)
    )


def history(folder) -> list[dict[str, float]]:
    with (folder / "history.csv").open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Return what a training returned, its folder, and what it told of itself."""
    folder, told = tmp_path_factory.mktemp("trained") / "deep" / "run", []
    result = training.train(PLAN, data(), folder, progress=told.append)
    return result, folder, told


def test_the_folder_is_complete(trained):
    _, folder, _ = trained
    found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*.*"))
    assert found == [
        "checkpoint.npz",
        "curve.png",
        "history.csv",
        "recipe.toml",
        "report.html",
        "samples/seq-10.png",
        "samples/seq-11.png",
        "weights.h5",
    ]
    text = (folder / "recipe.toml").read_text(encoding="utf-8")
    assert recipe.from_dict(tomllib.loads(text)) == PLAN
    for path in folder.rglob("*.png"):
        assert np.ptp(np.asarray(PIL.Image.open(path))) > 50


def test_it_learns(trained):
    result, folder, _ = trained
    rows = history(folder)
    assert [row["step"] for row in rows] == [40, 80, 120]
    assert rows[-1]["loss"] < 0.7 * rows[0]["loss"]
    fresh = [blob(number) for number in range(90, 94)]
    pairs = [(result.segment(each.image).labels > 0, each.labels > 0) for each in fresh]
    both = sum((found & true).sum() for found, true in pairs)
    assert 2 * both / sum(found.sum() + true.sum() for found, true in pairs) > 0.8


def test_the_file_holds_what_was_returned(trained):
    result, folder, _ = trained
    loaded = segmenter.load(folder / "weights.h5")
    assert loaded.facts == result.facts
    image = blob(50, side=61).image
    pairs = zip(loaded.network.weights, result.network.weights, strict=True)
    for ours, theirs in pairs:
        np.testing.assert_array_equal(ours.numpy(), theirs.numpy())
    np.testing.assert_allclose(loaded.predict(image), result.predict(image), atol=1e-5)


def test_the_best_is_kept_and_its_facts_are_its_own(trained):
    result, folder, _ = trained
    best = max(history(folder), key=lambda row: (row["SEG"], row["step"]))
    assert result.facts["validation"] == best
    # Measured again, the file gives the score it claims; tuned, no less.
    held_out = [
        Example(e.name, e.image, e.labels, reference=e.labels)
        for e in data().examples("validation")
    ]
    again = Dataset("d", "1", None, "instances", "", {}, {"v": lambda: held_out})
    untuned = segmenter.Segmenter(
        result.network,
        {**result.facts, "target_arguments": targets.get("distance").arguments},
    )
    scores = untuned.evaluate(again, "v", names=["SEG", "Dice"], tta=1)
    for name, score in scores.items():
        assert score.value == pytest.approx(best[name], abs=1e-6)
    tuned = result.evaluate(again, "v", names=["SEG"], tta=PLAN.tta)
    assert tuned["SEG"].value >= best["SEG"]


def test_facts_tell_where_it_comes_from(trained):
    result, folder, _ = trained
    facts = weights.read_facts(folder / "weights.h5")
    assert facts["dataset"]["name"] == "discs"
    assert facts["dataset"]["version"] == "1.2.3"
    assert (facts["dataset"]["train"], facts["dataset"]["validation"]) == (6, 2)
    assert recipe.from_dict(facts["recipe"]) == PLAN
    assert facts["target_arguments"].keys() == targets.get("distance").arguments.keys()
    assert result.facts["versions"]["keras"] == keras.__version__
    # So an image of twice the pixel size is seen twice as large.
    assert result.facts["pixel_size"] == [0.5, 0.25]
    assert result.scales((1.0, 0.5)) == (2.0, 2.0)


def test_progress_counts_every_step(trained):
    _, folder, told = trained
    assert [each.step for each in told] == list(range(1, 121))
    assert {each.steps for each in told} == {120}
    assert told[39].best is None
    assert told[40].best == history(folder)[0]["SEG"]
    assert all(np.isfinite(each.loss) for each in told)
    assert told[-1].seconds_left == 0
    assert told[60].seconds_left > 0


def test_the_same_seed_gives_the_same_weights_however_often_validated(tmp_path):
    runs = [
        training.train(
            SMALL.replace(validate_every=every), data(held_out=0), tmp_path / str(n)
        ).network.get_weights()
        for n, every in enumerate((3, 3, 6))
    ]
    for first, *others in zip(*runs, strict=True):
        for other in others:
            np.testing.assert_allclose(first, other, atol=1e-5)


@pytest.mark.parametrize("equal_from", [(), ((0, 3),), ((0, 3), (6, 8))])
def test_averages_follow_the_weights(equal_from):
    network = unet.unet((24, 24, 1), classes=2, filters=2, depth=1, padding="same")
    target = targets.get("semantic")
    layer = augment.Augment(recipe.Augmentation(), (24, 24), 1, target.interpolation)
    taught = learner.Learner(network, target, layer, 0.5, equal_from=equal_from)
    taught.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    generator = np.random.default_rng(0)
    uniforms, normals = augment.draw_size(recipe.Augmentation())
    batch = {
        "stack": generator.random((2, 24, 24, 3)).astype("float32").round(),
        "uniform": generator.random((2, uniforms)).astype("float32"),
        "normal": generator.normal(size=(2, normals)).astype("float32"),
    }
    expected = [variable.numpy() for variable in network.trainable_variables]
    start = float(taught.calls.numpy())
    for call in range(1, 13):
        momentum = min(0.5, (start + call) / (start + call + 9))
        for start, begin in equal_from:
            # The first are forgotten; of n others each counts 1 / n.
            if call > start:
                momentum = 1 - 1 / max(1, call - begin)
        expected = [
            momentum * old + (1 - momentum) * variable.numpy()
            for old, variable in zip(expected, network.trainable_variables, strict=True)
        ]
        taught.train_on_batch(batch)
    own = network.get_weights()
    with taught.averaged():
        for mean, found in zip(expected, network.get_weights(), strict=True):
            np.testing.assert_allclose(found, mean, atol=1e-5)
    for before, after in zip(own, network.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert any(abs(a - b).max() > 1e-3 for a, b in zip(own, expected, strict=True))


# === Interrupted, and other ends ===


class Stop:
    """Presses Ctrl-C after some steps."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, progress: training.Progress) -> None:
        if progress.step == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [5, 3])
def test_interrupted_it_keeps_what_is_done(tmp_path, after):
    plan = SMALL.replace(steps=10, validate_every=4)
    with pytest.raises(KeyboardInterrupt):
        training.train(plan, data(), tmp_path / "run", progress=Stop(after))
    rows = history(tmp_path / "run")
    # Before the first validation, what there is is validated at once.
    assert [row["step"] for row in rows] == [4 if after == 5 else 3]
    result = segmenter.load(tmp_path / "run" / "weights.h5")
    assert result.facts["validation"] == rows[0]
    assert result.segment(blob(3).image).shape == (48, 48)
    assert (tmp_path / "run" / "curve.png").exists()
    assert len(list((tmp_path / "run" / "samples").iterdir())) == 2


def test_nothing_is_written_into_what_is_not_empty(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").write_text("mine")
    (tmp_path / "run-2").mkdir()
    with pytest.raises(InputError, match=r"run is not empty. .*run-3 is free"):
        training.train(PLAN, data(), tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["mine.txt"]
    with pytest.raises(InputError, match="is a file"):
        training.train(PLAN, data(), tmp_path / "run" / "mine.txt")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"patch": 30}, "`patch` 30 .*; the next one that does is 32"),
        ({"model": "unett"}, "Did you mean 'unet'"),
        ({"model_arguments": {"filtres": 3}}, "Did you mean 'filters'"),
        ({"target_arguments": {"sead": 0.3}}, "Did you mean 'seed'"),
    ],
)
def test_what_does_not_fit_leaves_no_folder(tmp_path, changes, message):
    with pytest.raises(InputError, match=message):
        training.train(PLAN.replace(**changes), data(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


# === Other recipes ===


def test_the_recipe_of_the_paper_in_small(tmp_path):
    plan = recipe.named("paper").replace(
        model_arguments={"padding": "valid", "filters": 4, "depth": 2},
        patch=unet.fitting_size(60, depth=2),
        steps=4,
        validate_every=2,
    )
    result = training.train(plan, data(), tmp_path / "run")
    assert result.target.name == "border"
    rows = history(tmp_path / "run")
    assert all(np.isfinite(row["loss"]) for row in rows)
    image = blob(3).image
    assert result.segment(image).shape == image.shape[:2]


def test_classes_colours_and_no_validation(tmp_path):
    plan = SMALL.replace(
        target="semantic",
        scale=None,
        model="resunet",
        model_arguments={"filters": 2, "depth": 1, "bridge": 0},
    )
    given = data(held_out=0, kind="semantic", channels=3)
    result = training.train(plan, given, tmp_path / "run")
    assert result.facts["channels"] == 3
    assert result.facts["scale"] == 1.0
    assert result.facts["validation"]["step"] == 6  # the last are the best there are
    assert set(history(tmp_path / "run")[0]) == {"step", "loss", "seconds"}
    assert not (tmp_path / "run" / "samples").exists()


def test_the_scale_is_chosen_and_half_precision_stored_whole(tmp_path):
    big = np.kron(blob(1).labels, np.ones((9, 9), "int32"))
    image = np.repeat(np.repeat(blob(1).image, 9, axis=0), 9, axis=1)
    readers = {
        "train": lambda: [Example("a", image, big)],
        "validation": lambda: [],
    }
    given = Dataset("big", "1", None, "instances", "", {}, readers)
    plan = SMALL.replace(scale=None, steps=2, precision="mixed_bfloat16")
    result = training.train(plan, given, tmp_path / "run")
    assert result.facts["scale"] == 0.5
    text = (tmp_path / "run" / "recipe.toml").read_text(encoding="utf-8")
    assert tomllib.loads(text)["scale"] == 0.5
    assert {variable.dtype for variable in result.network.variables} == {"float32"}
    assert keras.config.dtype_policy().name == "float32"
    assert np.isfinite(result.predict(blob(3).image)).all()


def test_an_image_may_have_a_name_as_long_as_can_be(tmp_path):
    given = data(held_out=1)
    named = [dataclasses.replace(blob(10), name=f"{'folder' * 20}/{'é' * 120}12")]
    readers = {**given.readers, "validation": lambda: named}
    given = dataclasses.replace(given, readers=readers)
    training.train(SMALL.replace(steps=1), given, tmp_path / "run")
    (sample,) = (tmp_path / "run" / "samples").iterdir()
    assert sample.name.endswith("é12.png")


@pytest.mark.parametrize("known", [(0.25,), (0.25, None), (None, 0.25)])
def test_the_curve_shows_what_was_measured(tmp_path, known):
    rows = [{"step": n, "loss": 1.0, "IoU": each} for n, each in enumerate(known)]
    history = [{k: v for k, v in row.items() if v is not None} for row in rows]
    plots.write_curve(tmp_path / "curve.png", history, "IoU")
    red, green, blue = np.asarray(PIL.Image.open(tmp_path / "curve.png"))[..., :3].T
    assert ((red > 240) & (green > 110) & (green < 140) & (blue < 30)).sum() > 5
