"""Cross-validation trains every fold once, and its ensemble is their mean."""

from __future__ import annotations

import contextlib
import csv
import json
import shutil
import statistics

import numpy as np
import pytest
from click.testing import CliRunner
from test_training import SMALL, blob, data

import unet_zoo
from unet_zoo import cli, folding, segmenter, training, weights
from unet_zoo.cli import _folds
from unet_zoo.errors import InputError

PLAN = SMALL.replace(steps=60, validate_every=60)


class Stop:
    """Presses Ctrl-C in the second fold."""

    def __call__(self, fold: int, now: training.Progress) -> None:
        if fold == 2:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folded(tmp_path_factory):
    """Return a result, its folder, and when the first fold's weights were written."""
    folder = tmp_path_factory.mktemp("folded") / "run"
    with pytest.raises(KeyboardInterrupt):
        folding.cross_validate(PLAN, data(), folder, 2, progress=Stop())
    first = (folder / "fold-1" / "weights.h5").stat().st_mtime_ns
    told = []
    result = folding.cross_validate(
        PLAN,
        data(),
        folder,
        2,
        resume=True,
        progress=lambda fold, now: told.append((fold, now.step)),
    )
    return result, folder, first, told


def test_folds_are_the_blocks_of_all_images():
    seen = []
    for fold in (1, 2, 3):
        part = folding.fold_of(data(), fold, 3)
        kept = [each.name for each in part.sequence("validation")]
        taught = [each.name for each in part.sequence("train")]
        assert not set(kept) & set(taught)
        assert len(kept) + len(taught) == 8
        assert part.size_of == {"train": len(taught), "validation": len(kept)}
        assert f"Fold {fold} of 3" in part.note
        seen += kept
    assert seen == [f"seq/{n}" for n in (0, 1, 2, 3, 4, 5, 10, 11)]


def test_stopped_and_resumed_it_trains_only_what_is_left(folded):
    _, folder, first, told = folded
    assert {fold for fold, _ in told} == {2}
    assert (folder / "fold-1" / "weights.h5").stat().st_mtime_ns == first


def test_scores_are_what_the_folds_give(folded):
    result, folder, _, _ = folded
    with (folder / "folds.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["fold"] for row in rows] == ["1", "2"]
    for row, scores in zip(rows, result.scores, strict=True):
        assert float(row["SEG"]) == pytest.approx(scores["SEG"], abs=1e-6)
    again = segmenter.load(folder / "fold-2")
    part = folding.fold_of(data(), 2, 2)
    measured = folding._measure(again, part)
    assert measured == pytest.approx(result.scores[1])
    assert 0 < measured["Dice"] < 1
    values = [each["Dice"] for each in result.scores]
    assert result.mean("Dice") == pytest.approx(statistics.fmean(values))
    assert result.spread("Dice") == pytest.approx(statistics.stdev(values))
    seeds = [
        weights.read_facts(folder / f"fold-{n}" / "weights.h5")["recipe"]["seed"]
        for n in (1, 2)
    ]
    assert seeds == [PLAN.seed, PLAN.seed + 1]


def test_the_ensemble_is_the_mean_of_its_members(folded):
    _, folder, _, _ = folded
    ensemble = unet_zoo.load(folder)
    image = blob(40, side=53).image
    singles = [segmenter.load(folder / f"fold-{n}").predict(image) for n in (1, 2)]
    assert abs(singles[0] - singles[1]).max() > 1e-3
    np.testing.assert_allclose(
        ensemble.predict(image), (singles[0] + singles[1]) / 2, atol=1e-6
    )
    labels = ensemble.segment(image)
    assert labels.shape == (53, 53)
    assert labels.dtype == np.int32
    with pytest.raises(AttributeError, match="Each of its 2 `members` has"):
        _ = ensemble.model
    with pytest.raises(InputError, match="Copy its folder"):
        ensemble.save(folder / "one.h5")


def test_the_command_line_opens_an_ensemble(folded, tmp_path):
    from unet_zoo import images

    _, folder, _, _ = folded
    images.write_png(tmp_path / "a.png", np.repeat(blob(3).image, 3, axis=-1))
    run = ["segment", str(tmp_path / "a.png"), "--model", str(folder), "--tta", "1"]
    run += ["--channel", "0", "--output", str(tmp_path / "out")]
    done = CliRunner().invoke(cli.main, run)
    assert done.exit_code == 0, done.output
    found = images.read_one(tmp_path / "out" / "a_masks.tif")[..., 0]
    expected = unet_zoo.load(folder).segment(blob(3).image, tta=1)
    np.testing.assert_array_equal(found, expected)
    shown = CliRunner().invoke(cli.main, ["weights", "info", str(folder)])
    assert shown.exit_code == 0, shown.output
    assert "fold-2/weights.h5" in shown.output


def test_what_the_first_fold_refuses_leaves_nothing(tmp_path):
    wrong = PLAN.replace(model_arguments={"foo": 3})
    (tmp_path / "there").mkdir()
    for name in ("new", "there"):
        with pytest.raises(InputError, match="has no argument 'foo'"):
            folding.cross_validate(wrong, data(), tmp_path / name, 2)
    assert [each.name for each in tmp_path.rglob("*")] == ["there"]


def test_what_is_done_stays_when_a_later_fold_is_refused(tmp_path):
    def full(number: int, now: training.Progress) -> None:
        if number == 2:
            message = "The disk is full."
            raise InputError(message)

    short = PLAN.replace(steps=2, validate_every=2)
    with pytest.raises(InputError, match="disk is full"):
        folding.cross_validate(short, data(), tmp_path / "run", 2, progress=full)
    again = folding.cross_validate(short, data(), tmp_path / "run", 2, resume=True)
    assert len(again.scores) == 2


def test_another_cross_validation_is_not_resumed(folded):
    _, folder, _, _ = folded
    with pytest.raises(InputError, match="folds is 3 here and was 2"):
        folding.cross_validate(PLAN, data(), folder, 3, resume=True)
    with pytest.raises(InputError, match="is not empty"):
        folding.cross_validate(PLAN, data(), folder, 2)
    with pytest.raises(InputError, match=r"number of images, 8 here. Received: 9"):
        folding.cross_validate(PLAN, data(), folder, 9)


def test_an_ensemble_is_verified(folded, tmp_path):
    _, folder, _, _ = folded
    moved = tmp_path / "moved"
    shutil.copytree(folder, moved)
    assert len(unet_zoo.load(moved).members) == 2
    shutil.copy(moved / "fold-1" / "weights.h5", moved / "fold-2" / "weights.h5")
    with pytest.raises(InputError, match="not the file that the ensemble"):
        unet_zoo.load(moved)
    (moved / "fold-2" / "weights.h5").unlink()
    with pytest.raises(InputError, match="lacks its member"):
        unet_zoo.load(moved)
    text = (moved / "ensemble.toml").read_text()
    (moved / "ensemble.toml").write_text(text.replace("version = 1", "version = 2"))
    with pytest.raises(InputError, match="of ensemble format 2"):
        unet_zoo.load(moved)
    (moved / "ensemble.toml").write_text("version = 1")
    with pytest.raises(InputError, match="names no members"):
        unet_zoo.load(moved)


def test_an_ensemble_of_ones_own(folded, tmp_path):
    _, folder, _, _ = folded
    runs = [folder / f"fold-{n}" for n in (1, 2)]
    path = weights.write_ensemble(tmp_path / "both", runs)
    assert len(unet_zoo.load(path).members) == 2
    facts = [weights.read_facts(each / "weights.h5") for each in runs]
    merged = weights.read_facts(path)["target_arguments"]
    for key, value in merged.items():
        assert value == min(each["target_arguments"][key] for each in facts)
    with pytest.raises(InputError, match=r"at least two members\. Received: 1"):
        weights.write_ensemble(tmp_path / "one", runs[:1])
    other = segmenter.load(runs[0])
    other.facts["scale"] = 0.5
    other.save(tmp_path / "other.h5")
    with pytest.raises(InputError, match=r"agree on scale: it is 1.0 .* and 0.5 "):
        weights.write_ensemble(tmp_path / "x", [runs[0], tmp_path / "other.h5"])


def test_the_plan_is_kept(folded):
    _, folder, _, _ = folded
    state = json.loads((folder / "folds.json").read_text())
    assert state["of"]["folds"] == 2
    assert len(state["scores"]) == 2


def test_each_fold_has_a_bar_of_its_own_that_is_put_away(tmp_path, monkeypatch):
    steps = []

    @contextlib.contextmanager
    def told():
        steps.append("begin")
        yield lambda now: steps.append(now)
        steps.append("end")

    def cross_validate(*others, progress, scored, **options):
        for fold in (1, 2):
            progress(fold, f"fold {fold}")
            progress(fold, "again")
            scored(fold, {"images": 1, "SEG": 0.5})
        return folding.Result(None, [{"images": 1, "SEG": 0.5}] * 2)

    monkeypatch.setattr(folding, "cross_validate", cross_validate)
    _folds.run(PLAN, data(), tmp_path, 2, told, lambda fold, folder: ())
    assert steps == [
        *("begin", "fold 1", "again", "end"),
        *("begin", "fold 2", "again", "end"),
    ]
