"""The ResUNet-a of Diakogiannis et al., with its conditioned tasks if wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "ResUNet-a",
    "paper": "https://arxiv.org/abs/1904.00592",
    "year": 2019,
}

# Dilations of the parallel branches: on the way down from full resolution, and on the
# way up from the lowest; every level beyond has the last. A deep network's first level
# on the way up is too small for more than one.
DOWN = ((1, 3, 15, 31), (1, 3, 15, 31), (1, 3, 15), (1, 3, 5), (1,))
UP = ((1, 3, 5), (1, 3, 15), (1, 3, 15, 31))
UP_DEEP = ((1,), *UP[1:])

# Levels of the pooling at full resolution: 1, 2, 4 and 8 parts of height and width.
PYRAMID = 4


@keras.saving.register_keras_serializable("unet_zoo")
class PartMaxPooling(keras.layers.Layer):
    """Give each pixel the largest value of its part of the image, channel by channel.

    Height and width are cut into `parts` equal parts each, and must be multiples of it.

    >>> import numpy as np
    >>> line = np.array([[1.0, 5.0, 2.0, 3.0]] * 2).reshape(1, 2, 4, 1)
    >>> [float(value) for value in PartMaxPooling(2)(line)[0, 0, :, 0]]
    [5.0, 5.0, 3.0, 3.0]
    """

    def __init__(self, parts: int, **options: Any) -> None:
        super().__init__(**options)
        self.parts = parts

    def call(self, x: Any) -> Any:
        shape = keras.ops.shape(x)
        height, width = (size // self.parts for size in shape[1:3])
        cut = (-1, self.parts, height, self.parts, width, shape[3])
        x = keras.ops.reshape(x, cut)
        top = keras.ops.max(x, axis=(2, 4), keepdims=True)
        top = keras.ops.broadcast_to(top, keras.ops.shape(x))
        return keras.ops.reshape(top, (-1, *shape[1:]))

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"parts": self.parts}


def resunet_a(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 32,
    depth: int = 5,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    multitask: bool = False,
    pyramid: int | None = None,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the ResUNet-a: parallel dilated residual blocks and pyramid pooling.

    A level adds to its input several branches, each twice normalisation, ReLU and 3x3
    convolution, that differ in dilation. Strided convolutions lead down, nearest
    upsampling and a 1x1 convolution up. At the lowest resolution and at the end, the
    largest values of the image and of its halves, quarters and eighths are joined to
    each pixel.

    What is built is the authors' code, which in widths, kernels and dilations differs
    in places from the paper's tables. With `multitask` it is their d6 and, with depth
    6, their d7: 58,037,781 and 184,537,873 trainable parameters with 5 channels and 6
    classes. The network of one task has no published code: as the paper says, its last
    pooling leads to the output at once.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**(depth + pyramid - 1)`: 256.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved: 5 (default) is the paper's d6, which
            counts the levels, and 6 its d7.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        multitask: Predict boundaries and distances as well, let the classes depend on
            both, and the boundaries on the distances; and predict the colours.
        pyramid: How many poolings see the lowest resolution: of all of it, of its
            halves, and so on. Default None: 4, and with a depth above 5, 3.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32. With `multitask` four:
        `logits`, `boundary` and `distance` (one channel per class each), and `color`
        (3 channels, of the image as hue, saturation and value). A sigmoid makes the
        latter three what the paper trains; with more than one class, a softmax
        `distance`.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> resunet_a((64, 96, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 96, 1)

    Reference:
        Diakogiannis, Waldner, Caccetta, Wu: ResUNet-a: A deep learning framework for
        semantic segmentation of remotely sensed data, 2019,
        https://arxiv.org/abs/1904.00592
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
    if pyramid is None:
        pyramid = PYRAMID if depth <= 5 else PYRAMID - 1
    _blocks.check_count("pyramid", pyramid)
    _blocks.check_halving(shape, max(depth + pyramid, PYRAMID) - 1)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def convolve(
        x: keras.KerasTensor,
        filters: int,
        name: str,
        *,
        size: int = 1,
        dilation: int = 1,
        use_bias: bool = False,
    ) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            dilation_rate=dilation,
            use_bias=use_bias or normalization is None,
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )(x)

    def normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if normalization is None:
            return x
        return _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)

    def convolve_normed(
        x: keras.KerasTensor, filters: int, name: str, size: int = 1
    ) -> keras.KerasTensor:
        return normalize(convolve(x, filters, name, size=size), f"{name}_norm")

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Activation("relu", name=name)(x)

    def residual(
        x: keras.KerasTensor, stage: str, dilations: Sequence[int]
    ) -> keras.KerasTensor:
        branches = [x]
        for dilation in dilations:
            name = f"{stage}_dilated{dilation}"
            y = x
            for number in (1, 2):
                y = normalize(y, f"{name}_norm{number}")
                y = activate(y, f"{name}_relu{number}")
                y = convolve(
                    y,
                    x.shape[-1],
                    f"{name}_conv{number}",
                    size=3,
                    dilation=dilation,
                    use_bias=number == 2,
                )
            branches.append(y)
        x = keras.layers.Add(name=f"{stage}_add")(branches)
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    def pool(
        x: keras.KerasTensor, filters: int, levels: int, stage: str
    ) -> keras.KerasTensor:
        width = max(1, filters // levels)
        seen = [x]
        for level in range(levels):
            name = f"{stage}_parts{2**level}"
            y = PartMaxPooling(2**level, name=name)(x)
            # What is the same everywhere, a normalisation over the image would remove.
            if level == 0 and normalization in ("group", "instance"):
                y = convolve(y, width, f"{name}_conv", use_bias=True)
            else:
                y = convolve_normed(y, width, f"{name}_conv")
            seen.append(y)
        x = keras.layers.Concatenate(name=f"{stage}_concat")(seen)
        x = convolve_normed(x, filters, f"{stage}_conv")
        return activate(x, f"{stage}_relu")

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = stem = activate(convolve_normed(inputs, filters, "stem"), "stem_relu")
    skips = []
    for level in range(depth):
        x = residual(x, f"encoder{level}", DOWN[min(level, len(DOWN) - 1)])
        skips.append(x)
        # The authors' code pads both ends, of which only the start is seen; "same"
        # would pad the end alone.
        x = keras.layers.ZeroPadding2D(((1, 0), (1, 0)), name=f"down{level}_pad")(x)
        x = keras.layers.Conv2D(
            filters * 2 ** (level + 1),
            3,
            2,
            use_bias=normalization is None,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"down{level}",
        )(x)
    x = residual(x, "bottom", DOWN[min(depth, len(DOWN) - 1)])
    x = pool(x, filters * 2**depth, pyramid, "bottom")

    # === Decoder ===
    for step, level in enumerate(reversed(range(depth))):
        width = filters * 2**level
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        x = convolve_normed(x, max(1, width // 2), f"up{level}_conv")
        x = activate(x, f"up{level}_relu")
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = convolve_normed(x, width, f"decoder{level}_conv")
        dilations = UP if depth <= 5 else UP_DEEP
        x = residual(x, f"decoder{level}", dilations[min(step, len(dilations) - 1)])
    joined = keras.layers.Concatenate(name="end_stem")([stem, x])
    x = pool(joined, filters, PYRAMID, "end")
    if not multitask:
        return keras.Model(inputs, _blocks.logits(x, classes), name="resunet_a")

    # === Tasks ===
    def head(x: keras.KerasTensor, name: str, convolutions: int) -> keras.KerasTensor:
        for number in range(1, convolutions + 1):
            x = convolve_normed(x, filters, f"{name}_conv{number}", size=3)
            x = activate(x, f"{name}_relu{number}")
        return _blocks.logits(x, classes, name=name)

    # Distances and colours do not see the pooling.
    distance = head(joined, "distance", 2)
    kind = "sigmoid" if classes == 1 else "softmax"
    near = keras.layers.Activation(kind, name="distance_chance")(distance)
    seen = keras.layers.Concatenate(name="boundary_concat")([x, near])
    boundary = head(seen, "boundary", 1)
    edge = keras.layers.Activation("sigmoid", name="boundary_chance")(boundary)
    seen = keras.layers.Concatenate(name="logits_concat")([x, edge, near])
    color = _blocks.logits(joined, 3, name="color")
    outputs = [head(seen, "logits", 2), boundary, distance, color]
    return keras.Model(inputs, outputs, name="resunet_a")
