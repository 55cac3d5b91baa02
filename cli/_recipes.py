"""What verbs need that take a recipe: its option, its reading, changes to it."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, policies, recipe
from unet_zoo.cli import _options

if TYPE_CHECKING:
    from unet_zoo.recipe import Recipe

# Options that are arguments of the network, and one that lies deeper in the recipe.
_OF_MODEL = ("filters", "depth")
# Sections with free keys.
_FREE = (
    "model_arguments",
    "target_arguments",
    "loss_arguments",
    "optimizer_arguments",
)
_AT = {"learning_rate": ("optimizer", "learning_rate")}

recipe_option = click.option(
    "--recipe",
    "recipe_name",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="A name that `unet-zoo recipes` lists, or a recipe.toml; train also takes "
    "auto.",
)

target_option = click.option("--target", help="semantic, border or distance.")
augmentation_option = click.option(
    "--augmentation",
    metavar="NAME",
    help="none, light, default, paper or strong.  [default: that of the recipe]",
)
patch_option = click.option(
    "--patch", type=int, help="Height and width of a patch in pixels."
)
scale_option = click.option(
    "--scale", type=float, help="Size of the image that the network sees, 0.5: half."
)
# What the network is, what it sees and what it is taught.
network_options = _options.together(
    click.option("--batch", type=int, help="Patches a step."),
    patch_option,
    click.option("--filters", type=int, help="Filters of the network's first level."),
    click.option(
        "--depth", type=int, help="How often the network halves the resolution."
    ),
    scale_option,
    augmentation_option,
    target_option,
)

settings_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Any other field of the recipe, such as augmentation.elastic=0 or "
    "optimizer.name=sgd; may be given again.",
)


def read(name: str, model: str) -> Recipe:
    """Return a named recipe, or the one in a file that a training wrote."""
    path = Path(name)
    if path.suffix != ".toml":
        return recipe.named(name, model)
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path} is not TOML: {error}."
        raise errors.InputError(message) from error
    found = recipe.from_dict(values)
    if found.model != model:
        message = f"{path} is a recipe of the model {found.model!r}, not {model!r}."
        raise errors.InputError(message)
    return found


def changed(
    plan: Recipe, options: Mapping[str, Any], settings: Sequence[str]
) -> Recipe:
    """Return the recipe with the options of the command line, --set last."""
    changes: dict[str, Any] = {}
    for name, value in options.items():
        if name == "augmentation" and value is not None:
            # A policy by its name: what --set changes of it comes on top.
            plan = plan.replace(augmentation=policies.Augmentation.named(value))
        elif value is not None:
            at = ("model_arguments", name) if name in _OF_MODEL else (name,)
            _put(changes, _AT.get(name, at), value, name)
    for setting in settings:
        key, equals, text = setting.partition("=")
        if not equals or not key:
            message = f"--set takes KEY=VALUE, such as steps=500. Received: {setting}"
            raise errors.InputError(message)
        _put(changes, tuple(key.split(".")), _value(text), f"--set {key}")
    plan = recipe.without_stale(plan, changes)
    for name in _FREE:
        # What is not named stays as the recipe has it.
        if isinstance(changes.get(name), dict):
            changes[name] = {**getattr(plan, name), **changes[name]}
            for key in ("classes", "input_shape"):
                if name == "model_arguments" and key in changes[name]:
                    message = f"The target and the data decide on {key}, not a --set."
                    raise errors.InputError(message)
    if changes.get("model", plan.model) != plan.model:
        message = "The first argument of train, else --model, says the model: no --set."
        raise errors.InputError(message)
    return plan.replace(**changes)


def decided(options: Mapping[str, Any], settings: Sequence[str]) -> set[str]:
    """Return the names of the fields that the command line decides on.

    >>> sorted(decided({"batch": 2, "patch": None}, ["model_arguments.depth=3"]))
    ['batch', 'depth']
    """
    given = {name for name, value in options.items() if value is not None}
    return given | {each.partition("=")[0].rpartition(".")[2] for each in settings}


def suited(plan: Recipe, dataset: str, kind: str, given: Collection[str]) -> Recipe:
    """Return a recipe without objects where the labels of a dataset are classes.

    Args:
        plan: the recipe as it was named.
        dataset: what the user called the dataset.
        kind: of the dataset.
        given: what `decided` returned; a target that was asked for stays.
    """
    if kind == "instances" or plan.target != "distance" or plan.target_arguments:
        return plan
    if "target" in given:
        return plan
    click.echo(
        f"The labels of {dataset} are classes, not objects: the target is semantic, "
        "unless --target says otherwise.",
        err=True,
    )
    return plan.replace(target="semantic")


def _put(changes: dict[str, Any], at: Sequence[str], value: Any, name: str) -> None:
    section: Any = changes
    for key in at[:-1]:
        section = section.setdefault(key, {})
        if not isinstance(section, dict):
            message = f"{name}: {key} has already been given a value of its own."
            raise errors.InputError(message)
    section[at[-1]] = value


def _value(text: str) -> Any:
    """Return what `text` is in TOML; a bare word is a text."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
