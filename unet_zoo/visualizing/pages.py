"""The pages: figures of what a training is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import outputs, tiling, weight_maps
from unet_zoo.visualizing.gathering import Patch

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Bright on grey images, far from one another, and told apart by the colour-blind.
GRID, FRAME, SEEN = "#ffd60a", "#00b4ff", "#00b4ff"
_PANEL = 4.6  # inches
_CHANNELS: Mapping[str, Sequence[str]] = {
    "semantic": ("class", "weight"),
    "border": ("foreground, objects apart", "weight"),
    "distance": (
        "foreground",
        "distance to the object's edge",
        "touching border",
        "weight",
    ),
}


@dataclasses.dataclass(frozen=True)
class Range:
    """The grey values of an image that become black and white, per channel."""

    low: np.ndarray
    high: np.ndarray

    @classmethod
    def of(cls, image: np.ndarray) -> Range:
        """Return the range of nearly all pixels of an image (Y, X, C)."""
        low, high = np.percentile(image, (0.5, 99.5), axis=(0, 1))
        flat = high <= low
        return cls(np.where(flat, low - 1, low), np.where(flat, low + 1, high))

    def shown(self, image: np.ndarray) -> np.ndarray:
        """Return an image (Y, X, C) as float (Y, X, 3) in [0, 1].

        One channel becomes grey, two magenta and green, of more the first three show.
        """
        unity = np.clip((image - self.low) / (self.high - self.low), 0, 1)
        channels = {1: [0, 0, 0], 2: [0, 1, 0]}.get(image.shape[-1], [0, 1, 2])
        return unity[..., channels]


# === Pages ===


def deformation(patches: Sequence[Patch]) -> Figure:
    """Draw where each patch is taken from, and the patch, with one grid over both."""
    figure, rows = _rows(len(patches), 2, panel=5.2)
    for patch, (left, right) in zip(patches, rows, strict=True):
        shown = Range.of(patch.source).shown
        height, width = patch.source.shape[:2]
        step = _grid_step(patch)
        _image(left, shown(patch.source))
        _straight_grid(left, (height, width), step)
        y, x = (_rim(plane) for plane in patch.place)
        left.plot(x, y, color=FRAME, lw=2.4, path_effects=_edged(4.4))
        # The corner that lies top left in the patch.
        left.plot(x[0], y[0], "o", color=FRAME, mec="black", ms=8)
        margin = 0.03 * max(height, width)
        left.set_xlim(min(-0.5, x.min() - margin), max(width - 0.5, x.max() + margin))
        left.set_ylim(max(height - 0.5, y.max() + margin), min(-0.5, y.min() - margin))
        left.set_title(f"{patch.name}: {_size(patch.source)}")
        _image(right, shown(patch.image))
        read = np.where(patch.beyond, np.nan, patch.traced)
        _bent_grid(right, read, (height, width), step)
        _veil(right, patch.beyond)
        _framed(right, FRAME)
        right.plot(0, 0, "o", color=FRAME, mec="black", ms=8, clip_on=False)
        right.set_title(f"what the network gets: {_size(patch.image)}")
    return figure


def elastic_field(patches: Sequence[Patch], points: int) -> Figure:
    """Draw the elastic field as lengths and arrows, and what it does by itself."""
    figure, rows = _rows(len(patches), 3, tall=0.97)
    lengths = [np.hypot(*patch.elastic) for patch in patches]
    most = max(float(length.max()) for length in lengths)
    for patch, length, panels in zip(patches, lengths, rows, strict=True):
        shown = Range.of(patch.source).shown
        left, middle, right = panels
        height, width = length.shape
        step = _grid_step(patch)
        _image(left, shown(patch.before))
        _straight_grid(left, length.shape, step)
        left.set_title(f"{patch.name}, in place")
        drawn = middle.imshow(length, cmap="viridis", vmin=0, vmax=most)
        _bare(middle)
        every = max(4, width // 16)
        y, x = np.mgrid[every // 2 : height : every, every // 2 : width : every]
        dy, dx = patch.elastic[:, y, x]
        middle.quiver(
            *(x, y, dx, dy),
            angles="xy",
            scale_units="xy",
            scale=1,
            color="white",
            width=0.005,
            headwidth=4,
        )
        if points <= 8:
            y, x = (np.linspace(0, size - 1, points) for size in (height, width))
            x, y = (each.ravel() for each in np.meshgrid(x, y))
            middle.scatter(
                x, y, s=80, fc="none", ec="#ff5d73", lw=1.8, clip_on=False, zorder=3
            )
        middle.set_title("displacement, in pixels")
        figure.colorbar(drawn, ax=middle, fraction=0.046, pad=0.03)
        _image(right, shown(patch.bent))
        places = np.indices(length.shape) + patch.elastic
        _bent_grid(right, places, length.shape, step)
        right.set_title("bent by the field alone")
    return figure


def tiles(
    image: np.ndarray, name: str, plan: Sequence[tiling.Tile], margin: int
) -> Figure:
    """Draw the tiles of an image (Y, X, C), and what the network sees of the first."""
    shown = Range.of(image).shown
    rows, columns = (
        slice(
            min(tile.source[axis].start for tile in plan),
            max(tile.source[axis].stop for tile in plan),
        )
        for axis in (0, 1)
    )
    height, width = image.shape[:2]
    first = plan[0]
    part = tiling.mirrored(image, first.source)
    whole = shown(tiling.mirrored(image, (rows, columns)))
    tall = max(each.shape[0] / each.shape[1] for each in (whole, part))
    figure, [(left, right)] = _rows(1, 2, panel=6.2, tall=tall)
    outside = np.ones(whole.shape[:2], bool)
    outside[-rows.start : height - rows.start, -columns.start :][:, :width] = False
    extent = (
        columns.start - 0.5,
        columns.stop - 0.5,
        rows.stop - 0.5,
        rows.start - 0.5,
    )
    _image(left, _dimmed(whole, outside), extent=extent)
    for tile in plan:
        _box(left, tile.target, GRID, lw=1.4)
    _box(left, first.target, GRID, lw=2.6, fill=0.25)
    _box(left, first.source, SEEN, lw=2.6)
    _box(left, (slice(0, height), slice(0, width)), "white", lw=1.6, ls=(0, (4, 2)))
    left.set_xlim(extent[0] - 2, extent[1] + 2)
    left.set_ylim(extent[2] + 2, extent[3] - 2)
    count = f"{len(plan)} tiles" if len(plan) > 1 else "one tile"
    left.set_title(f"{name}, {_size(image)}: {count}")
    y, x = first.source
    inner = outside[
        y.start - rows.start : y.stop - rows.start,
        x.start - columns.start : x.stop - columns.start,
    ]
    extent = (x.start - 0.5, x.stop - 0.5, y.stop - 0.5, y.start - 0.5)
    _image(right, _dimmed(shown(part), inner), extent=extent)
    _box(right, first.target, GRID, lw=2.6)
    _box(right, (slice(0, height), slice(0, width)), "white", lw=1.6, ls=(0, (4, 2)))
    right.set_xlim(extent[0], extent[1])
    right.set_ylim(extent[2], extent[3])
    _framed(right, SEEN)
    right.set_title(f"seen for the first: {_size(part)}, a margin of {margin}")
    return figure


def patches(found: Sequence[Patch], margin: int) -> Figure:
    """Draw patches as the network gets them, and their labels; two pairs a row."""
    figure, rows = _rows(-(-len(found) // 2), 4, panel=3.5)
    panels = [panel for row in rows for panel in row]
    for number, patch in enumerate(found):
        left, right = panels[2 * number : 2 * number + 2]
        grey = Range.of(patch.source).shown(patch.image)
        _image(left, grey)
        _image(right, painted(grey, patch.labels))
        for panel in (left, right):
            _predicted(panel, patch, margin)
        objects = len(np.unique(patch.labels[patch.labels > 0]))
        left.set_title(f"{number + 1}: {patch.name}")
        right.set_title(f"{objects} label{'s' * (objects != 1)}")
    for panel in panels[2 * len(found) :]:
        panel.set_visible(False)
    return figure


def weights(patches: Sequence[Patch], w0: float, sigma: float) -> Figure:
    """Draw labels, the objects set apart, and the weight map of the U-Net paper."""
    tall = max(patch.source.shape[0] / patch.source.shape[1] for patch in patches)
    figure, rows = _rows(len(patches), 3, tall=0.97 * tall)
    for patch, (left, middle, right) in zip(patches, rows, strict=True):
        grey = Range.of(patch.source).shown(patch.source)
        apart = weight_maps.separate(patch.source_labels)
        weight = weight_maps.border_weights(apart, w0, sigma)
        _image(left, painted(grey, patch.source_labels))
        left.set_title(f"{patch.name}: labels")
        _image(middle, painted(np.zeros_like(grey), apart, fill=0.75))
        middle.set_title("objects set apart by background")
        _map(right, weight, "magma", None, figure)
        right.set_title("weight of each pixel in the loss")
    return figure


def targets(patches: Sequence[Patch], target: str, margin: int) -> Figure:
    """Draw each patch, and every channel of what the network is taught there."""
    channels = patches[0].target.shape[-1]
    names = _CHANNELS.get(target, ())
    if len(names) != channels:
        names = [*(f"channel {n}" for n in range(channels - 1)), "weight"]
    figure, rows = _rows(len(patches), 1 + channels, panel=3.5)
    tops = np.max([patch.target.max(axis=(0, 1)) for patch in patches], axis=0)
    for patch, (first, *others) in zip(patches, rows, strict=True):
        _image(first, Range.of(patch.source).shown(patch.image))
        first.set_title(f"the patch: {patch.name}")
        _predicted(first, patch, margin)
        for channel, panel in enumerate(others):
            last = channel == channels - 1
            top = max(1.0, float(tops[channel]))
            plane = patch.target[..., channel]
            # Where all is between 0 and 1, a bar would say nothing more.
            bar = figure if last or top > 1.01 else None
            _map(panel, plane, "magma" if last else "viridis", top, bar)
            panel.set_title(names[channel])
            _predicted(panel, patch, margin)
    return figure


# === Parts of pages ===


def painted(grey: np.ndarray, labels: np.ndarray, fill: float = 0.35) -> np.ndarray:
    """Return a picture float (Y, X, 3) with its objects in colours, outlined.

    Pixels that are not annotated (-1) become grey stripes.
    """
    flat = np.zeros(labels.shape)
    inside, rim = (
        outputs.overlay(flat, labels, fill=amount) / 255 for amount in (1.0, 0.0)
    )
    result = np.where((labels > 0)[..., None], (1 - fill) * grey + fill * inside, grey)
    result = np.where(rim.any(axis=-1, keepdims=True), rim, result)
    stripes = _stripes(labels.shape) & (labels < 0)
    return np.where(stripes[..., None], 0.55, result)


def _rows(
    count: int, columns: int, panel: float = _PANEL, tall: float = 1.0
) -> tuple[Figure, list[list[Axes]]]:
    """Return a figure and its panels, `panel` inches wide and `tall` times as high."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    size = (panel * columns, (panel * tall + 0.35) * count)
    layout = ConstrainedLayoutEngine(w_pad=0.06, h_pad=0.08)
    figure = Figure(figsize=size, layout=layout, facecolor="white")
    panels = figure.subplots(count, columns, squeeze=False)
    return figure, [list(row) for row in panels]


def _image(panel: Axes, picture: np.ndarray, **options: Any) -> None:
    panel.imshow(picture, interpolation="nearest", **options)
    _bare(panel)


def _map(
    panel: Axes,
    plane: np.ndarray,
    colours: str,
    top: float | None,
    figure: Figure | None,
) -> None:
    """Draw a map from 0 to `top`, in `figure` with a bar that says what is what."""
    drawn = panel.imshow(plane, cmap=colours, vmin=0, vmax=top, interpolation="nearest")
    _bare(panel)
    if figure is not None:
        figure.colorbar(drawn, ax=panel, fraction=0.046, pad=0.03)


def _straight_grid(panel: Axes, size: Sequence[int], step: int) -> None:
    from matplotlib.collections import LineCollection

    height, width = size
    rows = [[(0, y), (width - 1, y)] for y in range(0, height, step)]
    columns = [[(x, 0), (x, height - 1)] for x in range(0, width, step)]
    lines = LineCollection(rows + columns, colors=GRID, linewidths=1.2)
    lines.set_path_effects(_edged(2.2))
    panel.add_collection(lines, autolim=False)


def _bent_grid(panel: Axes, places: np.ndarray, size: Sequence[int], step: int) -> None:
    """Draw the same grid where the pixels (2, Y, X) that show it have gone."""
    for plane, length in zip(places, size, strict=True):
        levels = np.arange(0, length, step)
        if np.isfinite(plane).any():
            lines = panel.contour(plane, levels, colors=GRID, linewidths=1.2)
            lines.set_path_effects(_edged(2.2))


def _edged(width: float) -> list[Any]:
    """Return what makes a bright line visible on a bright image."""
    from matplotlib import patheffects

    stroke = patheffects.withStroke(linewidth=width, foreground="black", alpha=0.35)
    return [stroke]


def _bare(panel: Axes) -> None:
    panel.set_xticks([])
    panel.set_yticks([])
    panel.set_facecolor("#e8e8e8")
    for spine in panel.spines.values():
        spine.set_visible(False)


def _framed(panel: Axes, colour: str) -> None:
    for spine in panel.spines.values():
        spine.set(visible=True, color=colour, linewidth=2.6)


def _box(
    panel: Axes, part: tuple[slice, slice], colour: str, fill: float = 0, **options: Any
) -> None:
    from matplotlib.patches import Rectangle

    y, x = part
    corner = (x.start - 0.5, y.start - 0.5)
    size = (x.stop - x.start, y.stop - y.start)
    if fill:
        panel.add_patch(Rectangle(corner, *size, color=colour, alpha=fill, lw=0))
    panel.add_patch(Rectangle(corner, *size, fill=False, ec=colour, **options))


def _predicted(panel: Axes, patch: Patch, margin: int) -> None:
    """Mark what a network of valid convolutions predicts of its patch."""
    if margin:
        height, width = patch.image.shape[:2]
        part = (slice(margin, height - margin), slice(margin, width - margin))
        _box(panel, part, "white", lw=1.2, ls=(0, (4, 2)))


def _veil(panel: Axes, mask: np.ndarray) -> None:
    """Lay stripes over what lies beyond the image."""
    if mask.any():
        shade = np.zeros((*mask.shape, 4))
        shade[..., :3] = np.array([0.0, 0.70, 1.0])
        shade[..., 3] = 0.35 * (mask & _stripes(mask.shape))
        panel.imshow(shade, interpolation="nearest")


def _stripes(shape: tuple[int, ...]) -> np.ndarray:
    y, x = np.indices(shape)
    width = max(2, max(shape) // 80)
    return (y + x) // width % 2 == 0


def _dimmed(picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    faded = 0.45 * picture + 0.55 * np.array([0.62, 0.74, 0.86])
    return np.where(mask[..., None], faded, picture)


def _rim(plane: np.ndarray) -> np.ndarray:
    """Return the values around a plane (Y, X), from the top left and back to it."""
    sides = (plane[0], plane[1:, -1], plane[-1, -2::-1], plane[-2::-1, 0])
    return np.concatenate(sides)


def _grid_step(patch: Patch) -> int:
    """Return the distance of grid lines: a round number, some dozen lines a patch."""
    wanted = patch.image.shape[0] / 10
    return next(
        (n for n in (2, 4, 5, 8, 10, 16, 20, 25, 32, 40, 50) if n >= wanted), 64
    )


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"
