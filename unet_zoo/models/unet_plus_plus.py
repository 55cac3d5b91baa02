"""The UNet++ of Zhou and others, and the smaller networks that it contains."""

from __future__ import annotations

import re
from collections.abc import Sequence

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "UNet++",
    "paper": "https://arxiv.org/abs/1807.10165",
    "year": 2018,
    "ranks": (2, 3),
}


def unet_plus_plus(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 32,
    depth: int = 4,
    dropout: float = 0.5,
    normalization: str | None = None,
    *,
    deep_supervision: bool = False,
    dropout_at: str = "all",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the UNet++: a decoder from every level, each fed by all before it.

    Node (i, j) stands at level `i`, `j` steps to the right of the encoder. It is two
    3x3 convolutions with ReLU, applied to what a transposed 2x2 convolution brings up
    from node (i + 1, j - 1) and to all nodes to its left. Nodes (i, 0) are the
    encoder, nodes (i, depth - i) the decoder of a U-Net; those between are called
    `nested<i>-<j>`. The defaults are the authors' Keras code: 9,041,601 parameters
    with one channel and one class. Its weight decay of 1e-4 is left to the training.

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free;
            else they must be multiples of `2**depth`.
        classes: Channels of each output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout after each convolution.
        normalization: "batch", "group", "instance" or "layer", between convolution
            and ReLU in place of the bias. Default None: biases only.
        deep_supervision: Give every node at full resolution its own output, so that
            the trained network can be cut down to a smaller one by `prune`.
        dropout_at: Where dropout goes: "all" (default); "encoder"; "decoder", the
            nested nodes included; "bottom", the last two levels of the encoder.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`, or with depth ahead of height.

    Output shape:
        `(batch, height, width, classes)`, or with depth, raw logits, float32. With
        `deep_supervision` a list: first `logits` of node (0, depth), which is all
        there is without, then `logits1` of node (0, 1), `logits2` of node (0, 2) and
        so on, all of one size.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> unet_plus_plus((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)
        >>> model = unet_plus_plus(filters=4, depth=3, deep_supervision=True)
        >>> model.output_names
        ['logits', 'logits1', 'logits2']

    Reference:
        Zhou, Siddiquee, Tajbakhsh, Liang: UNet++: A Nested U-Net Architecture for
        Medical Image Segmentation, 2018, https://arxiv.org/abs/1807.10165, and
        UNet++: Redesigning Skip Connections, 2019, https://arxiv.org/abs/1912.05074
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
    def convolve(x: keras.KerasTensor, level: int, stage: str) -> keras.KerasTensor:
        # Any stage of the decoder tells whether the nested nodes, part of it, drop.
        kind = "decoder0" if stage.startswith("nested") else stage
        for number in (1, 2):
            x = _blocks.of_rank("Conv", rank)(
                filters * 2**level,
                3,
                padding="same",
                use_bias=normalization is None,
                kernel_initializer=_blocks.INITIALIZER,
                name=f"{stage}_conv{number}",
            )(x)
            if normalization is not None:
                name = f"{stage}_norm{number}"
                x = _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)
            x = keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)
            if kind in dropping:
                name = f"{stage}_dropout{number}"
                x = _blocks.dropout_layer(
                    dropout, spatial=spatial_dropout, name=name, rank=rank
                )(x)
        return x

    def bring_up(x: keras.KerasTensor, level: int, stage: str) -> keras.KerasTensor:
        return _blocks.of_rank("Conv", rank, "Transpose")(
            filters * 2**level,
            2,
            strides=2,
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_up",
        )(x)

    # === Nodes ===
    inputs = x = keras.Input(shape, name="image")
    nodes: dict[tuple[int, int], keras.KerasTensor] = {}
    for level in range(depth):
        nodes[level, 0] = convolve(x, level, f"encoder{level}")
        x = _blocks.of_rank("MaxPooling", rank)(2, name=f"down{level}")(nodes[level, 0])
    nodes[depth, 0] = convolve(x, depth, "bottom")

    for step in range(1, depth + 1):
        for level in range(depth + 1 - step):
            last = level + step == depth
            stage = f"decoder{level}" if last else f"nested{level}-{step}"
            up = bring_up(nodes[level + 1, step - 1], level, stage)
            left = [nodes[level, before] for before in range(step)]
            x = keras.layers.Concatenate(name=f"{stage}_concat")([up, *left])
            nodes[level, step] = convolve(x, level, stage)

    # === Outputs ===
    outputs = [_blocks.logits(nodes[0, depth], classes)]
    if deep_supervision:
        for step in range(1, depth):
            head = _blocks.logits(nodes[0, step], classes, name=f"logits{step}")
            outputs.append(head)
    single = len(outputs) == 1
    return keras.Model(inputs, outputs[0] if single else outputs, name="unet_plus_plus")


def prune(model: keras.Model, level: int) -> keras.Model:
    """Return the part of a trained UNet++ that computes the output of `level`.

    It is a UNet++ of depth `level`: smaller and faster, with the very output that the
    whole network has at `logits<level>`. Of one channel and one class, by default,
    levels 1 to 4 have 100,961, 511,105, 2,204,961 and 9,041,601 parameters. Its layers
    are those of `model`: to train one is to change the other.

    Args:
        model: built by `unet_plus_plus` with `deep_supervision=True`.
        level: of the output to keep, 1 to the depth of `model`.

    Raises:
        InputError: There is no output of that level.

    Example:
        >>> model = unet_plus_plus(filters=4, depth=3, deep_supervision=True)
        >>> prune(model, 1).count_params() < model.count_params() / 10
        True

    Reference:
        Zhou and others: UNet++: Redesigning Skip Connections to Exploit Multiscale
        Features in Image Segmentation, 2019, https://arxiv.org/abs/1912.05074
    """
    names = {layer.name for layer in model.layers}
    depth = sum(re.fullmatch(r"encoder\d+_conv1", name) is not None for name in names)
    _blocks.check_count("level", level)
    head = "logits" if level == depth else f"logits{level}"
    if head not in names:
        known = [each for each in range(1, depth) if f"logits{each}" in names]
        message = (
            f"Model {model.name!r} has no output of level {level}. It has: "
            f"{', '.join(map(str, [*known, depth]))}. Build the model with "
            "`deep_supervision=True` to have one of every level up to its depth."
        )
        raise errors.InputError(message)
    output = model.get_layer(head).output
    return keras.Model(model.input, output, name=f"unet_plus_plus_{level}")
