"""Does a mask lie where its image has edges? Registered by correlation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

# Images are looked at with at most this many pixels a side: every k-th of a larger one.
SIDE = 512
# How far a mask is moved, in pixels of that, and at most a quarter of the image.
REACH = 64
# A mask fits as it is within this distance.
NEAR = 2.5
# A position is certain from this height on, in robust standard deviations of all
# positions, and better than the present one by this factor. Noise reaches 5.
CERTAIN = 7.0
BETTER = 1.25
# Below this, the edges are nowhere near those of the mask.
LOST = 3.0
# Outlines drawn so many pixels inside or outside of the edges still fit.
LOOSE = (-8, -6, -4, -3, -2, 2, 3, 4, 6, 8)
# Such a contour must be long enough, as a share of the pixels of the edges, which are
# two wide: what is left between crowded objects says nothing.
LIKE = 0.4
# An overlap of neighbouring edges reaches no farther: beyond, what fits here fits.
OVERLAP = 12
# Fewer pixels of edges say nothing.
FEWEST = 60

TURNS: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored left to right": np.fliplr,
    "mirrored top to bottom": np.flipud,
    "turned by 180 degrees": lambda mask: mask[::-1, ::-1],
    "transposed (rows and columns exchanged)": np.transpose,
    "turned by 90 degrees": np.rot90,
    "turned by 270 degrees": lambda mask: np.rot90(mask, 3),
    "transposed along the other diagonal": lambda mask: mask[::-1, ::-1].T,
}


@dataclasses.dataclass(frozen=True)
class Fit:
    """How well a mask fits its image where it is, and where it fits best.

    `here` and `best` are in robust standard deviations of the correlation over all
    shifts tried; `move` is (down, right) in pixels of the image, from here to the best,
    (0, 0) where that is here.
    `turn` says what to do to the mask so that it fits, "" if nothing helps or need be.
    """

    here: float
    best: float
    move: tuple[int, int]
    turn: str = ""

    @property
    def shifted(self) -> bool:
        """Return whether the mask certainly belongs elsewhere."""
        far = self.move != (0, 0)
        return far and self.best >= CERTAIN and self.best >= BETTER * self.here


def register(image: np.ndarray, labels: np.ndarray) -> Fit | None:
    """Move the edges of labels over the edges of an image, and say where they fit.

    The image's edges are the length of its gradient (channels z-scored, blurred by one
    pixel), divided by their local mean, so that strong and weak edges count alike. The
    mask's edges are the pixels where its ids change. Their correlation over all shifts
    up to `REACH` is one FFT; its height is counted from its median in robust standard
    deviations. Outlines drawn too wide or too tight match one side of each object
    better when they are moved; so before a mask counts as shifted, contours inside and
    outside of it are tried where it is. Nor is it shifted where it fits well as it is
    and another place, farther than edges overlap, fits better: objects may be alike.

    Args:
        image: (Y, X, C), any numbers.
        labels: int (Y, X); edges of -1 do not count.

    Returns:
        None where the mask has too few edges or the image has none.

    >>> labels = np.zeros((96, 96), int)
    >>> labels[20:50, 20:50] = 1
    >>> labels[60:80, 30:80] = 2
    >>> image = (labels > 0) * 80.0 + np.random.default_rng(0).normal(0, 9, (96, 96))
    >>> register(image[..., None], np.roll(labels, 9, axis=0)).move
    (-9, 0)
    """
    step = -(-max(labels.shape) // SIDE)
    image = image[::step, ::step].astype(np.float32)
    labels = labels[::step, ::step]
    edges = _edges(image)
    if edges is None:
        return None
    reach = min(REACH, min(labels.shape) // 4)
    heights = _heights(edges, labels, reach)
    if heights is None:
        return None
    down, right = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    near = np.hypot(down, right) <= NEAR
    here, best = float(heights[near].max()), float(heights.max())
    y, x = np.unravel_index(heights.argmax(), heights.shape)
    shift = (int(y - reach), int(x - reach))
    move = (0, 0) if near[y, x] else (shift[0] * step, shift[1] * step)
    if move != (0, 0) and best >= CERTAIN and best >= BETTER * here:
        if here >= CERTAIN and np.hypot(*shift) > OVERLAP:
            move = (0, 0)
        here = max(here, best * _loosely(edges, labels, shift))
    turn = ""
    if here < LOST and best < CERTAIN:
        turn = _turned(edges, labels, near, reach)
    return Fit(here, best, move, turn)


def _loosely(edges: np.ndarray, labels: np.ndarray, shift: tuple[int, int]) -> float:
    """Return how well wider or tighter contours fit here, relative to moved ones."""
    import scipy.ndimage

    rim = _rim(labels)
    there = _along(edges, rim, [shift])
    distance = scipy.ndimage.distance_transform_edt(~rim)
    here = [(y, x) for y in range(-2, 3) for x in range(-2, 3)]
    best = 0.0
    for offset in LOOSE:
        side = labels > 0 if offset < 0 else labels == 0
        contour = side & (np.abs(distance - abs(offset)) < 0.75)
        if np.count_nonzero(contour) >= LIKE * np.count_nonzero(rim):
            best = max(best, _along(edges, contour, here))
    return best / there if there > 0 else 0.0


def _along(
    edges: np.ndarray, contour: np.ndarray, shifts: list[tuple[int, int]]
) -> float:
    """Return the highest mean of the edges along a contour over some shifts."""
    y, x = np.nonzero(contour)
    highest = -np.inf
    for down, right in shifts:
        rows, columns = y + down, x + right
        inside = (rows >= 0) & (rows < edges.shape[0])
        inside &= (columns >= 0) & (columns < edges.shape[1])
        if inside.any():
            mean = float(edges[rows[inside], columns[inside]].mean())
            highest = max(highest, mean)
    return highest


def _turned(edges: np.ndarray, labels: np.ndarray, near: np.ndarray, reach: int) -> str:
    """Return how to turn the labels so that they fit the edges, "" for nohow."""
    found = {}
    for name, turn in TURNS.items():
        turned = turn(labels)
        if turned.shape != labels.shape:
            continue
        heights = _heights(edges, turned, reach)
        if heights is not None and heights.max() == heights[near].max() >= CERTAIN:
            found[name] = float(heights.max())
    return max(found, key=lambda name: found[name]) if found else ""


def gradient(image: np.ndarray) -> np.ndarray:
    """Return the length of the gradient of an image (Y, X, C), channels z-scored."""
    import scipy.ndimage

    squares = np.zeros(image.shape[:2], np.float32)
    for channel in np.moveaxis(image.astype(np.float32), -1, 0):
        spread = float(channel.std())
        if spread:
            smooth = scipy.ndimage.gaussian_filter(channel / spread, 1)
            for slope in np.gradient(smooth):
                squares += slope**2
    return np.sqrt(squares)


def _edges(image: np.ndarray) -> np.ndarray | None:
    import scipy.ndimage

    length = gradient(image)
    highest = float(length.max(initial=0))
    if not highest:
        return None
    around = scipy.ndimage.gaussian_filter(length, 20) + 1e-3 * highest
    edges = length / around
    return edges - edges.mean()


def _heights(edges: np.ndarray, labels: np.ndarray, reach: int) -> np.ndarray | None:
    """Return the correlation for every shift (down, right) from -reach to reach."""
    import scipy.fft
    import scipy.ndimage

    rim = _rim(labels)
    if np.count_nonzero(rim) < FEWEST or reach < 4:
        return None
    drawn = scipy.ndimage.gaussian_filter(rim.astype(np.float32), 1)
    size = [scipy.fft.next_fast_len(n + reach, real=True) for n in labels.shape]
    spectrum = scipy.fft.rfft2(edges, size) * np.conj(scipy.fft.rfft2(drawn, size))
    every = scipy.fft.irfft2(spectrum, size)
    shifts = np.arange(-reach, reach + 1)
    heights = every[np.ix_(shifts, shifts)]
    heights = heights - np.median(heights)
    spread = 1.4826 * float(np.median(np.abs(heights)))
    return heights / spread if spread else None


def _rim(labels: np.ndarray) -> np.ndarray:
    """Return where ids change, bool (Y, X), but for changes to -1."""
    rim = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        one = np.moveaxis(labels, axis, 0)
        changes = (one[1:] != one[:-1]) & (one[1:] >= 0) & (one[:-1] >= 0)
        inner = np.moveaxis(rim, axis, 0)
        inner[1:] |= changes
        inner[:-1] |= changes
    return rim
