"""The U-Net of Ronneberger, Fischer and Brox, and the sizes that fit it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "U-Net",
    "paper": "https://arxiv.org/abs/1505.04597",
    "year": 2015,
    "ranks": (2, 3),
}


def unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.5,
    normalization: str | None = None,
    *,
    padding: str = "valid",
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
    max_filters: int | None = None,
) -> keras.Model:
    """Build the U-Net: contract, expand, and join what was seen on the way down.

    Every level is two 3x3 convolutions with ReLU; a 2x2 max-pooling leads down and
    doubles the filters, a transposed 2x2 convolution leads up and halves them. The
    defaults are the paper's Figure 1: 31,030,658 parameters, (572, 572) to (388, 388).

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free.
            Sizes must fit, see `fitting_size`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout.
        normalization: "batch", "group", "instance" or "layer", between convolution
            and ReLU in place of the bias. Default None: biases only, as in the paper.
        padding: "valid" as in the paper: the output lacks `margin(depth)` pixels on
            every side, and no pixel is invented; "same" keeps the size.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of both pooling and skip, as the paper's
            release does; "encoder", "decoder" and "all" end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.
        max_filters: Most filters of a level, so that a deep network of many filters
            stays small. Default None: no limit, as in the paper.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32. With "valid" padding
        height and width are smaller by `2 * margin(depth)`.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> unet((60, 76, 1), filters=4, depth=2).output_shape
        (None, 20, 36, 2)
        >>> unet((64, 80, 3), filters=4, depth=2, padding="same").output_shape
        (None, 64, 80, 2)
        >>> unet((44, 44, 60, 1), filters=4, depth=2).output_shape
        (None, 4, 4, 20, 2)

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image
        Segmentation, 2015, https://arxiv.org/abs/1505.04597
    """
    # === Check ===
    shape = _blocks.check_arguments(
        input_shape,
        classes=classes,
        filters=filters,
        depth=depth,
        dropout=dropout,
        dropout_at=dropout_at,
        normalization=normalization,
        ranks=INFO["ranks"],
    )
    rank = len(shape) - 1
    _blocks.check_word("padding", padding, ("same", "valid"))
    if max_filters is not None:
        _blocks.check_count("max_filters", max_filters)
    if padding == "same":
        _blocks.check_halving(shape, depth)
    else:
        _check_valid(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()
    widths = [filters * 2**level for level in range(depth + 1)]
    if max_filters is not None:
        widths = [min(width, max_filters) for width in widths]

    def convolve(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        for number in (1, 2):
            x = _blocks.of_rank("Conv", rank)(
                filters,
                3,
                padding=padding,
                use_bias=normalization is None,
                kernel_initializer=_blocks.INITIALIZER,
                name=f"{stage}_conv{number}",
            )(x)
            if normalization is not None:
                name = f"{stage}_norm{number}"
                x = _blocks.norm_layer(normalization, filters, name=name)(x)
            x = keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(
                dropout, spatial=spatial_dropout, name=name, rank=rank
            )(x)
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level in range(depth):
        x = convolve(x, widths[level], f"encoder{level}")
        skips.append(x)
        x = _blocks.of_rank("MaxPooling", rank)(2, name=f"down{level}")(x)
    x = convolve(x, widths[depth], "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        x = _blocks.of_rank("Conv", rank, "Transpose")(
            widths[level],
            2,
            strides=2,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"up{level}",
        )(x)
        skip = skips[level]
        if padding == "valid":
            # A constant of the levels below, so free sizes can be cropped as well.
            crop = margin(depth - level) - 4
            cut = _blocks.of_rank("Cropping", rank)(crop, name=f"crop{level}")
            skip = cut(skip)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skip])
        x = convolve(x, widths[level], f"decoder{level}")
    return keras.Model(inputs, _blocks.logits(x, classes), name="unet")


def margin(depth: int) -> int:
    """Return how many pixels the "valid" U-Net lacks on each side of its output.

    >>> margin(4), 572 - 2 * margin(4)
    (92, 388)
    """
    return 6 * 2**depth - 4


def fitting_size(size: int, depth: int, padding: str = "valid") -> int:
    """Return the smallest height or width of `size` or more that the U-Net can take.

    With "same" padding these are the multiples of `2**depth`. With "valid" padding
    they are `2**depth * k - 4`, so that every level has an even size to halve, and
    large enough to leave some output.

    >>> fitting_size(500, depth=4), fitting_size(500, depth=4, padding="same")
    (508, 512)
    >>> [fitting_size(1, depth) for depth in (1, 2, 3, 4)]
    [18, 44, 92, 188]
    """
    step = 2**depth
    if padding == "same":
        return math.ceil(size / step) * step
    smallest = 2 * margin(depth) + 1
    return math.ceil((max(size, smallest) + 4) / step) * step - 4


def _check_valid(shape: _blocks.Shape, depth: int) -> None:
    sizes = shape[:-1]
    fitting = tuple(size and fitting_size(size, depth) for size in sizes)
    if sizes != fitting:
        message = (
            f"`input_shape` {sizes} does not fit a U-Net of depth {depth} without "
            f"padding: sizes are {2**depth} * k - 4, at least {fitting_size(1, depth)}."
            f' Pad to {fitting}, or use padding="same".'
        )
        raise errors.SizeError(message, fitting)
