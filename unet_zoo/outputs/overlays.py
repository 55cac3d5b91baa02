"""Outlines over images, to look at."""

from __future__ import annotations

import os

import numpy as np

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.outputs import shapes

# Bright on grey and far from one another; no blue, which is dark to the eye.
COLOURS = np.array(
    [
        (255, 225, 25),
        (0, 200, 255),
        (255, 80, 220),
        (90, 230, 60),
        (255, 140, 0),
        (150, 120, 255),
        (255, 60, 60),
        (0, 230, 170),
        (255, 170, 190),
        (190, 255, 120),
        (205, 150, 80),
        (120, 190, 255),
    ],
    np.uint8,
)


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    *,
    fill: float = 0.0,
    thickness: int | None = None,
) -> np.ndarray:
    """Draw the outline of every object over the image, as uint8 (Y, X, 3).

    The image (Y, X) or (Y, X, C) is stretched in contrast for the eye, see
    `images.to_uint8`. Outlines lie inside their objects. An object keeps its colour
    from frame to frame unless a neighbour has it. Objects that are not annotated (-1)
    are not drawn.

    Args:
        image: (Y, X) or (Y, X, C), any numbers.
        labels: whole numbers (Y, X), 0 is background.
        fill: how much of the colour the inside of an object takes, 0 to 1.
        thickness: of outlines in pixels; None: 1, and 2 in images of 400 pixels or
            more.

    >>> labels = np.zeros((8, 8), int)
    >>> labels[2:7, 2:7] = 1
    >>> drawn = overlay(np.zeros((8, 8)), labels)
    >>> int((drawn.max(axis=-1) > 0).sum())  # the rim of 5x5 pixels
    16
    """
    labels = checked(labels, image)
    if not 0 <= fill <= 1:
        message = f"`fill` must be between 0 and 1, got {fill}"
        raise InputError(message)
    drawn = images.to_uint8(image)
    ids, compact = _compact(np.maximum(labels, 0))
    if len(ids) == 1:
        return drawn
    colours = COLOURS[_colouring(ids, compact)]
    if fill:
        inside = compact > 0
        tint = colours[compact[inside]]
        drawn[inside] = np.round((1 - fill) * drawn[inside] + fill * tint)
    if thickness is None:
        thickness = 2 if max(labels.shape) >= 400 else 1
    rim = _rim(compact, thickness)
    drawn[rim] = colours[compact[rim]]
    return drawn


def write_overlay(
    path: str | os.PathLike[str],
    image: np.ndarray,
    labels: np.ndarray,
    *,
    fill: float = 0.0,
) -> None:
    """Write what `overlay` draws as PNG.

    >>> import pathlib, tempfile
    >>> path = pathlib.Path(tempfile.mkdtemp()) / "overlay.png"
    >>> write_overlay(path, np.zeros((4, 5)), np.ones((4, 5), int))
    """
    images.write_png(path, overlay(image, labels, fill=fill))


def checked(labels: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Return labels (Y, X) as int64; refuse others, and those of another size."""
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "bui":
        message = (
            f"`labels` must be whole numbers (Y, X), got {labels.dtype} of shape "
            f"{labels.shape}; give the frames of a stack one by one"
        )
        raise InputError(message)
    if np.ndim(image) not in (2, 3) or np.shape(image)[:2] != labels.shape:
        message = (
            f"`image` must be (Y, X) or (Y, X, C) of the size of `labels` "
            f"{labels.shape}, got {np.shape(image)}"
        )
        raise InputError(message)
    return labels.astype(np.int64)


def _compact(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the ids, 0 in front, and for each pixel the place of its id among them."""
    ids = np.append(0, shapes.ids(labels))
    if ids[-1] > 4 * labels.size:  # a table of all numbers would be long
        return ids, np.searchsorted(ids, labels).astype(np.int32)
    place = np.zeros(ids[-1] + 1, np.int32)  # half the bytes, half the time
    place[ids] = np.arange(len(ids))
    return ids, place[labels]


def _rim(labels: np.ndarray, thickness: int) -> np.ndarray:
    """Mark pixels of objects with another object or background in reach.

    That is: the square around a pixel holds two neighbours that differ. Where the image
    ends, no outline pretends that the object does.
    """
    rim = np.zeros(labels.shape, bool)
    for axis in (0, 1):
        differ = np.diff(labels, axis=axis) != 0
        padded = np.pad(differ, thickness)
        # Within a square there is one pair less along the axis than across it.
        rim |= _any(_any(padded, 2 * thickness, axis), 2 * thickness + 1, 1 - axis)
    return (labels > 0) & rim


def _any(there: np.ndarray, size: int, axis: int) -> np.ndarray:
    """Return where any of `size` pixels in a row along an axis is set."""
    there = np.moveaxis(there, axis, 0)
    count = len(there) - size + 1
    found = np.zeros_like(there[:count])
    for start in range(size):
        found |= there[start : start + count]
    return np.moveaxis(found, 0, axis)


def _colouring(ids: np.ndarray, compact: np.ndarray) -> np.ndarray:
    """Return a colour per entry of `ids`, neighbours apart wherever possible.

    Neighbours are objects whose nearest surroundings meet. Each object begins with
    the colour of its own id and moves on while a neighbour has it.
    """
    import scipy.ndimage

    # Surroundings are told from every fourth pixel where there are many; objects that
    # touch are told apart by all.
    step = 4 if max(compact.shape) >= 400 else 1
    coarse = compact[::step, ::step]
    nearest = scipy.ndimage.distance_transform_edt(
        coarse == 0, return_distances=False, return_indices=True
    )
    ground = coarse[tuple(nearest)]
    # A pair as one number: numpy sorts numbers far faster than rows.
    pairs = []
    for plane in (ground, compact) if step > 1 else (ground,):
        for one, other in ((plane[1:], plane[:-1]), (plane[:, 1:], plane[:, :-1])):
            met = (one != other) & (one > 0) & (other > 0)
            pairs.append(one[met] * len(ids) + other[met])
    neighbours: list[list[int]] = [[] for _ in ids]
    for pair in np.unique(np.concatenate(pairs)).tolist():
        first, second = divmod(pair, len(ids))
        neighbours[first].append(second)
        neighbours[second].append(first)
    colours = np.full(len(ids), -1)
    for number in range(1, len(ids)):
        order = (ids[number] - 1 + np.arange(len(COLOURS))) % len(COLOURS)
        taken = colours[neighbours[number]]
        uses = [int(np.count_nonzero(taken == colour)) for colour in order]
        colours[number] = order[int(np.argmin(uses))]
    return colours
