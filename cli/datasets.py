"""`unet-zoo datasets`: which datasets there are."""

from __future__ import annotations

import dataclasses

import click

from unet_zoo.cli import _common, _options


@click.command()
@click.argument("name", required=False)
@_options.json_option
def command(name: str | None, as_json: bool) -> None:
    """List the datasets, or explain one.

    With NAME: its splits and configurations, what its examples hold, where it comes
    from, its conditions and how to cite it.
    """
    from unet_zoo import catalog

    if name is None:
        found = [catalog.info(each) for each in catalog.names()]
        if as_json:
            keys = ("name", "summary", "version", "kind", "configs", "splits")
            rows = [{key: getattr(each, key) for key in keys} for each in found]
            click.echo(_common.to_json(rows))
            return
        lines = [[each.name, each.kind, each.summary] for each in found]
        click.echo(_common.table(["name", "labels", "what it is"], lines))
        click.echo(
            "\nA folder of your own images and masks is a dataset as well, and so"
        )
        click.echo("is tfds:NAME. `unet-zoo check` looks at one before you train.")
        return
    info = catalog.info(name)
    if as_json:
        click.echo(_common.to_json(dataclasses.asdict(info)))
        return
    click.echo(f"{info.name} {info.version}: {info.kind}")
    click.echo(f"splits: {', '.join(info.splits)} (validation is taken from train)")
    if info.configs:
        click.echo(f"configurations: {', '.join(info.configs)} (--config)")
    click.echo(f"\n{info.description.strip()}")
    if info.citation:
        click.echo(f"\nCite:\n\n{info.citation.strip()}")
