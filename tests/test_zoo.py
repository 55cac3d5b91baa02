"""The zoo's entries: whole, small, documented, and as good as their cards say."""

from __future__ import annotations

import re
import runpy
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml

import unet_zoo
from unet_zoo import (
    cards,
    catalog,
    devices,
    engines,
    evaluation,
    recipe,
    weights,
)

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = (
    "attention_unet-blobs",
    "attention_unet-hela",
    "attention_unet-membrane",
    "resunet-blobs",
    "resunet-hela",
    "resunet-membrane",
    "unet-blobs",
    "unet-blobs-large",
    "unet-hela",
    "unet-membrane",
    "unet_plus_plus-blobs",
    "unet_plus_plus-hela",
    "unet_plus_plus-membrane",
    "unext-blobs",
)
LARGEST = 16 * 10**6  # bytes of a weights file in the wheel
every_entry = pytest.mark.parametrize("name", sorted({*SHIPPED, *weights.names()}))


def entry(name: str) -> weights.Entry:
    if name not in weights.names():
        pytest.skip(f"{name} is not published yet")
    return weights.entry(name)


def card(name: str) -> str:
    return (entry(name).folder / "README.md").read_text(encoding="utf-8")


def on_card(name: str, metric: str) -> list[tuple[float, int]]:
    """Return value and objects of every line of the card about `metric`."""
    lines = re.findall(rf"^\| {metric} \| ([\d.]+) \| (\d+) \|", card(name), flags=re.M)
    return [(float(value), int(objects)) for value, objects in lines]


def test_what_was_promised_is_shipped() -> None:
    assert set(SHIPPED) <= set(weights.names())


@every_entry
def test_entries_are_whole_and_small(name: str) -> None:
    facts = entry(name)
    assert weights.locate(name, offline=True) == facts.path
    assert facts.bytes == facts.path.stat().st_size <= LARGEST
    assert name.startswith(f"{facts.model}-{facts.dataset}")


@every_entry
def test_the_card_says_what_the_entry_says(name: str) -> None:
    facts = entry(name)
    text = card(name)
    for heading in ("Use and limits", "How good it is", "How it was made", "Licence"):
        assert re.search(rf"^## .*{heading}", text, flags=re.M)
    assert facts.metrics
    for metric, score in facts.metrics.items():
        value, objects = on_card(name, re.escape(metric))[0]
        assert value == pytest.approx(score["value"], abs=1e-4)
        assert objects == score["objects"]


@every_entry
def test_the_card_is_generated_and_the_hub_can_read_it(name: str) -> None:
    facts = entry(name)
    if not facts.evaluations:
        pytest.skip(f"{name} was published before cards stated their evaluations")
    assert card(name) == cards.write(facts, weights.read_facts(facts.path))
    (model,) = yaml.safe_load(card(name).split("---\n")[1])["model-index"]
    own = [each for each in facts.evaluations if not each.file]
    assert [each["dataset"]["name"] for each in model["results"]] == [
        each.title for each in own
    ]
    assert facts.evaluations[0].interval
    for each in facts.evaluations:
        if each.file:
            assert weights.sha256(facts.folder / each.file) == each.sha256


@every_entry
def test_backends_agree_and_the_cost_of_fewer_bits_is_told(name: str) -> None:
    of = entry(name).comparison
    if of is None and name not in SHIPPED:
        pytest.skip(f"{name} was published before cards compared backends")
    assert of is not None
    assert of.over() == []
    done = {(way.engine, way.backend, way.precision) for way in of.ways}
    assert {("keras", each, "float32") for each in devices.BACKENDS} <= done
    assert {("openvino", "", each) for each in engines.PRECISIONS} <= done
    assert ("onnx", "", "float32") in done
    # On all images that the entry was evaluated on, with what it was evaluated with.
    first = entry(name).evaluations[0]
    score = first.metrics[of.metric]
    assert (of.frames, of.objects) == (score["frames"], score["objects"])
    assert of.ways[0].value == pytest.approx(score["value"], abs=2e-3)
    assert (of.config, of.split, of.tta) == (first.config, first.split, first.tta)


@every_entry
def test_what_was_fine_tuned_says_from_where(name: str) -> None:
    """So that `unet-zoo reproduce` can begin at the beginning."""
    facts = weights.read_facts(entry(name).path)
    stages = [*facts.get("stages", []), facts]
    if "start" in facts:
        assert len(stages) > 1
    for number, stage in enumerate(stages, start=1):
        text = (entry(name).folder / cards.recipe_file(number, stages)).read_text()
        assert recipe.from_dict(tomllib.loads(text)) == recipe.from_dict(
            stage["recipe"]
        )
        assert stage["dataset"]["name"] in catalog.names()


@every_entry
def test_entries_load_and_segment(name: str) -> None:
    entry(name)
    model = unet_zoo.load(name, offline=True)
    assert model.name == name
    shape = (70, 61) if model.facts["channels"] == 1 else (70, 61, 3)
    labels = model.segment(np.random.default_rng(0).random(shape), tta=1)
    assert labels.shape == (70, 61)


def test_the_demo_finds_the_coins(tmp_path: Path) -> None:
    entry("unet-blobs")
    found = runpy.run_path(str(ROOT / "examples" / "coins.py"))["main"](tmp_path)
    assert abs(found - 24) <= 1
    assert {each.name for each in tmp_path.iterdir()} == {
        "coins-overlay.png",
        "coins-labels.tif",
    }


@pytest.mark.parametrize("name", ["unet-blobs", "unet-blobs-large"])
def test_blobs_of_every_difficulty_are_found(name: str) -> None:
    accuracies, precisions = on_card(name, "pixel accuracy"), on_card(name, "AP50")
    assert len(accuracies) == len(precisions) == 4
    assert all(value > 0.9812 for value, _ in accuracies)
    assert all(value > 0.89 for value, _ in precisions)


@pytest.mark.parametrize(
    ("name", "least", "least_swapped"),
    [("resunet-hela", 0.87, 0.85), ("unet-hela", 0.88, 0.86)],
)
def test_cells_are_found_in_both_directions(
    name: str, least: float, least_swapped: float
) -> None:
    recommended = unet_zoo.load(name).facts["tta"]
    found = {
        each.config: each.metrics["SEG"]
        for each in entry(name).evaluations
        if each.tta == recommended
    }
    assert found["standard"]["value"] >= least
    assert found["swapped"]["value"] >= least_swapped
    assert found["standard"]["objects"] == 97, "all gold objects of the sequence"


@pytest.mark.parametrize("name", ["resunet-hela", "unet-hela"])
def test_cells_never_seen_are_found_as_the_card_says(
    name: str, shared_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    told = entry(name).metrics["SEG"]
    data = tmp_path_factory.getbasetemp() / "hela"
    dataset = catalog.open_dataset("hela", manual_dir=shared_data, data_dir=data)
    gold = [each for each in dataset.examples("test") if each.reference is not None]
    score = evaluation.evaluate(unet_zoo.load(name), gold, names=["SEG"])["SEG"]
    assert (score.objects, score.frames) == (told["objects"], told["frames"])
    assert score.value == pytest.approx(told["value"], abs=2e-3)
