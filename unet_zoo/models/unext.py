"""The UNeXt of Valanarasu and Patel: convolutions above, shifted MLPs below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "UNeXt",
    "paper": "https://arxiv.org/abs/2203.04967",
    "year": 2022,
}

# Of PyTorch's normalisation, which the paper's network was trained with.
EPSILON = 1e-5


def unext(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 16,
    depth: int = 5,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    multipliers: Sequence[int] = (1, 2, 8, 10, 16),
    shifts: int = 5,
) -> keras.Model:
    """Build the UNeXt: few convolutions, and MLPs that look aside by shifted channels.

    The upper levels are one 3x3 convolution each; the last two are tokenised: an
    overlapping patch embedding, then a residual block of two dense layers, where
    groups of channels are shifted along the height before the first and along the
    width before the second. The decoder mirrors this, and adds the skips. The defaults
    are the authors' release: 1,472,945 parameters with 3 channels and one class, of
    which 1,471,921 are trained. Their small network (253,913; 253,561) has `filters=8,
    multipliers=(1, 2, 4, 8, 16)`. The release takes 3 channels only; this takes any.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters of the first level.
        depth: How often the resolution is halved; with fewer than the 5 of the paper
            the levels are the first ones, and still the last two are tokenised.
        dropout: Rate of dropout after each dense layer of a block. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, of the
            convolutions. The tokens keep their layer normalisation.
        multipliers: Filters of each level in multiples of `filters`, at least `depth`
            of them.
        shifts: Into how many groups a block divides the channels; the middle group
            stays in place, its neighbours move by one pixel, and so on.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> unext((64, 96, 3), classes=1, filters=4).output_shape
        (None, 64, 96, 1)

    Reference:
        Valanarasu, Patel: UNeXt: MLP-based Rapid Medical Image Segmentation Network,
        2022, https://arxiv.org/abs/2203.04967
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
    for number, multiplier in enumerate(multipliers):
        _blocks.check_count(f"multipliers[{number}]", multiplier)
    if len(multipliers) < depth:
        message = (
            f"`multipliers` must have one number for each of the {depth} levels. "
            f"Received: {multipliers!r}. Give more, or a smaller `depth`."
        )
        raise errors.InputError(message)
    _blocks.check_count("shifts", shifts)
    _blocks.check_halving(shape, depth)
    widths = [filters * multiplier for multiplier in multipliers[:depth]]

    # === Layers ===
    def convolve(
        x: keras.KerasTensor, filters: int, stage: str, *, normalize: bool = True
    ) -> keras.KerasTensor:
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_conv",
        )(x)
        if normalize and normalization is not None:
            x = _blocks.norm_layer(normalization, filters, name=f"{stage}_norm")(x)
        return x

    def embed(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        # Padded by hand: "same" with strides would leave out the upper left corner.
        x = keras.layers.ZeroPadding2D(1, name=f"{stage}_pad")(x)
        x = keras.layers.Conv2D(
            filters,
            3,
            strides=2,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_embed",
        )(x)
        return _layer_norm(f"{stage}_embed_norm")(x)

    def mix(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        return _shifted_block(x, shifts, dropout, stage)

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level, width in enumerate(widths):
        stage = f"encoder{level}" if level < depth - 1 else "bottom"
        if level < depth - 2:
            x = convolve(x, width, stage)
            x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
            x = keras.layers.Activation("relu", name=f"{stage}_relu")(x)
        else:
            x = mix(embed(x, width, stage), stage)
            x = _layer_norm(f"{stage}_out_norm")(x)
        skips.append(x)

    # === Decoder ===
    for level in reversed(range(depth)):
        # The skip of level n was halved n times: the last step up meets none.
        stage = f"decoder{level}"
        x = convolve(x, widths[max(level - 1, 0)], stage, normalize=level > 0)
        x = _blocks.BilinearUpsampling(2, name=f"up{level}")(x)
        x = keras.layers.Activation("relu", name=f"{stage}_relu")(x)
        if level > 0:
            x = keras.layers.Add(name=f"{stage}_join")([x, skips[level - 1]])
        if level > max(depth - 3, 0):
            x = _layer_norm(f"{stage}_out_norm")(mix(x, stage))
    return keras.Model(inputs, _blocks.logits(x, classes), name="unext")


def _layer_norm(name: str) -> keras.layers.Layer:
    return keras.layers.LayerNormalization(epsilon=EPSILON, name=name)


def _shifted_block(
    x: keras.KerasTensor, shifts: int, dropout: float, stage: str
) -> keras.KerasTensor:
    width = x.shape[-1]

    def dense(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        return keras.layers.Dense(
            width,
            kernel_initializer=keras.initializers.TruncatedNormal(stddev=0.02),
            name=f"{stage}_dense{number}",
        )(x)

    def drop(x: keras.KerasTensor, number: int) -> keras.KerasTensor:
        if not dropout:
            return x
        return keras.layers.Dropout(dropout, name=f"{stage}_dropout{number}")(x)

    around = x
    x = _layer_norm(f"{stage}_mlp_norm")(x)
    x = Shift(axis=1, groups=shifts, name=f"{stage}_shift_height")(x)
    x = keras.layers.DepthwiseConv2D(
        3,
        padding="same",
        depthwise_initializer=_blocks.depthwise_initializer(2.0),
        name=f"{stage}_depthwise",
    )(dense(x, 1))
    x = drop(keras.layers.Activation("gelu", name=f"{stage}_gelu")(x), 1)
    x = Shift(axis=2, groups=shifts, name=f"{stage}_shift_width")(x)
    x = drop(dense(x, 2), 2)
    return keras.layers.Add(name=f"{stage}_add")([x, around])


@keras.saving.register_keras_serializable("unet_zoo")
class Shift(keras.layers.Layer):
    """Shift groups of channels along one axis by different numbers of pixels.

    Args:
        axis: 1 for height, 2 for width.
        groups: How many groups, as equal as can be; the first moves back by
            `groups // 2` pixels, the last forward. What comes in from outside is zero.

    >>> import numpy as np
    >>> image = np.arange(1.0, 5.0).reshape(1, 4, 1, 1).repeat(3, axis=-1)
    >>> moved = keras.ops.convert_to_numpy(Shift(axis=1, groups=3)(image))
    >>> moved[0, :, 0, :].astype(int).T.tolist()
    [[2, 3, 4, 0], [1, 2, 3, 4], [0, 1, 2, 3]]
    """

    def __init__(self, axis: int, groups: int, **options: Any) -> None:
        super().__init__(**options)
        self.axis = axis
        self.groups = groups

    def call(self, x: Any) -> Any:
        reach = self.groups // 2
        padding = [[0, 0]] * 4
        padding[self.axis] = [reach, reach]
        padded = keras.ops.pad(x, padding)
        size = -(-x.shape[-1] // self.groups)
        moved = []
        for group in range(-(-x.shape[-1] // size)):
            # A window of the padded image's size less 2 * reach.
            start = 2 * reach - group
            window = slice(start, start - 2 * reach or None)
            index = [slice(None)] * 3 + [slice(group * size, (group + 1) * size)]
            index[self.axis] = window
            moved.append(padded[tuple(index)])
        return keras.ops.concatenate(moved, axis=-1)

    def compute_output_shape(self, input_shape: _blocks.Shape) -> _blocks.Shape:
        return input_shape

    def get_config(self) -> dict[str, Any]:
        return super().get_config() | {"axis": self.axis, "groups": self.groups}
