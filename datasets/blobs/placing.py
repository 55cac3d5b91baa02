"""Shapes of objects, and where they lie: everything that decides the labels."""

from __future__ import annotations

import dataclasses
from math import pi

import numpy as np

from unet_zoo.datasets.blobs import exact

# Around an object its distance is known up to here (1 is the outline): room for
# halos and shadows.
REACH = 1.5
_SMALLEST_RADIUS = 2.2


@dataclasses.dataclass(frozen=True)
class Layout:
    """What one image says about the shapes and places of its objects.

    `radius` is the typical one and `spread` the largest relative deviation from it;
    `cover` is the part of the image to fill; `gap` in pixels keeps objects apart;
    without it (None) one may hide up to `overlap` of another.
    """

    radius: float
    spread: float = 0.0
    kinds: tuple[str, ...] = ("disc",)
    cover: float = 0.2
    pattern: str = "scatter"
    gap: float | None = 3.0
    overlap: float = 0.0


@dataclasses.dataclass(frozen=True)
class Blob:
    """One object: its window of the image and, in it, the distance from the centre.

    `distance` is 0 at the centre and 1 on the outline; `across` and `down` are
    the pixel offsets from the centre in units of `radius`.
    """

    window: exact.Window
    radius: float
    distance: np.ndarray
    across: np.ndarray
    down: np.ndarray


@dataclasses.dataclass(frozen=True)
class _Outline:
    turn: tuple[float, float]
    stretch: float
    straight: float
    square: float
    waves: tuple[tuple[float, float], ...]
    span: float


def _outline(dice: exact.Dice, kind: str) -> _Outline:
    """Return a random outline of mean radius about 1."""
    stretch = straight = square = waviness = 0.0
    if kind == "disc":
        stretch, waviness = dice.uniform(1.0, 1.08), 0.012
    elif kind == "ellipse":
        stretch, waviness = dice.uniform(1.1, 1.9), 0.03
    elif kind == "rod":
        stretch, straight, waviness = 1.0, dice.uniform(0.5, 2.2), 0.03
    elif kind == "box":
        stretch, square, waviness = dice.uniform(1.0, 1.5), dice.uniform(0.5, 1), 0.03
    else:
        stretch, waviness = dice.uniform(1.0, 1.5), dice.uniform(0.04, 0.15)
    waves, bulge = [], 1.0
    for order in range(2, 7):
        height = waviness * dice.uniform(0.2, 1.6) * 4 / (order * order)
        x, y = dice.direction()
        waves.append((x * height, y * height))
        bulge += height
    span = (float(np.sqrt(stretch)) + straight) * bulge
    return _Outline(dice.direction(), stretch, straight, square, tuple(waves), span)


def _draw(
    outline: _Outline, radius: float, y: float, x: float, size: tuple[int, int]
) -> Blob | None:
    """Return the blob centred at (y, x), or None where it has no pixel."""
    # A rod is thinner than a disc of the same area.
    scale = radius / float(np.sqrt(1 + 4 / pi * outline.straight))
    half = scale * outline.span * (1.25 if outline.square else 1.0) * REACH + 1
    top, left = max(0, int(y - half)), max(0, int(x - half))
    bottom, right = min(size[0], int(y + half) + 2), min(size[1], int(x + half) + 2)
    if top >= bottom or left >= right:
        return None
    down = (np.arange(top, bottom) + 0.5 - y)[:, None] / scale
    across = (np.arange(left, right) + 0.5 - x)[None, :] / scale
    cos, sin = outline.turn
    root = float(np.sqrt(outline.stretch))
    u = (cos * across + sin * down) / root
    v = (cos * down - sin * across) * root
    if outline.straight:
        u = np.sign(u) * np.maximum(np.abs(u) - outline.straight, 0)
    u2, v2 = u * u, v * v
    distance = np.sqrt(u2 + v2)
    safe = np.maximum(distance, 1e-9)
    zx, zy = u / safe, v / safe
    bound = np.ones_like(distance)
    # The powers of z = (zx, zy) are (cos, sin) of the multiples of the angle.
    px, py = zx, zy
    for wx, wy in outline.waves:
        px, py = px * zx - py * zy, px * zy + py * zx
        bound = bound + (wx * px + wy * py)
    if outline.square:
        corner = np.sqrt(np.sqrt(u2 * u2 + v2 * v2)) * 1.08
        distance = distance * (1 - outline.square) + corner * outline.square
    ratio = scale / radius
    window = (slice(top, bottom), slice(left, right))
    return Blob(window, radius, distance / bound, across * ratio, down * ratio)


class _Places:
    """Propose centres: anywhere, on a grid, or beside what lies there already."""

    def __init__(self, dice: exact.Dice, layout: Layout, size: tuple[int, int]):
        self.dice, self.layout, self.size = dice, layout, size
        self.grid = self._grid() if layout.pattern == "grid" else []

    def _grid(self) -> list[tuple[float, float]]:
        dice = self.dice
        biggest = self.layout.radius * (1 + self.layout.spread)
        pitch = biggest * dice.uniform(2.1, 3.2)
        wide = pitch * dice.uniform(0.9, 1.15)
        jitter = (pitch - 2 * self.layout.radius) * 0.3
        y = pitch * dice.uniform(0.3, 0.7)
        cells = []
        while y < self.size[0]:
            x = wide * dice.uniform(0.3, 0.7)
            while x < self.size[1]:
                shift = dice.uniform(-jitter, jitter), dice.uniform(-jitter, jitter)
                cells.append((dice.uniform(0, 1), (y + shift[0], x + shift[1])))
                x += wide
            y += pitch
        return [cell for _, cell in sorted(cells)]

    def next(
        self, radius: float, blobs: list[tuple[float, float, float]]
    ) -> tuple[float, float]:
        """Return the centre (y, x) to try next; it may lie outside the image."""
        dice = self.dice
        if self.grid:
            return self.grid.pop()
        if self.layout.pattern == "clump" and blobs and dice.chance(0.93):
            y, x, other = dice.choice(blobs)
            far = (radius + other) * dice.uniform(0.75, 1.1)
            dx, dy = dice.direction()
            return y + dy * far, x + dx * far
        return dice.uniform(0, self.size[0]), dice.uniform(0, self.size[1])


def place(
    dice: exact.Dice, layout: Layout, size: tuple[int, int], count: int | None
) -> tuple[list[Blob], np.ndarray]:
    """Return the objects from back to front and their labels, int32 (H, W).

    An object is refused where it would cut another in two, hide too much of it,
    or show less than a third of itself. So nobody has to repair labels
    afterwards: every id is one 4-connected region. (Up to three pixels that an
    overlap splits off go to the background.)

    With `count` objects shrink until that many fit; fewer come back only if they
    do not fit at the smallest radius either.
    """
    labels = np.zeros(size, dtype=np.int32)
    blobs: list[Blob] = []
    circles: list[tuple[float, float, float]] = []
    whole = [0]
    radius = min(layout.radius, 0.3 * min(size))
    wanted = count
    if wanted is None:
        wanted = int(layout.cover * size[0] * size[1] / (pi * radius * radius))
        wanted = min(max(wanted, 1), 250)
    elif wanted:
        fitting = float(np.sqrt(0.3 * size[0] * size[1] / (pi * wanted)))
        radius = min(radius, fitting)
    places = _Places(dice, dataclasses.replace(layout, radius=radius), size)
    misses = 0
    # Without a count a crowded image just gets fewer; with one, objects shrink.
    patience = wanted * 6 + 40
    while len(blobs) < wanted:
        if misses > 40 and (count is not None or not blobs):
            if radius == _SMALLEST_RADIUS and misses > 4000:
                break
            if radius > _SMALLEST_RADIUS:
                radius, misses = max(radius * 0.85, _SMALLEST_RADIUS), 0
        if count is None and blobs and patience < 0:
            break
        patience -= 1
        own = radius * dice.uniform(1 - layout.spread, 1 + layout.spread)
        own = max(own, _SMALLEST_RADIUS)
        y, x = places.next(own, circles)
        blob = None
        inside = 0 <= y < size[0] and 0 <= x < size[1]
        if inside and not _crowded(y, x, own, circles, layout):
            blob = _draw(_outline(dice, dice.choice(layout.kinds)), own, y, x, size)
        if blob is None or not _lay(blob, labels, whole, layout):
            misses += 1
            continue
        misses = 0
        blobs.append(blob)
        circles.append((y, x, own))
    return blobs, labels


def _crowded(
    y: float,
    x: float,
    radius: float,
    circles: list[tuple[float, float, float]],
    layout: Layout,
) -> bool:
    """Return whether drawing here would surely be in vain: saves most of the time."""
    if not circles:
        return False
    nearest, margin = (0.55, 0.0) if layout.gap is None else (0.7, layout.gap)
    ys, xs, radii = np.array(circles).T
    room = (radii + radius) * nearest + margin
    return bool(((ys - y) * (ys - y) + (xs - x) * (xs - x) < room * room).any())


def _lay(blob: Blob, labels: np.ndarray, whole: list[int], layout: Layout) -> bool:
    """Write the blob's id into `labels`, unless that would spoil the picture."""
    here = labels[blob.window]
    mask = blob.distance <= 1
    sizes = exact.pieces(mask)
    if not sizes or sum(sizes) - sizes[0] > 3:
        return False
    if sizes[0] < max(8, pi * blob.radius * blob.radius / 3):
        return False
    if layout.gap is not None:
        if here[blob.distance <= 1 + layout.gap / blob.radius].any():
            return False
    else:
        for other in np.unique(here[mask]).tolist():
            if other == 0:
                continue
            left = exact.pieces((here == other) & ~mask)
            if not left or left[0] < max(8, (1 - layout.overlap) * whole[other]):
                return False
            if sum(left) - left[0] > 3:
                return False
    if len(sizes) > 1:
        mask = exact.largest(mask)
    touched = np.unique(here[mask]).tolist()
    here[mask] = len(whole)
    whole.append(sizes[0])
    for other in touched:
        seen = here == other
        if other and len(exact.pieces(seen)) > 1:
            here[seen & ~exact.largest(seen)] = 0
    return True
