"""What a folder of results says about where they are from."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from unet_zoo import records
from unet_zoo.errors import InputError


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Return a folder of images, weights and an empty folder of results."""
    for folder in ("in", "out"):
        (tmp_path / folder).mkdir()
    for name in ("a", "b", "c"):
        (tmp_path / "in" / f"{name}.tif").write_bytes(name.encode() * 10)
    (tmp_path / "w.h5").write_bytes(b"weights")
    return tmp_path


def segment(place: Path, names: str, model: str, fail_at: str = "") -> None:
    """Pretend to segment: write the label images, as far as `fail_at`."""
    found = [records.Image(name, place / "in" / f"{name}.tif") for name in names]
    options = {"threshold": 0.4}
    with records.kept(
        place / "out", found, model=model, weights_file=place / "w.h5", options=options
    ):
        for name in names:
            if name == fail_at:
                raise KeyboardInterrupt
            (place / "out" / f"{name}_masks.tif").write_text(model)


def test_what_was_segmented_with_what(place):
    segment(place, "ab", "first")
    past = records.read(place / "out")
    assert list(past) == ["a", "b"]
    assert past["a"].source == (place / "in" / "a.tif").resolve()
    assert (past["a"].bytes, past["a"].frames, past["a"].channel) == (10, 1, None)
    assert past["a"].run["sha256"] == hashlib.sha256(b"weights").hexdigest()
    assert past["a"].run["options"] == {"threshold": 0.4}
    assert past["a"].run["versions"]["unet_zoo"]
    text = (place / "out" / records.NAME).read_text()
    assert str(place) not in text  # so that both folders can be moved together
    place.rename(place.with_name("moved"))
    moved = place.with_name("moved")
    source = records.read(moved / "out")["a"].source
    assert source.read_bytes() == b"a" * 10


def test_the_last_run_that_segmented_an_image_has_it(place):
    segment(place, "ab", "first")
    segment(place, "bc", "second")
    models = {
        name: past.run["model"] for name, past in records.read(place / "out").items()
    }
    assert models == {"a": "first", "b": "second", "c": "second"}
    segment(place, "a", "third")
    content = json.loads((place / "out" / records.NAME).read_text())
    assert [run["model"] for run in content["runs"]] == ["second", "third"]


def test_a_run_that_fails_has_what_it_made(place):
    segment(place, "a", "first")
    with pytest.raises(KeyboardInterrupt):
        segment(place, "cba", "second", fail_at="b")
    models = {
        name: past.run["model"] for name, past in records.read(place / "out").items()
    }
    assert models == {"a": "first", "c": "second"}


def test_a_run_that_made_nothing_leaves_nothing(place):
    with pytest.raises(KeyboardInterrupt):
        segment(place, "a", "first", fail_at="a")
    assert not list((place / "out").iterdir())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a record"),
        ("[]", "not a record"),
        ('{"format": 1, "runs": [{"images": [{"name": "a"}]}]}', "not a record"),
        ('{"format": 2, "runs": []}', "has the format 2, expected 1"),
    ],
)
def test_a_damaged_record_is_refused(tmp_path, text, said):
    (tmp_path / records.NAME).write_text(text)
    with pytest.raises(InputError, match=said) as caught:
        records.read(tmp_path)
    assert "Delete it" in str(caught.value)
