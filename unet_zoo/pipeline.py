"""From examples to batches: normalise and encode once, crop, draw, batch, prefetch.

The host does as little as possible per step: it cuts a window out of an array that
already holds the normalised image and its encoded target, and draws the random numbers
of that example. What the numbers do is up to `augment`, on the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras  # noqa: F401  (before tensorflow: torch crashes when it comes after)
import numpy as np
import tensorflow as tf

from unet_zoo import augment, images
from unet_zoo.errors import InputError
from unet_zoo.recipe import Recipe
from unet_zoo.targets import Target

_OBJECT_SIZE = 80.0  # diameter in pixels that a network of depth 4 still sees whole


def choose_scale(labels: Sequence[np.ndarray]) -> float:
    """Return the power of one half that brings the median object below 80 pixels.

    A U-Net of depth 4 sees about 140 pixels; objects larger than that are neither
    recognised nor separated at their full size, and smaller images train faster.

    Args:
        labels: int (Y, X) arrays with one id per object.

    >>> choose_scale([np.ones((200, 200), int)])
    0.25
    """
    areas: list[int] = []
    for frame in labels:
        areas.extend(np.bincount(frame[frame > 0])[1:])
    present = [area for area in areas if area]
    if not present:
        return 1.0
    diameter = 2 * np.sqrt(np.median(present) / np.pi)
    return float(0.5 ** max(0, int(np.ceil(np.log2(diameter / _OBJECT_SIZE)))))


def prepare(
    examples: Sequence[Any], recipe: Recipe, target: Target
) -> list[np.ndarray]:
    """Return one float32 (Y, X, C + K) array per example: image, then encoded target.

    Args:
        examples: with `name`, `image` (Y, X, C) and `labels` int32 (Y, X).
        recipe: its `normalization` and `scale` are applied, the target last, so that
            distances and weight maps are those of the scaled labels.
        target: encodes the labels.
    """
    scale = recipe.scale or 1.0
    stacks = []
    for example in examples:
        image = images.normalize(example.image, recipe.normalization)
        labels = example.labels
        if scale != 1.0:
            image = images.rescale(image, scale)
            labels = images.rescale_labels(labels, shape=image.shape[:2])
        stacks.append(np.concatenate([image, target.encode(labels)], axis=-1))
    channels = {stack.shape[-1] for stack in stacks}
    if len(channels) > 1:
        counts = sorted(count - len(target.interpolation) for count in channels)
        message = (
            f"Images of one training must have the same channels. Received: {counts}"
        )
        raise InputError(message)
    return stacks


def batches(
    stacks: Sequence[np.ndarray], recipe: Recipe, start: int = 0
) -> tf.data.Dataset:
    """Return endless-looking batches from step `start` to the recipe's last step.

    Example n of the training is the same whatever `start`, the batch size or the
    backend: its image, window and random numbers are functions of (seed, n) alone.

    Args:
        stacks: what `prepare` returned.
        recipe: its seed, batch, patch and steps.
        start: steps already done.

    Returns:
        A dataset of dictionaries: "stack" float32 (batch, window, window, C + K),
        "uniform" and "normal" (see `augment.draw_size`).
    """
    if not stacks:
        message = "There is nothing to train on: the training split is empty."
        raise InputError(message)
    window = window_size([stack.shape[:2] for stack in stacks], recipe.patch)
    uniforms, normals = augment.draw_size(recipe.augmentation)
    count = len(stacks)
    channels = stacks[0].shape[-1]

    def cut(which: np.ndarray, corner: np.ndarray) -> np.ndarray:
        stack = stacks[int(which)]
        missing = [max(0, window - size) for size in stack.shape[:2]]
        if any(missing):
            before = [size // 2 for size in missing]
            pads = [(b, m - b) for b, m in zip(before, missing, strict=True)]
            stack = np.pad(stack, [*pads, (0, 0)], mode="symmetric")
        y, x = (
            int(fraction * (size - window + 1))
            for fraction, size in zip(corner, stack.shape[:2], strict=True)
        )
        return stack[y : y + window, x : x + window]

    def example(n: tf.Tensor) -> dict[str, tf.Tensor]:
        epoch, position = n // count, n % count
        which = tf.random.experimental.index_shuffle(
            position, tf.cast([recipe.seed, epoch], tf.uint32), count - 1
        )
        # One generator per example: the seed of the training and its place in it.
        key = tf.stack([tf.constant(recipe.seed, tf.int64), n])
        uniform = tf.random.stateless_uniform([uniforms + 2], key, alg="philox")
        apart = key + tf.constant([0, 1 << 40], tf.int64)
        normal = tf.random.stateless_normal([normals], apart, alg="philox")
        stack = tf.numpy_function(cut, [which, uniform[-2:]], tf.float32)
        stack.set_shape([window, window, channels])
        return {"stack": stack, "uniform": uniform[:-2], "normal": normal}

    numbers = tf.data.Dataset.range(start * recipe.batch, recipe.steps * recipe.batch)
    return (
        numbers.map(example, num_parallel_calls=2, deterministic=True)
        .batch(recipe.batch, drop_remainder=True)
        .prefetch(2)
    )


def window_size(shapes: Sequence[tuple[int, int]], patch: int) -> int:
    """Return the side of the windows cut for patches of `patch` pixels.

    A window is half as large again as the patch, room for rotation and elastic
    deformation, where every image has that much; beyond the window the warp mirrors.

    >>> window_size([(1024, 900)], 256), window_size([(300, 280)], 256)
    (384, 280)
    """
    smallest = min(min(shape) for shape in shapes)
    return max(patch, min(smallest, patch + patch // 2))
