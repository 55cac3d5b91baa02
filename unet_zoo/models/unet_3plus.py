"""The UNet 3+ of Huang and others, with its deep supervision and classification."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "UNet 3+",
    "paper": "https://arxiv.org/abs/2004.08790",
    "year": 2020,
}


def unet_3plus(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 64,
    depth: int = 4,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    deep_supervision: bool = False,
    classification: bool = False,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the UNet 3+: every level of the decoder sees the whole network at once.

    The encoder is a U-Net's. A level of the decoder joins the encoder's levels above
    it, max-pooled to its size, the encoder's level beside it, and all of the decoder
    below it, enlarged bilinearly; a 3x3 convolution makes `filters` channels of each,
    another mixes all `filters * (depth + 1)`. The defaults are the authors' code:
    26,971,777 trained parameters, 26,984,833 with statistics, for 3 channels and 1
    class.

    The paper's classification-guided module is `classification`: two values, no and
    yes, say whether the image shows any object at all, and where "no" is larger every
    output is multiplied by 0, where "yes" is larger by 1. The values are returned as
    an output of their own, to be trained with the truth of that question (the paper:
    cross-entropy); the choice between them passes no gradient back. As in the authors'
    code it is the raw values that are multiplied. So an image without objects has
    logits of 0 throughout, which is background wherever a mask is a logit above 0 or
    the first largest of several.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of each output.
        filters: Filters at full resolution; level `n` of the encoder has
            `filters * 2**n`.
        depth: How often the resolution is halved.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, after
            every convolution, which keeps its bias.
        deep_supervision: Give each level an output, enlarged to the input's size.
        classification: Add the classification-guided module, with its dropout of 0.5.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of all that reads from them; "encoder",
            "decoder" and "all" end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32. With `deep_supervision`
        a list: first `logits` of the decoder at full resolution, which is all there is
        without, then `logits1`, `logits2`, ... of the levels below it, the bottom
        last, all of one size. With `classification` the list ends in
        `classification`, `(batch, 2)`, raw logits of no and yes, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> unet_3plus((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)
        >>> tiny = dict(filters=4, depth=2, deep_supervision=True)
        >>> unet_3plus((64, 80, 3), **tiny, classification=True).output_names
        ['logits', 'logits1', 'logits2', 'classification']

    Reference:
        Huang and others: UNet 3+: A Full-Scale Connected UNet for Medical Image
        Segmentation, 2020, https://arxiv.org/abs/2004.08790
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

    # === Layers ===
    def convolve(
        x: keras.KerasTensor, filters: int, stage: str, number: int | str
    ) -> keras.KerasTensor:
        x = keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{stage}_conv{number}",
        )(x)
        if normalization is not None:
            name = f"{stage}_norm{number}"
            x = _blocks.norm_layer(normalization, filters, name=name)(x)
        return keras.layers.Activation("relu", name=f"{stage}_relu{number}")(x)

    def end(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        if stage not in dropping:
            return x
        name = f"{stage}_dropout"
        return _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)

    def resize(x: keras.KerasTensor, down: int, name: str) -> keras.KerasTensor:
        """Halve `x` as often as `down` says, or double it where that is negative."""
        if down > 0:
            return keras.layers.MaxPooling2D(2**down, name=name)(x)
        if down < 0:
            return _blocks.BilinearUpsampling(2**-down, name=name)(x)
        return x

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    # What the decoder sees of each level: the encoder's, until it has made its own.
    seen: list[tuple[str, keras.KerasTensor]] = []
    for level in range(depth + 1):
        stage = "bottom" if level == depth else f"encoder{level}"
        for number in (1, 2):
            x = convolve(x, filters * 2**level, stage, number)
        x = end(x, stage)
        seen.append((stage, x))
        if level < depth:
            x = keras.layers.MaxPooling2D(2, name=f"down{level}")(x)

    # === Decoder ===
    for level in reversed(range(depth)):
        stage = f"decoder{level}"
        parts = []
        for other, (source, x) in enumerate(seen):
            x = resize(x, level - other, f"{stage}_resize_{source}")
            parts.append(convolve(x, filters, stage, f"_{source}"))
        x = keras.layers.Concatenate(name=f"{stage}_concat")(parts)
        x = convolve(x, filters * (depth + 1), stage, "")
        seen[level] = (stage, end(x, stage))

    # === Outputs ===
    answer = _classify(seen[depth][1]) if classification else None
    outputs = []
    for level in range(depth + 1 if deep_supervision else 1):
        steps = ["conv"]
        steps += ["resize"] if level else []
        steps += ["gate"] if classification else []
        # The last step has the name of the output, whatever it is.
        name = f"logits{level or ''}"
        names = {step: f"{name}_{step}" for step in steps} | {steps[-1]: name}
        x = _blocks.logits(seen[level][1], classes, size=3, name=names["conv"])
        if level:
            name_up = names["resize"]
            x = _blocks.BilinearUpsampling(2**level, dtype="float32", name=name_up)(x)
        if answer is not None:
            x = PresenceGate(dtype="float32", name=names["gate"])([x, answer])
        outputs.append(x)
    if answer is not None:
        outputs.append(answer)
    single = len(outputs) == 1
    return keras.Model(inputs, outputs[0] if single else outputs, name="unet_3plus")


def _classify(x: keras.KerasTensor) -> keras.KerasTensor:
    """Return raw values for "there is no object" and "there is one", per image."""
    x = keras.layers.Dropout(0.5, name="classification_dropout")(x)
    x = _blocks.logits(x, 2, name="classification_conv")
    pool = keras.layers.GlobalMaxPooling2D(dtype="float32", name="classification")
    return pool(x)


@keras.saving.register_keras_serializable("unet_zoo")
class PresenceGate(keras.layers.Layer):
    """Let maps of images pass where an object is said to be there, else zero them.

    Called on `[maps, answer]`: maps `(batch, height, width, channels)` and the values
    `(batch, 2)` of no and yes, of which the larger counts.

    >>> import numpy as np
    >>> maps, answer = np.ones((2, 1, 1, 1)), np.array([[0.0, 3.0], [-1.0, -2.0]])
    >>> [float(value) for value in PresenceGate()([maps, answer])[:, 0, 0, 0]]
    [1.0, 0.0]
    """

    def call(self, inputs: Sequence[Any]) -> Any:
        maps, answer = inputs
        present = keras.ops.cast(keras.ops.argmax(answer, axis=-1), maps.dtype)
        return maps * keras.ops.reshape(present, (-1, 1, 1, 1))

    def compute_output_shape(self, input_shape: Sequence[_blocks.Shape]) -> Any:
        return input_shape[0]
