"""The Swin-Unet of Cao and others: a U-Net of window attention, no convolutions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "Swin-Unet",
    "paper": "https://arxiv.org/abs/2105.05537",
    "year": 2021,
    # Divided by the three heads; windows of 4, so that 256 pixels fit at depth 4.
    "recipe": {"filters": 24, "window": 4},
    # OpenVINO's converter fixes the number of windows of an image.
    "engines": ("keras", "onnx"),
}

INITIALIZER = keras.initializers.TruncatedNormal(stddev=0.02)


def swin_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 96,
    depth: int = 3,
    dropout: float = 0.0,
    normalization: str | None = "layer",
    *,
    patch: int = 4,
    window: int = 7,
    heads: int = 3,
    blocks: int | Sequence[int] = 2,
    drop_path: float = 0.2,
) -> keras.Model:
    """Build the Swin-Unet: attention within windows that every other block shifts.

    An image is cut into patches, each a token. Every stage is pairs of transformer
    blocks: attention within windows, then within windows shifted by half of one; how
    strongly two tokens attend also depends on their offset, which is learned. Merging
    2x2 tokens leads down, the reverse leads up. The defaults are the authors' tiny
    network: with 3 channels and 9 classes 27,168,900 parameters. As in their code,
    whose text does not say, a skip starts ahead of its stage's blocks.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `patch * 2**depth * window`, by
            default of 224.
        classes: Channels of the output.
        filters: Width of a token of the first stage; stage `n` has `filters * 2**n`.
        depth: How often tokens are merged.
        dropout: Rate of dropout of the patches, and in each block after the attention
            and the dense layers. Default 0.
        normalization: "layer" (default), "batch", "group", "instance" or None.
        patch: Height and width of the patches.
        window: Height and width of the windows, in tokens. Where an axis has a single
            window, nothing is shifted.
        heads: Heads of the attention in the first stage; they double where tokens do.
        blocks: Blocks of each stage, one number for all or `depth + 1` of them; the
            decoder has as many as the encoder.
        drop_path: In training, the chance of an image to skip one half of the last
            block of the lowest stage; from 0 in the first block it rises evenly.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> swin_unet((32, 48, 3), filters=4, depth=1, window=2, heads=1).output_shape
        (None, 32, 48, 2)

    Reference:
        Cao, Wang, Chen, Jiang, Zhang, Tian, Wang: Swin-Unet: Unet-like Pure Transformer
        for Medical Image Segmentation, 2021, https://arxiv.org/abs/2105.05537
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
    for argument, value in (("patch", patch), ("window", window), ("heads", heads)):
        _blocks.check_count(argument, value)
    _blocks.check_rate("drop_path", drop_path)
    if filters % heads:
        message = (
            f"`filters` must be a multiple of `heads` {heads}. Received: {filters}."
        )
        raise errors.InputError(message)
    counts = _checked_blocks(blocks, depth)
    _check_sizes(shape, patch * 2**depth * window)

    # === Layers ===
    def normalize(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if normalization is None:
            return x
        if normalization == "layer":
            return keras.layers.LayerNormalization(epsilon=1e-5, name=name)(x)
        return _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)

    def dense(
        x: keras.KerasTensor, width: int, name: str, *, use_bias: bool = True
    ) -> keras.KerasTensor:
        # The small weights of the paper count on normalisation; else tokens fade.
        initializer = INITIALIZER if normalization else _blocks.INITIALIZER
        return keras.layers.Dense(
            width, use_bias=use_bias, kernel_initializer=initializer, name=name
        )(x)

    def drop(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Dropout(dropout, name=name)(x) if dropout else x

    def join(
        x: keras.KerasTensor, around: keras.KerasTensor, rate: float, name: str
    ) -> keras.KerasTensor:
        if rate:
            whole = (None, 1, 1, 1)
            x = keras.layers.Dropout(rate, noise_shape=whole, name=f"{name}_path")(x)
        return keras.layers.Add(name=name)([around, x])

    # Of each block of each stage of the encoder; the decoder's are the same.
    rates = [float(rate) for rate in np.linspace(0, drop_path, sum(counts))]

    def attend(x: keras.KerasTensor, level: int, part: str) -> keras.KerasTensor:
        width = filters * 2**level
        for number in range(counts[level]):
            rate = rates[sum(counts[:level]) + number]
            name = f"{part}_block{number}"
            around = x
            x = normalize(x, f"{name}_norm1")
            shift = window // 2 if number % 2 else 0
            attention = WindowAttention(
                heads * 2**level, window, shift, name=f"{name}_attention"
            )
            x = drop(attention(x), f"{name}_dropout1")
            x = around = join(x, around, rate, f"{name}_add1")
            x = dense(normalize(x, f"{name}_norm2"), 4 * width, f"{name}_dense1")
            x = keras.layers.Activation("gelu", name=f"{name}_gelu")(x)
            x = dense(drop(x, f"{name}_dropout2"), width, f"{name}_dense2")
            x = join(drop(x, f"{name}_dropout3"), around, rate, f"{name}_add2")
        return x

    def expand(
        x: keras.KerasTensor, factor: int, width: int, name: str
    ) -> keras.KerasTensor:
        x = dense(x, width * factor**2, f"{name}_dense", use_bias=False)
        return normalize(DepthToSpace(factor, name=name)(x), f"{name}_norm")

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(
        filters, patch, patch, kernel_initializer=_blocks.INITIALIZER, name="patches"
    )(inputs)
    x = drop(normalize(x, "patches_norm"), "patches_dropout")
    skips = []
    for level in range(depth):
        skips.append(x)
        x = attend(x, level, f"encoder{level}")
        x = normalize(SpaceToDepth(name=f"down{level}")(x), f"down{level}_norm")
        width = filters * 2 ** (level + 1)
        x = dense(x, width, f"down{level}_dense", use_bias=False)
    x = normalize(attend(x, depth, "bottom"), "bottom_norm")

    # === Decoder ===
    for level in reversed(range(depth)):
        x = expand(x, 2, filters * 2**level, f"up{level}")
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = dense(x, filters * 2**level, f"decoder{level}_dense")
        x = attend(x, level, f"decoder{level}")
    x = expand(normalize(x, "decoder_norm"), patch, filters, "pixels")
    outputs = _blocks.logits(x, classes, use_bias=False)
    return keras.Model(inputs, outputs, name="swin_unet")


def _checked_blocks(blocks: int | Sequence[int], depth: int) -> list[int]:
    if not isinstance(blocks, list | tuple):
        every: Any = blocks
        _blocks.check_count("blocks", every)
        return [every] * (depth + 1)
    for level, count in enumerate(blocks):
        _blocks.check_count(f"blocks[{level}]", count)
    if len(blocks) != depth + 1:
        message = (
            f"`blocks` must be a number or one for each of the {depth + 1} stages. "
            f"Received: {blocks!r}."
        )
        raise errors.InputError(message)
    return list(blocks)


def _check_sizes(shape: _blocks.Shape, step: int) -> None:
    sizes = shape[:-1]
    fitting = _blocks.multiples(sizes, step)
    if sizes != fitting:
        message = (
            f"`input_shape` {sizes} does not divide into windows: sizes must be "
            f"multiples of {step}. Pad to {fitting}."
        )
        raise errors.SizeError(message, fitting)


# === Attention ===


@keras.saving.register_keras_serializable("unet_zoo")
class WindowAttention(keras.layers.Layer):
    """Attend within windows of tokens, of an image `(batch, height, width, channels)`.

    Args:
        heads: of the attention; they share the channels equally.
        window: height and width of the windows, which must divide the image's.
        shift: by how much windows lie further down and right. What reaches over an
            edge does not meet what is at the opposite one.
    """

    def __init__(self, heads: int, window: int, shift: int = 0, **options: Any) -> None:
        super().__init__(**options)
        self.heads = heads
        self.window = window
        self.shift = shift
        # Row of the table for each pair of tokens of a window: their offset.
        places = np.indices((window, window)).reshape(2, -1).T
        offsets = places[:, None] - places[None] + window - 1
        self._pairs = offsets @ [2 * window - 1, 1]

    def build(self, input_shape: _blocks.Shape) -> None:
        channels = input_shape[-1]

        def dense(width: int, name: str) -> keras.layers.Dense:
            policy = self.dtype_policy
            return keras.layers.Dense(
                width, kernel_initializer=INITIALIZER, name=name, dtype=policy
            )

        self.inward = dense(3 * channels, "query_key_value")
        self.inward.build(input_shape)
        self.outward = dense(channels, "out")
        self.outward.build(input_shape)
        self.offsets = self.add_weight(
            name="offsets",
            shape=((2 * self.window - 1) ** 2, self.heads),
            initializer=INITIALIZER,
        )

    def call(self, x: Any) -> Any:
        ops = keras.ops
        height, width = ops.shape(x)[1:3]
        channels, tokens = x.shape[-1], self.window**2
        down, right = self._shift_of(height), self._shift_of(width)
        rows, columns = height // self.window, width // self.window

        x = ops.roll(ops.roll(self.inward(x), -down, axis=1), -right, axis=2)
        x = self._to_windows(x, rows, columns)
        x = ops.reshape(
            x, (-1, rows * columns, tokens, 3, self.heads, channels // self.heads)
        )
        query, key, value = ops.unstack(ops.transpose(x, (3, 0, 1, 4, 2, 5)), 3)

        # Of (batch, window, head, token, token).
        scores = ops.matmul(query, ops.swapaxes(key, -1, -2))
        scores = scores * (channels // self.heads) ** -0.5
        offsets = ops.take(self.offsets, self._pairs, axis=0)
        scores = scores + ops.transpose(offsets, (2, 0, 1))
        if self.shift:
            apart = self._apart(height, width, down, right)
            scores = scores + ops.cast(apart, scores.dtype)[:, None]
        x = ops.matmul(ops.softmax(scores), value)

        x = ops.transpose(x, (0, 1, 3, 2, 4))
        x = ops.reshape(x, (-1, rows, columns, self.window, self.window, channels))
        x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
        x = ops.reshape(x, (-1, height, width, channels))
        return self.outward(ops.roll(ops.roll(x, down, axis=1), right, axis=2))

    def _shift_of(self, size: Any) -> Any:
        # 0 where the size is that of one window. A number, or a tensor while
        # TensorFlow traces free sizes: this arithmetic does for both.
        return self.shift * (1 - 1 // (size // self.window))

    def _to_windows(self, x: Any, rows: Any, columns: Any) -> Any:
        """Return `x` as (batch, window, token, channels)."""
        side, channels = self.window, x.shape[-1]
        x = keras.ops.reshape(x, (-1, rows, side, columns, side, channels))
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4, 5))
        return keras.ops.reshape(x, (-1, rows * columns, side**2, channels))

    def _apart(self, height: Any, width: Any, down: Any, right: Any) -> Any:
        """Return -100 for pairs in a window that are no neighbours in the image."""
        ops = keras.ops

        def parts(size: Any, shift: Any) -> Any:
            # Only the last window has two parts; those before it are alike.
            return ops.cast(ops.arange(size) >= size - shift, "float32")

        ids = 2 * parts(height, down)[:, None] + parts(width, right)[None]
        rows, columns = height // self.window, width // self.window
        ids = self._to_windows(ids[None, :, :, None], rows, columns)[0, :, :, 0]
        differ = ops.not_equal(ids[:, :, None], ids[:, None, :])
        return -100.0 * ops.cast(differ, "float32")

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        own = {"heads": self.heads, "window": self.window, "shift": self.shift}
        return super().get_config() | own


# === Move between space and channels ===


@keras.saving.register_keras_serializable("unet_zoo")
class SpaceToDepth(keras.layers.Layer):
    """Put the four pixels of each 2x2 square one after the other, column by column."""

    def call(self, x: Any) -> Any:
        corners = [x[:, row::2, column::2] for column in (0, 1) for row in (0, 1)]
        return keras.ops.concatenate(corners, axis=-1)

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        batch, height, width, channels = input_shape
        return (batch, height and height // 2, width and width // 2, 4 * channels)


@keras.saving.register_keras_serializable("unet_zoo")
class DepthToSpace(keras.layers.Layer):
    """Make each pixel a square of `factor` times `factor`, row by row."""

    def __init__(self, factor: int, **options: Any) -> None:
        super().__init__(**options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        height, width = keras.ops.shape(x)[1:3]
        channels = x.shape[-1] // self.factor**2
        x = keras.ops.reshape(
            x, (-1, height, width, self.factor, self.factor, channels)
        )
        x = keras.ops.transpose(x, (0, 1, 3, 2, 4, 5))
        size = (height * self.factor, width * self.factor)
        return keras.ops.reshape(x, (-1, *size, channels))

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        batch, height, width, channels = input_shape
        grown = [size and size * self.factor for size in (height, width)]
        return (batch, *grown, channels // self.factor**2)

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"factor": self.factor}
