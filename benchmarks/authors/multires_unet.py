"""The MultiResUNet beside its authors' Keras code, nibtehaz/MultiResUNet, tensorflow/.

The authors' PyTorch code is another network: it has biases, one more class, and one
normalisation for two places of a skip. Two imports of the Keras code, of what it does
not use, are gone from Keras and stood in for here. Its output is the sigmoid of ours.
"""

from __future__ import annotations

import importlib
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    _stand_in("keras.layers.advanced_activations", "ELU", "LeakyReLU")
    _stand_in("keras.utils.vis_utils", "plot_model")
    sys.path.insert(0, str(checkout / "tensorflow"))
    flat = importlib.import_module("MultiResUNet").MultiResUnet
    deep = importlib.import_module("MultiResUNet3D").MultiResUnet3D
    random = np.random.default_rng(0)
    results = []
    for build, shape in (
        (flat, (64, 96, 3)),
        (flat, (64, 48, 1)),
        (deep, (32, 48, 16, 4)),
    ):
        theirs = build(*shape)
        ours = registry.build("multires_unet", input_shape=shape, classes=1)
        pairs = list(zip(_by_number(theirs), _in_their_order(), strict=True))
        for layer, name in pairs:
            _randomise(layer, random)
            ours.get_layer(name).set_weights(layer.get_weights())

        image = random.normal(size=(2, *shape)).astype("float32")
        expected = keras.ops.convert_to_numpy(theirs(image))
        found = keras.ops.convert_to_numpy(keras.ops.sigmoid(ours(image)))
        difference = np.abs(found - expected).max() / np.ptp(expected)
        results.append((f"{build.__name__}{shape}", float(difference)))
    return results


def _stand_in(name: str, *parts: str) -> None:
    sys.modules[name] = types.ModuleType(name)
    for part in parts:
        setattr(sys.modules[name], part, None)


def _by_number(theirs: keras.Model) -> list[keras.layers.Layer]:
    """Return their layers with weights in the order their code makes them.

    Keras numbers the layers of a kind; those of different kinds are sorted apart.
    """

    def number(layer: keras.layers.Layer) -> int:
        return int((re.findall(r"_(\d+)$", layer.name) or ["0"])[0])

    layers = sorted((one for one in theirs.layers if one.weights), key=number)
    return sorted(layers, key=_kind)


def _kind(layer: keras.layers.Layer) -> int:
    norm = isinstance(layer, keras.layers.BatchNormalization)
    return 1 if norm else 2 if "Transpose" in type(layer).__name__ else 0


def _in_their_order() -> list[str]:
    """Return our names of what `_by_number` lists."""
    parts: list[str] = []
    for level in range(4):
        parts += _level(f"encoder{level}")
        for number in range(1, 5 - level):
            parts += _skip(f"skip{level}_{number}")
    parts += _level("bottom")
    for level in (3, 2, 1, 0):
        parts += _level(f"decoder{level}")
    parts += ["logits_conv", "logits"]
    norms = [each for each in parts if "norm" in each or each == "logits"]
    convs = [each for each in parts if each not in norms]
    return convs + norms + [f"up{level}" for level in (3, 2, 1, 0)]


def _level(stage: str) -> Iterator[str]:
    for part in ("shortcut", "conv1", "conv2", "conv3"):
        yield from (f"{stage}_{part}", f"{stage}_{part}_norm")
    yield from (f"{stage}_norm1", f"{stage}_norm2")


def _skip(stage: str) -> Iterator[str]:
    for part in ("shortcut", "conv"):
        yield from (f"{stage}_{part}", f"{stage}_{part}_norm")
    yield f"{stage}_norm"


def _randomise(layer: keras.layers.Layer, random: np.random.Generator) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        for variable in layer.weights:
            positive = variable.name in ("gamma", "moving_variance")
            values = random.uniform(0.5, 1.5, variable.shape)
            variable.assign(values if positive else values - 1)
