"""The graph of a Keras network."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import keras
import numpy as np

from unet_zoo import devices
from unet_zoo.graphs import Builder, Graph, Step

_POINTWISE = (
    "Activation",
    "Add",
    "AlphaDropout",
    "Average",
    "Dropout",
    "ELU",
    "GaussianDropout",
    "GaussianNoise",
    "Identity",
    "LeakyReLU",
    "Maximum",
    "Minimum",
    "Multiply",
    "ReLU",
    "Rescaling",
    "SpatialDropout2D",
    "Subtract",
)


class Tensors:
    """Tensors of Keras' backend; `graphs.Arrays`."""

    rows = 1
    # Joined or turned, and laid out as a convolution wants them; buffers beside it.
    copies = (2.4, 1.8)
    again = 1.0

    def __init__(self) -> None:
        self._made: dict[int, Callable[[list[Any]], Any]] = {}

    def put(self, region: np.ndarray) -> Any:
        return keras.ops.convert_to_tensor(region[None])

    def get(self, array: Any) -> np.ndarray:
        found: np.ndarray = keras.ops.convert_to_numpy(array)[0]
        return found

    def join(self, parts: list[Any]) -> Any:
        return keras.ops.concatenate(parts, axis=1)

    def copy(self, array: Any) -> Any:
        return keras.ops.copy(array)

    def flip(self, array: Any, axes: list[int]) -> Any:
        return keras.ops.flip(array, axes)

    def swap(self, array: Any) -> Any:
        return keras.ops.transpose(array, (0, 2, 1, 3))

    def call(self, step: Step, values: list[Any]) -> Any:
        if step.output not in self._made:
            channels = [value.shape[-1] for value in values]
            self._made[step.output] = devices.compiled(_chain(step), channels)
        return self._made[step.output](values)


def _chain(step: Step) -> Callable[[list[Any]], Any]:
    def chain(values: list[Any]) -> Any:
        result = values if step.listed else values[0]
        for layer in step.layers:
            result = layer(result)
        return result

    return chain


def read(network: Any) -> Graph | None:
    """Return the graph of a network whose layers are all local; None: some are not.

    Known are the stock layers of a padded U-Net: convolutions, pooling, upsampling and
    whatever treats each pixel by itself. A layer that looks at the whole image, or that
    is not known, gives None.
    """
    if not isinstance(network, keras.Model) or len(network.inputs) != 1:
        return None
    number = {id(network.inputs[0]): 0}
    builder = Builder(network.inputs[0].shape[-1])
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if node.is_input:
                continue
            step = _step(node, number, builder.ratios)
            if step is None:
                return None
            given = node.outputs[0]
            number[id(given)] = builder.add(step, given.shape[-1])
    return builder.finish(number[id(network.outputs[0])], Tensors())


def _step(node: Any, number: dict[int, int], ratios: list[Fraction]) -> Step | None:
    layer = node.operation
    taken = node.input_tensors
    if len(node.outputs) != 1 or any(id(each) not in number for each in taken):
        return None
    if not isinstance(layer, keras.layers.Layer) or layer.dtype != "float32":
        return None
    inputs = tuple(number[id(each)] for each in taken)
    if len({ratios[each] for each in inputs}) != 1:
        return None
    arguments = node.arguments.args
    listed = bool(arguments) and isinstance(arguments[0], list | tuple)
    if not listed and len(inputs) != 1:
        return None
    looks = _looks(layer, len(node.outputs[0].shape))
    if looks is None:
        return None
    return Step((layer,), inputs, len(ratios), listed, **looks)


def _looks(layer: Any, rank: int) -> dict[str, Any] | None:
    """Return how a layer looks at its neighbourhood; None where that is not known."""
    kind = _kind(layer)
    last = (-1, rank - 1)
    if rank != 4 or getattr(layer, "data_format", None) == "channels_first":
        return None
    if kind in ("BatchNormalization", "Concatenate") and layer.axis in last:
        return {}
    if kind == "LayerNormalization" and layer.axis in (-1, [-1], [3], (3,), (-1,)):
        return {}
    if kind in _POINTWISE:
        return {}
    if kind in ("Conv2D", "DepthwiseConv2D"):
        size, dilation = set(layer.kernel_size), set(layer.dilation_rate)
        stride = _side(layer.strides)
        fits = len(size) == len(dilation) == 1
        padded = layer.padding == "same" or max(size) == 1
        if not fits or not padded or stride is None or max(size) % 2 == 0:
            return None
        wide = (max(size) - 1) * max(dilation)
        # With a stride all of it may lie on one side; groups of rows stay together.
        reach = wide // 2 if stride == 1 else -(-wide // stride) * stride
        work = math.prod(layer.kernel.shape)
        spatial = reach > 0 or stride > 1
        return {"reach": reach, "group": stride, "spatial": spatial, "work": work}
    if kind == "Conv2DTranspose":
        stride = _side(layer.strides)
        if stride is None or set(layer.kernel_size) != {stride}:
            return None
        if layer.output_padding is not None or set(layer.dilation_rate) != {1}:
            return None
        work = math.prod(layer.kernel.shape) // stride**2
        return {"grow": stride, "spatial": True, "work": work}
    if kind in ("MaxPooling2D", "AveragePooling2D"):
        side = _side(layer.pool_size)
        if side is None or set(layer.strides) != {side}:
            return None
        return {"group": side, "spatial": True}
    if kind == "UpSampling2D":
        side = _side(layer.size)
        if side is None or layer.interpolation not in ("nearest", "bilinear"):
            return None
        reach = int(layer.interpolation == "bilinear")
        return {"grow": side, "reach": reach, "spatial": True}
    return None


def _kind(layer: Any) -> str:
    """Return the name of the stock layer that a layer is; "" for any other."""
    from unet_zoo.models import _blocks

    if isinstance(layer, _blocks.BilinearUpsampling):
        return "UpSampling2D"
    kind = type(layer)
    return kind.__name__ if kind is getattr(keras.layers, kind.__name__, None) else ""


def _side(size: tuple[int, int]) -> int | None:
    return int(size[0]) if len(set(size)) == 1 else None
