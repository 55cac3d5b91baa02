"""The U2-Net of Qin et al.: every level of a U-Net is itself a small U-Net."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "U2-Net",
    "paper": "https://arxiv.org/abs/2005.09007",
    "year": 2020,
}

INITIALIZER = "glorot_uniform"


def u2net(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 5,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    lite: bool = False,
    deep_supervision: bool = False,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the U2-Net: a U-Net of residual U-blocks, each a small U-Net itself.

    Every block halves on until it reaches the lowest resolution of the whole network;
    the last level and the bottom, which are there already, dilate instead. Max-pooling
    leads down, bilinear upsampling up. Each level of the decoder, and the bottom,
    predicts by itself, and the logits are a 1x1 convolution over these predictions.
    The defaults are the paper's network: 44,009,869 trainable parameters from three
    channels to one class, 1,131,181 with `lite`.

    The authors' code takes any size: it rounds up when it halves, and resizes to the
    skip. Here sizes are multiples of `2**depth`, where both compute the same.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Channels that the first block gives; they double down to level
            `depth - 2`. Inside the blocks there are a quarter to half as many.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, between
            each convolution, which has a bias all the same, and its ReLU.
        lite: Give all levels `filters` channels, and `filters // 4` inside the blocks,
            as the paper's small U2-Net.
        deep_supervision: Put out what the levels predict as well, upsampled to the
            size of the image: `logits1` (full resolution) to `logits<depth + 1>` (the
            bottom) follow `logits`. The paper trains so, all weights 1.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32; with `deep_supervision`
        a list of `depth + 2` of them.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> u2net((64, 80, 3), classes=1, filters=8, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Qin, Zhang, Huang, Dehghan, Zaiane, Jagersand: U2-Net: Going Deeper with Nested
        U-Structure for Salient Object Detection, 2020,
        https://arxiv.org/abs/2005.09007
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
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()
    narrow = max(filters // 4, 1)

    # === Layers ===
    def convolve(
        x: keras.KerasTensor, filters: int, name: str, dilation: int = 1
    ) -> keras.KerasTensor:
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            dilation_rate=dilation,
            kernel_initializer=INITIALIZER,
            name=f"{name}_conv",
        )(x)
        if normalization is not None:
            x = _blocks.norm_layer(normalization, filters, name=f"{name}_norm")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    def block(
        x: keras.KerasTensor, level: int, inside: int, filters: int, stage: str
    ) -> keras.KerasTensor:
        """Apply the residual U-block of `level`: `inside` channels, then `filters`."""
        x = around = convolve(x, filters, f"{stage}_in")
        # Where the resolution is as low as it gets, dilation takes halving's place.
        halvings = depth - level if level < depth - 1 else 0
        dilations = [1] * (halvings + 1) if halvings else [1, 2, 4]
        skips = []
        for step, dilation in enumerate(dilations):
            if halvings and step:
                x = keras.layers.MaxPooling2D(2, name=f"{stage}_down{step - 1}")(x)
            x = convolve(x, inside, f"{stage}_{step}", dilation)
            skips.append(x)
        x = convolve(x, inside, f"{stage}_bottom", 2 * dilations[-1])
        for step in reversed(range(len(skips))):
            if step < halvings:
                x = _upsample(x, 2, f"{stage}_up{step}")
            x = keras.layers.Concatenate(name=f"{stage}_concat{step}")([x, skips[step]])
            width = inside if step else filters
            x = convolve(x, width, f"{stage}_{step}_back", dilations[step])
        x = keras.layers.Add(name=f"{stage}_add")([x, around])
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level in range(depth + 1):
        inside, width = narrow, filters
        if not lite:
            inside *= 2 ** min(max(level, 1), depth - 1)
            width *= 2 ** min(level, max(depth - 2, 0))
        if level:
            x = keras.layers.MaxPooling2D(2, name=f"down{level - 1}")(x)
        stage = f"encoder{level}" if level < depth else "bottom"
        x = block(x, level, inside, width, stage)
        skips.append(x)

    # === Decoder ===
    sides = [(depth, x)]
    for level in reversed(range(depth)):
        x = _upsample(x, 2, f"up{level}")
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        inside = narrow if lite else narrow * 2**level
        width = filters if lite else filters * 2 ** max(level - 1, 0)
        x = block(x, level, inside, width, f"decoder{level}")
        sides.insert(0, (level, x))

    # === Outputs ===
    predictions = []
    for level, x in sides:
        x = _blocks.logits(x, classes, size=3, name=f"side{level}")
        if level:
            x = _upsample(x, 2**level, f"side{level}_up", dtype="float32")
        predictions.append(x)
    fused = keras.layers.Concatenate(dtype="float32", name="fuse")(predictions)
    outputs = _blocks.logits(fused, classes)
    if deep_supervision:
        outputs = [outputs]
        for number, x in enumerate(predictions, start=1):
            same = keras.layers.Identity(dtype="float32", name=f"logits{number}")
            outputs.append(same(x))
    return keras.Model(inputs, outputs, name="u2net")


def _upsample(
    x: keras.KerasTensor, factor: int, name: str, dtype: str | None = None
) -> keras.KerasTensor:
    return _blocks.BilinearUpsampling(factor, dtype=dtype, name=name)(x)
