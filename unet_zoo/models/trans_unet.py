"""The TransUNet of Chen and others: a U-Net with a transformer at the bottom."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "TransUNet",
    "paper": "https://arxiv.org/abs/2102.04306",
    "year": 2021,
    # A transformer of 3 million weights rather than 86; places of 256 pixels.
    "recipe": {
        "hidden": 192,
        "mlp": 768,
        "heads": 3,
        "blocks": 6,
        "widths": (256, 128, 64, 32, 16),
        "places": (16, 16),
    },
}


def trans_unet(
    input_shape: Sequence[int | None] = (224, 224, 3),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.1,
    normalization: str | None = "batch",
    *,
    units: Sequence[int] = (3, 4, 9),
    hidden: int = 768,
    mlp: int = 3072,
    heads: int = 12,
    blocks: int = 12,
    widths: Sequence[int] = (512, 256, 128, 64, 16),
    places: Sequence[int] | None = None,
) -> keras.Model:
    """Build the TransUNet: a residual encoder, a vision transformer, a U-Net's decoder.

    The encoder is a ResNet with standardised kernels and group normalisation. What it
    sees at its lowest resolution, each pixel a token that knows its place, passes the
    transformer; a decoder with skips leads back up. The defaults are the authors'
    R50-ViT-B_16: 105,279,961 parameters with 9 classes, of which 105,277,081 are
    trained. The transformer looks at the whole image, and learns its places; to an
    image of another size they are stretched, as the authors stretch those of the
    vision transformer that they begin with.

    Args:
        input_shape: Height, width and channels; both sizes are multiples of `2**depth`,
            or None. The authors repeat a single channel three times; here it has own
            kernels.
        classes: Channels of the output.
        filters: Filters of the encoder's first convolution; its stage `n` of residual
            units ends with `filters * 2**(n + 1)`.
        depth: How often the resolution is halved: by the first convolution, by the
            pooling ahead of the first stage, and by each further stage.
        dropout: Rate of dropout of the tokens and in the dense layers of the
            transformer. Default 0.1.
        normalization: "batch" (default), "group", "instance", "layer" or None, of the
            decoder. Encoder and transformer keep what belongs to them.
        units: Residual units of each stage of the encoder, at least `depth - 1`.
        hidden: Width of the transformer.
        mlp: Width between the two dense layers of a block.
        heads: Heads of the attention, which share the width equally.
        blocks: Blocks of the transformer.
        widths: Filters below the decoder, then of its levels from the lowest to full
            resolution, at least `depth + 1`; a smaller decoder takes the last.
        places: Rows and columns of places that are learned. Default: one for each
            token of `input_shape`; where that leaves sizes open, (14, 14), as of
            224 pixels at depth 4.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> tiny = dict(units=(1,), hidden=8, mlp=16, heads=2, blocks=1)
        >>> trans_unet((32, 48, 1), filters=4, depth=2, **tiny).output_shape
        (None, 32, 48, 2)

    Reference:
        Chen, Lu, Yu, Luo, Adeli, Wang, Lu, Yuille, Zhou: TransUNet: Transformers Make
        Strong Encoders for Medical Image Segmentation, 2021,
        https://arxiv.org/abs/2102.04306
    """
    # === Check ===
    shape = _blocks.check_arguments(
        input_shape,
        classes=classes,
        filters=filters,
        depth=depth,
        dropout=dropout,
        dropout_at="all",
        normalization=normalization,
    )
    own = {"hidden": hidden, "mlp": mlp, "heads": heads, "blocks": blocks}
    for argument, value in own.items():
        _blocks.check_count(argument, value)
    if hidden % heads:
        message = f"`hidden` must be a multiple of `heads` {heads}. Received: {hidden}."
        raise errors.InputError(message)
    _check_counts("units", units, depth - 1)
    _check_counts("widths", widths, depth + 1)
    _blocks.check_halving(shape, depth)
    if places is None:
        places = (14, 14)
        if None not in shape:
            places = [size // 2**depth for size in shape[:-1]]
    if isinstance(places, numbers.Number | str) or len(places) != 2:
        message = f"`places` must be two numbers, rows and columns. Received: {places}."
        raise errors.InputError(message)
    _check_counts("places", places, 2)

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = _standardized(inputs, filters, 7, 2, "encoder0_conv")
    x = _group_norm(x, "encoder0_norm")
    x = keras.layers.Activation("relu", name="encoder0_relu")(x)
    skips = [x]
    for level in range(1, depth):
        if level == 1:
            x = keras.layers.MaxPooling2D(3, 2, name="encoder1_pool")(x)
        for number in range(units[level - 1]):
            strides = 2 if level > 1 and number == 0 else 1
            name = f"encoder{level}_unit{number}"
            x = _bottleneck(x, filters * 2 ** (level + 1), strides, name)
        skips.append(x)
        if level == 1:
            # The pooling, not padded as in the release, lost a row and a column.
            lost = keras.layers.ZeroPadding2D(((0, 1), (0, 1)), name="encoder1_pad")
            skips[1] = lost(x)
            x = skips[1] if depth == 2 else x

    # === Transformer ===
    x = keras.layers.Conv2D(
        hidden, 1, kernel_initializer=_blocks.INITIALIZER, name="tokens"
    )(x)
    x = square = Places(places, name="places")(x)
    x = keras.layers.Reshape((-1, hidden), name="tokens_flat")(x)
    if dropout:
        x = keras.layers.Dropout(dropout, name="tokens_dropout")(x)
    for number in range(blocks):
        x = _transform(x, mlp, heads, dropout, f"block{number}")
    x = _layer_norm("tokens_norm")(x)
    x = Square(name="tokens_square")([x, square])

    # === Decoder ===
    def convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            use_bias=normalization is None,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{name}_conv",
        )(x)
        if normalization is not None:
            x = _blocks.norm_layer(normalization, filters, name=f"{name}_norm")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    x = convolve(x, widths[-depth - 1], "bottom")
    for level in reversed(range(depth)):
        x = _blocks.AlignedUpsampling(name=f"up{level}")(x)
        if level:
            # The encoder's first features are at half the resolution already.
            join = keras.layers.Concatenate(name=f"concat{level}")
            x = join([x, skips[level - 1]])
        for number in (1, 2):
            x = convolve(x, widths[-level - 1], f"decoder{level}_{number}")
    return keras.Model(inputs, _blocks.logits(x, classes, size=3), name="trans_unet")


def _check_counts(argument: str, values: Sequence[int], at_least: int) -> None:
    if isinstance(values, numbers.Number | str) or len(values) < at_least:
        message = (
            f"`{argument}` must be at least {at_least} numbers for this `depth`. "
            f"Received: {values!r}."
        )
        raise errors.InputError(message)
    for number, value in enumerate(values):
        _blocks.check_count(f"{argument}[{number}]", value)


# === Encoder ===


def _standardized(
    x: keras.KerasTensor, filters: int, size: int, strides: int, name: str
) -> keras.KerasTensor:
    if size > 1:
        # By hand: with strides, "same" would not pad both sides alike.
        x = keras.layers.ZeroPadding2D(size // 2, name=f"{name}_pad")(x)
    return StandardizedConv2D(
        filters,
        size,
        strides,
        use_bias=False,
        kernel_initializer=_blocks.INITIALIZER,
        name=name,
    )(x)


def _group_norm(x: keras.KerasTensor, name: str, groups: int = 32) -> keras.KerasTensor:
    # Groups of one channel have a larger epsilon in the release.
    groups = math.gcd(groups, x.shape[-1])
    epsilon = 1e-5 if name.endswith("shortcut_norm") else 1e-6
    return keras.layers.GroupNormalization(groups, epsilon=epsilon, name=name)(x)


def _bottleneck(
    x: keras.KerasTensor, filters: int, strides: int, name: str
) -> keras.KerasTensor:
    """Narrow to a quarter, convolve, widen, and add to what came in."""
    around = x
    if strides != 1 or x.shape[-1] != filters:
        around = _standardized(x, filters, 1, strides, f"{name}_shortcut")
        around = _group_norm(around, f"{name}_shortcut_norm", groups=filters)
    plan = ((filters // 4, 1, 1), (filters // 4, 3, strides), (filters, 1, 1))
    for number, (width, size, steps) in enumerate(plan, 1):
        x = _standardized(x, width, size, steps, f"{name}_conv{number}")
        x = _group_norm(x, f"{name}_norm{number}")
        if number < 3:
            x = keras.layers.Activation("relu", name=f"{name}_relu{number}")(x)
    x = keras.layers.Add(name=f"{name}_add")([around, x])
    return keras.layers.Activation("relu", name=f"{name}_relu3")(x)


@keras.saving.register_keras_serializable("unet_zoo")
class StandardizedConv2D(keras.layers.Conv2D):
    """Convolve with kernels brought to mean 0 and variance 1 each."""

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        mean, variance = keras.ops.moments(
            keras.ops.cast(kernel, "float32"), axes=(0, 1, 2), keepdims=True
        )
        standard = (kernel - mean) / keras.ops.sqrt(variance + 1e-5)
        return super().convolution_op(inputs, keras.ops.cast(standard, inputs.dtype))


# === Transformer ===


def _layer_norm(name: str) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(epsilon=1e-6, name=name)


def _transform(
    x: keras.KerasTensor, mlp: int, heads: int, dropout: float, name: str
) -> keras.KerasTensor:
    width = x.shape[-1]

    def drop(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        if not dropout:
            return x
        return keras.layers.Dropout(dropout, name=f"{name}_dropout{number}")(x)

    around, x = x, _layer_norm(f"{name}_norm1")(x)
    attention = keras.layers.MultiHeadAttention(
        heads, width // heads, name=f"{name}_attention"
    )
    x = around = keras.layers.Add(name=f"{name}_add1")([around, attention(x, x)])
    x = keras.layers.Dense(mlp, name=f"{name}_dense1")(_layer_norm(f"{name}_norm2")(x))
    x = drop(keras.layers.Activation("gelu", name=f"{name}_gelu")(x), 1)
    x = drop(keras.layers.Dense(width, name=f"{name}_dense2")(x), 2)
    return keras.layers.Add(name=f"{name}_add2")([around, x])


@keras.saving.register_keras_serializable("unet_zoo")
class Places(keras.layers.Layer):
    """Add to each token, of `(batch, Y, X, channel)`, what is learned of its place.

    Args:
        grid: Rows and columns that are learned; to other sizes they are stretched,
            bilinearly.
    """

    def __init__(self, grid: Sequence[int], **options: Any) -> None:
        super().__init__(**options)
        self.grid = tuple(grid)

    def build(self, input_shape: _blocks.Shape) -> None:
        rows, columns = self.grid
        self.places = self.add_weight(
            name="places", shape=(rows * columns, input_shape[-1]), initializer="zeros"
        )

    def call(self, x: Any) -> Any:
        ops = keras.ops
        grid = ops.reshape(self.places, (*self.grid, x.shape[-1]))
        if tuple(x.shape[1:3]) == self.grid:
            return x + grid
        down, across = (
            _stretch(size, count)
            for size, count in zip(ops.shape(x)[1:3], self.grid, strict=True)
        )
        # Rows first, then columns: (Y, rows) by (rows, columns, C), and so on.
        grid = ops.tensordot(ops.cast(down, grid.dtype), grid, 1)
        grid = ops.tensordot(ops.cast(across, grid.dtype), grid, ((1,), (1,)))
        return x + ops.transpose(grid, (1, 0, 2))

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "grid": self.grid}


def _stretch(size: Any, count: int) -> Any:
    """Return how much of each of `count` places each of `size` tokens has, in rows."""
    ops = keras.ops
    scale = count / ops.cast(size, "float32")
    at = (ops.cast(ops.arange(size), "float32") + 0.5) * scale - 0.5
    at = ops.clip(at, 0.0, count - 1.0)
    away = ops.abs(at[:, None] - ops.arange(count, dtype="float32"))
    return ops.maximum(1.0 - away, 0.0)


@keras.saving.register_keras_serializable("unet_zoo")
class Square(keras.layers.Layer):
    """Give tokens, of `(batch, token, channel)`, the rows of another tensor."""

    def call(self, inputs: Sequence[Any]) -> Any:
        tokens, like = inputs
        return keras.ops.reshape(tokens, keras.ops.shape(like))

    def compute_output_shape(
        self, input_shape: Sequence[_blocks.Shape]
    ) -> _blocks.Shape:
        return input_shape[1]
