"""The R2U-Net beside R2U_Net and R2AttU_Net of LeeJunHyun/Image_Segmentation.

That is not the code of the paper's authors, which is not public, but what the R2U-Net
is compared with (network.py). It differs from the paper in its upsampling, nearest and
a 3x3 convolution, and in a 1x1 convolution ahead of the recurrent ones.
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
    results = []
    for kind, attention in ((network.R2U_Net, False), (network.R2AttU_Net, True)):
        for recurrences in (1, 2):
            torch.manual_seed(0)
            theirs = kind(img_ch=3, output_ch=1, t=recurrences).eval()
            ours = registry.build(
                "r2_unet",
                input_shape=(32, 48, 3),
                classes=1,
                recurrences=recurrences,
                attention=attention,
            )
            for module, layer in _pairs(theirs, attention):
                _shared.copy(module, ours.get_layer(layer))

            image = torch.randn(2, 3, 32, 48)
            with torch.no_grad():
                expected = theirs(image).numpy().transpose(0, 2, 3, 1)
            found = ours(image.numpy().transpose(0, 2, 3, 1))
            found = keras.ops.convert_to_numpy(found)
            difference = np.abs(found - expected).max() / np.ptp(expected)
            results.append((f"{kind.__name__}, t={recurrences}", float(difference)))
    return results


def _pairs(
    theirs: torch.nn.Module, attention: bool
) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [(theirs.Conv_1x1, "logits")]

    def stack(block: torch.nn.Module, stage: str) -> None:
        pairs.append((block.Conv_1x1, f"{stage}_conv0"))
        for number, recurrent in enumerate(block.RCNN, start=1):
            pairs.append((recurrent.conv[0], f"{stage}_conv{number}"))
            pairs.append((recurrent.conv[1], f"{stage}_norm{number}"))

    for level in range(4):
        stack(getattr(theirs, f"RRCNN{level + 1}"), f"encoder{level}")
        up = getattr(theirs, f"Up{level + 2}").up
        pairs += [(up[1], f"up{level}_conv"), (up[2], f"up{level}_norm")]
        stack(getattr(theirs, f"Up_RRCNN{level + 2}"), f"decoder{level}")
        if attention:
            gate = getattr(theirs, f"Att{level + 2}")
            parts = ((gate.W_g, "up"), (gate.W_x, "skip"), (gate.psi, "weight"))
            for part, which in parts:
                name = f"attention{level}_{which}"
                pairs += [(part[0], name), (part[1], f"{name}_norm")]
    stack(theirs.RRCNN5, "bottom")
    return pairs
