"""How an image is cut so that what is in memory at once stays below what was given."""

from __future__ import annotations

import bisect
import contextlib
import dataclasses
import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from unet_zoo import tiling
from unet_zoo.errors import InputError
from unet_zoo.streaming.predictors import Member

_MEGA = 10**6
_SAFETY = 0.85  # of what is left: allocators keep some of what they are given back
_FIXED = 64 * _MEGA  # tables, tiles on their way to the file, the reader's own
_DECODING = 160  # bytes per pixel of a window: heights, markers, the flood's queue
_FLOAT = 4
_WARM = 1024  # columns
_PROBED = (128, 640)  # sides of tiles
_ACROSS = 9  # tiles beside each other in a swath, at most one less
_BLOCKS = (1024, 512, 256)
_ROWS = (256, 128, 64)
_SIDES = (4096, 64)  # of tiles, largest and smallest
_MOST = 10**7  # MB, far beyond what any network needs
_SPARE = 1.05  # of what is said to be enough: the next process holds a little more
_ROUND = 50  # MB


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes in pixels.

    Attributes:
        block: side of the blocks that objects are decoded in.
        overlap: how far a block sees beyond itself.
        swath: columns of the image that are predicted together.
        rows: of the network's image that are predicted at once.
        strips: rows are fed one after the other; otherwise tiles of that side.
        engine: what runs the network.
    """

    block: int
    overlap: int
    swath: int
    rows: int
    strips: bool = True
    engine: str = "Keras"

    def __str__(self) -> str:
        if self.strips:
            return (
                f"{self.engine} is fed rows of {self.swath} pixels, as every layer of "
                "the network looks at its neighbours only"
            )
        return (
            f"{self.engine} is given tiles of {self.rows} pixels, the largest that "
            "fit, as the network cannot be fed rows"
        )


def choose(
    shape: tuple[int, int],
    scale: float,
    members: Sequence[Member],
    channels: int,
    overlap: int,
    given: int,
    threads: int,
    per_pixel: float,
) -> Plan:
    """Return the plan with the least work among those that fit into `given` bytes.

    Args:
        shape: of the image (Y, X).
        scale: size of the network's image relative to it.
        members: the networks.
        channels: of a prediction.
        overlap: how far a block sees beyond itself.
        given: bytes for everything, what the process holds already included.
        threads: of the process, which have what is left in common.
        per_pixel: bytes that a tile takes per pixel, where tiles are used.

    Raises:
        InputError: where none fits; says how much would do.
    """
    held = resident()
    room = (given - held) // threads
    strips = all(member.graph for member in members)
    columns = {
        rows: _columns(members, rows, scale, shape[0]) for rows in _ROWS if strips
    }

    def best(room: int) -> Plan | None:
        left = room * _SAFETY - _FIXED
        sizes = _Sizes(shape, scale, members, channels, overlap, left)
        return sizes.best(columns, None if strips else per_pixel)

    found = best(room)
    if found is None:
        # More room never makes a plan impossible.
        least = bisect.bisect_left(
            range(_MOST), True, key=lambda megas: best(megas * _MEGA) is not None
        )
        enough = _SPARE * (held / _MEGA + threads * least)
        message = (
            f"`max_memory` leaves {max(0, room) // _MEGA} MB for an image of "
            f"{shape[0]} x {shape[1]}, which is too little for this network. Give at "
            f"least {math.ceil(enough / _ROUND) * _ROUND}MB"
            + (", or less `tta`" if members[0].tta > 1 else "")
        )
        raise InputError(message)
    engine = getattr(members[0].segmenter, "engine", None)
    word = type(engine).__name__ if engine is not None else "Keras"
    return dataclasses.replace(found, engine=word)


@dataclasses.dataclass(frozen=True)
class _Sizes:
    """What `choose` knows; `room` is what may be planned with."""

    shape: tuple[int, int]
    scale: float
    members: Sequence[Member]
    channels: int
    overlap: int
    room: float

    def best(
        self, costs: Mapping[int, tuple[float, float]], per_pixel: float | None
    ) -> Plan | None:
        """Return the plan with the least work; of tiles where `per_pixel` is given."""
        best: tuple[float, Plan] | None = None
        for block in dict.fromkeys(min(block, max(self.shape)) for block in _BLOCKS):
            plans = (
                self.strips(block, costs)
                if per_pixel is None
                else self.tiles(block, per_pixel)
            )
            for again, plan in plans:
                again += 0.1 * (self.window(block) / block) ** 2
                if best is None or again < best[0]:
                    best = again, plan
        return best and best[1]

    def window(self, block: int) -> int:
        """Return the side of what a block sees."""
        return min(block + 2 * self.overlap, max(self.shape))

    def strips(
        self, block: int, costs: Mapping[int, tuple[float, float]]
    ) -> Iterator[tuple[float, Plan]]:
        """Yield (computed over needed pixels, plan)."""
        for rows, (columns, again) in costs.items():
            columns += self._band(block, 2 * rows)
            halo = max(member.halo for member in self.members) / self.scale
            around = int(2 * (self.overlap + halo))
            swath = self._swath(block, int(self._left(block) / columns) - around)
            if swath:
                lost = around if swath < self.shape[1] else 0
                yield again * (1 + lost / swath), Plan(block, self.overlap, swath, rows)

    def tiles(self, block: int, per_pixel: float) -> Iterator[tuple[float, Plan]]:
        """Yield (computed over needed pixels, plan), with tiles as large as can be."""
        step = max(member.step for member in self.members)
        halo = max(tiling.fitting(member.halo, step) for member in self.members)
        for across in range(1, _ACROSS):
            # Of the network's image the band holds rows of tiles, `across` beside
            # each other, and what is left of those above.
            deep, held = _SIDES[0], 0.0
            while deep >= step:
                wide = across * deep / self.scale
                held = (deep + 2 * halo) ** 2 * per_pixel
                held += min(wide, self.shape[1]) * self._band(block, 2 * deep)
                if held <= self._left(block):
                    break
                deep -= step
            around = 2 * self.overlap
            swath = self._swath(block, int(across * deep / self.scale) - around)
            if swath and deep >= min(_SIDES[1], step):
                again = _again(int(self.shape[0] * self.scale), deep, halo, 0)
                again *= _again(int(swath * self.scale), deep, halo, around)
                yield again, Plan(block, self.overlap, swath, deep, strips=False)

    def _left(self, block: int) -> float:
        """Return the room beside what the decoding of a block takes."""
        taken = _DECODING + self.channels * _FLOAT
        return self.room - self.window(block) ** 2 * taken

    def _band(self, block: int, more: int) -> float:
        """Return the bytes of the predictions held, per column of the image."""
        rows = self.window(block) * self.scale + more + self.members[0].step
        each = rows * self.channels * _FLOAT * self.scale
        return each * (1.25 + 0.25 * len(self.members))

    def _swath(self, block: int, most: int) -> int:
        """Return how many columns to predict together, as even as can be; 0: none."""
        width = self.shape[1]
        if most + 2 * self.overlap >= width:
            return width
        if most < min(block, width):
            return 0
        each = math.ceil(width / math.ceil(width / (most - most % block)))
        return math.ceil(each / block) * block


def _again(size: int, side: int, halo: int, around: int) -> float:
    """Return the pixels computed over those needed, along one axis of tiles."""
    count = math.ceil((size + around) / side)
    return (size + around + 2 * halo * (count - 1)) / size


def _columns(
    members: Sequence[Member], rows: int, scale: float, height: int
) -> tuple[float, float]:
    """Return bytes per column of the image, and computed over needed rows."""
    from unet_zoo.graphs.strips import Strips

    total, again = 0.0, []
    for member in members:
        assert member.graph is not None
        # Long enough for every layer to have begun.
        tall = tiling.fitting(int(height * scale), member.step)
        tall = min(tall, tiling.fitting(8 * rows + 8 * member.halo, member.step))
        strips = Strips(member.graph, tall, rows)
        total += strips.cost() * member.tta * scale
        again.append(strips.computed / max(1.0, strips.needed))
    return total, float(np.mean(again))


def warm(member: Member, width: int) -> None:
    """Let a network that is fed rows get ready, and take what memory that takes."""
    from unet_zoo.graphs.strips import Strips

    assert member.graph is not None
    rows, step = _ROWS[-1], member.step
    tall = tiling.fitting(2 * (rows + member.halo), step)
    zeros: np.ndarray = np.zeros(
        (rows, tiling.fitting(min(_WARM, width), step), member.graph.channels[0])
    )
    strips = Strips(member.graph, tall, rows)
    for start in range(0, tall, rows):
        strips.push(zeros[: tall - start].astype(np.float32))


def probe(member: Member) -> float:
    """Return the bytes that a network takes for a pixel of a tile, as measured."""
    step, channels = member.step, member.segmenter.facts["channels"]
    halo = member.halo if not member.padded else 0
    remainder = 0 if member.padded else -4 % step

    def run(side: int) -> int:
        size = tiling.fitting(side + 2 * halo, step, remainder)
        zeros = np.zeros((1, size, size, channels), np.float32)
        member.segmenter.run(zeros)
        return size

    # Of two runs the first compiles; some engines keep the memory of the largest.
    small = run(_PROBED[0])
    run(_PROBED[0])
    before = resident()
    large = run(_PROBED[1])
    grown = resident() - before
    grown += peak(lambda: run(_PROBED[1]))
    return max(64.0, 1.25 * grown / (large**2 - small**2))


def peak(function: Callable[[], object]) -> int:
    """Return how many bytes the memory of this process grew while `function` ran."""
    before = resident()
    with watching(0.002) as most:
        function()
    return max(most[0], resident()) - before


@contextlib.contextmanager
def watching(every: float = 0.02) -> Iterator[list[int]]:
    """Yield a list of one number: the most bytes held, seen `every` few seconds."""
    most, over = [resident()], threading.Event()

    def watch() -> None:
        while not over.wait(every):
            most[0] = max(most[0], resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield most
    finally:
        over.set()
        watcher.join()


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)
