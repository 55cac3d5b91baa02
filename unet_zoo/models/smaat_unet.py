"""The SmaAt-UNet of Trebing, Stanczyk and Mehrkanoon: small, with attention."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "SmaAt-UNet",
    "paper": "https://arxiv.org/abs/2007.04417",
    "year": 2020,
}


def smaat_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    kernels_per_channel: int = 2,
    reduction: int = 16,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the SmaAt-UNet: separable convolutions, and attention on every skip.

    Every level is two depthwise separable 3x3 convolutions, each with normalisation
    and ReLU. What a level hands to the decoder, and only that, first passes a
    convolutional block attention module (CBAM): a gate per channel, then one per
    pixel. A max-pooling leads down, bilinear interpolation, corners on corners, leads
    up. The defaults are the authors' release; with 12 channels and one class, as for
    maps of rain, it has 4,042,379 parameters, of which 4,033,537 are trained.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`, the lowest
            as many as the one above it.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None. The
            pixel gate has one channel: there "layer" acts as "instance".
        kernels_per_channel: Depthwise kernels for each channel.
        reduction: The channel gate's hidden layer has this many times fewer values.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the attention; "encoder", "decoder" and
            "all" end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> smaat_unet((64, 80, 12), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Trebing, Stanczyk, Mehrkanoon: SmaAt-UNet: Precipitation Nowcasting using a
        Small Attention-UNet Architecture, 2021, https://arxiv.org/abs/2007.04417
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
    _blocks.check_count("kernels_per_channel", kernels_per_channel)
    _blocks.check_count("reduction", reduction)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def separable(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        # Two layers, since SeparableConv2D lacks the bias between its two steps.
        x = keras.layers.DepthwiseConv2D(
            3,
            padding="same",
            depth_multiplier=kernels_per_channel,
            depthwise_initializer=_blocks.depthwise_initializer(
                1.0, kernels_per_channel
            ),
            name=f"{name}_depthwise",
        )(x)
        return keras.layers.Conv2D(
            filters, 1, kernel_initializer=_blocks.INITIALIZER, name=f"{name}_pointwise"
        )(x)

    def convolve(
        x: keras.KerasTensor, widths: tuple[int, int], stage: str
    ) -> keras.KerasTensor:
        for number, width in enumerate(widths, 1):
            x = separable(x, width, f"{stage}_conv{number}")
            if normalization is not None:
                name = f"{stage}_norm{number}"
                x = _blocks.norm_layer(normalization, width, name=name)(x)
            x = keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    def attend(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        x = _gate_channels(x, reduction, f"{name}_channel")
        return _gate_pixels(x, normalization, f"{name}_pixel")

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level in range(depth):
        width = filters * 2**level
        x = convolve(x, (width, width), f"encoder{level}")
        skips.append(attend(x, f"attention{level}"))
        x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
    width = filters * 2 ** (depth - 1)
    x = attend(convolve(x, (width, width), "bottom"), "bottom_attention")

    # === Decoder ===
    for level in reversed(range(depth)):
        x = _blocks.AlignedUpsampling(name=f"up{level}")(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([skips[level], x])
        width = filters * 2**level
        x = convolve(x, (width, width // 2 if level else width), f"decoder{level}")
    return keras.Model(inputs, _blocks.logits(x, classes), name="smaat_unet")


# === Attention ===


def _gate_channels(
    x: keras.KerasTensor, reduction: int, name: str
) -> keras.KerasTensor:
    channels = x.shape[-1]
    hidden = keras.layers.Dense(
        max(1, channels // reduction),
        activation="relu",
        kernel_initializer=_blocks.INITIALIZER,
        name=f"{name}_hidden",
    )
    out = keras.layers.Dense(
        channels, kernel_initializer=_blocks.INITIALIZER, name=f"{name}_out"
    )
    # The same two layers judge the mean and the maximum of each channel.
    mean = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}_mean")(x)
    most = keras.layers.GlobalMaxPooling2D(keepdims=True, name=f"{name}_max")(x)
    both = [out(hidden(mean)), out(hidden(most))]
    gate = keras.layers.Add(name=f"{name}_add")(both)
    gate = keras.layers.Activation("sigmoid", name=f"{name}_gate")(gate)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gate])


def _gate_pixels(
    x: keras.KerasTensor, normalization: str | None, name: str
) -> keras.KerasTensor:
    gate = ChannelSummary(name=f"{name}_summary")(x)
    gate = keras.layers.Conv2D(
        1,
        7,
        padding="same",
        use_bias=False,
        kernel_initializer=_blocks.INITIALIZER,
        name=f"{name}_conv",
    )(gate)
    if normalization is not None:
        # A single channel normalised over its channels would be a constant.
        kind = "instance" if normalization == "layer" else normalization
        gate = _blocks.norm_layer(kind, 1, name=f"{name}_norm")(gate)
    gate = keras.layers.Activation("sigmoid", name=f"{name}_gate")(gate)
    return keras.layers.Multiply(name=f"{name}_scale")([x, gate])


@keras.saving.register_keras_serializable("unet_zoo")
class ChannelSummary(keras.layers.Layer):
    """Map each pixel to the mean and the maximum of its channels."""

    def call(self, x: Any) -> Any:
        mean = keras.ops.mean(x, axis=-1, keepdims=True)
        most = keras.ops.max(x, axis=-1, keepdims=True)
        return keras.ops.concatenate([mean, most], axis=-1)

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        return (*input_shape[:-1], 2)
