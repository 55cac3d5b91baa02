"""What validation images show: scores and errors of each, pictures of some."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Sequence

import numpy as np

from unet_zoo import catalog, evaluation, images, metrics, outputs
from unet_zoo.metrics import ObjectErrors

SAMPLES, WORST = 4, 6
_SIDE = 400  # pixels of a picture at most


@dataclasses.dataclass(frozen=True, eq=False)
class Shown:
    """One image with its annotation and with what was found, uint8 (Y, X, 3)."""

    name: str
    value: float  # of the metric in this image
    errors: ObjectErrors | None  # None where labels are classes
    annotated: np.ndarray
    found: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Evidence:
    """What was seen in `images` images: the first, the worst, errors of all objects."""

    metric: str
    images: int
    samples: Sequence[Shown]
    worst: Sequence[Shown]
    errors: ObjectErrors | None

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """Return the first images, annotated at the left and found at the right."""
        return {
            each.name: np.concatenate([each.annotated, each.found], axis=1)
            for each in self.samples
        }


def gather(
    examples: Iterable[catalog.Example],
    predictions: Iterable[np.ndarray],
    kind: str,
    metric: str,
    *,
    samples: int = SAMPLES,
    worst: int = WORST,
) -> Evidence:
    """Return what examples and the labels found in them show.

    Each example is read once and no more than `worst` are kept.

    Args:
        examples: with a `reference`; those without are left out.
        predictions: labels of each.
        kind: of the dataset, "instances" or "semantic".
        metric: by which images are bad, among `evaluation.METRICS`.
        samples: how many of the first images are shown.
        worst: how many of the worst are shown, of those that are not perfect.
    """
    first: list[Shown] = []
    bad: list[Shown] = []
    every: list[ObjectErrors] = []
    count = 0
    for example, found in zip(examples, predictions, strict=True):
        if example.reference is None:
            continue
        reference = example.reference
        count += 1
        score = evaluation.score([example], [found], (metric,), kind)[metric].value
        errors = None
        if kind == "instances":
            errors = metrics.object_errors([reference], [found])
            every.append(errors)
        wanted = not math.isnan(score) and score < 1
        wanted = wanted and (len(bad) < worst or score < bad[-1].value)
        if count <= samples or wanted:
            shown = _shown(example, reference, found, score, errors)
            if count <= samples:
                first.append(shown)
            if wanted:
                bad = sorted([*bad, shown], key=lambda each: each.value)[:worst]
    return Evidence(metric, count, first, bad, _sum(every))


def _sum(every: Sequence[ObjectErrors]) -> ObjectErrors | None:
    if not every:
        return None
    names = ("objects", "found", "missed", "merged", "split", "extra")
    totals = {name: sum(getattr(each, name) for each in every) for name in names}
    return ObjectErrors(
        **totals, jaccard=np.concatenate([each.jaccard for each in every])
    )


def _shown(
    example: catalog.Example,
    reference: np.ndarray,
    found: np.ndarray,
    score: float,
    errors: ObjectErrors | None,
) -> Shown:
    image = example.image
    factor = min(1.0, _SIDE / max(image.shape[:2]))
    if factor < 1:
        # Smaller before outlines are drawn: afterwards they would fade.
        image = images.rescale(image, factor)
        size = image.shape[:2]
        reference = images.rescale_labels(reference, shape=size)
        found = images.rescale_labels(found, shape=size)
    return Shown(
        example.name,
        score,
        errors,
        outputs.overlay(image, reference),
        outputs.overlay(image, found),
    )
