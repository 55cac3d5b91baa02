"""How an image is cut so that what is in memory at once stays below what was given."""

from __future__ import annotations

import dataclasses
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from unet_zoo import tiling
from unet_zoo.errors import InputError
from unet_zoo.streaming.predictors import Member

_MEGA = 10**6
_SAFETY = 0.85  # of what is left: allocators keep some of what they are given back
_FIXED = 64 * _MEGA  # tables, tiles on their way to the file, the reader's own
_DECODING = 160  # bytes per pixel of a window: heights, markers, the flood's queue
_FLOAT = 4
_SPARE = 1.2  # of what a network needs: buffers that the backend keeps beside it
_BLOCKS = (1024, 512, 256)
_ROWS = (256, 128, 64)
_SIDES = (2048, 64)  # of tiles, largest and smallest


@dataclasses.dataclass(frozen=True)
class Plan:
    """Sizes in pixels.

    Attributes:
        block: side of the blocks that objects are decoded in.
        overlap: how far a block sees beyond itself.
        swath: columns of the image that are predicted together.
        rows: of the network's image that are predicted at once.
        strips: rows are fed one after the other; otherwise tiles of that side.
    """

    block: int
    overlap: int
    swath: int
    rows: int
    strips: bool


def choose(
    shape: tuple[int, int],
    scale: float,
    members: Sequence[Member],
    channels: int,
    overlap: int,
    room: int,
    per_pixel: float,
) -> Plan:
    """Return the plan with the least work among those that fit into `room` bytes.

    Args:
        shape: of the image (Y, X).
        scale: size of the network's image relative to it.
        members: the networks.
        channels: of a prediction.
        overlap: how far a block sees beyond itself.
        room: bytes left for everything but what the process holds already.
        per_pixel: bytes that a tile takes per pixel, where tiles are used.
    """
    height, width = shape
    strips = all(member.graph for member in members)
    best: tuple[float, Plan] | None = None
    for block in _BLOCKS:
        block = min(block, max(height, width))
        window = min(block + 2 * overlap, max(height, width))
        # A prediction of the window, and what its decoding takes.
        left = room * _SAFETY - _FIXED - window**2 * (_DECODING + channels * _FLOAT)
        for rows in _ROWS:
            if strips:
                columns, again = _columns(members, rows, scale, height)
                side = rows
            else:
                side = _side(members, left / 2, per_pixel)
                if not side:
                    continue
                left_now = left / 2
                columns, again = 0.0, 1.0
            held = window * scale + 2 * side + members[0].step
            columns += held * channels * _FLOAT * scale * (1.25 + 0.25 * len(members))
            wide = int((left if strips else left_now) / columns)
            halo = max(member.halo for member in members)
            around = 2 * (overlap + (halo / scale if strips else 0))
            swath = width if wide >= width else int(wide - around)
            if swath < min(block, width):
                continue
            if swath < width:  # as even as can be, of whole blocks
                swath -= swath % block
                each = math.ceil(width / math.ceil(width / swath))
                swath = math.ceil(each / block) * block
                again *= (swath + around) / swath
            if not strips:
                around = 2 * tiling.fitting(halo, members[0].step)
                again *= ((side + around) / side) ** 2
            again += 0.1 * (window / block) ** 2
            plan = Plan(block, overlap, swath, side, strips)
            if best is None or again < best[0]:
                best = again, plan
    if best is None:
        message = (
            f"`max_memory` leaves {max(0, room) // _MEGA} MB for an image of "
            f"{height} x {width}, which is too little for this network. Give more"
            + (", or less `tta`" if members[0].tta > 1 else "")
        )
        raise InputError(message)
    return best[1]


def _columns(
    members: Sequence[Member], rows: int, scale: float, height: int
) -> tuple[float, float]:
    """Return bytes per column of the image, and computed over needed rows."""
    from unet_zoo.streaming.strips import Strips

    total, again = 0.0, []
    for member in members:
        assert member.graph is not None
        # Long enough for every layer to have begun.
        tall = tiling.fitting(int(height * scale), member.step)
        tall = min(tall, tiling.fitting(8 * rows + 8 * member.halo, member.step))
        strips = Strips(member.graph, tall, rows)
        total += _SPARE * strips.cost() * member.tta * scale
        again.append(strips.computed / max(1.0, strips.needed))
    return total, float(np.mean(again))


def _side(members: Sequence[Member], room: float, per_pixel: float) -> int:
    """Return the side of the largest tile that fits, 0 where none does."""
    step = max(member.step for member in members)
    halo = max(tiling.fitting(member.halo, member.step) for member in members)
    seen = int((max(0.0, room) / per_pixel) ** 0.5)
    side = min(seen - 2 * halo - step, max(_SIDES[0], step))
    side -= side % step
    return side if side >= min(_SIDES[1], step) else 0


def probe(member: Member) -> float:
    """Return the bytes that a network takes for a pixel of a tile, as measured."""
    step, channels = member.step, member.segmenter.facts["channels"]
    halo = member.halo if not member.padded else 0
    remainder = 0 if member.padded else -4 % step

    def run(side: int) -> int:
        size = tiling.fitting(side + 2 * halo, step, remainder)
        zeros = np.zeros((1, size, size, channels), np.float32)
        return peak(lambda: member.segmenter._run(zeros)) // size**2

    run(64)  # what every first call takes is no part of it
    return max(64.0, 1.25 * run(512))


def peak(function: Callable[[], Any]) -> int:
    """Return how many bytes the memory of this process grew while `function` ran."""
    before, most, over = resident(), 0, threading.Event()

    def watch() -> None:
        nonlocal most
        while not over.wait(0.002):
            most = max(most, resident())

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        function()
    finally:
        over.set()
        watcher.join()
    return max(most, resident()) - before


def resident() -> int:
    """Return the bytes of memory that this process holds."""
    import psutil

    return int(psutil.Process().memory_info().rss)
