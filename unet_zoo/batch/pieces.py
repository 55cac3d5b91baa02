"""Images that do not fit into the memory that was given: segmented in pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import memory
from unet_zoo.errors import InputError
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo import streaming
    from unet_zoo.batch.jobs import Job
    from unet_zoo.segmenter import Segmenter

# Bytes that a pixel takes when an image is segmented whole: its values normalised and
# rescaled, what is predicted of it, and what the decoder makes of that.
_PER_VALUE, _PER_PIXEL = 24, 200
# What can be written of an image that is never whole in memory.
_KINDS = ("labels", "csv", "overlay", "mask", "parquet")
# Of the memory; the rest is for libraries, the network, and images read ahead.
_SHARE = 0.25


def is_large(shape: Sequence[int], max_memory: int | None) -> bool:
    """Return whether an image (T, Y, X, C) is too large to be segmented whole.

    >>> is_large((1, 1000, 1000, 1), 2 * 10**9), is_large((1, 5000, 5000, 1), 10**9)
    (False, True)
    """
    given = 2 * memory.default_memory() if max_memory is None else max_memory
    pixels, channels = math.prod(shape[:3]), shape[3]
    return pixels * (channels * _PER_VALUE + _PER_PIXEL) > _SHARE * given


def kinds(asked: Sequence[str]) -> tuple[str, ...]:
    """Return those of what is to be written that can be written in pieces.

    The labels always: all else is made of them.

    >>> kinds(("labels", "csv", "rois")), kinds(("overlay",))
    (('labels', 'csv'), ('labels', 'overlay'))
    """
    found = tuple(name for name in asked if name in _KINDS)
    return found if "labels" in found else ("labels", *found)


def asked(job: Job) -> dict[str, Any]:
    """Return the options of `streaming.stream`.

    Raises:
        InputError: if the size of tiles is among those of the job.
    """
    options = dict(job.settings.options)
    if options.pop("tile", None) is not None:
        message = (
            f"{job.source} is segmented in pieces, whose size follows from the memory. "
            "Give --max-memory instead of --tile."
        )
        raise InputError(message)
    return {**options, **job.scaling}


def segment(segmenter: Segmenter, job: Job) -> tuple[int, str]:
    """Write what is asked for of an image; return how many objects, and what to say."""
    from unet_zoo import streaming
    from unet_zoo.streaming import planning

    given = job.settings.max_memory
    if given is None:  # what is free is free beside what this process holds
        given = memory.default_memory() + planning.resident()
    more = {**asked(job), **pictures(job)}
    with writers.all_or_none(job.results), job.open() as opened:
        summary = streaming.stream(
            segmenter, opened, labels(job), max_memory=given, **more
        )
        write_tables(job, summary)
    return sum(summary.objects), f"{job.source.name} in pieces, {told(job)}: {summary}"


def labels(job: Job) -> Path:
    """Return where the label image goes."""
    return _paths(job)["labels"][0]


def pictures(job: Job) -> dict[str, Any]:
    """Return where overlays and masks go, as `streaming.stream` is told."""
    paths = _paths(job)
    return {"overlays": paths.get("overlay", ()), "masks": paths.get("mask", ())}


def write_tables(job: Job, summary: streaming.Summary) -> None:
    """Write the table of an image as it is asked for."""
    from unet_zoo import outputs

    paths = _paths(job)
    summary.table.insert(0, "image", job.source.name)
    for path in paths.get("csv", ()):
        outputs.write_table(path, summary.table)
    for path in paths.get("parquet", ()):
        outputs.write_parquet(path, summary.table)


def told(job: Job) -> str:
    """Return which kinds are written, and which are not."""
    *first, last = names = list(_paths(job))
    written = f"{', '.join(first)} and {last}" if first else last
    left = [name for name in job.settings.kinds if name not in names]
    return f"{written} only, not {', '.join(left)}" if left else written


def _paths(job: Job) -> dict[str, list[Path]]:
    return {kind.name: job.paths(kind) for kind in job.kinds}
