"""Images that do not fit into the memory that was given: segmented in pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo.segmenter import Segmenter

# Bytes that a pixel takes when an image is segmented whole: its values normalised and
# rescaled, what is predicted of it, and what the decoder makes of that.
_PER_VALUE, _PER_PIXEL = 24, 200
# Of the budget; the rest is for libraries, the network, and images read ahead.
_SHARE = 0.25


def _amount(context: click.Context, option: click.Parameter, text: str | None) -> Any:
    from unet_zoo import memory

    return None if text is None else memory.as_bytes(text)


option = click.option(
    "--max-memory",
    metavar="AMOUNT",
    callback=_amount,
    help="Memory that may be used, such as 2GB. Images that do not fit are segmented "
    "in pieces: labels and table are written, overlays are not.  [default: half of "
    "what is free]",
)


def is_large(shape: tuple[int, ...], max_memory: int | None) -> bool:
    """Return whether an image (T, Y, X, C) is too large to be segmented whole."""
    from unet_zoo import memory

    room = memory.default_memory() if max_memory is None else max_memory
    pixels, channels = math.prod(shape[:3]), shape[3]
    return pixels * (channels * _PER_VALUE + _PER_PIXEL) > _SHARE * room


def kinds(asked: Sequence[writers.Writer]) -> list[writers.Writer]:
    """Return those of what is to be written that can be written in pieces."""
    found = [each for each in asked if each.name in ("labels", "csv")]
    return found or writers.chosen(["labels"])


def segment(segmenter: Segmenter, job: Any, options: dict[str, Any]) -> int:
    """Write the labels and the table of an image in pieces; return how many objects."""
    from unet_zoo import memory, outputs, streaming
    from unet_zoo.streaming import planning

    given = job.max_memory
    if given is None:  # what is free is free beside what this process holds
        given = memory.default_memory() + planning.resident()
    options = dict(options)
    if options.pop("tile", None) is not None:
        message = (
            f"{job.source} is segmented in pieces, whose size follows from the memory. "
            "Give --max-memory instead of --tile."
        )
        raise errors.InputError(message)
    paths = {
        kind.name: kind.paths(job.output, job.source.stem, None)[0]
        for kind in (*writers.chosen(["labels"]), *job.kinds)
    }
    with job.reading.open(job.source) as opened:
        summary = streaming.stream(
            segmenter, opened, paths["labels"], max_memory=given, **options
        )
    if "csv" in paths:
        summary.table.insert(0, "image", job.source.name)
        outputs.write_table(paths["csv"], summary.table)
    click.echo(
        f"{job.source.name} in pieces, {' and '.join(paths)} only: {summary}", err=True
    )
    return sum(summary.objects)
