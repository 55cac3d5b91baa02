"""Rates run their course, waiting ends in time, and a stop between changes nothing."""

from __future__ import annotations

import json
import math

import keras
import numpy as np
import pytest
from test_training import SMALL, data, history

from unet_zoo import checkpoints, choices, recipe, schedules, training
from unet_zoo.errors import InputError


def rates(schedule: str, steps: int, **fields) -> np.ndarray:
    plan = recipe.Optimizer(schedule=schedule, learning_rate=0.1, **fields)
    rate = schedules.make_optimizer(plan, steps)._learning_rate
    if isinstance(rate, keras.Variable):
        return np.full(steps + 1, float(rate.numpy()))
    return np.array([float(rate(step)) for step in range(steps + 1)])


def test_each_rate_runs_its_course():
    step = np.arange(101)
    for name in ("constant", "plateau"):
        np.testing.assert_allclose(rates(name, 100), 0.1, rtol=1e-6)
    found = rates("polynomial", 100, warmup=20, power=0.9)
    falling = 0.1 * (1 - (step - 20).clip(0) / 80) ** 0.9
    np.testing.assert_allclose(found, np.minimum(0.1 * step / 20, falling), atol=1e-7)
    found = rates("polynomial", 100, warmup=0, power=1.0)
    np.testing.assert_allclose(found, 0.1 * (1 - step / 100), atol=1e-7)
    found = rates("one_cycle", 100)
    assert found.argmax() == 30
    assert found[[0, 30, 100]] == pytest.approx([0.004, 0.1, 4e-7], rel=1e-2)
    assert (np.diff(found[:31]) > 0).all()
    assert (np.diff(found[30:]) < 0).all()
    # Half way up and half way down lies half way between.
    assert found[15] == pytest.approx((0.004 + 0.1) / 2)
    assert found[65] == pytest.approx(0.05, rel=1e-4)
    found = rates("cosine", 100, warmup=10)
    assert found[[0, 5, 10, 100]] == pytest.approx([0, 0.05, 0.1, 0], abs=1e-8)


@pytest.mark.parametrize("name", ["polynomial", "one_cycle"])
def test_a_schedule_survives_keras_own_way_to_save_it(name):
    plan = recipe.Optimizer(schedule=name)
    schedule = schedules.make_optimizer(plan, 50)._learning_rate
    again = type(schedule)(**json.loads(json.dumps(schedule.get_config())))
    assert float(again(17)) == float(schedule(17))


# === Optimizers ===


def test_every_optimizer_of_keras_can_be_named():
    offered = {
        name.lower()
        for name, kind in vars(keras.optimizers).items()
        if isinstance(kind, type)
        and issubclass(kind, keras.optimizers.Optimizer)
        and kind is not keras.optimizers.Optimizer
    }
    # These two wrap others.
    assert offered - {"lossscaleoptimizer", "multioptimizer"} == set(
        choices.optimizers()
    )


@pytest.mark.parametrize("name", choices.optimizers())
def test_every_optimizer_trains(name):
    plan = recipe.Optimizer(name=name, learning_rate=0.05, schedule="constant")
    optimizer = schedules.make_optimizer(plan, 30)
    assert type(optimizer).__name__ == choices.optimizer_class(name)
    assert optimizer.global_clipnorm == plan.clip
    variable = keras.Variable(np.full((3, 2), 2.0, "float32"), name="weights")
    optimizer.build([variable])
    before = float(keras.ops.sum(variable**2))
    for _ in range(30):
        optimizer.apply([2.0 * variable])
    assert float(keras.ops.sum(variable**2)) < before


def test_the_plan_reaches_the_optimizers_that_it_is_for():
    plan = recipe.Optimizer(weight_decay=0.25, momentum=0.75, clip=0.0)
    for name in choices.optimizers():
        made = schedules.make_optimizer(
            recipe.Optimizer(**{**vars(plan), "name": name}), 10
        )
        decayed = name in {"adamw", "lamb", "lion", "muon", "schedulefreeadamw"}
        assert (made.weight_decay == 0.25) == decayed, name
        assert made.global_clipnorm is None
        has_one = name in {"sgd", "rmsprop", "muon"}
        assert (made.get_config().get("momentum") == 0.75) == has_one, name
        if name == "muon":
            assert made.adam_weight_decay == 0.25


def test_other_arguments_are_passed_on_or_refused():
    plan = recipe.Recipe().replace(
        optimizer={"name": "sgd"}, optimizer_arguments={"nesterov": True}
    )
    made = schedules.make_optimizer(plan.optimizer, 5, plan.optimizer_arguments)
    assert made.nesterov
    for arguments, message in (
        ({"nestrov": True}, "of the optimizer 'sgd' 'nestrov'. Did you mean 'nest"),
        ({"momentum": 0.5}, "The momentum stands in `optimizer.momentum`"),
        ({"use_ema": True}, "Unknown argument of the optimizer 'sgd' 'use_ema'"),
    ):
        with pytest.raises(InputError, match=message):
            plan.replace(optimizer_arguments=arguments)


# === Waiting ===


def test_a_plateau_lowers_the_rate_and_patience_ends():
    plan = recipe.Recipe().replace(
        patience=4, optimizer={"schedule": "plateau", "plateau": 2, "factor": 0.1}
    )
    optimizer = schedules.make_optimizer(plan.optimizer, 100)
    course = schedules.Course(plan, optimizer)
    seen = []
    for value in (0.5, 0.4, 0.6, 0.6, math.nan, 0.1, 0.2):
        assert not course.over
        course.add(value)
        seen.append(float(optimizer.learning_rate))
    assert course.over
    rate = plan.optimizer.learning_rate
    expected = [rate] * 4 + [rate / 10] * 2 + [rate / 100]
    np.testing.assert_allclose(seen, expected, rtol=1e-5)
    again = schedules.Course(plan, optimizer)
    again.restore(**json.loads(json.dumps(course.state, allow_nan=False)))
    assert again.over
    # Without patience there is always more to come.
    endless = schedules.Course(plan.replace(patience=0), optimizer)
    for _ in range(50):
        endless.add(0.0)
    assert not endless.over


class Stop:
    """Presses Ctrl-C after a step."""

    def __init__(self, after: int) -> None:
        self.after = after

    def __call__(self, progress: training.Progress) -> None:
        if progress.step == self.after:
            raise KeyboardInterrupt


# Nothing found is nothing better: a rate too small to learn by.
WAITING = SMALL.replace(
    steps=20,
    validate_every=2,
    patience=3,
    optimizer={
        "schedule": "plateau",
        "plateau": 1,
        "learning_rate": 1e-6,
        "average": 0.0,
    },
)


def test_waiting_ends_a_training_stopped_or_not(tmp_path):
    steps = []
    whole = training.train(
        WAITING,
        data(held_out=1),
        tmp_path / "whole",
        progress=lambda now: steps.append(now.step),
    )
    rows = history(tmp_path / "whole")
    # The first validation is the best; three bring nothing better.
    assert [row["step"] for row in rows] == [2, 4, 6, 8]
    assert steps == list(range(1, 9))
    stopped = tmp_path / "stopped"
    with pytest.raises(KeyboardInterrupt):
        training.train(WAITING, data(held_out=1), stopped, progress=Stop(5))
    facts = checkpoints.read_facts(stopped / "checkpoint.npz")
    assert facts["course"]["stopping"]["waited"] == 1
    result = training.train(WAITING, data(held_out=1), stopped, resume=True)
    assert [row["step"] for row in history(stopped)] == [2, 4, 6, 8]
    for found, right in zip(
        result.network.get_weights(), whole.network.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, right, atol=1e-7)
    # The rate is in the checkpoint, lowered as often as in the whole one.
    for folder in (stopped, tmp_path / "whole"):
        with np.load(folder / "checkpoint.npz") as archive:
            names = json.loads(archive["facts"].tobytes())["paths"]
            (place,) = [n for n, name in enumerate(names) if "learning_rate" in name]
            rate = archive[f"{place:05d}"]
        assert rate == pytest.approx(1e-6 / 8, rel=1e-5)
    # Resumed once more it has ended already.
    assert training.train(WAITING, data(held_out=1), stopped, resume=True)
    assert len(history(stopped)) == 4


def test_waiting_needs_something_to_wait_for(tmp_path):
    for plan in (
        SMALL.replace(patience=2),
        SMALL.replace(optimizer={"schedule": "plateau"}),
    ):
        with pytest.raises(InputError, match="needs validation images"):
            training.train(plan, data(held_out=0), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_checkpoint_of_before_these_fields_goes_on(tmp_path):
    plan = SMALL.replace(steps=4, validate_every=2)
    with pytest.raises(KeyboardInterrupt):
        training.train(plan, data(held_out=1), tmp_path / "run", progress=Stop(3))
    path = tmp_path / "run" / "checkpoint.npz"
    with np.load(path) as archive:
        arrays = dict(archive)
    facts = json.loads(arrays["facts"].tobytes())
    del facts["course"]
    for name in ("loss", "loss_arguments", "patience", "optimizer_arguments"):
        del facts["of"]["recipe"][name]
    for name in ("power", "plateau", "factor"):
        del facts["of"]["recipe"]["optimizer"][name]
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    np.savez(path, **arrays)
    training.train(plan, data(held_out=1), tmp_path / "run", resume=True)
    assert [row["step"] for row in history(tmp_path / "run")] == [2, 4]
