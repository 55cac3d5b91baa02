"""Files broken in any way give an array or one line, in little memory and time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import fuzzing
import pytest

ROOT = Path(__file__).resolve().parent.parent
COUNT = 300
MOST = 100 * 2**20  # bytes that any of these small files may take

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="memory is watched through /proc"
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Read them in a process of its own, whose memory is limited."""
    folder = tmp_path_factory.mktemp("fuzzing")
    done = subprocess.run(
        [sys.executable, fuzzing.__file__, str(folder), "0", str(COUNT)],
        capture_output=True, text=True, cwd=ROOT, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_whole_files_are_read_and_the_watch_sees(report):
    assert set(report["whole"].values()) == {"array"}
    grown, seconds = report["control"]
    assert grown > 2**26
    assert seconds > 0.15


def test_mutated_files(report):
    assert report["wrong"] == []
    assert report["grown"] < MOST
    assert report["slowest"] < fuzzing.PATIENCE
    counts = [sum(found.values()) for found in report["kinds"].values()]
    assert sum(counts) == COUNT
    assert len(counts) == len(report["whole"])
    refused = [kind for kind in report["kinds"].values() if kind.get("refused")]
    assert len(refused) == len(counts), "a kind that nothing breaks is not tested"


def test_bombs(report):
    assert len(report["bombs"]) == 15
    for name, result in report["bombs"].items():
        assert result["wrong"] == "", name
        assert result["grown"] < MOST, name
    said = {name: result["said"] for name, result in report["bombs"].items()}
    # What follows the pixels of a PNG is not looked at: its array is right.
    assert [name for name in said if said[name] == "array"] == ["pixels.png"]
