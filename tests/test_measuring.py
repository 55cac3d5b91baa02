"""What a card states can be measured again, and what is off is told."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import untrained
import yaml
from click.testing import CliRunner, Result

from unet_zoo import (
    cards,
    catalog,
    cli,
    evaluation,
    measuring,
    metrics,
    publishing,
    segmenter,
    weights,
)
from unet_zoo.errors import InputError
from unet_zoo.metrics import bootstrap
from unet_zoo.weights import _entries

WORDS = """summary = "Finds little."
use = "None."
limits = "All."
conditions = "None."
licence = "Apache-2.0"
citation = "Nobody."
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where the blobs are prepared, but few and small."""
    folder = tmp_path_factory.mktemp("data")
    untrained.prepare_blobs(folder, "easy", "hard")
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a training that never was, with real weights."""
    folder = tmp_path_factory.mktemp("run")
    untrained.save(folder, tta=4)
    (folder / "words.toml").write_text(WORDS)
    return folder


@pytest.fixture(scope="module")
def served(run: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of one entry, published by the command line."""
    folder = tmp_path_factory.mktemp("served")
    done = invoke("publish", run, "--to", folder, "--words", run / "words.toml",
        "--config", "easy", "--config", "hard", "--tta", "1", "--tta", "4",
        "--name", "unet-drawn",
        "--data-dir", data)  # fmt: skip
    assert done.exit_code == 0, done.output
    return folder


@pytest.fixture
def zoo(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = Path(shutil.copytree(served, tmp_path / "zoo"))
    monkeypatch.setattr(_entries, "FOLDER", folder)
    return folder


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["weights", *map(str, words)])


def easy(data: Path) -> catalog.Dataset:
    return catalog.open_dataset("blobs", config="easy", data_dir=data)


# Intervals


def test_the_interval_is_that_of_the_mean_of_many() -> None:
    """Of 400 draws from a normal distribution: 1.96 standard errors each way."""
    values = np.random.default_rng(1).normal(0.5, 0.1, 400)
    low, high = bootstrap(np.stack([values, np.ones(400)], 1), resamples=4000)
    error = values.std() / 20
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)
    again = bootstrap(np.stack([values, np.ones(400)], 1), resamples=4000)
    assert again == (low, high)
    other = bootstrap(np.stack([values, np.ones(400)], 1), resamples=4000, seed=1)
    assert other != (low, high)


@pytest.mark.parametrize("parts", [np.ones((1, 2)), np.ones(3), np.zeros((4, 2))])
def test_no_interval_of_nothing(parts: np.ndarray) -> None:
    with pytest.raises(InputError, match="`parts`"):
        bootstrap(parts)


def test_what_is_drawn_anew_are_objects_until_there_are_frames_enough(
    data: Path,
) -> None:
    examples = easy(data).examples("test")
    found = [np.roll(each.labels, 2, axis=0) for each in examples]
    few = measuring.interval(examples, found, "instances")
    assert (few["metric"], few["by"]) == ("SEG", "objects")
    many = measuring.interval(examples * 7, found * 7, "instances")
    assert many["by"] == "frames"
    of_classes = measuring.interval(examples, found, "semantic")
    assert (of_classes["metric"], of_classes["by"]) == ("V-Rand", "frames")
    for each, kind in ((few, "instances"), (of_classes, "semantic")):
        scores = evaluation.score(examples, found, [each["metric"]], kind)
        assert each["low"] <= scores[each["metric"]].value <= each["high"]
    assert few["low"] < few["high"]
    assert measuring.interval([], [], "instances") == {}


def test_parts_of_v_rand_sum_to_it(data: Path) -> None:
    references = [each.labels for each in easy(data).examples("test")]
    found = [np.roll(each, 3, axis=1) for each in references]
    parts, wholes = metrics.v_rand_parts(references, found).sum(0)
    assert parts / wholes == pytest.approx(metrics.v_rand(references, found).value)


# Publishing


def test_an_entry_says_all_that_was_measured(served: Path, data: Path) -> None:
    entry = weights.read_entry(served / "unet-drawn")
    assert [(each.config, each.tta) for each in entry.evaluations] == [
        ("easy", 1), ("easy", 4), ("hard", 1), ("hard", 4)
    ]  # fmt: skip
    assert entry.dtype == "float16"
    model = segmenter.load(entry.path)
    assert entry.parameters == model.network.count_params()
    assert model.facts["metrics"] == entry.metrics == entry.evaluations[0].metrics
    scores = model.evaluate(easy(data), tta=4)
    told = entry.evaluations[1].metrics
    assert told["SEG"]["value"] == pytest.approx(scores["SEG"].value, abs=1e-6)
    index = json.loads((served / "index.json").read_text())
    assert index["unet-drawn"]["sha256"] == entry.sha256
    recipe = (served / "unet-drawn" / "recipe.toml").read_text()
    assert 'model = "unet"' in recipe


def test_the_card_is_what_the_hub_reads(served: Path) -> None:
    entry = weights.read_entry(served / "unet-drawn")
    text = (entry.folder / "README.md").read_text(encoding="utf-8")
    assert text == cards.write(entry, weights.read_facts(entry.path))
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert about["license"] == "apache-2.0"
    (model,) = about["model-index"]
    assert model["name"] == "unet-drawn"
    for result, each in zip(model["results"], entry.evaluations, strict=True):
        assert result["task"]["type"] == "image-segmentation"
        assert result["dataset"]["type"] == "blobs"
        assert result["dataset"]["name"] == each.title
        values = {score["name"]: score["value"] for score in result["metrics"]}
        told = {name: score["value"] for name, score in each.metrics.items()}
        assert values == pytest.approx(told, abs=5e-5)
        assert f"    {cards.command(entry, each)}\n" in body
    assert cards.figures(body).keys() == {each.title for each in entry.evaluations}


def test_the_hubs_own_client_reads_the_card(served: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    card = hub.ModelCard.load(served / "unet-drawn" / "README.md")
    found = {(each.dataset_config, each.metric_name) for each in card.data.eval_results}
    assert {("easy", "SEG"), ("hard", "AP50")} <= found


def test_the_licence_that_is_none_of_the_usual_is_told() -> None:
    told = dict(name="a", file="w", sha256="0", bytes=1, summary="", model="unet")
    told |= dict(dataset="hela", licence="Ask", citation="", metrics={}, urls=())
    about = yaml.safe_load(
        cards.front_matter(weights.Entry(**told, folder=Path())).strip("-\n")
    )
    assert about["license"] == "other"
    assert about["license_name"] == "conditions-of-the-data"


def test_a_chain_stands_in_the_card_with_a_recipe_each(
    run: Path, served: Path, tmp_path: Path
) -> None:
    evaluations = weights.read_entry(served / "unet-drawn").evaluations
    made = publishing.publish(
        run,
        tmp_path / "unet-two",
        evaluations=evaluations,
        words=publishing.words_of(dict.fromkeys(_words(), "x"), "here"),
        earlier=[run],
    )
    folder = made.parent
    card = (folder / "README.md").read_text()
    assert "--recipe zoo/unet-two/recipe-1.toml --output part-1" in card
    assert "--recipe zoo/unet-two/recipe.toml --from part-1 --output part-2" in card
    assert (folder / "recipe-1.toml").exists()
    assert len(weights.read_facts(folder / "weights.h5")["stages"]) == 1


def _words() -> list[str]:
    return [field.name for field in dataclasses.fields(publishing.Words)]


def test_an_entry_is_never_overwritten_silently(
    run: Path, served: Path, data: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(served, tmp_path / "served"))
    before = (folder / "unet-drawn" / "entry.toml").read_bytes()
    words = ["--words", run / "words.toml", "--data-dir", data]
    words += ["--name", "unet-drawn"]
    done = invoke("publish", run, "--to", folder, *words)
    assert done.exit_code == 2
    assert "is not empty. Say --overwrite" in done.output
    assert (folder / "unet-drawn" / "entry.toml").read_bytes() == before
    done = invoke("publish", run, "--to", folder, *words, "--overwrite")
    assert done.exit_code == 0, done.output
    (only,) = weights.read_entry(folder / "unet-drawn").evaluations
    assert (only.config, only.tta) == ("easy", 4)
    assert not [each.name for each in folder.iterdir() if each.name.startswith(".")]


def test_an_entry_is_copied_whole_or_not(served: Path, tmp_path: Path) -> None:
    entry = served / "unet-drawn"
    done = invoke("publish", entry, "--to", tmp_path / "there")
    assert done.exit_code == 0, done.output
    copied = {each.name for each in (tmp_path / "there" / "unet-drawn").iterdir()}
    assert copied == {each.name for each in entry.iterdir()}
    assert (tmp_path / "there" / "index.json").exists()
    bad = Path(shutil.copytree(entry, tmp_path / "unet-drawn"))
    (bad / "weights.h5").write_bytes(b"other")
    done = invoke("publish", bad, "--to", tmp_path / "more")
    assert done.exit_code == 2
    assert "is not the file of 'unet-drawn'" in done.output
    assert not (tmp_path / "more").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "must hold summary, use, limits"),
        ("summary = 3", "must hold summary, use, limits"),
        (WORDS + 'more = ""', "and nothing else"),
        ("summary", "is not TOML"),
        (None, "What only you can say is missing: give --words"),
    ],
)
def test_words_that_are_missing_are_asked_for(
    run: Path, tmp_path: Path, words: str | None, message: str
) -> None:
    options: list[object] = []
    if words is not None:
        (tmp_path / "words.toml").write_text(words)
        options = ["--words", tmp_path / "words.toml", "--name", "unet-mine"]
    done = invoke("publish", run, "--to", tmp_path / "there", *options)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not (tmp_path / "there").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ([], "'unet-blobs' is what an entry of unet-zoo itself is called"),
        (["--name", "resunet-hela"], "by --name, such as unet-mine"),
        (["--name", "my net"], "only, and begin with one of the first two. Received:"),
        (["--name", "../up"], "Received: '../up'"),
    ],
)
def test_a_name_by_which_others_would_get_other_weights_is_refused(
    run: Path, tmp_path: Path, name: list[str], message: str
) -> None:
    words = ["--words", run / "words.toml", *name]
    # Before anything is measured: of these configurations none is there.
    done = invoke("publish", run, "--to", tmp_path / "there", *words)
    assert done.exit_code == 2, done.output
    assert message in done.output
    assert not (tmp_path / "there").exists()


def test_weights_that_do_not_say_how_they_were_made_are_not_published(
    run: Path, tmp_path: Path
) -> None:
    facts = weights.read_facts(run / "weights.h5")
    words = ["--words", run / "words.toml", "--dataset", "blobs", "--name", "mine"]
    bare = {key: facts[key] for key in facts if key not in ("recipe", "dataset")}
    short = {key: facts["dataset"][key] for key in ("name", "version", "config")}
    for number, (lacking, told) in enumerate(
        [
            ("`recipe`, `dataset`", bare),
            ("`recipe`, `dataset`", facts | {"recipe": {}, "dataset": {}}),
            ("`dataset.train`, `dataset.validation`.", facts | {"dataset": short}),
        ]
    ):
        path = tmp_path / f"{number}.h5"
        weights.rewrite(path, run / "weights.h5", told)
        done = invoke("publish", path, "--to", tmp_path / "there", *words)
        assert done.exit_code == 2, done.output
        assert f"its facts lack {lacking}" in done.output


def test_images_of_ones_own_are_no_measure_for_others(run: Path) -> None:
    mine = catalog.Dataset("mine", "1", None, "instances", "", {}, {})
    with pytest.raises(InputError, match="'mine' is no named dataset"):
        measuring.measure(segmenter.load(run), mine, title="Mine")


# Measuring again


def test_what_is_as_stated_is_verified(zoo: Path, data: Path) -> None:
    done = invoke("verify", "--all", "--evaluate", "--data-dir", data)
    assert done.exit_code == 0, done.output
    assert "4 of 4 evaluations are as stated, within 0.002." in done.output
    assert "OFF" not in done.output
    told = json.loads(
        invoke("verify", "--evaluate", "--data-dir", data, "--json").stdout
    )
    assert [each["good"] for each in told] == [True] * 4


def test_an_entry_of_ones_own_is_verified_where_it_lies(
    served: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(served / "unet-drawn", tmp_path / "mine"))
    words = ["verify", folder, "--evaluate", "--data-dir", data]
    done = invoke(*words)
    assert done.exit_code == 0, done.output
    assert "4 of 4 evaluations are as stated" in done.output
    (folder / "weights.h5").write_bytes(b"other")
    done = invoke(*words)
    assert done.exit_code == 2
    assert "is not the file of" in done.output
    # What lies about under the name of an entry of the zoo is not taken for it.
    folder.rename(tmp_path / "unext-blobs")
    monkeypatch.chdir(tmp_path)
    done = invoke("verify", "unext-blobs")
    assert done.exit_code == 0, done.output
    assert "zoo" in done.output


def test_a_figure_that_is_off_is_told(zoo: Path, data: Path) -> None:
    """In the entry and its card alike; by 0.002 it would be let pass."""
    path = zoo / "unet-drawn" / "entry.toml"
    entry = weights.read_entry(path.parent)
    second = entry.evaluations[1]
    value = second.metrics["Dice"]["value"]
    changed = {
        **second.metrics,
        "Dice": {**second.metrics["Dice"], "value": value + 0.003},
    }
    evaluations = list(entry.evaluations)
    evaluations[1] = dataclasses.replace(second, metrics=changed)
    kept = {name: getattr(entry, name) for name in ("parameters", "dtype", "use")}
    weights.write_entry(
        path.parent,
        evaluations=evaluations,
        **kept,
        limits=entry.limits,
        conditions=entry.conditions,
    )
    publishing.write_card(path.parent)
    done = invoke("verify", "unet-drawn", "--evaluate", "--data-dir", data)
    assert done.exit_code == 1, done.output
    assert done.output.count("OFF") == 1
    heading = done.output.index(f"unet-drawn, {second.title}:")
    (wrong,) = (line for line in done.output[heading:].splitlines() if "OFF" in line)
    assert wrong.split()[0] == "Dice"
    assert "-0.0030" in done.output
    assert "3 of 4 evaluations are as stated" in done.output
    more = ["--tolerance", "0.004", "--data-dir", data]
    assert invoke("verify", "--evaluate", *more).exit_code == 0


def test_a_card_that_contradicts_its_entry_is_told(zoo: Path, data: Path) -> None:
    card = zoo / "unet-drawn" / "README.md"
    text = card.read_text(encoding="utf-8")
    entry = weights.entry("unet-drawn")
    line = cards.table(entry.evaluations[0])[2]
    assert line.startswith("| SEG | ")
    better = line.replace("| SEG | 0.", "| SEG | 0.9", 1)
    card.write_text(
        text.replace(line, better, 1) + "\n**Elsewhere**\n\n| SEG | 0.9 | 1 | 1 |\n",
        encoding="utf-8",
    )
    found = measuring.repeat(entry, opened=_opened(data))
    assert [each.good() for each in found] == [False, True, True, True, False]
    assert found[0].problem == "its card says otherwise of SEG"
    assert "states figures that its entry does not" in found[-1].problem


def test_what_cannot_be_measured_is_told(zoo: Path, data: Path) -> None:
    entry = weights.entry("unet-drawn")
    (first, *_) = entry.evaluations
    other = dataclasses.replace(first, file="swapped.h5", sha256=entry.sha256)
    strange = dataclasses.replace(first, config="nowhere")
    entry = dataclasses.replace(entry, evaluations=(other, strange))
    (zoo / "unet-drawn" / "README.md").unlink()
    missing, unknown = measuring.repeat(entry, opened=_opened(data))
    assert "which this was measured with, is not here" in missing.problem
    assert "nowhere" in unknown.problem
    assert not missing.good()
    assert all(map(math.isnan, missing.differences().values()))
    shutil.copy(entry.path, zoo / "unet-drawn" / "swapped.h5")
    assert measuring.repeat(entry, opened=_opened(data))[0].found
    (old,) = measuring.repeat(dataclasses.replace(entry, evaluations=()))
    assert "publish it anew" in old.problem


def _opened(data: Path):
    def opened(name: str, config: str | None) -> catalog.Dataset:
        return catalog.open_dataset(name, config=config, data_dir=data)

    return opened


def test_all_and_names_are_one_too_many(zoo: Path) -> None:
    done = invoke("verify", "unet-drawn", "--all")
    assert done.exit_code == 2
    assert "give it or names, not both" in done.output


# The cache


def test_a_cache_is_carried_by_the_command_line(served: Path, tmp_path: Path) -> None:
    entry = weights.read_entry(served / "unet-drawn")
    cache = tmp_path / "cache"
    cache.mkdir()
    shutil.copy(entry.path, cache / entry.cached)
    pack = tmp_path / "weights.tar"
    done = invoke("export-cache", pack, "--cache", cache)
    assert done.exit_code == 0, done.output
    assert f"sha256 {weights.sha256(pack)}" in done.output
    options = ["--sha256", weights.sha256(pack), "--cache", tmp_path / "there"]
    done = invoke("import-cache", pack, *options)
    assert done.output == f"Taken: {entry.cached}\n"
    assert weights.sha256(tmp_path / "there" / entry.cached) == entry.sha256
    options[1] = "0" * 64
    assert (
        "is not the file you asked for" in invoke("import-cache", pack, *options).output
    )
