"""The generated parts of the README and of the documentation.

A page holds a pair of markers; what stands between them is written by the function of
that name in `BLOCKS`, from the folders that say what exists:

    <!-- models:begin -->
    <!-- models:end -->

`python docs/generate.py README.md` writes them into a file, with `--check` it only says
whether they are current (exit code 1 if not). MkDocs calls `on_page_markdown`, so the
pages of the documentation keep their pairs empty.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # MkDocs loads this file by its path

from unet_zoo import catalog, registry, weights  # noqa: E402


def table(head: Sequence[str], rows: Iterable[Sequence[str]], empty: str) -> str:
    """Return a Markdown table, or the sentence `empty` when there are no rows."""
    cells = [[cell.replace("|", r"\|") for cell in row] for row in rows]
    if not cells:
        return empty
    lines = [head, ["---"] * len(head), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def models() -> str:
    """Return the table of architectures."""
    rows = []
    for name in registry.names():
        info = registry.info(name)
        paper = f"[{info.title}, {info.year}]({info.paper})"
        what = re.sub(r"^Build the [^:]+: ", "", info.summary)
        rows.append([f"`{name}`", paper, what])
    return table(["name", "paper", "what it is"], rows, "No models yet.")


def model_pages() -> str:
    """Return the table of architectures, each with a link to its page."""
    rows = []
    for name in registry.names():
        info = registry.info(name)
        volumes = "2D, 3D" if 3 in info.ranks else "2D"
        paper = f"[{info.title}, {info.year}]({info.paper})"
        rows.append(
            [
                f"[`{name}`](models/{name}.md)",
                paper,
                volumes,
                *registry.measured_cells(name),
            ]
        )
    head = ["name", "paper", "images", "parameters", "GMAC", "s/image", "s/step"]
    return table(head, rows, "No models yet.")


def model_page(name: str, drawing_file: str) -> tuple[str, str]:
    """Return the page of a model, in Markdown, and its drawing, as SVG."""
    import keras

    from unet_zoo import drawing

    info = registry.info(name)
    model = registry.build_near(name, (256, 256))
    rows = []
    for stage in drawing.stages(model):
        size = f"1/{2**stage.level}" if stage.level > 0 else f"{2**-stage.level}"
        counts = (str(stage.channels), f"{stage.parameters:,}")
        rows.append([stage.name, size, *counts, ", ".join(stage.parents)])
    head = ["stage", "resolution", "channels", "parameters", "reads"]
    text = f"""# {info.title}

[{info.title}, {info.year}]({info.paper}). {model.count_params():,} parameters with \
{model.input_shape[-1]} channel(s) and {model.output_shape[-1]} classes.

[![The stages of {info.title}, and what each reads]({drawing_file})]({drawing_file})

## The function

::: unet_zoo.models.{name}.{name}

## The stages

As in `unet-zoo models {name}`, for an image of {model.input_shape[1:]}.

{table(head, rows, "")}
"""
    svg = drawing.draw(model)
    keras.backend.clear_session()
    return text, svg


def datasets() -> str:
    """Return the table of datasets."""
    rows = []
    for name in catalog.names():
        info = catalog.info(name)
        teaches = "objects" if info.kind == "instances" else "classes"
        rows.append([f"`{name}`", info.summary, teaches])
    return table(["name", "what it is", "labels are"], rows, "No datasets yet.")


def cards() -> str:
    """Return the README of every dataset, each under its name."""
    return "\n\n".join(
        f"## {name}\n\n{catalog.info(name).description.strip()}"
        for name in catalog.names()
    )


def commands() -> str:
    """Return the help of every command, as the terminal shows it."""
    import click

    from unet_zoo import cli

    context = click.Context(cli.main, info_name="unet-zoo")
    parts = []
    for name in cli.main.list_commands(context):
        command = cli.main.get_command(context, name)
        inner = click.Context(command, info_name=name, parent=context)
        parts.append(f"## {name}\n\n```text\n{command.get_help(inner)}\n```")
    return "\n\n".join(parts)


def zoo() -> str:
    """Return the table of weights with what was measured with them."""
    rows = []
    for name in weights.names():
        entry = weights.entry(name)
        measured = ", ".join(
            f"{metric} {entry.metrics[metric]['value']:.3f}"
            for metric in HEADLINES
            if metric in entry.metrics
        )
        size = f"{entry.bytes / 1e6:.1f} MB"
        row = [f"`{name}`", entry.summary, f"`{entry.model}`", f"`{entry.dataset}`"]
        rows.append([*row, measured, size, entry.licence])
    head = ["name", "what it is", "model", "dataset", "measured", "size", "licence"]
    return table(head, rows, "No weights are published yet.")


def zoo_cards() -> str:
    """Return the card of every entry, its headings one level below the page's."""
    parts = []
    for name in weights.names():
        text = (weights.entry(name).folder / "README.md").read_text(encoding="utf-8")
        text = re.sub(r"\A---\n.*?\n---\n", "", text, flags=re.S)
        # Pictures lie beside the card, not in the documentation.
        text = re.sub(r"^!\[.*\)\n", "", text, flags=re.M)
        # Every second part is code, where # begins a comment.
        pieces = text.split("```")
        pieces[::2] = [re.sub(r"^#", "##", piece, flags=re.M) for piece in pieces[::2]]
        parts.append("```".join(pieces).strip())
    return "\n\n".join(parts)


def precisions() -> str:
    """Return the table of what OpenVINO's precisions cost and save, by entry."""
    rows = []
    for name in weights.names():
        of = weights.entry(name).comparison
        found = (
            {} if of is None else {w.precision: w for w in of.ways if w.engine == RAN}
        )
        if of is None or len(found) < len(PRECISIONS):
            continue
        ways = [found[precision] for precision in PRECISIONS]
        times = [f"{way.processor / of.pixels * 1e6:.2f}" for way in ways]
        rows.append([f"`{name}`", of.metric, *(f"{w.value:.4f}" for w in ways), *times])
    timed = [f"{each}, s per megapixel" for each in PRECISIONS]
    head = ["weights", "metric", *PRECISIONS, *timed]
    return table(head, rows, "No entry was run in every precision yet.")


RAN, PRECISIONS = "openvino", ("float32", "bfloat16", "int8")
# Of all that an entry was measured by, what the table has room for.
HEADLINES = ("SEG", "DET", "AP50", "pixel accuracy", "V-Rand")

BLOCKS: dict[str, Callable[[], str]] = {
    "models": models,
    "model_pages": model_pages,
    "datasets": datasets,
    "cards": cards,
    "commands": commands,
    "zoo": zoo,
    "zoo_cards": zoo_cards,
    "precisions": precisions,
}
PAIR = re.compile(r"<!-- (\w+):begin -->\n.*?<!-- \1:end -->", flags=re.S)


def fill(text: str) -> str:
    """Return `text` with the part between every pair of markers written anew."""

    def block(match: re.Match[str]) -> str:
        name = match[1]
        if name not in BLOCKS:
            message = f"No block is called {name!r}; known: {', '.join(BLOCKS)}."
            raise KeyError(message)
        body = BLOCKS[name]()
        return f"<!-- {name}:begin -->\n\n{body}\n\n<!-- {name}:end -->"

    return PAIR.sub(block, text)


def on_page_markdown(markdown: str, **_: Any) -> str:
    """Fill the markers of a page; MkDocs calls this."""
    return fill(markdown)


def on_files(files: Any, config: Any) -> Any:
    """Add a page and a drawing for every model; MkDocs calls this."""
    from mkdocs.structure.files import File

    for name in registry.names():
        text, svg = model_page(name, f"{name}.svg")
        for ending, content in ((".md", text), (".svg", svg)):
            uri = f"models/{name}{ending}"
            files.append(File.generated(config, uri, content=content))
    return files


def main() -> None:
    """Write or check the files that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing")
    arguments = parser.parse_args()
    stale = []
    for file in arguments.files:
        before = file.read_text(encoding="utf-8")
        after = fill(before)
        if after != before:
            stale.append(str(file))
            if not arguments.check:
                file.write_text(after, encoding="utf-8")
    if stale and arguments.check:
        sys.exit(f"Out of date: {', '.join(stale)}. Run `make readme`.")


if __name__ == "__main__":
    main()
