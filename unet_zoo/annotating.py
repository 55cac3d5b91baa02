"""Learning curves: would more annotated images help?"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import math
import os
import shutil
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unet_zoo import checkpoints, evaluation, files, pipeline, training
from unet_zoo.catalog import Dataset, Example, Lazy
from unet_zoo.errors import InputError
from unet_zoo.progress import Progress
from unet_zoo.recipe import Recipe

_STATE = "curve.json"
# A gain below this is none, however sure; chance explains what is below two errors.
_WORTH = 0.005


@dataclasses.dataclass(frozen=True)
class Point:
    """What a number of images gave: a score for each seed."""

    images: int
    scores: tuple[float, ...]

    @property
    def mean(self) -> float:
        return statistics.fmean(self.scores)

    @property
    def spread(self) -> float:
        """Return the standard deviation over the seeds, 0 of one."""
        return statistics.stdev(self.scores) if len(self.scores) > 1 else 0.0


def counts(most: int) -> list[int]:
    """Return 1, 2, 4, ... and the last one, `most`.

    >>> counts(8), counts(11), counts(1)
    ([1, 2, 4, 8], [1, 2, 4, 8, 11], [1])
    """
    found = [2**n for n in range(most.bit_length()) if 2**n < most]
    # Two points that lie close together say nothing about a slope.
    if found and found[-1] > 0.75 * most:
        found.pop()
    return [*found, most]


def learning_curve(
    recipe: Recipe,
    dataset: Dataset,
    output: str | os.PathLike[str],
    *,
    images: Sequence[int] | None = None,
    seeds: int = 3,
    progress: Callable[[int, int, Progress], None] | None = None,
    scored: Callable[[int, int, float], None] | None = None,
    resume: bool = False,
) -> list[Point]:
    """Train on 1, 2, 4, ... images with the same recipe and score each on the same.

    Every training makes the same number of steps, so all cost the same. The images are
    drawn at random: seed s has an order of its own, of which it takes the first 1, 2,
    4, ... Scored are the images of the split "validation", SEG of objects and IoU of
    classes; nothing is chosen by them, the weights are those of the last step.

    `output` then holds `curve.csv`, a row for each training, and `curve.png`.

    Args:
        recipe: of all trainings; the seed of the first.
        dataset: what `catalog.open_dataset` returned; hold back a good part of it.
        output: folder to write.
        images: how many to train on; None: `counts` of all there are.
        seeds: trainings for each number of images.
        progress: called after every step with the number of images and the seed.
        scored: called after every training with images, seed and score.
        resume: go on in `output`; what is scored is not trained again.

    Raises:
        InputError: without validation images, for impossible numbers of images, and
            with `resume` where `output` holds another curve, the differences shown.

    Example:
        >>> from unet_zoo import annotating, catalog, recipe
        >>> data = catalog.open_dataset("blobs", validation=0.25)  # doctest: +SKIP
        >>> points = annotating.learning_curve(
        ...     recipe.named("default").replace(steps=300), data, "runs/curve"
        ... )  # doctest: +SKIP
        >>> annotating.verdict(points, "SEG")  # doctest: +SKIP
    """
    folder = Path(output)
    taught = dataset.sequence("train")
    held_out = dataset.sequence("validation")
    if not held_out:
        message = "A learning curve is measured on validation images; there are none."
        raise InputError(message)
    wanted = sorted(set(images or counts(len(taught))))
    if not 1 <= wanted[0] <= wanted[-1] <= len(taught) or seeds < 1:
        message = (
            f"`images` must lie in 1..{len(taught)}, the training images of "
            f"{dataset.name!r}, and `seeds` be at least 1. Received: {wanted}, {seeds}"
        )
        raise InputError(message)
    recipe = pipeline.with_scale(recipe, dataset.kind, taught)
    if recipe.optimizer.schedule == "plateau":
        message = (
            "A learning curve chooses nothing by its validation images, and "
            "`optimizer.schedule = 'plateau'` waits for them. Take another schedule, "
            "such as cosine."
        )
        raise InputError(message)
    # Nothing is validated, so one part is enough, and there is nothing to wait for.
    recipe = recipe.replace(validate_every=recipe.steps, patience=0)
    of = {
        "recipe": recipe.to_dict(),
        "dataset": {"name": dataset.name, "version": dataset.version}
        | {"config": dataset.config, "note": dataset.note}
        | {"train": len(taught), "validation": len(held_out)},
    }
    rows: list[tuple[int, int, float]] = []
    if resume and (folder / _STATE).exists():
        past = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        checkpoints.check_same(folder, past["of"], of)
        rows = [(count, seed, score) for count, seed, score in past["rows"]]
    else:
        files.check_unused(folder)
    metric = metric_of(dataset)
    done = {(count, seed) for count, seed, _ in rows}
    for count in wanted:
        for seed in range(1, seeds + 1):
            if (count, seed) in done:
                continue
            run = folder / f"images-{count}-seed-{seed}"
            tell = functools.partial(progress, count, seed) if progress else None
            with files.beginning(folder, () if rows else (_STATE,)):
                _write(folder / _STATE, json.dumps({"of": of, "rows": rows}))
                trained = training.train(
                    recipe.replace(seed=(recipe.seed + seed - 1) % 2**32),
                    _part(dataset, taught, count, seed + recipe.seed),
                    run,
                    progress=tell,
                    resume=resume,
                )
            own = Lazy(len(held_out), lambda: map(_measured, held_out))
            found = evaluation.evaluate(
                trained, own, names=(metric,), kind=dataset.kind, tta=1
            )[metric].value
            rows.append((count, seed, 0.0 if math.isnan(found) else found))
            _write(folder / _STATE, json.dumps({"of": of, "rows": rows}))
            # Only its score was wanted, and there will be many.
            shutil.rmtree(run)
            if scored is not None:
                scored(*rows[-1])
    rows = sorted(row for row in rows if row[0] in wanted and row[1] <= seeds)
    points = [
        Point(count, tuple(score for n, _, score in rows if n == count))
        for count in wanted
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["images", "seed", metric])
    writer.writerows(rows)
    _write(folder / "curve.csv", text.getvalue())
    _draw(folder / "curve.png", points, metric, recipe.steps)
    return points


def metric_of(dataset: Dataset) -> str:
    """Return the metric of a dataset's learning curve."""
    return "SEG" if dataset.kind == "instances" else "IoU"


def verdict(points: Sequence[Point], metric: str) -> str:
    """Return in a sentence whether more annotated images would help.

    The last gain counts: from the second last number of images to the last. It is sure
    when it is more than twice its standard error over the seeds.

    >>> points = [Point(4, (0.50, 0.52, 0.51)), Point(8, (0.60, 0.61, 0.62))]
    >>> verdict(points, "SEG")
    'Annotate more: from 4 to 8 images, SEG rose from 0.510 to 0.610 \
(by 0.100 +- 0.008).'
    """
    if len(points) < 2:
        return "One number of images says nothing about more of them."
    before, last = points[-2:]
    gain = last.mean - before.mean
    error = math.sqrt(sum(each.spread**2 / len(each.scores) for each in points[-2:]))
    course = (
        f"from {before.images} to {last.images} images, {metric} "
        f"{'rose' if gain >= 0 else 'fell'} from {before.mean:.3f} to {last.mean:.3f}"
    )
    if min(len(each.scores) for each in points[-2:]) < 2:
        return f"It cannot be told from one seed: {course}; train several seeds."
    course += f" (by {abs(gain):.3f} +- {error:.3f})"
    if gain > max(2 * error, _WORTH):
        return f"Annotate more: {course}."
    if 2 * error < 4 * _WORTH:
        return f"More images would hardly help: {course}; rather change the recipe."
    return f"It cannot be told: {course}; train more seeds, or score more images."


def _part(
    dataset: Dataset, taught: Sequence[Example], count: int, seed: int
) -> Dataset:
    """Return the dataset with `count` of its training images and none to validate."""
    order = np.random.default_rng([seed, len(taught)]).permutation(len(taught))
    chosen = set(order[:count].tolist())
    part = Lazy(count, lambda: (each for n, each in enumerate(taught) if n in chosen))
    return dataclasses.replace(
        dataset,
        note=f"{dataset.note} {count} of its images, order {seed}.".strip(),
        size_of={"train": count, "validation": 0},
        readers={"train": lambda: part, "validation": list},
    )


def _measured(example: Example) -> Example:
    return dataclasses.replace(example, reference=example.labels, markers=None)


def _draw(path: Path, points: Sequence[Point], metric: str, steps: int) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    panel = figure.subplots()
    across = [each.images for each in points]
    for each in points:
        many = [each.images] * len(each.scores)
        panel.plot(many, each.scores, "o", color="tab:blue", alpha=0.35, ms=4)
    panel.errorbar(
        across,
        [each.mean for each in points],
        [each.spread for each in points],
        color="tab:blue",
        capsize=4,
        marker="o",
    )
    panel.set_xscale("log", base=2)
    panel.set_xticks(across, [str(each) for each in across])
    panel.minorticks_off()
    panel.set_xlabel(f"annotated images, {steps} steps each")
    panel.set_ylabel(f"{metric}, mean and standard deviation over seeds")
    panel.grid(alpha=0.3)
    with files.replacing(path) as part:
        figure.savefig(part, dpi=120)


def _write(path: Path, text: str) -> None:
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")
