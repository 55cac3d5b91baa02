"""What a training says of itself: the best weights, the history and the report."""

from __future__ import annotations

import csv
import itertools
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from unet_zoo import (
    catalog,
    evaluation,
    files,
    images,
    outputs,
    plots,
    reporting,
    segmenter,
    tuning,
)
from unet_zoo.catalog.dataset import Lazy


class Judge:
    """Validates the weights of the moment, keeps the best, writes the history."""

    def __init__(
        self,
        network: keras.Model,
        facts: dict[str, Any],
        kind: str,
        examples: Sequence[catalog.Example],
        folder: Path,
    ) -> None:
        self.network, self.facts, self.folder = network, facts, folder
        # A validation image is measured against what it would have taught: the
        # dataset's references may be too few for that.
        self.examples = Lazy(len(examples), lambda: map(tuning.as_taught, examples))
        self.metric = "SEG" if kind == "instances" else "IoU"
        self.best: float | None = None
        self.history: list[dict[str, float]] = []
        self._seen: reporting.Evidence | None = None
        self.rate = math.nan
        self.started = time.monotonic()

    def standing(self) -> dict[str, Any]:
        """Return the part of `Progress` that a judge knows."""
        seconds = time.monotonic() - self.started
        return {"metric": self.metric, "best": self.best, "seconds": seconds}

    @property
    def state(self) -> dict[str, Any]:
        """Return what `restore` takes, as plain values."""
        spent = time.monotonic() - self.started
        return {"best": self.best, "history": self.history, "spent": spent}

    @property
    def value(self) -> float:
        """Return what the last validation measured; NaN where nothing could be."""
        return self.history[-1].get(self.metric, math.nan)

    def restore(
        self, best: float | None, history: list[dict[str, float]], spent: float
    ) -> None:
        """Go on judging where another judge stopped."""
        self.best, self.history = best, list(history)
        self.started = time.monotonic() - spent

    def validate(
        self,
        step: int,
        loss: float | None,
        rate: float,
        heed: Callable[[], None] = lambda: None,
    ) -> None:
        """Measure, and write the weights if none before were better.

        Args:
            step: of the training.
            loss: of the steps since the last validation; None before the first step.
            rate: images a second in training.
            heed: called again and again until all is measured. If it raises, the judge
                stays as it was and nothing is written.
        """

        def heeding() -> Iterator[catalog.Example]:
            for example in self.examples:
                heed()
                yield example

        examples = Lazy(len(self.examples), heeding)
        row: dict[str, float] = {"step": step}
        if loss is not None:  # as it is before the first step
            row["loss"] = loss
        present = segmenter.Segmenter(self.network, self.facts)
        seen = None
        if self.examples:
            found = [
                present.segment(each.image, tta=1, progress=lambda *_: heed()).labels
                for each in examples
            ]
            scores = evaluation.score(examples, found, (self.metric, "Dice"))
            seen = self._gather(examples, found)
            row |= {
                name: score.value
                for name, score in scores.items()
                if math.isfinite(score.value)
            }
        self._seen, self.rate = seen, rate
        row["seconds"] = round(time.monotonic() - self.started, 1)
        self.history.append(row)
        value = row.get(self.metric, math.nan)
        # Without validation images the latest weights are all there is to prefer.
        if self.best is None or math.isnan(value) or value >= self.best:
            self.best = None if math.isnan(value) else value
            present.facts["validation"] = row
            present.save(self.folder / "weights.h5")
        with (
            files.replacing(self.folder / "history.csv") as part,
            part.open("w", newline="") as file,
        ):
            names = dict.fromkeys(["step", "loss"])
            names |= {name: None for line in self.history for name in line}
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows(self.history)
        how = f"Found at step {step}, without the flips and rotations of the end."
        self._report(how, "training")

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """Return the first validation images with the outlines found in them."""
        return {} if self._seen is None else self._seen.pictures

    def _gather(
        self, examples: Sequence[catalog.Example], found: Sequence[np.ndarray]
    ) -> reporting.Evidence:
        kind = "instances" if self.metric == "SEG" else "semantic"
        return reporting.gather(examples, found, kind, self.metric)

    def _report(self, how: str, state: str) -> None:
        recipe = self.facts["recipe"]
        reporting.write(
            self.folder / "report.html",
            name=f"{recipe['model']} on {self.facts['dataset']['name']}",
            history=self.history,
            metric=self.metric,
            facts=self.facts,
            evidence=self._seen,
            how=how,
            rate=self.rate,
            steps=recipe["steps"],
            state=state,
        )

    def finish(self, tune: bool) -> None:
        """Tune the decoder of the best weights, draw the curve and their outlines."""
        plots.write_curve(self.folder / "curve.png", self.history, self.metric)
        best = segmenter.load(self.folder / "weights.h5", engine="keras")
        if best.facts["recipe"] != self.facts["recipe"]:  # it was extended since
            best.facts["recipe"] = self.facts["recipe"]
            best.save(self.folder / "weights.h5")
        examples = list(itertools.islice(self.examples, 8))
        if tune:
            predicted = [best.predict(each.image) for each in self.examples]
            if self.examples:
                best = tuning.tune(best, self.examples, self.metric, predicted)
                best.save(self.folder / "weights.h5")
            found = [best.decode(each) for each in predicted]
            self._seen = self._gather(self.examples, found) if found else None
            self._report("Found as weights.h5 finds them.", "finished")
        else:
            found = [best.segment(each.image).labels for each in examples]
            self._report("Found at the last validation.", "stopped")
        for example, labels in zip(examples, found, strict=False):
            overlay = outputs.overlay(example.image, labels)
            (self.folder / "samples").mkdir(exist_ok=True)
            images.write_png(
                self.folder / "samples" / _file_name(example.name), overlay
            )


def _file_name(name: str) -> str:
    """Return what the picture of an example is called.

    Its name with folders may be longer than that of a file can be; images of one kind
    differ at the end of theirs.

    >>> _file_name("day1/a"), len(_file_name("é" * 300))
    ('day1-a.png', 104)
    """
    whole = name.replace("/", "-").encode()
    return whole[-200:].decode(errors="ignore") + ".png"
