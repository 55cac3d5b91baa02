"""The ResUNet++ of Jha et al."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "ResUNet++",
    "paper": "https://arxiv.org/abs/1911.07067",
    "year": 2019,
}

# How far apart the pixels are that the pyramid's four convolutions see.
DILATIONS = (6, 12, 18, 1)


def resunet_plus_plus(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 16,
    depth: int = 3,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    squeeze: int = 8,
    sigmoid: bool | None = None,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the ResUNet++: residual blocks, squeeze and excitation, ASPP and attention.

    A block is twice normalisation, ReLU and 3x3 convolution, added to a 1x1 convolution
    of its input, its channels then weighted by what all pixels together say. Strided
    convolutions lead down. At the lowest resolution and at the end a pyramid of dilated
    convolutions (ASPP) looks far around. On the way up, an attention made of the skip
    and of what comes from below multiplies the latter, ahead of nearest upsampling.
    The defaults are the authors' code: 4,070,385 parameters with 3 channels and one
    class.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n` on the way
            down, and twice as many on the way up. The lowest level is the last of the
            encoder, with a pyramid of twice its filters.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        squeeze: By how much squeeze and excitation narrows the channels.
        sigmoid: Keep attention between 0 and 1. The authors' code multiplies by the
            raw convolution. Default None: so does this, but where nothing normalises,
            since the values of each level would be about the square of those below.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip and after the pyramid;
            "encoder", "decoder" and "all" end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> resunet_plus_plus((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Jha, Smedsrud, Riegler, Johansen, de Lange, Halvorsen, Johansen: ResUNet++: An
        Advanced Architecture for Medical Image Segmentation, 2019,
        https://arxiv.org/abs/1911.07067
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
    _blocks.check_count("squeeze", squeeze)
    _blocks.check_halving(shape, depth)
    if sigmoid is None:
        sigmoid = normalization is None
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if normalization is None:
            return x
        return _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)

    def convolve(
        x: keras.KerasTensor,
        filters: int,
        name: str,
        size: int = 3,
        strides: int = 1,
        dilation: int = 1,
    ) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            filters,
            size,
            strides,
            padding="same",
            dilation_rate=dilation,
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )(x)

    def activate(x: keras.KerasTensor, stage: str, what: str) -> keras.KerasTensor:
        x = normalize(x, f"{stage}_norm{what}")
        return keras.layers.Activation("relu", name=f"{stage}_relu{what}")(x)

    def excite(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        channels = x.shape[-1]
        weight = keras.layers.GlobalAveragePooling2D(
            keepdims=True, name=f"{stage}_squeeze"
        )(x)
        for number, (units, activation) in enumerate(
            ((max(1, channels // squeeze), "relu"), (channels, "sigmoid")), start=1
        ):
            weight = keras.layers.Dense(
                units,
                activation,
                use_bias=False,
                kernel_initializer=_blocks.INITIALIZER,
                name=f"{stage}_dense{number}",
            )(weight)
        return keras.layers.Multiply(name=f"{stage}_excite")([x, weight])

    def residual(
        x: keras.KerasTensor, filters: int, stage: str, strides: int = 1
    ) -> keras.KerasTensor:
        around = convolve(x, filters, f"{stage}_shortcut", size=1, strides=strides)
        around = normalize(around, f"{stage}_shortcut_norm")
        # The image itself is neither normalised nor cut off at zero.
        if stage != "encoder0":
            x = activate(x, stage, "1")
        x = convolve(x, filters, f"{stage}_conv1", strides=strides)
        x = activate(x, stage, "2")
        x = convolve(x, filters, f"{stage}_conv2")
        x = keras.layers.Add(name=f"{stage}_add")([x, around])
        return drop(excite(x, stage), stage)

    def pyramid(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        seen = []
        for dilation in DILATIONS:
            name = f"{stage}_dilated{dilation}"
            far = convolve(x, filters, name, dilation=dilation)
            seen.append(normalize(far, f"{name}_norm"))
        x = keras.layers.Add(name=f"{stage}_add")(seen)
        return drop(convolve(x, filters, f"{stage}_conv", size=1), stage)

    def attend(
        skip: keras.KerasTensor, x: keras.KerasTensor, stage: str
    ) -> keras.KerasTensor:
        width = x.shape[-1]
        near = convolve(activate(skip, stage, "_skip"), width, f"{stage}_skip")
        near = keras.layers.MaxPooling2D(2, name=f"{stage}_down")(near)
        below = convolve(activate(x, stage, "_below"), width, f"{stage}_below")
        weight = keras.layers.Add(name=f"{stage}_add")([near, below])
        weight = convolve(activate(weight, stage, ""), width, f"{stage}_weight")
        if sigmoid:
            weight = keras.layers.Activation("sigmoid", name=f"{stage}_sigmoid")(weight)
        return keras.layers.Multiply(name=stage)([weight, x])

    def drop(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        if stage not in dropping:
            return x
        name = f"{stage}_dropout"
        return _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = residual(inputs, filters, "encoder0")
    skips = [x]
    for level in range(1, depth):
        x = residual(x, filters * 2**level, f"encoder{level}", strides=2)
        skips.append(x)
    x = residual(x, filters * 2**depth, f"encoder{depth}", strides=2)
    x = pyramid(x, filters * 2 ** (depth + 1), "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        x = attend(skips[level], x, f"attention{level}")
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = residual(x, filters * 2 ** (level + 1), f"decoder{level}")
    x = pyramid(x, filters, "end")
    return keras.Model(inputs, _blocks.logits(x, classes), name="resunet_plus_plus")
