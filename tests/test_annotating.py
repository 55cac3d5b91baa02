"""A learning curve trains on what it says, and says what it shows."""

from __future__ import annotations

import csv
import dataclasses

import pytest
from click.testing import CliRunner
from test_cli import TINY, draw
from test_training import SMALL, data

from unet_zoo import annotating, cli
from unet_zoo.annotating import Point
from unet_zoo.cli import _common
from unet_zoo.errors import InputError

PLAN = SMALL.replace(steps=3)


def test_seeds_draw_other_images_and_more_include_fewer():
    taught = data().sequence("train")

    def names(count: int, seed: int) -> set[str]:
        part = annotating._part(data(), taught, count, seed)
        assert not part.examples("validation")
        return {each.name for each in part.sequence("train")}

    for seed in range(5):
        assert names(1, seed) < names(2, seed) < names(4, seed)
        assert len(names(4, seed)) == 4
    assert len({frozenset(names(2, seed)) for seed in range(8)}) > 3
    assert names(6, 1) == names(6, 2)


def test_it_is_resumed_and_scores_what_it_trained(tmp_path):
    class Stop:
        def __call__(self, count, seed, now):
            if count == 2:
                raise KeyboardInterrupt

    folder = tmp_path / "curve"
    with pytest.raises(KeyboardInterrupt):
        annotating.learning_curve(
            PLAN, data(), folder, images=[1, 2], seeds=1, progress=Stop()
        )
    told = []
    points = annotating.learning_curve(
        PLAN,
        data(),
        folder,
        images=[2, 1],
        seeds=1,
        resume=True,
        progress=lambda count, seed, now: told.append(count),
    )
    assert set(told) == {2}
    assert [each.images for each in points] == [1, 2]
    with (folder / "curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images"] for row in rows] == ["1", "2"]
    for row, point in zip(rows, points, strict=True):
        assert float(row["SEG"]) == point.mean
    assert sorted(path.name for path in folder.iterdir()) == [
        "curve.csv", "curve.json", "curve.png",
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"recipe.batch is 3 here and was 2"):
        annotating.learning_curve(
            PLAN.replace(batch=3), data(), folder, images=[1], resume=True
        )


@pytest.mark.parametrize(
    ("given", "options", "match"),
    [
        (data(), {"images": [7]}, r"must lie in 1..6.* Received: \[7\]"),
        (data(), {"images": [0, 2]}, r"Received: \[0, 2\]"),
        (data(), {"seeds": 0}, "`seeds` be at least 1"),
        (data(held_out=0), {}, "there are none"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, given, options, match):
    with pytest.raises(InputError, match=match):
        annotating.learning_curve(PLAN, given, tmp_path / "curve", **options)
    assert not (tmp_path / "curve").exists()


def test_nothing_waits_for_validations_that_are_not_made(tmp_path):
    points = annotating.learning_curve(
        PLAN.replace(steps=2, patience=1), data(), tmp_path / "a", images=[1], seeds=1
    )
    assert len(points) == 1
    plateau = PLAN.replace(optimizer={"schedule": "plateau"})
    with pytest.raises(InputError, match="Take another schedule, such as cosine"):
        annotating.learning_curve(plateau, data(), tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_what_the_first_training_refuses_leaves_nothing(tmp_path):
    wrong = PLAN.replace(model_arguments={"foo": 3})
    with pytest.raises(InputError, match="has no argument 'foo'"):
        annotating.learning_curve(wrong, data(), tmp_path / "curve", images=[1])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("before", "after", "says"),
    [
        ((0.5, 0.51, 0.52), (0.6, 0.61, 0.62), "Annotate more"),
        ((0.5, 0.501, 0.502), (0.501, 0.502, 0.5), "hardly help"),
        ((0.3, 0.5, 0.7), (0.4, 0.55, 0.7), "cannot be told"),
        ((0.5,), (0.6,), "from one seed"),
        ((0.5, 0.51, 0.52), (0.4, 0.41, 0.42), "fell from 0.510 to 0.410"),
    ],
)
def test_the_verdict_follows_from_gain_and_spread(before, after, says):
    assert says in annotating.verdict([Point(4, before), Point(8, after)], "SEG")


def test_the_command_line(tmp_path, monkeypatch):
    import tifffile

    for kind in ("images", "masks"):
        (tmp_path / "mine" / kind).mkdir(parents=True)
    for number in range(3):
        image, labels = draw(number)
        tifffile.imwrite(tmp_path / "mine" / "images" / f"a{number}.tif", image)
        tifffile.imwrite(tmp_path / "mine" / "masks" / f"a{number}.tif", labels)
    monkeypatch.chdir(tmp_path)
    words = ["learning-curve", "mine", *TINY, "--steps", "2", "--scale", "1"]
    done = CliRunner().invoke(cli.main, [*words, "--seeds", "1", "--images", "1"])
    assert done.exit_code == 0, done.output
    assert "One number of images says nothing" in done.stdout
    assert (tmp_path / "runs" / "curve-mine" / "curve.png").exists()
    again = CliRunner().invoke(cli.main, words)
    assert again.exit_code == 2
    assert "curve-mine-2" in again.output
    wrong = CliRunner().invoke(cli.main, [*words, "--images", "one"])
    assert wrong.exit_code == 2
    assert "--images takes numbers" in wrong.output


@pytest.mark.parametrize(
    ("said", "target"),
    [
        ([], "semantic"),
        (["--target", "distance"], "distance"),
        (["--set", "target=distance"], "distance"),
    ],
)
def test_of_classes_the_target_that_was_asked_for_stays(
    said, target, tmp_path, monkeypatch
):
    classes = dataclasses.replace(data(), kind="semantic")
    plans = []

    def learning_curve(plan, *others, **options):
        plans.append(plan)
        return [Point(1, (0.5,))]

    monkeypatch.setattr(_common, "open_dataset", lambda *others, **options: classes)
    monkeypatch.setattr(annotating, "learning_curve", learning_curve)
    words = ["learning-curve", "membrane", "--output", str(tmp_path / "curve")]
    done = CliRunner().invoke(cli.main, [*words, "--augmentation", "none", *said])
    assert done.exit_code == 0, done.output
    assert [plan.target for plan in plans] == [target]
    assert not plans[0].augmentation.elastic
