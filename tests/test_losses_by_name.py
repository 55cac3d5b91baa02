"""Every loss that a recipe can name: its formula, its ends, and what it must not see.

Values are compared on TensorFlow, JAX and PyTorch: this file, run as a script.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import three_backends
from three_backends import BACKENDS

NAMES = (
    "cross_entropy",
    "focal",
    "dice",
    "dice_cross_entropy",
    "tversky",
    "focal_tversky",
    "lovasz",
    "boundary",
    "cldice",
)
SHAPE = (2, 9, 11)


def numbers() -> dict[str, np.ndarray]:
    """Return a mask, classes, logits of both, and weights, a third of them 0."""
    generator = np.random.default_rng(5)
    kept = generator.random(SHAPE) > 0.33
    # Blobs rather than noise, so that there are distances and lines.
    smooth = scipy.ndimage.gaussian_filter(generator.normal(size=SHAPE), (0, 1.5, 1.5))
    return {
        "mask": (smooth > 0).astype("float32"),
        "classes": np.digitize(smooth, (-0.1, 0.1)).astype("float32"),
        "weights": (kept * generator.uniform(0.5, 3, SHAPE)).astype("float32"),
        "of_mask": generator.normal(0, 2, SHAPE).astype("float32"),
        "of_classes": generator.normal(0, 2, (*SHAPE, 3)).astype("float32"),
    }


# === The formulas once more, in numpy, one example at a time ===


def softmax(z):
    powers = np.exp(z - z.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def mean(values, w):
    return (w * values).sum() / (w > 0).sum()


def cross_entropy(g, p, w):
    return mean(-np.log(np.where(g > 0, p, 1 - p)), w)


def focal(g, p, w):
    right, factor = np.where(g > 0, p, 1 - p), np.where(g > 0, 0.25, 0.75)
    return mean(-factor * (1 - right) ** 2 * np.log(right), w)


def dice(g, p, w):
    return 1 - (2 * (w * g * p).sum() + 1) / ((w * g).sum() + (w * p).sum() + 1)


def tversky(g, p, w):
    tp, fp, fn = ((w * x).sum() for x in (g * p, (1 - g) * p, g * (1 - p)))
    return 1 - (tp + 1) / (tp + 0.3 * fp + 0.7 * fn + 1)


def focal_tversky(g, p, w):
    return tversky(g, p, w) ** 0.75


def jaccard(wrong, g, w):
    """Return the Jaccard loss of a prediction that is wrong in the pixels `wrong`."""
    found = np.where(wrong, 1 - g, g)
    either = (w * np.maximum(found, g)).sum()
    return 1 - (w * found * g).sum() / either if either else 0.0


def lovasz(errors, g, w):
    """Return the sum over ever more wrong pixels, by the definition."""
    total, wrong, before = 0.0, np.zeros(g.shape, bool), 0.0
    for place in np.argsort(-errors.ravel(), kind="stable"):
        wrong.flat[place] = True
        after = jaccard(wrong, g, w)
        total += errors.flat[place] * (after - before)
        before = after
    return total


def distance(g, w):
    """Return the distance to the nearest annotated pixel on the other side."""
    inside, outside = (g > 0) & (w > 0), (g == 0) & (w > 0)
    to_inside, to_outside = (
        scipy.ndimage.distance_transform_edt(~side) for side in (inside, outside)
    )
    return np.where(g > 0, 0.5 - to_outside, to_inside - 0.5)


def boundary(g, p, w):
    return dice(g, p, w) + 0.01 * mean(distance(g, w) * (p - g), w)


def skeleton(x):
    def erode(x):
        one, other = (scipy.ndimage.minimum_filter(x, s) for s in ((3, 1), (1, 3)))
        return np.minimum(one, other)

    def taken(x):
        return np.maximum(x - scipy.ndimage.maximum_filter(erode(x), 3), 0)

    lines = taken(x)
    for _ in range(3):
        x = erode(x)
        lines = lines + np.maximum(taken(x) - lines * taken(x), 0)
    return lines


def cldice(g, p, w):
    known = w > 0
    found, true = skeleton(p * known), skeleton(g * known)
    precision, recall = (
        ((w * line * mask).sum() + 1) / ((w * line).sum() + 1)
        for line, mask in ((found, g), (true, p))
    )
    both = 2 * precision * recall / (precision + recall)
    return 0.5 * dice(g, p, w) + 0.5 * (1 - both)


def expected_of_mask(name: str, given: dict[str, np.ndarray]) -> list[float]:
    values = []
    for g, z, w in zip(
        *(given[k] for k in ("mask", "of_mask", "weights")), strict=True
    ):
        g, z, w = (each.astype("float64") for each in (g, z, w))
        p = 1 / (1 + np.exp(-z))
        if name == "lovasz":
            values.append(lovasz(np.maximum(1 - z * (2 * g - 1), 0), g, w))
        elif name == "dice_cross_entropy":
            values.append(dice(g, p, w) + cross_entropy(g, p, w))
        else:
            values.append(globals()[name](g, p, w))
    return values


def expected_of_classes(name: str, given: dict[str, np.ndarray]) -> list[float]:
    values = []
    keys = ("classes", "of_classes", "weights")
    for c, z, w in zip(*(given[key] for key in keys), strict=True):
        c, p, w = c.astype(int), softmax(z.astype("float64")), w.astype("float64")
        chosen = np.take_along_axis(p, c[..., None], axis=-1)[..., 0]
        entropy = mean(-np.log(chosen), w)
        if name == "cross_entropy":
            values.append(entropy)
        elif name == "focal":
            factor = np.where(c > 0, 0.25, 0.75)
            values.append(mean(-factor * (1 - chosen) ** 2 * np.log(chosen), w))
        elif name == "lovasz":
            each = [
                lovasz(abs((c == k) - p[..., k]), 1.0 * (c == k), w) for k in (0, 1, 2)
            ]
            values.append(np.mean(each))
        else:
            formula = dice if name == "dice_cross_entropy" else globals()[name]
            value = np.mean([formula(1.0 * (c == k), p[..., k], w) for k in (1, 2)])
            values.append(value + (entropy if name == "dice_cross_entropy" else 0))
    return values


# === What every backend makes of it ===


def slopes(loss, truth, logits, weights) -> tuple[np.ndarray, np.ndarray]:
    """Return the losses of a batch, and the gradient of their sum."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        # A graph, as in training: loops and shapes are others than in eager mode.
        @tf.function
        def both(z):
            with tf.GradientTape() as tape:
                tape.watch(z)
                value = loss(truth, z, weights)
            return value, tape.gradient(value, z)

        value, slope = both(tf.constant(logits))
    elif backend == "jax":
        import jax

        def summed(z):
            value = loss(truth, z, weights)
            return value.sum(), value

        slope, value = jax.jit(jax.grad(summed, has_aux=True))(logits)
    else:
        import torch

        z = torch.tensor(logits, requires_grad=True)
        value = loss(torch.tensor(truth), z, torch.tensor(weights))
        value.sum().backward()
        slope, value = z.grad, value.detach()
    return tuple(keras.ops.convert_to_numpy(each) for each in (value, slope))


def cases(kind: str) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Return truth, logits and weights of what each loss is asked, by its name."""
    given = numbers()
    truth, logits, weights = given[kind], given[f"of_{kind}"], given["weights"]
    found = {"value": (truth, logits, weights)}
    # Nobody annotated these pixels: the truth and the logits may be anything.
    unknown = weights == 0
    other, moved = truth.copy(), logits.copy()
    other[unknown], moved[unknown] = 1 - (truth[unknown] > 0), 7
    found["unseen"] = other, moved, weights
    found["nothing"] = truth, logits, 0 * weights
    for end, seen in {
        "empty": 0 * truth,
        "full": 0 * truth + 1,
        "right": truth,
    }.items():
        perfect = 20 * (2 * seen - 1)
        if kind == "classes":
            perfect = 40 * np.eye(3, dtype="float32")[seen.astype(int)]
        found[end] = seen, perfect, weights
        found[f"{end}_missed"] = seen, -perfect, weights
    return found


def work(folder: Path) -> None:
    from unet_zoo import losses

    results = {}
    for kind in ("mask", "classes"):
        asked = cases(kind)
        # One batch, since each example has its own loss.
        batch = [np.concatenate(each) for each in zip(*asked.values(), strict=True)]
        for name in NAMES:
            loss = getattr(losses.Loss(name), f"of_{kind}")
            for what, array in zip(("", "_slope"), slopes(loss, *batch), strict=True):
                parts = np.split(array, len(asked))
                for case, part in zip(asked, parts, strict=True):
                    results[f"{name}_{kind}_{case}{what}"] = part
    np.savez(folder / "results.npz", **results)


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    return three_backends.results(__file__, tmp_path_factory, timeout=300)


CASES = [(name, kind) for name in NAMES for kind in ("mask", "classes")]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_the_value_is_that_of_the_formula(results, backend, name, kind):
    formula = expected_of_mask if kind == "mask" else expected_of_classes
    found = results[backend][f"{name}_{kind}_value"]
    np.testing.assert_allclose(found, formula(name, numbers()), rtol=2e-4)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_pixels_without_annotation_have_no_part(results, backend, name, kind):
    found, key = results[backend], f"{name}_{kind}"
    np.testing.assert_array_equal(found[f"{key}_unseen"], found[f"{key}_value"])
    slope, same = found[f"{key}_value_slope"], found[f"{key}_unseen_slope"]
    unknown = numbers()["weights"] == 0
    assert (slope[unknown] == 0).all()
    assert (same[unknown] == 0).all()
    np.testing.assert_allclose(same[~unknown], slope[~unknown], rtol=1e-6)
    assert abs(slope[~unknown]).max() > 1e-4
    # And where nothing is annotated, nothing is lost or taught.
    # A graph adds up in another order than its formula: one rounding is left of 1 - 1.
    np.testing.assert_allclose(found[f"{key}_nothing"], 0, atol=1e-7)
    assert (found[f"{key}_nothing_slope"] == 0).all()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_it_is_least_at_the_truth_and_finite_at_the_ends(results, backend, name, kind):
    found, key = results[backend], f"{name}_{kind}"
    for end in ("empty", "full", "right"):
        right, missed = found[f"{key}_{end}"], found[f"{key}_{end}_missed"]
        # A skeleton of what is soft by a billionth is itself soft.
        np.testing.assert_allclose(right, 0, atol=1e-4)
        assert (missed > 0.2).all(), (end, missed)
        for each in (end, f"{end}_missed"):
            assert np.isfinite(found[f"{key}_{each}_slope"]).all()
    assert (found[f"{key}_value"] > found[f"{key}_right"]).all()


@pytest.mark.parametrize("backend", BACKENDS[1:])
@pytest.mark.parametrize(("name", "kind"), CASES)
def test_every_backend_teaches_the_same(results, backend, name, kind):
    key = f"{name}_{kind}_value_slope"
    slope, other = results["tensorflow"][key], results[backend][key]
    np.testing.assert_allclose(other, slope, atol=2e-5 * abs(slope).max())


def test_the_slope_leads_down():
    """Along its own gradient every loss falls, as far as a small step goes."""
    import keras

    from unet_zoo import losses

    given = numbers()
    truth, z, w = given["classes"], given["of_classes"], given["weights"]
    for name in NAMES:
        loss = losses.Loss(name).of_classes
        value, slope = slopes(loss, truth, z, w)
        size = (slope**2).sum(axis=(1, 2, 3))
        step = 1e-2 / np.sqrt(size).reshape(-1, 1, 1, 1)
        after = keras.ops.convert_to_numpy(loss(truth, z - step * slope, w))
        np.testing.assert_allclose(value - after, 1e-2 * np.sqrt(size), rtol=0.1)


# === Choosing one ===


def test_table_and_functions_agree():
    from unet_zoo import choices, losses
    from unet_zoo.losses import choice

    assert tuple(choices.LOSSES) == NAMES
    for table in (choice._REGIONS, choice._OF_CLASSES, choice._OF_MASK):
        for name, function in table.items():
            taken = inspect.signature(function).parameters.values()
            defaults = {p.name: p.default for p in taken if p.default is not p.empty}
            assert losses.Loss(name).arguments == defaults, name


def test_extremes_of_the_arguments_are_other_losses():
    from unet_zoo import losses

    given = numbers()
    mask = (given["mask"], given["of_mask"], given["weights"])
    classes = (given["classes"], given["of_classes"], given["weights"])

    def same(one: losses.Loss, other: losses.Loss, factor: float = 1.0) -> None:
        for name, numbers in (("of_mask", mask), ("of_classes", classes)):
            left, right = (getattr(each, name)(*numbers) for each in (one, other))
            np.testing.assert_allclose(left, factor * np.asarray(right), rtol=1e-5)

    even = {"alpha": 0.5, "beta": 0.5}
    same(losses.Loss("focal", {"gamma": 0, "alpha": 0.5}), losses.Loss(), 0.5)
    same(losses.Loss("focal_tversky", {"gamma": 1}), losses.Loss("tversky"))
    same(losses.Loss("boundary", {"alpha": 0}), losses.Loss("dice"))
    same(losses.Loss("cldice", {"alpha": 0}), losses.Loss("dice"))
    same(losses.Loss("dice_cross_entropy", {"alpha": 0}), losses.Loss())
    # 1 - (a + 1) / (b + 1) and 1 - (2 a + 1) / (2 b + 1): the same but for SMOOTH.
    large = np.full((1, 60, 60), 50.0, "float32")
    g = (np.arange(3600).reshape(1, 60, 60) % 3 == 0).astype("float32")
    left, right = (
        losses.Loss(*each).of_mask(g, 0.7 - g, large)
        for each in (("tversky", even), ("dice",))
    )
    np.testing.assert_allclose(left, right, rtol=1e-3)


if __name__ == "__main__":
    work(Path(sys.argv[1]))
