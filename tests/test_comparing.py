"""Backends, engines and precisions are compared by a command, and the card tells."""

from __future__ import annotations

import dataclasses
import json
import runpy
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import untrained
from click.testing import CliRunner

from unet_zoo import cards, catalog, cli, measuring, publishing, weights
from unet_zoo import segmenter as segmenters
from unet_zoo.errors import InputError
from unet_zoo.toml import to_toml
from unet_zoo.weights import _entries

SCRIPT = Path(__file__).resolve().parent.parent / "benchmarks" / "compare_engines.py"
Main = Callable[[Sequence[object]], int]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where easy blobs are prepared, but few and small."""
    folder = tmp_path_factory.mktemp("data")
    untrained.prepare_blobs(folder, "easy")
    return folder


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an entry, of a network that was never trained."""
    folder = tmp_path_factory.mktemp("made")
    untrained.save(folder)
    seen = weights.Evaluation(
        title="Unseen",
        dataset="blobs",
        config="easy",
        split="test",
        tta=4,
        version="1.0.0",
        metrics={"SEG": {"value": 0.1, "objects": 97, "frames": 9}},
        interval={},
    )
    words = publishing.Words(*("x" for _ in range(6)))
    made = publishing.publish(
        folder, folder / "unet-blobs", evaluations=[seen], words=words
    )
    return made.parent


@pytest.fixture(scope="module")
def main(data: Path) -> Main:
    run = runpy.run_path(str(SCRIPT))["main"]
    return lambda words: run([*map(str, words), "--data-dir", str(data)])


@pytest.fixture(scope="module")
def compared(
    published: Path, main: Main, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path]:
    """Return an entry that was compared by the script, and what the script kept."""
    root = tmp_path_factory.mktemp("compared")
    entry = Path(shutil.copytree(published, root / published.name))
    assert main([entry, *options(root / "kept"), "--ways", "jax"]) == 0
    return entry, root / "kept"


def options(kept: Path) -> list[object]:
    return ["--write", "--rounds", 1, "--keep", kept]


def test_what_was_measured_stands_in_entry_and_card(
    compared: tuple[Path, Path], data: Path
) -> None:
    entry = weights.read_entry(compared[0])
    of = entry.comparison
    assert of is not None
    assert [way.name for way in of.ways] == ["tensorflow", "jax"]
    examples = catalog.open_dataset("blobs", config="easy", data_dir=data).examples(
        "test"
    )
    found = segmenters.load(entry.path, engine="keras")
    labels = [np.asarray(found.segment(each.image, tta=4)) for each in examples]
    scores = measuring.evaluation.score(examples, labels, ["SEG"])
    assert of.ways[0].value == pytest.approx(scores["SEG"].value, abs=1e-6)
    assert (of.frames, of.objects, of.tta) == (3, scores["SEG"].objects, 4)
    assert of.pixels == 3 * 48 * 64
    first, other = of.ways
    # Another backend rounds elsewhere, and that is all.
    assert first.difference == 0 < other.difference < 1e-4
    assert all(way.seconds > 0 and way.memory > 10**7 for way in of.ways)
    assert first.disk == other.disk == entry.bytes
    assert of.over() == []
    card = (entry.folder / "README.md").read_text(encoding="utf-8")
    assert card == cards.write(entry, weights.read_facts(entry.path))
    assert "    python benchmarks/compare_engines.py unet-blobs\n" in card
    rows = [line.split(" | ") for line in cards.compared(card).splitlines()]
    told = {row[0].strip("| "): row for row in rows if len(row) > 9}
    assert told["Keras, JAX"][2] == f"{other.value:.4f}"
    assert told["Keras, JAX"][4] == f"{other.difference:.1e}"
    assert "every output is within 0.001 of the first's" in card
    # Nothing else in the entry moved, and the card states no further figures.
    assert cards.figures(card) == {"Unseen": {"SEG": 0.1}}
    weights.check_entry(entry)


def test_ways_that_differ_are_told_aloud(
    compared: tuple[Path, Path], main: Main, tmp_path: Path
) -> None:
    """From what was kept, changed by hand: no way is run again."""
    entry = Path(shutil.copytree(compared[0], tmp_path / compared[0].name))
    kept = Path(shutil.copytree(compared[1], tmp_path / "kept"))
    (kept / "jax" / "1.npy").unlink()
    moved = np.load(kept / "tensorflow" / "1.npy")
    moved[5, 6, 0] += 0.0137
    np.save(kept / "jax" / "1.npy", moved)
    assert main([entry, *options(kept), "--ways", "jax"]) == 1
    card = (entry / "README.md").read_text(encoding="utf-8")
    assert "- **jax: an output differs from tensorflow's by 0.014, more than" in card
    assert "every output is within" not in card
    # What differs in labels alone differs in the metric.
    labels = dict(np.load(kept / "jax" / "labels.npz"))
    np.savez(kept / "jax" / "labels.npz", **{n: 0 * labels[n] for n in labels})
    np.save(kept / "jax" / "1.npy", np.load(kept / "tensorflow" / "1.npy"))
    assert main([entry, *options(kept), "--ways", "jax"]) == 1
    card = (entry / "README.md").read_text(encoding="utf-8")
    assert "- **jax: SEG is 0.0000, that of tensorflow 0." in card
    with pytest.raises(SystemExit) as left:
        main([entry, *options(kept), "--rounds", 2, "--ways", "jax"])
    assert left.value.code == 2, "what was measured otherwise is no part of it"


def test_a_card_that_tells_otherwise_is_found_out(
    compared: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(compared[0], tmp_path / compared[0].name))
    entry = weights.read_entry(folder)

    def problems() -> list[str]:
        done = measuring.repeat(entry, opened=_nothing)
        return [each.problem for each in done if not each.title]

    assert problems() == []
    card = folder / "README.md"
    text = card.read_text(encoding="utf-8")
    card.write_text(text.replace("| Keras, JAX | float32 |", "| Keras, JAX | int8 |"))
    wrong = ["its card says otherwise of backends, engines and precisions"]
    assert problems() == wrong
    card.write_text(text.replace(cards.compared(text), ""))
    assert problems() == wrong


def _nothing(name: str, config: str | None) -> catalog.Dataset:
    message = "no images here"
    raise InputError(message)


def test_the_command_line_tells_of_them(
    compared: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_entries, "FOLDER", compared[0].parent)
    words = ["weights", "info", compared[0].name]
    told = json.loads(CliRunner().invoke(cli.main, [*words, "--json"]).stdout)
    of = weights.read_entry(compared[0]).comparison
    assert of is not None
    assert told["comparison"] == of.plain()
    text = CliRunner().invoke(cli.main, words).stdout
    assert "\n    jax:\n      engine: keras\n" in text
    assert f"\n      difference: {of.ways[1].difference}\n" in text


# What is said of ways, whoever measured them


def way(name: str, **others: Any) -> weights.Way:
    told = {"engine": "keras", "backend": name, "precision": "float32", "value": 0.9}
    told |= {"difference": 0.0, "mean": 0.0, "seconds": 1.0, "processor": 2.0}
    told |= {"others": 0.0}
    return weights.Way(name=name, **{**told, "memory": 1, "disk": 1, **others})


def comparison(*ways: weights.Way) -> weights.Comparison:
    told = {"dataset": "hela", "config": "", "version": "1.0.0", "split": "test"}
    told |= {"metric": "SEG", "machine": "a computer"}
    counts = {"tta": 1, "frames": 9, "objects": 97, "pixels": 9, "rounds": 3}
    return weights.Comparison(
        **told, **counts, calibration=8, versions={}, ways=(way("tensorflow"), *ways)
    )


@pytest.mark.parametrize(
    ("others", "count"),
    [
        ({"difference": 0.0009, "value": 0.8985}, 0),
        ({"difference": 0.0011}, 1),
        ({"difference": float("nan")}, 1),
        ({"value": 0.9021}, 1),
        ({"value": float("nan"), "difference": 1.0}, 2),
        # Fewer bits are another computation: how far it is off is told, not judged.
        ({"precision": "int8", "difference": 0.3, "value": 0.8}, 0),
    ],
)
def test_what_computes_the_same_must_agree(others: dict[str, Any], count: int) -> None:
    assert len(comparison(way("jax", **others)).over()) == count


def test_a_card_says_that_the_machine_was_busy(published: Path) -> None:
    entry = weights.read_entry(published)
    others = {"idle": (0.01, 0.09), "busy": (0.02, 0.61)}
    text = {
        name: "\n".join(
            cards.comparison(
                dataclasses.replace(
                    entry,
                    comparison=comparison(*(way("jax", others=each) for each in both)),
                )
            )
        )
        for name, both in others.items()
    }
    assert "Other programs" not in text["idle"]
    assert ": of each image the fastest of 3 turns. " in text["idle"]
    assert "Other programs had 0% to 61% of the cores meanwhile" in text["busy"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frames": 0}, "nothing was compared"),
        ({"ways": {}}, "nothing was compared"),
        ({"ways": {"jax": 3}}, "'jax': expected a table, got 3"),
        ({"ways": {"jax": {"value": 1.0}}}, "'jax' lacks `engine`"),
        ({"machine": 3}, "`machine` must be of type str, got 3"),
        ({"metrics": "SEG"}, "Did you mean 'metric'"),
    ],
)
def test_a_broken_comparison_is_refused(
    published: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    folder = Path(shutil.copytree(published, tmp_path / published.name))
    weights.amend(folder, comparison=comparison(way("jax")).plain())
    assert weights.read_entry(folder).comparison == comparison(way("jax"))
    content = comparison(way("jax")).plain() | change
    lines = (folder / "entry.toml").read_text().partition("[comparison]")[0]
    (folder / "entry.toml").write_text(lines + to_toml({"comparison": content}))
    with pytest.raises(InputError, match=message):
        weights.read_entry(folder)
