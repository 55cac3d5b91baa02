"""From a finished training to a zoo entry: weights, facts and a model card."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import cards, files, segmenter, starting, weights
from unet_zoo.errors import InputError
from unet_zoo.toml import to_toml


@dataclasses.dataclass(frozen=True)
class Words:
    """What only a person can say of an entry."""

    summary: str
    use: str
    limits: str
    conditions: str
    licence: str
    citation: str


def words_of(content: Mapping[str, Any], where: str) -> Words:
    """Return the words in a table that was read from `where`, checked.

    Raises `InputError` for a word that is missing, unknown or no text.
    """
    known = [field.name for field in dataclasses.fields(Words)]
    missing = [name for name in known if not isinstance(content.get(name), str)]
    if missing or set(content) - set(known):
        message = (
            f"{where} must hold {', '.join(known)}, each a text, and nothing else. It "
            f"holds {', '.join(content) or 'nothing'}."
        )
        raise InputError(message)
    return Words(**content)


def check_facts(facts: Mapping[str, Any], run: str | os.PathLike[str]) -> None:
    """Refuse weights that do not say how they were made, as a card must.

    Args:
        facts: of the weights file (`weights.read_facts`).
        run: what they are called in the message.
    """
    lacking = [f"`{name}`" for name in ("recipe", "dataset") if not facts.get(name)]
    known = facts.get("dataset", {})
    told = ("name", "version", "config", "train", "validation")
    lacking += [f"`dataset.{name}`" for name in told if known and name not in known]
    if lacking:
        message = (
            f"{run} does not say how it was trained: its facts lack "
            f"{', '.join(lacking)}. Publish what `unet-zoo train` wrote, or give "
            "`segmenter.describe` these facts when the weights are saved."
        )
        raise InputError(message)


def stored(
    run: str | os.PathLike[str], path: str | os.PathLike[str], dtype: str
) -> Path:
    """Write a training's weights as they will be stored: what is measured ships.

    Args:
        run: folder of a finished training, or a weights file.
        path: of the new file, which must not be there.
        dtype: "float32" or "float16", of the weights on disk.
    """
    segmenter.load(run, engine="keras").save(path, dtype=dtype)
    return Path(path)


def publish(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    evaluations: Sequence[weights.Evaluation],
    words: Words,
    dtype: str = "float32",
    pictures: Sequence[tuple[Path, str]] = (),
    others: Mapping[str, str | os.PathLike[str]] | None = None,
    earlier: Sequence[str | os.PathLike[str]] = (),
    urls: Sequence[str] = (),
    overwrite: bool = False,
) -> Path:
    """Write a zoo entry from a training's weights; its figures are the `evaluations`.

    The folder is written beside its place and moved there whole.

    Args:
        run: folder of a finished training, or its weights file.
        folder: of the entry; its name is the entry's name.
        evaluations: what was measured, from `measuring.measure`; the first is the
            entry's own, whose metrics stand in the weights file too.
        words: use, limits, conditions, licence, citation.
        dtype: "float32" or "float16", of the weights on disk.
        pictures: PNG files, copied into the entry, with their captions.
        others: {file name: weights file} that evaluations with a `file` are of.
        earlier: trainings that `run` went on from, first to last, where its weights
            do not say so themselves.
        urls: where else the weights will lie (see `weights.write_entry`).
        overwrite: an entry that is there is replaced.

    Returns:
        The path of `entry.toml`.

    Raises:
        InputError: without evaluations, for a folder that holds anything, or for a
            damaged weights file.
    """
    folder = Path(folder)
    if not evaluations:
        message = "`evaluations` is empty: an entry without figures is not published."
        raise InputError(message)
    if not overwrite:
        files.check_unused(folder, "Say `overwrite` to replace it; {free} is free.")
    model = segmenter.load(run, engine="keras")
    check_facts(model.facts, run)
    own = evaluations[0].metrics
    model.facts |= {
        "name": folder.name,
        "summary": words.summary,
        "licence": words.licence,
        "citation": words.citation,
        "metrics": {name: dict(score) for name, score in own.items()},
    }
    if earlier:
        starts = [starting.find(each) for each in earlier]
        model.facts["stages"] = [starting.stages(each)[-1] for each in starts]
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing_folder(folder) as part:
        model.save(part / "weights.h5", dtype=dtype)
        for picture, _ in pictures:
            shutil.copyfile(picture, part / picture.name)
        for name, path in (others or {}).items():
            shutil.copyfile(weights.find(path), part / name)
        stages = [*model.facts.get("stages", []), model.facts]
        for number, stage in enumerate(stages, start=1):
            recipe = part / cards.recipe_file(number, stages)
            recipe.write_text(to_toml(stage["recipe"]), encoding="utf-8")
        weights.write_entry(
            part,
            name=folder.name,
            metrics=own,
            evaluations=[_with_digest(each, part) for each in evaluations],
            urls=urls,
            parameters=int(model.network.count_params()),
            dtype=dtype,
            use=words.use,
            limits=words.limits,
            conditions=words.conditions,
            pictures={path.name: caption for path, caption in pictures},
        )
        write_card(part)
    return folder / "entry.toml"


def write_card(folder: str | os.PathLike[str]) -> Path:
    """Write the README.md of an entry anew, from its entry.toml and its weights."""
    entry = weights.read_entry(folder, moved=True)
    path = Path(folder) / "README.md"
    text = cards.write(entry, weights.read_facts(entry.path))
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")
    return path


def copy_entry(
    entry: weights.Entry, parent: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Copy a whole entry into a folder of entries and return its entry.toml.

    Raises `InputError` when one is there, unless `overwrite`, or when the weights are
    not what the entry says.
    """
    folder = Path(parent) / entry.name
    weights.check_entry(entry)
    if not overwrite:
        files.check_unused(folder, "Say `overwrite` to replace it; {free} is free.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing_folder(folder) as part:
        shutil.copytree(entry.folder, part, dirs_exist_ok=True)
    return folder / "entry.toml"


def _with_digest(evaluation: weights.Evaluation, part: Path) -> weights.Evaluation:
    if not evaluation.file:
        return evaluation
    digest = weights.sha256(part / evaluation.file)
    return dataclasses.replace(evaluation, sha256=digest)
