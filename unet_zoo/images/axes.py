"""Axes of any file understood as frames, height, width and channels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unet_zoo.errors import InputError

Selection = tuple[int | slice, ...]

# Letters as OME and tifffile use them; any other letter counts frames as well.
NAMES = {
    "T": "time points",
    "Z": "planes",
    "P": "positions",
    "I": "pages",
    "Q": "pages",
    "R": "repeats",
    "A": "angles",
    "H": "phases",
    "B": "blocks",
    "M": "mosaic tiles",
}
_COLOURS = 4  # an axis at the end of at most so many values is taken for colour


@dataclass(frozen=True)
class Planes:
    """Where the frames of an image lie in its file, as other programs count.

    Attributes:
        axes: a letter for each axis that counts frames, as stored.
        sizes: of these axes.
        channels: of the file, whichever of them are read; colours are one.

    >>> stacks = Planes("TZ", (2, 3))
    >>> [stacks.place(frame) for frame in range(4)]
    [(0, 0), (1, 0), (2, 0), (0, 1)]
    >>> stacks.hyperstack, Planes("T", (9,)).hyperstack, Planes("T", (9,), 2).hyperstack
    (True, False, True)
    """

    axes: str
    sizes: tuple[int, ...]
    channels: int = 1

    @property
    def count(self) -> int:
        """Return the number of frames."""
        return math.prod(self.sizes)

    @property
    def both(self) -> bool:
        """Return whether there are several z and several t."""
        along_z = self.sizes[self.axes.index("Z")] if "Z" in self.axes else 1
        return 1 < along_z < self.count

    @property
    def hyperstack(self) -> bool:
        """Return whether ImageJ counts channels, z and t in place of slices."""
        return self.both or (self.channels > 1 and self.count > 1)

    @property
    def stacked(self) -> Planes:
        """Return where the frames lie in a file of results.

        Its axes are T and Z as stored, as far as there are several; whatever else
        counts the frames, they become time points.

        >>> Planes("TZ", (1, 5)).stacked
        Planes(axes='Z', sizes=(5,), channels=1)
        >>> Planes("TZP", (2, 3, 4)).stacked
        Planes(axes='T', sizes=(24,), channels=1)
        """
        several = [n for n, size in enumerate(self.sizes) if size > 1]
        letters = "".join(self.axes[n] for n in several)
        if not letters or set(letters) - {"T", "Z"}:
            return Planes("T", (self.count,))
        return Planes(letters, tuple(self.sizes[n] for n in several))

    def place(self, frame: int) -> tuple[int, int]:
        """Return z and t of a frame, from 0; t counts along every axis but Z."""
        z = t = 0
        indices = np.unravel_index(frame, self.sizes or (1,))
        for name, size, index in zip(self.axes, self.sizes, indices, strict=False):
            if name == "Z":
                z = int(index)
            else:
                t = t * size + int(index)
        return z, t


@dataclass(frozen=True)
class Layout:
    """What the axes of an array mean: frames, rows, columns and channels.

    >>> layout = Layout.of("TCYX", (5, 2, 30, 40))
    >>> layout.shape
    (5, 30, 40, 2)
    >>> layout.selection(3, slice(0, 10), slice(None))
    (3, slice(None, None, None), slice(0, 10, None), slice(None, None, None))
    """

    axes: str
    sizes: tuple[int, ...]
    frames: tuple[int, ...]
    channels: tuple[int, ...]  # C before S, as colours belong to a channel

    @classmethod
    def of(cls, axes: str, sizes: tuple[int, ...]) -> Layout:
        """Return the layout of axes that name Y and X once."""
        frames = tuple(n for n, name in enumerate(axes) if name not in "YXCS")
        channels = [n for n, name in enumerate(axes) if name == "C"]
        samples = [n for n, name in enumerate(axes) if name == "S"]
        return cls(axes, tuple(sizes), frames, (*channels, *samples))

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Return (T, Y, X, C)."""
        count = [
            math.prod(self.sizes[n] for n in some)
            for some in (self.frames, self.channels)
        ]
        height, width = (self.sizes[self.axes.index(name)] for name in "YX")
        return count[0], height, width, count[1]

    @property
    def planes(self) -> Planes:
        """Return where the frames lie."""
        return Planes(
            "".join(self.axes[n] for n in self.frames),
            tuple(self.sizes[n] for n in self.frames),
            self.sizes[self.axes.index("C")] if "C" in self.axes else 1,
        )

    def selection(
        self, frame: int, rows: slice, columns: slice, channel: int | None = None
    ) -> Selection:
        """Return the index that takes a part of a frame from the whole array."""
        chosen: list[int | slice] = [slice(None)] * len(self.sizes)
        chosen[self.axes.index("Y")], chosen[self.axes.index("X")] = rows, columns
        places = np.unravel_index(frame, [self.sizes[n] for n in self.frames] or [1])
        for axis, place in zip(self.frames, places, strict=False):
            chosen[axis] = int(place)
        if channel is not None:
            sizes = [self.sizes[n] for n in self.channels] or [1]
            for axis, place in zip(
                self.channels, np.unravel_index(channel, sizes), strict=False
            ):
                chosen[axis] = slice(int(place), int(place) + 1)
        return tuple(chosen)

    def arrange(self, part: np.ndarray) -> np.ndarray:
        """Return what `selection` took as (y, x, C)."""
        left = [n for n in range(len(self.sizes)) if n not in self.frames]
        order = [self.axes.index("Y"), self.axes.index("X"), *self.channels]
        part = part.transpose([left.index(axis) for axis in order])
        return part.reshape(*part.shape[:2], math.prod(part.shape[2:]))

    def stretched(self) -> tuple[str, tuple[int, ...]]:
        """Return axes and sizes without the axes of one value, but for Y and X."""
        kept = [
            n
            for n, size in enumerate(self.sizes)
            if size > 1 or self.axes[n] in ("Y", "X")
        ]
        return "".join(self.axes[n] for n in kept), tuple(self.sizes[n] for n in kept)

    def told(self) -> str:
        """Return how the frames came about, where they are not plainly time points."""
        counted = [
            f"{self.sizes[n]} {NAMES.get(self.axes[n], f'along {self.axes[n]}')}"
            for n in self.frames
            if self.sizes[n] > 1
        ]
        kinds = {self.axes[n] for n in self.frames if self.sizes[n] > 1}
        if not kinds or kinds == {"T"}:
            return ""
        return f"{' x '.join(counted)} are segmented as {self.shape[0]} frames"


def guess(shape: tuple[int, ...]) -> str | None:
    """Return likely axes of an array that nothing names; None: too many to guess.

    >>> [guess(shape) for shape in ((30, 40), (30, 40, 3), (3, 30, 40), (5, 2, 30, 40))]
    ['YX', 'YXC', 'TYX', 'TCYX']
    """
    ends_in_colour = len(shape) > 2 and shape[-1] <= _COLOURS < min(shape[-3:-1])
    rest = len(shape) - 2 - ends_in_colour
    if not 0 <= rest <= (2 if ends_in_colour else 3):
        return None
    if ends_in_colour:
        return ("", "T", "TZ")[rest] + "YXC"
    if rest == 3:
        # OME-Zarr writes TCZYX, ImageJ TZCYX.
        return "TCZYX" if shape[1] <= shape[2] else "TZCYX"
    if rest == 2:
        return "TCYX" if shape[1] <= _COLOURS else "TZYX"
    return "TYX"[1 - rest :]


def override(path: Path, axes: str, stored: str, shape: tuple[int, ...]) -> str:
    """Return a letter per stored axis, as `axes` name them.

    Axes of one value may be left out.
    """
    axes = axes.upper()
    wrong = [name for name in axes if not ("A" <= name <= "Z")]
    if wrong or len(set(axes)) != len(axes) or not {"Y", "X"} <= set(axes):
        message = (
            "`axes` must name each axis by a letter of its own, Y and X among them, "
            f"such as 'TZCYX' (C: channels, S: colours). Received: {axes!r}"
        )
        raise InputError(message)
    single = [n for n, size in enumerate(shape) if size == 1]
    # tifffile ends every page in one colour: nobody who names axes counts that.
    hidden = [n for n in single if stored[n : n + 1] == "S" and "S" not in axes]
    single = hidden + [n for n in single if n not in hidden]
    spare = len(shape) - len(axes)
    if not len(hidden) <= spare <= len(single):
        sizes = tuple(size for size in shape if size > 1)
        message = (
            f"`axes` {axes!r} names {len(axes)} axes; {path} has {len(sizes)}, of the "
            f"sizes {sizes}"
        )
        raise InputError(message)
    letters = iter(axes)
    left_out = single[:spare]
    return "".join("_" if n in left_out else next(letters) for n in range(len(shape)))
