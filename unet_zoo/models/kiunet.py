"""The KiU-Net of Valanarasu and others: one branch down, one branch up."""

from __future__ import annotations

from collections.abc import Sequence

import keras

from unet_zoo.models import _blocks

INFO = {
    "title": "KiU-Net",
    "paper": "https://arxiv.org/abs/2006.04878",
    "year": 2020,
}


def kiunet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 16,
    depth: int = 3,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the KiU-Net: beside a U-Net runs a branch that enlarges the image instead.

    The U branch sees more at every level, the Ki branch sees fine detail: where the one
    halves the resolution the other doubles it, up to `2**depth` times the image's, so
    time and memory are many times those of other networks of its few parameters. After
    each level but the last both branches add to theirs what the other has
    found, by a 3x3 convolution and bilinear interpolation. The defaults are the
    authors' release: 217,858 parameters, of which 216,546 are trained. Counted are
    often 292,226 and 290,658: the release also creates, and never uses, convolutions
    and normalisations of 74,368 and 74,112. Its ReLU on the logits is left out.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters of the first level of both branches; level `n` has
            `filters * 2**n`, and the last level of the decoder half of `filters`.
        depth: How often the resolution is halved, and doubled.
        dropout: Rate of dropout. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None.
        dropout_at: Where dropout goes, in both branches: "bottom" (default) ends the
            last two levels of the encoder; "encoder", "decoder" and "all" end each of
            their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> kiunet((24, 40, 3), classes=1, filters=4, depth=2).output_shape
        (None, 24, 40, 1)

    Reference:
        Valanarasu, Sindagi, Hacihaliloglu, Patel: KiU-Net: Towards Accurate
        Segmentation of Biomedical Images using Over-complete Representations, 2020,
        https://arxiv.org/abs/2006.04878
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
    dropping = _stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        return keras.layers.Conv2D(
            filters,
            3,
            padding="same",
            kernel_initializer=_blocks.INITIALIZER,
            name=f"{name}_conv",
        )(x)

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        if normalization is not None:
            x = _blocks.norm_layer(normalization, x.shape[-1], name=f"{name}_norm")(x)
        return keras.layers.Activation("relu", name=f"{name}_relu")(x)

    def step(
        x: keras.KerasTensor, filters: int, stage: str, branch: str, *, grow: bool
    ) -> keras.KerasTensor:
        name = f"{stage}_{branch}"
        x = convolve(x, filters, name)
        if grow:
            x = _enlarge(x, 2, f"{name}_up")
        else:
            x = keras.layers.MaxPooling2D(2, name=f"{name}_down")(x)
        x = activate(x, name)
        if stage in dropping:
            name = f"{name}_dropout"
            x = _blocks.dropout_layer(dropout, spatial=spatial_dropout, name=name)(x)
        return x

    def exchange(
        u: keras.KerasTensor, ki: keras.KerasTensor, factor: int, stage: str
    ) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        # Both are told before either is changed.
        name = f"{stage}_u_from_ki"
        to_u = activate(convolve(ki, ki.shape[-1], name), name)
        to_u = _reduce(to_u, factor, name)
        name = f"{stage}_ki_from_u"
        to_ki = activate(convolve(u, u.shape[-1], name), name)
        to_ki = _enlarge(to_ki, factor, f"{name}_up")
        return (
            keras.layers.Add(name=f"{stage}_u_exchange")([u, to_u]),
            keras.layers.Add(name=f"{stage}_ki_exchange")([ki, to_ki]),
        )

    # === Encoder ===
    inputs = u = ki = keras.Input(shape, name="image")
    skips = []
    for level in range(depth):
        stage = f"encoder{level}"
        u = step(u, filters * 2**level, stage, "u", grow=False)
        ki = step(ki, filters * 2**level, stage, "ki", grow=True)
        u, ki = exchange(u, ki, 4 ** (level + 1), stage)
        skips.append((u, ki))

    # === Decoder ===
    for level in reversed(range(depth)):
        stage = f"decoder{level}"
        width = filters * 2 ** (level - 1) if level else max(1, filters // 2)
        u = step(u, width, stage, "u", grow=True)
        ki = step(ki, width, stage, "ki", grow=False)
        if level:
            u, ki = exchange(u, ki, 4**level, stage)
            skip_u, skip_ki = skips[level - 1]
            u = keras.layers.Add(name=f"{stage}_u_join")([u, skip_u])
            ki = keras.layers.Add(name=f"{stage}_ki_join")([ki, skip_ki])
    x = keras.layers.Add(name="fuse")([u, ki])
    return keras.Model(inputs, _blocks.logits(x, classes), name="kiunet")


def _stages(where: str, depth: int) -> set[str]:
    # The lowest level here is the last of the encoder: there is no further bottom.
    stages = _blocks.dropout_stages(where, depth)
    return stages | {f"encoder{max(0, depth - 2)}"} if where == "bottom" else stages


def _enlarge(x: keras.KerasTensor, factor: int, name: str) -> keras.KerasTensor:
    return _blocks.BilinearUpsampling(factor, name=name)(x)


def _reduce(x: keras.KerasTensor, factor: int, name: str) -> keras.KerasTensor:
    """Interpolate bilinearly: of each square remains the mean of its middle four."""
    before = factor // 2 - 1
    corner = ((before, 0), (before, 0))
    x = keras.layers.Cropping2D(corner, name=f"{name}_crop")(x)
    return keras.layers.AveragePooling2D(2, factor, name=f"{name}_down")(x)
