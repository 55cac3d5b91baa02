"""All outputs of a network are taught; the first is what segments afterwards."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from test_training import SMALL, blob, data, history

from unet_zoo import registry, segmenter, supervision, targets, training
from unet_zoo.errors import InputError

# Small enough to train, and three outputs or more each.
VARIANTS = {
    "unet_plus_plus": {"filters": 2, "depth": 3},
    "unet_3plus": {"filters": 2, "depth": 2},
    "u2net": {"filters": 4, "depth": 2, "lite": True},
    "mednext": {"filters": 2, "depth": 2},
    "nnunet": {"filters": 2, "depth": 3},
}


@pytest.mark.parametrize("model", VARIANTS)
def test_every_output_of_every_variant_is_taught(model):
    arguments = {**VARIANTS[model], "deep_supervision": True}
    network = registry.build(model, input_shape=(16, 16, 1), classes=3, **arguments)
    supervision.check(network)
    outputs = network(np.random.default_rng(0).random((2, 16, 16, 1), "float32"))
    assert len(outputs) >= 3
    target = targets.get("distance")
    labels = np.zeros((16, 16), "int32")
    labels[2:9, 3:12], labels[9:14, 3:12], labels[:, 14:] = 1, 2, -1
    truth = np.stack([target.encode(labels), target.encode(labels.T)])
    found = supervision.loss(target.loss, truth, outputs)

    total, whole = 0, 0
    for each in outputs:
        step = 16 // each.shape[1]
        weight = 1 / step
        total = total + weight * np.asarray(target.loss(truth[:, ::step, ::step], each))
        whole += weight
    np.testing.assert_allclose(found, total / whole, rtol=1e-5)
    same_size = {each.shape[1] for each in outputs} == {16}
    assert same_size == (model not in ("mednext", "nnunet"))


def test_what_is_not_annotated_is_so_at_every_size():
    target = targets.get("semantic")
    generator = np.random.default_rng(1)
    labels = generator.integers(-1, 2, (16, 16)).astype("int32")
    truth = target.encode(labels)[None]
    outputs = [
        generator.normal(size=(1, n, n, 2)).astype("float32") for n in (16, 8, 4)
    ]
    changed = []
    for each in outputs:
        step = 16 // each.shape[1]
        moved = each.copy()
        moved[:, labels[::step, ::step] == -1] += 9
        assert (moved != each).any()
        changed.append(moved)
    before, after = (
        supervision.loss(target.loss, truth, each) for each in (outputs, changed)
    )
    np.testing.assert_array_equal(before, after)


def test_outputs_are_compared_where_they_are_centred():
    """A pixel of a small output sees the image around its place in the truth."""
    network = registry.build(
        "mednext",
        input_shape=(64, 16, 1),
        classes=1,
        filters=2,
        depth=2,
        normalization=None,
        deep_supervision=True,
    )
    # The first image is empty, each of the others shows one row.
    rows = np.zeros((65, 64, 16, 1), "float32")
    rows[np.arange(1, 65), np.arange(64)] = 1
    # Pixel 8 of the output of a quarter of the size: row 32 of the image.
    answers = np.asarray(network(rows)[2])[:, 8, 2, 0]
    seen = np.flatnonzero(answers[1:] != answers[0])
    assert 2 < len(seen) < 60
    assert abs((seen.min() + seen.max()) / 2 - 32) <= 0.5


def test_a_training_teaches_all_outputs_and_the_first_segments(tmp_path):
    plan = SMALL.replace(
        model="nnunet",
        model_arguments={"filters": 2, "depth": 2, "deep_supervision": True},
        loss="dice_cross_entropy",
        steps=2,
        validate_every=2,
        optimizer={"average": 0.0, "schedule": "constant"},
    )
    result = training.train(plan, data(held_out=1), tmp_path / "run")
    assert np.isfinite(history(tmp_path / "run")[0]["loss"])
    loaded = segmenter.load(tmp_path / "run" / "weights.h5")
    assert [each.shape[-1] for each in loaded.network.outputs] == [3, 3]
    # Biases begin at zero.
    for name in ("logits", "logits1"):
        assert loaded.network.get_layer(name).bias.numpy().all()
    image = blob(7).image
    prediction = loaded.predict(image, tta=1)
    np.testing.assert_array_equal(prediction, result.predict(image, tta=1))
    assert loaded.segment(image).shape == image.shape[:2]
    # The same network without the other output predicts the same.
    alone = keras.Model(loaded.network.input, loaded.network.outputs[0])
    single = segmenter.Segmenter(alone, loaded.facts)
    np.testing.assert_allclose(prediction, single.predict(image, tta=1), atol=1e-6)


@pytest.mark.parametrize(
    ("model", "arguments", "names"),
    [
        ("unet_3plus", {"depth": 1, "classification": True}, "classification"),
        (
            "resunet_a",
            {"depth": 1, "pyramid": 1, "multitask": True},
            "boundary, distance, color",
        ),
    ],
)
def test_outputs_of_other_things_are_refused(tmp_path, model, arguments, names):
    recipe = SMALL.replace(
        model=model, model_arguments={"filters": 2} | arguments, patch=32
    )
    with pytest.raises(InputError, match=f"other things than the target: {names}"):
        training.train(recipe, data(), tmp_path / "run")
    assert not (tmp_path / "run").exists()
