"""What every format offers to the one reader of regions."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from unet_zoo.images.axes import Selection

PixelSize: TypeAlias = tuple[float, float] | None

KEPT = 2**26  # bytes of decoded segments that an open image keeps for its next region


def _nothing() -> None:
    pass


@dataclass
class Source:
    """One file opened: what it holds, and how to get a part of it.

    Attributes:
        shape: sizes of the axes as stored.
        axes: a letter per axis.
        dtype: of the values as stored.
        fetch: returns the part that a selection names; safe in threads.
        unit: what is decoded at once at most, however small the part.
        pixel_size: (y, x) in micrometres, where the file says.
        channels: names, where the file has them.
        guess: which guess the axes rest on; "" where the metadata say all.
        remark: what else to know of the file.
        unclear: why eager readers, who cannot ask, refuse the guess.
        close: gives files back.
    """

    shape: tuple[int, ...]
    axes: str
    dtype: np.dtype
    fetch: Callable[[Selection], np.ndarray]
    unit: tuple[int, ...]
    pixel_size: PixelSize = None
    channels: tuple[str, ...] | None = None
    guess: str = ""
    remark: str = ""
    unclear: str = ""
    close: Callable[[], None] = _nothing

    def __post_init__(self) -> None:
        # Sizes come from files, where they may be anything.
        self.shape = tuple(map(operator.index, self.shape))
        self.unit = tuple(map(operator.index, self.unit))


class Recent:
    """The segments decoded last: neighbouring regions share them.

    >>> recent = Recent()
    >>> recent.get("a", lambda: np.zeros(3)) is recent.get("a", lambda: np.ones(3))
    True
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[Hashable, np.ndarray] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], np.ndarray]) -> np.ndarray:
        """Return the array of `key`, made if it is not there; not to be written to."""
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = make()
        with self._lock:
            if key not in self._kept and made.nbytes:  # nothing is kept of nothing
                self._kept[key] = made
                self._bytes += made.nbytes
            while self._bytes > KEPT and len(self._kept) > 1:
                self._bytes -= self._kept.popitem(last=False)[1].nbytes
        return made


def extent(chosen: int | slice, size: int) -> tuple[int, int]:
    """Return the first place and the one after the last of a part of an axis.

    >>> extent(3, 10), extent(slice(2, None), 10), extent(slice(None, 99), 10)
    ((3, 4), (2, 10), (0, 10))
    """
    if isinstance(chosen, int):
        return chosen, chosen + 1
    first, last, _ = chosen.indices(size)
    return first, max(first, last)
