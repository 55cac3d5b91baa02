"""The SmaAt-UNet beside its authors' code: HansBambel/SmaAt-UNet, models/SmaAt_UNet.py.

Code and paper agree.
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
    network = importlib.import_module("models.SmaAt_UNet")
    results = []
    for channels, classes in ((12, 1), (3, 21)):
        torch.manual_seed(0)
        theirs = network.SmaAt_UNet(n_channels=channels, n_classes=classes).eval()
        shape = (48, 80, channels)
        ours = registry.build("smaat_unet", input_shape=shape, classes=classes)
        for module, layer in _pairs(theirs):
            _copy(module, ours.get_layer(layer))

        image = torch.randn(2, channels, 48, 80)
        with torch.no_grad():
            expected = theirs(image).numpy().transpose(0, 2, 3, 1)
        found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
        difference = np.abs(found - expected).max() / np.ptp(expected)
        results.append((f"{channels} channels, classes={classes}", float(difference)))
    return results


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [(theirs.outc.conv, "logits")]

    def stack(block: torch.nn.Module, stage: str) -> None:
        for number, at in ((1, 0), (2, 3)):
            conv = block.double_conv[at]
            pairs.append((conv.depthwise, f"{stage}_conv{number}_depthwise"))
            pairs.append((conv.pointwise, f"{stage}_conv{number}_pointwise"))
            pairs.append((block.double_conv[at + 1], f"{stage}_norm{number}"))

    def attention(block: torch.nn.Module, name: str) -> None:
        pairs.append((block.channel_att.MLP[1], f"{name}_channel_hidden"))
        pairs.append((block.channel_att.MLP[3], f"{name}_channel_out"))
        pairs.append((block.spatial_att.conv, f"{name}_pixel_conv"))
        pairs.append((block.spatial_att.bn, f"{name}_pixel_norm"))

    stack(theirs.inc, "encoder0")
    for level in (1, 2, 3, 4):
        stage = f"encoder{level}" if level < 4 else "bottom"
        stack(getattr(theirs, f"down{level}").maxpool_conv[1], stage)
        stack(getattr(theirs, f"up{level}").conv, f"decoder{4 - level}")
        attention(getattr(theirs, f"cbam{level}"), f"attention{level - 1}")
    attention(theirs.cbam5, "bottom_attention")
    return pairs


def _copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs; normalisation is randomised first."""
    if not isinstance(layer, keras.layers.DepthwiseConv2D):
        _shared.copy(module, layer)
        return
    # Theirs counts its outputs per input channel as well, input outermost.
    shape = layer.kernel.shape[2:]
    kernel = module.weight.unflatten(0, shape)[:, :, 0].permute(2, 3, 0, 1)
    weights = [kernel] if module.bias is None else [kernel, module.bias]
    layer.set_weights([weight.detach().numpy() for weight in weights])
