"""Layers in fewer operations, where the backend has them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from unet_zoo.devices import normalizing, transposing

if TYPE_CHECKING:
    import keras

_DTYPES = ("float32", "bfloat16", "float16")


def fuse(network: keras.Model) -> None:
    """Let layers of the network compute faster what they compute.

    On TensorFlow, batch normalisation: Keras' own makes a dozen passes over its tensor,
    in float32 whatever the precision; TensorFlow has a single operation, which takes a
    tenth to a third off a step of a U-Net (`python benchmarks/throughput.py`). Where a
    training is deterministic, one device sums as several do instead (see
    `normalizing.precisely`). On JAX, transposed convolutions (see
    `transposing.directly`). On PyTorch nothing changes. The layers stay stock ones with
    the same weights, and are saved as such. A second call changes nothing.

    >>> import keras
    >>> network = keras.Sequential([keras.layers.BatchNormalization()])
    >>> fuse(network)
    """
    import keras

    from unet_zoo import devices

    if keras.backend.backend() == "jax":
        transposing.directly(network)
    if keras.backend.backend() != "tensorflow":
        return
    if devices.is_deterministic():
        normalizing.precisely(network, total=lambda values: values, parts=1)
        return
    for layer in network._flatten_layers():
        if type(layer) is keras.layers.BatchNormalization and can_fuse(layer):
            layer.call = functools.partial(_call, layer, type(layer).call)


def exportable(network: keras.Model) -> None:
    """Undo `fuse`, and let layers compute by operations that converters know well.

    What batch normalisation itself computes becomes part of the convolution before it,
    nearest upsampling is one operation, not ten, and GELU is one that ONNX has, too.
    Values do not change. The network is one to export on TensorFlow and then to forget.
    """
    import keras

    for layer in network._flatten_layers():
        if getattr(vars(layer).get("call"), "func", None) in (_call, normalizing.call):
            del layer.call
        if type(layer) is keras.layers.UpSampling2D and (
            layer.interpolation == "nearest"
            and layer.data_format == "channels_last"
            and len(set(layer.size)) == 1
        ):
            layer.call = functools.partial(_repeated, layer.size[0])
        if getattr(layer, "activation", None) is keras.activations.gelu:
            layer.activation = _gelu


def _gelu(inputs: Any) -> Any:
    """Return what TensorFlow computes by erfc, which ONNX lacks."""
    from keras import ops

    return 0.5 * inputs * (1.0 + ops.erf(inputs * 0.5**0.5))


def _repeated(size: int, inputs: Any) -> Any:
    import tensorflow as tf

    return tf.nn.depth_to_space(tf.concat([inputs] * size**2, axis=-1), size)


def can_fuse(layer: keras.layers.BatchNormalization) -> bool:
    """Return whether the single operation does what the layer does."""
    spoken_for = "call" in vars(layer)  # by replicas, or already
    return not (spoken_for or layer.renorm or layer.synchronized)


def _call(
    layer: keras.layers.BatchNormalization,
    otherwise: Any,
    inputs: Any,
    training: bool | None = None,
    mask: Any = None,
) -> Any:
    import keras

    rank = len(inputs.shape)
    if (
        mask is not None
        or rank < 4
        or layer.axis not in (-1, rank - 1)
        or keras.backend.standardize_dtype(inputs.dtype) not in _DTYPES
        # With given statistics, the gradient of the operation is slower.
        or (training and not layer.trainable)
    ):
        return otherwise(layer, inputs, training=training, mask=mask)
    if not training:
        given = layer.moving_mean, layer.moving_variance
        return _normalized(layer, inputs, *given)[0]
    outputs, mean, variance = _normalized(layer, inputs)
    for moving, new in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        moving.assign(moving * layer.momentum + new * (1.0 - layer.momentum))
    return outputs


def _normalized(
    layer: keras.layers.BatchNormalization,
    inputs: Any,
    mean: Any = None,
    variance: Any = None,
) -> tuple[Any, Any, Any]:
    """Return the normalised tensor and the mean and variance of its channels."""
    import tensorflow as tf

    channels = inputs.shape[-1]
    shape = tf.shape(inputs)
    # The operation knows images alone: a volume is an image of many rows.
    image = tf.reshape(
        inputs, (shape[0], tf.reduce_prod(shape[1:-2]), shape[-2], channels)
    )
    given = mean is not None
    found = tf.raw_ops.FusedBatchNormV3(
        x=image,
        scale=_tensor(layer.gamma) if layer.scale else tf.ones(channels),
        offset=_tensor(layer.beta) if layer.center else tf.zeros(channels),
        mean=_tensor(mean) if given else tf.zeros(0),
        variance=_tensor(variance) if given else tf.zeros(0),
        epsilon=layer.epsilon,
        is_training=not given,
    )
    outputs = tf.ensure_shape(tf.reshape(found.y, shape), inputs.shape)
    # Its variance is that of a sample: over the values of a channel, less one.
    count = tf.cast(tf.reduce_prod(shape[:-1]), "float32")
    return outputs, found.batch_mean, found.batch_variance * ((count - 1.0) / count)


def _tensor(variable: Any) -> Any:
    import keras

    return keras.ops.convert_to_tensor(variable, dtype="float32")
