"""One frame after the other: predicted in swaths, decoded in blocks, joined."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from unet_zoo.streaming import labels, planning, predictors, sources, statistics
from unet_zoo.streaming.grids import Grid, needed, resized
from unet_zoo.streaming.joining import Joiner, View
from unet_zoo.streaming.predictors import Member, Work

# How sure that two names are one object; see `joining.Joiner`. Parts of a mask are one
# wherever they touch, what a watershed parts is not.
_SHARE = {"distance": 0.5}
_OVERLAP, _LARGEST = 128, 512


class Run:
    """The frames of one image, one after the other."""

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
    ) -> None:
        self.segmenter, self.source, self.progress = segmenter, source, progress
        self.members = predictors.members(segmenter, tta)
        self._sized: dict[str, Any] = {}
        self.scales = _scales(segmenter, pixel_size)
        if pixel_size is not None:
            self._sized = {"pixel_size": pixel_size}
        self.work, self.joined = Work(), 0
        self.names: list[tuple[np.ndarray, int]] = []
        chosen = {**segmenter.facts.get("decode", {}), **options}
        self.min_size = int(chosen.get("min_size", 0))
        if overlap is None:
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
        tiled = any(member.graph is None for member in self.members)
        per_pixel = max(map(planning.probe, self.members)) if tiled else 0.0
        for member in () if tiled else self.members:
            planning.warm(member, width)
        self.plan = planning.choose(
            (height, width),
            (self.scales[0] * self.scales[1]) ** 0.5,
            self.members,
            segmenter.target.channels,
            overlap,
            given - planning.resident(),
            per_pixel,
        )
        # Beside a seam both blocks see an object whole unless it is larger than what is
        # left of the overlap. Parts of a mask need no more than to touch.
        share = _SHARE.get(segmenter.facts["target"], 0.0)
        self.reach = max(1, overlap // 4) if share else 1
        self._blocks = -(-height // self.plan.block)
        self._of = source.shape[0] * self._blocks * -(-width // self.plan.swath)
        self._done = 0

    def frame(self, frame: int, scratch: labels.Scratch) -> None:
        """Find the objects of one frame; their names go to the scratch file."""
        methods = {each.segmenter.facts["normalization"] for each in self.members}
        scalings = {
            method: statistics.measure(self.source, frame, method) for method in methods
        }
        grids = [
            Grid(
                self.source,
                frame,
                scalings[each.segmenter.facts["normalization"]],
                self.scales,
            )
            for each in self.members
        ]
        width = self.source.shape[2]
        joiner = Joiner(width, _SHARE.get(self.segmenter.facts["target"], 0.0))
        seams: dict[int, View] = {}  # the right edge of the swath before, by block row
        for left in range(0, width, self.plan.swath):
            core = slice(left, min(left + self.plan.swath, width))
            self._swath(core, grids, joiner, scratch, seams)
        if self.classes:
            same = np.arange(self.classes, dtype=np.uint32)
            self.names.append((same, self.classes - 1))
        else:
            names, count, cut = joiner.finish(self.min_size)
            self.names.append((names, count))
            self.joined += cut
        for member in self.members:
            self.work.given += np.prod(grids[0].shape) * member.tta

    def _swath(
        self,
        core: slice,
        grids: list[Grid],
        joiner: Joiner,
        scratch: labels.Scratch,
        seams: dict[int, View],
    ) -> None:
        """Find the objects of some columns, block by block."""
        (height, width), net = self.source.shape[1:3], grids[0].shape
        columns = needed(net[1], width, self._around(core, width))
        band = _Band(
            predictors.predict(
                self.members, grids, lambda *each: self._predict(columns, *each)
            ),
            columns.start,
        )
        above: list[View] = []
        for number in range(self._blocks):
            top = number * self.plan.block
            rows = slice(top, min(top + self.plan.block, height))
            beyond = self._around(rows, height)
            band.fill(needed(net[0], height, beyond))
            below = []
            for left in range(core.start, core.stop, self.plan.block):
                across = slice(left, min(left + self.plan.block, core.stop))
                window = self._around(across, width)
                prediction = resized(band.read, net, (height, width), beyond, window)
                found = self.segmenter.decode(prediction, **self.options, **self._sized)
                del prediction
                view = self._take(found, (rows, across), (beyond, window), joiner)
                inner = view.part(rows, across)
                scratch.write(rows.start, across.start, inner)
                if not self.classes:
                    if number in seams:
                        joiner.meet(seams[number], view)
                    for other in above:
                        joiner.meet(other, view)
                    seams[number] = view.near(across.stop, self.reach, axis=1)
                    below.append(view.near(rows.stop, self.reach, axis=0))
            above = below
            self._done += 1
            if self.progress is not None:
                self.progress(self._done, self._of)
        band.finish()

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
        self, columns: slice, member: Member, grid: Grid
    ) -> Iterator[np.ndarray]:
        by = predictors.by_strips if self.plan.strips else predictors.by_tiles
        return by(member, grid, columns, self.plan.rows, self.work)


def _scales(segmenter: Any, pixel_size: Any) -> tuple[float, float]:
    """Return the size of the network's image relative to the image, (Y, X)."""
    if pixel_size is None:
        scale = float(segmenter.facts["scale"])
        return scale, scale
    y, x = segmenter._scales(pixel_size)
    return float(y), float(x)


class _Band:
    """The rows of a prediction that are still needed."""

    def __init__(self, arriving: Iterator[np.ndarray], left: int) -> None:
        self._arriving, self._left = arriving, left
        self._parts: list[tuple[int, np.ndarray]] = []
        self._end = 0

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
