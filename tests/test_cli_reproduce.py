"""`unet-zoo reproduce` of an entry: trained again, and measured as its card was."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import untrained
from click.testing import CliRunner, Result
from test_measuring import WORDS

from unet_zoo import cli
from unet_zoo.weights import _entries


def invoke(*words: object) -> Result:
    return CliRunner().invoke(cli.main, [*map(str, words)])


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where the blobs are prepared, but few and small."""
    folder = tmp_path_factory.mktemp("data")
    untrained.prepare_blobs(folder, "easy")
    return folder


@pytest.fixture
def zoo(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Train for two steps, publish that, and take it for the zoo."""
    run, served, words = (tmp_path / each for each in ("run", "served", "words.toml"))
    words.write_text(WORDS)
    small = ("--filters", 4, "--set", "model_arguments.depth=2", "--patch", 32)
    trained = invoke("train", "unet", "--dataset", "blobs", "--config", "easy",
        "--data-dir", data, "--validation", 0.5, *small, "--steps", 2, "--scale", 1,
        "--validate-every", 1, "--output", run)  # fmt: skip
    assert trained.exit_code == 0, trained.output
    published = invoke("weights", "publish", run, "--to", served, "--words", words,
        "--config", "easy", "--tta", 1, "--name", "unet-tiny",
        "--data-dir", data)  # fmt: skip
    assert published.exit_code == 0, published.output
    monkeypatch.setattr(_entries, "FOLDER", served)
    return served / "unet-tiny"


def test_an_entry_is_held_to_the_intervals_of_its_card(
    zoo: Path, data: Path, tmp_path: Path
) -> None:
    words = ("reproduce", "unet-tiny", "--data-dir", data, "--output")
    again = invoke(*words, tmp_path / "again")
    assert again.exit_code == 0, again.output
    assert re.search(r"step 2/2, loss \d\.\d+", again.stderr)
    assert "Reproduced: all weights are the same bits." in again.stdout
    assert re.search(r"SEG +\d.* within", again.stdout)

    # The same training, of an entry that promises more than it gives.
    facts = zoo / "entry.toml"
    promised = re.sub(r"low = [\d.e-]+, high = [\d.e-]+", "low = 2.0, high = 3.0",
        facts.read_text())  # fmt: skip
    facts.write_text(promised)
    worse = invoke(*words, tmp_path / "worse")
    assert worse.exit_code == 1
    assert "2.0000 to 3.0000" in worse.stdout
    assert "OUTSIDE" in worse.stdout
