"""The random numbers of an example: functions of a seed and a place, nothing else.

They come from an integer hash of (seed, example, counter). Integers wrap alike
everywhere, so numpy and every backend, on any device and in any batch, draw the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from unet_zoo.recipe import Augmentation

Tensor = Any

# The uniform numbers of one example, in [0, 1), by what they decide.
UNIFORM = (
    "rotation",
    "scale",
    "flip_y",
    "flip_x",
    "shift_y",
    "shift_x",
    "blur",
    "gamma",
    "contrast",
    "brightness",
    "noise",
    "seed",
    "shear",
    "poisson",
    "clahe",
    "inversion",
    "flip_z",
    "shift_z",
    "tilt_y",
    "tilt_x",
)
LIGHT = 3  # control points per axis of the light field

_SUMMANDS = 6  # hashes a normal number, of two uniform ones each
# Factors of Wellons' "lowbias32" hash and the golden ratio, as signed numbers.
_FIRST, _SECOND, _GOLDEN = 0x7FEB352D, 0x846CA68B - 2**32, 0x9E3779B9 - 2**32


def draw_size(augmentation: Augmentation, rank: int = 2) -> tuple[int, int]:
    """Return how many uniform and how many normal numbers one example needs.

    Args:
        augmentation: the ranges.
        rank: 2 for images, 3 for volumes.

    >>> draw_size(Augmentation(elastic_points=3))
    (20, 27)
    """
    points = augmentation.elastic_points
    return len(UNIFORM), rank * points**rank + LIGHT**rank


def draws(
    augmentation: Augmentation, seed: int, index: Tensor, rank: int = 2
) -> tuple[Tensor, Tensor]:
    """Return the random numbers of the examples `index` of the stream `seed`.

    Args:
        augmentation: decides how many numbers there are, not what they are.
        seed: 0 to 2**32 - 1.
        index: integers (batch,), the places of the examples in the stream; a numpy
            array or a tensor of the backend. Places 2**32 apart are the same.
        rank: 2 for images, 3 for volumes.

    Returns:
        uniform float32 (batch, u), multiples of 2**-24 within [0, 1), and normal
        float32 (batch, n), sums of twelve uniform numbers (Irwin-Hall): of mean 0 and
        standard deviation 1, none beyond 6. Of the kind of `index`.

    Example:
        >>> uniform, normal = draws(Augmentation(), 7, np.arange(4))
        >>> uniform.shape, normal.shape
        ((4, 20), (4, 27))
        >>> again, _ = draws(Augmentation(), 7, np.array([3]))
        >>> bool((again[0] == uniform[3]).all())
        True
    """
    uniforms, normals = draw_size(augmentation, rank)
    local = isinstance(index, np.ndarray)
    xp: Any = np if local else ops

    def cast(values: Any, dtype: str) -> Any:
        return values.astype(dtype) if local else ops.cast(values, dtype)

    def mixed(state: Any) -> Any:
        """Return each state's hash; masks keep shifts logical below zero."""
        for shift, factor in ((16, _FIRST), (15, _SECOND), (16, 1)):
            moved = xp.bitwise_and(xp.right_shift(state, shift), 2 ** (32 - shift) - 1)
            state = xp.bitwise_xor(state, moved) * factor
        return state

    signed = (int(seed) + 2**31) % 2**32 - 2**31
    example = mixed(
        cast(xp.reshape(index, (-1, 1)), "int32")
        + mixed(xp.full((1, 1), signed, dtype="int32"))
    )
    count = uniforms + normals * _SUMMANDS
    counters = xp.reshape(xp.arange(count, dtype="int32"), (1, -1))
    state = mixed(example + counters * _GOLDEN)
    high = xp.bitwise_and(xp.right_shift(state, 8), 2**24 - 1)
    uniform = cast(high[:, :uniforms], "float32") * 2.0**-24
    rest = xp.reshape(state[:, uniforms:], (-1, normals, _SUMMANDS))
    halves = xp.bitwise_and(rest, 0xFFFF) + xp.bitwise_and(
        xp.right_shift(rest, 16), 0xFFFF
    )
    # Every step is exact in float32, so no order of summation shows.
    total = cast(xp.sum(halves, axis=-1), "float32")
    return uniform, (total + _SUMMANDS) * 2.0**-16 - _SUMMANDS


def uniform_of(uniform: Tensor, name: str, rank: int) -> Tensor:
    """Return the number called `name`, shaped (batch, 1, ..., 1) with `rank` ones."""
    column = uniform[:, UNIFORM.index(name)]
    return ops.reshape(column, (-1,) + (1,) * rank)


def hashed_normal(seed: Tensor, shape: Sequence[int]) -> Tensor:
    """Return about normal noise from an integer hash, equal on every backend.

    Args:
        seed: int32 (batch,).
        shape: of one example, channels last.

    Returns:
        float32 (batch, *shape): sums of four uniform numbers, of mean 0 and standard
        deviation 1, so no value lies beyond 3.5.
    """
    count = math.prod(shape)
    state = ops.arange(count, dtype="int32")[None] + seed[:, None] * 668265263
    total: Tensor = 0.0
    factors = (668265263, 374761393, -1640531535, -2048144789, -1028477379, 1540483477)
    for number, factor in enumerate(factors):
        # Multiply-xorshift; the mask keeps the shift logical for negative numbers.
        state = state * factor
        shifted = ops.bitwise_and(ops.right_shift(state, 15), 0x1FFFF)
        state = ops.bitwise_xor(state, shifted)
        # The first two rounds only mix: their low bits still follow the pixel.
        if number >= 2:
            total = total + ops.cast(ops.bitwise_and(state, 0xFFFF), "float32")
    normal = (total / 65536.0 - 2.0) * math.sqrt(3.0)
    return ops.reshape(normal, (-1, *shape))
