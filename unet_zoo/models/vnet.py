"""The V-Net of Milletari, Navab and Ahmadi: residual levels of 5x5x5 convolutions."""

from __future__ import annotations

import math
from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "V-Net",
    "paper": "https://arxiv.org/abs/1606.04797",
    "year": 2016,
    "ranks": (2, 3),
}

CONVOLUTIONS = ("paper", "released")
SLOPE = 0.25


def vnet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 16,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = None,
    *,
    convolutions: str = "released",
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the V-Net: wide convolutions, each level added to what it was given.

    A level is one to three convolutions, 5 wide along each axis, added to the level's
    input: on the way up to the concatenation with the skip, at the start to the image,
    repeated until it has as many channels. Strided convolutions, 2 wide, lead down,
    transposed ones up. All are followed by PReLU with a slope for each channel, the
    last of a level after the addition.

    The paper is about volumes: `vnet((128, 128, 64, 1))` is the network of the authors'
    Caffe file, 61,982,682 parameters, 3,170 of them slopes. For images, the default,
    the same file read with windows of two axes has 12,636,314.

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free;
            else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n` on the way
            down, twice as many on the way up.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch", "group", "instance" or "layer", after each convolution
            in place of its bias. Default None: biases only, as in the paper.
        convolutions: How many a level has: 1, 1, 2, 3, 3 from full resolution to the
            bottom where "released" (default), as in the authors' file; 1, 2, 3, 3, 3
            where "paper", as the receptive fields of the paper's table need. Further
            levels have 3.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)` or `(batch, depth, height, width, channels)`.

    Output shape:
        As the input, with `classes` channels; raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> vnet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)
        >>> vnet((16, 16, 8, 1), filters=4, depth=2).output_shape
        (None, 16, 16, 8, 2)

    Reference:
        Milletari, Navab, Ahmadi: V-Net: Fully Convolutional Neural Networks for
        Volumetric Medical Image Segmentation, 2016, https://arxiv.org/abs/1606.04797
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
    _blocks.check_word("convolutions", convolutions, CONVOLUTIONS)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def convolve(
        x: keras.KerasTensor,
        filters: int,
        name: str,
        size: int = 5,
        strides: int = 1,
        ending: str = "",
    ) -> keras.KerasTensor:
        x = _blocks.of_rank("Conv", rank, ending)(
            filters,
            size,
            strides,
            padding="same",
            use_bias=normalization is None,
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )(x)
        if normalization is None:
            return x
        return _blocks.norm_layer(normalization, filters, name=f"{name}_norm")(x)

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        layer = keras.layers.PReLU(
            keras.initializers.Constant(SLOPE),
            shared_axes=list(range(1, rank + 1)),
            name=name,
        )
        return layer(x)

    def residual(
        x: keras.KerasTensor, around: keras.KerasTensor, level: int, stage: str
    ) -> keras.KerasTensor:
        filters = around.shape[-1]
        number = min(max(level, 1) if convolutions == "released" else level + 1, 3)
        for one in range(1, number + 1):
            x = convolve(x, filters, f"{stage}_conv{one}")
            if one < number:
                x = activate(x, f"{stage}_relu{one}")
        x = keras.layers.Add(name=f"{stage}_add")([x, around])
        x = activate(x, f"{stage}_relu{number}")
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(
                dropout, spatial=spatial_dropout, name=name, rank=rank
            )(x)
        return x

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = residual(inputs, _repeated(inputs, filters), 0, "encoder0")
    skips = [x]
    for level in range(1, depth + 1):
        stage = f"encoder{level}" if level < depth else "bottom"
        x = convolve(x, filters * 2**level, f"down{level - 1}", size=2, strides=2)
        x = activate(x, f"down{level - 1}_relu")
        x = residual(x, x, level, stage)
        skips.append(x)

    # === Decoder ===
    for level in reversed(range(depth)):
        x = convolve(x, filters * 2**level, f"up{level}", 2, 2, "Transpose")
        x = activate(x, f"up{level}_relu")
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = residual(x, x, level, f"decoder{level}")
    x = activate(convolve(x, classes, "head"), "head_relu")
    return keras.Model(inputs, _blocks.logits(x, classes), name="vnet")


def _repeated(image: keras.KerasTensor, channels: int) -> keras.KerasTensor:
    """Repeat the channels of `image` until there are `channels`, and cut the rest."""
    rank = len(image.shape) - 2
    copies = math.ceil(channels / image.shape[-1])
    if copies > 1:
        image = keras.layers.Concatenate(name="repeat")([image] * copies)
    surplus = image.shape[-1] - channels
    if surplus:
        # Read as channels first, the last axis is the channels.
        ends = ((0, 0),) * (rank - 1) + ((0, surplus),)
        cut = _blocks.of_rank("Cropping", rank)
        image = cut(ends, "channels_first", name="repeat_cut")(image)
    return image
