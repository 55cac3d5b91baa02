"""The fully convolutional DenseNet of Jégou et al., known as the Tiramisu."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "FC-DenseNet (Tiramisu)",
    "paper": "https://arxiv.org/abs/1611.09326",
    "year": 2016,
}

# The paper's choice, where the other variants draw from a normal distribution.
INITIALIZER = "he_uniform"


def dense_unet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 48,
    depth: int = 5,
    dropout: float = 0.2,
    normalization: str | None = "batch",
    *,
    layers: int | Sequence[int] = (4, 5, 7, 10, 12, 15),
    growth: int = 16,
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the FC-DenseNet: each layer sees what all layers before it made.

    A layer is normalisation, ReLU, 3x3 convolution and dropout, and joins its `growth`
    channels to its input. A 1x1 convolution of all channels and max-pooling lead down.
    Only what a level has newly made is led up, by a transposed 3x3 convolution.

    The defaults are FC-DenseNet103, named after its convolutions; `layers=5` is
    FC-DenseNet67, and `layers=4, growth=12` is FC-DenseNet56. The paper gives 9.4, 3.5
    and 1.5 million parameters, and its code (SimJeg/FC-DenseNet), followed here, no
    exact count. With 3 channels and 11 classes these have 9,425,163, 3,502,923 and
    1,397,963, the statistics of normalisation included, as that code counts them.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters of the first convolution.
        depth: How often the resolution is halved.
        dropout: Rate of dropout after every convolution but the first and the last.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        layers: Layers of each level, from full resolution to the lowest, alike on the
            way up; levels beyond the last have as many as the last. A single number
            is for all levels.
        growth: Channels that each layer adds.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> dense_unet((64, 80, 3), classes=1, depth=2, layers=2).output_shape
        (None, 64, 80, 1)

    Reference:
        Jégou, Drozdzal, Vazquez, Romero, Bengio: The One Hundred Layers Tiramisu:
        Fully Convolutional DenseNets for Semantic Segmentation, 2016,
        https://arxiv.org/abs/1611.09326
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
    counts = _checked_layers(layers)
    _blocks.check_count("growth", growth)
    _blocks.check_halving(shape, depth)

    # === Layers ===
    def convolve(
        x: keras.KerasTensor, filters: int, size: int, stage: str, number: str
    ) -> keras.KerasTensor:
        if normalization is not None:
            name = f"{stage}_norm{number}"
            x = _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)
        x = keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)
        x = keras.layers.Conv2D(
            filters,
            size,
            padding="same",
            kernel_initializer=INITIALIZER,
            name=f"{stage}_conv{number}",
        )(x)
        if not dropout:
            return x
        name = f"{stage}_dropout{number}"
        return _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)

    def grow(
        x: keras.KerasTensor, level: int, stage: str
    ) -> tuple[keras.KerasTensor, list[keras.KerasTensor]]:
        """Return all channels, and apart those that the level has added."""
        added = []
        for number in range(1, counts[min(level, len(counts) - 1)] + 1):
            added.append(convolve(x, growth, 3, stage, str(number)))
            x = keras.layers.Concatenate(name=f"{stage}_concat{number}")([x, added[-1]])
        return x, added

    # === Encoder ===
    inputs = keras.Input(shape, name="image")
    x = keras.layers.Conv2D(
        filters, 3, padding="same", kernel_initializer=INITIALIZER, name="stem"
    )(inputs)
    skips = []
    for level in range(depth):
        x, _ = grow(x, level, f"encoder{level}")
        skips.append(x)
        x = convolve(x, x.shape[-1], 1, f"down{level}", "")
        x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)
    x, added = grow(x, depth, "bottom")

    # === Decoder ===
    for level in reversed(range(depth)):
        x = added[0]
        if len(added) > 1:
            x = keras.layers.Concatenate(name=f"up{level}_concat")(added)
        x = keras.layers.Conv2DTranspose(
            x.shape[-1],
            3,
            strides=2,
            padding="same",
            kernel_initializer=INITIALIZER,
            name=f"up{level}",
        )(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x, added = grow(x, level, f"decoder{level}")
    return keras.Model(inputs, _blocks.logits(x, classes), name="dense_unet")


def _checked_layers(layers: Any) -> list[int]:
    counts = list(layers) if isinstance(layers, Sequence) else [layers]
    if not counts or isinstance(layers, str):
        message = (
            "`layers` must be a whole number, or one for each level. "
            f"Received: {layers!r}."
        )
        raise errors.InputError(message)
    for level, count in enumerate(counts):
        _blocks.check_count(
            "layers" if counts == [layers] else f"layers[{level}]", count
        )
    return counts
