"""What several comparisons need: weights carried over, missing packages replaced."""

from __future__ import annotations

import contextlib
import sys
import types
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import torch


def copy(module: torch.nn.Module, layer: keras.layers.Layer) -> None:
    """Give a layer the weights of theirs; normalisation is randomised first."""
    if isinstance(module, torch.nn.BatchNorm2d):
        for tensor in (module.weight.data, module.running_var):
            tensor.uniform_(0.5, 1.5)
        for tensor in (module.bias.data, module.running_mean):
            tensor.normal_(0, 0.3)
        # What either adds to the variance differs.
        variance = module.running_var + module.eps - layer.epsilon
        weights = [module.weight, module.bias, module.running_mean, variance]
    else:
        # Convolutions, transposed ones too, keep the order but for the first two axes.
        dense = isinstance(module, torch.nn.Linear)
        kernel = module.weight
        weights = [kernel.T if dense else kernel.permute(2, 3, 1, 0)]
        weights += [] if module.bias is None else [module.bias]
    layer.set_weights([weight.detach().numpy() for weight in weights])


@contextlib.contextmanager
def stand_ins(
    modules: Mapping[str, types.ModuleType | Mapping[str, Any]],
) -> Iterator[None]:
    """Let imports find `modules`, or new ones of that content, and nothing after."""
    before = {name: sys.modules.get(name) for name in modules}
    try:
        for name, given in modules.items():
            if not isinstance(given, types.ModuleType):
                content, given = given, types.ModuleType(name)
                vars(given).update(content)
            sys.modules[name] = given
        yield
    finally:
        for name, old in before.items():
            if old is None:
                del sys.modules[name]
            else:
                sys.modules[name] = old
