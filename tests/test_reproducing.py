"""What a weights file says of its making is enough to make it again."""

from __future__ import annotations

import pytest
from test_training import SMALL, blob, data

from unet_zoo import devices, reproducing, training, weights
from unet_zoo.catalog import Dataset
from unet_zoo.errors import InputError


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "run"
    training.train(SMALL, data(), folder)
    return folder


def test_the_file_says_how_it_was_made(made):
    plan, dataset = reproducing.source(made)
    assert plan == SMALL
    assert len(dataset["sha256"]) == 64
    facts = weights.read_facts(made / "weights.h5")
    assert facts["deterministic"] is devices.is_deterministic()


def test_the_same_training_is_the_same_and_says_what_may_differ(made, tmp_path):
    found = reproducing.reproduce(made, data(), tmp_path / "run")
    assert found.reproduced
    assert found.distance < 1e-5
    assert found.metrics.keys() == {"SEG", "Dice"}
    assert not [each for each in found.differing if "dataset" in each]
    assert "deterministic" in found.differing[0]


def test_other_images_are_told(made, tmp_path):
    readers = {
        "train": lambda: [blob(number) for number in range(20, 26)],
        "validation": lambda: [blob(10), blob(11)],
    }
    other = Dataset("discs", "1.2.3", None, "instances", "Discs.", {}, readers)
    found = reproducing.reproduce(made, other, tmp_path / "run", spread=0.0)
    assert [each for each in found.differing if each.startswith("dataset.sha256 is ")]
    assert not found.same_bits
    assert found.distance > 1e-4


def test_what_does_not_say_how_it_was_made_is_refused(made, tmp_path):
    from unet_zoo import segmenter

    loaded = segmenter.load(made)
    del loaded.facts["recipe"]
    loaded.save(tmp_path / "weights.h5")
    with pytest.raises(InputError, match="does not say its recipe"):
        reproducing.source(tmp_path / "weights.h5")
