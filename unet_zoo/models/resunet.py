"""The deep residual U-Net of Zhang, Liu and Wang, and a slimmer relative of it."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "ResUNet",
    "paper": "https://arxiv.org/abs/1711.10684",
    "year": 2018,
}

SHORTCUTS = ("conv", "conv_norm", "identity")


def resunet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 16,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    shortcut: str = "conv_norm",
    bridge: int = 2,
    wide_decoder: bool = True,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the ResUNet: a U-Net whose levels are pre-activated residual blocks.

    A block is twice normalisation, ReLU and 3x3 convolution, added to a shortcut.
    Strided convolutions lead down, nearest-neighbour upsampling leads up. The defaults
    are the slim network that is widespread in Keras (4,722,737 parameters with one
    class); `resunet((None, None, 3), classes=1, filters=64, depth=3, bridge=0,
    wide_decoder=False)` has the paper's widths (8,233,025 parameters).

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        shortcut: What leads around a block: "conv_norm" (default), a 1x1 convolution
            and normalisation; "conv", the convolution alone; "identity", nothing to
            learn: sampled where strided, missing channels zero, and where a block
            narrows its last input channels, which are those of the skip.
        bridge: Further convolutions at the lowest resolution. The paper has 0.
        wide_decoder: Give each level of the decoder twice the filters of the encoder's
            level. The paper gives it the same.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> resunet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Zhang, Liu, Wang: Road Extraction by Deep Residual U-Net, 2018,
        https://arxiv.org/abs/1711.10684
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
    _blocks.check_word("shortcut", shortcut, SHORTCUTS)
    _blocks.check_count("bridge", bridge, at_least=0)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if normalization is None:
            return x
        return _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)

    def activate(x: keras.KerasTensor, stage: str, number: int) -> keras.KerasTensor:
        x = normalize(x, f"{stage}_norm{number}")
        return keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)

    def convolve(
        x: keras.KerasTensor, filters: int, name: str, size: int = 3, strides: int = 1
    ) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )(x)

    def lead_around(
        x: keras.KerasTensor, filters: int, stage: str, strides: int
    ) -> keras.KerasTensor:
        name = f"{stage}_shortcut"
        if shortcut == "identity":
            return _identity(x, filters, strides, name)
        x = convolve(x, filters, name, size=1, strides=strides)
        return normalize(x, f"{name}_norm") if shortcut == "conv_norm" else x

    def residual(
        x: keras.KerasTensor, filters: int, stage: str, strides: int = 1
    ) -> keras.KerasTensor:
        around = lead_around(x, filters, stage, strides)
        # The image itself is neither normalised nor cut off at zero.
        if stage != "encoder0":
            x = activate(x, stage, 1)
        x = convolve(x, filters, f"{stage}_conv1", strides=strides)
        x = activate(x, stage, 2)
        x = convolve(x, filters, f"{stage}_conv2")
        return keras.layers.Add(name=f"{stage}_add")([x, around])

    def drop(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        if stage not in dropping:
            return x
        name = f"{stage}_dropout"
        return _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = drop(residual(inputs, filters, "encoder0"), "encoder0")
    skips = [x]
    for level in range(1, depth):
        stage = f"encoder{level}"
        x = drop(residual(x, filters * 2**level, stage, strides=2), stage)
        skips.append(x)
    x = residual(x, filters * 2**depth, "bottom", strides=2)
    for number in range(3, 3 + bridge):
        x = activate(x, "bottom", number)
        x = convolve(x, filters * 2**depth, f"bottom_conv{number}")
    x = drop(x, "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        stage = f"decoder{level}"
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        width = filters * 2 ** (level + 1 if wide_decoder else level)
        x = drop(residual(x, width, stage), stage)
    return keras.Model(inputs, _blocks.logits(x, classes), name="resunet")


def _identity(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """Fit `x` to `filters` channels and `strides` with nothing to learn."""
    if strides > 1:
        x = keras.layers.MaxPooling2D(1, strides, name=f"{name}_sample")(x)
    missing = filters - x.shape[-1]
    # Read as channels first, the last two axes are width and channels: this pads and
    # cuts channels with stock layers.
    if missing > 0:
        ends = ((0, 0), (0, missing))
        return keras.layers.ZeroPadding2D(ends, "channels_first", name=name)(x)
    if missing < 0:
        ends = ((0, 0), (-missing, 0))
        return keras.layers.Cropping2D(ends, "channels_first", name=name)(x)
    return x
