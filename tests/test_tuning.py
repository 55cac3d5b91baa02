"""The decoder's thresholds are chosen by what they score, and nothing else changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import catalog, segmenter, targets, tuning

SHAPE = (48, 64)


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
    network.get_layer("logits").set_weights(
        [20.0 * np.eye(3)[None, None], np.full(3, -10.0)]
    )
    facts = segmenter.describe(
        "unet", {"padding": "same"}, channels=3, normalization="none"
    )
    return segmenter.Segmenter(network, facts)


def test_seed_that_parts_touching_objects_is_found(seeing):
    labels = np.where(disc(24, 20, 13), 1, 0)
    labels[disc(24, 42, 13) & (labels == 0)] = 2
    maps = targets.get("distance").encode(labels.astype("int32"))[..., :3]
    # A network that is not sure: the valley between the two is too shallow for the
    # default seed and no touching border is seen.
    maps[..., 1] = np.where(labels > 0, np.maximum(maps[..., 1], 0.5), 0)
    maps[..., 2] = 0
    example = catalog.Example(
        "two", maps, labels.astype("int32"), labels.astype("int32")
    )
    assert seeing.segment(maps).max() == 1
    tuned = tuning.tune(seeing, [example], "SEG")
    assert tuned.segment(maps).max() == 2
    assert seeing.segment(maps).max() == 1, "the segmenter given was changed"
    assert tuned.facts["target_arguments"]["smoothing"] == 1.5
    assert tuned.network is seeing.network


def test_what_cannot_be_bettered_stays(seeing):
    labels = disc(24, 30, 12).astype("int32")
    maps = targets.get("distance").encode(labels)[..., :3]
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
