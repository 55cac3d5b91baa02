"""The Swin-Unet beside its authors' code: HuCaoFighting/Swin-Unet.

The file is networks/swin_transformer_unet_skip_expand_decoder_sys.py. Its skips start
ahead of each stage's blocks, ours too. What it takes from timm and einops, three small
functions, is replaced for the time of the comparison.
"""

from __future__ import annotations

import importlib
import sys
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry

FILE = "networks.swin_transformer_unet_skip_expand_decoder_sys"


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    torch.manual_seed(0)
    theirs = _import(checkout).SwinTransformerSys(num_classes=9).eval()
    ours = registry.build("swin_unet", input_shape=(224, 224, 3), classes=9)
    for module, layer in _pairs(theirs):
        _copy(module, ours.get_layer(layer))

    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(image).numpy().transpose(0, 2, 3, 1)
    found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
    difference = np.abs(found - expected).max() / np.ptp(expected)
    return [("tiny, 224x224, 3 channels, 9 classes", float(difference))]


def _import(checkout: Path) -> types.ModuleType:
    needed = {
        "einops": {"rearrange": _rearrange},
        "timm": {},
        "timm.models": {},
        "timm.models.layers": {
            "DropPath": torch.nn.Dropout,
            "to_2tuple": lambda value: (value, value),
            "trunc_normal_": torch.nn.init.trunc_normal_,
        },
    }
    sys.path.insert(0, str(checkout))
    with _shared.stand_ins(needed):
        return importlib.import_module(FILE)


def _rearrange(x: torch.Tensor, _pattern: str, **sizes: Any) -> torch.Tensor:
    """Do what both of their patterns say: "b h w (p1 p2 c)-> b (h p1) (w p2) c"."""
    x = x.unflatten(3, (sizes["p1"], sizes["p2"], sizes["c"]))
    return x.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [
        (theirs.patch_embed.proj, "patches"),
        (theirs.patch_embed.norm, "patches_norm"),
        (theirs.norm, "bottom_norm"),
        (theirs.norm_up, "decoder_norm"),
        (theirs.up.expand, "pixels_dense"),
        (theirs.up.norm, "pixels_norm"),
        (theirs.output, "logits"),
    ]

    def blocks(stage: torch.nn.Module, name: str) -> None:
        for number, block in enumerate(stage.blocks):
            start = f"{name}_block{number}"
            pairs.append((block.norm1, f"{start}_norm1"))
            pairs.append((block.attn, f"{start}_attention"))
            pairs.append((block.norm2, f"{start}_norm2"))
            pairs.append((block.mlp.fc1, f"{start}_dense1"))
            pairs.append((block.mlp.fc2, f"{start}_dense2"))

    for level in range(3):
        stage = theirs.layers[level]
        blocks(stage, f"encoder{level}")
        pairs.append((stage.downsample.norm, f"down{level}_norm"))
        pairs.append((stage.downsample.reduction, f"down{level}_dense"))
        up = theirs.layers_up[2 - level]
        up = up if level == 2 else up.upsample
        pairs.append((up.expand, f"up{level}_dense"))
        pairs.append((up.norm, f"up{level}_norm"))
        pairs.append((theirs.concat_back_dim[3 - level], f"decoder{level}_dense"))
        blocks(theirs.layers_up[3 - level], f"decoder{level}")
    blocks(theirs.layers[3], "bottom")
    return pairs


def _copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs, randomised: they start very small."""
    for name, parameter in module.named_parameters():
        if isinstance(module, torch.nn.LayerNorm) and name == "weight":
            parameter.data.uniform_(0.5, 1.5)
        elif parameter.ndim == 1 or "table" in name:
            parameter.data.normal_(0, 0.3)
        else:
            parameter.data.normal_(0, parameter[0].numel() ** -0.5)
    if layer.name.endswith("_attention"):
        inward, outward = module.qkv, module.proj
        weights = [module.relative_position_bias_table]
        weights += [inward.weight.T, inward.bias, outward.weight.T, outward.bias]
    else:
        weights = list(module.parameters())
        if isinstance(module, torch.nn.Linear):
            weights[0] = weights[0].T
        elif isinstance(module, torch.nn.Conv2d):
            weights[0] = weights[0].permute(2, 3, 1, 0)
    layer.set_weights([weight.detach().numpy() for weight in weights])
