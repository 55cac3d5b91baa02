"""Training that starts from weights there are: what is taken, made anew and frozen."""

from __future__ import annotations

import dataclasses
import inspect
import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import recipe as recipes
from unet_zoo import registry, weights
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    import keras
    import numpy as np

    from unet_zoo import targets

# Arguments of a model that change no weights: each training has its own.
_FREE = ("dropout", "dropout_at", "spatial_dropout", "trainable")
# What of a start a recipe takes over where nothing else is said.
_TAKEN = ("model_arguments", "target", "target_arguments", "scale", "normalization")
# Of the facts of a training, what it takes to repeat it and to compare.
_STAGE = ("recipe", "dataset", "versions", "deterministic", "validation")
_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Start:
    """Weights to start from: what they are called, where they lie, their facts."""

    name: str
    path: Path
    facts: Mapping[str, Any]


def find(name_or_path: str | os.PathLike[str]) -> Start:
    """Return the weights of a zoo entry, a weights file or a training's folder.

    Raises:
        InputError: for an unknown name, near matches named, or a damaged file.
    """
    path = weights.find(name_or_path)
    return Start(str(name_or_path), path, weights.read_facts(path))


def stages(start: Start) -> list[dict[str, Any]]:
    """Return the trainings that made weights, first to last, as facts keep them.

    Each has its "recipe", "dataset" and, where they are known, "versions",
    "deterministic" and the scores of its "validation". Weights that do not say how they
    were made, from the first training on, give an empty list.
    """
    facts = start.facts
    whole = "start" not in facts or facts.get("stages")
    if "recipe" not in facts or "dataset" not in facts or not whole:
        return []
    own = {name: facts[name] for name in _STAGE if name in facts}
    return [*facts.get("stages", []), own]


def taken_over(recipe: recipes.Recipe, start: Start) -> recipes.Recipe:
    """Return the recipe with what the network of `start` needs to go on as it is.

    Arguments of the model, target, scale and normalization are those of `start`, the
    rest is the recipe's.

    Raises:
        InputError: when the recipe is of another model.
    """
    _check_model(recipe, start)
    facts = start.facts
    target = {"target": facts["target"], "target_arguments": facts["target_arguments"]}
    if facts["target"] != "semantic":
        target["class_balance"] = 0.0
    return recipe.replace(**{name: facts[name] for name in _TAKEN} | target)


def begin(
    network: keras.Model, start: Start, recipe: recipes.Recipe, target: targets.Target
) -> dict[str, Any]:
    """Give `network` the weights of `start`, and log what cannot be taken over.

    - Another target, or another number of its channels: the last layer starts anew;
      layers before it that have as many channels as there are classes, too.
    - Another number of image channels: the weights of the first layers are averaged
      over the channels there and repeated for those here, so that an image of equal
      channels gives what it gave.

    Args:
        network: of the recipe's model, built for the images and `target`.
        start: what `find` returned.
        recipe: of the training.
        target: of the training.

    Returns:
        Plain values for the facts of the weights file: name, sha256, and the layers
        that were made "anew" or "adapted".

    Raises:
        InputError: for another model or other arguments, the differences shown.
    """
    import numpy as np

    from unet_zoo import targets

    _check_model(recipe, start)
    _check_arguments(recipe, start)
    there = start.facts
    old = targets.get(there["target"], **there["target_arguments"])
    channels = network.input_shape[-1]

    def build(channels: int, classes: int) -> keras.Model:
        return registry.build(
            there["model"],
            input_shape=(None, None, channels),
            classes=classes,
            **there["model_arguments"],
        )

    source = build(there["channels"], old.channels)
    weights.assign(source, start.path)
    # Of what changed in shape, this tells channels of the image from classes.
    between = source
    if channels != there["channels"] and target.channels != old.channels:
        between = build(channels, old.channels)
    elif channels != there["channels"]:
        between = network
    values = {
        key: np.array(variable.numpy())
        for key, variable in weights.variables(source).items()
    }
    ours = weights.variables(network)
    adapted = _differing(source, between)
    anew = _differing(between, network)
    if old.name != target.name or old.channels != target.channels:
        anew |= {key for key in ours if key.startswith("logits")}
    depthwise = _depthwise(network)
    for key in sorted(adapted - anew):
        value = None
        if key in values and key in ours:
            value = _spread(
                values[key],
                tuple(ours[key].shape),
                there["channels"],
                channels,
                sums=key.endswith("kernel") and key not in depthwise,
            )
        if value is None:
            raise _unfit(start, key, there["channels"], channels)
        values[key] = value
    for key, variable in ours.items():
        if key not in anew:
            variable.assign(values[key])

    if anew:
        _LOG.warning(
            "The last layer starts anew (%s): the target is %s here and was %s.",
            ", ".join(_layers(anew)),
            _spelled(target),
            _spelled(old),
        )
    if adapted:
        _LOG.warning(
            "The images have %d channel(s) here and had %d: the weights of %s are "
            "averaged over the channels.",
            channels,
            there["channels"],
            ", ".join(_layers(adapted)),
        )
    return {
        "name": start.name,
        "sha256": weights.sha256(start.path),
        "anew": _layers(anew),
        "adapted": _layers(adapted),
    }


def freeze(network: keras.Model, levels: int | str) -> list[str]:
    """Make the first levels of the encoder keep their weights; return the layers.

    A level is frozen with all that lies on the way from the image to it: a stem, the
    poolings, levels before. Batch normalisation of frozen layers uses the statistics
    it has, and dropout goes on.

    Args:
        network: of a model of the registry, where the levels of the encoder are called
            `encoder0`, `encoder1` and so on, and the lowest one `bottom`.
        levels: how many of these; "encoder" for all of them with the bottom.

    Raises:
        InputError: for more levels than there are, and for a number where the layers
            do not tell their level (`backbone_unet`).

    >>> network = registry.build("unet", depth=2, filters=2)
    >>> freeze(network, 1)
    ['encoder0_conv1', 'encoder0_conv2']
    >>> len(freeze(network, "encoder"))
    6
    """
    parents: dict[Any, set[Any]] = {}
    for nodes in network._nodes_by_depth.values():
        for node in nodes:
            found = {each.operation for each in node.parent_nodes}
            parents.setdefault(node.operation, set()).update(found)
    level_of: dict[Any, int] = {}
    for layer in network.layers:
        if match := re.match(r"encoder(\d+)(?=_|$)", layer.name):
            level_of[layer] = int(match[1])
    count = len(set(level_of.values()))
    if levels == "encoder":
        ends = {
            layer
            for layer in network.layers
            if layer in level_of or re.match(r"bottom(_|$)", layer.name)
        }
        if not level_of:  # all that the lowest level of the decoder sees
            ups = [each for each in network.layers if re.match(r"up\d", each.name)]
            ends = {parent for up in ups[:1] for parent in parents[up]}
    elif isinstance(levels, int) and levels <= count:
        ends = {layer for layer, level in level_of.items() if level < levels}
    elif not count:
        message = (
            f"`freeze` {levels} counts levels of the encoder, which the layers of "
            f'{network.name!r} do not tell. Freeze "encoder", all of it.'
        )
        raise InputError(message)
    else:
        message = (
            f"`freeze` {levels} is more than the {count} level(s) of the encoder of "
            f'{network.name!r}. Give 1 to {count}, or "encoder" for all and the bottom.'
        )
        raise InputError(message)
    frozen: set[Any] = set()
    waiting = list(ends)
    while waiting:
        layer = waiting.pop()
        if layer not in frozen:
            frozen.add(layer)
            waiting.extend(parents.get(layer, ()))
    names = []
    for layer in network.layers:
        if layer in frozen:
            layer.trainable = False
            if layer.weights:
                names.append(layer.name)
    return names


def _check_model(recipe: recipes.Recipe, start: Start) -> None:
    if recipe.model != start.facts["model"]:
        message = (
            f"{start.name} holds weights of the model {start.facts['model']!r}, and "
            f"the recipe is of {recipe.model!r}. Train {start.facts['model']!r}, or "
            "start from other weights."
        )
        raise InputError(message)


def _check_arguments(recipe: recipes.Recipe, start: Start) -> None:
    """Refuse arguments of the model that would make another network."""
    parameters = inspect.signature(registry.get(recipe.model)).parameters
    defaults = {
        name: each.default
        for name, each in parameters.items()
        if name not in (*_FREE, "input_shape", "classes")
    }

    def complete(given: Mapping[str, Any]) -> dict[str, Any]:
        values = {name: given.get(name, value) for name, value in defaults.items()}
        # As a weights file has it: a tuple is a list, None a word.
        plain = json.loads(json.dumps(values))
        return {name: "none" if v is None else v for name, v in plain.items()}

    here = complete(recipe.model_arguments)
    there = complete(start.facts["model_arguments"])
    differing = [
        f"{name} is {here[name]!r} here and {there[name]!r} there"
        for name in defaults
        if here[name] != there[name]
    ]
    if differing:
        message = (
            f"The weights {start.name} do not fit: {'; '.join(differing)}. Give the "
            "model the arguments it was built with there (`starting.taken_over`); only "
            "dropout may differ."
        )
        raise InputError(message)


def _differing(one: keras.Model, other: keras.Model) -> set[str]:
    """Return the variables that are not in both, or not of one shape."""
    first, second = (
        {key: tuple(each.shape) for key, each in weights.variables(network).items()}
        for network in (one, other)
    )
    return {
        key for key in first.keys() | second.keys() if first.get(key) != second.get(key)
    }


def _depthwise(network: keras.Model) -> set[str]:
    """Return the kernels that see each channel by itself."""
    import keras

    kinds = keras.layers.DepthwiseConv2D | keras.layers.DepthwiseConv1D
    names = {layer.name for layer in network.layers if isinstance(layer, kinds)}
    return {
        key
        for key in weights.variables(network)
        if key.split("/")[0] in names or key.endswith("depthwise_kernel")
    }


def _spread(
    value: np.ndarray, shape: tuple[int, ...], old: int, new: int, sums: bool
) -> np.ndarray | None:
    """Return weights for `new` channels: those for `old`, averaged and repeated.

    Args:
        value: weights there.
        shape: of the weights here, which differs along the axis of the channels.
        old: channels there.
        new: channels here.
        sums: the axis is summed over, so that more channels must weigh less.

    Returns:
        The weights; None where the shapes differ in another way.

    >>> import numpy as np
    >>> _spread(np.asarray([[4.0]]), (2, 1), 1, 2, sums=True).tolist()
    [[2.0], [2.0]]
    """
    import numpy as np

    pairs = list(zip(value.shape, shape, strict=False))
    axes = [axis for axis, (one, other) in enumerate(pairs) if one != other]
    if value.ndim != len(shape) or len(axes) != 1:
        return None
    axis = axes[0]
    # Of a depthwise convolution each channel may have several kernels.
    kernels = shape[axis] // new
    if (old * kernels, new * kernels) != pairs[axis]:
        return None
    parted = value.reshape(*shape[:axis], old, kernels, *shape[axis + 1 :])
    mean = parted.mean(axis=axis, keepdims=True) * (old / new if sums else 1.0)
    return np.repeat(mean, new, axis=axis).reshape(shape).astype(value.dtype)


def _unfit(start: Start, key: str, old: int, new: int) -> InputError:
    message = (
        f"The weights {start.name} are for images of {old} channel(s), and {key!r} "
        f"cannot be turned into one for {new}. Give images of {old} channel(s)."
    )
    return InputError(message)


def _layers(keys: Iterable[str]) -> list[str]:
    return sorted({key.rpartition("/")[0] for key in keys})


def _spelled(target: targets.Target) -> str:
    return f"{target.name!r} of {target.channels} channels"
