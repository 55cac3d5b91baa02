"""How good a segmenter is on a dataset."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from unet_zoo import catalog, metrics
from unet_zoo.errors import InputError, unknown
from unet_zoo.metrics import Score


class Segments(Protocol):
    """Whatever turns an image into labels, such as a `Segmenter`."""

    @property
    def segment(self) -> Callable[..., Any]:
        """Return what gives int (Y, X) labels, or a result, of an image (Y, X, C)."""


METRICS = ("SEG", "DET", "AP", "Dice", "IoU", "pixel accuracy", "V-Rand")
# Where labels are classes, there are no objects to match.
OF_CLASSES = ("Dice", "IoU", "pixel accuracy", "V-Rand")


def evaluate(
    model: Segments,
    examples: Sequence[catalog.Example],
    *,
    names: Sequence[str] | None = None,
    kind: str = "instances",
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> dict[str, Score]:
    """Segment the examples and return every metric with what it rests on.

    SEG, Dice and the other measures of shape use the frames with a reference; DET
    uses the markers of all frames where the dataset has markers, and the reference
    itself where it has none.

    Args:
        model: what is judged.
        examples: of `catalog.Dataset.examples`.
        names: of the metrics, among `METRICS`; None: all that suit `kind`.
        kind: of the dataset. Where labels are classes ("semantic"), these are
            `OF_CLASSES`, and V-Rand takes the connected parts of a class for its
            segments.
        progress: called with (frames done, frames in all).
        options: of `Segmenter.segment`, such as `tta` or `min_size`.

    Returns:
        The scores by name; AP contributes one entry for each threshold and their mean.

    Raises:
        InputError: for an unknown metric, and without anything to measure against.
    """
    for name in names or ():
        if name not in METRICS:
            raise unknown(kind="metric", word=name, options=METRICS)
    predictions = segmented(model, examples, progress=progress, **options)
    return score(examples, predictions, names, kind)


def segmented(
    model: Segments,
    examples: Sequence[catalog.Example],
    *,
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> list[np.ndarray]:
    """Return the labels that a model gives each example; see `evaluate`."""
    labels = []
    for number, example in enumerate(examples, start=1):
        labels.append(np.asarray(model.segment(example.image, **options)))
        if progress is not None:
            progress(number, len(examples))
    return labels


def score(
    examples: Sequence[catalog.Example],
    predictions: Sequence[np.ndarray],
    names: Sequence[str] | None = None,
    kind: str = "instances",
) -> dict[str, Score]:
    """Return the scores of label images made anywhere; see `evaluate`."""
    if names is None:
        names = METRICS if kind == "instances" else OF_CLASSES
    referenced = [
        (example.reference, prediction)
        for example, prediction in zip(examples, predictions, strict=True)
        if example.reference is not None
    ]
    references = [reference for reference, _ in referenced]
    found = [prediction for _, prediction in referenced]
    marked = [
        (example.markers, prediction)
        for example, prediction in zip(examples, predictions, strict=True)
        if example.markers is not None
    ] or referenced
    scores: dict[str, Score] = {}
    for name in names:
        if not (marked if name == "DET" else referenced):
            message = (
                f"None of the {len(examples)} images has a reference to measure "
                f"{name} against."
            )
            raise InputError(message)
        if name == "DET":
            scores[name] = metrics.det(*map(list, zip(*marked, strict=True)))
        elif name == "AP":
            at = metrics.average_precision(references, found)
            mean = float(np.mean([each.value for each in at.values()]))
            scores["AP"] = Score(mean, at[0.5].objects, at[0.5].frames)
            scores |= {f"AP{round(100 * t)}": each for t, each in at.items()}
        elif name == "SEG":
            annotated = [each for each in examples if each.reference is not None]
            scores[name] = metrics.seg([outlined(each) for each in annotated], found)
        elif name == "V-Rand" and kind == "semantic":
            scores[name] = metrics.v_rand(
                [parts(each) for each in references], [parts(each) for each in found]
            )
        else:
            scores[name] = _MEASURES[name](references, found)
    return scores


def outlined(example: catalog.Example) -> np.ndarray:
    """Return the reference as SEG takes it, -1 where nothing is known."""
    if example.reference is None:
        message = f"{example.name!r} has no reference."
        raise InputError(message)
    return np.maximum(example.reference, 0) if example.challenge else example.reference


def parts(labels: np.ndarray) -> np.ndarray:
    """Return the connected parts of every class, each with a number of its own."""
    import skimage.measure

    # Neighbours by edge only: a diagonal line of membrane separates two neurons.
    parts = skimage.measure.label(labels, background=0, connectivity=1)
    return np.where(labels < 0, labels, parts)


_MEASURES: dict[str, Callable[..., Score]] = {
    "Dice": metrics.dice,
    "IoU": metrics.iou,
    "pixel accuracy": metrics.pixel_accuracy,
    "V-Rand": metrics.v_rand,
}
