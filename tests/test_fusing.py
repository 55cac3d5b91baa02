"""One operation normalises and learns as Keras' layer does, and is written as it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_zoo import devices, learner, recipe, registry, segmenter, targets
from unet_zoo.devices import normalizing


def network(shape, **options):
    """Return one layer of batch normalisation as a network, with random weights."""
    made = keras.Sequential(
        [keras.Input(shape[1:]), keras.layers.BatchNormalization(**options)]
    )
    generator = np.random.default_rng(0)
    made.set_weights([generator.uniform(0.5, 2.0, each.shape) for each in made.weights])
    return made


def fused(shape, **options):
    made = network(shape, **options)
    devices.fuse(made)
    assert "call" in vars(made.layers[-1])
    return made


def precise(shape, **options):
    """Return the layer as a deterministic training has it."""
    made = network(shape, **options)
    normalizing.precisely(made, total=lambda values: values, parts=1)
    assert "call" in vars(made.layers[-1])
    return made


def taught(network, x):
    """Return outputs in training, gradients, statistics after it, and inference."""
    x = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(x)
        y = network(x, training=True)
        loss = tf.reduce_sum(tf.cast(y, "float32") ** 3)
    wanted = [x, *(each.value for each in network.trainable_variables)]
    found = [y, *tape.gradient(loss, wanted)]
    found += [each.value for each in network.non_trainable_variables]
    return [np.asarray(tf.cast(each, "float32")) for each in (*found, network(x))]


def values(shape):
    return np.random.default_rng(1).normal(3.0, 2.0, shape).astype("float32")


@pytest.mark.parametrize(
    "shape", [(3, 6, 5, 4), (2, 4, 6, 5, 3), (1, 2, 2, 1), (64, 3)], ids=str
)
@pytest.mark.parametrize(
    "options",
    [{}, {"scale": False}, {"center": False, "epsilon": 1e-5}, {"trainable": False}],
    ids=str,
)
def test_it_computes_what_the_layer_of_keras_does(shape, options):
    x = values(shape)
    plain = taught(network(shape, **options), x)
    for make in (fused, precise):
        for ours, theirs in zip(taught(make(shape, **options), x), plain, strict=True):
            limit = 2e-5 * shape[1] ** 2
            np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=limit)


def test_channels_may_lie_anywhere():
    options = {"axis": 1}
    x = values((3, 4, 6, 5))
    plain = taught(network(x.shape, **options), x)
    for ours, theirs in zip(taught(precise(x.shape, **options), x), plain, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=3e-4)


def test_a_deterministic_training_keeps_digits_that_keras_loses():
    shape = (4, 64, 64, 3)
    x = values(shape)
    exact = taught(network(shape, dtype="float64"), x)
    errors = [
        [np.abs(a - b).max() for a, b in zip(taught(made, x), exact, strict=True)]
        for made in (network(shape), precise(shape))
    ]
    # Sums of 16,384 values: what flows back, and the gradients of gamma and beta.
    for keras_loses, ours_loses in list(zip(*errors, strict=True))[1:4]:
        assert ours_loses < 0.5 * keras_loses


def test_half_precision_loses_no_more_than_keras_does():
    shape = (4, 16, 16, 3)
    x = values(shape)
    exact = taught(network(shape), x)
    plain = taught(network(shape, dtype="mixed_bfloat16"), x)
    for make in (fused, precise):
        half = make(shape, dtype="mixed_bfloat16")
        assert half(x).dtype == tf.bfloat16
        for ours, theirs, truth in zip(taught(half, x), plain, exact, strict=True):
            assert abs(ours - truth).max() / abs(truth).max() < 0.02
            assert abs(ours - truth).mean() < 1.5 * abs(theirs - truth).mean() + 1e-6


def test_it_is_one_operation():
    made = fused((None, None, None, 3))
    graph = tf.function(lambda x: made(x, training=True)).get_concrete_function(
        tf.TensorSpec((None, None, None, 3))
    )
    kinds = [operation.type for operation in graph.graph.get_operations()]
    assert kinds.count("FusedBatchNormV3") == 1
    assert not {"SquaredDifference", "Rsqrt"} & set(kinds)


def test_layers_that_others_speak_for_stay_as_they_are():
    shape = (1, 2, 2, 3)
    synchronized, other = network(shape, synchronized=True), network(shape, axis=1)
    devices.fuse(synchronized)
    assert "call" not in vars(synchronized.layers[-1])
    mirrored = precise(shape)
    before = mirrored.layers[-1].call
    devices.fuse(mirrored)
    assert mirrored.layers[-1].call is before
    devices.fuse(other)
    np.testing.assert_array_equal(
        other(values(shape)), network(shape, axis=1)(values(shape))
    )


def test_a_deterministic_training_sums_as_replicas_do(monkeypatch):
    monkeypatch.setattr(devices, "_deterministic", True)
    shape = (1, 2, 2, 3)
    made = network(shape)
    devices.fuse(made)
    x = values(shape)
    for ours, theirs in zip(taught(made, x), taught(precise(shape), x), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    # Written for others, it is a layer of Keras.
    devices.exportable(made)
    assert "call" not in vars(made.layers[-1])


def test_learners_and_segmenters_are_fused_and_written_as_stock_layers():
    options = {"filters": 2, "depth": 1, "padding": "same", "normalization": "batch"}
    plan = recipe.named("default").replace(patch=16, model_arguments=options)
    target = targets.get(plan.target)

    def build():
        shape = (None, None, 1)
        return registry.build(
            "unet", input_shape=shape, classes=target.channels, **options
        )

    facts = segmenter.describe("unet", options, channels=1)
    users = [
        learner.of_recipe(plan, build(), target, 1),
        segmenter.Segmenter(build(), facts),
    ]
    for user in users:
        layers = [each for each in user.network.layers if "norm" in each.name]
        assert layers
        assert all("call" in vars(layer) for layer in layers)
    again = keras.models.model_from_json(user.network.to_json())
    again.set_weights(user.network.get_weights())
    assert not any("call" in vars(layer) for layer in again.layers)
    x = values((1, 20, 12, 1))
    np.testing.assert_allclose(again(x), user.network(x), atol=1e-5)
