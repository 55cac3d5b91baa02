"""A U-Net's decoder on a network of keras.applications, pretrained if one likes."""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import keras

from unet_zoo import errors
from unet_zoo.models import _blocks

INFO = {
    "title": "U-Net on a backbone",
    "paper": "https://arxiv.org/abs/1505.04597",
    "year": 2015,
}

# Where stages are looked for; any size does that halves often and is large enough.
PROBE = 256


def backbone_unet(
    input_shape: Sequence[int | None] = (None, None, 3),
    classes: int = 2,
    filters: int = 16,
    depth: int = 5,
    dropout: float = 0.0,
    normalization: str | None = "batch",
    *,
    backbone: str = "resnet50",
    weights: str | None = None,
    trainable: bool = True,
) -> keras.Model:
    """Build a U-Net whose encoder is a network of `keras.applications`.

    Skips start from the last layer at each resolution, found in the network's graph:
    also from full resolution if it has convolutions there, as VGG has, and none from
    where it has no layer of just that size, as ConvNeXt at a half. The decoder is that
    of the library segmentation-models-pytorch: nearest-neighbour upsampling, the skip,
    and two 3x3 convolutions with normalisation and ReLU. No paper has a count. With 3
    channels and one class "resnet50" comes to 32,602,769 parameters (32,547,665 are
    trained), "efficientnetb0" to 10,115,508, "mobilenetv2" to 8,047,441, "vgg16" to
    19,038,801.

    What goes in is what the backbone is made for, the result of `preprocess_input` of
    its module: that of `keras.applications.resnet50`, for example, takes RGB of 0 to
    255. EfficientNets, ConvNeXts and MobileNetV3s do this inside and take 0 to 255.
    It matters with pretrained weights; without them any scale is as good.

    Args:
        input_shape: Height, width and channels. Height and width may be None and are
            then free; else they must be multiples of `2**depth`. Other channels than
            3 go with `weights=None`.
        classes: Channels of the output.
        filters: Filters of the decoder at full resolution; level `n` has
            `filters * 2**n`.
        depth: How often the resolution is halved, by default 5 times, which is all
            that most backbones do; what they have below is left out.
        dropout: Rate of dropout at the end of each level of the decoder. Default 0.
        normalization: "batch" (default), "group", "instance", "layer" or None, of the
            decoder; the backbone has its own.
        backbone: Name of a function of `keras.applications`, in any case, with or
            without underscores: "resnet50", "efficientnetb0", "mobilenet_v2", …
        weights: None (default) for random numbers, "imagenet" to download what Keras
            offers (nothing else here downloads), or the path of a file of weights of
            the backbone without its top.
        trainable: Train the backbone as well. False keeps it, and the statistics of
            its normalisation, as they are.

    Input shape:
        `(batch, height, width, channels)`.

    Output shape:
        `(batch, height, width, classes)`, raw logits, float32.

    Raises:
        InputError: An argument cannot be used, among them a backbone that never has
            just a half, a quarter, and so on, of the size; the message names it, and
            for a size the next one that fits.

    Example:
        >>> backbone_unet((64, 96, 1), depth=3, backbone="mobilenet").output_shape
        (None, 64, 96, 2)

    Reference:
        Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image
        Segmentation, 2015, https://arxiv.org/abs/1505.04597
    """
    # === Check ===
    shape = _blocks.check_arguments(
        input_shape,
        classes=classes,
        filters=filters,
        depth=depth,
        dropout=dropout,
        dropout_at="decoder",
        normalization=normalization,
    )
    build = _application(backbone)
    _check_weights(weights, shape[-1])
    if trainable not in (True, False):
        message = f"`trainable` must be True or False. Received: {trainable!r}."
        raise errors.InputError(message)
    _blocks.check_halving(shape, depth)

    # === Encoder ===
    with warnings.catch_warnings():
        # Other numbers of channels are what they are asked for.
        warnings.filterwarnings("ignore", "This model usually expects 1 or 3 input")
        network, probe = (
            build(include_top=False, weights=which, input_shape=(*size, shape[-1]))
            for which, size in ((weights, (None, None)), (None, (PROBE, PROBE)))
        )
    stages = _stages(probe, depth, backbone)
    outputs = [network.layers[number].output for number in stages.values()]
    inputs = keras.Input(shape, name="image")
    encoder = _copy(keras.Model(network.input, outputs), inputs)
    for layer in encoder.layers:
        layer.trainable = trainable
    skips = dict(zip(stages, encoder.outputs, strict=True))

    # === Decoder ===
    x = skips[depth]
    for level in reversed(range(depth)):
        x = keras.layers.UpSampling2D(2, name=f"up{level}")(x)
        if level in skips:
            x = keras.layers.Concatenate(name=f"concat{level}")([x, skips[level]])
        for number in (1, 2):
            x = keras.layers.Conv2D(
                filters * 2**level,
                3,
                padding="same",
                use_bias=normalization is None,
                kernel_initializer=_blocks.INITIALIZER,
                name=f"decoder{level}_conv{number}",
            )(x)
            if normalization is not None:
                name = f"decoder{level}_norm{number}"
                x = _blocks.norm_layer(normalization, x.shape[-1], name=name)(x)
            x = keras.layers.Activation("relu", name=f"decoder{level}_relu{number}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, name=f"decoder{level}_dropout")(x)
    outputs = _blocks.logits(x, classes, size=3)
    return keras.Model(inputs, outputs, name="backbone_unet")


# === Backbone ===


def _application(backbone: str) -> Callable[..., keras.Model]:
    """Return the function of `keras.applications` that is meant by `backbone`."""
    known = {
        name.lower(): function
        for name, function in vars(keras.applications).items()
        if inspect.isfunction(function)
    }
    word = re.sub("[-_ ]", "", str(backbone)).lower()
    if word not in known:
        error = errors.unknown("`backbone`", str(backbone), sorted(known))
        raise error
    return known[word]


def _check_weights(weights: str | None, channels: int) -> None:
    if weights is None:
        return
    if weights == "imagenet":
        if channels != 3:
            message = (
                '`weights` "imagenet" are for 3 channels, and `input_shape` has '
                f"{channels}. Use three, or weights=None."
            )
            raise errors.InputError(message)
    elif not Path(weights).is_file():
        message = (
            '`weights` must be None, "imagenet" or the path of a file. '
            f"Received: {str(weights)!r}, which is no file."
        )
        raise errors.InputError(message)


def _stages(network: keras.Model, depth: int, backbone: str) -> dict[int, int]:
    """Return the number of the last layer at each level.

    Level 0 counts where a convolution comes first. `network` is for images of `PROBE`.
    """
    sizes = {(PROBE // 2**level,) * 2: level for level in range(PROBE.bit_length())}
    lowest = sizes.get(tuple(network.output.shape[1:3]))
    found: dict[int, int] = {}
    kernels = keras.layers.Conv2D | keras.layers.DepthwiseConv2D
    convolved = False
    for number, layer in enumerate(network.layers):
        output = layer.output
        convolved = convolved or isinstance(layer, kernels)
        # Below the lowest level is only what weighs channels, of one pixel.
        level = sizes.get(tuple(output.shape[1:3])) if len(output.shape) == 4 else None
        if level is not None and convolved and (lowest is None or level <= lowest):
            found[level] = number
    if depth not in found or (depth > 1 and min(found) == depth):
        shown = ", ".join(f"1/{2**level}" for level in sorted(found))
        message = (
            f"`backbone` {backbone!r} cannot serve at `depth` {depth}: layers are "
            f"needed at 1/{2**depth} of the image's size and at some size above. It "
            f"has: {shown or 'none'}. Choose another backbone or a smaller depth."
        )
        raise errors.InputError(message)
    return {level: found[level] for level in sorted(found) if level <= depth}


def _copy(network: keras.Model, inputs: keras.KerasTensor) -> keras.Model:
    """Return `network` with its weights, for `inputs` of another size.

    Names that Keras counted up, from how many layers this process had made before, are
    counted anew, so that weights have the same paths everywhere.
    """
    counts: dict[str, int] = {}

    def rename(layer: keras.layers.Layer) -> keras.layers.Layer:
        settings = layer.get_config()
        kind = type(layer).__name__.lower()
        if re.sub(r"_\d+$", "", layer.name).replace("_", "") == kind:
            counts[kind] = counts.get(kind, -1) + 1
            settings["name"] = f"backbone_{kind}{counts[kind]}"
        return type(layer).from_config(settings)

    copy = keras.models.clone_model(
        network, input_tensors=inputs, clone_function=rename
    )
    copy.set_weights(network.get_weights())
    return copy
