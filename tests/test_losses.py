"""Losses agree with numpy, and nobody is taught where nobody annotated."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import losses, targets

RANDOM = np.random.default_rng(3)
CLASSES = RANDOM.integers(0, 3, (2, 5, 6)).astype("float32")
SOFT = RANDOM.random((2, 5, 6)).astype("float32")
LOGITS = RANDOM.normal(0, 3, (2, 5, 6, 3)).astype("float32")
WEIGHTS = (RANDOM.random((2, 5, 6)) * 4 * (RANDOM.random((2, 5, 6)) > 0.3)).astype(
    "float32"
)


def value(loss) -> np.ndarray:
    return keras.ops.convert_to_numpy(loss)


def by_hand(pixel_losses: np.ndarray) -> np.ndarray:
    annotated = (WEIGHTS > 0).sum(axis=(1, 2))
    return (pixel_losses * WEIGHTS).sum(axis=(1, 2)) / annotated


def test_cross_entropy_is_that_of_the_paper():
    logits = LOGITS.astype("float64")
    chance = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    chosen = np.take_along_axis(chance, CLASSES[..., None].astype(int), axis=-1)
    expected = by_hand(-np.log(chosen[..., 0]))
    got = value(losses.cross_entropy(CLASSES, LOGITS, WEIGHTS))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_binary_cross_entropy_is_its_definition():
    logits = LOGITS[..., 0].astype("float64")
    chance = 1 / (1 + np.exp(-logits))
    expected = by_hand(-SOFT * np.log(chance) - (1 - SOFT) * np.log(1 - chance))
    got = value(losses.binary_cross_entropy(SOFT, LOGITS[..., 0], WEIGHTS))
    np.testing.assert_allclose(got, expected, rtol=1e-5)


def test_binary_cross_entropy_is_least_where_the_sigmoid_is_the_truth():
    truth, one = np.full((1, 1, 1), 0.3, "float32"), np.ones((1, 1, 1), "float32")
    best = np.log(0.3 / 0.7)
    at = [
        float(value(losses.binary_cross_entropy(truth, one * logit, one))[0])
        for logit in (best - 0.1, best, best + 0.1)
    ]
    assert at[1] < min(at[0], at[2])


@pytest.mark.parametrize("name", targets.TARGETS)
def test_what_is_not_annotated_changes_nothing(name):
    target = targets.get(name)
    labels = np.zeros((12, 12), "int32")
    labels[1:5, 1:6], labels[5:9, 2:6], labels[:, 8:] = 1, 2, -1
    truth = target.encode(labels)[None]
    logits = RANDOM.normal(size=(1, 12, 12, target.channels)).astype("float32")
    changed = logits.copy()
    changed[:, labels == -1] = RANDOM.normal(0, 50, target.channels)
    before, after = (value(target.loss(truth, each)) for each in (logits, changed))
    np.testing.assert_allclose(after, before, rtol=1e-6)
    changed = logits.copy()
    changed[0, 0, 0, -1] += 1
    after = value(target.loss(truth, changed))
    assert abs(after - before) > 1e-4 * before


@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_annotation_at_all_is_no_loss_and_no_gradient(name):
    target = targets.get(name)
    truth = target.encode(np.full((4, 4), -1, "int32"))[None]
    loss, slope = loss_and_slope(target, truth, np.ones((1, 4, 4, target.channels)))
    assert loss == 0
    assert (slope == 0).all()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_extreme_logits_stay_finite(name):
    target = targets.get(name)
    labels = np.zeros((6, 6), "int32")
    labels[1:3, 1:5], labels[3:5, 1:5] = 1, 2
    truth = target.encode(labels)[None]
    logits = RANDOM.choice([-1e4, 1e4], size=(1, 6, 6, target.channels))
    loss, slope = loss_and_slope(target, truth, logits)
    assert np.isfinite(loss)
    assert loss > 100
    assert np.isfinite(slope).all()
    assert slope.any()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_the_gradient_at_no_opinion_is_the_one_beside_it(name):
    # Features that are all off give logits of 0 exactly, where max and abs have kinks.
    target = targets.get(name)
    labels = np.zeros((6, 6), "int32")
    labels[1:3, 1:5] = 1
    truth = target.encode(labels)[None]
    nothing = np.zeros((1, 6, 6, target.channels))
    below, at, above = (
        loss_and_slope(target, truth, nothing + shift)[1] for shift in (-0.01, 0, 0.01)
    )
    assert np.abs(at).max() > 1
    np.testing.assert_allclose(at, (below + above) / 2, atol=0.01 * np.abs(at).max())


def loss_and_slope(target, truth, logits):
    """Return the loss of one example, and its gradient with respect to the logits.

    One step of plain gradient descent tells the gradient on every backend.
    """

    class Free(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            self.logits = self.add_weight(
                shape=logits.shape, initializer=lambda shape, dtype: logits
            )

        def call(self, inputs):
            return self.logits + 0 * inputs[:, :1, :1, :1]

        def compute_loss(self, x, y, y_pred, sample_weight=None, training=True):
            return keras.ops.sum(target.loss(y, y_pred))

    model = Free()
    model.compile(keras.optimizers.SGD(1e3), jit_compile=False)
    logits = logits.astype("float32")
    loss = float(np.ravel(model.train_on_batch(truth, truth))[0])
    return loss, logits - model.get_weights()[0]


def test_a_weight_map_does_not_change_the_size_of_the_step():
    # Pixels without annotation do not dilute the loss of the others.
    classes, logits = CLASSES[:1], LOGITS[:1]
    ones = np.ones_like(classes)
    half = ones.copy()
    half[:, :, 3:] = 0
    cut = losses.cross_entropy(classes[:, :, :3], logits[:, :, :3], ones[:, :, :3])
    masked = losses.cross_entropy(classes, logits, half)
    np.testing.assert_allclose(value(cut), value(masked), rtol=1e-6)
