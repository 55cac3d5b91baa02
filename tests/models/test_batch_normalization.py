"""The single operation normalises as Keras' layer does, and learns as it does."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_zoo import registry
from unet_zoo.models._batch_normalization import BatchNormalization


def pair(shape, **options):
    """Return Keras' layer, ours and the input, with the same random weights."""
    generator = np.random.default_rng(0)
    layers = keras.layers.BatchNormalization(**options), BatchNormalization(**options)
    for layer in layers:
        layer.build(shape)
    values = [generator.uniform(0.5, 2.0, each.shape) for each in layers[0].weights]
    for layer in layers:
        layer.set_weights(values)
    x = generator.normal(3.0, 2.0, shape).astype("float32")
    return *layers, x


def taught(layer, x):
    """Return outputs in training, gradients, statistics after it, and inference."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = layer(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 3)
    wanted = [x, *(each.value for each in layer.trainable_variables)]
    found = [y, *tape.gradient(loss, wanted)]
    found += [each.value for each in layer.non_trainable_variables]
    return [np.asarray(tf.cast(each, "float32")) for each in (*found, layer(x))]


@pytest.mark.parametrize("shape", [(3, 6, 5, 4), (2, 4, 6, 5, 3), (1, 2, 2, 1)])
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": False}, {"center": False, "epsilon": 1e-5}, {"trainable": False}],
    ids=str,
)
def test_it_is_the_layer_of_keras(shape, options):
    plain, fused, x = pair(shape, **options)
    assert fused._is_fused(tf.constant(x))
    for ours, theirs in zip(taught(fused, x), taught(plain, x), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=2e-5 * shape[1] ** 2)


def test_half_precision_loses_no_more_than_keras_does():
    plain, fused, x = pair((4, 16, 16, 3), dtype="mixed_bfloat16")
    exact = taught(pair(x.shape)[0], x)
    assert fused(tf.constant(x)).dtype == tf.bfloat16
    for ours, theirs, truth in zip(
        taught(fused, x), taught(plain, x), exact, strict=True
    ):
        scale = abs(truth).max()
        assert abs(ours - truth).max() / scale < 0.01
        assert abs(ours - truth).mean() < 1.5 * abs(theirs - truth).mean() + 1e-6


def test_what_the_operation_cannot_do_is_done_by_keras():
    layer = BatchNormalization()
    assert not layer._is_fused(tf.zeros((4, 3)))
    assert not layer._is_fused(tf.zeros((1, 2, 2, 3), "float64"))
    assert not BatchNormalization(axis=1)._is_fused(tf.zeros((1, 2, 2, 3)))
    assert not BatchNormalization(synchronized=True)._is_fused(tf.zeros((1, 2, 2, 3)))
    mirrored = BatchNormalization()
    mirrored._moments = lambda inputs, mask: None
    assert not mirrored._is_fused(tf.zeros((1, 2, 2, 3)))


def test_a_network_of_any_size_returns_from_its_configuration():
    network = registry.build(
        "unet", input_shape=(None, None, 1), filters=2, depth=1, normalization="batch"
    )
    kinds = [layer for layer in network.layers if isinstance(layer, BatchNormalization)]
    assert kinds
    again = keras.Model.from_config(network.get_config())
    again.set_weights(network.get_weights())
    for size in (20, 24):
        x = np.random.default_rng(size).normal(size=(1, size, size, 1))
        x = x.astype("float32")
        np.testing.assert_array_equal(network(x), again(x))
