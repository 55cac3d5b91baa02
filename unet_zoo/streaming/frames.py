"""One frame after the other: predicted in swaths, decoded in blocks, joined."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from unet_zoo.outputs import tables
from unet_zoo.streaming import labels, planning, predictors, sources, statistics
from unet_zoo.streaming.grids import Grid, needed, resized, scaled
from unet_zoo.streaming.joining import Edges, Joiner, View
from unet_zoo.streaming.predictors import Member, Work

# How sure that two names are one object; see `joining.Joiner`. Parts of a mask are one
# wherever they touch, what a watershed parts is not.
_SHARE = {"distance": 0.5}
_OVERLAP, _LARGEST = 128, 512


class Names(Protocol):
    """Where the names of the objects of a frame go."""

    def write(self, top: int, left: int, names: np.ndarray) -> None:
        """Take uint32 names (y, x) at a place."""


class Run:
    """The frames of one image, one after the other.

    With a `plan` that was made before nothing is planned, and `given` does not count;
    `threads` of this process have its memory in common.
    """

    def __init__(
        self,
        segmenter: Any,
        source: sources.Source,
        given: int,
        tta: int | None,
        overlap: int | None,
        pixel_size: Any,
        options: dict[str, Any],
        progress: Callable[[int, int], None] | None,
        plan: planning.Plan | None = None,
        threads: int = 1,
    ) -> None:
        self.segmenter, self.source, self.progress = segmenter, source, progress
        self.members = predictors.members(segmenter, tta)
        self.scales = segmenter.scales(pixel_size)
        self.pixel_size = tables.as_pixel_size(pixel_size)
        self._sized = {} if pixel_size is None else {"pixel_size": pixel_size}
        self.work, self.joined = Work(), 0
        self.names: list[tuple[np.ndarray, int]] = []
        chosen = {**segmenter.facts.get("decode", {}), **options}
        self.min_size = int(chosen.get("min_size", 0))
        if plan is not None:
            overlap = plan.overlap
        elif overlap is None:
            wanted = max(_OVERLAP, self.min_size, 4 * int(chosen.get("closing", 0)))
            overlap = min(wanted, _LARGEST)
        # The labels of more classes than two are those classes, and need no joining.
        target = segmenter.facts["target"], segmenter.target.channels
        self.classes = target[1] if target[0] == "semantic" and target[1] > 2 else 0
        self.options = dict(options)
        if self.min_size > overlap:
            # Of an object this size a block may see a part that is too small.
            self.options["min_size"] = 0
        height, width = source.shape[1:3]
        self.plan = plan or self._planned(given, overlap, threads)
        # Beside a seam both blocks see an object whole unless it is larger than what is
        # left of the overlap. Parts of a mask need no more than to touch.
        share = _SHARE.get(segmenter.facts["target"], 0.0)
        self.reach = max(1, overlap // 4) if share else 1
        blocks = -(-height // self.plan.block)
        self._of = source.shape[0] * blocks * -(-width // self.plan.swath)
        self._done = 0

    def _planned(self, given: int, overlap: int, threads: int) -> planning.Plan:
        height, width = self.source.shape[1:3]
        tiled = any(member.graph is None for member in self.members)
        per_pixel = max(map(planning.probe, self.members)) if tiled else 0.0
        for member in () if tiled else self.members:
            planning.warm(member, width)
        return planning.choose(
            (height, width),
            (self.scales[0] * self.scales[1]) ** 0.5,
            self.members,
            self.segmenter.target.channels,
            overlap,
            given,
            threads,
            per_pixel,
        )

    @property
    def around(self) -> int:
        """Return how far beyond a part of the image is computed for it."""
        halo = max(member.halo + member.step for member in self.members)
        return self.plan.overlap + math.ceil(halo / min(self.scales))

    def frame(self, frame: int, scratch: labels.Scratch) -> None:
        """Find the objects of one frame; their names go to the scratch file."""
        scalings = measured(self.segmenter, self.source, frame)
        joiner = self.joiner()
        height, width = self.source.shape[1:3]
        before: Edges | None = None
        for left in range(0, width, self.plan.swath):
            columns = slice(left, min(left + self.plan.swath, width))
            core = slice(0, height), columns
            edges = self.part(frame, core, scalings, joiner, scratch)
            if before is not None:
                joiner.meet_all(before.right, edges.left)
            before = edges
        self.finish(joiner)

    def joiner(self) -> Joiner:
        """Return what joins the objects of a frame."""
        share = _SHARE.get(self.segmenter.facts["target"], 0.0)
        return Joiner(self.source.shape[2], share)

    def finish(self, joiner: Joiner) -> None:
        """Number the objects of a frame, of which all parts are found."""
        if self.classes:
            same = np.arange(self.classes, dtype=np.uint32)
            self.names.append((same, self.classes - 1))
        else:
            names, count, cut = joiner.finish(self.min_size)
            self.names.append((names, count))
            self.joined += cut
        size = scaled(self.source.shape[1:3], self.scales)
        for member in self.members:
            self.work.given += np.prod(size) * member.tta

    def part(
        self,
        frame: int,
        core: tuple[slice, slice],
        scalings: Mapping[str, statistics.Scaling],
        joiner: Joiner,
        scratch: Names,
    ) -> Edges:
        """Find the objects of a part of a frame, block by block.

        Args:
            frame: its number.
            core: rows and columns; both begin where a block does, and there are no
                more columns than in a swath.
            scalings: what `measured` returns of the frame.
            joiner: learns the names of the objects.
            scratch: is given them.

        Returns:
            What the blocks beyond the part's seams must be compared with.
        """
        grids = [
            Grid(
                self.source,
                frame,
                scalings[each.segmenter.facts["normalization"]],
                self.scales,
            )
            for each in self.members
        ]
        shape, net = self.source.shape[1:3], grids[0].shape
        down, along = (
            needed(new, old, self._around(each, old))
            for new, old, each in zip(net, shape, core, strict=True)
        )
        band = _Band(
            predictors.predict(
                self.members,
                grids,
                down.stop - down.start,
                lambda *each: self._predict((down, along), *each),
            ),
            (down.start, along.start),
        )
        edges = Edges()
        above: list[View] = []
        for top in range(core[0].start, core[0].stop, self.plan.block):
            rows = slice(top, min(top + self.plan.block, core[0].stop))
            beyond = self._around(rows, shape[0])
            band.fill(needed(net[0], shape[0], beyond))
            below: list[View] = []
            beside: View | None = None
            for left in range(core[1].start, core[1].stop, self.plan.block):
                across = slice(left, min(left + self.plan.block, core[1].stop))
                window = self._around(across, shape[1])
                prediction = resized(band.read, net, shape, beyond, window)
                found = self.segmenter.decode(prediction, **self.options, **self._sized)
                del prediction
                view = self._take(found, (rows, across), (beyond, window), joiner)
                scratch.write(rows.start, across.start, view.part(rows, across))
                if self.classes:
                    continue
                joiner.meet_all(above, [view])
                if beside is None:
                    edges.left.append(view.near(left, self.reach, axis=1))
                else:
                    joiner.meet(beside, view)
                beside = view.near(across.stop, self.reach, axis=1)
                if top == core[0].start:
                    edges.top.append(view.near(top, self.reach, axis=0))
                below.append(view.near(rows.stop, self.reach, axis=0))
            if beside is not None:
                edges.right.append(beside)
            above = below
            self._done += 1
            if self.progress is not None:
                self.progress(self._done, self._of)
        edges.bottom = above
        band.finish()
        return edges

    def _take(
        self,
        found: np.ndarray,
        core: tuple[slice, slice],
        window: tuple[slice, slice],
        joiner: Joiner,
    ) -> View:
        """Give the objects of one block their names."""
        view = View(found, window[0].start, window[1].start)
        if self.classes:
            return view
        inner = view.part(*core)
        offset = joiner.add(inner, found, core[0].start, core[1].start)
        names = np.where(found > 0, found.astype(np.int64) + offset, 0)
        view = dataclasses.replace(view, labels=names.astype(np.uint32))
        for axis, (part, size) in enumerate(
            zip(window, self.source.shape[1:3], strict=True)
        ):
            if part.start > 0:
                joiner.cut(np.unique(view.labels.take(0, axis)))
            if part.stop < size:
                joiner.cut(np.unique(view.labels.take(-1, axis)))
        return view

    def _around(self, part: slice, size: int) -> slice:
        overlap = self.plan.overlap
        return slice(max(0, part.start - overlap), min(size, part.stop + overlap))

    def _predict(
        self, part: tuple[slice, slice], member: Member, grid: Grid
    ) -> Iterator[np.ndarray]:
        by = predictors.by_strips if self.plan.strips else predictors.by_tiles
        return by(member, grid, part, self.plan.rows, self.work)


def measured(
    segmenter: Any, source: sources.Source, frame: int
) -> dict[str, statistics.Scaling]:
    """Return how networks see the values of a frame, by the method; all is read."""
    each = getattr(segmenter, "members", (segmenter,))
    methods = sorted({one.facts["normalization"] for one in each})
    return {method: statistics.measure(source, frame, method) for method in methods}


class _Band:
    """The rows of a prediction that are still needed."""

    def __init__(self, arriving: Iterator[np.ndarray], begin: tuple[int, int]) -> None:
        self._arriving, self._left = arriving, begin[1]
        self._parts: list[tuple[int, np.ndarray]] = []
        self._end = begin[0]

    def fill(self, rows: slice) -> None:
        """Forget what lies above `rows` and wait until all of them are there."""
        while (
            self._parts
            and sum((self._parts[0][0], len(self._parts[0][1]))) <= rows.start
        ):
            self._parts.pop(0)
        while self._end < rows.stop:
            part = next(self._arriving)
            self._parts.append((self._end, part))
            self._end += len(part)

    def read(self, rows: slice, columns: slice) -> np.ndarray:
        """Return a region (y, x, K) of the rows that are there."""
        across = slice(columns.start - self._left, columns.stop - self._left)
        parts = []
        for begin, part in self._parts:
            low, high = max(rows.start, begin), min(rows.stop, begin + len(part))
            if low < high:
                parts.append(part[low - begin : high - begin, across])
        return np.concatenate(parts)

    def finish(self) -> None:
        """Let what computes the rows come to its end."""
        for _ in self._arriving:
            pass
