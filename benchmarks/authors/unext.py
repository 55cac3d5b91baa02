"""The UNeXt beside its authors' code: jeya-maria-jose/UNeXt-pytorch, archs.py.

Their text shifts along the width first, their code along the height; ours follows the
code. It imports packages for training that it does not need to run: torchvision, timm,
mmcv and its own utils are replaced by empty ones for the time of the comparison.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry

SMALL = dict(filters=8, multipliers=(1, 2, 4, 8, 16))


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    network = _import(checkout)
    results = []
    for name, arguments in (("UNext", {}), ("UNext_S", SMALL)):
        torch.manual_seed(0)
        theirs = getattr(network, name)(num_classes=2).eval()
        ours = registry.build("unext", input_shape=(64, 96, 3), **arguments)
        for module, layer in _pairs(theirs):
            _copy(module, ours.get_layer(layer))

        image = torch.randn(2, 3, 64, 96)
        with torch.no_grad():
            expected = theirs(image).numpy().transpose(0, 2, 3, 1)
        found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
        difference = np.abs(found - expected).max() / np.ptp(expected)
        results.append((f"{name}, 3 channels, 2 classes", float(difference)))
    return results


def _import(checkout: Path) -> types.ModuleType:
    """Import their module with stand-ins for what it names and does not use here."""
    needed = {
        "torchvision": {"transforms": None},
        "torchvision.utils": {"save_image": None},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "DropPath": None,
            "to_2tuple": lambda value: (value, value),
            "trunc_normal_": torch.nn.init.trunc_normal_,
        },
        "mmcv": {},
        "mmcv.cnn": {"ConvModule": None},
        "utils": {},
    }
    sys.path.insert(0, str(checkout))
    with _shared.stand_ins(needed):
        return importlib.import_module("archs")


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [(theirs.final, "logits")]

    def block(block: torch.nn.Module, stage: str) -> None:
        pairs.append((block.norm2, f"{stage}_mlp_norm"))
        pairs.append((block.mlp.fc1, f"{stage}_dense1"))
        pairs.append((block.mlp.dwconv.dwconv, f"{stage}_depthwise"))
        pairs.append((block.mlp.fc2, f"{stage}_dense2"))

    for level in range(3):
        pairs.append((getattr(theirs, f"encoder{level + 1}"), f"encoder{level}_conv"))
        pairs.append((getattr(theirs, f"ebn{level + 1}"), f"encoder{level}_norm"))
    for number, stage in ((3, "encoder3"), (4, "bottom")):
        embedding = getattr(theirs, f"patch_embed{number}")
        pairs.append((embedding.proj, f"{stage}_embed"))
        pairs.append((embedding.norm, f"{stage}_embed_norm"))
        block(getattr(theirs, f"block{number - 2}")[0], stage)
        pairs.append((getattr(theirs, f"norm{number}"), f"{stage}_out_norm"))
    for number in range(1, 6):
        stage = f"decoder{5 - number}"
        pairs.append((getattr(theirs, f"decoder{number}"), f"{stage}_conv"))
        if number < 5:
            pairs.append((getattr(theirs, f"dbn{number}"), f"{stage}_norm"))
        if number < 3:
            block(getattr(theirs, f"dblock{number}")[0], stage)
            norm = getattr(theirs, f"dnorm{number + 2}")
            pairs.append((norm, f"{stage}_out_norm"))
    return pairs


def _copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs, all but kernels of convolutions randomised.

    (Their dense layers start so small that the blocks would hardly matter.)
    """
    if isinstance(module, torch.nn.BatchNorm2d | torch.nn.LayerNorm):
        module.weight.data.uniform_(0.5, 1.5)
    if isinstance(module, torch.nn.Linear):
        module.weight.data.normal_(0, module.in_features**-0.5)
    module.bias.data.normal_(0, 0.3)
    weights = [module.weight, module.bias]
    if isinstance(module, torch.nn.BatchNorm2d):
        module.running_mean.normal_(0, 0.3)
        module.running_var.uniform_(0.5, 1.5)
        # What either adds to the variance differs.
        variance = module.running_var + module.eps - layer.epsilon
        weights += [module.running_mean, variance]
    elif isinstance(module, torch.nn.Linear):
        weights[0] = weights[0].T
    elif isinstance(layer, keras.layers.DepthwiseConv2D):
        weights[0] = weights[0].permute(2, 3, 0, 1)
    elif isinstance(module, torch.nn.Conv2d):
        weights[0] = weights[0].permute(2, 3, 1, 0)
    layer.set_weights([weight.detach().numpy() for weight in weights])
