"""What a network is made of, where each of its layers looks at a few pixels only.

`stock` reads the graph of a Keras network, `converted` that of an OpenVINO one. From it
follow how far the network sees, and how it is computed a few rows at a time.
"""

from __future__ import annotations

import dataclasses
import math
from fractions import Fraction
from typing import Any, Protocol

import numpy as np


@dataclasses.dataclass(frozen=True)
class Step:
    """One layer of a network: which tensors it takes and how far it looks.

    Attributes:
        layers: what is computed, one after the other.
        inputs: numbers of the tensors it takes.
        output: number of the tensor it gives.
        listed: it takes them as a list.
        reach: how many rows above and below a row it looks at.
        group: how many rows it makes to one.
        grow: how many rows it makes of one.
        spatial: it does not treat every pixel alike, so that turning matters.
        work: multiplications for one pixel of the output.
    """

    layers: tuple[Any, ...]
    inputs: tuple[int, ...]
    output: int
    listed: bool = False
    reach: int = 0
    group: int = 1
    grow: int = 1
    spatial: bool = False
    work: int = 0

    @property
    def keeps_size(self) -> bool:
        """Return whether its output is as large as its inputs."""
        return self.group == self.grow == 1


class Arrays(Protocol):
    """Who computes a step, and on what kind of arrays.

    Attributes:
        rows: the axis of an array that is the rows of the image; columns are next.
        copies: how often a step holds the bytes of its inputs and of its output.
        again: columns computed over columns needed, up to now.
    """

    rows: int
    copies: tuple[float, float]

    @property
    def again(self) -> float: ...

    def put(self, region: np.ndarray) -> Any:
        """Return float32 (y, x, C) as an array of a batch of one."""

    def get(self, array: Any) -> np.ndarray:
        """Return an array of a batch of one as float32 (y, x, C)."""

    def join(self, parts: list[Any]) -> Any:
        """Return parts of the same columns below each other."""

    def copy(self, array: Any) -> Any:
        """Return the array with memory of its own."""

    def flip(self, array: Any, axes: list[int]) -> Any:
        """Return the array with the order of some axes reversed."""

    def swap(self, array: Any) -> Any:
        """Return the array with rows and columns exchanged."""

    def call(self, step: Step, values: list[Any]) -> Any:
        """Return what a step computes of the tensors it takes."""


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
        arrays: who computes them.
    """

    steps: tuple[Step, ...]
    ratios: tuple[Fraction, ...]
    channels: tuple[int, ...]
    output: int
    halo: int
    step: int
    arrays: Arrays


class Builder:
    """Collects the layers of a network in the order that they are computed in.

    Attributes:
        ratios: size of each tensor relative to the image.

    >>> builder = Builder(channels=1)
    >>> down = builder.add(Step((), (0,), 1, reach=2, group=2, spatial=True), 4)
    >>> up = builder.add(Step((), (down,), 2, grow=2, spatial=True), 1)
    >>> graph = builder.finish(up, arrays=None)
    >>> graph.halo, graph.step
    (2, 2)
    """

    def __init__(self, channels: int) -> None:
        self.ratios = [Fraction(1)]
        self._channels, self._dirty = [channels], [0]
        self._steps: list[Step] = []

    def add(self, step: Step, channels: int) -> int:
        """Take in the next layer; return the number of its tensor."""
        self._steps.append(step)
        ratio = self.ratios[step.inputs[0]]
        self.ratios.append(ratio * step.grow / step.group)
        self._channels.append(channels)
        # How many rows beside an edge, counted at the tensor's own size, know what
        # lies beyond it.
        seen = max(self._dirty[each] for each in step.inputs) + step.reach
        self._dirty.append(-(-seen // step.group) * step.grow)
        return step.output

    def finish(
        self, output: int, arrays: Any, smallest: Fraction | None = None
    ) -> Graph | None:
        """Return the graph; None: its result is not of the image's size.

        Args:
            output: number of the tensor that is the result.
            arrays: who computes the layers.
            smallest: convolutions of tensors at least this large, relative to the
                image, are computed together where one follows the other: it saves
                memory and time, though rows beside them are computed twice. So is any
                layer with what treats every pixel by itself before it. None: none are.
        """
        if self.ratios[output] != 1 or None in self._channels:
            return None
        return Graph(
            tuple(self._joined(output, smallest)),
            tuple(self.ratios),
            tuple(self._channels),
            output,
            self._dirty[output],
            math.lcm(*(ratio.denominator for ratio in self.ratios)),
            arrays,
        )

    def _joined(self, output: int, smallest: Fraction | None) -> list[Step]:
        """Join layers to the only one they follow where they keep the size."""
        takers: dict[int, int] = {output: 1}
        for step in self._steps:
            for tensor in step.inputs:
                takers[tensor] = takers.get(tensor, 0) + 1
        joined: list[Step] = []
        by_output: dict[int, int] = {}
        for step in self._steps:
            first = by_output.get(step.inputs[0])
            if first is not None and takers[step.inputs[0]] == 1:
                before = joined[first]
                local = step.reach == 0 and not step.spatial and not step.listed
                together = (
                    smallest is not None
                    and len(step.inputs) == 1
                    and before.keeps_size
                    and (
                        not before.reach
                        or (step.keeps_size and self.ratios[before.output] >= smallest)
                    )
                )
                if local or together:
                    joined[first] = dataclasses.replace(
                        before,
                        layers=before.layers + step.layers,
                        output=step.output,
                        reach=before.reach + step.reach,
                        group=before.group * step.group,
                        grow=before.grow * step.grow,
                        spatial=before.spatial or step.spatial,
                        work=before.work + step.work,
                    )
                    by_output[step.output] = first
                    continue
            by_output[step.output] = len(joined)
            joined.append(step)
        return joined


def of(segmenter: Any) -> Graph | None:
    """Return the graph of a segmenter's network; None where that is not known.

    Where a network looks at the whole image, or loses its borders, it is not.
    """
    if segmenter.padding != "same":
        return None
    engine = getattr(segmenter, "engine", None)
    if engine is not None:
        from unet_zoo.graphs import converted

        path = getattr(engine, "path", None)  # of what OpenVINO runs
        graph = None if path is None else converted.read(path, engine.options)
    else:
        from unet_zoo.graphs import stock

        graph = stock.read(getattr(segmenter, "network", None))
    return graph if graph and segmenter.step % graph.step == 0 else None
