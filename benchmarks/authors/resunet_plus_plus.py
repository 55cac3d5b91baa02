"""The ResUNet++ beside its authors' two programs: DebeshJha/ResUNetPlusPlus.

Neither has the sigmoid that one expects of an attention. The two differ in what strided
convolutions see of the border: ours, as their Keras, pads at the end; their PyTorch
pads at the start, which is undone here. The Keras code (m_resunet.py) asks for
TensorFlow's copy of Keras and for OpenCV, and gets this Keras and nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry

SIZE = 128
# As their Keras code makes them, and as their PyTorch code does.
DILATIONS = (6, 12, 18, 1)
DILATIONS_TORCH = (1, 6, 12, 18)


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    image = random.normal(size=(2, SIZE, SIZE, 3)).astype("float32")
    ours = registry.build("resunet_plus_plus", input_shape=image.shape[1:], classes=1)
    results = []

    theirs = _their_keras(checkout)
    for layer, name in zip(_by_number(theirs), _sorted_names(), strict=True):
        _randomise(layer, random)
        ours.get_layer(name).set_weights(layer.get_weights())
    expected = keras.ops.convert_to_numpy(theirs(image))
    found = keras.ops.convert_to_numpy(keras.ops.sigmoid(ours(image)))
    difference = np.abs(found - expected).max() / np.ptp(expected)
    results.append(("Keras, 3 channels, 1 class", float(difference)))

    network = _their_torch(checkout)
    modules = [one for one in network.modules() if _kind(one) is not None]
    for module, name in zip(modules, _names(DILATIONS_TORCH), strict=True):
        _shared.copy(module, ours.get_layer(name))
    with torch.no_grad():
        expected = network(torch.from_numpy(image.transpose(0, 3, 1, 2))).numpy()
    expected = expected.transpose(0, 2, 3, 1)
    found = keras.ops.convert_to_numpy(ours(image))
    difference = np.abs(found - expected).max() / np.ptp(expected)
    results.append(("PyTorch, 3 channels, 1 class", float(difference)))
    return results


def _names(dilations: tuple[int, ...]) -> list[str]:
    """Return our layers with weights, in the order their code makes theirs."""
    names: list[str] = []

    def residual(stage: str) -> None:
        first = [] if stage == "encoder0" else ["norm1"]
        parts = [*first, "conv1", "norm2", "conv2", "shortcut", "shortcut_norm"]
        names.extend(f"{stage}_{part}" for part in [*parts, "dense1", "dense2"])

    def pyramid(stage: str) -> None:
        for dilation in dilations:
            name = f"{stage}_dilated{dilation}"
            names.extend([name, f"{name}_norm"])
        names.append(f"{stage}_conv")

    for level in range(4):
        residual(f"encoder{level}")
    pyramid("bottom")
    for level in (2, 1, 0):
        parts = ("norm_skip", "skip", "norm_below", "below", "norm", "weight")
        names.extend(f"attention{level}_{part}" for part in parts)
        residual(f"decoder{level}")
    pyramid("end")
    return [*names, "logits"]


def _kind(layer: Any) -> int | None:
    """Return which of the kinds with weights `layer`, of either framework, is."""
    kinds = ("Conv2", "BatchNorm", ("Dense", "Linear"))
    for number, kind in enumerate(kinds):
        if type(layer).__name__.startswith(kind):
            return number
    return None


def _sorted_names() -> list[str]:
    """Return our names in the order of `_by_number`: by kind, then as they are made."""

    def kind(name: str) -> int:
        return 1 if "norm" in name else 2 if "dense" in name else 0

    return sorted(_names(DILATIONS), key=kind)


def _by_number(theirs: keras.Model) -> list[keras.layers.Layer]:
    """Return their layers with weights by kind, then as Keras numbers them."""

    def number(layer: keras.layers.Layer) -> tuple[int, int]:
        return _kind(layer) or 0, int((re.findall(r"_(\d+)$", layer.name) or ["0"])[0])

    return sorted((one for one in theirs.layers if one.weights), key=number)


def _their_keras(checkout: Path) -> keras.Model:
    given = {
        "cv2": types.ModuleType("cv2"),
        "tensorflow": types.ModuleType("tensorflow"),
        "tensorflow.keras": keras,
        "tensorflow.keras.layers": keras.layers,
        "tensorflow.keras.models": keras.models,
    }
    sys.path.insert(0, str(checkout))
    with _shared.stand_ins(given):
        network = importlib.import_module("m_resunet")
    return network.ResUnetPlusPlus(SIZE).build_model()


def _their_torch(checkout: Path) -> torch.nn.Module:
    spec = importlib.util.spec_from_file_location(
        "resunet_plus_plus_torch", checkout / "resunet++_pytorch.py"
    )
    assert spec is not None
    assert spec.loader is not None
    file = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(file)
    network = file.build_resunetplusplus().eval()
    for module in network.modules():
        if getattr(module, "stride", 1) == (2, 2) and module.kernel_size == (3, 3):
            module.padding = (0, 0)
            module.register_forward_pre_hook(_pad_at_the_end)
    return network


def _pad_at_the_end(_: torch.nn.Module, inputs: tuple[torch.Tensor]) -> torch.Tensor:
    return torch.nn.functional.pad(inputs[0], (0, 1, 0, 1))


def _randomise(layer: keras.layers.Layer, random: np.random.Generator) -> None:
    if isinstance(layer, keras.layers.BatchNormalization):
        for variable in layer.weights:
            positive = variable.name in ("gamma", "moving_variance")
            values = random.uniform(0.5, 1.5, variable.shape)
            variable.assign(values if positive else values - 1)
