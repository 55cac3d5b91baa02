"""The MedNeXt against its authors': MIC-DKFZ/MedNeXt, `mednextv1/MedNextV1.py`.

The file and its `blocks.py` are loaded under the name they import each other by, with
nothing of the package around them, which needs an old nnU-Net. Their networks for
images (`dim="2d"`) have one parameter more, `dummy_tensor`, which takes no part. Theirs
transpose depthwise convolutions; ours convolve spread pixels, so windows are turned by
half a turn when copied.
"""

from __future__ import annotations

import importlib.util
import re
import sys
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from unet_zoo import registry

PACKAGE = "nnunet_mednext.network_architecture.mednextv1"
EXPANSION = {
    "S": 2,
    "B": [2, 3, 4, 4, 4, 4, 4, 3, 2],
    "M": [2, 3, 4, 4, 4, 4, 4, 3, 2],
    "L": [3, 4, 8, 8, 8, 8, 8, 4, 3],
}
BLOCKS = {
    "S": [2] * 9,
    "B": [2] * 9,
    "M": [3, 4, 4, 4, 4, 4, 4, 4, 3],
    "L": [3, 4, 8, 8, 8, 8, 8, 4, 3],
}


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of outputs, relative to their range, of each."""
    authors = _authors(checkout)
    return [
        (f"{scale}, kernel {kernel}", _difference(authors.MedNeXt, scale, kernel))
        for scale, kernel in (("S", 3), ("B", 5), ("M", 3), ("L", 5))
    ]


def _authors(checkout: Path) -> Any:
    folder = checkout.joinpath(*PACKAGE.split("."))
    parts = PACKAGE.split(".")
    for end in range(1, len(parts) + 1):
        name = ".".join(parts[:end])
        sys.modules[name] = types.ModuleType(name)
    for file in ("blocks", "MedNextV1"):
        name = f"{PACKAGE}.{file}"
        spec = importlib.util.spec_from_file_location(name, folder / f"{file}.py")
        sys.modules[name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def _difference(build: Any, scale: str, kernel: int) -> float:
    torch.manual_seed(0)
    theirs = build(
        in_channels=2,
        n_channels=8,
        n_classes=3,
        exp_r=EXPANSION[scale],
        kernel_size=kernel,
        deep_supervision=True,
        do_res=True,
        do_res_up_down=True,
        block_counts=BLOCKS[scale],
        dim="2d",
    ).eval()
    for name, parameter in theirs.named_parameters():
        if name.endswith("norm.weight"):
            parameter.data.uniform_(0.5, 1.5)
        elif name.endswith("bias"):
            parameter.data.normal_(0, 0.2)
    ours = registry.build(
        "mednext",
        input_shape=(64, 96, 2),
        classes=3,
        filters=8,
        scale=scale,
        kernel=kernel,
        deep_supervision=True,
    )
    for layer in ours.layers:
        if layer.weights:
            module = theirs.get_submodule(_their_name(layer.name))
            layer.set_weights(_weights(module))
    image = np.random.default_rng(0).normal(size=(2, 64, 96, 2)).astype("float32")
    with torch.no_grad():
        expected = theirs(torch.from_numpy(image.transpose(0, 3, 1, 2)))
        found = ours(image)
    worst = 0.0
    for one, other in zip(found, expected, strict=True):
        values = other.numpy().transpose(0, 2, 3, 1)
        error = np.abs(keras.ops.convert_to_numpy(one) - values).max()
        worst = max(worst, float(error / np.ptp(values)))
    return worst


def _their_name(name: str) -> str:
    """Translate `encoder0_block1_expand` to `enc_block_0.0.conv2`, and so on."""
    if found := re.fullmatch(r"logits(\d?)", name):
        return f"out_{found[1] or 0}.conv_out"
    if name == "stem":
        return name
    parts = dict(depthwise="conv1", norm="norm", expand="conv2", project="conv3")
    stage, *block, part = name.split("_")
    part = (parts | dict(shortcut="res_conv"))[part]
    if stage == "bottom":
        owner = "bottleneck"
    else:
        words = dict(encoder="enc_block", decoder="dec_block", down="down", up="up")
        owner = f"{words[stage[:-1]]}_{stage[-1]}"
    number = f".{int(block[0][5:]) - 1}" if block else ""
    return f"{owner}{number}.{part}"


def _weights(module: torch.nn.Module) -> list[np.ndarray]:
    kernel, bias = (each.detach().numpy() for each in module.parameters())
    if kernel.ndim == 1:
        return [kernel, bias]
    depthwise = module.groups > 1
    if isinstance(module, torch.nn.ConvTranspose2d):
        kernel = kernel[:, :, ::-1, ::-1]
        if not depthwise:
            kernel = kernel.swapaxes(0, 1)
    # Out and in, then the window; of a depthwise one, channels and one.
    order = (2, 3, 0, 1) if depthwise else (2, 3, 1, 0)
    return [kernel.transpose(order), bias]
