"""What two or more variants use: checks of the shared arguments, and small layers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors

NORMALIZATIONS = ("batch", "group", "instance", "layer")
DROPOUT_AT = ("all", "bottom", "decoder", "encoder")
INITIALIZER = "he_normal"

Shape = tuple[int | None, int | None, int]


# === Check ===


def check_arguments(
    input_shape: Sequence[int | None],
    *,
    classes: int,
    filters: int,
    depth: int,
    dropout: float,
    dropout_at: str,
    normalization: str | None,
) -> Shape:
    """Check the arguments every variant shares and return `input_shape` as a tuple.

    Raises `InputError` that names the argument, what was expected and received.
    """
    check_count("classes", classes)
    check_count("filters", filters)
    check_count("depth", depth)
    check_rate("dropout", dropout)
    check_word("dropout_at", dropout_at, DROPOUT_AT)
    if normalization is not None:
        check_word("normalization", normalization, (*NORMALIZATIONS, "None"))
    return _checked_shape(input_shape)


def check_count(argument: str, value: Any, at_least: int = 1) -> None:
    """Raise `InputError` unless `value` is a whole number of `at_least` or more."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < at_least:
        message = (
            f"`{argument}` must be a whole number of at least {at_least}. "
            f"Received: {value!r}."
        )
        raise errors.InputError(message)


def check_rate(argument: str, value: Any) -> None:
    """Raise `InputError` unless `value` is a number of at least 0 and below 1."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        message = f"`{argument}` must be at least 0 and below 1. Received: {value!r}."
        raise errors.InputError(message)


def check_word(argument: str, value: Any, options: Sequence[str]) -> None:
    """Raise `InputError`, near matches named, unless `value` is among `options`."""
    # An option "None" stands for the value None in messages; the word is not accepted.
    if value not in options or value == "None":
        error = errors.unknown(f"`{argument}`", str(value), options)
        raise error


def check_halving(shape: Shape, depth: int) -> None:
    """Raise `InputError` with the size to pad to unless sizes halve `depth` times.

    >>> check_halving((250, None, 1), depth=4)
    Traceback (most recent call last):
    unet_zoo.errors.InputError: `input_shape` (250, None) cannot be halved 4 times. \
Pad to (256, None).
    """
    step = 2**depth
    sizes = shape[:2]
    fitting = tuple(size and math.ceil(size / step) * step for size in sizes)
    if sizes != fitting:
        times = "once" if depth == 1 else f"{depth} times"
        message = f"`input_shape` {sizes} cannot be halved {times}. Pad to {fitting}."
        raise errors.InputError(message)


def _checked_shape(input_shape: Sequence[int | None]) -> Shape:
    try:
        height, width, channels = input_shape
    except (TypeError, ValueError):
        message = (
            "`input_shape` must be (height, width, channels), without the batch. "
            f"Received: {input_shape!r}."
        )
        raise errors.InputError(message) from None
    if channels is None:
        message = (
            "`input_shape` must say the number of channels; only height and width "
            f"may be None. Received: {input_shape!r}."
        )
        raise errors.InputError(message)
    check_count("input_shape[2]", channels)
    for axis, size in enumerate((height, width)):
        if size is not None:
            check_count(f"input_shape[{axis}]", size)
    return (height, width, channels)


# === Layers ===


def dropout_stages(where: str, depth: int) -> set[str]:
    """Return the stages of a variant that end in dropout.

    Stages are called `encoder0` (full resolution) to `encoder<depth - 1>`, `bottom`,
    and `decoder<depth - 1>` to `decoder0`. Where "bottom", these are the last two of
    the contracting path, as in the U-Net's release.

    >>> sorted(dropout_stages("bottom", depth=4))
    ['bottom', 'encoder3']
    """
    encoder = [f"encoder{level}" for level in range(depth)] + ["bottom"]
    decoder = [f"decoder{level}" for level in range(depth)]
    stages = {
        "bottom": encoder[-2:],
        "encoder": encoder,
        "decoder": decoder,
        "all": encoder + decoder,
    }
    return set(stages[where])


def dropout_layer(
    rate: float, *, spatial: bool, name: str
) -> keras.layers.Dropout | keras.layers.SpatialDropout2D:
    """Return the layer that drops values, or whole channels where `spatial`."""
    kind = keras.layers.SpatialDropout2D if spatial else keras.layers.Dropout
    return kind(rate, name=name)


def norm_layer(kind: str, channels: int, *, name: str) -> keras.layers.Layer:
    """Return the normalisation layer for a tensor of `channels`.

    "batch" normalises each channel over the batch, "instance" over one image, "group"
    over up to 8 groups of channels of one image, "layer" each pixel over its channels.
    """
    if kind == "batch":
        return keras.layers.BatchNormalization(name=name)
    if kind == "layer":
        return keras.layers.LayerNormalization(name=name)
    groups = -1 if kind == "instance" else math.gcd(channels, 8)
    return keras.layers.GroupNormalization(groups, name=name)


def logits(x: keras.KerasTensor, classes: int) -> keras.KerasTensor:
    """Map `x` to `classes` raw values per pixel, float32 under any dtype policy."""
    layer = keras.layers.Conv2D(
        classes, 1, kernel_initializer=INITIALIZER, dtype="float32", name="logits"
    )
    return layer(x)
