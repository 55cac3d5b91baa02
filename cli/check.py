"""`unet-zoo check`: what a dataset holds, what is wrong with it, what would suit it."""

from __future__ import annotations

import shutil
import textwrap
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo.cli import _common, _options

if TYPE_CHECKING:
    from unet_zoo.checking import Finding, Report

# Findings of one kind that are shown; --json has them all.
_SHOWN = 8
_COLOURS = {"error": "red", "warning": "yellow", "note": "cyan"}


@click.command()
@_options.dataset_argument
@_options.source_options
@_options.json_option
@click.option(
    "--picture",
    type=_options.NEW_PATH,
    metavar="FILE",
    help="Draw the worst offenders, with what was found, to a PNG file.",
)
def command(
    dataset: str,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    as_json: bool,
    picture: Path | None,
) -> None:
    """Look at every image and mask before training.

    DATASET is a name, a folder, a CSV file of pairs, a COCO file or tfds:NAME. Lists
    what is there and everything that is amiss: errors, which train would refuse,
    warnings, which would spoil the result, and notes. Then the recipe that the data
    suggest, as a command.

    The exit code is 2 where there are errors, else 0.

    \b
    Example:
      unet-zoo check my_dataset/ --picture worst.png
      unet-zoo check hela --json
    """
    if picture is not None:
        _common.check_file(picture, "--picture", (".png",))
    _common.check_dataset(dataset, config)
    _common.computing("pipeline")  # brings tensorflow, which is not quiet later
    checking = _common.computing("checking")
    with _common.progress_bar("frame") as show:
        report: Report = checking.check(
            dataset,
            config=config,
            manual_dir=manual_dir,
            data_dir=data_dir,
            progress=show,
        )
    click.echo(_common.to_json(report.as_dict()) if as_json else _text(report))
    if picture is not None:
        report.picture(picture)
        click.echo(f"Drawn to {picture}", err=True)
    if report.refused:
        click.get_current_context().exit(2)


def _text(report: Report) -> str:
    parts = [f"{report.name}: {_splits(report.facts)}"]
    rows = _facts(report.facts)
    if rows:
        parts.append(_aligned(rows))
    counts = Counter(each.severity for each in report.findings)
    told = ", ".join(f"{n} {word}{'s' * (n > 1)}" for word, n in counts.items())
    parts.append(f"Found: {told or 'nothing amiss'}.")
    parts += _findings(report.findings)
    if report.refused:
        parts.append("Training would refuse this dataset until the errors are gone.")
    if report.suggestion is not None:
        parts.append("Suggested recipe:")
        rows = [
            [f"{name} {report.suggestion.options[name]}", reason]
            for name, reason in report.suggestion.reasons.items()
        ]
        parts.append(_aligned(rows))
        parts.append(f"  {report.suggestion.command}")
    return "\n\n".join(parts)


def _splits(facts: Mapping[str, Any]) -> str:
    if not facts["images"]:
        return "no image could be read with its mask"
    inner = ", ".join(f"{count} {split}" for split, count in facts["splits"].items())
    return f"{facts['images']} images with masks ({inner})"


def _facts(facts: Mapping[str, Any]) -> list[list[str]]:
    if not facts["images"]:
        return []
    sizes = ", ".join(
        f"{size} ({count})" if facts["different_sizes"] > 1 else size
        for size, count in list(facts["sizes"].items())[:4]
    )
    more = facts["different_sizes"] - 4
    low, high = facts["values"]
    rows = [
        ["images", f"{sizes}{f' and {more} more sizes' if more > 0 else ''} pixels"],
        [
            "values",
            f"{', '.join(facts['depths'])}, {low:g} to {high:g},"
            f" {' or '.join(map(str, facts['channels']))} channel(s)",
        ],
        ["masks", facts["note"]],
    ]
    if "classes" in facts:
        shares = ", ".join(f"{k}: {share:.1%}" for k, share in facts["classes"].items())
        rows.append(["classes", shares])
    elif facts["objects"]["total"]:
        here = facts["objects"]
        few, middle, many = here["per_image"]
        small, _, median, _, large = here["diameter"]
        rows += [
            [
                "objects",
                f"{here['total']}: {few} to {many} in an image, median {middle:g}",
            ],
            [
                "across",
                f"{small:g} to {large:g} pixels, median {median:g} (area"
                f" {here['area'][2]:g})",
            ],
            [
                "touching",
                f"{here['touching']:.0%} touch another, {here['at_edge']:.0%} are cut"
                " by the image's edge",
            ],
        ]
    rows.append(
        [
            "covered",
            f"{facts['foreground']:.1%} of what is annotated; not annotated:"
            f" {facts['unannotated']:.1%}",
        ]
    )
    return rows


def _findings(found: Sequence[Finding]) -> list[str]:
    shown: Counter[tuple[str, str]] = Counter()
    blocks = []
    for each in found:
        key = (each.severity, each.kind)
        shown[key] += 1
        if shown[key] > _SHOWN:
            continue
        head = click.style(each.severity.ljust(9), fg=_COLOURS[each.severity])
        text = f"{each.what} {each.way_out}".rstrip()
        indent = " " * 11
        wrapped = textwrap.wrap(
            text,
            max(40, _width() - len(indent)),
            break_long_words=False,
            break_on_hyphens=False,
        )
        blocks.append(
            "\n".join([f"  {head}{each.file}", *(indent + line for line in wrapped)])
        )
    for (severity, kind), count in shown.items():
        if count > _SHOWN:
            more = count - _SHOWN
            blocks.append(
                f"  and {more} more: {severity}, {kind} (--json has them all)"
            )
    return blocks


def _aligned(rows: Sequence[Sequence[str]]) -> str:
    first = max(len(row[0]) for row in rows) + 2
    lines = []
    for name, text in rows:
        wrapped = textwrap.wrap(text, max(40, _width() - first - 2)) or [""]
        lines.append(f"  {name.ljust(first)}{wrapped[0]}")
        lines += [" " * (first + 2) + line for line in wrapped[1:]]
    return "\n".join(lines)


def _width() -> int:
    return shutil.get_terminal_size((100, 24)).columns
