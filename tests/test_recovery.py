"""A training that diverges goes back and on, one that is finished can be extended."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_resume import Stop
from test_training import SMALL, blob, data, history

from unet_zoo import checkpoints, extending, recipe, segmenter, training
from unet_zoo.catalog import Dataset
from unet_zoo.errors import InputError

SGD = {"name": "sgd", "schedule": "constant", "clip": 0.0, "momentum": 0.0}
# Without a limit on the gradient, this rate multiplies the weights at every step; an
# eighth of it does not. Twelve steps are enough to leave what float32 can hold.
FAST = SMALL.replace(steps=12, validate_every=6, optimizer={**SGD, "average": 0.9})


def with_one_of_huge_values() -> Dataset:
    """Return images of which not even a slow training bears the last one."""
    images = [blob(number) for number in range(6)]
    large = images[5].image.astype("float32") * 1e36
    images[5] = dataclasses.replace(images[5], image=large)
    readers = {"train": lambda: images, "validation": lambda: []}
    return Dataset("huge", "1", None, "instances", "", {}, readers)


def test_it_gives_up_after_three_returns_to_the_same_good_step(tmp_path, caplog):
    """Stopped and resumed as well: not to whichever checkpoint happened to be last."""
    # With this seed the image of huge values is the fourth.
    plan = FAST.replace(
        normalization="none", batch=1, steps=8, validate_every=2, seed=3
    )
    plan = plan.replace(optimizer={"learning_rate": 1e-9})
    given = with_one_of_huge_values()
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    with pytest.raises(InputError, match=r"halving the learning rate 3 times did not"):
        training.train(plan, given, whole)
    told = [each.getMessage() for each in caplog.records if "back to" in each.msg]
    assert len(told) == 3
    assert "back to step 2 with the learning rate halved (1 of 3)" in told[0]
    often = {"resume": True, "checkpoint_minutes": 1e-9}  # after each step
    for step in (1, 3):
        with pytest.raises(KeyboardInterrupt):
            training.train(plan, given, stopped, progress=Stop(step), **often)
        assert checkpoints.read_facts(stopped / "checkpoint.npz")["step"] == step
    with pytest.raises(InputError, match="did not help"):
        training.train(plan, given, stopped, **often)
    for folder in (whole, stopped):
        facts = checkpoints.read_facts(folder / "checkpoint.npz")
        assert facts["setbacks"] == [{"step": 4, "back_to": 2}] * 3
    good = [folder / "good.npz" for folder in (whole, stopped)]
    assert checkpoints.read_facts(good[0])["step"] == 2
    with np.load(good[0]) as one, np.load(good[1]) as other:
        for name in set(one.files) - {"facts"}:
            np.testing.assert_allclose(one[name], other[name], rtol=1e-6)
    assert segmenter.load(whole / "weights.h5").facts["validation"]["step"] == 2


def test_a_rate_that_is_too_high_is_halved_until_it_is_not(tmp_path):
    plan = FAST.replace(steps=6, optimizer={"learning_rate": 150.0})
    result = training.train(plan, data(held_out=0), tmp_path / "run")
    setbacks = result.facts["setbacks"]
    assert 1 <= len(setbacks) <= 3
    assert all(np.isfinite(row["loss"]) for row in history(tmp_path / "run"))
    path = tmp_path / "run" / "checkpoint.npz"
    with np.load(path) as archive:
        names = json.loads(archive["facts"].tobytes())["paths"]
        number = names.index("sgd/learning_rate")
        assert archive[f"{number:05d}"] == 150 * 0.5 ** len(setbacks)
    assert not (tmp_path / "run" / "good.npz").exists()


# === Extended ===

PLAN = SMALL.replace(steps=6, validate_every=4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Return the folder of a training of six steps, extended by four."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    training.train(PLAN, data(held_out=1), folder)
    training.train(PLAN, data(held_out=1), folder, extend=4)
    return folder


def test_extended_it_is_what_the_longer_recipe_gives(finished, tmp_path):
    longer = extending.extended(PLAN, 4)
    expected = training.train(longer, data(held_out=1), tmp_path / "run")
    found = segmenter.load(finished / "weights.h5")
    assert recipe.from_dict(found.facts["recipe"]) == longer
    assert found.facts["validation"]["step"] == expected.facts["validation"]["step"]
    pairs = zip(
        found.network.get_weights(), expected.network.get_weights(), strict=True
    )
    for one, other in pairs:
        np.testing.assert_allclose(one, other, atol=1e-6)
    rows, others = history(finished), history(tmp_path / "run")
    assert [row["step"] for row in rows] == [4, 6, 8, 10]
    for row, other in zip(rows, others, strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)


def test_an_extended_training_is_extended_again_or_resumed(finished, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        training.train(PLAN, data(held_out=1), finished, extend=4, progress=Stop(12))
    with pytest.raises(InputError, match=r"at step 12 of 14. Resume it first"):
        training.train(PLAN, data(held_out=1), finished, extend=4)
    training.train(PLAN, data(held_out=1), finished, resume=True)
    rows = history(finished)
    assert [row["step"] for row in rows] == [4, 6, 8, 10, 12, 14]
    with pytest.raises(InputError, match="There is no checkpoint"):
        training.train(PLAN, data(), tmp_path / "nothing", extend=4)


def test_equal_averages_of_an_extended_training_are_those_of_the_longer_one(tmp_path):
    plan = PLAN.replace(steps=8, validate_every=8, optimizer={"swa": 0.5})
    for extend in (None, 2):
        training.train(plan, data(), tmp_path / "short", extend=extend)
    training.train(extending.extended(plan, 2), data(), tmp_path / "long")
    with (
        np.load(tmp_path / "short" / "checkpoint.npz") as one,
        np.load(tmp_path / "long" / "checkpoint.npz") as other,
    ):
        paths = [json.loads(each["facts"].tobytes())["paths"] for each in (one, other)]
        assert paths[0] == paths[1]
        assert any(path.endswith("_average") for path in paths[0])
        for number, path in enumerate(paths[0]):
            name = f"{number:05d}"
            if not path.startswith("seed_generator"):
                np.testing.assert_allclose(one[name], other[name], atol=1e-6)


def test_a_training_that_patience_ended_is_not_extended(tmp_path):
    plan = PLAN.replace(
        steps=9, validate_every=1, patience=1, optimizer={"learning_rate": 1e-12}
    )
    training.train(plan, data(), tmp_path / "run")
    with pytest.raises(InputError, match=r"ended at step 2 of 9.*--from .*run"):
        training.train(plan, data(), tmp_path / "run", extend=4)
    # The way out that is named there.
    training.train(plan, data(), tmp_path / "on", start=tmp_path / "run")


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_the_rate_of_the_added_steps(schedule):
    plan = recipe.Recipe(
        steps=200, optimizer=recipe.Optimizer(schedule=schedule, warmup=10)
    )
    longer = extending.extended(plan, 100)
    optimizers = [
        training.make_optimizer(each.optimizer, each.steps) for each in (plan, longer)
    ]
    for step in (0, 5, 100, 199, 200, 250, 300):
        rates = []
        for optimizer in optimizers:
            optimizer.iterations.assign(step)
            rates.append(float(optimizer.learning_rate.numpy()))
        if step < 200 or schedule == "constant":
            assert rates[0] == pytest.approx(rates[1], abs=1e-9)
        else:
            left = (300 - step) / 100
            wave = 0.5 * (1 - np.cos(np.pi * left))
            highest = 0.25 * plan.optimizer.learning_rate
            assert rates[1] == pytest.approx(highest * wave, abs=1e-9)


# === Where nothing can be written ===

# In a mount namespace of its own, with a disk of eight megabytes.
FULL = """
import os, subprocess
from test_training import SMALL, data
from unet_zoo import checkpoints, training

plan = SMALL.replace(steps=8, validate_every=2)

def fill(now):
    if now.step == 4:
        with open("disk/rest", "wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass

def lock(now):
    if now.step == 6:
        subprocess.run(["mount", "-o", "remount,ro", "disk"], check=True)

def train(spoil):
    def progress(now):
        try:
            spoil(now)
        except OSError:
            pass
    try:
        training.train(
            plan, data(held_out=0), "disk/run", progress=progress, resume=True
        )
    except (training.InputError, OSError) as error:
        print(error)
    print(checkpoints.read_facts("disk/run/checkpoint.npz")["step"])
    print([name for name in os.listdir("disk/run") if ".part" in name])

train(fill)
os.unlink("disk/rest")
train(lock)
subprocess.run(["mount", "-o", "remount,rw", "disk"], check=True)
train(lambda now: None)
"""


@pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None,
    reason="only root may mount a small disk",
)
def test_a_full_disk_and_a_locked_one_leave_the_checkpoint_before(tmp_path):
    (tmp_path / "disk").mkdir()
    script = """
unshare -m true || exit 77
exec unshare -m sh -c 'mount -t tmpfs -o size=8m none disk || exit 77
exec "$0" -c "$1"' "$0" "$1"
"""
    here = Path(__file__).resolve().parent
    settings = os.environ | {"PYTHONPATH": f"{here}{os.pathsep}{here.parent}"}
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, FULL],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env=settings,
    )
    if done.returncode == 77:
        pytest.skip(f"cannot mount here: {done.stderr}")
    assert done.returncode == 0, done.stderr
    full, first, parts, locked, second, parts_too, last, none = done.stdout.splitlines()
    assert "No space left on device" in full
    assert "Read-only file system" in locked
    assert (first, second, last) == ("2", "4", "8")
    assert parts == parts_too == none == "[]"
