"""The FC-DenseNet beside bfortuner/pytorch_tiramisu, models/tiramisu.py.

The authors' own code (SimJeg/FC-DenseNet) needs Theano and Lasagne, which do not run
any more. This one follows it layer by layer, but for dropping whole channels. Its
output is the logarithm of the softmax of ours. Its FCDenseNet57 is the paper's 56.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    sys.path.insert(0, str(checkout))
    network = importlib.import_module("models.tiramisu")
    results = []
    for kind, arguments in (
        (network.FCDenseNet57, {"layers": 4, "growth": 12}),
        (network.FCDenseNet67, {"layers": 5}),
        (network.FCDenseNet103, {}),
    ):
        torch.manual_seed(0)
        theirs = kind(n_classes=11).eval()
        ours = registry.build(
            "dense_unet", input_shape=(64, 96, 3), classes=11, **arguments
        )
        for module, layer in _pairs(theirs):
            _shared.copy(module, ours.get_layer(layer))

        image = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            expected = theirs(image).numpy().transpose(0, 2, 3, 1)
        found = ours(image.numpy().transpose(0, 2, 3, 1))
        found = keras.ops.convert_to_numpy(keras.ops.log_softmax(found))
        difference = np.abs(found - expected).max() / np.ptp(expected)
        results.append((kind.__name__, float(difference)))
    return results


def _pairs(theirs: torch.nn.Module) -> Iterator[tuple[torch.nn.Module, str]]:
    """Yield their layers with weights, each with the name of ours."""

    def grow(block: torch.nn.Module, stage: str) -> Iterator:
        for number, layer in enumerate(block.layers, start=1):
            yield layer.norm, f"{stage}_norm{number}"
            yield layer.conv, f"{stage}_conv{number}"

    yield theirs.firstconv, "stem"
    for level in range(5):
        yield from grow(theirs.denseBlocksDown[level], f"encoder{level}")
        down = theirs.transDownBlocks[level]
        yield down.norm, f"down{level}_norm"
        yield down.conv, f"down{level}_conv"
        yield theirs.transUpBlocks[level].convTrans, f"up{4 - level}"
        yield from grow(theirs.denseBlocksUp[level], f"decoder{4 - level}")
    yield from grow(theirs.bottleneck.bottleneck, "bottom")
    yield theirs.finalConv, "logits"
