"""What two or more variants use: checks of the shared arguments, and small layers."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any

import keras

from unet_zoo import errors, registry

NORMALIZATIONS = ("batch", "group", "instance", "layer")
DROPOUT_AT = ("all", "bottom", "decoder", "encoder")
INITIALIZER = "he_normal"

# Sizes of the spatial axes, each a number or None, then the channels.
Shape = tuple[Any, ...]


# === Initialise ===
def depthwise_initializer(
    gain: float, depth_multiplier: int = 1
) -> keras.initializers.Initializer:
    """Return an initialiser of depthwise kernels of variance `gain` / inputs.

    Each kernel sees one channel. By name, as in "he_normal", Keras counts the windows
    of all channels as its inputs, and a wide layer starts as good as silent.

    Args:
        gain: 2.0 ahead of a ReLU (He et al. 2015), 1.0 to keep the variance.
        depth_multiplier: Kernels for each channel.

    >>> kernel = depthwise_initializer(2.0)((3, 3, 512, 1))
    >>> 0.44 < float(keras.ops.std(kernel)) < 0.51  # (2 / 9) ** 0.5 is 0.47
    True
    """
    return keras.initializers.VarianceScaling(gain * depth_multiplier, "fan_out")


# === Check ===


def check_arguments(
    input_shape: Sequence[int | None],
    *,
    classes: int,
    filters: int,
    depth: int,
    dropout: float,
    dropout_at: str,
    normalization: str | None,
    ranks: Any = (2,),
) -> Shape:
    """Check the arguments every variant shares and return `input_shape` as a tuple.

    `ranks` are the numbers of spatial axes that the variant is made for. Raises
    `InputError` that names the argument, what was expected and received.
    """
    check_count("classes", classes)
    check_count("filters", filters)
    check_count("depth", depth)
    check_rate("dropout", dropout)
    check_word("dropout_at", dropout_at, DROPOUT_AT)
    if normalization is not None:
        check_word("normalization", normalization, (*NORMALIZATIONS, "None"))
    return _checked_shape(input_shape, ranks)


def check_count(argument: str, value: Any, at_least: int = 1) -> None:
    """Raise `InputError` unless `value` is a whole number of `at_least` or more."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or value < at_least:
        message = (
            f"`{argument}` must be a whole number of at least {at_least}. "
            f"Received: {value!r}."
        )
        raise errors.InputError(message)


def check_rate(argument: str, value: Any) -> None:
    """Raise `InputError` unless `value` is a number of at least 0 and below 1."""
    number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if not number or not 0 <= value < 1:
        message = f"`{argument}` must be at least 0 and below 1. Received: {value!r}."
        raise errors.InputError(message)


def check_word(argument: str, value: Any, options: Sequence[str]) -> None:
    """Raise `InputError`, near matches named, unless `value` is among `options`."""
    # An option "None" stands for the value None in messages; the word is not accepted.
    if value not in options or value == "None":
        error = errors.unknown(f"`{argument}`", str(value), options)
        raise error


def check_halving(shape: Shape, depth: int) -> None:
    """Raise `SizeError` with the size to pad to unless sizes halve `depth` times.

    >>> check_halving((250, None, 1), depth=4)
    Traceback (most recent call last):
    unet_zoo.errors.SizeError: `input_shape` (250, None) cannot be halved 4 times. \
Pad to (256, None).
    """
    sizes = shape[:-1]
    fitting = multiples(sizes, 2**depth)
    if sizes != fitting:
        times = "once" if depth == 1 else f"{depth} times"
        message = f"`input_shape` {sizes} cannot be halved {times}. Pad to {fitting}."
        raise errors.SizeError(message, fitting)


def multiples(sizes: Sequence[int | None], step: int) -> tuple[int | None, ...]:
    """Return each size or the next multiple of `step`; None stays None.

    >>> multiples((250, None, 64), 16)
    (256, None, 64)
    """
    return tuple(size and math.ceil(size / step) * step for size in sizes)


def _checked_shape(input_shape: Sequence[int | None], ranks: Sequence[int]) -> Shape:
    try:
        shape = tuple(input_shape)
    except TypeError:
        shape = ()
    if len(shape) == 4 and 3 not in ranks:
        able = [name for name in registry.names() if 3 in registry.info(name).ranks]
        message = (
            f"`input_shape` {shape} has three spatial axes, and this model is for "
            f"images with two. Models for volumes: {', '.join(able)}."
        )
        raise errors.InputError(message)
    if len(shape) - 1 not in ranks:
        forms = {
            2: "(height, width, channels)",
            3: "(depth, height, width, channels)",
        }
        message = (
            f"`input_shape` must be {' or '.join(forms[rank] for rank in ranks)}, "
            f"without the batch. Received: {input_shape!r}."
        )
        raise errors.InputError(message)
    if shape[-1] is None:
        message = (
            "`input_shape` must say the number of channels; only the sizes may be "
            f"None. Received: {input_shape!r}."
        )
        raise errors.InputError(message)
    for axis, size in enumerate(shape):
        if size is not None:
            check_count(f"input_shape[{axis}]", size)
    return shape


# === Layers ===


def dropout_stages(where: str, depth: int) -> set[str]:
    """Return the stages of a variant that end in dropout.

    Stages are called `encoder0` (full resolution) to `encoder<depth - 1>`, `bottom`,
    and `decoder<depth - 1>` to `decoder0`. Where "bottom", these are the last two of
    the contracting path, as in the U-Net's release.

    >>> sorted(dropout_stages("bottom", depth=4))
    ['bottom', 'encoder3']
    """
    encoder = [f"encoder{level}" for level in range(depth)] + ["bottom"]
    decoder = [f"decoder{level}" for level in range(depth)]
    stages = {
        "bottom": encoder[-2:],
        "encoder": encoder,
        "decoder": decoder,
        "all": encoder + decoder,
    }
    return set(stages[where])


def of_rank(kind: str, rank: int, ending: str = "") -> type[keras.layers.Layer]:
    """Return the Keras layer class `kind` for images of `rank` spatial axes.

    >>> of_rank("Conv", 3).__name__, of_rank("Conv", 2, "Transpose").__name__
    ('Conv3D', 'Conv2DTranspose')
    """
    return getattr(keras.layers, f"{kind}{rank}D{ending}")


def dropout_layer(
    rate: float, *, spatial: bool, name: str, rank: int = 2
) -> keras.layers.Layer:
    """Return the layer that drops values, or whole channels where `spatial`."""
    kind = of_rank("SpatialDropout", rank) if spatial else keras.layers.Dropout
    return kind(rate, name=name)


def norm_layer(
    kind: str, channels: int, *, name: str, **options: Any
) -> keras.layers.Layer:
    """Return the normalisation layer for a tensor of `channels`.

    "batch" normalises each channel over the batch, "instance" over one image, "group"
    over up to 8 groups of channels of one image, "layer" each pixel over its channels.
    `options` go to the Keras layer, such as `epsilon` and `gamma_initializer`.
    """
    if kind == "batch":
        return keras.layers.BatchNormalization(name=name, **options)
    if kind == "layer":
        return keras.layers.LayerNormalization(name=name, **options)
    groups = -1 if kind == "instance" else math.gcd(channels, 8)
    return keras.layers.GroupNormalization(groups, name=name, **options)


@keras.saving.register_keras_serializable("unet_zoo")
class BilinearUpsampling(keras.layers.UpSampling2D):
    """Enlarge by linear interpolation, edges onto edges, images of free sizes too.

    It does what `keras.layers.UpSampling2D(size, interpolation="bilinear")` does, which
    TensorFlow cannot compile where height or width is None.

    >>> import numpy as np
    >>> line = np.array([0.0, 2.0, 6.0]).reshape(1, 1, 3, 1)
    >>> [float(value) for value in BilinearUpsampling(2)(line)[0, 0, :, 0]]
    [0.0, 0.5, 1.5, 3.0, 5.0, 6.0]
    """

    def __init__(self, size: int | tuple[int, int] = 2, **options: Any) -> None:
        super().__init__(size, **{"interpolation": "bilinear"} | options)

    def call(self, inputs: Any) -> Any:
        if all(isinstance(size, int) for size in keras.ops.shape(inputs)[1:3]):
            return super().call(inputs)
        rows, columns = self.size
        return self._enlarge(self._enlarge(inputs, rows, axis=1), columns, axis=2)

    def _enlarge(self, x: Any, factor: int, axis: int) -> Any:
        # The new pixels of an old one lie around its middle, at -1/2 to 1/2, where
        # each mixes it with the neighbour it is closer to, at the edges with itself.
        size = keras.ops.shape(x)[axis]
        numbers = keras.ops.arange(size)
        before = keras.ops.take(x, keras.ops.maximum(numbers - 1, 0), axis)
        behind = keras.ops.take(x, keras.ops.minimum(numbers + 1, size - 1), axis)
        new = []
        for part in range(factor):
            place = (part + 0.5) / factor - 0.5
            neighbour = before if place < 0 else behind
            new.append(x + abs(place) * (neighbour - x))
        shape = list(keras.ops.shape(x))
        shape[0], shape[axis] = -1, factor * size
        return keras.ops.reshape(keras.ops.stack(new, axis + 1), shape)


@keras.saving.register_keras_serializable("unet_zoo")
class AlignedUpsampling(keras.layers.Layer):
    """Double height and width by linear interpolation, corners onto corners.

    This is PyTorch's `align_corners=True`; `keras.layers.UpSampling2D`, like most, has
    the edges of images agree instead.

    >>> import numpy as np
    >>> line = np.array([0.0, 3.0, 6.0]).reshape(1, 1, 3, 1)
    >>> [round(float(value), 3) for value in AlignedUpsampling()(line)[0, 0, :, 0]]
    [0.0, 1.2, 2.4, 3.6, 4.8, 6.0]
    """

    def call(self, x: Any) -> Any:
        return self._double(self._double(x, axis=1), axis=2)

    def compute_output_shape(self, input_shape: Shape) -> Shape:
        batch, height, width, channels = input_shape
        return (batch, height and 2 * height, width and 2 * width, channels)

    def _double(self, x: Any, axis: int) -> Any:
        # New pixels 2k and 2k + 1 lie k / (2n - 1) below and (n - 1 - k) / (2n - 1)
        # above old pixel k: nothing at the ends, so what rolls in there is not seen.
        size = keras.ops.shape(x)[axis]
        count = keras.ops.cast(size, "float32")
        steps = keras.ops.arange(size, dtype="float32")
        place = (1, -1, 1, 1) if axis == 1 else (1, 1, -1, 1)

        def towards(neighbour: Any, distance: Any) -> Any:
            share = keras.ops.reshape(distance / (2 * count - 1), place)
            return x + keras.ops.cast(share, x.dtype) * (neighbour - x)

        below = towards(keras.ops.roll(x, 1, axis), steps)
        above = towards(keras.ops.roll(x, -1, axis), count - 1 - steps)
        both = keras.ops.stack([below, above], axis + 1)
        shape = list(keras.ops.shape(x))
        shape[0], shape[axis] = -1, 2 * size
        return keras.ops.reshape(both, shape)


def attention_gate(
    skip: keras.KerasTensor,
    x: keras.KerasTensor,
    normalization: str | None,
    name: str,
) -> keras.KerasTensor:
    """Weight every pixel of `skip` by what it and `x`, of the same shape, hold there.

    The additive gate of Oktay et al. 2018, https://arxiv.org/abs/1804.03999, of two
    tensors of one resolution, each with half of its channels.
    """

    def convolve(x: keras.KerasTensor, filters: int, name: str) -> keras.KerasTensor:
        convolution = of_rank("Conv", len(x.shape) - 2)
        x = convolution(filters, 1, kernel_initializer=INITIALIZER, name=name)(x)
        # Normalised over its channels, a single one would be the same everywhere.
        if normalization is None or (normalization == "layer" and filters == 1):
            return x
        return norm_layer(normalization, filters, name=f"{name}_norm")(x)

    between = max(1, skip.shape[-1] // 2)
    seen = [convolve(x, between, f"{name}_up"), convolve(skip, between, f"{name}_skip")]
    weight = keras.layers.Add(name=f"{name}_add")(seen)
    weight = keras.layers.Activation("relu", name=f"{name}_relu")(weight)
    weight = convolve(weight, 1, f"{name}_weight")
    weight = keras.layers.Activation("sigmoid", name=f"{name}_sigmoid")(weight)
    return keras.layers.Multiply(name=name)([skip, weight])


def logits(
    x: keras.KerasTensor,
    classes: int,
    *,
    size: int = 1,
    use_bias: bool = True,
    name: str = "logits",
) -> keras.KerasTensor:
    """Map `x` to `classes` raw values per pixel, float32 under any dtype policy."""
    layer = of_rank("Conv", len(x.shape) - 2)(
        classes,
        size,
        padding="same",
        use_bias=use_bias,
        kernel_initializer=INITIALIZER,
        dtype="float32",
        name=name,
    )
    return layer(x)
