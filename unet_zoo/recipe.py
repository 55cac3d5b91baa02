"""Recipes: everything about one training, as plain values."""

from __future__ import annotations

import dataclasses
import math
import operator
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from unet_zoo import choices, registry
from unet_zoo.errors import InputError, unknown
from unet_zoo.policies import Augmentation

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


@dataclass(frozen=True)
class Optimizer:
    """The optimizer, by its Keras name, and the course of its learning rate."""

    name: str = "muon"
    """Any of `keras.optimizers`, in small letters, such as "adamw", "sgd" or "lion";
    "muon" is `unet_zoo.muon.Muon`, which is for convolutions too."""
    learning_rate: float = 5e-3
    """Highest learning rate."""
    schedule: str = "cosine"
    """"cosine" or "polynomial" (to zero, after a linear warm-up), "one_cycle" (up for
    30 % of the steps, then to nearly zero), "plateau" (lower whenever validations bring
    nothing better) or "constant"."""
    warmup: int = 100
    """Steps of linear warm-up of "cosine" and "polynomial"."""
    power: float = 0.9
    """Power of "polynomial"; 1 is a straight line."""
    plateau: int = 5
    """Validations without a better value after which "plateau" lowers the rate."""
    factor: float = 0.5
    """What "plateau" multiplies the rate by."""
    weight_decay: float = 1e-3
    """Weight decay of "adamw", "lamb", "lion", "muon" and "schedulefreeadamw"."""
    momentum: float = 0.95
    """Momentum of those that have one: "sgd", "rmsprop", "muon"."""
    average: float = 0.995
    """Momentum of the moving average of the weights; 0 for none."""
    swa: float = 0.0
    """Share of the training, at its end, over which weights are averaged equally (SWA),
    in place of the moving average; 0 for none."""
    clip: float = 1.0
    """Largest global norm of the gradient; 0 for no limit."""
    restarts: tuple[int, ...] = ()
    """Steps from which a schedule that falls does so anew, from a quarter of the rate:
    where a finished training was extended."""


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training gives, dataset aside.

    Args:
        model: name in the registry.
        model_arguments: arguments of that model other than `input_shape`
            and `classes`, which the data and the target decide.
        target: "semantic", "border" or "distance".
        target_arguments: arguments of that target.
        loss: how far a prediction is from the target: "cross_entropy", "focal",
            "dice", "dice_cross_entropy", "tversky", "focal_tversky", "lovasz",
            "boundary" or "cldice" (see `unet_zoo.losses`).
        loss_arguments: arguments of that loss.
        scale: size of the image that the network sees, relative to the
            original; results always come back at the original size. None:
            chosen from the size of the objects when training begins.
        pixel_size: of the training's images, in micrometres: other images can then be
            brought to it. None: what the dataset says, if it does.
        normalization: how grey values are made comparable
            (see `unet_zoo.images.normalize`).
        patch: height and width of a training patch in pixels of the scaled
            image; "valid" networks predict a smaller part of it.
        batch: patches a step, over all devices.
        foreground_crops: share of the patches that are brought to an object,
            centred within it as far as the image reaches: all objects of the
            training equally likely, or all classes where labels are classes.
            For large images of few objects, and for rare classes.
        class_balance: of the target "semantic", how much the loss makes up
            for rare classes, in [0, 1]: 0 not at all, 1 until every class
            weighs the same (see `unet_zoo.pipeline.class_weights`).
        steps: number of steps.
        validate_every: steps between two validations.
        patience: end the training after so many validations without a better
            value; 0: never.
        precision: "float32", "mixed_bfloat16", or "mixed_float16", which scales the
            loss so that small gradients do not vanish.
        tta: flips and rotations averaged in prediction: 1, 4, 7 or 8.
        seed: the one seed of every random choice.
        optimizer_arguments: other arguments of the optimizer, as keras names
            them, such as `beta_2`.
        freeze: levels of the encoder, from the image on, that keep the weights that a
            training starts from: a number, or "encoder" for all with the bottom (see
            `unet_zoo.starting.freeze`).

    Example:
        >>> Recipe().replace(steps=10, optimizer={"learning_rate": 1e-3}).steps
        10
    """

    model: str = "unet"
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    target: str = "distance"
    target_arguments: Mapping[str, Any] = field(default_factory=dict)
    loss: str = "cross_entropy"
    loss_arguments: Mapping[str, Any] = field(default_factory=dict)
    scale: float | None = None
    pixel_size: float | None = None
    normalization: str = "zscore"
    patch: int = 256
    batch: int = 4
    foreground_crops: float = 0.0
    class_balance: float = 0.0
    steps: int = 2000
    validate_every: int = 100
    patience: int = 0
    precision: str = "float32"
    tta: int = 8
    seed: int = 0
    optimizer_arguments: Mapping[str, Any] = field(default_factory=dict)
    freeze: int | str = 0
    augmentation: Augmentation = field(default_factory=Augmentation)
    optimizer: Optimizer = field(default_factory=Optimizer)

    def __post_init__(self) -> None:
        plan = self.optimizer
        choices.loss_arguments(self.loss, self.loss_arguments)
        choices.check_optimizer(plan.name, self.optimizer_arguments)
        for kind, word, options in (
            ("target", self.target, ("semantic", "border", "distance")),
            ("precision", self.precision, _PRECISIONS),
            ("optimizer.schedule", plan.schedule, choices.SCHEDULES),
        ):
            if word not in options:
                raise unknown(kind, str(word), options)
        if isinstance(self.freeze, str) and self.freeze != "encoder":
            raise unknown(kind="freeze", word=self.freeze, options=("encoder",))
        rising = sorted({each for each in plan.restarts if each > 0})
        for name, good, wanted in (
            ("patch", self.patch >= 1, "be at least 1"),
            ("batch", self.batch >= 1, "be at least 1"),
            ("steps", self.steps >= 1, "be at least 1"),
            ("validate_every", self.validate_every >= 1, "be at least 1"),
            ("patience", self.patience >= 0, "be at least 0"),
            ("tta", self.tta in (1, 4, 7, 8), "be 1, 4, 7 or 8"),
            ("seed", 0 <= self.seed < 2**32, "lie in 0..4294967295"),
            ("foreground_crops", 0 <= self.foreground_crops <= 1, "lie in [0, 1]"),
            ("class_balance", 0 <= self.class_balance <= 1, "lie in [0, 1]"),
            ("scale", self.scale is None or 0 < self.scale <= 8, "lie in (0, 8]"),
            (
                "pixel_size",
                self.pixel_size is None or 0 < self.pixel_size < math.inf,
                "be micrometres, above 0",
            ),
            (
                "freeze",
                self.freeze == "encoder" or int(self.freeze) >= 0,
                'be a number of levels, or "encoder"',
            ),
            ("optimizer.learning_rate", plan.learning_rate > 0, "be positive"),
            ("optimizer.warmup", plan.warmup >= 0, "be at least 0"),
            ("optimizer.power", plan.power > 0, "be positive"),
            ("optimizer.plateau", plan.plateau >= 1, "be at least 1"),
            ("optimizer.factor", 0 < plan.factor < 1, "be in (0, 1)"),
            ("optimizer.weight_decay", plan.weight_decay >= 0, "be at least 0"),
            ("optimizer.momentum", 0 <= plan.momentum < 1, "be in [0, 1)"),
            ("optimizer.average", 0 <= plan.average < 1, "be in [0, 1)"),
            ("optimizer.swa", 0 <= plan.swa <= 1, "be in [0, 1]"),
            ("optimizer.clip", plan.clip >= 0, "be at least 0"),
            (
                "optimizer.restarts",
                list(plan.restarts) == rising,
                "be rising steps above 0",
            ),
        ):
            if not good:
                value = operator.attrgetter(name)(self)
                message = f"`{name}` must {wanted}. Received: {value}"
                raise InputError(message)
        if self.class_balance and self.target != "semantic":
            message = (
                "`class_balance` is for the target 'semantic', whose labels are "
                f"classes. The target here is {self.target!r}: set class_balance to 0."
            )
            raise InputError(message)
        climbs = plan.schedule in ("cosine", "polynomial") and plan.warmup
        if plan.name == "ftrl" and climbs:
            message = (
                "The optimizer 'ftrl' divides by the learning rate, which "
                f"{plan.schedule!r} with a warm-up begins at 0. Set optimizer.warmup "
                "to 0, or take another schedule, such as constant."
            )
            raise InputError(message)
        _check_finite(dataclasses.asdict(self))

    def replace(self, **changes: Any) -> Recipe:
        """Return a copy with other values; sections take dictionaries."""
        return from_dict(changes, self)

    def to_dict(self) -> dict[str, Any]:
        """Return plain nested values, as they stand in a weights file."""
        plain = dataclasses.asdict(self)
        # TOML has no None; `registry.build` reads the word.
        plain["model_arguments"] = {
            name: "none" if value is None else value
            for name, value in self.model_arguments.items()
        }
        for name in ("target_arguments", "loss_arguments", "optimizer_arguments"):
            plain[name] = dict(getattr(self, name))
        return plain


def _check_finite(values: Any, name: str = "") -> None:
    """Refuse numbers that no checkpoint could hold and no training could use."""
    if isinstance(values, Mapping):
        for key, value in values.items():
            _check_finite(value, f"{name}.{key}" if name else key)
    elif isinstance(values, list | tuple):
        for value in values:
            _check_finite(value, name)
    elif isinstance(values, float) and not math.isfinite(values):
        message = f"`{name}` must be a finite number. Received: {values}"
        raise InputError(message)


def from_dict(values: Mapping[str, Any], base: Recipe | None = None) -> Recipe:
    """Return `base` (the default recipe if None) changed by `values`.

    Unknown or ill-typed fields raise InputError with the near match.

    >>> from_dict({"stepz": 3})
    Traceback (most recent call last):
    unet_zoo.errors.InputError: Unknown recipe field 'stepz'. Did you mean 'steps'?
    """
    return _changed(without_stale(base or Recipe(), values), values)


def without_stale(base: Recipe, values: Mapping[str, Any]) -> Recipe:
    """Return `base` without the arguments of what `values` name another of.

    >>> plan = Recipe(target="distance", target_arguments={"dip": 0.2})
    >>> without_stale(plan, {"target": "semantic"}).target_arguments
    {}
    >>> without_stale(plan, {"target": "distance"}).target_arguments
    {'dip': 0.2}
    """
    optimizer = values.get("optimizer", {})
    if isinstance(optimizer, Optimizer):
        optimizer = dataclasses.asdict(optimizer)
    named = {
        "target_arguments": (base.target, values.get("target")),
        "loss_arguments": (base.loss, values.get("loss")),
        "optimizer_arguments": (
            base.optimizer.name,
            optimizer.get("name") if isinstance(optimizer, Mapping) else None,
        ),
    }
    stale: dict[str, Any] = {
        name: {}
        for name, (before, now) in named.items()
        if now is not None and now != before
    }
    return dataclasses.replace(base, **stale) if stale else base


def _changed(base: Any, values: Mapping[str, Any], section: str = "") -> Any:
    hints = typing.get_type_hints(type(base))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in hints:
            raise unknown((section or "recipe") + " field", name, hints)
        present = getattr(base, name)
        if dataclasses.is_dataclass(present):
            if isinstance(value, type(present)):
                changes[name] = value
            elif isinstance(value, Mapping):
                changes[name] = _changed(present, value, name)
            else:
                message = f"`{name}` must be a table of fields. Received: {value!r}"
                raise InputError(message)
        else:
            place = f"{section}.{name}" if section else name
            changes[name] = _typed(place, value, hints[name])
    return dataclasses.replace(base, **changes)


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Return `value` as the field's type; integers pass as floats, bools never."""
    if typing.get_origin(hint) is tuple and isinstance(value, list | tuple):
        return tuple(_typed(name, each, typing.get_args(hint)[0]) for each in value)
    options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    kinds = tuple(typing.get_origin(option) or option for option in options)
    if float in kinds and type(value) is int:
        return float(value)
    if not isinstance(value, kinds) or (type(value) is bool and bool not in kinds):
        wanted = getattr(hint, "__name__", str(hint))
        message = f"`{name}` must be of type {wanted}. Received: {value!r}"
        raise InputError(message)
    return value


def named(name: str, model: str = "unet") -> Recipe:
    """Return the recipe `name` for `model`.

    "default" is good on two cores within an hour, better with more steps.
    "paper" is Ronneberger et al. 2015 to the letter where the paper speaks (valid
    convolutions, batch of one, momentum 0.99, weight map, elastic grid of 3x3
    points); the paper states no learning rate and no number of steps.

    >>> named("paper").optimizer.momentum
    0.99
    """
    if name not in RECIPES:
        raise unknown(kind="recipe", word=name, options=RECIPES)
    recipe = RECIPES[name]
    if name == "paper" and model != "unet":
        message = (
            f"The recipe 'paper' is of the model 'unet'. Received: {model!r}. "
            "Take the recipe 'default'."
        )
        raise InputError(message)
    if model == recipe.model:
        return recipe
    # What the variant understands; the rest is left to its defaults.
    accepted = registry.arguments(model)
    kept = {k: v for k, v in recipe.model_arguments.items() if k in accepted}
    suited = dict(registry.info(model).recipe) if name == "default" else {}
    return recipe.replace(model=model, model_arguments=kept | suited)


RECIPES: Mapping[str, Recipe] = types.MappingProxyType(
    {
        "default": Recipe(
            model_arguments={
                "padding": "same",
                "filters": 16,
                "depth": 4,
                "dropout": 0.3,
                "spatial_dropout": True,
                "normalization": "batch",
            }
        ),
        "paper": Recipe(
            model_arguments={"padding": "valid", "filters": 64, "depth": 4},
            target="border",
            scale=1.0,
            patch=572,
            batch=1,
            steps=20000,
            validate_every=500,
            tta=7,
            augmentation=Augmentation.named("paper"),
            optimizer=Optimizer(
                name="sgd",
                learning_rate=1e-3,
                schedule="constant",
                momentum=0.99,
                average=0.0,
                clip=0.0,
            ),
        ),
    }
)
