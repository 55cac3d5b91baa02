"""`unet-zoo weights`: the zoo, and what a server of weights needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from unet_zoo import errors
from unet_zoo.cli import _common

VERBS = ("list", "info", "index", "verify")


class _Group(click.Group):
    """A group that refuses an unknown word with near matches."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not args[0].startswith("-"):
            error = errors.unknown("command of weights", args[0], self.commands)
            raise click.UsageError(str(error), ctx)
        return super().resolve_command(ctx, args)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)


@click.group(cls=_Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """List, explain and verify trained weights.

    Without a command: list.
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(list_)


@command.command("list")
@_common.json_option
def list_(as_json: bool = False) -> None:
    """List the weights of the zoo."""
    from unet_zoo import weights

    found = [weights.entry(name) for name in weights.names()]
    if as_json:
        click.echo(_common.to_json([_facts(each) for each in found]))
        return
    if not found:
        click.echo("No weights are published yet.")
        return
    rows = []
    for each in found:
        place = "shipped" if each.path.exists() else "to download"
        size = f"{each.bytes / 1e6:.1f} MB"
        rows.append([each.name, each.model, each.dataset, size, place, each.summary])
    head = ["name", "model", "dataset", "size", "where", "what it is"]
    click.echo(_common.table(head, rows))


@command.command("info")
@click.argument("name", metavar="NAME|FILE")
@_common.json_option
def info(name: str, as_json: bool) -> None:
    """Say what weights are made of, what was measured, and their conditions.

    Of a zoo NAME, what its entry says; of a weights FILE, or of the folder of a
    training or an ensemble, the facts in it.
    """
    from unet_zoo import weights

    if name in weights.names():
        facts = _facts(weights.entry(name))
    else:
        # Only a path: saying what something is must never download it.
        path = Path(name).expanduser()
        if path.suffix != ".h5" and not path.exists():
            raise errors.unknown(kind="weights", word=name, options=weights.names())
        if path.is_dir():
            path = weights.find(path)
        facts = weights.read_facts(path)
        facts["sha256"] = weights.sha256(path)
    if as_json:
        click.echo(_common.to_json(facts))
    else:
        click.echo("\n".join(_lines(facts)))


@command.command("index")
@click.argument("folder", type=_common.FOLDER)
def index(folder: Path) -> None:
    """Write index.json, so that any web server offers the weights in FOLDER.

    FOLDER holds zoo entries (folders with entry.toml and the weights) or weights files.
    Whoever sets UNET_ZOO_URL to the folder's address can then use them by name.
    """
    from unet_zoo import weights

    click.echo(f"Written: {weights.index(folder)}")


@command.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME]...")
def verify(names: tuple[str, ...]) -> None:
    """Check that weights are bit for bit what their entry says.

    Without NAME: all weights on this computer. Nothing is downloaded.
    """
    from unet_zoo import weights

    for name in names or weights.names():
        entry = weights.entry(name)
        if not names and not entry.path.exists():
            click.echo(f"{name}: not shipped, not checked")
            continue
        path = weights.locate(name, offline=True)
        click.echo(f"{name}: sha256 {entry.sha256} as expected, {path}")


def _facts(entry: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(entry)
    facts["folder"] = str(entry.folder)
    facts["shipped"] = entry.path.exists()
    return facts


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping) and value:
            lines.append(f"{indent}{key}:")
            lines.extend(_lines(value, indent + "  "))
            continue
        if isinstance(value, list | tuple):
            value = ", ".join(map(str, value))
        elif isinstance(value, Mapping):
            value = ""
        text = str(value).strip().replace("\n", f"\n{indent}  ")
        lines.append(f"{indent}{key}: {text}".rstrip())
    return lines
