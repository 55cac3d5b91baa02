"""How `segment` is told to share its images out, and what it says in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unet_zoo import errors
from unet_zoo.cli import _common, _options

if TYPE_CHECKING:
    from unet_zoo.batch import Batch
    from unet_zoo.segmenter import Segmenter

options = _options.together(
    click.option(
        "--resume",
        is_flag=True,
        help="Go on with a batch that was ended: what is finished stays.",
    ),
    click.option(
        "--workers",
        type=click.IntRange(min=1),
        default=1,
        metavar="N",
        help="Processes that share the images and the processors.  [default: this one]",
    ),
    click.option(
        "--max-memory",
        metavar="AMOUNT",
        help="Memory that each process may use, such as 2GB. Images that do not fit "
        "are segmented in pieces: labels, tables, masks and smaller overlays are "
        "written, nothing else.  [default: half of what is free]",
    ),
    click.option(
        "--dask",
        metavar="ADDRESS",
        help="Let the workers of a Dask scheduler segment, such as "
        "tcp://10.0.0.1:8786. They must see weights, images and --output by the same "
        "paths as this machine.",
    ),
)


def check(*, workers: int, dask: str | None) -> None:
    """Refuse what does not go together."""
    if workers > 1 and dask is not None:
        message = "--workers are of this machine, --dask of a cluster: give one."
        raise errors.InputError(message)


def segment(
    planned: Batch, load: Callable[[], Segmenter], *, workers: int, dask: str | None
) -> None:
    """Segment images; say how many objects there are, and which images are broken.

    Raises:
        click.exceptions.Exit: with code 1, if some are.
    """
    with _common.progress_bar("frame") as progress:
        report = planned.run(workers=workers, dask=dask, load=load, progress=progress)
    for line in report.said:
        click.echo(line, err=True)
    tell(report.objects, len(report.segmented), report.output, len(report.kept))
    if report.broken:
        count = len(report.broken)
        click.echo(
            f"{count} of {planned.size} images could not be segmented:", err=True
        )
        for each in report.broken:
            click.echo(f"  {each.reason}", err=True)
        raise click.exceptions.Exit(1)


def tell(objects: int, images: int, output: Path, kept: int = 0) -> None:
    """Say what was found."""
    found = f"{objects} object{'s' * (objects != 1)} in "
    found += f"{images} image{'s' * (images != 1)}"
    if kept:
        found += f", {kept} finished before"
    click.echo(f"{found}; results in {output}")
