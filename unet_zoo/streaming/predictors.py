"""Predictions of an image from its top to its bottom, in columns as wide as fit."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from unet_zoo import tiling, turning
from unet_zoo.errors import InputError
from unet_zoo.graphs import Graph
from unet_zoo.streaming.grids import Grid


@dataclasses.dataclass
class Work:
    """What was computed beside what came out, in pixels of the network's image."""

    computed: float = 0.0
    given: float = 0.0
    reused: int = 0

    @property
    def overhead(self) -> float:
        """Return the pixels computed over the pixels that came out."""
        return self.computed / self.given if self.given else 1.0


@dataclasses.dataclass(frozen=True)
class Member:
    """One network and the turned copies of the image that it averages.

    Attributes:
        segmenter: runs the network.
        tta: how many copies.
        graph: what the network is made of, None where it is run tile by tile.
        halo: how far a pixel's result depends on others, at most.
    """

    segmenter: Any
    tta: int
    graph: Graph | None
    halo: int

    @property
    def step(self) -> int:
        return int(self.segmenter.step)

    @property
    def padded(self) -> bool:
        return str(self.segmenter.padding) == "same"


def members(segmenter: Any, tta: int | None) -> list[Member]:
    """Return the networks of a segmenter, or of the members of an ensemble."""
    found = []
    for each in getattr(segmenter, "members", (segmenter,)):
        copies = each.facts["tta"] if tta is None else tta
        turning.check(copies)
        if copies == 7:
            message = (
                "`tta` is 7: rotations by sevenths turn the whole image, which does "
                "not fit in memory. Use 1, 4 or 8."
            )
            raise InputError(message)
        graph = each.graph
        halo = graph.halo if graph else int(each.margin)
        found.append(Member(each, copies, graph, halo))
    return found


def by_strips(
    member: Member, grid: Grid, part: tuple[slice, slice], rows: int, work: Work
) -> Iterator[np.ndarray]:
    """Yield the prediction (n, x, K) of a part (Y, X), a few rows at a time.

    Every turned copy is fed the same rows, or nearly so; see `strips.Strips`.
    """
    from unet_zoo.graphs.strips import Strips

    graph = member.graph
    assert graph is not None
    copies = []
    for index in range(member.tta):
        down = _fed(part[0], grid.shape[0], member, bool(index & 1))
        across = _fed(part[1], grid.shape[1], member, bool(index & 2))
        strips = Strips(graph, down.stop - down.start, rows, index)
        copies.append((strips, down, across))
    waiting: list[list[np.ndarray]] = [[] for _ in copies]
    skipped = [part[0].start - down.start for _, down, _ in copies]  # rows above it
    fed = done = 0
    count = part[0].stop - part[0].start
    activate = member.segmenter.target.activate
    while done < count:
        for number, (strips, down, across) in enumerate(copies):
            next_rows = slice(down.start + fed, min(down.start + fed + rows, down.stop))
            if next_rows.start >= next_rows.stop:
                continue
            result = strips.push(grid.read(next_rows, across))
            if result is None:
                continue
            first = part[1].start - across.start
            width = part[1].stop - part[1].start
            result = activate(result[:, first : first + width])
            drop = min(skipped[number], len(result))
            skipped[number] -= drop
            if drop < len(result):
                waiting[number].append(result[drop:])
        fed += rows
        ready = min(sum(map(len, queue)) for queue in waiting)
        ready = min(ready, count - done)
        if ready:
            yield _mean([_taken(queue, ready) for queue in waiting])
            done += ready
    for strips, down, across in copies:
        again = strips.computed / strips.needed if strips.needed else 1.0
        again *= graph.arrays.again
        work.computed += again * (down.stop - down.start) * (across.stop - across.start)


def _fed(part: slice, size: int, member: Member, flipped: bool) -> slice:
    """Return what of an axis a turned copy is fed so that `part` of it comes out.

    It begins where the poolings of the turned image group its pixels, and reaches as
    far beyond the part as the network looks.
    """
    step, halo = member.step, member.halo
    # Completed to a multiple of `step` at the end of the turned image.
    begin = -(-size % step) if flipped else 0
    first = part.start - halo - begin
    first = max(0, first - first % step)
    last = tiling.fitting(part.stop + halo - begin, step)
    return slice(first + begin, min(last, tiling.fitting(size, step)) + begin)


def by_tiles(
    member: Member, grid: Grid, part: tuple[slice, slice], side: int, work: Work
) -> Iterator[np.ndarray]:
    """Yield the prediction (n, x, K) of a part (Y, X), a row of tiles at a time.

    A tile whose pixels are all alike is computed once: the same pixels give the same
    result wherever they are, except where a padded network sees the image's edge.
    """
    known: dict[Any, np.ndarray] = {}
    down, columns = part
    count = down.stop - down.start
    stride = tiling.fitting(-(-count // -(-count // side)), member.step)
    for top in range(down.start, down.stop, stride):
        rows = slice(top, min(top + stride, down.stop))
        total: Any = 0.0
        for index in range(member.tta):
            total = total + _region(
                member, grid, (rows, columns), index, side, work, known
            )
        yield total / np.float32(member.tta)


def _region(
    member: Member,
    grid: Grid,
    part: tuple[slice, slice],
    index: int,
    side: int,
    work: Work,
    known: dict[Any, np.ndarray],
) -> np.ndarray:
    """Return the prediction of one turned copy for one region, turned back."""
    step, padded = member.step, member.padded
    remainder = 0 if padded else -4 % step
    margin = tiling.fitting(member.halo, step) if padded else member.halo
    shape = _turned_shape(grid.shape, index)
    wanted = _turned(part, grid.shape, index)
    result: np.ndarray | None = None
    cuts = []
    for each, size in zip(wanted, shape, strict=True):
        first = each.start - each.start % step
        pieces = []
        count = -(-(each.stop - first) // side)
        stride = tiling.fitting(-(-(each.stop - first) // count), step)
        for start in range(first, each.stop, stride):
            stop = min(start + stride, each.stop)
            low = start - margin
            high = low + tiling.fitting(stop - low + margin, step, remainder)
            if padded:
                low, high = max(0, low), min(high, tiling.fitting(size, step))
            pieces.append((slice(low, high), slice(max(start, each.start), stop)))
        cuts.append(pieces)
    lost = 0 if padded else margin
    for down, across in itertools.product(*cuts):
        source = (down[0], across[0])
        back = _turned_back(source, shape, index)
        batch = np.ascontiguousarray(turning.turn(grid.read(*back), index, 8))[None]
        logits = _computed(member, batch, source, shape, work, known)
        kept = [
            slice(to.start - seen.start - lost, to.stop - seen.start - lost)
            for seen, to in (down, across)
        ]
        one = member.segmenter.target.activate(logits[0, kept[0], kept[1]])
        if result is None:
            high, wide = (each.stop - each.start for each in wanted)
            result = np.empty((high, wide, one.shape[-1]), np.float32)
        place = [
            slice(to.start - each.start, to.stop - each.start)
            for each, (_, to) in zip(wanted, (down, across), strict=True)
        ]
        result[place[0], place[1]] = one
    assert result is not None
    return turning.turn_back(result, index, 8, (0, 0))


def _computed(
    member: Member,
    batch: np.ndarray,
    source: tuple[slice, slice],
    shape: tuple[int, int],
    work: Work,
    known: dict[Any, np.ndarray],
) -> np.ndarray:
    first = batch[0, 0, 0]
    inside = not member.padded or all(
        each.start > 0 and each.stop < size
        for each, size in zip(source, shape, strict=True)
    )
    key = (batch.shape, first.tobytes())
    alike = inside and bool((batch == first).all())
    if alike and key in known:
        work.reused += 1
        return known[key]
    work.computed += batch.shape[1] * batch.shape[2]
    logits = np.asarray(member.segmenter.run(batch))
    if alike:
        known.clear()  # one is enough for an empty background
        known[key] = logits
    return logits


def predict(
    each: Sequence[Member],
    grids: Sequence[Grid],
    count: int,
    make: Callable[[Member, Grid], Iterator[np.ndarray]],
) -> Iterator[np.ndarray]:
    """Yield the mean of what the members predict, `count` rows in order."""
    streams = [make(member, grid) for member, grid in zip(each, grids, strict=True)]
    waiting: list[list[np.ndarray]] = [[] for _ in streams]
    done = 0
    while done < count:
        for stream, queue in zip(streams, waiting, strict=True):
            if not queue:
                queue.append(next(stream))
        ready = min(sum(map(len, queue)) for queue in waiting)
        yield _mean([_taken(queue, ready) for queue in waiting])
        done += ready
    for stream in streams:  # to its end, where it counts what it did
        next(stream, None)


def _mean(parts: list[np.ndarray]) -> np.ndarray:
    total: Any = 0.0
    for part in parts:
        total = total + part
    return np.asarray(total / np.float32(len(parts)))


def _taken(queue: list[np.ndarray], count: int) -> np.ndarray:
    """Take the first rows from a queue of arrays."""
    parts = []
    while count:
        first = queue.pop(0)
        if len(first) > count:
            queue.insert(0, first[count:])
            first = first[:count]
        parts.append(first)
        count -= len(first)
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _turned_shape(shape: tuple[int, int], index: int) -> tuple[int, int]:
    return (shape[1], shape[0]) if index & 4 else shape


def _turned(
    part: tuple[slice, slice], shape: tuple[int, int], index: int
) -> tuple[slice, slice]:
    """Return where a region of the image lies in the turned image."""
    rows, columns = part
    if index & 1:
        rows = slice(shape[0] - rows.stop, shape[0] - rows.start)
    if index & 2:
        columns = slice(shape[1] - columns.stop, shape[1] - columns.start)
    return (columns, rows) if index & 4 else (rows, columns)


def _turned_back(
    part: tuple[slice, slice], shape: tuple[int, int], index: int
) -> tuple[slice, slice]:
    """Return where a region of the turned image, of `shape`, lies in the image."""
    if index & 4:
        part, shape = (part[1], part[0]), (shape[1], shape[0])
    return _turned(part, shape, index & 3)
