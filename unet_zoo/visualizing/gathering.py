"""The patches of a training, with the place that every pixel comes from.

Nothing is computed a second way: where a pixel comes from travels through the pipeline
and the augmentation as two more channels of the target, so that what is drawn is what
was done.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import keras
import numpy as np
import scipy.ndimage

from unet_zoo import augment, catalog, pipeline
from unet_zoo.recipe import Augmentation, Recipe
from unet_zoo.targets import Target

_TRACES = 4  # y, x, labels and which image


@dataclasses.dataclass(frozen=True, eq=False)
class Patch:
    """What the network gets for one example of a training, and how it came about.

    Lengths are in pixels of the network's image, which is `source`.
    """

    number: int  # of the image, in its split
    name: str  # of the image
    source: np.ndarray  # float32 (Y, X, C): the image, normalised and scaled
    source_labels: np.ndarray  # int32 (Y, X)
    before: np.ndarray  # float32 (H, W, C): the patch's place, unchanged
    image: np.ndarray  # float32 (H, W, C)
    labels: np.ndarray  # int32 (H, W)
    target: np.ndarray  # float32 (H, W, K), the weight last
    traced: np.ndarray  # float32 (2, H, W): y and x in `source` that was read
    place: np.ndarray  # float32 (2, H, W): the same, not mirrored at edges
    elastic: np.ndarray  # float32 (2, H, W): what the elastic field adds to y and x
    bent: np.ndarray  # float32 (H, W, C): `before`, by the elastic field alone

    @property
    def beyond(self) -> np.ndarray:
        """Return where there was nothing to read: mirrored, or grey; bool (H, W)."""
        return (np.abs(self.traced - self.place) > 0.05).any(axis=0)


class _Traced:
    """A target that says, in channels of its own, where its pixels come from."""

    def __init__(self, target: Target) -> None:
        self.target, self.encoded = target, 0
        self.name, self.channels = target.name, target.channels
        self.arguments = target.arguments
        # Before the weight, which everybody expects at the end.
        *maps, weight = target.interpolation
        traces = ("linear", "linear", "nearest", "nearest")
        self.interpolation = (*maps, *traces, weight)

    def encode(self, labels: np.ndarray) -> np.ndarray:
        maps = self.target.encode(labels)
        y, x = np.indices(labels.shape, "float32")
        which = np.full(labels.shape, self.encoded, "float32")
        self.encoded += 1
        traces = [y, x, labels.astype("float32"), which]
        return np.concatenate(
            [maps[..., :-1], np.stack(traces, axis=-1), maps[..., -1:]], axis=-1
        )


def gather(
    examples: Iterable[catalog.Example], recipe: Recipe, target: Target, count: int
) -> list[Patch]:
    """Return the first `count` patches that a training by `recipe` is given.

    Args:
        examples: of the training, in order.
        recipe: its scale is a number.
        target: that of the recipe.
        count: how many patches.
    """
    names: list[str] = []

    def named() -> Iterable[catalog.Example]:
        for example in examples:
            names.append(example.name)
            yield example

    tracing: Any = _Traced(target)
    recipe = recipe.replace(batch=1, steps=count)
    side = (recipe.patch, recipe.patch)
    patches = []
    with pipeline.prepare(named(), recipe, tracing) as stacks:
        channels = stacks.channels - len(tracing.interpolation)
        layer = augment.Augment(
            recipe.augmentation, side, channels, tracing.interpolation
        )
        elastic = augment.Augment(
            _only_elastic(recipe.augmentation), side, channels, tracing.interpolation
        )
        for batch in pipeline.batches(stacks, recipe):
            given = {key: np.asarray(value) for key, value in batch.items()}
            stack, uniform, normal = (
                keras.ops.convert_to_tensor(given[key])
                for key in ("stack", "uniform", "normal")
            )
            moved = keras.ops.convert_to_numpy(layer(stack, uniform, normal))[0]
            window, size = given["stack"][0], given["stack"].shape[1:3]
            field = _numpy(layer.field(uniform, normal, size))
            slow = _numpy(elastic.field(uniform, normal, size))
            patches.append(_patch(stacks, names, channels, window, moved, field, slow))
    return patches


def _patch(
    stacks: pipeline.Stacks,
    names: list[str],
    channels: int,
    window: np.ndarray,
    moved: np.ndarray,
    field: np.ndarray,
    slow: np.ndarray,
) -> Patch:
    """Return a patch of what is known about it.

    Args:
        stacks: all examples.
        names: of all examples.
        channels: of the image.
        window: (h, w, channels and target) that the pipeline cut.
        moved: (H, W, channels and target) that the augmentation made of it.
        field: (2, H, W), places in the window that were read.
        slow: the same of the elastic deformation alone.
    """
    traces = slice(-1 - _TRACES, -1)
    y, x, labels, _ = np.moveaxis(moved[..., traces], -1, 0)
    # Not of what was moved: beyond a constant border all is 0.
    number = round(float(window[0, 0, -2]))
    whole = np.asarray(stacks[number])
    corner = [
        _begin(window[:, 0, traces][:, 0], whole.shape[0]),
        _begin(window[0, :, traces][:, 1], whole.shape[1]),
    ]
    maps = [*range(channels, moved.shape[-1] - 1 - _TRACES), moved.shape[-1] - 1]
    middle = _middle(window[..., :channels], moved.shape[:2])
    rest = np.indices(moved.shape[:2], "float32")
    for axis in (0, 1):
        rest[axis] += (window.shape[axis] - moved.shape[axis]) / 2
    bent = [
        scipy.ndimage.map_coordinates(plane, slow, order=1, mode="mirror")
        for plane in np.moveaxis(window[..., :channels], -1, 0)
    ]
    return Patch(
        number=number,
        name=names[number],
        source=whole[..., :channels],
        source_labels=whole[..., traces][..., 2].round().astype("int32"),
        before=middle,
        image=moved[..., :channels],
        labels=labels.round().astype("int32"),
        target=moved[..., maps],
        traced=np.stack([y, x]),
        place=field + np.reshape(corner, (2, 1, 1)).astype("float32"),
        elastic=slow - rest,
        bent=np.stack(bent, axis=-1),
    )


def _numpy(tensors: Any) -> np.ndarray:
    """Return coordinates (2, H, W) of the only example."""
    return np.stack([keras.ops.convert_to_numpy(each)[0] for each in tensors])


def _only_elastic(augmentation: Augmentation) -> Augmentation:
    return dataclasses.replace(
        Augmentation.named("none"),
        elastic=augmentation.elastic,
        elastic_points=augmentation.elastic_points,
    )


def _middle(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    y, x = ((a - b) // 2 for a, b in zip(image.shape, size, strict=False))
    return image[y : y + size[0], x : x + size[1]]


def _begin(places: np.ndarray, size: int) -> int:
    """Return the place in an image where a window begins, before 0 perhaps.

    Args:
        places: those of the window's pixels along an axis, mirrored at the edges.
        size: of the image along the axis.

    >>> _begin(np.array([2, 1, 0, 1, 2, 3, 2]), 4)
    -2
    """
    found = places.round().astype(int)
    steps = np.arange(len(found))
    # Where the window holds the edge, or begins within.
    candidates = [int(found[0]), *(-steps[found == 0]).tolist()]
    candidates += (size - 1 - steps[found == size - 1]).tolist()
    last = max(1, size - 1)

    def misfit(begin: int) -> tuple[int, float, int]:
        folded = (begin + steps) % (2 * last)
        mirrored = np.minimum(last - np.abs(folded - last), size - 1)
        # Of several that fit, the window that is most in the middle.
        away = abs(begin + (len(found) - size) / 2)
        return int(np.count_nonzero(mirrored != found)), away, -begin

    return min(candidates, key=misfit)
