"""From a finished training to a zoo entry: weights, facts and a model card."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from unet_zoo import files, registry, segmenter, weights
from unet_zoo.errors import InputError
from unet_zoo.metrics import Score
from unet_zoo.recipe import to_toml


@dataclass(frozen=True)
class Measured:
    """What a command measured: the heading it stands under, and its scores."""

    title: str
    command: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Words:
    """What only a person can say of an entry."""

    summary: str
    use: str
    limits: str
    conditions: str
    licence: str
    citation: str
    reproduce: str


def publish(
    run: str | os.PathLike[str],
    folder: str | os.PathLike[str],
    *,
    measured: Sequence[Measured],
    words: Words,
    dtype: str = "float32",
    pictures: Sequence[tuple[Path, str]] = (),
) -> Path:
    """Write a zoo entry from a training's weights; its figures are the `measured`.

    Args:
        run: folder of a finished training, or its weights file.
        folder: of the entry; its name is the entry's name.
        measured: scores by the commands that gave them; the first is the entry's own
            and stands in `entry.toml` and in the weights file too.
        words: use, limits, conditions, licence, citation.
        dtype: "float32" or "float16", of the weights on disk.
        pictures: PNG files, copied into the entry, with their captions.

    Returns:
        The path of `entry.toml`.

    Raises:
        InputError: without measured scores, or for a damaged weights file.
    """
    folder = Path(folder)
    if not measured:
        message = "`measured` is empty: an entry without figures is not published."
        raise InputError(message)
    source = Path(run) / "weights.h5" if Path(run).is_dir() else Path(run)
    model = segmenter.load(source, engine="keras")
    own = {name: asdict(score) for name, score in measured[0].scores.items()}
    model.facts |= {
        "name": folder.name,
        "summary": words.summary,
        "licence": words.licence,
        "citation": words.citation,
        "metrics": own,
    }
    folder.mkdir(parents=True, exist_ok=True)
    model.save(folder / "weights.h5", dtype=dtype)
    for picture, _ in pictures:
        shutil.copyfile(picture, folder / picture.name)
    with files.replacing(folder / "recipe.toml") as part:
        part.write_text(to_toml(model.facts["recipe"]) + "\n", encoding="utf-8")
    with files.replacing(folder / "README.md") as part:
        card = write_card(model.facts, model.network, measured, words, pictures, dtype)
        part.write_text(card, encoding="utf-8")
    return weights.write_entry(folder)


def write_card(
    facts: Mapping[str, Any],
    network: Any,
    measured: Sequence[Measured],
    words: Words,
    pictures: Sequence[tuple[Path, str]],
    dtype: str,
) -> str:
    """Return the model card in Markdown, every figure from facts and scores."""
    name = facts["name"]
    about = registry.info(facts["model"])
    data = facts["dataset"]
    versions = ", ".join(f"{k} {v}" for k, v in facts["versions"].items())
    lines = [
        "---",
        "library_name: keras",
        "pipeline_tag: image-segmentation",
        "tags: [unet-zoo, microscopy, segmentation]",
        f"license: {'apache-2.0' if words.licence == 'Apache-2.0' else 'other'}",
        "---",
        f"# {name}",
        "",
        words.summary,
        "",
        "```python",
        "import unet_zoo",
        "",
        "# 0 is background, 1..N the objects",
        f'labels = unet_zoo.load("{name}").segment(image)',
        "```",
        "",
        *(f"![{caption}]({path.name})\n" for path, caption in pictures),
        "## Use and limits",
        words.use,
        "",
        words.limits,
        "",
        "## How good it is",
    ]
    for part in measured:
        lines += ["", f"**{part.title}**", "", f"    {part.command}", ""]
        lines += ["| metric | value | objects | frames |", "|---|---|---|---|"]
        lines += [
            f"| {metric} | {score.value:.4f} | {score.objects} | {score.frames} |"
            for metric, score in part.scores.items()
        ]
    split = f"{data['train']} images taught, {data['validation']} validated"
    lines += [
        "",
        "## How it was made",
        f"Model: [{about.title}]({about.paper}) ({about.year}), "
        f"{network.count_params():,} parameters, stored as {dtype}.",
        "",
        f"Data: `{data['name']}` {data['version']}"
        + (f", configuration `{data['config']}`" if data["config"] else "")
        + f"; {split}."
        + _of_pixel(facts.get("pixel_size")),
        "",
        words.conditions,
        "",
        "Versions: " + versions + ".",
        "",
        "The same training again, with the recipe of this folder:",
        "",
        f"    {words.reproduce}",
        "",
        "Recipe:",
        "",
        "```toml",
        to_toml(facts["recipe"]),
        "```",
        "",
        "## Licence and citation",
        words.licence,
        "",
        words.citation,
        "",
    ]
    return "\n".join(lines)


def _of_pixel(size: float | Sequence[float] | None) -> str:
    if size is None:
        return ""
    sides = size if isinstance(size, Sequence) else [size]
    length = " x ".join(dict.fromkeys(f"{each:.4g}" for each in sides))
    return f" A pixel is {length} micrometres."
