"""What is seen in one image and its labels, in numbers that are small to keep."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np

from unet_zoo import catalog, images
from unet_zoo.checking import registering
from unet_zoo.checking.registering import Fit

_THUMBNAIL = 32
# A part of an object counts from this share of the object and this area on.
_PART, _PART_AREA = 0.05, 10
# The largest values of cameras with fewer bits than their files.
_TOPS = (1023, 4095, 16383)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
    """One image (Y, X, C) with its labels (Y, X), and the files they are from.

    `measured` is false where the labels are not good enough to measure against.
    """

    name: str
    split: str
    image_file: Path
    mask_file: Path
    image: np.ndarray
    labels: np.ndarray
    measured: bool = True


@dataclasses.dataclass(eq=False)
class Look:
    """What one frame is like; areas in pixels, shares from 0 to 1."""

    name: str
    split: str
    measured: bool
    image_file: Path
    mask_file: Path
    size: tuple[int, int]
    channels: int
    dtype: str
    low: float
    high: float
    two_values: bool
    saturated: float
    constant_channels: list[int]
    grey_as_colour: bool
    digest: bytes
    labels_digest: bytes
    thumbnail: np.ndarray
    ids: np.ndarray
    areas: np.ndarray
    touching: int
    at_edge: int
    unknown: float
    foreground: float
    parted: dict[int, int]
    scattered: int
    in_pieces: int
    typical_piece: float
    one_value: int | None
    encloses: bool
    contrast: float
    texture: float
    fit: Fit | None


def frame_of(example: catalog.Example, split: str) -> Frame:
    """Return an example as a frame; in place of files, its name."""
    place, measured = Path(example.name), example.reference is not None
    image, labels = example.image, example.labels
    return Frame(example.name, split, place, place, image, labels, measured)


def look(frame: Frame, *, register: bool = True) -> Look:
    """Measure a frame; `register` compares the edges of image and mask, the slow part.

    >>> image = np.arange(64, dtype=np.uint8).reshape(8, 8, 1)
    >>> labels = np.zeros((8, 8), np.int32)
    >>> labels[2:5, 2:4], labels[2:5, 4:6] = 1, 2
    >>> seen = look(Frame("a", "train", Path("a"), Path("m"), image, labels))
    >>> seen.areas.tolist(), seen.touching, seen.at_edge
    ([6, 6], 2, 0)
    """
    image, labels = frame.image, frame.labels
    known = labels >= 0
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    low, high = float(image.min()), float(image.max())
    planes = image.reshape(-1, image.shape[-1])
    parted, scattered, pieces = _parts(labels, ids, areas)
    contrast, texture = _inside_and_outside(image, labels)
    same = image.shape[-1] == 3 and bool((image == image[..., :1]).all())
    return Look(
        name=frame.name,
        split=frame.split,
        measured=frame.measured,
        image_file=frame.image_file,
        mask_file=frame.mask_file,
        size=(image.shape[0], image.shape[1]),
        channels=image.shape[-1],
        dtype=str(image.dtype),
        low=low,
        high=high,
        two_values=low < high and bool(((image == low) | (image == high)).all()),
        saturated=_saturated(image, labels, high),
        constant_channels=np.flatnonzero(
            planes.min(axis=0) == planes.max(axis=0)
        ).tolist(),
        grey_as_colour=same,
        digest=_digest(image),
        labels_digest=_digest(labels),
        thumbnail=_thumbnail(image),
        ids=ids,
        areas=areas,
        touching=_touching(labels),
        at_edge=_at_edge(labels),
        unknown=1 - float(known.mean()),
        foreground=float(areas.sum()) / max(1, int(known.sum())),
        parted=parted,
        scattered=scattered,
        in_pieces=len(pieces),
        typical_piece=float(np.median(pieces)) if len(pieces) else 0.0,
        one_value=int(labels.flat[0]) if (labels == labels.flat[0]).all() else None,
        encloses=_encloses(labels, ids, areas),
        contrast=contrast,
        texture=texture,
        fit=registering.register(image, labels) if register else None,
    )


def _digest(array: np.ndarray) -> bytes:
    digest = hashlib.blake2b(f"{array.shape}{array.dtype}".encode(), digest_size=16)
    digest.update(np.ascontiguousarray(array).data)
    return digest.digest()


def _saturated(image: np.ndarray, labels: np.ndarray, high: float) -> float:
    """Return the share of values at the end of their range, in objects if there are.

    White ground is often meant; what is white in an object is lost.
    """
    if image.dtype.kind not in "ui":
        return 0.0
    top = np.iinfo(image.dtype).max
    if high < top and not (image.dtype.itemsize == 2 and high in _TOPS):
        return 0.0
    inside = labels > 0
    return float(((image[inside] if inside.any() else image) == high).mean())


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """Return a small picture without what all images of a microscope share.

    Light that falls off to the sides would make any two of them alike.
    """
    import scipy.ndimage

    grey = images.rescale(image, shape=(_THUMBNAIL, _THUMBNAIL)).mean(axis=-1)
    grey = grey - scipy.ndimage.gaussian_filter(grey, 3)
    length = float(np.linalg.norm(grey))
    flat = length <= 1e-6 * float(np.abs(image).max() or 1)
    return (grey * 0 if flat else grey / length).ravel().astype(np.float32)


def _touching(labels: np.ndarray) -> int:
    """Return how many objects have a pixel beside a pixel of another."""
    found = []
    for one, other in ((labels[1:], labels[:-1]), (labels[:, 1:], labels[:, :-1])):
        met = (one != other) & (one > 0) & (other > 0)
        found += [one[met], other[met]]
    return int(np.unique(np.concatenate(found)).size)


def _at_edge(labels: np.ndarray) -> int:
    rim = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return int(np.unique(rim[rim > 0]).size)


def _parts(
    labels: np.ndarray, ids: np.ndarray, areas: np.ndarray
) -> tuple[dict[int, int], int, np.ndarray]:
    """Return the far parts of ids that have them, and how many ids have parts at all.

    Far means that the centres of the two largest parts are twice as far apart as if
    they touched. The array has the areas of connected pieces of any size.
    """
    import skimage.measure

    pieces = skimage.measure.label(np.maximum(labels, 0), connectivity=2)
    count = int(pieces.max(initial=0))
    if count == len(ids):
        return {}, 0, areas
    y, x = np.nonzero(pieces)
    which = pieces[y, x] - 1
    area = np.bincount(which, minlength=count)
    middle = np.stack([np.bincount(which, axis) / area for axis in (y, x)], axis=-1)
    owner = np.zeros(count, labels.dtype)
    owner[which] = labels[y, x]
    total = dict(zip(ids.tolist(), areas.tolist(), strict=True))
    sizeable = [
        n
        for n in range(count)
        if area[n] >= max(_PART_AREA, _PART * total[int(owner[n])])
    ]
    parts: dict[int, list[int]] = {}
    for number in sorted(sizeable, key=lambda n: -area[n]):
        parts.setdefault(int(owner[number]), []).append(number)
    parts = {number: each for number, each in parts.items() if len(each) > 1}
    far = {}
    for number, (first, second, *_) in parts.items():
        apart = float(np.linalg.norm(middle[first] - middle[second]))
        radii = np.sqrt(area[[first, second]] / np.pi).sum()
        if apart > 2 * radii:
            far[number] = len(parts[number])
    return far, len(parts), area


def _encloses(labels: np.ndarray, ids: np.ndarray, areas: np.ndarray) -> bool:
    """Return whether one object is the ground that others lie in as holes."""
    import skimage.measure

    if not len(ids) or areas.max() < 0.5 * labels.size:
        return False
    mask = labels == ids[areas.argmax()]
    sides = (mask[0], mask[-1], mask[:, 0], mask[:, -1])
    if sum(bool(side.any()) for side in sides) < 3:
        return False
    holes = skimage.measure.label(labels == 0, connectivity=1)
    size = np.bincount(holes.ravel())
    size[0] = 0
    whole = int(size.sum())
    for side in (holes[0], holes[-1], holes[:, 0], holes[:, -1]):
        size[side] = 0
    size = size[size >= _PART_AREA]
    return len(size) >= 3 and size.sum() >= 0.5 * whole


def _inside_and_outside(image: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Return how much brighter and how much richer in edges objects are than ground.

    The first in standard deviations of the image, the second as a logarithm; 0 where
    there is no object or no ground.
    """
    step = -(-max(labels.shape) // registering.SIDE)
    image, labels = image[::step, ::step], labels[::step, ::step]
    inside, outside = labels > 0, labels == 0
    if not inside.any() or not outside.any():
        return 0.0, 0.0
    grey = image.astype(np.float32).mean(axis=-1)
    spread = float(grey.std())
    if not spread:
        return 0.0, 0.0
    length = registering.gradient(image)
    contrast = (grey[inside].mean() - grey[outside].mean()) / spread
    rich = np.log((length[inside].mean() + 1e-6) / (length[outside].mean() + 1e-6))
    return float(contrast), float(rich)
