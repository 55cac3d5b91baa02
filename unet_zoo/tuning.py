"""Choosing how a network's predictions become objects, on images with labels."""

from __future__ import annotations

import copy
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo import catalog, evaluation, files, segmenter, targets, weights
from unet_zoo.errors import InputError, unknown
from unet_zoo.metrics import Score

# Less than this is chance on ten images, and would be paid for on others.
_GAIN = 0.003
# Shares of the smallest annotated objects below which what is found may be dirt.
_DIRT = (0.1, 0.25, 0.5)
_CLOSINGS = (0, 1, 2, 4)


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What tuning found.

    Attributes:
        segmenter: the one that scores best; the given one where nothing did better.
        before: `metric` and Dice (of classes IoU) of the segmenter as it was.
        after: the same of the new one.
        changed: the values (before, after) of each option that was changed.
        tried: the values that were tried of each option.
    """

    segmenter: segmenter.Segmenter
    before: Mapping[str, Score]
    after: Mapping[str, Score]
    changed: Mapping[str, tuple[Any, Any]]
    tried: Mapping[str, Sequence[Any]]


def tune(
    model: segmenter.Segmenter,
    examples: Sequence[catalog.Example],
    metric: str,
    predictions: Sequence[np.ndarray] | None = None,
) -> segmenter.Segmenter:
    """Return the segmenter with the arguments of its target that score best.

    One argument after the other takes each of the target's `tunable` values, and those
    beyond for as long as they do better; it keeps the one it had unless another is
    better by more than 0.003, which would be chance. The network is asked once per
    image.

    Args:
        model: a segmenter or an ensemble; it is not changed.
        examples: with a `reference`; never those that the model is judged by.
        metric: among `evaluation.METRICS`, to be as large as possible.
        predictions: what `model` predicts of them, if that is known already.

    Example:
        >>> from unet_zoo import catalog, tuning
        >>> data = catalog.open_dataset("my_images/")  # doctest: +SKIP
        >>> tuning.tune(model, data.examples("validation"), "SEG")  # doctest: +SKIP
    """
    tried = dict(model.target.tunable)
    return _search(model, examples, metric, tried, predictions, "instances").segmenter


def search(
    model: segmenter.Segmenter,
    examples: Sequence[catalog.Example],
    metric: str | None = None,
    *,
    kind: str = "instances",
    progress: Callable[[int, int], None] | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    **options: Any,
) -> Tuned:
    """Find how to decode: the target's thresholds, `min_size`, `fill_holes`, `closing`.

    As `tune`, and then the options of `segment` that tidy objects; `min_size` takes
    shares of the smallest annotated objects. What is found is the default of the
    segmenter returned (`facts["target_arguments"]`, `facts["decode"]`), and stays in
    the file that its `save` writes.

    Args:
        model: a segmenter or an ensemble; it is not changed.
        examples: with a `reference`; never those that the model is judged by.
        metric: what is to be as large as possible, among `evaluation.METRICS`; None:
            SEG, of classes IoU.
        kind: of the dataset, "instances" or "semantic".
        progress: called with (images done, images in all) while the network is asked.
        pixel_size: of the images, see `Segmenter.segment`; of a dataset,
            `Segmenter.pixel_size_of` says it.
        options: of `Segmenter.predict`, such as `tta`.

    Raises:
        InputError: for an unknown metric, without an image that has a reference, and
            where classes are predicted, of which the likeliest is taken.

    Example:
        >>> from unet_zoo import catalog, tuning
        >>> data = catalog.open_dataset("my_images/")  # doctest: +SKIP
        >>> found = tuning.search(model, data.examples("validation"))  # doctest: +SKIP
        >>> found.segmenter.save("tuned.h5")  # doctest: +SKIP
    """
    if metric is None:
        metric = "SEG" if kind == "instances" else "IoU"
    if metric not in evaluation.METRICS:
        raise unknown(kind="metric", word=metric, options=evaluation.METRICS)
    if segmenter.of_classes(model.target):
        message = (
            f"{model.name!r} predicts {model.target.channels} classes: the likeliest "
            "is taken of each pixel, so there is no threshold to find."
        )
        raise InputError(message)
    tried: dict[str, Sequence[Any]] = {
        **model.target.tunable,
        "min_size": _sizes(examples),
        "fill_holes": (True, False),
        "closing": _CLOSINGS,
    }
    predictions = []
    for number, example in enumerate(examples, start=1):
        predictions.append(
            model.predict(example.image, pixel_size=pixel_size, **options)
        )
        if progress is not None:
            progress(number, len(examples))
    found = _search(model, examples, metric, tried, predictions, kind, pixel_size)
    found.segmenter.facts["tuned"] = {
        "metric": metric,
        "images": len(examples),
        "before": found.before[metric].value,
        "after": found.after[metric].value,
    }
    return found


def write(
    found: Tuned, source: str | os.PathLike[str], path: str | os.PathLike[str]
) -> Path:
    """Write what was found to a new file, and return its path.

    Args:
        found: by `search`.
        source: what was tuned: a weights file, or the `ensemble.toml` of several.
        path: of a weights file, its variables those of `source` bit for bit; of an
            ensemble, the folder for a new `ensemble.toml` that names the same members.

    Raises:
        InputError: where there is something already.
    """
    source, path = Path(source), Path(path)
    facts = found.segmenter.facts
    if source.suffix == ".toml":
        files.check_unused(path, "Give {free}, which is free.")
        return weights.write_ensemble(path, weights.members(source), facts=facts)
    if path.exists():
        message = f"{path} is there already. Choose another name."
        raise InputError(message)
    # What was measured of the old decoder says nothing of the new one.
    kept = {name: value for name, value in facts.items() if name != "metrics"}
    weights.rewrite(path, source, kept | {"name": path.stem})
    return path


def as_taught(example: catalog.Example) -> catalog.Example:
    """Return the example to be measured against what it teaches.

    A dataset's own references may be of too few images to choose anything by.
    """
    return dataclasses.replace(example, reference=example.labels, markers=None)


def _search(
    model: segmenter.Segmenter,
    examples: Sequence[catalog.Example],
    metric: str,
    tried: Mapping[str, Sequence[Any]],
    predictions: Sequence[np.ndarray] | None,
    kind: str,
    pixel_size: float | tuple[float, float] | None = None,
) -> Tuned:
    if predictions is None:
        predictions = [model.predict(example.image) for example in examples]
    facts = {"min_size": 0, "fill_holes": True, "closing": 0}
    first = {**facts, **model.target.arguments, **model.facts.get("decode", {})}
    tried = dict(tried)
    chosen = {name: first[name] for name in tried}
    names = tuple(dict.fromkeys((metric, "Dice" if kind == "instances" else "IoU")))

    def measured(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Score]:
        changed = _with(model, values)
        found = [changed.decode(each, pixel_size=pixel_size) for each in predictions]
        return evaluation.score(examples, found, names, kind)

    def value_of(values: Mapping[str, Any]) -> float:
        return float(np.nan_to_num(measured(values, (metric,))[metric].value))

    before = measured(chosen, names)
    best, start = float(np.nan_to_num(before[metric].value)), dict(chosen)
    for name, values in list(tried.items()):
        results = {
            value: value_of(chosen | {name: value})
            for value in values
            if value != chosen[name]
        }
        value = max(results, key=lambda each: results[each], default=None)
        if value is not None and results[value] > best + _GAIN:
            chosen, best = chosen | {name: value}, results[value]
        # Where the last of the list is the best, those beyond may do better still.
        further, highest = dict(chosen), best
        while (value := _further(tried[name], further[name])) is not None:
            tried[name] = (*tried[name], value)
            if (reached := value_of(further | {name: value})) <= highest:
                break
            further, highest = further | {name: value}, reached
        if highest > best + _GAIN:
            chosen, best = further, highest
    changed = {
        name: (start[name], value)
        for name, value in chosen.items()
        if value != start[name]
    }
    after = measured(chosen, names) if changed else before
    return Tuned(_with(model, chosen), before, after, changed, tried)


def _further(values: Sequence[Any], chosen: Any) -> float | None:
    """Return the next threshold where the chosen one is the last of its side.

    >>> _further((0.4, 0.5, 0.6), 0.6), _further((0.4, 0.5, 0.6), 0.4)
    (0.7, 0.3)
    >>> _further((0.4, 0.5, 0.6), 0.5), _further((0, 1, 2), 2)
    (None, None)
    """
    if len(values) < 2 or not all(type(value) is float for value in values):
        return None
    ordered = sorted(values)
    ends = {ordered[0]: ordered[1], ordered[-1]: ordered[-2]}
    if chosen not in ends:
        return None
    beyond = round(2 * chosen - ends[chosen], 6)
    return beyond if 0 < beyond < 1 else None


def _with(model: segmenter.Segmenter, values: Mapping[str, Any]) -> segmenter.Segmenter:
    """Return the segmenter that decodes by `values`; its network is shared."""
    other = copy.copy(model)
    arguments = model.target.arguments
    own = {name: value for name, value in values.items() if name in arguments}
    rest = {name: value for name, value in values.items() if name not in arguments}
    other.facts = {**model.facts, "target_arguments": {**arguments, **own}}
    if rest:
        other.facts["decode"] = {**model.facts.get("decode", {}), **rest}
    # A threshold of the facts' own would hide that of the target.
    if set(own) & set(other.facts.get("decode", {})):
        left = other.facts["decode"].items()
        other.facts["decode"] = {k: v for k, v in left if k not in own}
    other.target = targets.get(model.target.name, **other.facts["target_arguments"])
    return other


def _sizes(examples: Sequence[catalog.Example]) -> tuple[int, ...]:
    """Return 0 and shares of the smallest annotated objects, in pixels."""
    areas: list[int] = []
    for example in examples:
        if example.reference is not None:
            labels = example.reference[example.reference > 0]
            counts = np.bincount(labels) if labels.size else np.zeros(0, int)
            areas += counts[counts > 0].tolist()
    if not areas:
        return (0,)
    # Objects cut by the edge are smaller than any: not the very smallest.
    smallest = float(np.quantile(areas, 0.05))
    return tuple(sorted({0, *(round(share * smallest) for share in _DIRT)}))
