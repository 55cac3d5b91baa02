"""Batches of windows with the random numbers that go with each.

The host does as little as possible per step: it reads a window out of what is already
normalised and encoded, and draws the numbers of that example.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from unet_zoo import augment
from unet_zoo.errors import InputError
from unet_zoo.pipeline.stacks import Stacks
from unet_zoo.recipe import Augmentation, Recipe

_MIRRORED = 0.01  # of the pixels of a patch may come from beyond its window
_MEASURED, _MOVED = 96, 64  # size and number of the patches moved to find out
_GREY = [
    "gamma",
    "contrast",
    "brightness",
    "light",
    "blur",
    "poisson",
    "noise",
    "clahe",
    "inversion",
]
_PLACES = 6  # numbers in [0, 1) that decide where the patch is
_windows: dict[tuple[str, int], int] = {}


def batches(
    stacks: Sequence[np.ndarray], recipe: Recipe, start: int = 0
) -> tf.data.Dataset:
    """Return the batches from step `start` to the recipe's last step.

    Example n of the training is the same whatever `start`, the batch size or the
    backend: its image, place and random numbers are functions of (seed, n) alone.
    Every epoch holds every image once, in an order of its own, but for the examples
    that `foreground_crops` brings to an object: of those, all objects (or all classes)
    of the training are equally likely.

    A patch lies anywhere in its image, at its edges as often as elsewhere. It comes
    with a margin from which the augmentation reads (see `window_size`). Where the image
    ends, it goes on as the augmentation's `border` has it: mirrored, or as grey value 0
    of weight 0; with "crop", windows are moved back into the image. An image smaller
    than the patch lies in the middle of it.

    Args:
        stacks: what `prepare` returned, or float32 (Y, X, C + K) arrays.
        recipe: its seed, batch, patch, steps, foreground_crops and class_balance.
        start: steps already done.

    Returns:
        A dataset of dictionaries: "stack" float32 (batch, window, window, C + K),
        "uniform" and "normal" (see `augment.draw_size`), on the device where
        TensorFlow has a GPU.
    """
    if not len(stacks):
        message = "There is nothing to train on: the training split is empty."
        raise InputError(message)
    kept = stacks if isinstance(stacks, Stacks) else Stacks.of(stacks)
    window = window_size(recipe.augmentation, recipe.patch, kept.shapes)
    border = recipe.augmentation.border
    uniforms, normals = augment.draw_size(recipe.augmentation)
    count, channels, patch = len(kept), kept.channels, recipe.patch
    weights = None
    if recipe.class_balance:
        weights = class_weights(kept.class_counts(), recipe.class_balance)

    def cut(which: np.ndarray, places: np.ndarray) -> np.ndarray:
        number, found = int(which), None
        draws = [float(each) for each in places]
        if draws[2] < recipe.foreground_crops:
            found = kept.object_at(*draws[3:])
        if found is not None:
            number = found[0]
        corner: list[int] = []
        for axis, size in enumerate(kept.shapes[number]):
            free = max(0, size - patch)
            place = int(draws[axis] * (free + 1))
            if found is not None:
                place = min(free, max(0, found[1 + axis] - patch // 2))
            start = place - max(0, patch - size) // 2 - (window - patch) // 2
            if border == "crop" and size >= window:
                start = min(max(0, start), size - window)
            corner.append(start)
        y, x = corner
        stack = kept.window(number, y, x, window, mirrored=border != "constant")
        if weights is not None:
            classes = stack[..., kept.image_channels].astype(np.intp)
            stack[..., -1] *= weights[classes]
        return stack

    def example(n: tf.Tensor) -> dict[str, tf.Tensor]:
        epoch, position = n // count, n % count
        which = tf.random.experimental.index_shuffle(
            position, tf.cast([recipe.seed, epoch], tf.uint32), count - 1
        )

        # One generator per example: the seed of the training and its place in it.
        def key(purpose: int) -> tf.Tensor:
            return tf.stack([tf.constant(recipe.seed, tf.int64), n + (purpose << 40)])

        uniform = tf.random.stateless_uniform([uniforms], key(0), alg="philox")
        normal = tf.random.stateless_normal([normals], key(1), alg="philox")
        places = tf.random.stateless_uniform([_PLACES], key(2), alg="philox")
        stack = tf.numpy_function(cut, [which, places], tf.float32, stateful=False)
        stack.set_shape([window, window, channels])
        return {"stack": stack, "uniform": uniform, "normal": normal}

    numbers = tf.data.Dataset.range(start * recipe.batch, recipe.steps * recipe.batch)
    # Fixed, not tuned by tf.data: each call holds a window in memory.
    calls = min(8, max(2, (os.cpu_count() or 2) // 2))
    made = numbers.map(example, num_parallel_calls=calls, deterministic=True)
    return _ahead(made.batch(recipe.batch, drop_remainder=True))


def _ahead(made: tf.data.Dataset) -> tf.data.Dataset:
    """Make batches before they are asked for, on the device where there is one."""
    made = made.prefetch(2)
    on_gpu = (
        keras.backend.backend() == "tensorflow" and not tf.distribute.has_strategy()
    )
    if on_gpu and tf.config.list_logical_devices("GPU"):
        # The other backends copy by themselves, ahead of the step that needs it.
        made = made.apply(tf.data.experimental.prefetch_to_device("/GPU:0", 2))
    return made


def window_size(
    augmentation: Augmentation, patch: int, shapes: Sequence[tuple[int, int]]
) -> int:
    """Return the side of the windows cut for patches of `patch` pixels.

    The window is as large as the augmentation needs to find 99 of 100 pixels of a patch
    within it, measured by moving a few dozen patches; the last one lies at the corners
    of patches that are turned, made smaller and bent at once, and is mirrored at the
    window's edge. Images that end before need no larger window: the augmentation
    mirrors as well as the host. With the border "crop" no window reaches beyond any
    image that is as large as a patch.

    Args:
        augmentation: the ranges.
        patch: pixels.
        shapes: (rows, columns) of the images.

    >>> still = Augmentation(rotation=0, scale=0, shift=0, elastic=0)
    >>> window_size(still, 64, [(1000, 900)])
    64
    """
    limit = max(patch, 2 * max(map(max, shapes)) - patch)
    if augmentation.border == "crop":
        smallest = min(map(min, shapes))
        limit = patch + max(0, smallest - patch) // 2 * 2
    if limit == patch:
        return patch
    known = (repr(augmentation), patch)
    if known not in _windows:
        _windows[known] = patch + 2 * _margin(augmentation, patch)
    return min(_windows[known], limit)


def _margin(augmentation: Augmentation, patch: int) -> int:
    """Return how far beyond a patch 99 of 100 of the pixels it reads lie, at most."""
    # A smaller patch with a smaller bend looks the same from further away.
    small = min(patch, _MEASURED)
    still: dict[str, Any] = dict.fromkeys(_GREY, 0.0)
    bend = augmentation.elastic * small / patch
    moving = dataclasses.replace(augmentation, **still, elastic=bend)
    side = 3 * small
    away = np.abs(np.arange(side) - (side - 1) / 2)
    # A map of how far each pixel is from the middle, moved like any other target.
    far = np.maximum(away[:, None], away[None])
    source = np.stack([np.zeros_like(far), far], axis=-1)[None].astype("float32")
    layer = augment.Augment(moving, (small, small), 1, ("nearest",))
    generator = np.random.default_rng(0)
    uniforms, normals = augment.draw_size(moving)
    # Each number from every part of its range once: few patches tell of all.
    order = np.tile(np.arange(_MOVED)[:, None], (1, uniforms))
    parts = generator.permuted(order, axis=0) + generator.random(order.shape)
    uniform = (parts / _MOVED).astype("float32")
    normal = generator.standard_normal((_MOVED, normals), dtype=np.float32)
    stack = np.repeat(source, _MOVED, axis=0)
    moved = layer(*map(keras.ops.convert_to_tensor, (stack, uniform, normal)))
    reach = keras.ops.convert_to_numpy(moved)[..., 1]
    needed = float(np.quantile(reach, 1 - _MIRRORED)) - (small - 1) / 2
    return max(0, int(np.ceil(needed * patch / small)))


def class_weights(counts: np.ndarray, balance: float) -> np.ndarray:
    """Return the weight of each class in the loss, float32 (classes,).

    A class weighs its share of the annotated pixels to the power of `-balance`, times
    what makes the mean over these pixels 1. For 0, all weigh alike; for 1, every class
    is as important as any other, however rare.

    Args:
        counts: annotated pixels of each class in the whole training.
        balance: in [0, 1].

    >>> class_weights(np.array([900, 100]), 1.0).round(3)
    array([0.556, 5.   ], dtype=float32)
    """
    shares = counts / max(1, counts.sum())
    raw = np.where(counts > 0, np.maximum(shares, 1e-12) ** -balance, 0.0)
    return (raw / max(1e-12, float(shares @ raw))).astype("float32")
