"""The decoder's thresholds are chosen by what they score, and nothing else changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import catalog, segmenter, targets, tuning

SHAPE = (48, 64)


def shown(labels: np.ndarray) -> np.ndarray:
    """Return the logits of a network that knows the labels, as an image."""
    maps = targets.get("distance").encode(labels)[..., :3].clip(1e-3, 1 - 1e-3)
    return np.log(maps / (1 - maps))


def disc(y: int, x: int, radius: int) -> np.ndarray:
    """Return a bool image of one disc."""
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.fixture(scope="module")
def seeing() -> segmenter.Segmenter:
    """Return a segmenter whose image already shows what its network should predict.

    Its network passes on three channels as logits, so that a test decides what is
    predicted.
    """
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, name="logits")(image)
    network = keras.Model(image, logits, name="unet")
    network.get_layer("logits").set_weights([np.eye(3)[None, None], np.zeros(3)])
    facts = segmenter.describe(
        "unet", {"padding": "same"}, channels=3, normalization="none"
    )
    return segmenter.Segmenter(network, facts)


def test_dip_that_joins_what_is_one_is_found(seeing):
    labels = (disc(24, 22, 12) | disc(24, 42, 12)).astype("int32")
    maps = shown(labels)
    # The waist of a dumbbell is a dip of about 0.35 in its distance.
    example = catalog.Example("one", maps, labels, labels)
    assert seeing.segment(maps).labels.max() == 2
    tuned = tuning.tune(seeing, [example], "SEG")
    assert tuned.segment(maps).labels.max() == 1
    assert seeing.segment(maps).labels.max() == 2, "the segmenter given was changed"
    assert tuned.facts["target_arguments"]["smoothing"] == 1.5
    assert tuned.network is seeing.network


def test_what_cannot_be_bettered_stays(seeing):
    labels = disc(24, 30, 12).astype("int32")
    maps = shown(labels)
    example = catalog.Example("one", maps, labels, labels)
    tuned = tuning.tune(seeing, [example], "SEG")
    assert tuned.target.arguments == seeing.target.arguments


def test_tunable_arguments_exist_and_do_not_change_what_is_taught():
    labels = disc(20, 20, 9).astype("int32")
    for name in targets.TARGETS:
        plain = targets.get(name)
        for argument, values in plain.tunable.items():
            for value in values:
                other = targets.get(name, **{argument: value})
                np.testing.assert_array_equal(
                    other.encode(labels), plain.encode(labels)
                )
