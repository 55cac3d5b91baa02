"""Batch normalisation in one operation where the backend has one."""

from __future__ import annotations

from typing import Any

import keras

from unet_zoo import devices

_FUSED = ("float32", "bfloat16", "float16")


@keras.saving.register_keras_serializable("unet_zoo")
class BatchNormalization(keras.layers.BatchNormalization):
    """Normalise each channel over the batch (Ioffe and Szegedy 2015).

    It computes what `keras.layers.BatchNormalization` does, with the same weights.
    Keras' own makes a dozen passes over its tensor, in float32 whatever the precision;
    on TensorFlow this one is a single operation, which takes a tenth to a third off a
    step of a U-Net (`benchmarks/throughput.py`). Deterministic, it is Keras' own.

    >>> import numpy as np
    >>> x = np.random.default_rng(0).normal(3.0, 2.0, (4, 8, 8, 5)).astype("float32")
    >>> y = keras.ops.convert_to_numpy(BatchNormalization()(x, training=True))
    >>> bool(abs(y.mean()) < 1e-5), bool(abs(y.std() - 1) < 1e-3)
    (True, True)
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        if mask is not None or not self._is_fused(inputs):
            return super().call(inputs, training=training, mask=mask)
        if not training:
            return self._normalized(inputs, self.moving_mean, self.moving_variance)[0]
        if not self.trainable:
            # With given statistics, the gradient of the operation is slower.
            return super().call(inputs, training=training)
        outputs, mean, variance = self._normalized(inputs)
        for moving, new in (
            (self.moving_mean, mean),
            (self.moving_variance, variance),
        ):
            moving.assign(moving * self.momentum + new * (1.0 - self.momentum))
        return outputs

    def _is_fused(self, inputs: Any) -> bool:
        return (
            keras.backend.backend() == "tensorflow"
            # One device then sums as several do: see `benchmarks/replicas.py`.
            and not devices.is_deterministic()
            and not (self.renorm or self.synchronized)
            # Replicas of a strategy bring moments of their own.
            and "_moments" not in vars(self)
            and keras.backend.standardize_dtype(inputs.dtype) in _FUSED
            and len(inputs.shape) > 3
            and self.axis in (-1, len(inputs.shape) - 1)
        )

    def _normalized(
        self, inputs: Any, mean: Any = None, variance: Any = None
    ) -> tuple[Any, Any, Any]:
        """Return the normalised tensor and the mean and variance of its channels."""
        import tensorflow as tf

        channels = inputs.shape[-1]
        shape = tf.shape(inputs)
        given = mean is not None
        # The operation knows images alone: a volume is an image of many rows.
        image = tf.reshape(
            inputs, (shape[0], tf.reduce_prod(shape[1:-2]), shape[-2], channels)
        )
        found = tf.raw_ops.FusedBatchNormV3(
            x=image,
            scale=_tensor(self.gamma) if self.scale else tf.ones(channels),
            offset=_tensor(self.beta) if self.center else tf.zeros(channels),
            mean=_tensor(mean) if given else tf.zeros(0),
            variance=_tensor(variance) if given else tf.zeros(0),
            epsilon=self.epsilon,
            is_training=not given,
        )
        outputs = tf.ensure_shape(tf.reshape(found.y, shape), inputs.shape)
        # Its variance is that of a sample: over the values of a channel, less one.
        count = tf.cast(tf.math.reduce_prod(shape[:-1]), "float32")
        biased = found.batch_variance * ((count - 1.0) / count)
        return outputs, found.batch_mean, biased


def _tensor(variable: Any) -> Any:
    return keras.ops.convert_to_tensor(variable, dtype="float32")
