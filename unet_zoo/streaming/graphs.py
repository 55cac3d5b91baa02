"""What a network is made of, where each of its layers looks at a few rows only."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import keras

from unet_zoo import devices


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer of a network: which tensors it takes and how far it looks.

    Attributes:
        layers: what is called, one after the other; all but the first treat every
            pixel by itself.
        inputs: numbers of the tensors it takes.
        channels: of each of them.
        listed: it takes them as a list.
        output: number of the tensor it gives.
        reach: how many rows above and below a row it looks at.
        group: how many rows it makes to one.
        grow: how many rows it makes of one.
        spatial: it does not treat every pixel alike, so that turning matters.
        work: multiplications for one pixel of the output.
    """

    layers: tuple[Any, ...]
    inputs: tuple[int, ...]
    channels: tuple[int, ...]
    listed: bool
    output: int
    reach: int = 0
    group: int = 1
    grow: int = 1
    spatial: bool = False
    work: int = 0

    @functools.cached_property
    def call(self) -> Callable[[list[Any]], Any]:
        """Return what the layers compute of the tensors they take."""

        def chain(values: list[Any]) -> Any:
            result = values if self.listed else values[0]
            for layer in self.layers:
                result = layer(result)
            return result

        return devices.compiled(chain, self.channels)


@dataclasses.dataclass(frozen=True)
class Graph:
    """The layers of a network in order; tensor 0 is the image.

    Attributes:
        steps: the layers.
        ratios: size of each tensor relative to the image.
        channels: of each tensor.
        output: number of the tensor that is the result.
        halo: how far from an edge, in pixels of the image, a result can depend on
            what lies beyond it.
        step: the image's size is a multiple of this.
    """

    steps: tuple[Step, ...]
    ratios: tuple[Fraction, ...]
    channels: tuple[int, ...]
    output: int
    halo: int
    step: int


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


def read(network: keras.Model) -> Graph | None:
    """Return the graph of a network whose layers are all local; None: some are not.

    Known are the stock layers of a padded U-Net: convolutions, pooling, upsampling and
    whatever treats each pixel by itself. A layer that looks at the whole image, or that
    is not known, gives None.
    """
    if not isinstance(network, keras.Model) or len(network.inputs) != 1:
        return None
    number = {id(network.inputs[0]): 0}
    ratios, channels, dirty = [Fraction(1)], [network.inputs[0].shape[-1]], [0]
    steps: list[Step] = []
    for depth in sorted(network._nodes_by_depth, reverse=True):
        for node in network._nodes_by_depth[depth]:
            if node.is_input:
                continue
            step = _step(node, number, ratios)
            if step is None:
                return None
            steps.append(step)
            number[id(node.outputs[0])] = step.output
            ratio = ratios[step.inputs[0]]
            ratios.append(ratio * step.grow / step.group)
            channels.append(node.outputs[0].shape[-1])
            # How many rows beside an edge, counted at the tensor's own size, know
            # what lies beyond it.
            seen = max(dirty[each] for each in step.inputs) + step.reach
            dirty.append(-(-seen // step.group) * step.grow)
    output = number[id(network.outputs[0])]
    if ratios[output] != 1 or None in channels:
        return None
    steps = _chained(steps, output)
    smallest = math.lcm(*(ratio.denominator for ratio in ratios))
    return Graph(
        tuple(steps), tuple(ratios), tuple(channels), output, dirty[output], smallest
    )


def _chained(steps: list[Step], output: int) -> list[Step]:
    """Join layers that treat every pixel by itself to the only one they follow."""
    takers: dict[int, int] = {output: 1}
    for step in steps:
        for tensor in step.inputs:
            takers[tensor] = takers.get(tensor, 0) + 1
    joined: list[Step] = []
    by_output: dict[int, int] = {}
    for step in steps:
        first = by_output.get(step.inputs[0])
        local = step.reach == 0 and not step.spatial and not step.listed
        if local and first is not None and takers[step.inputs[0]] == 1:
            before = joined[first]
            work = before.work + step.work
            joined[first] = dataclasses.replace(
                before,
                layers=before.layers + step.layers,
                output=step.output,
                work=work,
            )
            by_output[step.output] = first
        else:
            by_output[step.output] = len(joined)
            joined.append(step)
    return joined


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
    channels = tuple(each.shape[-1] for each in taken)
    return Step((layer,), inputs, channels, listed, len(ratios), **looks)


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
        fits = len(size) == len(dilation) == 1 and layer.padding == "same"
        if not fits or stride is None or max(size) % 2 == 0:
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
