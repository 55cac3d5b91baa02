"""A plan fits the images, the memory and the time; a training by it is done in time."""

from __future__ import annotations

import dataclasses
import re
import time
import tomllib

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from test_cli import draw
from test_training import SMALL, blob, data

from unet_zoo import cli, planning, recipe, segmenter
from unet_zoo.catalog import Dataset
from unet_zoo.errors import InputError
from unet_zoo.planning import Speed

PLAN = recipe.named("default")
TINY = PLAN.replace(
    model_arguments={**SMALL.model_arguments, "filters": 2},
    patch=32,
    optimizer={"average": 0.0},
    tta=1,
)
FAST = Speed(step=0.001, first=0.1, image=0.01, decode=0.01)


def test_steps_fill_the_time_and_no_more():
    for left in (20.0, 100.0, 1000.0):
        steps, validations = planning._steps(left, PLAN, FAST, 10)
        one = planning._validation(FAST, 10)
        end = planning._closing(PLAN, FAST, 10)
        spent = FAST.first + steps * FAST.step + validations * one + end
        assert left - FAST.step <= spent + FAST.step
        assert spent <= left
        assert 2 <= validations <= 20
        assert validations == 2 or validations * one < 0.13 * left


def test_what_is_tried_depends_on_the_steps_there_is_time_for():
    enough, few = planning.ENOUGH, planning.FEW
    wider = planning._other(PLAN, 2 * enough, ())
    assert wider.model_arguments["filters"] == 32
    assert planning._other(PLAN, 2 * enough, ("filters",)) is None
    assert planning._other(PLAN, enough, ()) is None
    assert planning._other(PLAN, few - 1, ()).batch == 2
    small = PLAN.replace(batch=2)
    assert planning._other(small, few - 1, ()) is None
    narrow = planning._other(small, few // 2 - 1, ())
    assert narrow.model_arguments["filters"] == 8
    least = small.replace(model_arguments={**PLAN.model_arguments, "filters": 8})
    assert planning._other(least, 1, ()) is None


def test_what_does_not_fit_into_the_memory_shrinks(monkeypatch):
    monkeypatch.setattr(planning.devices, "gpu_memory", lambda: 2**27)
    reasons: dict[str, str] = {}
    big = PLAN.replace(model_arguments=SMALL.model_arguments, batch=64)
    fitting = planning._fitting(big, 1, (), reasons)
    assert 1 <= fitting.batch < 64
    assert "memory" in reasons["batch"]
    assert not planning._too_large(fitting, 1)
    assert planning._too_large(fitting.replace(batch=2 * fitting.batch), 1)
    # What the user fixed stays.
    assert planning._fitting(big, 1, ("batch", "patch"), {}) == big
    reasons.clear()
    smaller = planning._fitting(big, 1, ("batch",), reasons)
    assert smaller.patch < big.patch
    assert smaller.batch == 64


def test_small_images_take_a_smaller_patch_and_a_model_its_own_sizes():
    given = data()
    advised, reasons = planning._advised(PLAN, given, given.examples("train"), ())
    assert advised.patch == 48
    assert advised.model_arguments["depth"] == 3
    assert set(reasons) >= {"target", "scale", "patch", "batch"}
    kept, reasons = planning._advised(
        PLAN, given, given.examples("train"), ("patch", "depth", "target")
    )
    assert kept.patch == PLAN.patch
    assert kept.model_arguments == PLAN.model_arguments
    assert "patch" not in reasons
    reasons = {}
    fitted = planning._fitting(PLAN.replace(patch=50), 1, (), reasons)
    assert fitted.patch == 64
    assert "model takes" in reasons["patch"]


def test_classes_are_counted():
    made = [blob(n) for n in range(3)]
    for each in made:
        each.labels[each.labels > 3] = 3
    readers = {"train": lambda: made, "validation": lambda: made}
    given = Dataset("c", "1", None, "semantic", "", {}, readers)
    advised, _ = planning._advised(PLAN, given, made, ())
    assert advised.target == "semantic"
    assert advised.target_arguments["classes"] == 4


def test_a_plan_is_measured_and_kept(tmp_path):
    said = []
    made = planning.plan(
        TINY, data(), 600, fixed=("filters", "batch", "depth", "tta"), said=said.append
    )
    assert made.recipe.steps >= 10
    assert made.recipe.model_arguments["filters"] == 2
    assert made.seconds + made.spent < 600
    assert made.speed.step > 0
    assert made.parts["steps"] == pytest.approx(made.recipe.steps * made.speed.step)
    assert "were measured" in made.reasons["steps"]
    assert sum("Timing" in line for line in said) == 1
    for field in made.reasons:
        assert made.value(field) is not None
    assert made.recipe.optimizer.warmup <= max(1, made.recipe.steps // 10)


def test_a_warm_up_that_was_asked_for_is_kept():
    long = PLAN.replace(optimizer={"warmup": 10**6})
    for fixed in ((), ("warmup",)):
        made = planning._finished(
            long, {}, FAST, 10, 6000.0, 0.5, time.monotonic(), fixed
        )
        assert (made.recipe.optimizer.warmup == 10**6) == bool(fixed)
        assert ("optimizer.warmup" in made.reasons) != bool(fixed)


def test_too_little_time_is_refused_with_what_would_do():
    with pytest.raises(InputError, match=r"too short.* take \d+ s\. Give.*--hours 0"):
        planning._finished(PLAN, {}, FAST, 10, 1.0, 0.5, time.monotonic(), ())


@pytest.mark.parametrize("folds", [1, 5])
@pytest.mark.parametrize("slow", [0.001, 5.0])
def test_the_time_that_is_advised_is_more_than_was_given_and_does(slow, folds):
    # Importing and reading came before planning, which looked for so long.
    before, looked, encoding = 20.0, 30.0, 0.5
    speed = dataclasses.replace(FAST, step=slow)

    def plan(hours):
        seconds = (3600 * hours - before) / folds
        left = planning._SURE * (seconds - looked) - encoding - planning._CLOSING
        started = time.monotonic() - looked
        return planning._finished(
            PLAN, {}, speed, 1, left, encoding, started, (), hours / seconds
        )

    hours = (before + folds * 31) / 3600  # one second is left
    with pytest.raises(InputError) as refused:
        plan(hours)
    advised = float(re.search(r"--hours (\S+)\.$", str(refused.value))[1])
    assert advised > hours
    assert plan(advised).recipe.steps >= 10


@pytest.fixture
def folder(tmp_path):
    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for number in range(6):
        image, labels = draw(number)
        tifffile.imwrite(tmp_path / "mine" / "images" / f"a{number}.tif", image)
        tifffile.imwrite(tmp_path / "mine" / "masks" / f"a{number}.tif", labels)
    return tmp_path / "mine"


def test_the_command_line_plans_and_trains(folder, tmp_path):
    words = ["train", "unet", "--dataset", str(folder), "--recipe", "auto"]
    words += ["--output", str(tmp_path / "run"), "--filters", "2", "--depth", "1"]
    hours = 18 / 3600
    for attempt in range(1, 5):
        done = CliRunner().invoke(cli.main, [*words, "--hours", str(hours)])
        if done.exit_code == 0:
            break
        # On a machine that is busy or slow: what it asks for must do, or, where others
        # began to use it since, some times as much.
        asked = re.search(r"too short.*--hours (\d+\.\d+)", done.output)
        assert asked, done.output
        hours = attempt * float(asked[1])
    assert done.exit_code == 0, done.output
    assert "Done at about" in done.stderr
    assert "were measured" in done.stderr
    kept = tomllib.loads((tmp_path / "run" / "recipe.toml").read_text())
    assert kept["model_arguments"]["filters"] == 2
    found = segmenter.load(tmp_path / "run").segment(np.zeros((40, 40)))
    assert found.shape == (40, 40)
    # What is resumed has its plan; another one is not taken for it, nor left out.
    words += ["--hours", str(hours), "--resume"]
    other = CliRunner().invoke(cli.main, [*words, "--seed", "3"])
    assert other.exit_code == 2
    assert "seed" in other.stderr
    assert CliRunner().invoke(cli.main, words).exit_code == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--hours", "1"], "--hours is the time that --recipe auto plans for"),
        (["--recipe", "auto", "--steps", "5"], "the time decides on the number"),
        (["--recipe", "auto", "--set", "steps=5"], "the time decides on the number"),
        (["--recipe", "auto", "--hours", "nan"], "nan is not a finite number"),
        (["--recipe", "auto", "--hours", "inf"], "inf is not a finite number"),
    ],
)
def test_what_does_not_go_together_is_refused(folder, words, says):
    done = CliRunner().invoke(
        cli.main, ["train", "unet", "--dataset", str(folder), *words]
    )
    assert done.exit_code == 2
    assert says in done.stderr
