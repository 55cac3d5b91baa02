"""Synthetic images of blobs with their labels, made to be learnt from.

`generate` is the whole interface. An image is composed as light does it: `placing`
decides shapes and labels, `rendering` what they look like; what is likely in an image
of each difficulty stands here.
"""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_zoo import errors
from unet_zoo.datasets.blobs import exact, placing, rendering

DIFFICULTIES = ("easy", "medium", "hard")
SMALLEST = 16
# Fewer pixels than this per object, and objects of any shape no longer fit.
PIXELS_PER_OBJECT = 150


def generate(
    difficulty: str,
    size: tuple[int, int] = (256, 256),
    seed: int = 0,
    count: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image of blobs, uint8 (H, W, 1), and its labels, int32 (H, W).

    `easy` has separate discs on an even ground. `medium` adds shapes, touching and
    overlap, blur, uneven light and noise. `hard` adds textured aggregates,
    relief, shadows, halos, texture of the ground and distractors that are no objects.
    The ids are 1..N; each is the visible part of one object and 4-connected. Where
    objects touch, both keep their ids; no background is drawn between them.

    The same arguments give the same bytes on every machine.

    Parameters
    ----------
    difficulty
        "easy", "medium" or "hard".
    size
        Height and width in pixels, each at least 16.
    seed
        A whole number from 0 to 2**64 - 1. Difficulties do not share randomness.
    count
        How many objects; objects shrink until they fit. By default drawn at random.

    Raises
    ------
    InputError
        For an unknown difficulty, a size below 16, a seed outside its range, or
        a count that is negative or does not fit.

    Examples
    --------
    >>> image, labels = generate("easy", (64, 96), seed=1, count=3)
    >>> image.shape, image.dtype, labels.shape, labels.max()
    ((64, 96, 1), dtype('uint8'), (64, 96), np.int32(3))
    """
    height, width = _check(difficulty, size, seed, count)
    dice = exact.Dice(seed, DIFFICULTIES.index(difficulty))
    scene = (_easy, _medium, _hard)[DIFFICULTIES.index(difficulty)](dice)
    blobs, labels = placing.place(dice, scene.layout, (height, width), count)
    if count is not None and len(blobs) < count:
        raise errors.InputError(_too_many(count, height, width))
    return rendering.render(dice, scene, blobs, (height, width))[:, :, None], labels


def _check(
    difficulty: str, size: tuple[int, int], seed: int, count: int | None
) -> tuple[int, int]:
    """Return height and width, or raise what is wrong with the arguments."""
    if difficulty not in DIFFICULTIES:
        kind = "difficulty"
        raise errors.unknown(kind, str(difficulty), DIFFICULTIES)
    pair = isinstance(size, Sequence) and len(size) == 2
    if not pair or not all(_whole(side) and side >= SMALLEST for side in size):
        message = (
            "`size` must be (height, width) in whole pixels, each at least "
            f"{SMALLEST}, e.g. (256, 256). Received: size={size!r}"
        )
        raise errors.InputError(message)
    if not _whole(seed) or not 0 <= seed < 2**64:
        message = (
            f"`seed` must be a whole number in 0..2**64-1. Received: seed={seed!r}"
        )
        raise errors.InputError(message)
    if count is not None and (not _whole(count) or count < 0):
        message = (
            "`count` must be a whole number, 0 or more; None draws one at random. "
            f"Received: count={count!r}"
        )
        raise errors.InputError(message)
    height, width = int(size[0]), int(size[1])
    if count is not None and count > _most(height, width):
        raise errors.InputError(_too_many(count, height, width))
    return height, width


def _whole(value: object) -> bool:
    return isinstance(value, numbers.Integral)


def _most(height: int, width: int) -> int:
    return max(1, height * width // PIXELS_PER_OBJECT)


def _too_many(count: int, height: int, width: int) -> str:
    return (
        f"count={count} objects do not fit into size=({height}, {width}). Ask for at "
        f"most {_most(height, width)}, or a larger size; another seed may fit too."
    )


def _easy(dice: exact.Dice) -> rendering.Scene:
    layout = placing.Layout(
        radius=dice.octave(6, 30),
        spread=dice.uniform(0.05, 0.3),
        cover=dice.uniform(0.08, 0.3),
        gap=4.0,
    )
    return rendering.Scene(
        layout,
        contrast=dice.uniform(60, 150),
        polarity=dice.choice(("bright", "dark")),
        base=dice.choice(("flat", "flat", "dome")),
        jitter=0.08,
        blur=dice.uniform(0.4, 1.0),
        noise=dice.uniform(0.02, 0.06),
    )


def _medium(dice: exact.Dice) -> rendering.Scene:
    apart = dice.chance(0.4)
    layout = placing.Layout(
        radius=dice.octave(5, 36),
        spread=dice.uniform(0.05, 0.45),
        kinds=dice.choice((("disc",), ("disc", "ellipse"), ("ellipse",), ("smooth",))),
        cover=dice.uniform(0.1, 0.5),
        pattern=dice.choice(("scatter", "grid", "clump")),
        gap=dice.uniform(1, 4) if apart else None,
        overlap=dice.uniform(0.05, 0.35),
    )
    return rendering.Scene(
        layout,
        contrast=dice.uniform(35, 130),
        polarity=dice.choice(("bright", "dark")),
        base=dice.choice(("flat", "dome", "bowl", "rim", "ball")),
        textures=("mottled",) if dice.chance(0.4) else (),
        texture=dice.uniform(0.1, 0.3),
        jitter=dice.uniform(0.05, 0.25),
        softness=dice.uniform(1, 2.5),
        seam=dice.uniform(0.3, 0.8),
        ground=dice.uniform(0, 0.15),
        light=dice.uniform(0, 0.5),
        veil=dice.uniform(0, 0.8),
        blur=dice.uniform(0.5, 2.0),
        noise=dice.uniform(0.03, 0.15),
        shot=dice.uniform(0, 0.1),
    )


def _hard(dice: exact.Dice) -> rendering.Scene:
    kind = dice.choice(("grains", "grains", "relief", "relief", "cells", "any", "any"))
    bright = "bright" if dice.chance(0.6) else "dark"
    extras: dict[str, Any] = {
        "ghosts": dice.integer(0, 3) if dice.chance(0.4) else 0,
        "lines": dice.integer(1, 4) if dice.chance(0.35) else 0,
        "dust": dice.integer(3, 40) if dice.chance(0.3) else 0,
        "frame": dice.chance(0.1),
        "light": dice.uniform(0, 0.7),
        "veil": dice.uniform(0, 1) if dice.chance(0.5) else dice.uniform(1, 2.5),
        "jitter": dice.uniform(0.05, 0.35),
        "noise": dice.uniform(0.02, 0.2) * dice.uniform(0.3, 1),
        "shot": dice.uniform(0, 0.15),
        "clouds": dice.uniform(0, 0.15) if dice.chance(0.4) else 0.0,
        "blur": dice.uniform(0.4, 1.8),
    }
    if kind == "grains":
        layout = placing.Layout(
            radius=dice.octave(5, 20),
            spread=dice.uniform(0.2, 0.5),
            kinds=("smooth", "smooth", "ellipse", "box"),
            cover=dice.uniform(0.15, 0.5),
            pattern="clump",
            gap=None,
            overlap=dice.uniform(0.1, 0.4),
        )
        return rendering.Scene(
            layout,
            contrast=dice.uniform(25, 90),
            polarity=bright,
            base=dice.choice(("flat", "ball", "dome")),
            textures=dice.choice((("mottled",), ("mottled", "speckle"), ("relief",))),
            texture=dice.uniform(0.3, 0.7),
            seam=dice.uniform(0.4, 1.0),
            ground=dice.uniform(0.05, 0.4),
            shadow=dice.uniform(0, 0.4),
            **extras,
        )
    if kind == "relief":
        layout = placing.Layout(
            radius=dice.octave(12, 45),
            spread=dice.uniform(0.05, 0.4),
            kinds=dice.choice((("disc",), ("disc", "disc", "smooth"), ("ellipse",))),
            cover=dice.uniform(0.2, 0.5),
            pattern=dice.choice(("grid", "grid", "scatter")),
            gap=dice.uniform(1, 6),
        )
        return rendering.Scene(
            layout,
            contrast=dice.uniform(35, 120),
            polarity="bright" if dice.chance(0.8) else "dark",
            base=dice.choice(("flat", "rim", "ball", "tilt")),
            textures=dice.choice(
                (("relief",), ("relief", "mottled"), ("relief", "letters"))
            ),
            texture=dice.uniform(0.4, 1.0),
            ground=dice.uniform(0, 0.25),
            shadow=dice.uniform(0, 0.6) if dice.chance(0.5) else 0.0,
            **extras,
        )
    if kind == "cells":
        apart = dice.chance(0.4)
        layout = placing.Layout(
            radius=dice.octave(4, 36),
            spread=dice.uniform(0.1, 0.5),
            kinds=("ellipse", "smooth", "disc"),
            cover=dice.uniform(0.05, 0.5),
            pattern=dice.choice(("scatter", "clump")),
            gap=dice.uniform(1, 4) if apart else None,
            overlap=dice.uniform(0.05, 0.4),
        )
        return rendering.Scene(
            layout,
            contrast=dice.uniform(20, 110),
            polarity=bright,
            base=dice.choice(("dome", "bowl", "ring", "rim", "nucleus", "flat")),
            textures=dice.choice(((), ("mottled",), ("speckle",), ("spots",))),
            texture=dice.uniform(0.15, 0.6),
            softness=dice.uniform(1, 4),
            seam=dice.uniform(0.2, 0.8),
            halo=dice.uniform(0, 0.8) if dice.chance(0.5) else 0.0,
            ground=dice.uniform(0, 0.25),
            **extras,
        )
    layout = placing.Layout(
        radius=dice.octave(4, 45),
        spread=dice.uniform(0.0, 0.7),
        kinds=("disc", "ellipse", "smooth", "rod", "box"),
        cover=dice.uniform(0.05, 0.5),
        pattern=dice.choice(("scatter", "grid", "clump")),
        gap=dice.uniform(1, 4) if dice.chance(0.5) else None,
        overlap=dice.uniform(0.05, 0.4),
    )
    return rendering.Scene(
        layout,
        contrast=dice.uniform(25, 120),
        polarity="mixed" if dice.chance(0.25) else bright,
        base=dice.choice(("flat", "dome", "bowl", "rim", "ball", "tilt", "nucleus")),
        textures=dice.choice(
            ((), ("mottled",), ("relief",), ("speckle", "mottled"), ("spots",))
        ),
        texture=dice.uniform(0.2, 0.7),
        softness=dice.uniform(1, 2.5),
        seam=dice.uniform(0.3, 1.0),
        shadow=dice.uniform(0, 0.5) if dice.chance(0.3) else 0.0,
        halo=dice.uniform(0, 0.6) if dice.chance(0.2) else 0.0,
        ground=dice.uniform(0, 0.35),
        **extras,
    )
