"""The card of a zoo entry: Markdown for people, front matter for the model hub.

Every sentence and figure comes from the entry and from the facts in its weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from unet_zoo import registry, weights
from unet_zoo.toml import to_toml

# What a front matter may call a licence; everything else is "other", with a name.
LICENCES = {"Apache-2.0": "apache-2.0", "MIT": "mit", "BSD-3-Clause": "bsd-3-clause"}
LICENCES |= {"CC0-1.0": "cc0-1.0", "CC-BY-4.0": "cc-by-4.0"}
# Datasets that the package draws by itself; of others, the files are given.
DRAWN = ("blobs",)


def write(entry: weights.Entry, facts: Mapping[str, Any]) -> str:
    """Return the card of an entry in Markdown, with front matter.

    Args:
        entry: what is known of the entry.
        facts: of its weights file (`weights.read_facts`).
    """
    parts = [
        front_matter(entry),
        *_opening(entry),
        "## Use and limits",
        "",
        entry.use,
        "",
        entry.limits,
        "",
        "## How good it is",
        "",
        *(line for each in entry.evaluations for line in _evaluation(entry, each)),
        *comparison(entry),
        *_making(entry, facts),
        "## Licence and citation",
        "",
        entry.licence,
        "",
        entry.citation,
        "",
    ]
    return "\n".join(parts)


# === For the hub ===


def front_matter(entry: weights.Entry) -> str:
    """Return the YAML between two lines of ---, with the figures as `model-index`."""
    known = LICENCES.get(entry.licence)
    tags = ["unet-zoo", "keras", "microscopy", "image-segmentation", entry.model]
    lines = ["---", "library_name: unet-zoo", "pipeline_tag: image-segmentation"]
    lines.append(f"tags: [{', '.join(map(_quoted, tags))}]")
    if known:
        lines.append(f"license: {known}")
    else:
        lines += ["license: other", "license_name: conditions-of-the-data"]
        lines.append("license_link: README.md")
    own = [each for each in entry.evaluations if not each.file]
    if own:
        lines += ["model-index:", f"- name: {_quoted(entry.name)}", "  results:"]
        lines += [line for each in own for line in _result(each)]
    return "\n".join([*lines, "---"])


def _result(evaluation: weights.Evaluation) -> Iterator[str]:
    yield "  - task:"
    yield "      type: image-segmentation"
    yield "    dataset:"
    yield f"      type: {_quoted(evaluation.dataset)}"
    yield f"      name: {_quoted(evaluation.title)}"
    if evaluation.config:
        yield f"      config: {_quoted(evaluation.config)}"
    yield f"      split: {_quoted(evaluation.split)}"
    if evaluation.version:
        yield f"      revision: {_quoted(evaluation.version)}"
    yield "    metrics:"
    for name, score in evaluation.metrics.items():
        yield f"    - type: {_quoted(name.lower().replace(' ', '_'))}"
        yield f"      name: {_quoted(name)}"
        yield f"      value: {round(score['value'], 4)}"


def _quoted(text: str) -> str:
    # Of YAML, JSON's texts are a part.
    return json.dumps(text, ensure_ascii=False)


# === For people ===


def _opening(entry: weights.Entry) -> Iterator[str]:
    yield f"# {entry.name}"
    yield ""
    yield entry.summary
    yield ""
    yield "```python"
    yield "import unet_zoo"
    yield ""
    yield "# 0 is background, 1..N the objects"
    yield f'labels = unet_zoo.load("{entry.name}").segment(image)'
    yield "```"
    yield ""
    for file, caption in entry.pictures.items():
        yield f"![{caption}]({file})"
        yield ""


def _evaluation(entry: weights.Entry, evaluation: weights.Evaluation) -> Iterator[str]:
    yield f"**{evaluation.title}**"
    yield ""
    yield f"    {command(entry, evaluation)}"
    yield ""
    if evaluation.interval:
        yield interval(evaluation)
        yield ""
    yield from table(evaluation)
    yield ""


def command(entry: weights.Entry, evaluation: weights.Evaluation) -> str:
    """Return the command line that gives the figures of an evaluation again."""
    other = evaluation.file and f"zoo/{entry.name}/{evaluation.file}"
    words = [f"unet-zoo evaluate {other or entry.name}"]
    words.append(f"--dataset {evaluation.dataset}")
    if evaluation.config:
        words.append(f"--config {evaluation.config}")
    words.append(f"--split {evaluation.split} --tta {evaluation.tta}")
    return " ".join([*words, *_placed(evaluation.dataset)])


def _placed(dataset: str) -> list[str]:
    return [] if dataset in DRAWN else ["--manual-dir DATA"]


def table(evaluation: weights.Evaluation) -> list[str]:
    """Return the lines of the table of an evaluation."""
    lines = ["| metric | value | objects | frames |", "|---|---|---|---|"]
    return lines + [
        f"| {name} | {score['value']:.4f} | {score['objects']} | {score['frames']} |"
        for name, score in evaluation.metrics.items()
    ]


def interval(evaluation: weights.Evaluation) -> str:
    """Return the sentence about the interval of an evaluation."""
    of = evaluation.interval
    return (
        f"{of['level']:.0%} interval of {of['metric']}: {of['low']:.4f} to "
        f"{of['high']:.4f} ({of['resamples']} bootstrap resamples of the {of['by']}, "
        f"seed {of['seed']})."
    )


_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}
_NAMES |= {"openvino": "OpenVINO", "onnx": "ONNX Runtime"}
_BUSY = 0.1  # of the cores
_HEADING = "## Backends, engines and precisions"
_COMPARED = (
    "run by", "precision", "{metric}", "change", "largest difference",
    "mean difference", "s per image", "s per megapixel", "processor, s per megapixel",
    "memory, MB", "on disk, MB",
)  # fmt: skip


def comparison(entry: weights.Entry) -> list[str]:
    """Return the lines about backends, engines and precisions, none if none is known.

    Ways of float32 that should agree and do not are named in bold.
    """
    of = entry.comparison
    if of is None:
        return []
    placed = _placed(of.dataset)
    config = f", configuration `{of.config}`" if of.config else ""
    turned = f", {of.tta} turned copies averaged" if of.tta > 1 else ""
    fastest = (
        f": of each image the fastest of {of.rounds} turns" if of.rounds > 1 else ""
    )
    int8 = any(way.precision == "int8" for way in of.ways)
    learnt = f"int8 was calibrated on {of.calibration} images of the split `train`. "
    shares = sorted(way.others for way in of.ways)
    beside = (
        f"Other programs had {shares[0]:.0%} to {shares[-1]:.0%} of the cores "
        "meanwhile, so compare the processor's seconds rather than the clock's. "
    )
    versions = ", ".join(f"{name} {version}" for name, version in of.versions.items())
    head = [each.format(metric=of.metric) for each in _COMPARED]
    return [
        _HEADING,
        "",
        " ".join([f"    python benchmarks/compare_engines.py {entry.name}", *placed]),
        "",
        f"The {of.frames} annotated images ({of.pixels / 1e6:.2f} megapixels, "
        f"{of.objects} objects) of `{of.dataset}` {of.version}{config}, split "
        f"`{of.split}`, on {of.machine}; each row by a process of its own. Differences "
        f"are those from {_NAMES.get(of.ways[0].name, of.ways[0].name)} of single "
        "outputs after their activation, which are from 0 to 1, every image looked at "
        "once. Timed is all but reading the network and finding objects in its output"
        f"{turned}{fastest}. {beside if shares[-1] > _BUSY else ''}"
        f"{learnt if int8 else ''}Versions: {versions}.",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(_way(of, way) for way in of.ways),
        "",
        *([f"- **{each}**" for each in of.over()] or [of.agreement()]),
        "",
    ]


def compared(text: str) -> str:
    """Return what a card says of backends, engines and precisions, "" if nothing.

    >>> compared("# a\\n\\n## Backends, engines and precisions\\n\\nFew.\\n\\n## b\\n")
    '## Backends, engines and precisions\\n\\nFew.'
    """
    found = re.search(rf"^{_HEADING}$.*?(?=^## |\Z)", text, flags=re.M | re.S)
    return found[0].strip() if found else ""


def _way(of: weights.Comparison, way: weights.Way) -> str:
    name = _NAMES.get(way.backend or way.engine, way.name)
    is_first = way is of.ways[0]
    cells = [
        f"Keras, {name}" if way.engine == "keras" else name,
        way.precision,
        f"{way.value:.4f}",
        "" if is_first else f"{round(way.value - of.ways[0].value, 4) + 0:+.4f}",
        "" if is_first else f"{way.difference:.1e}",
        "" if is_first else f"{way.mean:.1e}",
        f"{way.seconds / of.frames:.3f}",
        f"{way.seconds / of.pixels * 1e6:.2f}",
        f"{way.processor / of.pixels * 1e6:.2f}",
        f"{way.memory / 1e6:.0f}",
        f"{way.disk / 1e6:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def _making(entry: weights.Entry, facts: Mapping[str, Any]) -> Iterator[str]:
    about = registry.info(entry.model)
    recommended = facts["tta"]
    yield "## How it was made"
    yield ""
    yield (
        f"Model: [{about.title}]({about.paper}) ({about.year}), {entry.parameters:,} "
        f"parameters, stored as {entry.dtype}: {entry.bytes / 1e6:.1f} MB."
    )
    yield ""
    stages = [*facts.get("stages", []), facts]
    for number, stage in enumerate(stages, start=1):
        which = f"Training {number} of {len(stages)}" if len(stages) > 1 else "Data"
        yield f"{which}: {_data(stage['dataset'])}"
        yield from _of_pixel(stage.get("pixel_size"))
        yield ""
    yield (
        f"Segmenting averages {recommended} turned copies of the image; `tta=1` is "
        "faster."
        if recommended > 1
        else "Segmenting looks at each image once (`tta=1`)."
    )
    yield ""
    if entry.conditions:
        yield entry.conditions
        yield ""
    versions = (f"{name} {version}" for name, version in facts["versions"].items())
    yield f"Versions: {', '.join(versions)}."
    yield ""
    yield "The same training again, by the recipes in the weights, and compared:"
    yield ""
    name = facts["dataset"]["name"]
    yield " ".join([f"    unet-zoo reproduce {entry.name}", *_placed(name)])
    yield ""
    yield "Or step by step, with the recipes of this folder:"
    yield ""
    yield from _steps(entry, stages)
    yield ""
    yield "On images of your own, from these weights on:"
    yield ""
    yield f"    unet-zoo train {entry.model} --dataset FOLDER --from {entry.name}"
    yield ""
    yield "Recipe:"
    yield ""
    yield "```toml"
    yield to_toml(facts["recipe"]).rstrip()
    yield "```"
    yield ""


def _data(dataset: Mapping[str, Any]) -> str:
    config = f", configuration `{dataset['config']}`" if dataset["config"] else ""
    return (
        f"`{dataset['name']}` {dataset['version']}{config}; {dataset['train']} images "
        f"taught, {dataset['validation']} validated."
    )


def _of_pixel(size: float | Sequence[float] | None) -> Iterator[str]:
    if size is not None:
        sides = size if isinstance(size, Sequence) else [size]
        length = " x ".join(dict.fromkeys(f"{each:.4g}" for each in sides))
        yield f"A pixel is {length} micrometres."


def recipe_file(number: int, stages: Sequence[object]) -> str:
    """Return the name of the recipe of one training of several, counted from 1.

    >>> recipe_file(1, "ab"), recipe_file(2, "ab")
    ('recipe-1.toml', 'recipe.toml')
    """
    return "recipe.toml" if number == len(stages) else f"recipe-{number}.toml"


def _steps(entry: weights.Entry, stages: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for number, stage in enumerate(stages, start=1):
        data = stage["dataset"]
        words = [f"    unet-zoo train {entry.model} --dataset {data['name']}"]
        if data["config"]:
            words.append(f"--config {data['config']}")
        held_back = data["validation"] / max(1, data["train"] + data["validation"])
        words.append(f"--validation {held_back:.2g}")
        words.append(f"--recipe zoo/{entry.name}/{recipe_file(number, stages)}")
        if number > 1:
            words.append(f"--from part-{number - 1}")
        words.append(f"--output part-{number}")
        yield " ".join([*words, *_placed(data["name"])])


def figures(text: str) -> dict[str, dict[str, float]]:
    """Return what a card states: {title: {metric: value}}.

    >>> text = "**Seen**\\n\\n    x\\n\\n| metric | value |\\n| SEG | 0.5 | 3 | 1 |\\n"
    >>> figures(text)
    {'Seen': {'SEG': 0.5}}
    """
    found: dict[str, dict[str, float]] = {}
    title = ""
    for line in text.splitlines():
        if match := re.fullmatch(r"\*\*(.+)\*\*", line):
            title = match[1]
        elif match := re.match(r"\| ([^|]+) \| ([\d.]+) \|", line):
            found.setdefault(title, {})[match[1]] = float(match[2])
    return found
