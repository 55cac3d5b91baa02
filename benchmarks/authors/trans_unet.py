"""The TransUNet beside its authors' code: Beckschen/TransUNet, networks.

Compared is R50-ViT-B_16 for 224x224 pixels. The grid of the patches is set to 14x14, as
their train.py does. ml_collections, of which theirs takes a dictionary with attributes,
is replaced for the time of the comparison.
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


class _Config(dict):
    """A dictionary whose words are also attributes."""

    __getattr__ = dict.__getitem__
    __setattr__ = dict.__setitem__


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    torch.manual_seed(0)
    network = _import(checkout)
    config = network.CONFIGS["R50-ViT-B_16"]
    config.n_classes = 9
    config.patches["grid"] = (14, 14)
    theirs = network.VisionTransformer(config, img_size=224, num_classes=9).eval()
    ours = registry.build("trans_unet", classes=9)
    for module, layer in _pairs(theirs):
        _copy(module, ours.get_layer(layer))

    image = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        expected = theirs(image).numpy().transpose(0, 2, 3, 1)
    found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
    difference = np.abs(found - expected).max() / np.ptp(expected)
    return [("R50-ViT-B_16, 224x224, 3 channels, 9 classes", float(difference))]


def _import(checkout: Path) -> types.ModuleType:
    sys.path.insert(0, str(checkout))
    with _shared.stand_ins({"ml_collections": {"ConfigDict": _Config}}):
        return importlib.import_module("networks.vit_seg_modeling")


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    embeddings, encoder = theirs.transformer.embeddings, theirs.transformer.encoder
    resnet, decoder = embeddings.hybrid_model, theirs.decoder
    pairs = [
        (resnet.root.conv, "encoder0_conv"),
        (resnet.root.gn, "encoder0_norm"),
        (embeddings.patch_embeddings, "tokens"),
        (embeddings, "places"),
        (encoder.encoder_norm, "tokens_norm"),
        (decoder.conv_more[0], "bottom_conv"),
        (decoder.conv_more[1], "bottom_norm"),
        (theirs.segmentation_head[0], "logits"),
    ]
    for level, stage in enumerate(resnet.body, 1):
        for number, unit in enumerate(stage):
            name = f"encoder{level}_unit{number}"
            for part in (1, 2, 3):
                pairs.append((getattr(unit, f"conv{part}"), f"{name}_conv{part}"))
                pairs.append((getattr(unit, f"gn{part}"), f"{name}_norm{part}"))
            if hasattr(unit, "downsample"):
                pairs.append((unit.downsample, f"{name}_shortcut"))
                pairs.append((unit.gn_proj, f"{name}_shortcut_norm"))
    for number, block in enumerate(encoder.layer):
        name = f"block{number}"
        pairs.append((block.attention_norm, f"{name}_norm1"))
        pairs.append((block.attn, f"{name}_attention"))
        pairs.append((block.ffn_norm, f"{name}_norm2"))
        pairs.append((block.ffn.fc1, f"{name}_dense1"))
        pairs.append((block.ffn.fc2, f"{name}_dense2"))
    for level, block in zip((3, 2, 1, 0), decoder.blocks, strict=True):
        for number, part in ((1, block.conv1), (2, block.conv2)):
            pairs.append((part[0], f"decoder{level}_{number}_conv"))
            pairs.append((part[1], f"decoder{level}_{number}_norm"))
    return pairs


def _copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs; normalisation and places are randomised."""
    norms = torch.nn.BatchNorm2d | torch.nn.GroupNorm | torch.nn.LayerNorm
    if layer.name == "places":
        weights = [module.position_embeddings.data.normal_()[0]]
    elif layer.name.endswith("_attention"):
        # Ours divides the width among the heads in the shape of the kernels.
        shape = layer.query_dense.kernel.shape
        weights = []
        for part in (module.query, module.key, module.value):
            weights += [part.weight.T.reshape(shape), part.bias.reshape(shape[1:])]
        weights += [module.out.weight.T.reshape(*shape[1:], -1), module.out.bias]
    elif isinstance(module, norms):
        module.weight.data.uniform_(0.5, 1.5)
        module.bias.data.normal_(0, 0.3)
        weights = [module.weight, module.bias]
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.3)
            module.running_var.uniform_(0.5, 1.5)
            # What either adds to the variance differs.
            variance = module.running_var + module.eps - layer.epsilon
            weights += [module.running_mean, variance]
    else:
        weights = list(module.parameters())
        turned = (1, 0) if isinstance(module, torch.nn.Linear) else (2, 3, 1, 0)
        weights[0] = weights[0].permute(turned)
    layer.set_weights([weight.detach().numpy() for weight in weights])
