"""`unet-zoo models`: which architectures there are."""

from __future__ import annotations

import ast
import dataclasses

import click

from unet_zoo import registry
from unet_zoo.cli import _common


@click.command()
@click.argument("name", required=False)
@_common.json_option
def command(name: str | None, as_json: bool) -> None:
    """List the models, or explain one.

    With NAME: its paper and its arguments with their defaults, which
    `unet-zoo train --set model_arguments.ARGUMENT=VALUE` changes.
    """
    if name is None:
        found = [registry.info(each) for each in registry.names()]
        if as_json:
            click.echo(_common.to_json([dataclasses.asdict(each) for each in found]))
            return
        rows = [
            [each.name, str(each.year), each.summary.removeprefix("Build the ")]
            for each in found
        ]
        click.echo(_common.table(["name", "year", "what it is"], rows))
        return
    info = registry.info(name)
    arguments = _arguments(name)
    if as_json:
        facts = dataclasses.asdict(info) | {"arguments": arguments}
        click.echo(_common.to_json(facts))
        return
    click.echo(f"{info.title} ({info.year}), {info.paper}")
    click.echo(f"{info.summary}\n")
    rows = [[key, default] for key, default in arguments.items()]
    click.echo(_common.table(["argument", "default"], rows))
    click.echo(f"\nTrain it: unet-zoo train {name} --dataset NAME|FOLDER")


def _arguments(name: str) -> dict[str, str]:
    """Return the arguments of a model with their defaults, as its file spells them.

    Read as text: importing the file would import keras.
    """
    source = (registry.FOLDER / f"{name}.py").read_text(encoding="utf-8")
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    free = [*function.args.posonlyargs, *function.args.args]
    named = [*free, *function.args.kwonlyargs]
    values: list[ast.expr | None] = [None] * (len(free) - len(function.args.defaults))
    values += [*function.args.defaults, *function.args.kw_defaults]
    return {
        argument.arg: "(required)" if value is None else ast.unparse(value)
        for argument, value in zip(named, values, strict=True)
    }
