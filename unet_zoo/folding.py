"""Cross-validation: every image is judged by a network that never saw it."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import math
import os
import statistics
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import (
    checkpoints,
    evaluation,
    files,
    pipeline,
    segmenter,
    training,
    weights,
)
from unet_zoo.catalog import Dataset, Example, Lazy
from unet_zoo.errors import InputError
from unet_zoo.progress import Progress
from unet_zoo.recipe import Recipe
from unet_zoo.toml import to_toml

_RECIPE, _STATE = "recipe.toml", "folds.json"
_MEASURED = {
    "instances": ("SEG", "AP", "Dice"),
    "semantic": ("IoU", "Dice", "pixel accuracy"),
}
_KEPT = {"AP": "AP50"}  # of the many that AP gives


@dataclasses.dataclass(frozen=True, eq=False)
class Result:
    """What a cross-validation gave.

    Attributes:
        ensemble: all networks as one; also `unet_zoo.load(folder)`.
        scores: of each fold, on the images that it was not trained on.
    """

    ensemble: segmenter.Segmenter
    scores: Sequence[dict[str, float]]

    @property
    def metrics(self) -> list[str]:
        """Return the names of the scores, the one that decides first."""
        return [name for name in self.scores[0] if name != "images"]

    def mean(self, metric: str) -> float:
        """Return the mean over the folds."""
        return statistics.fmean(each[metric] for each in self.scores)

    def spread(self, metric: str) -> float:
        """Return the standard deviation over the folds."""
        return statistics.stdev(each[metric] for each in self.scores)


def cross_validate(
    recipe: Recipe,
    dataset: Dataset,
    output: str | os.PathLike[str],
    folds: int = 5,
    *,
    progress: Callable[[int, Progress], None] | None = None,
    scored: Callable[[int, dict[str, float]], None] | None = None,
    resume: bool = False,
    callbacks: Callable[[int], Sequence[Any]] = lambda fold: (),
    **options: Any,
) -> Result:
    """Train one network for each fold, measure it on that fold, join all of them.

    The images of the splits "train" and "validation" together, in their order, are cut
    into `folds` blocks: neighbouring frames are alike, and must not meet on both sides.
    Each network learns from all blocks but one, which validates it: its best weights
    and thresholds are chosen there, so the scores are a little flattering, all alike.
    The test split is not touched.

    `output` then holds, beside a folder `fold-1`, `fold-2`, ... as `training.train`
    leaves it for each, `folds.csv` with the scores, `recipe.toml`, and `ensemble.toml`,
    with which `unet_zoo.load(output)` averages what the networks predict.

    Args:
        recipe: of all folds; fold n has its seed plus n - 1. A scale that is not given
            is chosen once, from all images.
        dataset: what `catalog.open_dataset` returned.
        output: folder to write.
        folds: at least 2, at most as many as there are images.
        progress: called after every step with the number of the fold, from 1, and its
            progress.
        scored: called after every fold with its number and its scores.
        resume: go on in `output`; folds that are finished are not trained again.
        callbacks: returns the Keras callbacks of a fold.
        options: of `training.train`, such as `cache_memory`.

    Raises:
        InputError: as `training.train`; too few images; with `resume`, when `output`
            holds another cross-validation, the differences shown.

    Example:
        >>> from unet_zoo import catalog, folding, recipe
        >>> data = catalog.open_dataset("blobs")  # doctest: +SKIP
        >>> result = folding.cross_validate(
        ...     recipe.named("default"), data, "runs/folds"
        ... )  # doctest: +SKIP
        >>> result.mean("SEG"), result.spread("SEG")  # doctest: +SKIP
    """
    folder = Path(output)
    every = everything(dataset)
    if not 2 <= folds <= len(every):
        message = (
            f"`folds` must be at least 2 and at most the number of images, "
            f"{len(every)} here. Received: {folds}"
        )
        raise InputError(message)
    recipe = pipeline.with_scale(recipe, dataset.kind, every)
    of = {
        "recipe": recipe.to_dict(),
        "dataset": {"name": dataset.name, "version": dataset.version}
        | {"config": dataset.config, "note": dataset.note, "images": len(every)},
        "folds": folds,
    }
    scores: list[dict[str, float]] = []
    if resume and (folder / _STATE).exists():
        past = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        checkpoints.check_same(folder, past["of"], of)
        scores = past["scores"]
    else:
        files.check_unused(folder)
    for fold in range(len(scores) + 1, folds + 1):
        plan = recipe.replace(seed=(recipe.seed + fold - 1) % 2**32)
        part = folder / f"fold-{fold}"
        tell = functools.partial(progress, fold) if progress else None
        data = fold_of(dataset, fold, folds)
        with files.beginning(folder, () if scores else (_RECIPE, _STATE)):
            _write(folder / _RECIPE, to_toml(recipe.to_dict()))
            _write(folder / _STATE, json.dumps({"of": of, "scores": scores}))
            trained = training.train(
                plan,
                data,
                part,
                progress=tell,
                resume=resume,
                callbacks=callbacks(fold),
                **options,
            )
        scores.append(_measure(trained, data))
        _write(folder / _STATE, json.dumps({"of": of, "scores": scores}))
        if scored is not None:
            scored(fold, scores[-1])

    members = [folder / f"fold-{n}" for n in range(1, folds + 1)]
    names = [name for name in scores[0] if name != "images"]
    means = {name: statistics.fmean(each[name] for each in scores) for name in names}
    weights.write_ensemble(folder, members, validation=means)
    lines = [",".join(["fold", "images", *names])]
    for number, each in enumerate(scores, start=1):
        values = [str(each["images"]), *(f"{each[name]:.6f}" for name in names)]
        lines.append(",".join([str(number), *values]))
    _write(folder / "folds.csv", "\n".join(lines) + "\n")
    return Result(segmenter.load(folder, engine="keras"), tuple(scores))


def everything(dataset: Dataset) -> Lazy:
    """Return the examples of the splits "train" and "validation", in this order."""
    splits = [split for split in ("train", "validation") if split in dataset.readers]
    count = sum(len(dataset.sequence(split)) for split in splits)
    return Lazy(count, lambda: itertools.chain(*map(dataset.sequence, splits)))


def fold_of(dataset: Dataset, fold: int, folds: int) -> Dataset:
    """Return the dataset whose split "validation" is block `fold` (from 1) of all.

    >>> import numpy as np
    >>> made = [Example(str(n), np.zeros((2, 2, 1)), np.zeros((2, 2))) for n in "abcde"]
    >>> data = Dataset("d", "1", None, "semantic", "Five.", {}, {"train": lambda: made})
    >>> first = fold_of(data, 1, 2)
    >>> [each.name for each in first.examples("validation")], first.size_of
    (['a', 'b', 'c'], {'train': 2, 'validation': 3})
    """
    every = everything(dataset)
    # The first folds are larger by one where the number cannot be divided.
    size, more = divmod(len(every), folds)
    start = (fold - 1) * size + min(fold - 1, more)
    block = range(start, start + size + (fold <= more))

    def read(inside: bool) -> Iterator[Example]:
        for number, example in enumerate(every):
            if (number in block) == inside:
                yield example

    counts = {"train": len(every) - len(block), "validation": len(block)}
    return dataclasses.replace(
        dataset,
        note=f"{dataset.note} Fold {fold} of {folds}.".strip(),
        size_of=counts,
        readers={
            split: lambda split=split: Lazy(  # type: ignore[misc]
                counts[split], lambda: read(split == "validation")
            )
            for split in counts
        },
    )


def _measure(trained: segmenter.Segmenter, data: Dataset) -> dict[str, float]:
    """Return the scores on the fold's own images, as users of the weights get them."""
    names = _MEASURED[data.kind]
    # Measured against what would have taught them: references may be too few.
    own = Lazy(
        data.size_of["validation"],
        lambda: (
            dataclasses.replace(each, reference=each.labels, markers=None)
            for each in data.sequence("validation")
        ),
    )
    found = evaluation.evaluate(trained, own, names=names, kind=data.kind)
    values = {_KEPT.get(name, name): found[_KEPT.get(name, name)] for name in names}
    scores: dict[str, float] = {"images": len(own)}
    for name, score in values.items():
        # JSON and means have no use for nan: a fold without any object scores 0.
        scores[name] = 0.0 if math.isnan(score.value) else score.value
    return scores


def _write(path: Path, text: str) -> None:
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")
