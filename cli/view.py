"""`unet-zoo view`: a page to look through results."""

from __future__ import annotations

from pathlib import Path

import click

from unet_zoo.cli import _common, _options


@click.command()
@click.argument("result", type=_options.FOLDER, metavar="RESULT")
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FILE",
    help="The page.  [default: view.html in RESULT]",
)
@click.option(
    "--images",
    "sources",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="PATH",
    help="Where the images are now, if they were moved: a file or folder; may be given "
    "again.",
)
@click.option(
    "--max-side",
    type=click.IntRange(min=256),
    default=2048,
    show_default=True,
    metavar="PIXELS",
    help="Larger images are shown at this size.",
)
@click.option("--open", "opened", is_flag=True, help="Show it in the browser, too.")
def command(
    result: Path,
    output: Path | None,
    sources: tuple[Path, ...],
    max_side: int,
    opened: bool,
) -> None:
    """Write a page to look through results.

    RESULT is the --output of `unet-zoo segment`. The page is one HTML file that needs
    no server, no network and no other file: open it with a double click, or send it
    to somebody. It shows every image with the outlines of its objects, to zoom and
    pan, beside the table of objects, to sort and filter by any column: click an object
    to find its row, click a row to find its object.

    Images that are not where they were when they were segmented are shown by their
    overlays; --images says where they are now.

    \b
    Example:
      unet-zoo view masks/ --open
    """
    from unet_zoo import viewing

    _common.check_writable(output or result / viewing.NAME)
    with _common.progress_bar("image") as tick:
        page = viewing.view(
            result,
            output,
            images=sources or None,
            max_side=max_side,
            open=opened,
            progress=tick,
        )
    click.echo(f"Open in a browser: {page} ({page.stat().st_size / 1e6:.1f} MB)")
