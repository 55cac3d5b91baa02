"""An entry says what was measured and loads; nothing unmeasured is published."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import errors, publishing, registry, segmenter, weights
from unet_zoo.recipe import Recipe

WORDS = publishing.Words(
    summary="A network that was taught nothing.",
    use="None.",
    limits="All.",
    conditions="None.",
    licence="Apache-2.0",
    citation="Nobody.",
)
MEASURED = weights.Evaluation(
    title="Unseen",
    dataset="blobs",
    config="easy",
    split="test",
    tta=1,
    version="1.0.0",
    metrics={"SEG": {"value": 0.123456, "objects": 97, "frames": 9}},
    interval={
        "metric": "SEG",
        "low": 0.1,
        "high": 0.2,
        "level": 0.95,
        "by": "objects",
        "resamples": 2000,
        "seed": 0,
    },
)


@pytest.fixture
def run(tmp_path):
    """Return the folder of a training that never was, with real weights."""
    arguments = {"filters": 2, "depth": 2, "padding": "same"}
    facts = segmenter.describe(
        "unet",
        arguments,
        channels=1,
        recipe=Recipe().to_dict(),
        dataset={
            "name": "blobs",
            "version": "1.0.0",
            "config": None,
            "train": 3,
            "validation": 1,
        },
    )
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    folder = tmp_path / "run"
    folder.mkdir()
    segmenter.Segmenter(network, facts).save(folder / "weights.h5")
    return folder


def test_entry_holds_what_was_measured_and_loads(run, tmp_path):
    path = publishing.publish(
        run,
        tmp_path / "unet-none",
        evaluations=[MEASURED],
        words=WORDS,
        dtype="float16",
    )
    text = path.read_text()
    assert "0.123456" in text
    assert weights.sha256(path.parent / "weights.h5") in text
    card = (path.parent / "README.md").read_text()
    assert "| SEG | 0.1235 | 97 | 9 |" in card
    command = "unet-zoo evaluate unet-none --dataset blobs --config easy --split test"
    assert f"    {command} --tta 1\n" in card
    assert "95% interval of SEG: 0.1000 to 0.2000 (2000 bootstrap resamples" in card
    loaded = segmenter.load(path.parent / "weights.h5")
    assert loaded.name == "unet-none"
    assert loaded.facts["metrics"]["SEG"]["objects"] == 97
    image = np.random.default_rng(0).random((20, 30), "float32")
    difference = loaded.predict(image) - segmenter.load(run / "weights.h5").predict(
        image
    )
    assert np.abs(difference).max() < 2e-3, "half precision changed the prediction"


def test_nothing_unmeasured_is_published(run, tmp_path):
    with pytest.raises(errors.InputError, match="without figures"):
        publishing.publish(run, tmp_path / "unet-none", evaluations=[], words=WORDS)
    assert not (tmp_path / "unet-none").exists()
