"""The UNet 3+ beside the authors' code, ZJUGiveLab/UNet-Version, models/UNet_3Plus.py.

Compared are raw values: the sigmoid at the end of theirs is taken away as it runs.
Their classification-guided network cannot run for want of NumPy under the name `np`,
which it is given. For both sides of its gate to be seen, the bias of its classifier is
set so that one image of the two passes, and the maps of the other are zero.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import keras
import numpy as np
import torch

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of all outputs, relative to their range."""
    sys.path.insert(0, str(checkout / "models"))
    code = importlib.import_module("UNet_3Plus")
    code.F = types.SimpleNamespace(sigmoid=lambda x: x)
    code.np = np
    deep = {"deep_supervision": True}
    return [
        ("plain", _compare(code.UNet_3Plus(), {})),
        ("5 outputs", _compare(code.UNet_3Plus_DeepSup(), deep)),
        (
            "5 outputs, classification",
            _compare(code.UNet_3Plus_DeepSup_CGM(), deep | {"classification": True}),
        ),
    ]


def _compare(theirs: torch.nn.Module, arguments: dict[str, bool]) -> float:
    torch.manual_seed(0)
    theirs.eval()
    ours = registry.build("unet_3plus", input_shape=(64, 96, 3), classes=1, **arguments)
    _randomize(theirs)
    image = torch.randn(2, 3, 64, 96)
    if "classification" in arguments:
        answers = []
        theirs.cls[2].register_forward_hook(lambda *call: answers.append(call[2]))
        with torch.no_grad():
            theirs(image)
            (no, yes) = answers[0].flatten(1).unbind(1)
            theirs.cls[1].bias[0] += (yes - no).mean()
    for module, layer in _pairs(theirs, {each.name for each in ours.layers}):
        _copy(module, ours.get_layer(layer))

    with torch.no_grad():
        expected = theirs(image)
    found = ours(image.numpy().transpose(0, 2, 3, 1))
    if not arguments:
        expected, found = [expected], [found]
    if "classification" in arguments:
        found.pop()
        empty = [bool((each == 0).all()) for each in expected[0]]
        if sorted(empty) != [False, True]:
            message = "The gate does not tell the two images apart."
            raise RuntimeError(message)
    differences = []
    for one, other in zip(expected, found, strict=True):
        one = one.numpy().transpose(0, 2, 3, 1)
        other = keras.ops.convert_to_numpy(other)
        differences.append(np.abs(one - other).max() / np.ptp(one))
    return float(max(differences))


def _pairs(
    theirs: torch.nn.Module, names: set[str]
) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours.

    Theirs count levels from 1: `hd4_UT_hd3_conv` makes of level 4 of the decoder a
    part of level 3, and `conv3d_1` mixes the parts.
    """
    pairs = []
    for level in range(5):
        stage = "bottom" if level == 4 else f"encoder{level}"
        block = getattr(theirs, f"conv{level + 1}")
        for number in (1, 2):
            step = getattr(block, f"conv{number}")
            pairs.append((step[0], f"{stage}_conv{number}"))
            pairs.append((step[1], f"{stage}_norm{number}"))
        head = getattr(theirs, f"outconv{level + 1}", None)
        if head is not None:
            name = f"logits{level or ''}"
            conv = f"{name}_conv"
            pairs.append((head, conv if conv in names else name))
    for level in range(4):
        for other in range(5):
            if other > level:
                part = f"hd{other + 1}_UT_hd{level + 1}"
                source = "bottom" if other == 4 else f"decoder{other}"
            else:
                way = "Cat" if other == level else "PT"
                part = f"h{other + 1}_{way}_hd{level + 1}"
                source = f"encoder{other}"
            conv, norm = getattr(theirs, f"{part}_conv"), getattr(theirs, f"{part}_bn")
            pairs.append((conv, f"decoder{level}_conv_{source}"))
            pairs.append((norm, f"decoder{level}_norm_{source}"))
        mix, norm = (f"conv{level + 1}d_1", f"bn{level + 1}d_1")
        pairs.append((getattr(theirs, mix), f"decoder{level}_conv"))
        pairs.append((getattr(theirs, norm), f"decoder{level}_norm"))
    if hasattr(theirs, "cls"):
        pairs.append((theirs.cls[1], "classification_conv"))
    return pairs


def _randomize(theirs: torch.nn.Module) -> None:
    """Give normalisation, and biases, values that are not the ones of a new network."""
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.uniform_(0.5, 1.5)
            module.running_var.uniform_(0.5, 1.5)
            module.running_mean.normal_(0, 0.3)
        if getattr(module, "bias", None) is not None:
            module.bias.data.normal_(0, 0.3)


def _copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs."""
    if isinstance(module, torch.nn.BatchNorm2d):
        # What either adds to the variance differs.
        variance = module.running_var + module.eps - layer.epsilon
        weights = [module.weight, module.bias, module.running_mean, variance]
    else:
        weights = [module.weight.permute(2, 3, 1, 0), module.bias]
    layer.set_weights([weight.detach().numpy() for weight in weights])
