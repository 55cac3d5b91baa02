"""The U2-Net against its authors': xuebinqin/U-2-Net, `model/u2net.py`.

Their code ends in sigmoids, which hide differences of large values, and resizes with
`F.upsample`, which is going from PyTorch: the two functions it takes from
`torch.nn.functional` are replaced, in its module alone, by the identity and by
`interpolate`. Nothing differs from the paper.
"""

from __future__ import annotations

import importlib.util
import types
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch

from unet_zoo import registry


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of outputs, relative to their range, of each."""
    path = checkout / "model" / "u2net.py"
    spec = importlib.util.spec_from_file_location("authors_u2net", path)
    authors = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(authors)
    authors.F = types.SimpleNamespace(
        upsample=torch.nn.functional.interpolate, sigmoid=torch.nn.Identity()
    )
    return [
        ("U2NET", _difference(authors.U2NET(3, 1), lite=False)),
        ("U2NETP, lite", _difference(authors.U2NETP(3, 1), lite=True)),
    ]


def _difference(theirs: Any, lite: bool) -> float:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    theirs.eval()
    for module in theirs.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2)
    ours = registry.build(
        "u2net",
        input_shape=(64, 96, 3),
        classes=1,
        lite=lite,
        deep_supervision=True,
    )
    for layer in ours.layers:
        if layer.weights:
            layer.set_weights(_weights(theirs.get_submodule(_their_name(layer.name))))
    image = random.normal(size=(1, 64, 96, 3)).astype("float32")
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
    """Translate `encoder0_2_back_conv` to `stage1.rebnconv3d.conv_s1`, and so on."""
    if name == "logits":
        return "outconv"
    if name.startswith("side"):
        return f"side{int(name[4:]) + 1}"
    stage, step, *back, kind = name.split("_")
    number = 6 if stage == "bottom" else int(stage[-1]) + 1
    owner = f"stage{number}" + ("d" if stage.startswith("decoder") else "")
    dilated = number >= 5
    if step == "in":
        unit = "rebnconvin"
    elif step == "bottom":
        # As many convolutions as the block's name says: RSU7 to RSU4, and RSU4F.
        unit = f"rebnconv{4 if dilated else 8 - number}"
    else:
        unit = f"rebnconv{int(step) + 1}" + ("d" if back else "")
    return f"{owner}.{unit}.{'conv_s1' if kind == 'conv' else 'bn_s1'}"


def _weights(module: torch.nn.Module) -> list[np.ndarray]:
    bias = module.bias.detach().numpy()
    if isinstance(module, torch.nn.BatchNorm2d):
        # Keras adds 1e-3 to the variance, PyTorch 1e-5.
        variance = module.running_var.numpy() + module.eps - 1e-3
        return [module.weight.detach().numpy(), bias, module.running_mean, variance]
    return [module.weight.detach().numpy().transpose(2, 3, 1, 0), bias]
