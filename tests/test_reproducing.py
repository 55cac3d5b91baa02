"""What a weights file says of its making is enough to make it again."""

from __future__ import annotations

import shutil

import keras
import pytest
from test_training import SMALL, blob, data

from unet_zoo import (
    devices,
    recipe,
    reproducing,
    segmenter,
    starting,
    training,
    weights,
)
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


class _End(keras.callbacks.Callback):
    """Ends a training after three steps, as a deadline does."""

    seen = 0

    def on_train_batch_end(self, batch, logs=None):
        self.seen += 1
        self.model.stop_training = self.seen >= 3


def test_what_ended_early_is_repeated_up_to_the_step_of_its_weights(tmp_path):
    plan = SMALL.replace(steps=8, validate_every=8)
    training.train(plan, data(), tmp_path / "run", callbacks=[_End()])
    assert weights.read_facts(tmp_path / "run" / "weights.h5")["validation"]["step"] < 8
    steps = []
    found = reproducing.reproduce(
        tmp_path / "run",
        data(),
        tmp_path / "again",
        progress=lambda told: steps.append((told.step, told.steps)),
    )
    assert found.reproduced
    assert found.distance < 1e-5
    then, now = (
        (tmp_path / each / "history.csv").read_text().splitlines()[-1].split(",")
        for each in ("run", "again")
    )
    assert then[0] == now[0]
    assert steps[-1] == (int(then[0]), int(then[0]))


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
    loaded = segmenter.load(made)
    del loaded.facts["recipe"]
    loaded.save(tmp_path / "weights.h5")
    with pytest.raises(InputError, match="does not say its recipe"):
        reproducing.source(tmp_path / "weights.h5")


def test_a_chain_of_trainings_is_repeated_from_its_first_link(made, tmp_path):
    """What it began from is trained anew where it is gone, in a folder beside."""
    shutil.copytree(made, tmp_path / "first")
    last = tmp_path / "last"
    training.train(SMALL.replace(steps=3), data(), last, start=tmp_path / "first")
    facts = weights.read_facts(last / "weights.h5")
    (stage,) = facts["stages"]
    assert recipe.from_dict(stage["recipe"]) == SMALL
    assert stage["dataset"]["name"] == "discs"
    assert reproducing.begun_from(facts["start"]) == str(tmp_path / "first")
    shutil.rmtree(tmp_path / "first")
    with pytest.raises(InputError, match="trained on 'discs' first, which is no named"):
        reproducing.reproduce(last, data(), tmp_path / "again")
    assert not (tmp_path / "again-part-1").exists()
    asked = []

    def opened(dataset):
        asked.append(dataset)
        return data()

    found = reproducing.reproduce(last, data(), tmp_path / "again", opened=opened)
    assert found.reproduced
    assert found.distance < 1e-5
    assert asked == [stage["dataset"]]
    first = weights.read_facts(tmp_path / "again-part-1" / "weights.h5")
    assert recipe.from_dict(first["recipe"]) == SMALL
    loaded = segmenter.load(last)
    del loaded.facts["stages"]
    loaded.save(tmp_path / "weights.h5")
    with pytest.raises(InputError, match=r"first is not here.*Give it as `start`"):
        reproducing.reproduce(tmp_path / "weights.h5", data(), tmp_path / "more")


def test_a_chain_is_kept_whole_or_not_at_all():
    link = {"recipe": {"steps": 1}, "dataset": {"name": "a"}}
    stages = [link, {**link, "versions": {}}]
    begun = {**link, "start": {"name": "x"}, "validation": {"SEG": 1.0}}
    found = starting.stages(starting.Start("x", None, {**begun, "stages": stages}))
    assert found == [*stages, {**link, "validation": {"SEG": 1.0}}]
    assert starting.stages(starting.Start("x", None, begun)) == []
    assert starting.stages(starting.Start("x", None, {"recipe": {}})) == []
