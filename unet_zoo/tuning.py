"""Choosing the decoder's thresholds on images with labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_zoo import catalog, evaluation, segmenter, targets

# Less than this is chance on ten images, and would be paid for on others.
_GAIN = 0.003


def tune(
    model: segmenter.Segmenter,
    examples: Sequence[catalog.Example],
    metric: str,
    predictions: Sequence[np.ndarray] | None = None,
) -> segmenter.Segmenter:
    """Return the segmenter with the arguments of its target that score best.

    One argument after the other takes each of the target's `tunable` values; it keeps
    the one it had unless another is better by more than 0.003, which would be chance.
    The network is asked once per image.

    Args:
        model: a segmenter; it is not changed.
        examples: with a `reference`; never those that the model is judged by.
        metric: among `evaluation.METRICS`, to be as large as possible.
        predictions: what `model` predicts of them, if that is known already.

    Example:
        >>> from unet_zoo import catalog, tuning
        >>> data = catalog.open_dataset("my_images/")  # doctest: +SKIP
        >>> tuning.tune(model, data.examples("validation"), "SEG")  # doctest: +SKIP
    """
    if predictions is None:
        predictions = [model.predict(example.image) for example in examples]

    def measured(arguments: dict[str, Any]) -> float:
        target = targets.get(model.target.name, **arguments)
        found = [
            target.decode(each, scale=model.facts["scale"]) for each in predictions
        ]
        value = evaluation.score(examples, found, (metric,))[metric].value
        return float(np.nan_to_num(value))

    chosen = dict(model.target.arguments)
    best = measured(chosen)
    for name, values in model.target.tunable.items():
        results = {value: measured(chosen | {name: value}) for value in values}
        value = max(results, key=lambda each: results[each])
        if results[value] > best + _GAIN:
            chosen, best = chosen | {name: value}, results[value]
    return segmenter.Segmenter(
        model.network, {**model.facts, "target_arguments": chosen}
    )
