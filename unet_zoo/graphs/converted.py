"""The graph of a network converted for OpenVINO, and its layers run one by one."""

from __future__ import annotations

import math
import threading
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo import signals
from unet_zoo.graphs import Builder, Graph, Step

# Bytes that a layer is given at once: it computes some columns of its rows, so that it
# keeps little memory for itself, and that near the processor.
_AT_ONCE = 2**22
# Convolutions at full and at half resolution are computed together: arrays are large
# there and layers quick, so that handing them over takes as long as computing them.
_TOGETHER = Fraction(1, 2)
_UNARY = (
    "Clamp",
    "Elu",
    "Exp",
    "Gelu",
    "HSigmoid",
    "HSwish",
    "Log",
    "Mish",
    "Negative",
    "Relu",
    "Sigmoid",
    "SoftPlus",
    "Swish",
    "Tanh",
)
_WITH_ANOTHER = ("Add", "Divide", "Maximum", "Minimum", "Multiply", "PRelu", "Subtract")
_TO_PLANES, _FROM_PLANES = [0, 3, 1, 2], [0, 2, 3, 1]


class Layers:
    """OpenVINO on numpy arrays (1, C, y, x); `graphs.Arrays`."""

    rows = 2
    copies = (1.0, 1.0)  # what it needs itself is small: columns one after the other

    def __init__(
        self,
        numbers: dict[str, int],
        options: dict[str, str],
        rounded: dict[int, Any] | None = None,
    ) -> None:
        self._numbers, self._options = numbers, options
        # Of a network of 8 bits, what rounded the values of some tensors.
        self._rounded = rounded or {}
        self._made: dict[int, tuple[Any, int]] = {}
        self._lock, self._local = threading.Lock(), threading.local()
        self._work = [0.0, 0.0]  # multiplications, and those that were needed

    @property
    def again(self) -> float:
        done, needed = self._work
        return done / needed if needed else 1.0

    def put(self, region: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(region.transpose(2, 0, 1), np.float32)[None]

    def get(self, array: np.ndarray) -> np.ndarray:
        return array[0].transpose(1, 2, 0)

    def join(self, parts: list[np.ndarray]) -> np.ndarray:
        return np.concatenate(parts, axis=2)

    def copy(self, array: np.ndarray) -> np.ndarray:
        return array.copy()

    def flip(self, array: np.ndarray, axes: list[int]) -> np.ndarray:
        return np.flip(array, tuple(axes))

    def swap(self, array: np.ndarray) -> np.ndarray:
        return array.swapaxes(2, 3)

    def call(self, step: Step, values: list[np.ndarray]) -> np.ndarray:
        """Return what a step computes, some columns after the other."""
        request, channels = self._ready(step, values)
        sizes = values[0].shape[2:]
        made = tuple(size * step.grow // step.group for size in sizes)
        result = np.empty((1, channels, *made), np.float32)
        along = int(sizes[1] >= sizes[0])  # the longer of rows and columns
        count = sum(each.shape[1] for each in values) + channels
        most = _AT_ONCE // (4 * count * sizes[1 - along])
        stride = max(1, most // step.group) * step.group
        for begin in range(0, sizes[along], stride):
            end = min(begin + stride, sizes[along])
            first, last = (
                max(0, begin - step.reach),
                min(sizes[along], end + step.reach),
            )
            seen = _part(along, first, last)
            given = [np.ascontiguousarray(each[seen]) for each in values]
            found = request.infer(given, share_inputs=True, share_outputs=True)[0]
            low, start, stop = (
                place * step.grow // step.group for place in (begin - first, begin, end)
            )
            for n, size in enumerate((last - first, end - begin)):
                self._work[n] += step.work * size * sizes[1 - along]
            kept = _part(along, low, low + stop - start)
            result[_part(along, start, stop)] = found[kept]
        return result

    def _ready(self, step: Step, values: list[np.ndarray]) -> tuple[Any, int]:
        """Return this thread's request for a step, and the channels that it gives."""
        if not hasattr(self._local, "requests"):
            self._local.requests = {}
        with self._lock:
            if step.output not in self._made:
                self._made[step.output] = self._compiled(step, values)
            compiled, channels = self._made[step.output]
        requests = self._local.requests
        if step.output not in requests:
            requests[step.output] = compiled.create_infer_request()
        return requests[step.output], channels

    def _compiled(self, step: Step, values: list[np.ndarray]) -> tuple[Any, int]:
        """Cut the operations of a step out of the network they were read from."""
        import openvino
        from openvino import opset13

        inputs = {
            tensor: opset13.parameter([1, value.shape[1], -1, -1], np.float32)
            for tensor, value in zip(step.inputs, values, strict=True)
        }
        # What arrives is rounded already; said again, the layer is one of 8 bits.
        given = {
            tensor: _rounding(self._rounded[tensor], each)
            if tensor in self._rounded
            else each
            for tensor, each in inputs.items()
        }
        inside = {_name(operation) for operation in step.layers}
        last = step.layers[-1]
        for operation in step.layers:
            for taken in operation.inputs():
                source = taken.get_source_output().get_node()
                number = self._numbers.get(_name(source))
                if number is not None and _name(source) not in inside:
                    taken.replace_source_output(given[number].output(0))
            if operation.get_type_name() == "ConvolutionBackpropData":
                # Without the size that the whole network computed for it.
                grown = opset13.convolution_backprop_data(
                    operation.input_value(0),
                    operation.input_value(1),
                    strides=operation.get_attributes()["strides"],
                )
                for taken in operation.output(0).get_target_inputs():
                    if _name(taken.get_node()) in inside:
                        taken.replace_source_output(grown.output(0))
                last = grown if operation is last else last
        model = openvino.Model([last.output(0)], list(inputs.values()))
        with signals.own_stack():
            compiled = openvino.Core().compile_model(model, "CPU", self._options)
        channels = last.output(0).get_partial_shape()[1].get_length()
        return compiled, channels


def read(path: Path, options: dict[str, str]) -> Graph | None:
    """Return the graph of a converted network; None: some of its layers are not local.

    Args:
        path: of the .xml file.
        options: of OpenVINO, for its layers.
    """
    import openvino

    model = openvino.Core().read_model(str(path))
    shape = model.input(0).get_partial_shape()
    if len(model.inputs) != 1 or len(shape) != 4 or shape[3].is_dynamic:
        return None
    _quantize_planes(model)
    result = _name(model.output(0).get_node().input_value(0).get_node())
    builder = Builder(shape[3].get_length())
    numbers: dict[str, int] = {}
    rounded: dict[int, Any] = {}
    fixed: set[str] = set()
    aside: set[str] = set()  # what is computed of the sizes of tensors
    for operation in model.get_ordered_ops():
        name, kind = _name(operation), operation.get_type_name()
        sources = [_name(each.get_node()) for each in operation.input_values()]
        tensors = [numbers[each] for each in sources if each in numbers]
        if kind in ("Parameter", "Result"):
            continue
        if all(each in fixed for each in sources):
            fixed.add(name)
        elif kind == "Transpose":
            order = _constant(operation, 1)
            if order == _TO_PLANES and _is_image(operation):
                numbers[name] = 0
            elif order == _FROM_PLANES and name == result and tensors:
                layers = Layers(numbers, options, rounded)
                return builder.finish(tensors[0], layers, _TOGETHER)
            else:
                return None
        elif kind == "ShapeOf" or (not tensors and _any(sources, aside)):
            aside.add(name)
        else:
            looks = _looks(operation, [each in fixed for each in sources])
            channels = operation.output(0).get_partial_shape()
            known = tensors and len(channels) == 4 and channels[1].is_static
            if looks is None or not known:
                return None
            if len({builder.ratios[each] for each in tensors}) != 1:
                return None
            step = Step(
                (operation,),
                tuple(dict.fromkeys(tensors)),
                len(builder.ratios),
                listed=len(tensors) > 1,
                **looks,
            )
            numbers[name] = builder.add(step, channels[1].get_length())
            if kind == "FakeQuantize":
                rounded[numbers[name]] = operation
            elif kind == "MaxPool" and tensors[0] in rounded:
                rounded[numbers[name]] = rounded[tensors[0]]
    return None


def _quantize_planes(model: Any) -> None:
    """Have an int8 network round its image after it was turned to planes, not before.

    It is the same, where all values are rounded alike, and what follows is as in
    any other network.
    """
    for turning in model.get_ordered_ops():
        if turning.get_type_name() != "Transpose":
            continue
        rounding = turning.input_value(0).get_node()
        if (
            rounding.get_type_name() == "FakeQuantize"
            and _is_image(rounding)
            and all(_is_single(rounding, number) for number in range(1, 5))
        ):
            takers = turning.output(0).get_target_inputs()
            rounded = _rounding(rounding, turning)
            turning.input(0).replace_source_output(rounding.input_value(0))
            for taker in takers:
                taker.replace_source_output(rounded.output(0))


def _rounding(rounding: Any, operation: Any) -> Any:
    """Return what rounds the result of an operation as another one rounds its own."""
    from openvino import opset13

    ranges = [rounding.input_value(number) for number in range(1, 5)]
    levels = rounding.get_attributes()["levels"]
    return opset13.fake_quantize(operation, *ranges, levels=levels)


def _looks(operation: Any, fixed: list[bool]) -> dict[str, Any] | None:
    """Return how an operation looks at its neighbourhood; None: that is not known.

    Args:
        operation: one of the network.
        fixed: which of its inputs are constants.
    """
    kind, given = operation.get_type_name(), operation.get_attributes()
    if kind in _UNARY:
        return {}
    if kind in _WITH_ANOTHER:
        local = all(_is_local(operation, n) for n, one in enumerate(fixed) if one)
        return {} if local else None
    if kind == "FakeQuantize":
        return {} if all(_is_local(operation, n) for n in range(1, 5)) else None
    if kind == "DepthToSpace":
        block = given["block_size"]
        return {"grow": block, "spatial": True}
    if kind == "Concat":
        return {} if given["axis"] in (1, -3) and not any(fixed) else None
    if kind in ("MaxPool", "AvgPool"):
        side = _side(given["kernel"])
        plain = set(given["pads_begin"] + given["pads_end"]) == {0}
        if side is None or set(given["strides"]) != {side} or not plain:
            return None
        return {"group": side, "spatial": True}
    if kind not in ("Convolution", "GroupConvolution", "ConvolutionBackpropData"):
        return None
    kernel = [int(size) for size in operation.input(1).get_partial_shape().to_shape()]
    stride, side = _side(given["strides"]), _side(kernel[-2:])
    pads = set(given["pads_begin"] + given["pads_end"])
    if stride is None or side is None or set(given["dilations"]) != {1} or not fixed[1]:
        return None
    work = math.prod(kernel)
    if kind == "ConvolutionBackpropData":
        plain = pads == {0} and set(given["output_padding"]) <= {0}
        if side != stride or not plain:
            return None
        return {"grow": stride, "spatial": True, "work": work // stride**2}
    same = given["auto_pad"] in ("same_upper", "same_lower")
    same = same or (given["auto_pad"] != "valid" and pads == {side // 2}) or side == 1
    if side % 2 == 0 or not same:
        return None
    # With a stride all of it may lie on one side; groups of rows stay together.
    reach = side // 2 if stride == 1 else -(-(side - 1) // stride) * stride
    spatial = side > 1 or stride > 1
    return {"reach": reach, "group": stride, "spatial": spatial, "work": work}


def _part(axis: int, first: int, last: int) -> tuple[Any, ...]:
    """Return the index of some rows (axis 0) or columns (axis 1) of (1, C, y, x)."""
    return (slice(None),) * (2 + axis) + (slice(first, last),)


def _name(operation: Any) -> str:
    name: str = operation.get_name()
    return name


def _any(names: list[str], among: set[str]) -> bool:
    return any(name in among for name in names)


def _is_image(operation: Any) -> bool:
    return bool(operation.input_value(0).get_node().get_type_name() == "Parameter")


def _is_local(operation: Any, number: int) -> bool:
    """Return whether a constant input is the same for every pixel."""
    shape = operation.input_value(number).get_partial_shape()
    sizes = [int(size) for size in shape.to_shape()] if shape.is_static else [0]
    return all(size == 1 for size in sizes[-2:])


def _is_single(operation: Any, number: int) -> bool:
    """Return whether an input is one number."""
    shape = operation.input_value(number).get_partial_shape()
    return shape.is_static and math.prod(map(int, shape.to_shape())) == 1


def _constant(operation: Any, number: int) -> list[int] | None:
    node = operation.input_value(number).get_node()
    if node.get_type_name() != "Constant":
        return None
    found: list[int] = node.get_data().tolist()
    return found


def _side(size: list[int]) -> int | None:
    return int(size[0]) if len(set(size)) == 1 else None
