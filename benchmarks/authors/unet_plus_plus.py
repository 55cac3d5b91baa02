"""The UNet++ beside UNetPlusPlus of MrGiovanni/UNetPlusPlus, keras/helper_functions.py.

The authors' Keras code; their PyTorch folder holds another network, made for nnU-Net.
It is written for Keras 2 on TensorFlow 1. Its text runs unchanged here, on names that
Keras no longer has, made up below; only the sigmoid at its outputs is taken away.
"""

from __future__ import annotations

import contextlib
import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
from authors import _shared

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of each output, relative to its range."""
    with _keras_of_old():
        file = checkout / "keras" / "helper_functions.py"
        spec = importlib.util.spec_from_file_location("helper_functions", file)
        code = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(code)
        theirs = code.UNetPlusPlus(64, 96, color_type=3, deep_supervision=True)
    ours = registry.build(
        "unet_plus_plus", input_shape=(64, 96, 3), classes=1, deep_supervision=True
    )
    random = np.random.default_rng(0)
    for layer in theirs.layers:
        if layer.name.startswith("output"):
            layer.activation = keras.activations.linear
        if layer.weights:
            kernel, bias = layer.get_weights()
            bias = random.normal(0, 0.3, bias.shape)
            layer.set_weights([kernel, bias])
            ours.get_layer(_ours(layer.name)).set_weights([kernel, bias])

    image = random.normal(size=(2, 64, 96, 3)).astype("float32")
    last, *others = (keras.ops.convert_to_numpy(each) for each in ours(image))
    rows = []
    expected = [keras.ops.convert_to_numpy(each) for each in theirs(image)]
    for level, (one, other) in enumerate(zip(expected, [*others, last], strict=True)):
        difference = np.abs(one - other).max() / np.ptp(one)
        rows.append((f"3 channels, output of level {level + 1}", float(difference)))
    return rows


def _ours(name: str) -> str:
    """Return our name of one of their layers: `conv12_1`, `up12` or `output_1`.

    Their nodes are numbered from 1 in both directions: `12` is node (0, 1).
    """
    if name.startswith("output"):
        return "logits" if name == "output_4" else f"logits{name[-1]}"
    word, _, number = name.partition("_")
    level, step = int(word[-2]) - 1, int(word[-1]) - 1
    stage = f"nested{level}-{step}"
    if step == 0:
        stage = "bottom" if level == 4 else f"encoder{level}"
    elif level + step == 4:
        stage = f"decoder{level}"
    return f"{stage}_up" if word.startswith("up") else f"{stage}_conv{number}"


@contextlib.contextmanager
def _keras_of_old() -> Iterator[None]:
    """Let imports find the modules that the code expects."""

    def model(input: Any, output: Any) -> keras.Model:
        return keras.Model(input, output)

    # `merge` is imported and not used, as is all that is asked of TensorFlow.
    layers = vars(keras.layers) | {"merge": None}
    modules: dict[str, dict[str, Any]] = {
        "keras": {"losses": keras.losses},
        "keras.models": {"Model": model},
        "keras.backend": {"image_dim_ordering": lambda: "tf"},
        "keras.layers": layers,
        "keras.layers.pooling": layers,
        "keras.layers.core": layers,
        "keras.layers.advanced_activations": layers,
        "keras.layers.noise": layers,
        "keras.optimizers": vars(keras.optimizers),
        "keras.regularizers": vars(keras.regularizers) | {"l2": keras.regularizers.L2},
        "tensorflow": {},
    }
    with _shared.stand_ins(modules):
        sys.modules["keras"].backend = sys.modules["keras.backend"]
        yield
