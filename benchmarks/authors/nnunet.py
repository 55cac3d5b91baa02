"""nnU-Net's networks: MIC-DKFZ/dynamic-network-architectures, `architectures/unet.py`.

`PlainConvUNet` and `ResidualEncoderUNet` are built with the arguments that nnU-Net's
planner writes into its plans (instance normalisation with scale and shift, biases,
leaky ReLU), small, with planned strides and kernels, in two and three dimensions.
Nothing differs from the paper.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from unet_zoo import registry
from unet_zoo.models import nnunet

CASES = [
    ("plain, 2D, 8 stages", dict(input_shape=(256, 512, 1), depth=7)),
    ("plain, 2D, planned", dict(input_shape=(96, 64, 2))),
    ("plain, 3D, planned", dict(input_shape=(8, 32, 48, 1), spacing=(3, 1, 1))),
    ("residual, 2D, planned", dict(input_shape=(96, 64, 2), encoder="residual")),
    ("residual, 3D, planned", dict(input_shape=(16, 32, 48, 1), encoder="residual")),
]


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of outputs, relative to their range, of each."""
    sys.path.insert(0, str(checkout))
    from dynamic_network_architectures.architectures import unet

    return [(name, _difference(unet, **case)) for name, case in CASES]


def _difference(
    unet: Any,
    input_shape: tuple[int, ...],
    depth: int | None = None,
    spacing: tuple[float, ...] | None = None,
    encoder: str = "plain",
) -> float:
    torch.manual_seed(0)
    rank = len(input_shape) - 1
    shared = dict(filters=8, max_filters=24, deep_supervision=True)
    arguments = dict(input_shape=input_shape, depth=depth, encoder=encoder)
    ours = registry.build("nnunet", spacing=spacing, **arguments, **shared)
    if depth is None:
        strides, kernels = nnunet.plan(input_shape[:-1], spacing)
    else:
        strides, kernels = [1] + [2] * depth, [3] * (depth + 1)
    stages = len(strides)
    rest = dict(
        input_channels=input_shape[-1],
        n_stages=stages,
        features_per_stage=[min(8 * 2**n, 24) for n in range(stages)],
        conv_op=getattr(torch.nn, f"Conv{rank}d"),
        kernel_sizes=kernels,
        strides=strides,
        num_classes=2,
        conv_bias=True,
        norm_op=getattr(torch.nn, f"InstanceNorm{rank}d"),
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=torch.nn.LeakyReLU,
        deep_supervision=True,
    )
    if encoder == "plain":
        theirs = unet.PlainConvUNet(
            n_conv_per_stage=2, n_conv_per_stage_decoder=2, **rest
        )
    else:
        blocks = [(1, 3, 4, 6)[min(n, 3)] for n in range(stages)]
        theirs = unet.ResidualEncoderUNet(
            n_blocks_per_stage=blocks, n_conv_per_stage_decoder=1, **rest
        )
    for name, parameter in theirs.named_parameters():
        if "norm.weight" in name:
            parameter.data.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
    theirs.eval()
    for layer in ours.layers:
        if layer.weights:
            module = theirs.get_submodule(_their_name(layer.name, stages))
            layer.set_weights(_weights(module))
    image = np.random.default_rng(0).normal(size=(2, *input_shape)).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(np.moveaxis(image, -1, 1)))
        found = ours(image)
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        values = np.moveaxis(other.numpy(), 1, -1)
        error = np.abs(keras.ops.convert_to_numpy(one) - values).max()
        worst = max(worst, float(error / np.ptp(values)))
    return worst


def _their_name(name: str, stages: int) -> str:
    """Translate `decoder0_conv1` to `decoder.stages.6.convs.0.conv`, and so on."""
    name = name.replace("bottom", f"encoder{stages - 1}")
    # Their decoder counts from the lowest resolution.
    if found := re.fullmatch(r"(logits|up)(\d*)", name):
        owner = "seg_layers" if found[1] == "logits" else "transpconvs"
        return f"decoder.{owner}.{stages - 2 - int(found[2] or 0)}"
    if found := re.fullmatch(r"stem_(conv|norm)1", name):
        return f"encoder.stem.convs.0.{found[1]}"
    if found := re.fullmatch(r"(en|de)coder(\d+)_(conv|norm)(\d)", name):
        number = int(found[2]) if found[1] == "en" else stages - 2 - int(found[2])
        nested = "0." if found[1] == "en" else ""
        unit = f"{nested}convs.{int(found[4]) - 1}.{found[3]}"
        return f"{found[1]}coder.stages.{number}.{unit}"
    stage, block, *rest = name.removeprefix("encoder").split("_")
    owner = f"encoder.stages.{stage}.blocks.{int(block[5:]) - 1}"
    if rest[0] == "shortcut":
        # Their shortcut starts with pooling, where strided.
        return f"{owner}.skip.{0 if stage == '0' else 1}.{[*rest, 'conv'][1]}"
    return f"{owner}.conv{rest[0][4:]}.{rest[0][:4]}"


def _weights(module: torch.nn.Module) -> list[np.ndarray]:
    weights = [each.detach().numpy() for each in module.parameters()]
    if weights[0].ndim > 1:
        # Out and in (the other way round if transposed), then the window.
        weights[0] = weights[0].transpose(*range(2, weights[0].ndim), 1, 0)
    return weights
