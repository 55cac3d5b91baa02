"""Scores rest on what there is to measure against, and say so."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from unet_zoo import evaluation, metrics
from unet_zoo.catalog import Example
from unet_zoo.errors import InputError


class Answers:
    """Gives each image the labels that were written down for it."""

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.answers, self.options = answers, []

    def segment(self, image: np.ndarray, /, **options) -> np.ndarray:
        self.options.append(options)
        return self.answers[int(image[0, 0, 0])]


def labels(shift: int = 0) -> np.ndarray:
    made = np.zeros((20, 30), "int32")
    made[2:10, 2 + shift : 12 + shift], made[12:18, 5:25] = 1, 2
    return made


def example(number: int, reference=None, markers=None) -> Example:
    image = np.full((20, 30, 1), number, "uint8")
    return Example(f"e{number}", image, labels(), reference, markers)


EXAMPLES = [example(0, reference=labels()), example(1), example(2, reference=labels())]


def test_the_perfect_are_perfect():
    model = Answers([labels()] * 3)
    scores = evaluation.evaluate(model, EXAMPLES)
    assert {score.value for score in scores.values()} == {1.0}
    assert {score.frames for score in scores.values()} == {2}
    thresholds = [f"AP{percent}" for percent in range(50, 100, 5)]
    assert sorted(scores) == sorted([*evaluation.METRICS, *thresholds])


def test_scores_are_those_of_the_metrics():
    answers = [labels(3), labels(), labels(1)]
    scores = evaluation.evaluate(Answers(answers), EXAMPLES)
    references, found = [labels(), labels()], [answers[0], answers[2]]
    assert scores["SEG"] == metrics.seg(references, found)
    assert scores["Dice"] == metrics.dice(references, found)
    assert scores["IoU"] == metrics.iou(references, found)
    assert scores["pixel accuracy"] == metrics.pixel_accuracy(references, found)
    assert scores["V-Rand"] == metrics.v_rand(references, found)
    precision = metrics.average_precision(references, found)
    assert scores["AP75"] == precision[0.75]
    mean = np.mean([score.value for score in precision.values()])
    assert scores["AP"].value == pytest.approx(mean)
    assert 0 < scores["AP"].value < scores["AP50"].value
    # Nobody marked anything, so objects are counted against the reference.
    assert scores["DET"] == metrics.det(references, found)


def test_markers_count_objects_in_all_their_frames():
    markers = np.zeros((20, 30), "int32")
    markers[5, 5], markers[15, 15], markers[0, 29] = 1, 2, 3
    marked = [example(0, reference=labels()), example(1, markers=markers)]
    scores = evaluation.evaluate(Answers([labels()] * 2), marked, names=["DET", "SEG"])
    assert scores["DET"] == metrics.det([markers], [labels()])
    assert scores["DET"].objects == 3
    assert scores["SEG"] == metrics.Score(1.0, 2, 1)


def test_what_is_not_annotated_counts_in_no_measure_but_the_challenges():
    reference = labels()
    reference[1, 2:12] = reference[2:10, 1] = reference[2:10, 12] = -1
    found = labels()
    found[reference < 0] = 1
    partial = example(0, reference=reference)
    scores = evaluation.evaluate(Answers([found]), [partial])
    assert {score.value for score in scores.values()} == {1.0}
    strict = dataclasses.replace(partial, challenge=True)
    scores = evaluation.evaluate(Answers([found]), [strict])
    # Of 80 pixels and 26 around them, and of 120 without any.
    assert scores.pop("SEG").value == pytest.approx((80 / 106 + 1) / 2)
    assert {score.value for score in scores.values()} == {1.0}


@pytest.mark.parametrize("name", evaluation.METRICS)
def test_without_anything_to_measure_against_there_is_no_score(name):
    message = f"None of the 2 images has a reference to measure {name} against"
    with pytest.raises(InputError, match=message):
        evaluation.score([example(0), example(1)], [labels()] * 2, names=[name])


def test_the_parts_of_a_class_are_its_segments():
    """A membrane with a gap joins two neurons, whatever their class."""
    inside = np.ones((20, 30), "int32")
    inside[:, 15] = 0
    inside[0, 0] = -1
    torn = np.abs(inside)
    torn[5:8, 15] = 1
    examples = [Example("m", np.zeros((20, 30, 1), "uint8"), inside, inside)]

    def v_rand(prediction):
        scores = evaluation.score(examples, [prediction], ("V-Rand",), "semantic")
        return scores["V-Rand"]

    assert v_rand(np.abs(inside)) == metrics.Score(1.0, 2, 1)
    assert v_rand(torn).value < 0.7
    scores = evaluation.evaluate(Answers([torn]), examples, kind="semantic")
    assert tuple(scores) == evaluation.OF_CLASSES


def test_options_and_progress_arrive():
    model, calls = Answers([labels()] * 3), []
    evaluation.evaluate(
        model,
        EXAMPLES,
        names=["SEG"],
        progress=lambda done, of: calls.append((done, of)),
        tta=1,
        min_size=5,
    )
    assert calls == [(1, 3), (2, 3), (3, 3)]
    assert model.options == [{"tta": 1, "min_size": 5}] * 3


def test_unknown_metrics_are_refused_before_anything_is_segmented():
    model = Answers([])
    with pytest.raises(
        InputError, match=r"Unknown metric 'Dise'\. Did you mean 'Dice'"
    ):
        evaluation.evaluate(model, EXAMPLES, names=["SEG", "Dise"])
    assert model.options == []
