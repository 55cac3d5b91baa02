"""The automatic recipe: what to train with in a given time, planned and measured."""

from __future__ import annotations

import dataclasses
import itertools
import math
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from unet_zoo import (
    catalog,
    devices,
    learner,
    pipeline,
    registry,
    segmenter,
    targets,
    training,
)
from unet_zoo.checking import advice, looks
from unet_zoo.errors import InputError
from unet_zoo.recipe import Recipe

ENOUGH = 2000  # steps of the default recipe: with more, a wider network pays
FEW = 800  # below, smaller steps and more of them teach more
WIDTHS = (8, 64)  # filters of the first level, at least and at most
_LOOKED = 40  # images that the fingerprint rests on
_TRIED = 3  # networks that are measured
_TRIAL = 0.03  # of the time, for the steps of one of them
_PLANNING = 0.2  # of the time, at most, for all of them
_SURE = 0.92  # of the time is planned; machines are not always as fast
_VALIDATING = 0.12  # of the time
_VALIDATIONS = (2, 20)
_CLOSING = 3.0  # seconds to write everything
_LEAVING = 5.0  # seconds of a process before and after all that it can time
_MEMORY = 0.8  # of the device's


@dataclasses.dataclass(frozen=True)
class Speed:
    """What was measured, in seconds."""

    step: float
    first: float  # the first step, which waits for a compiler
    image: float  # one image segmented once
    decode: float  # of that, from prediction to labels


@dataclasses.dataclass(frozen=True)
class Plan:
    """A recipe, why it is this one, and how long it takes.

    Attributes:
        recipe: complete.
        reasons: by field of the recipe, dotted.
        parts: seconds for "preparing", "steps", "validations" and "end".
        spent: seconds that planning took.
        reserve: seconds that are needed after the last step.
        speed: what was measured.
    """

    recipe: Recipe
    reasons: Mapping[str, str]
    parts: Mapping[str, float]
    spent: float
    reserve: float
    speed: Speed

    @property
    def seconds(self) -> float:
        """Return how long the training is expected to take from now on."""
        return sum(self.parts.values())

    def value(self, field: str) -> Any:
        """Return the recipe's value of a field in `reasons`.

        >>> speed = Speed(1.0, 1.0, 1.0, 1.0)
        >>> Plan(Recipe(), {}, {}, 0.0, 0.0, speed).value("optimizer.warmup")
        100
        """
        found: Any = self.recipe
        for name in field.split("."):
            found = found[name] if isinstance(found, Mapping) else getattr(found, name)
        return found


def plan(
    recipe: Recipe,
    dataset: catalog.Dataset,
    seconds: float,
    *,
    fixed: Collection[str] = (),
    said: Callable[[str], None] | None = None,
    hours: float | None = None,
) -> Plan:
    """Plan a training that is done within `seconds`, this planning included.

    1. Images are looked at: sizes, diameters of objects, what is touching. Target,
       scale, depth, patch and batch are what `unet-zoo check` suggests for them.
    2. Patch and batch shrink until the network fits into the memory of the device.
    3. A few real steps and one prediction are timed. While all of this takes less than
       a fifth of the time, others are tried: where there is time for more than twice
       2000 steps (those of the default recipe), a network with twice the filters; where
       there is time for fewer than 800, half the batch, then half the filters.
    4. The steps are as many as fit in 92 % of what is left after preparing images,
       validations (12 % at most), tuning and writing.

    Args:
        recipe: to begin with; it decides on everything that is not planned.
        dataset: to train on. Its test split is not touched.
        seconds: until everything is to be written.
        fixed: fields that must stay as they are: "target", "scale", "patch", "batch",
            "depth", "filters", "foreground_crops", "validate_every", "tta".
        said: called with a line on what is done now.
        hours: what was asked for, of which `seconds` are left for this training; None:
            just these. Where they are too few, the advice is in such hours.

    Raises:
        InputError: when the time is too short for preparing and two validations.

    Example:
        >>> from unet_zoo import catalog, planning, recipe
        >>> data = catalog.open_dataset("blobs")  # doctest: +SKIP
        >>> made = planning.plan(recipe.named("default"), data, 600)  # doctest: +SKIP
        >>> made.recipe.steps, made.seconds  # doctest: +SKIP
    """
    started = time.monotonic()
    tell = said or (lambda line: None)
    taught = dataset.sequence("train")
    if not taught:
        message = f"The dataset {dataset.name!r} has no training images."
        raise InputError(message)
    tell(f"Looking at {min(len(taught), _LOOKED)} of {len(taught)} training images")
    some = list(_spread(taught, _LOOKED))
    recipe, reasons = _advised(recipe, dataset, some, fixed)
    recipe = _fitting(recipe, some[0].image.shape[-1], fixed, reasons)
    held_out = len(dataset.sequence("validation"))

    begin = time.monotonic()
    target = targets.get(recipe.target, **recipe.target_arguments)
    few = some[:4]
    stacks = pipeline.prepare(few, recipe, target)
    encoding = (time.monotonic() - begin) / len(few) * len(taught)

    def measured(tried: Recipe) -> Speed:
        width = tried.model_arguments.get("filters")
        tell(
            f"Timing steps of {tried.batch} patches of {tried.patch} pixels"
            + (f", {width} filters" if width else "")
        )
        return _measure(tried, target, stacks, few[0], _TRIAL * seconds)

    def left() -> float:
        return _SURE * (seconds - (time.monotonic() - started)) - encoding - _CLOSING

    with stacks:
        speed = measured(recipe)
        for _ in range(_TRIED - 1):
            other = _other(recipe, _steps(left(), recipe, speed, held_out)[0], fixed)
            if other is None or _too_large(other, few[0].image.shape[-1]):
                break
            spent = time.monotonic() - started
            if spent + 2 * speed.first + _TRIAL * seconds > _PLANNING * seconds:
                break
            tried = measured(other)
            steps = _steps(left(), other, tried, held_out)[0]
            wider = _width(other) > _width(recipe)
            if wider and steps < ENOUGH:
                break
            reasons |= _why(recipe, other, steps)
            recipe, speed = other, tried
    return _finished(
        recipe,
        reasons,
        speed,
        held_out,
        left(),
        encoding,
        started,
        fixed,
        1 / 3600 if hours is None else hours / seconds,
    )


# === From images to a recipe ===


def _spread(
    examples: Sequence[catalog.Example], most: int
) -> itertools.islice[catalog.Example]:
    """Return at most `most` examples, evenly spread; each is read once."""
    return itertools.islice(examples, 0, None, -(-len(examples) // most))


def _advised(
    recipe: Recipe,
    dataset: catalog.Dataset,
    examples: Sequence[catalog.Example],
    fixed: Collection[str],
) -> tuple[Recipe, dict[str, str]]:
    seen = [
        looks.look(looks.frame_of(each, "train"), register=False) for each in examples
    ]
    found = advice.suggest(seen, dataset.kind, dataset.name)
    if found is None:  # there is at least one image
        return recipe, {}
    changes: dict[str, Any] = {}
    reasons = {}
    for name, value in found.options.items():
        field, key = name.partition(".")[::2]
        if field in fixed or (field == "target_arguments" and "target" in fixed):
            continue
        at = name
        if field == "depth":
            if value >= _argument(recipe, "depth", value):
                continue
            at = "model_arguments.depth"
            changes["model_arguments"] = {**recipe.model_arguments, "depth": value}
        elif key:
            changes[field] = {**getattr(recipe, field), key: value}
        else:
            changes[field] = value
        reasons[at] = found.reasons[name]
    return recipe.replace(**changes), reasons


def _argument(recipe: Recipe, name: str, default: int) -> int:
    """Return an argument of the model, `default` where it has none of that name."""
    if name in recipe.model_arguments:
        return int(recipe.model_arguments[name])
    return int(registry.arguments(recipe.model).get(name, default))


def _width(recipe: Recipe) -> int:
    """Return the filters of the first level, 0 where a model has no such argument."""
    if "filters" not in registry.arguments(recipe.model):
        return 0
    try:
        return _argument(recipe, "filters", 0)
    except (TypeError, ValueError):  # several numbers
        return 0


def _fitting(
    recipe: Recipe, channels: int, fixed: Collection[str], reasons: dict[str, str]
) -> Recipe:
    """Return the recipe with a patch that the model takes and the memory holds."""
    network = _network(recipe, channels)
    side = int(network.input_shape[1])
    if side != recipe.patch and "patch" not in fixed:
        recipe = recipe.replace(patch=side)
        reasons["patch"] = "the next size that this model takes"
    while _too_large(recipe, channels):
        if recipe.batch > 1 and "batch" not in fixed:
            recipe = recipe.replace(batch=recipe.batch // 2)
            reasons["batch"] = "as many as the memory of the device holds"
        elif recipe.patch >= 64 and "patch" not in fixed:
            half = recipe.replace(patch=recipe.patch // 2)
            recipe = half.replace(patch=int(_network(half, channels).input_shape[1]))
            reasons["patch"] = "as large as the memory of the device allows"
        else:
            break  # estimated; who fixed these fields may know better
    return recipe


def _network(recipe: Recipe, channels: int) -> keras.Model:
    target = targets.get(recipe.target, **recipe.target_arguments)
    return registry.build_near(
        recipe.model,
        (recipe.patch, recipe.patch),
        channels=channels,
        classes=target.channels,
        **recipe.model_arguments,
    )


def _too_large(recipe: Recipe, channels: int) -> bool:
    """Return whether a step of the recipe would not fit into the device's memory."""
    memory = devices.gpu_memory() or 2 * pipeline.default_memory()
    network = _network(recipe, channels)
    kept = 0
    for layer in network.layers:
        for each in keras.tree.flatten(layer.output):
            kept += math.prod(size or 1 for size in each.shape[1:])
    size = 2 if recipe.precision.startswith("mixed") else 4
    # What each layer gave, and the gradient with respect to it; weights, gradient,
    # average and two moments of the optimizer.
    needed = 2 * recipe.batch * kept * size + 5 * 4 * network.count_params()
    return needed > _MEMORY * memory


# === Measuring ===


class _Clock(keras.callbacks.Callback):
    """Notes how long each step took, and ends when that is known well enough."""

    def __init__(self, limit: float) -> None:
        super().__init__()
        self.limit, self.took = limit, [0.0]

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        if batch == 0:
            self._last = time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # A number that is read: JAX and a GPU may still be at work otherwise.
        float(logs["loss"])
        now = time.monotonic()
        self.took.append(now - self._last)
        self._last = now
        if len(self.took) > 4 and sum(self.took[2:]) > self.limit:
            self.model.stop_training = True


def _measure(
    recipe: Recipe,
    target: targets.Target,
    stacks: pipeline.Stacks,
    example: catalog.Example,
    limit: float,
) -> Speed:
    """Time real steps, and one prediction, of a network that is then thrown away."""
    channels = example.image.shape[-1]
    keras.utils.set_random_seed(recipe.seed)
    with devices.precision(recipe.precision):
        network = registry.build(
            recipe.model,
            input_shape=(None, None, channels),
            classes=target.channels,
            **recipe.model_arguments,
        )
    teaching = learner.of_recipe(recipe, network, target, channels)
    optimizer = training.make_optimizer(
        recipe.optimizer, recipe.steps, recipe.optimizer_arguments
    )
    teaching.compile(
        devices.scaled(optimizer, recipe.precision),
        jit_compile=devices.compile_xla(),
    )
    clock = _Clock(limit)
    most = 30
    begin = time.monotonic()
    teaching.fit(
        pipeline.batches(stacks, recipe.replace(steps=most)),
        steps_per_epoch=most,
        callbacks=[clock],
        shuffle=False,
        verbose=0,
    )
    steps = clock.took[2:]
    first = max(0.0, time.monotonic() - begin - sum(steps))
    facts = segmenter.describe(
        recipe.model,
        recipe.model_arguments,
        channels=channels,
        target=recipe.target,
        target_arguments=target.arguments,
        normalization=recipe.normalization,
        scale=recipe.scale or 1.0,
    )
    judge = segmenter.Segmenter(network, facts)
    judge.predict(example.image)  # compiles
    begin = time.monotonic()
    prediction = judge.predict(example.image)
    image = time.monotonic() - begin
    judge.decode(prediction)
    decode = time.monotonic() - begin - image
    # The mean, not the median: a training waits for its slow steps as well.
    return Speed(float(np.mean(steps)), first, image, decode)


# === Deciding ===


def _closing(recipe: Recipe, speed: Speed, held_out: int) -> float:
    """Return the seconds that tuning and writing take at the end."""
    target = targets.get(recipe.target, **recipe.target_arguments)
    decoded = 2 + sum(map(len, target.tunable.values()))
    return _CLOSING + held_out * (recipe.tta * speed.image + decoded * speed.decode)


def _validation(speed: Speed, held_out: int) -> float:
    """Return the seconds of a validation, with its checkpoint and report."""
    return 0.5 + held_out * (speed.image + speed.decode + 0.05)


def _steps(left: float, recipe: Recipe, speed: Speed, held_out: int) -> tuple[int, int]:
    """Return how many steps and how many validations fit in `left` seconds."""
    left -= speed.first + _closing(recipe, speed, held_out)
    one = _validation(speed, held_out)
    low, high = _VALIDATIONS
    count = int(np.clip(_VALIDATING * left / one, low, high))
    return int((left - count * one) / speed.step), count


def _other(recipe: Recipe, steps: int, fixed: Collection[str]) -> Recipe | None:
    """Return what is worth a try where `steps` fit; None: nothing is."""
    width = _width(recipe)
    free = width and "filters" not in fixed
    changed = dict(recipe.model_arguments)
    if steps >= 2 * ENOUGH and free and width < WIDTHS[1]:
        return recipe.replace(model_arguments={**changed, "filters": 2 * width})
    if steps < FEW and recipe.batch > 2 and "batch" not in fixed:
        return recipe.replace(batch=recipe.batch // 2)
    if steps < FEW // 2 and free and width > WIDTHS[0]:
        return recipe.replace(model_arguments={**changed, "filters": width // 2})
    return None


def _why(before: Recipe, after: Recipe, steps: int) -> dict[str, str]:
    if after.batch != before.batch:
        return {"batch": f"smaller steps, so that there is time for {steps} of them"}
    if _width(after) > _width(before):
        return {"model_arguments.filters": f"there is time for {steps} steps of it"}
    return {"model_arguments.filters": f"a wider one would not reach {FEW // 2} steps"}


def _finished(
    recipe: Recipe,
    reasons: dict[str, str],
    speed: Speed,
    held_out: int,
    left: float,
    encoding: float,
    started: float,
    fixed: Collection[str],
    hours_a_second: float = 1 / 3600,  # to be asked for, of those needed here
) -> Plan:
    steps, validations = _steps(left, recipe, speed, held_out)
    if "tta" not in fixed and recipe.tta > 1:
        # Turning is worth less than steps where time is short.
        end = _closing(recipe, speed, held_out)
        if end > 0.15 * left:
            recipe = recipe.replace(tta=1)
            reasons["tta"] = "turned copies would take too much of the time"
            steps, validations = _steps(left, recipe, speed, held_out)
    if steps < 10:
        needed = max(
            10 * speed.step + _VALIDATIONS[0] * _validation(speed, held_out),
            10 * speed.step / (1 - _VALIDATING),
        )
        needed += speed.first + _closing(recipe, speed, held_out) + encoding + _CLOSING
        needed = needed / _SURE + time.monotonic() - started
        message = (
            f"The time is too short: with preparing, tuning and writing, 10 steps take "
            f"{needed:.0f} s. Give more, such as "
            f"--hours {math.ceil(200 * hours_a_second * needed) / 200:g}."
        )
        raise InputError(message)
    every = max(1, steps // validations)
    if "validate_every" in fixed:
        every = recipe.validate_every
        one = _validation(speed, held_out)
        steps = max(
            1,
            int((steps * speed.step + validations * one) / (speed.step + one / every)),
        )
        validations = -(-steps // every)
    else:
        reasons["validate_every"] = (
            f"{validations} validations, a small part of the time"
        )
    reasons["steps"] = f"{1 / speed.step:.2g} steps a second were measured"
    warmup = min(recipe.optimizer.warmup, max(1, steps // 10))
    if warmup != recipe.optimizer.warmup and "warmup" not in fixed:
        reasons["optimizer.warmup"] = "a tenth of the steps"
        recipe = recipe.replace(optimizer={"warmup": warmup})
    recipe = recipe.replace(steps=steps, validate_every=every)
    end = _closing(recipe, speed, held_out)
    one = _validation(speed, held_out)
    parts = {
        "preparing": encoding + speed.first,
        "steps": steps * speed.step,
        "validations": validations * one,
        "end": end,
    }
    spent = time.monotonic() - started
    return Plan(recipe, reasons, parts, spent, 1.5 * end + one + _LEAVING, speed)
