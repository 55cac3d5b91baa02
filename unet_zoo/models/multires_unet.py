"""The MultiResUNet of Ibtehaz and Rahman, for images and volumes."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "MultiResUNet",
    "paper": "https://arxiv.org/abs/1902.04049",
    "year": 2019,
    "ranks": (2, 3),
}

# How a level's filters are shared out among its three convolutions in sequence.
SHARES = (0.167, 0.333, 0.5)


def multires_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 32,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    alpha: float = 1.67,
    normalize_logits: bool = True,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the MultiResUNet: levels that see 3x3, 5x5 and 7x7, skips that convolve.

    A level is three 3x3 convolutions in sequence, whose outputs are joined (the later
    see as much as larger kernels would) and added to a 1x1 convolution of the input.
    A skip passes residual 3x3 convolutions on its way, the more the higher its level.
    Max-pooling leads down, a transposed 2x2 convolution up. The defaults are the
    authors' Keras code, with the count of the paper: 7,262,750 parameters with 3
    channels and one class; volumes are their MultiResUNet3D.

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free;
            else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters of a U-Net at full resolution; level `n` shares out
            `alpha * filters * 2**n` among its convolutions.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance" or "layer", in place of
            the bias; None for biases only.
        alpha: Filters in relation to those of a U-Net: the alpha (or W) of the paper.
        normalize_logits: With "batch", normalise the output too, in place of its
            bias, as the authors' code does. Over a batch each class then has mean
            around a learnt value and variance 1, so that a model cannot become very
            sure: False gives a plain 1x1 convolution with bias.
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
        >>> multires_unet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Ibtehaz, Rahman: MultiResUNet: Rethinking the U-Net Architecture for Multimodal
        Biomedical Image Segmentation, 2019, https://arxiv.org/abs/1902.04049
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
    _check_alpha(alpha)
    _blocks.check_halving(shape, depth)
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def normalize(
        x: keras.KerasTensor, name: str, scale: bool = True
    ) -> keras.KerasTensor:
        if normalization is None:
            return x
        if normalization == "batch":
            return keras.layers.BatchNormalization(scale=scale, name=name)(x)
        return _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.Activation("relu", name=name)(x)

    def convolve(
        x: keras.KerasTensor, filters: int, stage: str, what: str, size: int = 3
    ) -> keras.KerasTensor:
        x = _blocks.of_rank("Conv", rank)(
            filters,
            size,
            padding="same",
            use_bias=normalization is None,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_{what}",
        )(x)
        # As in the authors' code, which leaves out the scale ahead of a ReLU or a sum.
        return normalize(x, f"{stage}_{what}_norm", scale=False)

    def multires(x: keras.KerasTensor, filters: int, stage: str) -> keras.KerasTensor:
        widths = [max(1, int(alpha * filters * share)) for share in SHARES]
        around = convolve(x, sum(widths), stage, "shortcut", size=1)
        seen = []
        for number, width in enumerate(widths, start=1):
            x = convolve(x, width, stage, f"conv{number}")
            x = activate(x, f"{stage}_relu{number}")
            seen.append(x)
        x = keras.layers.Concatenate(name=f"{stage}_concat")(seen)
        x = normalize(x, f"{stage}_norm1")
        x = keras.layers.Add(name=f"{stage}_add")([around, x])
        x = normalize(activate(x, f"{stage}_relu"), f"{stage}_norm2")
        if stage in dropping:
            name = f"{stage}_dropout"
            x = _blocks.dropout_layer(
                dropout, spatial=spatial_dropout, name=name, rank=rank
            )(x)
        return x

    def res_path(x: keras.KerasTensor, level: int) -> keras.KerasTensor:
        width = filters * 2**level
        for number in range(1, depth - level + 1):
            stage = f"skip{level}_{number}"
            around = convolve(x, width, stage, "shortcut", size=1)
            x = convolve(x, width, stage, "conv")
            x = activate(x, f"{stage}_relu1")
            x = keras.layers.Add(name=f"{stage}_add")([around, x])
            x = normalize(activate(x, f"{stage}_relu2"), f"{stage}_norm")
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    skips = []
    for level in range(depth):
        x = multires(x, filters * 2**level, f"encoder{level}")
        skips.append(res_path(x, level))
        x = _blocks.of_rank("MaxPooling", rank)(2, name=f"down{level}")(x)
    x = multires(x, filters * 2**depth, "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        width = filters * 2**level
        x = _blocks.of_rank("Conv", rank, "Transpose")(
            width,
            2,
            strides=2,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"up{level}",
        )(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = multires(x, width, f"decoder{level}")
    if normalize_logits and normalization == "batch":
        x = _blocks.of_rank("Conv", rank)(
            classes,
            1,
            use_bias=False,
            kernel_initializer=_blocks.INITIALIZER,
            dtype="float32",
            name="logits_conv",
        )(x)
        logits = keras.layers.BatchNormalization(
            scale=False, dtype="float32", name="logits"
        )(x)
    else:
        logits = _blocks.logits(x, classes)
    return keras.Model(inputs, logits, name="multires_unet")


def _check_alpha(value: Any) -> None:
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 < value < float("inf"):
        message = f"`alpha` must be a number above 0. Received: {value!r}."
        raise errors.InputError(message)
