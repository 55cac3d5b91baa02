"""The Attention U-Net beside AttU_Net of LeeJunHyun/Image_Segmentation, network.py.

That is not the code of the paper's authors, which is for volumes only, but what the
two-dimensional Attention U-Net is compared with. It differs from the paper in gating at
the skip's own resolution, in normalising inside the gates, and in its upsampling.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    sys.path.insert(0, str(checkout))
    network = importlib.import_module("network")
    torch.manual_seed(0)
    theirs = network.AttU_Net(img_ch=3, output_ch=1).eval()
    ours = registry.build("attention_unet", input_shape=(64, 96, 3), classes=1)
    for module, layer in _pairs(theirs):
        _shared.copy(module, ours.get_layer(layer))

    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        expected = theirs(image).numpy().transpose(0, 2, 3, 1)
    found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
    difference = np.abs(found - expected).max() / np.ptp(expected)
    return [("3 channels, 1 class", float(difference))]


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [(theirs.Conv_1x1, "logits")]

    def stack(block: torch.nn.Module, stage: str) -> None:
        for number, at in ((1, 0), (2, 3)):
            pairs.append((block.conv[at], f"{stage}_conv{number}"))
            pairs.append((block.conv[at + 1], f"{stage}_norm{number}"))

    for level in range(4):
        stack(getattr(theirs, f"Conv{level + 1}"), f"encoder{level}")
        up = getattr(theirs, f"Up{level + 2}").up
        pairs += [(up[1], f"up{level}_conv"), (up[2], f"up{level}_norm")]
        gate = getattr(theirs, f"Att{level + 2}")
        for part, which in ((gate.W_g, "up"), (gate.W_x, "skip"), (gate.psi, "weight")):
            name = f"attention{level}_{which}"
            pairs += [(part[0], name), (part[1], f"{name}_norm")]
        stack(getattr(theirs, f"Up_conv{level + 2}"), f"decoder{level}")
    stack(theirs.Conv5, "bottom")
    return pairs
