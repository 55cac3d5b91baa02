"""Training again what a weights file says of its own making, and comparing.

Keras is imported by what trains: what a file says is asked before a backend is chosen.
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import catalog, files, recipe, segmenter, weights
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    from unet_zoo.progress import Progress

SPREAD = 0.02  # of a metric, that another seed or another machine may make


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What a training gave, and what the same training gives now.

    Attributes:
        differing: what was not the same to begin with: versions, images, whether the
            computation repeats bit for bit.
        same_bits: all weights are equal.
        distance: largest difference of two weights.
        metrics: {name: (then, now)} of the best validation.
        spread: largest difference of a metric that counts as none.
    """

    differing: tuple[str, ...]
    same_bits: bool
    distance: float
    metrics: Mapping[str, tuple[float, float]]
    spread: float

    @property
    def reproduced(self) -> bool:
        """Return whether all bits, or all metrics within the spread, are the same.

        >>> Comparison((), False, 0.1, {"SEG": (0.81, 0.80)}, 0.02).reproduced
        True
        >>> Comparison((), False, 0.1, {}, 0.02).reproduced
        False
        """
        near = all(
            abs(then - now) <= self.spread for then, now in self.metrics.values()
        )
        return self.same_bits or (near and bool(self.metrics))


def source(
    name_or_path: str | os.PathLike[str],
) -> tuple[recipe.Recipe, dict[str, Any]]:
    """Return the recipe and the facts of the dataset that weights were made by.

    Args:
        name_or_path: a zoo entry, a weights file or the folder of a training.

    Raises:
        InputError: when the file does not say how it was made.
    """
    facts = weights.read_facts(weights.find(name_or_path))
    missing = [key for key in ("recipe", "dataset") if key not in facts]
    if missing or "members" in facts:
        what = "is an ensemble: reproduce its members" if not missing else ""
        what = what or f"does not say its {' and '.join(missing)}"
        message = f"{name_or_path} cannot be trained again: it {what}."
        raise InputError(message)
    return recipe.from_dict(facts["recipe"]), facts["dataset"]


def validation_of(dataset: Mapping[str, Any]) -> float:
    """Return the part of the training images that was held back.

    >>> validation_of({"train": 88, "validation": 12})
    0.12
    """
    train, held_back = dataset.get("train", 0), dataset.get("validation", 0)
    return float(held_back / max(1, train + held_back))


def reproduce(
    name_or_path: str | os.PathLike[str],
    dataset: catalog.Dataset,
    output: str | os.PathLike[str],
    *,
    start: str | os.PathLike[str] | None = None,
    opened: Callable[[Mapping[str, Any]], catalog.Dataset] | None = None,
    spread: float | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Comparison:
    """Train again by the recipe in a weights file, and compare.

    The training ends at the step that the weights are of, which was the best then.
    What came after it, or would have come had nobody ended it early, changes nothing.

    Of weights that began from others which are not here any more, the trainings that
    led there are done first, one after the other, in folders beside `output`.

    Args:
        name_or_path: a zoo entry, a weights file or the folder of a training.
        dataset: the images it was trained on, opened with `validation_of` its facts.
        output: folder of the new training.
        start: of weights that were fine-tuned: what they started from. None: what their
            facts name, else that is trained too.
        opened: opens the images of an earlier training by the facts of its dataset.
            None: `open_named`.
        spread: largest difference of a metric that counts as none. None: what the facts
            state as "spread", else 0.02.
        progress: called after every step.

    Returns:
        The comparison. Bits can only be the same where `differing` is empty, and then
        are on TensorFlow and JAX in deterministic mode.

    Raises:
        InputError: when the file does not say how it was made, or the training raises.
    """
    from unet_zoo import training

    plan, _ = source(name_or_path)
    path = weights.find(name_or_path)
    before = weights.read_facts(path)
    if start is None and "start" in before:
        start = begun_from(before["start"])
        stages = before.get("stages", [])
        if start is None and not stages:
            message = (
                f"{before['start']['name']} is not here, or not the file that "
                f"{name_or_path} started from (sha256 {before['start']['sha256'][:12]})"
                ". Give it as `start`, --from on the command line."
            )
            raise InputError(message)
        if start is None:
            opened = opened or open_named
            start = _again(stages, Path(output), opened, progress)
    made = training.train(
        plan, dataset, output, progress=progress, start=start, until=_step(before)
    )
    old = {
        key: np.array(each.numpy())
        for key, each in weights.variables(
            segmenter.load(path, engine="keras").network
        ).items()
    }
    new = {
        key: np.array(each.numpy())
        for key, each in weights.variables(made.network).items()
    }
    if all(_is_half(each) for each in old.values()):
        # Published at half the size: compared as they were stored.
        new = {key: _half(each) for key, each in new.items()}
    away = [np.abs(old[key] - new[key]).max(initial=0.0) for key in old]
    scores = (before.get("validation", {}), made.facts["validation"])
    # Of a row of the history, these are no metrics.
    names = [
        name
        for name in scores[0]
        if name in scores[1] and name not in ("step", "loss", "seconds")
    ]
    stated = before.get("spread", SPREAD) if spread is None else spread
    return Comparison(
        differing=tuple(_differing(before, made.facts)),
        same_bits=all(np.array_equal(old[key], new[key]) for key in old),
        distance=float(max(away, default=math.nan)),
        metrics={name: (scores[0][name], scores[1][name]) for name in names},
        spread=float(stated),
    )


def begun_from(start: Mapping[str, Any]) -> str | None:
    """Return the name of what a training started from, if that is still here."""
    try:
        found = weights.find(start["name"], offline=True)
        return start["name"] if weights.sha256(found) == start["sha256"] else None
    except (InputError, OSError):
        return None


def _again(
    stages: Sequence[Mapping[str, Any]],
    output: Path,
    opened: Callable[[Mapping[str, Any]], catalog.Dataset],
    progress: Callable[[Progress], None] | None,
) -> Path:
    """Do trainings one after the other, each from the one before; return the last."""
    from unet_zoo import training

    data = [opened(stage["dataset"]) for stage in stages]
    folders = [
        output.with_name(f"{output.name}-part-{number}")
        for number in range(1, len(stages) + 1)
    ]
    for folder in folders:
        files.check_unused(folder)
    start = None
    for stage, images, folder in zip(stages, data, folders, strict=True):
        plan = recipe.from_dict(stage["recipe"])
        training.train(
            plan, images, folder, start=start, progress=progress, until=_step(stage)
        )
        start = folder
    return folders[-1]


def _step(facts: Mapping[str, Any]) -> int | None:
    """Return the step that weights are of, None where they do not say."""
    step = facts.get("validation", {}).get("step")
    return None if step is None else int(step)


def open_named(
    dataset: Mapping[str, Any],
    *,
    manual_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
) -> catalog.Dataset:
    """Open a named dataset by the facts that a weights file keeps of it.

    Raises `InputError` for a dataset that is nobody else's: images of one's own.
    """
    name = str(dataset.get("name"))
    if name not in catalog.names():
        message = (
            f"It was trained on {name!r} first, which is no named dataset. Give the "
            "weights that came of it as `start`, --from on the command line."
        )
        raise InputError(message)
    return catalog.open_dataset(
        name,
        config=dataset.get("config"),
        manual_dir=manual_dir,
        data_dir=data_dir,
        validation=validation_of(dataset),
    )


def _differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    found = []
    for head in ("versions", "dataset"):
        old, new = then.get(head, {}), now.get(head, {})
        for key in new:
            if key != "note" and old.get(key) != new[key]:
                was = "is not known" if key not in old else f"was {old[key]}"
                found.append(f"{head}.{key} is {new[key]} and {was}")
    if not then.get("deterministic"):
        found.append("it was not trained in deterministic mode, or does not say")
    return found


def _is_half(value: np.ndarray) -> bool:
    return value.dtype.kind != "f" or np.array_equal(_half(value), value)


def _half(value: np.ndarray) -> np.ndarray:
    if value.dtype.kind != "f":
        return value
    with np.errstate(over="ignore"):
        return value.astype(np.float16).astype(value.dtype)


def default_output(name_or_path: str | os.PathLike[str]) -> Path:
    """Return where the new training goes if nothing is said.

    >>> default_output("runs/first/").as_posix()
    'runs/first-again'
    """
    path = Path(name_or_path)
    name = path.parent.name if path.suffix == ".h5" else path.name
    return Path("runs") / f"{name}-again"
