"""Batch normalisation that rounds so little that sharing a batch changes nothing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras


def precisely(network: keras.Model, total: Callable[[Any], Any], parts: int) -> None:
    """Let the network's batch normalisation keep the digits that Keras' own loses.

    For TensorFlow. Its sum over the pixels of a batch adds them one after the other on
    a processor, so that the error grows with their number, and the gradient of Keras'
    layer is made of such sums. Half a batch is then rounded otherwise than the whole;
    the difference, a millionth of the gradient, is what Adam makes a step of wherever
    the gradient itself is smaller. Here each axis is summed by itself, and the gradient
    is written down as three terms, which leaves a sixth of the error. The layers stay
    stock ones with the same weights, and are saved as such.

    Args:
        network: its layers are changed; a second call changes nothing.
        total: sums a tensor over the replicas that share a batch.
        parts: how many there are, each with an equal part of it.

    >>> import keras
    >>> network = keras.Sequential([keras.layers.BatchNormalization()])
    >>> precisely(network, total=lambda values: values, parts=1)
    """
    import keras

    kind = keras.layers.BatchNormalization
    for layer in network._flatten_layers():
        if (
            isinstance(layer, kind)
            and type(layer).call is kind.call
            and not (layer.renorm or "call" in vars(layer))
        ):
            layer.call = functools.partial(call, layer, kind.call, total, parts)


def call(
    layer: keras.layers.BatchNormalization,
    otherwise: Any,
    total: Callable[[Any], Any],
    parts: int,
    inputs: Any,
    training: bool | None = None,
    mask: Any = None,
) -> Any:
    """Do what the layer does, in training by `_normalized`."""
    import keras

    if mask is not None or not (training and layer.trainable):
        return otherwise(layer, inputs, training=training, mask=mask)
    # Few digits overflow, and lose what is summed: as in Keras, float32 at least.
    wide = keras.backend.result_type(inputs.dtype, "float32")
    inputs = keras.ops.cast(inputs, wide)
    channels = [1] * len(inputs.shape)
    channels[layer.axis] = -1

    def spread(variable: Any) -> Any:
        return keras.ops.reshape(keras.ops.cast(variable, wide), channels)

    outputs, mean, variance = _normalized(
        inputs,
        spread(layer.gamma) if layer.scale else None,
        spread(layer.beta) if layer.center else None,
        layer,
        total,
        parts,
    )
    for moving, new in (
        (layer.moving_mean, mean),
        (layer.moving_variance, variance),
    ):
        new = keras.ops.cast(keras.ops.reshape(new, (-1,)), moving.dtype)
        moving.assign(moving * layer.momentum + new * (1.0 - layer.momentum))
    return keras.ops.cast(outputs, layer.compute_dtype)


def _normalized(
    inputs: Any,
    gamma: Any,
    beta: Any,
    layer: keras.layers.BatchNormalization,
    total: Callable[[Any], Any],
    parts: int,
) -> tuple[Any, Any, Any]:
    """Return the normalised tensor, and mean and variance of its channels.

    Both of the batch of all replicas. `gamma` and `beta`, where there are any, have the
    rank of the tensor; so do mean and variance, through which no gradient flows.
    """
    import tensorflow as tf

    rank = len(inputs.shape)
    axes = [axis for axis in range(rank) if axis != layer.axis % rank]

    def added(values: Any) -> Any:
        # From the innermost axis outwards, where what is summed lies close together.
        for axis in reversed(axes):
            values = tf.reduce_sum(values, axis, keepdims=True)
        return values

    shape = tf.shape(inputs)
    count = tf.cast(parts * tf.reduce_prod(tf.gather(shape, axes)), inputs.dtype)

    @tf.custom_gradient
    def normalized(x: Any, gamma: Any, beta: Any) -> Any:
        mean = total(added(x)) / count
        centred = x - mean
        # Of the differences: a mean of squares less a square would lose digits.
        variance = total(added(tf.square(centred))) / count
        scale = tf.math.rsqrt(variance + layer.epsilon)

        def gradient(above: Any, *_: Any) -> tuple[Any, Any, Any]:
            plain = centred * scale
            own = tf.stack([added(above), added(above * plain)])
            shift, tilt = tf.unstack(total(own) / count)
            below = (gamma * scale) * (above - shift - plain * tilt)
            # Of gamma and beta, the training adds up what the replicas have.
            return below, own[1], own[0]

        return (centred * (scale * gamma) + beta, mean, variance), gradient

    one = tf.ones([1] * rank, inputs.dtype)
    outputs, mean, variance = normalized(
        inputs,
        one if gamma is None else gamma,
        tf.zeros_like(one) if beta is None else beta,
    )
    return outputs, mean, variance
