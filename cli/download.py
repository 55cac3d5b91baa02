"""`unet-zoo download`: weights of the zoo or of a server, onto this computer."""

from __future__ import annotations

from pathlib import Path

import click

from unet_zoo.cli import _common, _options


@click.command()
@click.argument("name", metavar="NAME|ADDRESS")
@click.option(
    "--base-url",
    metavar="URL",
    help="Address of a server of weights; several, parted by blanks, are mirrors.  "
    "[default: UNET_ZOO_URL]",
)
@_options.cache_option
@click.option("--offline", is_flag=True, help="Never use the network, only look here.")
def command(name: str, base_url: str | None, cache: Path | None, offline: bool) -> None:
    """Fetch weights and print the path of the file.

    By the NAME of an entry or of what a server offers, from hf://owner/name, or from
    the address of a file with its digest: https://.../x.h5#sha256=...

    The file is checked against its SHA-256 before it is used; a download that was
    interrupted goes on where it stopped. `segment` and `evaluate` fetch by themselves;
    this command is for computers that will be offline.
    """
    from unet_zoo import weights

    try:
        with _common.progress_bar("B", unit_scale=True) as tick:
            path = weights.locate(
                name, base_url=base_url, cache=cache, offline=offline, progress=tick
            )
    except KeyboardInterrupt as interrupt:
        _common.keep(
            interrupt, "What has arrived is kept; the next call goes on there."
        )
        raise
    click.echo(path)
