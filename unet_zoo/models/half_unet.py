"""The Half-UNet of Lu and others: one width, a sum for a decoder, Ghost modules."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "Half-UNet",
    "paper": "https://doi.org/10.3389/fninf.2022.911679",
    "year": 2022,
    # As many on every level: 16 would be a network of 15,000 parameters.
    "recipe": {"filters": 64},
}


def half_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    ghost: bool = True,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the Half-UNet: an encoder of one width, whose levels are simply added up.

    Every level is two Ghost modules of `filters` channels, 2x2 max-pooling leads down.
    All levels are enlarged bilinearly to full resolution at once and added; two more
    Ghost modules follow. A Ghost module makes half of its channels by a 3x3
    convolution, and of each of these another one by a 3x3 convolution of its own.

    The authors' code is not public, so there is no exact count to meet. Figure 3 and
    the paper's equation for a Ghost module, 18,784 parameters from 64 to 64 channels,
    give 207,394 with one channel and two classes; its Table 3 says 0.21 million.
    Normalisation is not mentioned: batch normalisation ahead of ReLU in both halves is
    GhostNet's, from which the module comes, and makes 210,466, still 0.21 million.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters of every level, an even number.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, after
            every convolution, which keeps its bias.
        ghost: Use Ghost modules (default), or full 3x3 convolutions in their place:
            the paper's Half-UNet with a dagger, 0.41 million parameters.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the encoder; "encoder" ends all of them; "decoder" follows the modules
            after the sum; "all" does both.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> half_unet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Lu, She, Tie, Xu: Half-UNet: A Simplified U-Net Architecture for Medical Image
        Segmentation, 2022, https://doi.org/10.3389/fninf.2022.911679
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
    )
    if ghost and filters % 2:
        message = (
            "`filters` must be even, since a Ghost module makes one half of them from "
            f"the other. Received: {filters!r}. Use `ghost=False` for odd numbers."
        )
        raise errors.InputError(message)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def activate(x: keras.KerasTensor, stage: str, number: str) -> keras.KerasTensor:
        if normalization is not None:
            name = f"{stage}_norm{number}"
            x = _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)
        return keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)

    def convolve(
        x: keras.KerasTensor, filters: int, stage: str, number: str
    ) -> keras.KerasTensor:
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_conv{number}",
        )(x)
        return activate(x, stage, number)

    def module(x: keras.KerasTensor, stage: str, number: str) -> keras.KerasTensor:
        if not ghost:
            return convolve(x, filters, stage, number)
        half = convolve(x, filters // 2, stage, number)
        other = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depthwise_initializer=_blocks.depthwise_initializer(2.0),
            name=f"{stage}_ghost{number}",
        )(half)
        other = activate(other, stage, f"{number}_ghost")
        return keras.layers.Concatenate(name=f"{stage}_concat{number}")([half, other])

    def stack(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        for number in ("1", "2"):
            x = module(x, stage, number)
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    levels = []
    for level in range(depth):
        x = stack(x, f"encoder{level}")
        levels.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
    levels.append(stack(x, "bottom"))

    # === Decoder ===
    for level in range(1, depth + 1):
        upsampling = _blocks.BilinearUpsampling(2**level, name=f"up{level}")
        levels[level] = upsampling(levels[level])
    x = keras.layers.Add(name="decoder0_add")(levels)
    x = stack(x, "decoder0")
    return keras.Model(inputs, _blocks.logits(x, classes), name="half_unet")
