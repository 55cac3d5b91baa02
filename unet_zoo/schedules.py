"""Optimizers as recipes name them, the course of their rate, and when to stop."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
from keras import ops

from unet_zoo import choices, muon
from unet_zoo.errors import InputError
from unet_zoo.recipe import Optimizer, Recipe

_SHARE = 0.25  # of the highest rate, that a restart begins with
# Those whose papers have weight decay beside the gradient; keras would add it to all.
_DECAYING = ("adamw", "lamb", "lion", "muon", "schedulefreeadamw")


def make_optimizer(
    plan: Optimizer, steps: int, arguments: Mapping[str, Any] | None = None
) -> keras.optimizers.Optimizer:
    """Return the Keras optimizer of a recipe that runs for `steps` steps.

    "muon" is `muon.Muon`, since Keras' own leaves convolutions to AdamW.

    Args:
        plan: the recipe's section; its `weight_decay` goes to adamw, lamb, lion, muon
            and schedulefreeadamw, its `momentum` to those that take one.
        steps: of the whole training.
        arguments: the recipe's `optimizer_arguments`.

    Raises:
        InputError: for an unknown optimizer or argument.

    >>> make_optimizer(Optimizer(name="lion"), 100).get_config()["weight_decay"]
    0.001
    """
    given = dict(arguments or {})
    choices.check_optimizer(plan.name, given)
    own = choices.optimizer_arguments(plan.name)
    shared: dict[str, Any] = {"learning_rate": _rate(plan, steps)}
    if plan.clip:
        shared["global_clipnorm"] = plan.clip
    if plan.name in _DECAYING:
        shared["weight_decay"] = plan.weight_decay
    if "momentum" in own:
        shared["momentum"] = plan.momentum
    if plan.name == "muon":
        return muon.Muon(**shared | {"adam_weight_decay": plan.weight_decay} | given)
    made = getattr(keras.optimizers, choices.optimizer_class(plan.name))
    return made(**shared | given)


def _rate(plan: Optimizer, steps: int) -> Any:
    """Return the learning rate, or its schedule."""
    restarts = plan.restarts
    if not restarts:
        return _first(plan, steps)
    if restarts[-1] >= steps:
        message = (
            f"`optimizer.restarts` must lie before the last step, {steps}. "
            f"Received: {list(restarts)}"
        )
        raise InputError(message)
    first = _first(plan, restarts[0])
    if isinstance(first, float):
        return first
    return Restarted(first, plan.learning_rate, restarts, steps)


def _first(plan: Optimizer, steps: int) -> Any:
    """Return the learning rate, or its schedule until it is restarted."""
    rate, warmup = plan.learning_rate, min(plan.warmup, steps // 2)
    if plan.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            0.0 if warmup else rate,
            max(1, steps - warmup),
            warmup_target=rate if warmup else None,
            warmup_steps=warmup,
        )
    if plan.schedule == "polynomial":
        return Polynomial(rate, steps, warmup, plan.power)
    if plan.schedule == "one_cycle":
        return OneCycle(rate, steps)
    return rate


class Polynomial(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that falls to zero as (1 - step / steps)^power, after a linear warm-up.

    Args:
        rate: the highest.
        steps: of the whole training.
        warmup: of these, steps that it takes to rise from 0.
        power: 1 is a straight line; 0.9 is what DeepLab and nnU-Net take.

    Paper: Chen et al. 2016, https://arxiv.org/abs/1606.00915, section 4.1.

    >>> schedule = Polynomial(1.0, 10, warmup=2, power=2.0)
    >>> [round(float(schedule(step)), 2) for step in (0, 1, 2, 6, 10)]
    [0.0, 0.5, 1.0, 0.25, 0.0]
    """

    def __init__(self, rate: float, steps: int, warmup: int, power: float) -> None:
        super().__init__()
        self.rate, self.steps, self.warmup, self.power = rate, steps, warmup, power

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        left = (self.steps - step) / max(1, self.steps - self.warmup)
        falling = self.rate * ops.power(ops.clip(left, 0.0, 1.0), self.power)
        if not self.warmup:
            return falling
        return ops.minimum(falling, self.rate / self.warmup * step)

    def get_config(self) -> dict[str, Any]:
        names = ("rate", "steps", "warmup", "power")
        return {name: getattr(self, name) for name in names}


class OneCycle(keras.optimizers.schedules.LearningRateSchedule):
    """A rate that rises for 30 % of the steps and falls far below where it began.

    From rate / 25 up and down to rate / 250,000, each along half a cosine. Of the
    paper's cycle this is the rate's part: the momentum stays.

    Args:
        rate: the highest.
        steps: of the whole training.

    Paper: Smith and Topin 2017, https://arxiv.org/abs/1708.07120.

    >>> schedule = OneCycle(1.0, 10)
    >>> [round(float(schedule(step)), 2) for step in (0, 3, 10)]
    [0.04, 1.0, 0.0]
    """

    def __init__(self, rate: float, steps: int) -> None:
        super().__init__()
        self.rate, self.steps = rate, steps

    def __call__(self, step: Any) -> Any:
        step = ops.cast(step, "float32")
        top = 0.3 * self.steps

        def between(start: float, end: float, part: Any) -> Any:
            way = 0.5 - 0.5 * ops.cos(math.pi * ops.clip(part, 0.0, 1.0))
            return self.rate * (start + (end - start) * way)

        rising = between(1 / 25, 1.0, step / top)
        falling = between(1.0, 4e-6, (step - top) / (self.steps - top))
        return ops.where(step < top, rising, falling)

    def get_config(self) -> dict[str, Any]:
        return {"rate": self.rate, "steps": self.steps}


class Restarted(keras.optimizers.schedules.LearningRateSchedule):
    """A schedule that falls anew from each restart on, along a cosine to zero.

    Args:
        first: the schedule until the first restart.
        rate: highest learning rate; each restart begins at a quarter of it.
        restarts: rising steps.
        steps: of the whole training.

    Example:
        >>> schedule = Restarted(lambda step: step * 0.0, 1.0, [10], 20)
        >>> [round(float(schedule(step)), 3) for step in (9, 10, 15, 20)]
        [0.0, 0.25, 0.125, 0.0]

    Reference:
        Loshchilov, Hutter: SGDR: Stochastic Gradient Descent with Warm Restarts, 2017,
        https://arxiv.org/abs/1608.03983
    """

    def __init__(
        self, first: Any, rate: float, restarts: Sequence[int], steps: int
    ) -> None:
        self.first, self.rate = first, rate
        self.restarts, self.steps = list(restarts), steps

    def __call__(self, step: Any) -> Any:
        value = self.first(step)
        at = ops.cast(step, "float32")
        ends = [*self.restarts[1:], self.steps]
        for start, end in zip(self.restarts, ends, strict=True):
            done = ops.clip((at - start) / max(1, end - start), 0.0, 1.0)
            fallen = _SHARE * self.rate * 0.5 * (1.0 + ops.cos(math.pi * done))
            value = ops.where(at >= start, fallen, value)
        return value

    def get_config(self) -> dict[str, Any]:
        return {
            "first": self.first,
            "rate": self.rate,
            "restarts": self.restarts,
            "steps": self.steps,
        }


class Patience:
    """Counts the validations since the best one.

    Args:
        limit: so many without a better value are enough; 0: they never are.

    >>> patience = Patience(2)
    >>> for value in (0.5, 0.6, 0.6, 0.1):
    ...     patience.add(value)
    >>> patience.over, patience.state
    (True, {'best': 0.6, 'waited': 2})
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.best: float | None = None
        self.waited = 0

    def add(self, value: float) -> None:
        """Take note of a validation; NaN is not better than anything."""
        if value > (-math.inf if self.best is None else self.best):
            self.best, self.waited = value, 0
        else:
            self.waited += 1

    @property
    def over(self) -> bool:
        return bool(self.limit) and self.waited >= self.limit

    @property
    def state(self) -> dict[str, Any]:
        return {"best": self.best, "waited": self.waited}

    def restore(self, best: float | None, waited: int) -> None:
        """Go on counting where another stopped."""
        self.best, self.waited = best, waited


class Course:
    """What validations decide in a training: a lower rate, and its end.

    Args:
        recipe: its `patience` and its optimizer's schedule "plateau".
        optimizer: whose rate a plateau lowers. The rate is one of its variables.
    """

    def __init__(self, recipe: Recipe, optimizer: keras.optimizers.Optimizer) -> None:
        plan = recipe.optimizer
        self.optimizer, self.factor = optimizer, plan.factor
        self.stopping = Patience(recipe.patience)
        self.plateau = Patience(plan.plateau if plan.schedule == "plateau" else 0)

    def add(self, value: float) -> None:
        """Take note of a validation, and lower the rate after too many in vain."""
        self.stopping.add(value)
        self.plateau.add(value)
        if self.plateau.over:
            rate = float(self.optimizer.learning_rate.numpy())
            self.optimizer.learning_rate = self.factor * rate
            self.plateau.waited = 0

    @property
    def over(self) -> bool:
        """Return whether the training has waited long enough for better weights."""
        return self.stopping.over

    @property
    def state(self) -> dict[str, Any]:
        """Return what `restore` takes, as plain values."""
        return {"stopping": self.stopping.state, "plateau": self.plateau.state}

    def restore(self, stopping: dict[str, Any], plateau: dict[str, Any]) -> None:
        """Go on where another stopped; the rate comes with the optimizer."""
        self.stopping.restore(**stopping)
        self.plateau.restore(**plateau)


def check_validation(recipe: Recipe, validated: bool) -> None:
    """Refuse a recipe that waits for validations where there are no images for them."""
    asks = {
        "patience": bool(recipe.patience),
        "optimizer.schedule = 'plateau'": recipe.optimizer.schedule == "plateau",
    }
    for name, asked in asks.items():
        if asked and not validated:
            message = (
                f"`{name}` needs validation images, and the dataset has none. Hold "
                "some of the training images back, or leave it out."
            )
            raise InputError(message)


def equal_from(recipe: Recipe) -> tuple[tuple[int, int], ...]:
    """Return when weights are averaged equally: of each part, its start and from when.

    A training that was extended has several parts, and the share is one of each.

    >>> equal_from(Recipe(steps=200, optimizer=Optimizer(swa=0.25)))
    ((0, 150),)
    >>> equal_from(Recipe(steps=300, optimizer=Optimizer(swa=0.25, restarts=(200,))))
    ((0, 150), (200, 275))
    """
    share = recipe.optimizer.swa
    stops = (0, *recipe.optimizer.restarts, recipe.steps)
    return tuple(
        (start, start + round((1.0 - share) * (end - start)))
        for start, end in itertools.pairwise(stops)
        if share
    )
