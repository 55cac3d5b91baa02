"""The ResUNet-a beside its authors' code, feevos/resuneta: d6 and d7, all four tasks.

Their code is for MXNet, which does not install any more: the few parts of it that they
use are stood in for by PyTorch's here, and their files run as they are. Their outputs
are the sigmoids and softmaxes of ours. Code and paper differ in the widths and kernels
of what leads down and up and in some dilations; ours are those of the code.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import torch
from authors import _shared

from unet_zoo import registry

SIZE = 256


def compare(checkout: Path) -> list[tuple[str, float]]:
    """Return the largest difference of the outputs, relative to their range."""
    sys.modules |= _mxnet()
    package = types.ModuleType("resuneta")
    package.__path__ = [str(checkout)]
    sys.modules["resuneta"] = package
    random = np.random.default_rng(0)
    results = []
    for depth, classes in ((5, 6), (5, 1), (6, 6)):
        kind = f"ResUNet_d{depth + 1}"
        file = f"resuneta.models.resunet_d{depth + 1}_causal_mtskcolor_ddist"
        theirs = getattr(importlib.import_module(file), kind)(8, classes, verbose=False)
        image = random.normal(size=(1, SIZE, SIZE, 5)).astype("float32")
        inputs = torch.from_numpy(image.transpose(0, 3, 1, 2))
        torch.manual_seed(0)
        with torch.no_grad():
            theirs.eval()(inputs)  # Their layers learn the number of channels here.

        ours = registry.build(
            "resunet_a",
            input_shape=image.shape[1:],
            classes=classes,
            filters=8,
            depth=depth,
            multitask=True,
        )
        weighted = (torch.nn.Conv2d, torch.nn.BatchNorm2d)
        modules = [one for one in theirs.modules() if isinstance(one, weighted)]
        for module, name in zip(modules, _names(ours, depth), strict=True):
            _shared.copy(module, ours.get_layer(name))
        with torch.no_grad():
            expected = [each.numpy().transpose(0, 2, 3, 1) for each in theirs(inputs)]
        exclusive = keras.ops.sigmoid if classes == 1 else keras.ops.softmax
        ends = (exclusive, keras.ops.sigmoid, exclusive, keras.ops.sigmoid)
        for end, output, name, each in zip(
            ends, ours(image), ours.output_names, expected, strict=True
        ):
            found = keras.ops.convert_to_numpy(end(output))
            difference = np.abs(found - each).max() / np.ptp(each)
            results.append((f"{kind}, classes={classes}, {name}", float(difference)))
    return results


def _names(ours: keras.Model, depth: int) -> Iterator[str]:
    """Yield our layers with weights, in the order their code makes theirs."""

    def residual(stage: str) -> Iterator[str]:
        for dilation in (1, 3, 5, 15, 31):
            name = f"{stage}_dilated{dilation}"
            if any(layer.name.startswith(f"{name}_") for layer in ours.layers):
                for number in (1, 2):
                    yield from (f"{name}_norm{number}", f"{name}_conv{number}")

    def normed(*names: str) -> Iterator[str]:
        for name in names:
            yield from (name, f"{name}_norm")

    def pool(stage: str, levels: int) -> Iterator[str]:
        yield from normed(*(f"{stage}_parts{2**n}_conv" for n in range(levels)))
        yield from normed(f"{stage}_conv")

    yield from normed("stem")
    for level in range(depth):
        yield from residual(f"encoder{level}")
        yield f"down{level}"
    yield from residual("bottom")
    yield from pool("bottom", 4 if depth == 5 else 3)
    for level in reversed(range(depth)):
        yield from normed(f"up{level}_conv", f"decoder{level}_conv")
        yield from residual(f"decoder{level}")
    yield from pool("end", 4)
    yield from (*normed("logits_conv1", "logits_conv2"), "logits")
    yield from (*normed("boundary_conv1"), "boundary")
    yield from (*normed("distance_conv1", "distance_conv2"), "distance", "color")


# === What they use of MXNet ===


class HybridBlock(torch.nn.Module):
    """A block whose `hybrid_forward` gets the functions to use as an argument."""

    def __init__(self, prefix: str | None = None) -> None:
        super().__init__()

    def name_scope(self) -> contextlib.AbstractContextManager:
        return contextlib.nullcontext()

    def forward(self, *inputs: torch.Tensor) -> Any:
        return self.hybrid_forward(_FUNCTIONS, *inputs)


class HybridSequential(torch.nn.Sequential):
    def add(self, block: torch.nn.Module) -> None:
        self.append(block)


class HybridLambda(HybridBlock):
    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.hybrid_forward = function


def _conv(
    channels: int,
    kernel_size: Any,
    strides: Any = 1,
    use_bias: bool = True,
    **rest: Any,
) -> torch.nn.Module:
    kept = {word: rest[word] for word in ("padding", "dilation") if word in rest}
    return torch.nn.LazyConv2d(channels, kernel_size, strides, bias=use_bias, **kept)


def _upsample(x: torch.Tensor, scale: int, sample_type: str) -> torch.Tensor:
    return torch.nn.functional.interpolate(x, scale_factor=scale, mode=sample_type)


_FUNCTIONS = types.SimpleNamespace(
    relu=torch.relu,
    sigmoid=torch.sigmoid,
    softmax=lambda x, axis: torch.softmax(x, axis),
    concat=lambda *parts, dim=1: torch.cat(parts, dim),
    split=lambda x, axis, num_outputs: torch.chunk(x, num_outputs, axis),
    broadcast_add=torch.add,
    broadcast_mul=torch.mul,
    ones_like=torch.ones_like,
    # Without a kind named, MXNet pools the largest value.
    Pooling=lambda x, global_pool: x.amax((2, 3), keepdim=True),
    UpSampling=_upsample,
)


def _mxnet() -> dict[str, types.ModuleType]:
    names = ("mxnet", "mxnet.gluon", "mxnet.gluon.nn")
    mxnet, gluon, nn = (types.ModuleType(name) for name in names)
    mxnet.gluon, gluon.nn, gluon.HybridBlock = gluon, nn, HybridBlock
    nn.Conv2D = _conv
    nn.BatchNorm = lambda axis, prefix=None: torch.nn.LazyBatchNorm2d()
    nn.Activation = lambda kind: torch.nn.ReLU()
    nn.HybridSequential, nn.HybridLambda = HybridSequential, HybridLambda
    return dict(zip(names, (mxnet, gluon, nn), strict=True))
