"""`unet-zoo models`: which architectures there are."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unet_zoo import errors, registry
from unet_zoo.cli import _common, _options

if TYPE_CHECKING:
    import keras

    from unet_zoo import drawing


@click.command()
@click.argument("name", required=False)
@click.option("--layers", is_flag=True, help="Show every layer, not only the stages.")
@click.option(
    "--draw",
    type=_options.NEW_PATH,
    metavar="FILE.svg",
    help="Write a drawing of the architecture.",
)
@_options.backend_option
@_options.json_option
def command(
    name: str | None,
    layers: bool,
    draw: Path | None,
    backend: str | None,
    as_json: bool,
) -> None:
    """List the models, or explain one.

    With NAME: its paper, its arguments with their defaults, which
    `unet-zoo train --set model_arguments.ARGUMENT=VALUE` changes, and its stages from
    the image to the output, indented by how often the resolution is halved.
    """
    if name is None:
        if layers or draw:
            message = "--layers and --draw are about one model: name it."
            raise errors.InputError(message)
        _list(as_json)
        return
    info = registry.info(name)
    arguments = registry.arguments(name)
    if as_json and (layers or draw):
        message = "--json prints facts alone. Leave it out, or --layers and --draw."
        raise errors.InputError(message)
    if draw is not None:
        _common.check_file(draw, "--draw", (".svg",))
    if as_json:
        measured = registry.measured(name)
        facts = dataclasses.asdict(info) | {"arguments": arguments} | measured
        click.echo(_common.to_json(facts))
        return
    click.echo(f"{info.title} ({info.year}), {info.paper}")
    click.echo(f"{info.summary}\n")
    rows = [[key, default] for key, default in arguments.items()]
    click.echo(_common.table(["argument", "default"], rows))
    click.echo(f"\nTrain it: unet-zoo train {name} --dataset NAME|FOLDER\n")
    drawing = _common.computing("drawing", backend)
    with _common.quiet():
        model = registry.build_near(name, (256, 256))
    shape = ", ".join(map(str, model.input_shape[1:]))
    click.echo(f"For an image of ({shape}), {model.count_params():,} parameters:\n")
    click.echo(_layers(model) if layers else _stages(drawing.stages(model)))
    if draw is not None:
        drawing.write(draw, model)
        click.echo(f"\nDrawing: {draw}")


def _list(as_json: bool) -> None:
    found = [registry.info(each) for each in registry.names()]
    if as_json:
        facts = [
            dataclasses.asdict(each) | registry.measured(each.name) for each in found
        ]
        click.echo(_common.to_json(facts))
        return
    rows = []
    for info in found:
        what = info.summary.removeprefix("Build the ")
        cells = registry.measured_cells(info.name)[:3]
        rows.append([info.name, str(info.year), *cells, what])
    head = ["name", "year", "parameters", "GMAC", "s/image", "what it is"]
    click.echo(_common.table(head, rows))
    click.echo(f"\nMeasured at 512x512: {registry.measured_on()}.")


def _stages(stages: Sequence[drawing.Stage]) -> str:
    """Return the stages as a table: the letter U, lying on its side."""
    rows = []
    for at, stage in enumerate(stages):
        before = stages[at - 1].name if at else None
        others = [parent for parent in stage.parents if parent != before]
        rows.append(
            [
                "  " * stage.level + stage.name,
                str(stage.channels),
                f"{stage.parameters:,}",
                ", ".join(others),
            ]
        )
    return _common.table(["stage", "channels", "parameters", "reads also"], rows)


def _layers(model: keras.Model) -> str:
    """Return a table of every layer."""
    rows = []
    for layer in model.layers:
        shape = getattr(layer.output, "shape", None)
        size = "x".join(str(each) for each in shape[1:]) if shape else ""
        parameters = f"{layer.count_params():,}" if layer.count_params() else ""
        rows.append([type(layer).__name__, size, parameters, layer.name])
    return _common.table(["layer", "output", "parameters", "name"], rows)
