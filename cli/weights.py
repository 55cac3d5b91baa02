"""`unet-zoo weights`: the zoo, and what a server of weights needs."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from unet_zoo import errors
from unet_zoo.cli import _common, _options, _publishing

VERBS = (
    "list", "info", "verify", "export-cache", "import-cache", "index", "publish"
)  # fmt: skip


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
@click.option("--model", metavar="NAME", help="Only weights of this architecture.")
@click.option("--dataset", metavar="NAME", help="Only weights trained on this dataset.")
@click.option(
    "--metric", metavar="NAME", help="Only weights measured by this, the best first."
)
@_options.json_option
def list_(
    model: str | None = None,
    dataset: str | None = None,
    metric: str | None = None,
    as_json: bool = False,
) -> None:
    """List the weights of the zoo."""
    from unet_zoo import weights

    chosen = weights.names(model=model, dataset=dataset, metric=metric)
    found = [weights.entry(name) for name in chosen]
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
@_options.json_option
def info(name: str, as_json: bool) -> None:
    """Say what weights are, how good, and on which conditions.

    Of a zoo NAME, what its entry says; of a weights FILE, or of the folder of a
    training or an ensemble, the facts in it.
    """
    from unet_zoo import weights

    name = weights.current(name)
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
@click.argument("folder", type=_options.FOLDER)
def index(folder: Path) -> None:
    """Write the index by which any web server offers weights.

    FOLDER holds zoo entries (folders with entry.toml and the weights) or weights files,
    and then index.json. Whoever sets UNET_ZOO_URL to the folder's address can use them
    by name.
    """
    from unet_zoo import weights

    click.echo(f"Written: {weights.index(folder)}")


@command.command("export-cache")
@click.argument("file", type=_options.NEW_PATH)
@click.argument("names", nargs=-1, metavar="[NAME]...")
@_options.cache_option
def export_cache(file: Path, names: tuple[str, ...], cache: Path | None) -> None:
    """Pack downloaded weights, for computers without a network.

    Each NAME is downloaded first where it is not there; then all of the cache goes
    into FILE. Weights that come along with unet-zoo need no pack.

    \b
    Example:
      unet-zoo weights export-cache weights.tar
      unet-zoo weights import-cache weights.tar        # there
    """
    from unet_zoo import weights

    _common.check_file(file, "FILE")
    for name in names:
        path = weights.locate(name, cache=cache)
        if path.parent != weights.cache_folder(cache):
            click.echo(f"Not packed: {name}, which comes along with unet-zoo")
    for name in weights.export_cache(file, cache=cache):
        click.echo(f"Packed: {name}")
    click.echo(f"Written: {file}, sha256 {weights.sha256(file)}")


@command.command("import-cache")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--sha256", metavar="HEX", help="What FILE must be, as the export said.")
@_options.cache_option
def import_cache(file: Path, sha256: str | None, cache: Path | None) -> None:
    """Take packed weights; all of them are verified first."""
    from unet_zoo import weights

    for name in weights.import_cache(file, sha256=sha256, cache=cache):
        click.echo(f"Taken: {name}")


command.add_command(_publishing.verify)
command.add_command(_publishing.publish)


def _facts(entry: Any) -> dict[str, Any]:
    facts = dataclasses.asdict(entry)
    facts["folder"] = str(entry.folder)
    facts["shipped"] = entry.path.exists()
    if facts.pop("comparison") is not None:
        facts["comparison"] = entry.comparison.plain()
    # Last, as it is the longest; by its title.
    facts["evaluations"] = {
        each["title"]: each for each in facts.pop("evaluations", ())
    }
    return facts


def _lines(facts: Mapping[str, Any], indent: str = "") -> list[str]:
    lines = []
    for key, value in facts.items():
        if isinstance(value, Mapping) and {"value", "objects", "frames"} <= set(value):
            value = (
                f"{value['value']:.4f} of {value['objects']} objects in "
                f"{value['frames']} frames"
            )
        elif isinstance(value, Mapping) and value:
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
