"""The report says what happened, and needs nothing but itself."""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import html.parser
import io
import math
import re

import numpy as np
import PIL.Image
import pytest
from chromium import Chromium, find
from test_training import blob

from unet_zoo import evaluation, metrics, recipe, reporting
from unet_zoo.reporting import charts

VOID = {"meta", "link", "img", "br"}
HISTORY = [
    {"step": 10, "loss": 0.9, "SEG": 0.2, "seconds": 30.0},
    {"step": 20, "loss": 0.5, "SEG": 0.7, "seconds": 60.0},
    {"step": 30, "loss": 0.4, "SEG": 0.6, "seconds": 90.0},
]
FACTS = {
    "recipe": recipe.Recipe().to_dict(),
    "dataset": {"name": "<discs>", "train": 6, "validation": 3},
    "versions": {"keras": "3.x"},
}


class Page(html.parser.HTMLParser):
    """Reads a page strictly: what is opened is closed, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.seen if name == tag]


def examples():
    made = [blob(n, side=480 if n == 1 else 48) for n in range(8)]
    return [dataclasses.replace(each, reference=each.labels) for each in made]


def spoiled(labels: np.ndarray, number: int) -> np.ndarray:
    """Return labels with the first `number` objects away."""
    ids = np.unique(labels[labels > 0])
    return np.where(np.isin(labels, ids[:number]), 0, labels)


def evidence(**options):
    found = [spoiled(each.labels, n % 4) for n, each in enumerate(examples())]
    return reporting.gather(examples(), found, "instances", "SEG", **options)


def written(tmp_path, seen, **options) -> tuple[str, Page]:
    path = tmp_path / "report.html"
    given = {"name": "unet on <discs>", "history": HISTORY, "metric": "SEG"}
    given |= {"facts": FACTS, "evidence": seen, "steps": 60, "rate": 12.5}
    reporting.write(path, **(given | options))
    text = path.read_text(encoding="utf-8")
    return text, Page(text)


def test_objects_found_missed_merged_split_and_extra():
    reference = np.zeros((40, 40), int)
    for n, x in enumerate((0, 10, 20, 30), start=1):
        reference[2:10, x : x + 8] = n
    reference[20:28, 0:8] = 5
    found = np.zeros_like(reference)
    found[2:10, 0:8] = 1  # as it is
    found[2:10, 10:28] = 2  # two in one
    found[2:6, 30:38], found[6:10, 30:38] = 3, 4  # one in two
    found[30:38, 30:38] = 5  # of nothing
    errors = metrics.object_errors([reference], [found])
    assert dataclasses.astuple(errors)[:-1] == (5, 1, 1, 2, 1, 1)
    assert errors.jaccard[0] == 1
    assert errors.jaccard[4] == 0
    score = metrics.seg([reference], [found])
    assert errors.jaccard.mean() == pytest.approx(score.value)
    # What lies where nothing is annotated is not extra, and nothing else changes.
    hidden = np.where((reference == 0) & (np.indices(reference.shape)[0] > 28), -1, 0)
    errors = metrics.object_errors([reference + hidden], [found])
    assert dataclasses.astuple(errors)[:-1] == (5, 1, 1, 2, 1, 0)


def test_errors_of_objects_add_up():
    generator = np.random.default_rng(0)
    for number in range(20):
        labels = blob(number).labels
        found = np.roll(blob(number + generator.integers(2)).labels, 4, axis=0)
        errors = metrics.object_errors([labels], [found])
        assert errors.objects == len(np.unique(labels[labels > 0]))
        sums = errors.found + errors.missed + errors.merged + errors.split
        assert sums == errors.objects
        assert errors.extra <= len(np.unique(found[found > 0]))


def test_the_worst_are_the_worst():
    seen = evidence(samples=2, worst=3)
    scores = []
    for n, each in enumerate(examples()):
        found = [spoiled(each.labels, n % 4)]
        scores.append(evaluation.score([each], found, ("SEG",))["SEG"].value)
    assert [each.value for each in seen.worst] == sorted(scores)[:3]
    assert [each.name for each in seen.samples] == ["seq/0", "seq/1"]
    assert seen.images == 8
    assert seen.errors.missed == sum(
        min(n % 4, len(np.unique(e.labels)) - 1) for n, e in enumerate(examples())
    )
    # A large image is shown smaller, the others as they are.
    assert [each.found.shape for each in seen.samples] == [(48, 48, 3), (400, 400, 3)]
    first = seen.pictures["seq/0"]
    assert first.shape == (48, 96, 3)


def test_nothing_wrong_nothing_worst():
    made = examples()
    seen = reporting.gather(made, [e.labels for e in made], "instances", "SEG")
    assert seen.worst == []
    assert seen.errors.found == seen.errors.objects


def test_the_page_is_whole_and_alone(tmp_path):
    text, page = written(tmp_path, evidence())
    for tag in ("script", "iframe", "object"):
        assert not page.all(tag)
    for _, attributes in page.seen:
        for name in ("src", "href"):
            value = attributes.get(name)
            assert value is None or value.startswith(("data:", "#"))
    assert "url(" not in text
    assert "@import" not in text
    pictures = [each["src"] for each in page.all("img")]
    assert len(pictures) == 2 * (reporting.evidence.SAMPLES + reporting.evidence.WORST)
    for each in pictures:
        data = base64.b64decode(each.partition("base64,")[2], validate=True)
        with PIL.Image.open(io.BytesIO(data)) as picture:
            picture.load()
            assert max(picture.size) <= 400
    assert len(page.all("svg")) == 3
    assert page.all("section")[0]["id"] == "curves"


def test_the_page_says_what_happened(tmp_path):
    seen = evidence()
    _, page = written(tmp_path, seen)
    words = " ".join(page.text.split())
    assert "unet on <discs>" in words
    assert "0.7000 at step 20" in words
    assert "30 of 60" in words
    assert "1 min 30 s" in words
    assert "images a second12.5" in words
    assert f"{seen.errors.missed} missed" in words or seen.errors.missed
    assert "learning_rate = 0.005" in words
    assert "keras3.x" in words
    assert f"annotated objects of {seen.images} validation images" in words


@pytest.mark.parametrize("state", ["training", "stopped", "finished"])
def test_only_a_training_page_is_read_again(tmp_path, state):
    text, page = written(tmp_path, None, state=state)
    again = [each for each in page.all("meta") if each.get("http-equiv") == "refresh"]
    assert bool(again) == (state == "training")
    assert ("time left" in text) == (state == "training")


def test_the_curve_marks_the_step_that_the_page_calls_the_best(tmp_path):
    equal = [row | {"SEG": 0.5} for row in HISTORY]
    text, page = written(tmp_path, None, history=equal)
    assert "0.5000 at step 30" in page.text
    assert re.findall(r'class="best"[^>]*><title>step (\d+)', text) == ["30"]


@pytest.mark.skipif(find() is None, reason="no Chromium on this machine")
@pytest.mark.parametrize("width", [400, 1200])
def test_a_long_name_does_not_make_the_page_wide(tmp_path, width):
    seen = reporting.gather(
        [dataclasses.replace(each, name="x" * 250) for each in examples()],
        [each.labels * 0 for each in examples()],
        "instances",
        "SEG",
    )
    facts = FACTS | {"dataset": {"sha256": "0123456789abcdef" * 4}}
    written(tmp_path, seen, name="y" * 250, facts=facts)
    with contextlib.closing(Chromium(find(), (width, 800))) as browser:
        page = (tmp_path / "report.html").as_uri()
        browser.call("Page.navigate", url=page)
        browser.wait("document.querySelector('footer') !== null")
        assert browser.ask("document.documentElement.scrollWidth") == width


def test_without_validation_there_is_the_loss(tmp_path):
    rows = [{"step": 5, "loss": 0.5, "seconds": 1.0}]
    _, page = written(tmp_path, None, history=rows, rate=math.nan, facts={})
    assert len(page.all("svg")) == 1
    assert "best" not in page.text


def test_classes_have_no_objects(tmp_path):
    made = examples()
    found = [np.minimum(each.labels, 1) for each in made]
    made = [
        dataclasses.replace(e, reference=f) for e, f in zip(made, found, strict=True)
    ]
    seen = reporting.gather(made, found, "semantic", "IoU")
    assert seen.errors is None
    _, page = written(tmp_path, seen)
    assert "objects" not in [each["id"] for each in page.all("section")]


def test_a_curve_goes_through_its_points():
    text = charts.curve([(0, 1.0), (50, 3.0), (100, 2.0)], "a", "step", best="highest")
    points = re.search(r'points="([^"]+)"', text)
    assert points is not None
    places = [tuple(map(float, each.split(","))) for each in points[1].split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    heights = [y for _, y in places]
    assert heights[1] < heights[2] < heights[0]  # upwards is less
    assert heights[2] == pytest.approx((heights[0] + heights[1]) / 2, abs=0.11)
    best = re.search(r'class="best" cx="([\d.]+)"', text)
    assert best is not None
    assert float(best[1]) == places[1][0]
    assert charts.curve([], "a", "step") == ""
    assert "<polyline" in charts.curve([(3, math.nan), (4, 0.0)], "a", "step")
    assert charts.histogram([0, 0], "a", "b") == ""
    assert charts.histogram([1, 2, 0], "a", "b").count("<rect") == 3
