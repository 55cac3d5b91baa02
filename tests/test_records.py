"""What a folder of results says about where they are from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

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


def segment(
    place: Path, names: str, model: str, fail_at: str = "", done: str = ""
) -> None:
    """Pretend to segment: write the label images, as far as `fail_at`."""
    masks = {name: place / "out" / f"{name}_masks.tif" for name in names}
    found = [
        records.Image(name, place / "in" / f"{name}.tif", results=(masks[name],))
        for name in names
    ]
    with records.kept(place / "out", found, run_of(place, model), done=done) as finish:
        for name in names:
            if name == fail_at:
                raise KeyboardInterrupt
            if name not in done:
                masks[name].write_text(model)
                finish(name)


def models(place: Path, *, unfinished: bool = False) -> dict[str, str]:
    """Return which model the record has each image of."""
    past = records.read(place / "out", unfinished=unfinished)
    return {name: each.run["model"] for name, each in past.items()}


def run_of(place: Path, model: str, **options: object) -> dict[str, Any]:
    options = {"threshold": 0.4} | options
    return records.about(
        model, place / "w.h5", options, write=["labels"], engine="onnx"
    )


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
    assert models(place) == {"a": "first", "b": "second", "c": "second"}
    segment(place, "a", "third")
    content = json.loads((place / "out" / records.NAME).read_text())
    assert [run["model"] for run in content["runs"]] == ["second", "third"]


def test_a_run_that_fails_has_what_it_made(place):
    segment(place, "a", "first")
    with pytest.raises(KeyboardInterrupt):
        segment(place, "cb", "second", fail_at="b")
    assert models(place, unfinished=True) == {"a": "first", "c": "second"}
    assert not (place / "out" / records.JOURNAL).exists()


def test_what_a_run_was_to_replace_is_not_finished(place):
    """Its results are there, but whoever goes on is to make them anew."""
    segment(place, "ab", "first")
    with pytest.raises(KeyboardInterrupt):
        segment(place, "cba", "second", fail_at="b")
    assert models(place) == {"c": "second"}
    everything = {"a": "second", "b": "second", "c": "second"}
    assert models(place, unfinished=True) == everything
    # What goes on may be ended as well.
    with pytest.raises(KeyboardInterrupt):
        segment(place, "cba", "second", fail_at="a", done="c")
    assert models(place) == {"c": "second", "b": "second"}
    assert models(place, unfinished=True) == everything
    segment(place, "cba", "second", done="bc")
    assert models(place) == everything
    [run] = json.loads((place / "out" / records.NAME).read_text())["runs"]
    assert "journal" not in run


@pytest.mark.parametrize("killed", [False, True])
def test_what_is_unfinished_stays_so_beside_other_runs(place, killed):
    segment(place, "ab", "first")
    with contextlib.suppress(KeyboardInterrupt):
        segment(place, "ab", "second", fail_at="b")
    if killed:  # in the middle of another run
        found = [records.Image("c", place / "in" / "c.tif")]
        with records.kept(place / "out", found, run_of(place, "third")):
            shutil.copytree(place / "out", place / "copy")
        shutil.rmtree(place / "out")
        (place / "copy").rename(place / "out")
    segment(place, "c", "third")
    assert models(place) == {"a": "second", "c": "third"}
    everything = {"a": "second", "b": "second", "c": "third"}
    assert models(place, unfinished=True) == everything
    records.forget(place / "out", {"c"})
    assert models(place) == {"a": "second"}
    assert models(place, unfinished=True) == {"a": "second", "b": "second"}


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


def test_of_a_killed_run_what_it_finished_counts(place):
    """As it lies on the disk at every moment, which is where a kill may come."""
    segment(place, "a", "first")
    found = [records.Image(name, place / "in" / f"{name}.tif") for name in "abc"]
    copy = place / "copy"

    def after_a_kill(*done: str) -> dict[str, str]:
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(place / "out", copy)
        begun = records.read(copy, unfinished=True)
        assert set(begun) == {"a", "b", "c"}
        return {name: past.run["model"] for name, past in records.read(copy).items()}

    with records.kept(place / "out", found, run_of(place, "second")) as finish:
        assert after_a_kill() == {}
        finish("b")
        assert after_a_kill() == {"b": "second"}
        finish("c")
        with (place / "out" / records.JOURNAL).open("a") as journal:
            journal.write('"a')  # killed within a line
        assert after_a_kill() == {"b": "second", "c": "second"}
    # The next run goes on: of the killed one stays what it does not do again.
    with records.kept(copy, found[:2], run_of(place, "second"), done="b") as finish:
        assert set(records.read(copy)) == {"b", "c"}
        finish("a")
    content = json.loads((copy / records.NAME).read_text())
    names = [[each["name"] for each in run["images"]] for run in content["runs"]]
    assert names == [["c"], ["a", "b"]]
    assert not (copy / records.JOURNAL).exists()


def test_a_journal_of_another_run_says_nothing(place):
    found = [records.Image("a", place / "in" / "a.tif")]
    with contextlib.suppress(KeyboardInterrupt):
        segment(place, "b", "first", fail_at="b")
    with records.kept(place / "out", found, run_of(place, "first")):
        shutil.copytree(place / "out", place / "copy")
    (place / "copy" / records.JOURNAL).write_text('"0123456789abcdef"\n"a"\n')
    assert records.read(place / "copy") == {}
    assert set(records.read(place / "copy", unfinished=True)) == {"a"}


def test_how_runs_differ(place):
    segment(place, "ab", "first")
    found = [records.Image("a", place / "in" / "a.tif")]
    out = place / "out"

    def of(run: dict[str, Any], **more: Any) -> list[str]:
        return records.differences(out, found, {**run, **more})

    same = run_of(place, "first")
    assert of(same) == []
    assert of(same, engine="keras", write=["csv", "labels"]) == [
        "write was labels, is csv,labels",
        "engine was onnx, is keras",
    ]
    assert of(run_of(place, "first", threshold=0.5, tta=4)) == [
        "threshold was 0.4, is 0.5",
        "tta was not given, is 4",
    ]
    (place / "w.h5").write_bytes(b"others")
    assert of(run_of(place, "second")) == ["model was first, is second"]
    [line] = of(run_of(place, "first"))
    assert line.startswith(f"weights was {same['sha256'][:8]}, is ")
    found = [records.Image("c", place / "in" / "c.tif")]
    assert of(run_of(place, "second")) == []  # they have nothing in common
