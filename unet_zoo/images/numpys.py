"""NPY files, mapped into memory and never unpickled."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from unet_zoo.images import axes, refusing
from unet_zoo.images.axes import Selection
from unet_zoo.images.sources import Source


def open_npy(path: Path) -> Source:
    """Return the source of an array that numpy.save wrote."""

    def mapped() -> np.ndarray:
        found: np.ndarray = np.load(path, mmap_mode="r", allow_pickle=False)
        return found

    array = mapped()

    def fetch(selection: Selection) -> np.ndarray:
        # Mapped anew each time: what was read before does not stay in memory.
        return np.array(mapped()[selection])

    return unnamed(path, array.shape, array.dtype, fetch)


def unnamed(
    path: Path,
    shape: tuple[int, ...],
    dtype: np.dtype,
    fetch: Callable[[Selection], np.ndarray],
) -> Source:
    """Return the source of an array whose axes nobody named."""
    letters = axes.guess(shape)
    if len(shape) < 2:
        raise refusing.unreadable(path, f"its shape {shape} is not that of an image")
    # Axes that are not guessed can still be given.
    guess = "" if len(shape) == 2 else "its axes have no names"
    return Source(shape, letters or "", np.dtype(dtype), fetch, (), guess=guess)
