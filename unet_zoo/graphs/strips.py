"""A network that is fed an image a few rows at a time, and computes no row twice.

Cutting an image into tiles makes a network compute the context of every tile anew: two
thirds of all work where memory allows tiles of 1,000 pixels. Instead, each layer here
keeps the last rows it was given until those below them arrive, as a scanner would. What
comes out is what the whole image would give.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unet_zoo import tiling
from unet_zoo.graphs import Graph, Step

_FLOAT = 4  # bytes
# Rows that a layer computes at once, of its own size: the more, the more memory; the
# fewer, the larger the part of them that a convolution has to compute again.
_AT_ONCE = 64


def predict(
    graph: Graph,
    image: np.ndarray,
    *,
    rows: int = 256,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Return what a network makes of an image, fed a few rows at a time.

    Args:
        graph: of the network.
        image: float32 (Y, X, C), completed by mirroring to a size that the network
            takes.
        rows: to feed at once.
        progress: called with how often rows were fed, and how often in all.

    Returns:
        float32 (Y, X, K), the logits of the whole image.
    """
    height, width = image.shape[:2]
    tall, wide = (tiling.fitting(size, graph.step) for size in (height, width))
    image = tiling.mirrored(image, (slice(0, tall), slice(0, wide)))
    strips, parts = Strips(graph, tall, rows), []
    for top in range(0, tall, rows):
        part = strips.push(image[top : top + rows])
        if part is not None:
            parts.append(part[:, :width])
        if progress is not None:
            progress(top // rows + 1, -(-tall // rows))
    return np.concatenate(parts)[:height]


class Strips:
    """One network in the middle of one image.

    Args:
        graph: of the network.
        height: rows of the image in all, a multiple of `graph.step`.
        rows: of the image that are pushed at once. Poolings wait until as many have
            arrived: the fewer they compute at once, the more of them twice.
        index: the position that the network sees the image in (see `turning.turn`, of
            1, 4 or 8); rows go in and come out unturned.

    Attributes:
        computed: multiplications per column of the image up to now.
        needed: as many without the rows that had to be computed twice.
    """

    def __init__(self, graph: Graph, height: int, rows: int, index: int = 0) -> None:
        self.graph, self.rows, self.index = graph, rows, index
        self._arrays = graph.arrays
        self._ratios = [float(ratio) for ratio in graph.ratios]
        self._heights = [int(height * ratio) for ratio in graph.ratios]
        self._done = [0] * len(graph.steps)
        self._held: list[list[tuple[int, Any]]] = [[] for _ in graph.ratios]
        self._ends = [0] * len(graph.ratios)
        self._given = 0
        self.computed = self.needed = 0.0
        self._takers: list[list[int]] = [[] for _ in graph.ratios]
        for number, step in enumerate(graph.steps):
            for tensor in step.inputs:
                self._takers[tensor].append(number)

    def push(self, rows: np.ndarray) -> np.ndarray | None:
        """Return the next rows (n, x, K) of the result, or None where none is ready.

        Args:
            rows: float32 (n, x, C), the next of the image.
        """
        with _no_gradient():
            self._append(0, len(rows), self._arrays.put(rows))
            self._drain(self._call)
            there = [array for _, array in self._held[self.graph.output]]
            self._held[self.graph.output].clear()
            if not there:
                return None
            return np.concatenate([self._arrays.get(array) for array in there])

    def cost(self) -> int:
        """Return the most bytes per column of the image that `push` needs.

        Nothing is computed: the rows are counted only.
        """
        graph, most = self.graph, 0.0

        bytes_of = [
            _FLOAT * ratio * channels
            for ratio, channels in zip(self._ratios, graph.channels, strict=True)
        ]

        def size(tensor: int, count: int) -> float:
            return count * bytes_of[tensor]

        def count(step: Step, values: list[int]) -> int:
            nonlocal most
            held = sum(
                size(tensor, array)
                for tensor, queue in enumerate(self._held)
                for _, array in queue
            )
            given = sum(
                size(tensor, each)
                for tensor, each in zip(step.inputs, values, strict=True)
            )
            result = values[0] * step.grow // step.group
            copies = self._arrays.copies
            given *= copies[0] if step.spatial else 1
            most = max(most, held + given + copies[1] * size(step.output, result))
            return result

        total = self._heights[0]
        for start in range(0, total, self.rows):
            given = min(self.rows, total - start)
            self._append(0, given, given)
            self._drain(count)
            self._held[graph.output].clear()
        return int(most)

    def _drain(self, call: Any) -> None:
        """Compute whatever can be: the last layers first, so that little is held."""
        steps = self.graph.steps
        number = len(steps) - 1
        while number >= 0:
            # Once one has moved on, those behind it may.
            moved = self._advance(number, steps[number], call)
            number = len(steps) - 1 if moved else number - 1

    def _advance(self, number: int, step: Step, call: Any) -> bool:
        """Compute some rows of a layer, if those it looks at are there."""
        done, total = self._done[number], self._heights[step.inputs[0]]
        end = min(self._ends[tensor] for tensor in step.inputs)
        stop = end if end == total else max(done, end - step.reach)
        stop = min(stop, done + _AT_ONCE)
        stop -= stop % step.group
        if stop <= done:
            return False
        if step.group > 1 and end != total:
            least = int(self.rows * self._ratios[step.inputs[0]])
            if stop - done < min(_AT_ONCE, least):
                return False
        first, last = max(0, done - step.reach), min(total, stop + step.reach)
        values = [self._take(tensor, first, last) for tensor in step.inputs]
        result = call(step, values)
        before = (done - first) * step.grow // step.group
        fresh = (stop - done) * step.grow // step.group
        if isinstance(result, int):
            kept: Any = fresh
        else:
            kept = self._cut(result, before, before + fresh)
        weight = step.work * self._ratios[step.output]
        weight *= step.grow / step.group
        self.computed += weight * (last - first)
        self.needed += weight * (stop - done)
        self._done[number] = stop
        self._append(step.output, fresh, kept)
        for tensor in step.inputs:
            self._trim(tensor)
        return True

    def _append(self, tensor: int, count: int, array: Any) -> None:
        self._held[tensor].append((self._ends[tensor], array))
        self._ends[tensor] += count

    def _take(self, tensor: int, first: int, last: int) -> Any:
        parts: list[Any] = []
        for begin, array in self._held[tensor]:
            count = array if isinstance(array, int) else self._count(array)
            low, high = max(first, begin), min(last, begin + count)
            if low >= high:
                continue
            if isinstance(array, int):
                parts.append(high - low)
            elif high - low == count:
                parts.append(array)
            else:
                parts.append(self._cut(array, low - begin, high - begin))
        if isinstance(parts[0], int):
            return sum(parts)
        return parts[0] if len(parts) == 1 else self._arrays.join(parts)

    def _trim(self, tensor: int) -> None:
        """Forget the rows that no layer will look at again."""
        steps = self.graph.steps
        wanted = min(
            self._done[taker] - steps[taker].reach for taker in self._takers[tensor]
        )
        if (
            min(self._done[taker] for taker in self._takers[tensor])
            == (self._heights[tensor])
        ):
            wanted = self._heights[tensor]
        queue = self._held[tensor]
        ends = [begin for begin, _ in queue[1:]] + [self._ends[tensor]]
        while queue and ends[0] <= wanted:
            queue.pop(0)
            ends.pop(0)
        if queue and wanted - queue[0][0] > (ends[0] - queue[0][0]) // 2:
            begin, array = queue[0]
            if isinstance(array, int):
                queue[0] = (wanted, ends[0] - wanted)
            else:  # a copy: a view would keep what is forgotten in memory
                rest = self._cut(array, wanted - begin, self._count(array))
                queue[0] = (wanted, self._arrays.copy(rest))

    def _call(self, step: Step, values: list[Any]) -> Any:
        index = self.index if step.spatial else 0
        values = [self._turn(value, index) for value in values]
        return self._turn_back(self._arrays.call(step, values), index)

    def _cut(self, array: Any, first: int, last: int) -> Any:
        before = (slice(None),) * self._arrays.rows
        return array[(*before, slice(first, last))]

    def _count(self, array: Any) -> int:
        return int(array.shape[self._arrays.rows])

    def _turn(self, array: Any, index: int) -> Any:
        array = self._flip(array, index)
        return self._arrays.swap(array) if index & 4 else array

    def _turn_back(self, array: Any, index: int) -> Any:
        array = self._arrays.swap(array) if index & 4 else array
        return self._flip(array, index)

    def _flip(self, array: Any, index: int) -> Any:
        rows = self._arrays.rows
        axes = [axis for bit, axis in ((1, rows), (2, rows + 1)) if index & bit]
        return self._arrays.flip(array, axes) if axes else array


@contextlib.contextmanager
def _no_gradient() -> Iterator[None]:
    torch = sys.modules.get("torch")
    if torch is None:
        yield
        return

    with torch.no_grad():
        yield
