"""The KiU-Net beside its authors' code: jeya-maria-jose/KiU-Net-pytorch, arch/ae.py.

Theirs ends in a ReLU on the logits, which the comparison adds to ours, and creates two
convolutions that it never uses. torchvision, which it imports and does not need, is
replaced by an empty module for the time of the comparison.
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


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    torch.manual_seed(0)
    theirs = _import(checkout).kiunet().eval()
    ours = registry.build("kiunet", input_shape=(32, 48, 1))
    for module, layer in _pairs(theirs):
        _shared.copy(module, ours.get_layer(layer))

    image = torch.randn(2, 1, 32, 48)
    with torch.no_grad():
        expected = theirs(image).numpy().transpose(0, 2, 3, 1)
    found = keras.ops.convert_to_numpy(ours(image.numpy().transpose(0, 2, 3, 1)))
    difference = np.abs(np.maximum(found, 0) - expected).max() / np.ptp(expected)
    return [("1 channel, 2 classes", float(difference))]


def _import(checkout: Path) -> types.ModuleType:
    needless = {
        "torchvision": {"transforms": None},
        "torchvision.transforms": {},
        "torchvision.utils": {"save_image": None},
        "torchvision.datasets": {"MNIST": None},
    }
    sys.path.insert(0, str(checkout))
    with _shared.stand_ins(needless):
        return importlib.import_module("arch.ae")


def _pairs(theirs: torch.nn.Module) -> list[tuple[torch.nn.Module, str]]:
    """Return their layers with weights, each with the name of ours."""
    pairs = [(theirs.final, "logits")]

    def both(conv: str, norm: str, name: str) -> None:
        pairs.append((getattr(theirs, conv), f"{name}_conv"))
        pairs.append((getattr(theirs, norm), f"{name}_norm"))

    for number in (1, 2, 3):
        encoder, decoder = f"encoder{number - 1}", f"decoder{3 - number}"
        both(f"encoder{number}", f"en{number}_bn", f"{encoder}_u")
        both(f"encoderf{number}", f"enf{number}_bn", f"{encoder}_ki")
        both(f"decoder{number}", f"de{number}_bn", f"{decoder}_u")
        both(f"decoderf{number}", f"def{number}_bn", f"{decoder}_ki")
        for way, name in ((1, "u_from_ki"), (2, "ki_from_u")):
            both(f"intere{number}_{way}", f"inte{number}_{way}bn", f"{encoder}_{name}")
            if number < 3:
                norm = f"intd{number}_{way}bn"
                both(f"interd{number}_{way}", norm, f"{decoder}_{name}")
    return pairs
