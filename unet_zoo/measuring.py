"""Measuring weights so that anyone can do it again, and doing it again."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo import cards, catalog, evaluation, metrics, segmenter, weights
from unet_zoo.errors import InputError

TOLERANCE = 0.002  # of a figure, that another processor or backend may make
RESAMPLES = 2000
SEED = 0
LEVEL = 0.95
# From so many frames on, what is drawn anew is frames: objects of one are alike.
_FRAMES = 20
_ROUNDED = 6e-5  # of a figure in a card


def measure(
    model: segmenter.Segmenter,
    dataset: catalog.Dataset,
    *,
    title: str,
    split: str = "test",
    tta: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> weights.Evaluation:
    """Measure a segmenter and return the figures with all it takes to repeat them.

    Args:
        model: what is measured.
        dataset: a named one (`catalog.names`), since nobody else has other images.
        title: what the card says above the figures.
        split: of the dataset.
        tta: turned copies to average; None: what the weights recommend.
        progress: called with (frames done, frames in all).

    Returns:
        Every metric that suits the dataset, and the bootstrap interval of the first:
        SEG of objects, V-Rand of classes. Metrics that are nan are left out.

    Raises:
        InputError: for a dataset of one's own or an empty split.
    """
    if dataset.name not in catalog.names():
        message = (
            f"{dataset.name!r} is no named dataset, so nobody could measure this again."
            f" Named are {', '.join(catalog.names())}."
        )
        raise InputError(message)
    tta = int(model.facts["tta"] if tta is None else tta)
    examples, labels = _segmented(model, dataset, split, tta, progress)
    found = evaluation.score(examples, labels, kind=dataset.kind)
    return weights.Evaluation(
        title=title,
        dataset=dataset.name,
        config=dataset.config or "",
        version=dataset.version,
        split=split,
        tta=tta,
        metrics={
            name: dataclasses.asdict(score)
            for name, score in found.items()
            if math.isfinite(score.value)
        },
        interval=interval(examples, labels, dataset.kind),
    )


def interval(
    examples: Sequence[catalog.Example], labels: Sequence[np.ndarray], kind: str
) -> dict[str, Any]:
    """Return the bootstrap interval of the metric that a dataset is about.

    Of objects SEG, of which objects are drawn anew, or whole frames where there are
    twenty or more; of classes V-Rand, by frames. The result has the keys of
    `weights.Evaluation.interval`; it is empty where there are fewer than two units.
    """
    both = [
        (each.reference, found, evaluation.outlined(each))
        for each, found in zip(examples, labels, strict=True)
        if each.reference is not None
    ]
    if not both:
        return {}
    by, metric = "frames", "SEG"
    if kind == "instances":
        of = [
            metrics.object_errors([outlined], [found]).jaccard
            for _, found, outlined in both
        ]
        if len(of) >= _FRAMES:
            parts = np.array([(each.sum(), len(each)) for each in of], float)
        else:
            by, every = "objects", np.concatenate(of)
            parts = np.stack([every, np.ones_like(every)], axis=1)
    else:
        metric = "V-Rand"
        parts = metrics.v_rand_parts(
            [evaluation.parts(one) for one, _, _ in both],
            [evaluation.parts(found) for _, found, _ in both],
        )
    if len(parts) < 2 or not parts[:, 1].any():
        return {}
    low, high = metrics.bootstrap(parts, level=LEVEL, resamples=RESAMPLES, seed=SEED)
    told = {"metric": metric, "low": low, "high": high, "level": LEVEL, "by": by}
    return told | {"resamples": RESAMPLES, "seed": SEED}


@dataclasses.dataclass(frozen=True)
class Repeated:
    """An evaluation of a zoo entry, done again.

    Attributes:
        entry: name of the entry.
        title: of the evaluation.
        stated: {metric: value} of the entry.
        found: {metric: value} of now; empty where it could not be measured.
        problem: why it could not be measured, or what the card says otherwise.
        interval: of the entry, see `weights.Evaluation`.
    """

    entry: str
    title: str
    stated: Mapping[str, float]
    found: Mapping[str, float]
    problem: str = ""
    interval: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def differences(self) -> dict[str, float]:
        """Return how much more than stated each metric is now; nan: it has none.

        >>> Repeated("a", "b", {"SEG": 0.5}, {"SEG": 0.75}).differences()
        {'SEG': 0.25}
        """
        return {
            name: self.found.get(name, math.nan) - value
            for name, value in self.stated.items()
        }

    def good(self, tolerance: float = TOLERANCE) -> bool:
        """Return whether every figure is as stated.

        >>> Repeated("a", "b", {"SEG": 0.5}, {"SEG": 0.501}).good()
        True
        """
        away = self.differences().values()
        return not self.problem and all(abs(each) <= tolerance for each in away)

    def within(self) -> bool:
        """Return whether the metric of the interval lies in it.

        >>> interval = {"metric": "SEG", "low": 0.4, "high": 0.6}
        >>> Repeated("a", "b", {"SEG": 0.5}, {"SEG": 0.55}, interval=interval).within()
        True
        """
        found = self.found.get(self.interval["metric"], math.nan)
        return bool(self.interval["low"] <= found <= self.interval["high"])


def repeat(
    entry: weights.Entry,
    *,
    load: Callable[[Path], segmenter.Segmenter] = segmenter.load,
    opened: Callable[..., catalog.Dataset] = catalog.open_dataset,
    progress: Callable[[int, int], None] | None = None,
) -> list[Repeated]:
    """Measure a zoo entry again, by everything that its card states.

    Each evaluation is of the dataset, configuration, split and turned copies that the
    entry names, with the entry's weights or with those beside them that it names.

    Args:
        entry: what `weights.entry` or `weights.read_entry` returned.
        load: makes the segmenter of a weights file.
        opened: opens a dataset by its name and `config`.
        progress: called with (frames done, frames in all) of each evaluation.

    Returns:
        One result for each evaluation, and for each figure that only the card states.
        One that could not be repeated, since its weights or images are not here, says
        so in its `problem` and is not good.
    """
    if not entry.evaluations:
        problem = "its entry says no evaluation that could be repeated: publish it anew"
        return [Repeated(entry.name, "", {}, {}, problem)]
    done = []
    card = _card(entry)
    for each in entry.evaluations:
        where = functools.partial(_weights_of, entry, each)
        said = card.pop(each.title, {})
        done.append(_repeated(entry.name, each, where, load, opened, progress, said))
    problem = "its card states figures that its entry does not: publish it anew"
    done += [Repeated(entry.name, title, {}, {}, problem) for title in card]
    if not _as_compared(entry):
        problem = "its card says otherwise of backends, engines and precisions"
        done.append(Repeated(entry.name, "", {}, {}, problem))
    return done


def repeat_with(
    path: Path,
    entry: weights.Entry,
    *,
    load: Callable[[Path], segmenter.Segmenter] = segmenter.load,
    opened: Callable[..., catalog.Dataset] = catalog.open_dataset,
    progress: Callable[[int, int], None] | None = None,
) -> list[Repeated]:
    """Measure other weights, such as of the same training done again, as an entry was.

    Args:
        path: a weights file or the folder of a training.
        entry: what `weights.entry` returned, whose evaluations are done.
        load, opened, progress: see `repeat`.

    Returns:
        One result for each evaluation of the entry's own weights that states an
        interval, which `Repeated.within` holds what was found against.
    """
    return [
        _repeated(entry.name, each, lambda: path, load, opened, progress)
        for each in entry.evaluations
        if each.interval and not each.file
    ]


def _repeated(
    name: str,
    each: weights.Evaluation,
    where: Callable[[], Path],
    load: Callable[[Path], segmenter.Segmenter],
    opened: Callable[..., catalog.Dataset],
    progress: Callable[[int, int], None] | None,
    card: Mapping[str, float] | None = None,
) -> Repeated:
    """Do one evaluation again, with the weights that `where` returns the path of."""
    stated = {name: float(score["value"]) for name, score in each.metrics.items()}
    found, problem = {}, "" if card is None else _contradicted(card, stated)
    try:
        file = where()
        data = opened(each.dataset, config=each.config or None)
        examples, labels = _segmented(load(file), data, each.split, each.tta, progress)
        scores = evaluation.score(examples, labels, kind=data.kind)
        found = {name: score.value for name, score in scores.items()}
    except InputError as error:
        problem = str(error)
    return Repeated(name, each.title, stated, found, problem, each.interval)


def _card(entry: weights.Entry) -> dict[str, dict[str, float]]:
    path = entry.folder / "README.md"
    return cards.figures(path.read_text(encoding="utf-8")) if path.exists() else {}


def _as_compared(entry: weights.Entry) -> bool:
    """Return whether a card says of backends and engines what its entry does."""
    path = entry.folder / "README.md"
    if not path.exists():
        return True
    text = path.read_text(encoding="utf-8")
    return cards.compared(text) == "\n".join(cards.comparison(entry)).strip()


def _contradicted(card: Mapping[str, float], stated: Mapping[str, float]) -> str:
    """Return what a card says otherwise than its entry; a card rounds."""
    wrong = [
        name
        for name in {**card, **stated}
        if not abs(card.get(name, math.nan) - stated.get(name, math.nan)) <= _ROUNDED
    ]
    return f"its card says otherwise of {', '.join(wrong)}" if wrong else ""


def _weights_of(entry: weights.Entry, of: weights.Evaluation) -> Path:
    if not of.file and entry.path.exists():
        weights.check_entry(entry)
        return entry.path
    if not of.file:
        return weights.locate(entry.name)
    path = entry.folder / of.file
    if not path.exists():
        message = (
            f"{path}, which this was measured with, is not here. The source of "
            "unet-zoo holds such files of its entries, its package does not: measure "
            "those in a checkout."
        )
        raise InputError(message)
    return weights.find(path, sha256=of.sha256)


def _segmented(
    model: segmenter.Segmenter,
    dataset: catalog.Dataset,
    split: str,
    tta: int,
    progress: Callable[[int, int], None] | None,
) -> tuple[Sequence[catalog.Example], list[np.ndarray]]:
    examples = dataset.examples(split)
    if not examples:
        message = f"The split {split!r} of {dataset.name} holds no images."
        raise InputError(message)
    size = model.pixel_size_of(dataset)
    labels = evaluation.segmented(
        model, examples, progress=progress, tta=tta, pixel_size=size
    )
    return examples, labels
