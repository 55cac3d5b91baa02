"""The networks that nnU-Net of Isensee et al. plans: plain and residual encoders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "nnU-Net",
    "paper": "https://arxiv.org/abs/1809.10486",
    "year": 2018,
    "ranks": (2, 3),
}

ENCODERS = ("plain", "residual")
# No axis is halved to fewer pixels than this.
SMALLEST = 4
WIDEST = {2: 512, 3: 320}
SLOPE = 0.01
EPSILON = 1e-5

# Strides and kernel sizes, of each stage along each axis.
Plan = tuple[list[tuple[int, ...]], list[tuple[int, ...]]]


def nnunet(
    input_shape: Sequence[int | None] = (None, None, 1),
    classes: int = 2,
    filters: int = 32,
    depth: int | None = 7,
    dropout: float = 0.0,
    normalization: str | None = "instance",
    *,
    encoder: str = "plain",
    deep_supervision: bool = False,
    max_filters: int | None = None,
    spacing: Sequence[float] | None = None,
    dropout_at: str = "bottom",
    spatial_dropout: bool = False,
) -> keras.Model:
    """Build the network that nnU-Net plans: a deep, narrow U-Net, strided all the way.

    Every level is two 3x3 convolutions, each with normalisation and leaky ReLU; the
    first of a level leads down by its stride, a transposed convolution leads up. The
    residual encoder has blocks of two convolutions around a shortcut in their place (1,
    3, 4, then 6 a level) and a decoder of one convolution a level. The defaults are the
    plan for images of 512x512.

    nnU-Net builds all heads, used or not; here those of deep supervision are there with
    `deep_supervision` only. With it, one channel and two classes, depths 7, 6 and 5
    have nnU-Net's 46,324,558, 33,471,820 and 20,619,082 parameters, and with the
    residual encoder 140,017,038, 105,916,812 and 71,816,586.

    Args:
        input_shape: Height, width and channels, or depth, height, width and channels:
            then everything is three-dimensional. Sizes may be None and are then free;
            else they must be multiples of `2**depth`.
        classes: Channels of the output.
        filters: Filters at full resolution; level `n` has `filters * 2**n`, at most
            `max_filters`.
        depth: How often the resolution is halved: nnU-Net's stages less one. None
            plans it, axis by axis, from the sizes, see `plan`.
        dropout: Rate of dropout. Default 0.
        normalization: "instance" (default), "batch", "group", "layer" or None, after
            each convolution, which has a bias all the same.
        encoder: "plain" (default) or "residual" (the ResEnc presets).
        deep_supervision: Put out what the lower levels predict as well: `logits1` to
            `logits<depth - 1>` follow `logits`, each at its level's size.
        max_filters: Most filters of a level. Default None: 512 for images, 320 for
            volumes.
        spacing: Size of a pixel along each axis, for planning. Default None: equal.
        dropout_at: Where dropout goes: "bottom" (default) ends the last two levels
            of the contracting path, ahead of the skip; "encoder", "decoder" and "all"
            end each of their levels.
        spatial_dropout: Drop whole channels instead of single values.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32; with `deep_supervision`
        a list of `depth` outputs, each of half the size of the one before.

    Raises:
        InputError: An argument cannot be used; the message names it, and for a size
            the next one that fits.

    Example:
        >>> nnunet((64, 80, 3), classes=1, filters=4, depth=2).output_shape
        (None, 64, 80, 1)
        >>> planned = nnunet((64, 64, 1), filters=4, depth=None)
        >>> planned.get_layer("bottom_relu2").output.shape
        (None, 4, 4, 64)

    Reference:
        Isensee et al.: nnU-Net: Self-adapting Framework for U-Net-Based Medical Image
        Segmentation, 2018, https://arxiv.org/abs/1809.10486; residual encoders in
        Isensee et al.: nnU-Net Revisited, 2024, https://arxiv.org/abs/2404.09556
    """
    # === Check ===
    shape = _blocks.check_arguments(
        input_shape,
        classes=classes,
        filters=filters,
        depth=1 if depth is None else depth,
        dropout=dropout,
        dropout_at=dropout_at,
        normalization=normalization,
        ranks=INFO["ranks"],
    )
    rank = len(shape) - 1
    _blocks.check_word("encoder", encoder, ENCODERS)
    if max_filters is not None:
        _blocks.check_count("max_filters", max_filters)
    if depth is None:
        strides, kernels = _planned(shape[:-1], spacing)
        depth = len(strides) - 1
    elif spacing is None:
        strides = [(1,) * rank] + [(2,) * rank] * depth
        kernels = [(3,) * rank] * (depth + 1)
        _blocks.check_halving(shape, depth)
    else:
        message = "`spacing` is for planning: pass `depth=None`, or no `spacing`."
        raise errors.InputError(message)
    widest = max_filters or WIDEST[rank]
    widths = [min(filters * 2**level, widest) for level in range(depth + 1)]
    dropping = _blocks.dropout_stages(dropout_at, depth) if dropout else set()

    # === Layers ===
    def normalize(x: keras.KerasTensor, name: str, **options: Any) -> keras.KerasTensor:
        if normalization is None:
            return x
        options = dict(name=name, epsilon=EPSILON, **options)
        return _blocks.norm_layer(normalization, x.shape[-1], **options)(x)

    def convolve(
        x: keras.KerasTensor, level: int, name: str, strides: tuple[int, ...] = ()
    ) -> keras.KerasTensor:
        kernel = kernels[level]
        if max(strides, default=1) > 1:
            # "same" would pad at the far end; nnU-Net's windows are centred on the
            # first of the pixels they stand for.
            ends = [
                (size // 2, size // 2 if stride == 1 else 0)
                for size, stride in zip(kernel, strides, strict=True)
            ]
            x = _blocks.of_rank("ZeroPadding", rank)(ends, name=f"{name}_pad")(x)
        layer = _blocks.of_rank("Conv", rank)(
            widths[level],
            kernel,
            strides or 1,
            padding="valid" if max(strides, default=1) > 1 else "same",
            kernel_initializer=_blocks.INITIALIZER,
            name=name,
        )
        return layer(x)

    def activate(x: keras.KerasTensor, name: str) -> keras.KerasTensor:
        return keras.layers.LeakyReLU(SLOPE, name=name)(x)

    def units(
        x: keras.KerasTensor,
        level: int,
        stage: str,
        number: int,
        strides: tuple[int, ...] = (),
    ) -> keras.KerasTensor:
        """Apply `number` times convolution, normalisation and leaky ReLU."""
        for unit in range(1, number + 1):
            x = convolve(x, level, f"{stage}_conv{unit}", strides if unit == 1 else ())
            x = activate(normalize(x, f"{stage}_norm{unit}"), f"{stage}_relu{unit}")
        return x

    def lead_around(
        x: keras.KerasTensor, level: int, name: str, strides: tuple[int, ...]
    ) -> keras.KerasTensor:
        if max(strides) > 1:
            name_pool = f"{name}_pool"
            x = _blocks.of_rank("AveragePooling", rank)(strides, name=name_pool)(x)
        if x.shape[-1] != widths[level]:
            x = _blocks.of_rank("Conv", rank)(
                widths[level],
                1,
                use_bias=False,
                kernel_initializer=_blocks.INITIALIZER,
                name=name,
            )(x)
            x = normalize(x, f"{name}_norm")
        return x

    def residual(
        x: keras.KerasTensor, level: int, name: str, strides: tuple[int, ...]
    ) -> keras.KerasTensor:
        around = lead_around(x, level, f"{name}_shortcut", strides)
        x = convolve(x, level, f"{name}_conv1", strides)
        x = activate(normalize(x, f"{name}_norm1"), f"{name}_relu1")
        x = convolve(x, level, f"{name}_conv2")
        # Training starts from the shortcuts alone.
        x = normalize(x, f"{name}_norm2", gamma_initializer="zeros")
        x = keras.layers.Add(name=f"{name}_add")([x, around])
        return activate(x, f"{name}_relu2")

    def drop(x: keras.KerasTensor, stage: str) -> keras.KerasTensor:
        if stage not in dropping:
            return x
        return _blocks.dropout_layer(
            dropout, spatial=spatial_dropout, name=f"{stage}_dropout", rank=rank
        )(x)

    # === Encoder ===
    inputs = x = keras.Input(shape, name="image")
    if encoder == "residual":
        x = units(x, 0, "stem", 1)
    skips = []
    for level in range(depth + 1):
        stage = f"encoder{level}" if level < depth else "bottom"
        if encoder == "plain":
            x = units(x, level, stage, 2, strides[level])
        else:
            for block in range((1, 3, 4, 6)[min(level, 3)]):
                first = strides[level] if block == 0 else (1,) * rank
                x = residual(x, level, f"{stage}_block{block + 1}", first)
        x = drop(x, stage)
        skips.append(x)

    # === Decoder ===
    outputs: list[keras.KerasTensor] = []
    for level in reversed(range(depth)):
        stage = f"decoder{level}"
        x = _blocks.of_rank("Conv", rank, "Transpose")(
            widths[level],
            strides[level + 1],
            strides[level + 1],
            kernel_initializer=_blocks.INITIALIZER,
            name=f"up{level}",
        )(x)
        x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        x = drop(units(x, level, stage, 2 if encoder == "plain" else 1), stage)
        if deep_supervision and level:
            outputs.insert(0, _blocks.logits(x, classes, name=f"logits{level}"))
    outputs.insert(0, _blocks.logits(x, classes))
    return keras.Model(
        inputs, outputs if deep_supervision else outputs[0], name="nnunet"
    )


def plan(sizes: Sequence[int], spacing: Sequence[float] | None = None) -> Plan:
    """Return the strides and the kernel sizes of each stage that nnU-Net would plan.

    `sizes` are the image's along each axis, nnU-Net's patch (cutting it to what a
    graphics card can hold is not done here), and `spacing` says how large a pixel is.
    An axis is halved while that leaves 4 pixels or more, and its pixels are less than
    twice as large as the smallest of such axes; if it is the only one, it needs 12.
    Kernels are 3 wide once an axis has pixels less than twice as large as any other.

    >>> strides, kernels = plan((512, 512))
    >>> len(strides), strides[:2], set(kernels)
    (8, [(1, 1), (2, 2)], {(3, 3)})
    >>> plan((8, 64, 64), spacing=(3, 1, 1))[0]
    [(1, 1, 1), (1, 2, 2), (2, 2, 2), (1, 2, 2), (1, 2, 2)]
    """
    axes = range(len(sizes))
    sizes = list(sizes)
    spacing = list(spacing or (1,) * len(sizes))
    strides = [(1,) * len(sizes)]
    kernels: list[tuple[int, ...]] = []
    kernel = [1] * len(sizes)
    while True:
        able = [axis for axis in axes if sizes[axis] >= 2 * SMALLEST]
        finest = min((spacing[axis] for axis in able), default=0)
        halved = [axis for axis in able if spacing[axis] < 2 * finest]
        alone = len(halved) == 1 and sizes[halved[0]] < 3 * SMALLEST
        if not halved or alone:
            return strides, [*kernels, (3,) * len(sizes)]
        for axis in axes:
            if spacing[axis] < 2 * min(spacing):
                kernel[axis] = 3
        kernels.append(tuple(kernel))
        strides.append(tuple(2 if axis in halved else 1 for axis in axes))
        for axis in halved:
            spacing[axis] *= 2
            sizes[axis] = -(-sizes[axis] // 2)


def _planned(sizes: tuple[Any, ...], spacing: Sequence[float] | None) -> Plan:
    if None in sizes:
        message = (
            f"`depth` None is planned from the size, and `input_shape` {sizes} leaves "
            "it free. Give sizes in `input_shape`, or a whole number for `depth`."
        )
        raise errors.InputError(message)
    if spacing is not None and (
        len(spacing) != len(sizes) or not all(each > 0 for each in spacing)
    ):
        message = (
            f"`spacing` must be {len(sizes)} numbers above 0, one for each axis. "
            f"Received: {spacing!r}."
        )
        raise errors.InputError(message)
    strides, kernels = plan(sizes, spacing)
    if len(strides) == 1:
        message = (
            f"`input_shape` {sizes} is too small to plan a U-Net for: axes are halved "
            f"from {2 * SMALLEST} pixels on, and a single one from {3 * SMALLEST}."
        )
        raise errors.InputError(message)
    steps = [2 ** sum(one == 2 for one in axis) for axis in zip(*strides, strict=True)]
    fitting = tuple(
        _blocks.multiples((size,), step)[0]
        for size, step in zip(sizes, steps, strict=True)
    )
    if sizes != fitting:
        message = (
            f"`input_shape` {sizes} does not fit its plan, which needs multiples of "
            f"{tuple(steps)}. Pad to {fitting}."
        )
        raise errors.SizeError(message, fitting)
    return strides, kernels
