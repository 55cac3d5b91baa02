"""What the tests of models share: tiny models, and a search for unused inputs."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

import keras
import numpy as np

from unet_zoo import registry

# Arguments, parameters with the statistics of batch normalisation, trainable ones.
Pinned = list[tuple[dict[str, Any], int, int]]


def pinned(name: str) -> Pinned:
    """Return the counts that `test_<name>.py`, the file about the model, pins."""
    return importlib.import_module(f"test_{name}").PINNED


def tiny(name: str) -> dict[str, Any]:
    """Return the arguments that make a model tiny."""
    own = getattr(importlib.import_module(f"test_{name}"), "TINY", {})
    return dict(filters=4, depth=2) | own


def other_values(name: str) -> dict[str, Any]:
    """Return for each argument of `name` a value that is not its tiny one.

    A dictionary instead of a value also has what the argument does not go without.
    """
    own = getattr(importlib.import_module(f"test_{name}"), "OTHER", {})
    shared = dict(input_shape=(96, 112, 3), classes=5, dropout=0.25, dropout_at="all")
    values = {}
    for argument, parameter in inspect.signature(registry.get(name)).parameters.items():
        usual = tiny(name).get(argument, parameter.default)
        if argument in own:
            values[argument] = own[argument]
        elif argument == "normalization":
            values[argument] = "group" if usual != "group" else "batch"
        elif argument in ("filters", "depth"):
            values[argument] = 2 * usual if argument == "filters" else usual + 1
        elif argument == "dropout_at" and usual == "all":
            values[argument] = "bottom"
        elif isinstance(usual, bool):
            values[argument] = not usual
        else:
            values[argument] = shared[argument]
    return values


def build(
    name: str, size: tuple[int | None, ...] = (48, 64), **arguments: Any
) -> keras.Model:
    """Build a tiny `name` at `size`, or at the size its error asks for.

    What is tiny for a model is its file's `TINY`, if 4 filters and depth 2 are not.
    """
    channels = arguments.pop("channels", 1)
    arguments = tiny(name) | arguments
    keras.utils.set_random_seed(7)
    return registry.build_near(name, size, channels=channels, **arguments)


def image(model: keras.Model, batch: int = 2, seed: int = 1) -> np.ndarray:
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def predict(model: keras.Model, inputs: np.ndarray, **options: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs, **options))


def joins(model: keras.Model) -> list[keras.layers.Layer]:
    """Return the layers where ways through the network meet."""
    kinds = (keras.layers.Concatenate, keras.layers.Add, keras.layers.Multiply)
    return [layer for layer in model.layers if isinstance(layer, kinds)]


def resolutions_joined(model: keras.Model) -> set[int]:
    return {layer.output.shape[1] for layer in joins(model)}


def inputs_without_effect(model: keras.Model) -> list[tuple[str, int]]:
    """Zero each input of each meeting alone; list those that changed nothing."""
    inputs = keras.ops.convert_to_tensor(image(model, 1))
    expected = predict(model, inputs)
    found = []
    for join in joins(model):
        for number in range(len(join.input)):

            def zeroed(layer, join=join, number=number):
                def call(tensors, **options):
                    kept = list(tensors)
                    kept[number] = keras.ops.zeros_like(kept[number])
                    return layer(kept, **options)

                return call if layer is join else layer

            # What Keras runs for a call, one of its layers replaced.
            output = model._run_through_graph(inputs, operation_fn=zeroed)
            changed = keras.ops.convert_to_numpy(output) - expected
            if np.abs(changed).max() < 1e-5:
                found.append((join.name, number))
    return found
