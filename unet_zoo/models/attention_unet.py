"""The Attention U-Net of Oktay and others, for images and for volumes."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "Attention U-Net",
    "paper": "https://arxiv.org/abs/1804.03999",
    "year": 2018,
    "ranks": (2, 3),
}


def attention_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the Attention U-Net: what comes up decides how much of a skip is let in.

    Every level is two 3x3 convolutions with ReLU; nearest-neighbour upsampling and a
    3x3 convolution lead up. At each level a gate, made from the skip and from what
    came up to its size, gives every pixel a weight between 0 and 1, by which the skip
    is multiplied; `model.get_layer("attention0_sigmoid").output` are those of level 0.

    The paper's own network is for volumes only and gates at half the skip's
    resolution; the defaults are its two-dimensional form in
    LeeJunHyun/Image_Segmentation, with which it is usually compared (34,894,197
    parameters with statistics, 34,878,573 of them trained, for 3 channels and 1
    class). With three spatial axes the same network is built of 3D layers.

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free;
            else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`, its gate
            half of that.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, after
            every convolution, which keeps its bias.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of both pooling and skip; "encoder",
            "decoder" and "all" end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`, or with depth ahead of height.

    Output shape:
        `(batch, height, width, classes)`, or with depth, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> attention_unet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)
        >>> attention_unet((16, 32, 32, 1), filters=4, depth=2).output_shape
        (None, 16, 32, 32, 2)

    Reference:
        Oktay and others: Attention U-Net: Learning Where to Look for the Pancreas,
        2018, https://arxiv.org/abs/1804.03999
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
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def convolve(
        x: keras.KerasTensor, filters: int, name: str, norm: str
    ) -> keras.KerasTensor:
        x = _blocks.of_rank("Conv", rank)(
            filters,
            3,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )(x)
        # Normalised over its channels, a single one would be the same everywhere.
        if normalization is None or (normalization == "layer" and filters == 1):
            return x
        return _blocks.norm_layer(normalization, filters, name=norm)(x)

    def stack(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        for number in (1, 2):
            x = convolve(x, filters, f"{stage}_conv{number}", f"{stage}_norm{number}")
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
        x = stack(x, filters * 2**level, f"encoder{level}")
        skips.append(x)
        x = _blocks.of_rank("MaxPooling", rank)(2, name=f"down{level}")(x)
    x = stack(x, filters * 2**depth, "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        width = filters * 2**level
        x = _blocks.of_rank("UpSampling", rank)(2, name=f"up{level}")(x)
        x = convolve(x, width, f"up{level}_conv", f"up{level}_norm")
        x = keras.layers.Activation("relu", name=f"up{level}_relu")(x)
        name = f"attention{level}"
        skip = _blocks.attention_gate(skips[level], x, normalization, name)
        x = keras.layers.Concatenate(name=f"concat{level}")([skip, x])
        x = stack(x, width, f"decoder{level}")
    return keras.Model(inputs, _blocks.logits(x, classes), name="attention_unet")
