"""The MedNeXt of Roy et al.: a U-Net of ConvNeXt blocks, up and down as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "MedNeXt",
    "paper": "https://arxiv.org/abs/2303.09975",
    "year": 2023,
}

# Expansion and number of blocks of the levels 0, 1 and 2; the others are as level 2.
SCALES = {
    "S": ((2, 2, 2), (2, 2, 2)),
    "B": ((2, 3, 4), (2, 2, 2)),
    "M": ((2, 3, 4), (3, 4, 4)),
    "L": ((3, 4, 8), (3, 4, 8)),
}
EPSILON = 1e-5


def mednext(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 32,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "instance",
    *,
    scale: str = "S",
    kernel: int = 3,
    deep_supervision: bool = False,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the MedNeXt: depthwise, wide and narrow again, and added, at every step.

    A block is a depthwise convolution, normalisation, a 1x1 convolution to some times
    as many channels, GELU and a 1x1 convolution back, added to its input. Where it
    leads down or up the depthwise convolution is strided or transposed, and a strided
    or transposed 1x1 convolution leads around it. Skips are added.

    The paper's networks are for volumes. This is the one for images that the authors'
    code builds as well: with one channel and one class S, B, M and L have 5,471,969,
    10,447,361, 17,418,177 and 61,556,321 parameters with 3x3 windows, and 5,542,113,
    10,517,505, 17,534,401 and 61,754,465 with 5x5. Theirs have one more, a number that
    takes no part. A block that leads up gives an odd size, as theirs: a row and a
    column of zeros are put ahead.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Channels at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "instance" (default, the paper's normalisation in as many groups
            as channels), "batch", "group", "layer" or None.
        scale: "S" (default), "B", "M" or "L": how often the channels are multiplied
            inside the blocks, and how many blocks a level has.
        kernel: Height and width of the depthwise windows, odd. The paper has 3 and 5.
        deep_supervision: Put out what the lower levels predict as well: `logits1` to
            `logits<depth>` (the bottom) follow `logits`, each at its level's size.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32; with `deep_supervision`
        a list of `depth + 1` outputs, each of half the size of the one before.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> mednext((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Roy et al.: MedNeXt: Transformer-driven Scaling of ConvNets for Medical Image
        Segmentation, 2023, https://arxiv.org/abs/2303.09975
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
    _blocks.check_word("scale", scale, tuple(SCALES))
    _check_kernel(kernel)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()
    expansions, numbers = SCALES[scale]

    # === Layers ===
    def pointwise(
        x: keras.KerasTensor, filters: int, name: str, strides: int = 1
    ) -> keras.KerasTensor:
        initializer = _blocks.INITIALIZER
        return keras.layers.Conv2D(
            filters, 1, strides, kernel_initializer=initializer, name=name
        )(x)

    def transform(
        x: keras.KerasTensor, level: int, filters: int, name: str, strides: int = 1
    ) -> keras.KerasTensor:
        """Apply the depthwise convolution and the two after it, `level` expanding."""
        channels = x.shape[-1]
        if strides > 1:
            # "same" pads one less ahead: windows would be centred on the second of two.
            ends = ((kernel // 2, max(kernel // 2 - 1, 0)),) * 2
            x = keras.layers.ZeroPadding2D(ends, name=f"{name}_pad")(x)
        x = keras.layers.DepthwiseConv2D(
            kernel,
            strides,
            padding="valid" if strides > 1 else "same",
            depthwise_initializer=_blocks.depthwise_initializer(1.0),
            name=f"{name}_depthwise",
        )(x)
        if normalization is not None:
            x = _blocks.norm_layer(
                normalization, channels, name=f"{name}_norm", epsilon=EPSILON
            )(x)
        x = pointwise(x, expansions[min(level, 2)] * channels, f"{name}_expand")
        x = keras.layers.Activation("gelu", name=f"{name}_gelu")(x)
        return pointwise(x, filters, f"{name}_project")

    def blocks(x: keras.KerasTensor, level: int, stage: str) -> keras.KerasTensor:
        for number in range(1, numbers[min(level, 2)] + 1):
            name = f"{stage}_block{number}"
            changed = transform(x, level, x.shape[-1], name)
            x = keras.layers.Add(name=f"{name}_add")([changed, x])
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    def lead_down(x: keras.KerasTensor, level: int) -> keras.KerasTensor:
        name, width = f"down{level}", filters * 2 ** (level + 1)
        around = pointwise(x, width, f"{name}_shortcut", strides=2)
        x = transform(x, level + 1, width, name, strides=2)
        return keras.layers.Add(name=f"{name}_add")([x, around])

    def lead_up(x: keras.KerasTensor, level: int) -> keras.KerasTensor:
        name, width = f"up{level}", filters * 2**level
        # A transposed convolution is one over pixels with zeros between them.
        x = Spread(name=f"{name}_spread")(x)
        around = pointwise(x, width, f"{name}_shortcut")
        x = transform(x, level, width, name)
        x = keras.layers.Add(name=f"{name}_add")([x, around])
        ends = ((1, 0), (1, 0))
        return keras.layers.ZeroPadding2D(ends, name=f"{name}_pad")(x)

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = pointwise(inputs, filters, "stem")
    skips = []
    for level in range(depth):
        x = blocks(x, level, f"encoder{level}")
        skips.append(x)
        x = lead_down(x, level)
    x = blocks(x, depth, "bottom")

    # === Decoder ===
    levels = [x]
    for level in reversed(range(depth)):
        x = lead_up(x, level)
        x = keras.layers.Add(name=f"join{level}")([x, skips[level]])
        x = blocks(x, level, f"decoder{level}")
        levels.insert(0, x)

    # === Outputs ===
    outputs = _blocks.logits(x, classes)
    if deep_supervision:
        outputs = [outputs]
        for level, x in enumerate(levels[1:], start=1):
            outputs.append(_blocks.logits(x, classes, name=f"logits{level}"))
    return keras.Model(inputs, outputs, name="mednext")


@keras.saving.register_keras_serializable("unet_zoo")
class Spread(keras.layers.Layer):
    """Put zeros between pixels, so that `n` along an axis become `2 * n - 1`.

    >>> import numpy as np
    >>> Spread()(np.ones((1, 1, 3, 1)))[0, 0, :, 0].shape[0]
    5
    """

    def call(self, x: Any) -> Any:
        for axis in (1, 2):
            shape = list(keras.ops.shape(x))
            shape[0], shape[axis] = -1, 2 * shape[axis]
            both = keras.ops.stack([x, keras.ops.zeros_like(x)], axis + 1)
            x = keras.ops.reshape(both, shape)
        return x[:, :-1, :-1]

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        batch, height, width, channels = input_shape
        return (batch, height and 2 * height - 1, width and 2 * width - 1, channels)


def _check_kernel(kernel: int) -> None:
    _blocks.check_count("kernel", kernel)
    if kernel % 2 == 0:
        message = f"`kernel` must be odd. Received: {kernel}."
        raise errors.InputError(message)
