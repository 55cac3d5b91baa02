"""The recurrent residual U-Net of Alom et al., with attention gates if wanted."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "R2U-Net",
    "paper": "https://arxiv.org/abs/1802.06955",
    "year": 2018,
}


def r2_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    recurrences: int = 2,
    attention: bool = False,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the R2U-Net: a U-Net whose convolutions look at their own output again.

    A recurrent convolution is a 3x3 convolution, normalisation and ReLU, applied to
    its input, and then `recurrences` times, with the same weights, to the sum of input
    and last output. A 1x1 convolution brings each level to its filters; two recurrent
    convolutions follow and are added to what went in. Max-pooling leads down, nearest
    upsampling and a 3x3 convolution lead up.

    The authors' code is not public. The defaults are the network that later work
    compares with (LeeJunHyun/Image_Segmentation), as are its numbers of parameters:
    39,091,393 with 3 channels and one class, and 39,442,925 with attention, not counted
    the statistics of normalisation, which all steps of a recurrence share.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        recurrences: How often a recurrent convolution sees its own output: the t of
            the paper. It changes the work, not the number of parameters.
        attention: Weight each pixel of a skip by what comes up from below, as the
            Attention U-Net does: the R2AttU-Net of the same code.
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
        >>> r2_unet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Alom, Hasan, Yakopcic, Taha, Asari: Recurrent Residual Convolutional Neural
        Network based on U-Net (R2U-Net) for Medical Image Segmentation, 2018,
        https://arxiv.org/abs/1802.06955
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
    _blocks.check_count("recurrences", recurrences)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def conv_layer(filters: int, size: int, name: str) -> keras.layers.Layer:
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )

    def norm_layers(channels: int, name: str) -> list[keras.layers.Layer]:
        if normalization is None:
            return []
        return [_blocks.norm_layer(normalization, channels, name=name)]

    def apply(
        x: keras.KerasTensor, layers: list[keras.layers.Layer]
    ) -> keras.KerasTensor:
        for layer in layers:
            x = layer(x)
        return x

    def recur(
        x: keras.KerasTensor, filters: int, stage: str, number: int
    ) -> keras.KerasTensor:
        # Made once and called often: this is how the steps share their weights.
        step = [
            conv_layer(filters, 3, f"{stage}_conv{number}"),
            *norm_layers(filters, f"{stage}_norm{number}"),
            keras.layers.Activation("relu", name=f"{stage}_relu{number}"),
        ]
        last = apply(x, step)
        for time in range(1, recurrences + 1):
            name = f"{stage}_recurrence{number}_{time}"
            last = apply(keras.layers.Add(name=name)([x, last]), step)
        return last

    def stack(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        x = around = conv_layer(filters, 1, f"{stage}_conv0")(x)
        for number in (1, 2):
            x = recur(x, filters, stage, number)
        x = keras.layers.Add(name=f"{stage}_add")([around, x])
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level in range(depth):
        x = stack(x, filters * 2**level, f"encoder{level}")
        skips.append(x)
        x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
    x = stack(x, filters * 2**depth, "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        width = filters * 2**level
        up = [
            keras.layers.UpSampling2D(2, name=f"up{level}"),
            conv_layer(width, 3, f"up{level}_conv"),
            *norm_layers(width, f"up{level}_norm"),
            keras.layers.Activation("relu", name=f"up{level}_relu"),
        ]
        x = apply(x, up)
        skip = skips[level]
        if attention:
            name = f"attention{level}"
            skip = _blocks.attention_gate(skip, x, normalization, name)
        x = keras.layers.Concatenate(name=f"concat{level}")([skip, x])
        x = stack(x, width, f"decoder{level}")
    return keras.Model(inputs, _blocks.logits(x, classes), name="r2_unet")
