"""Images that do not fit into the memory that was given: segmented in pieces."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import memory
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    from unet_zoo import streaming
    from unet_zoo.batch.jobs import Job
    from unet_zoo.segmenter import Segmenter

# Bytes that a pixel takes when an image is segmented whole: its values normalised and
# rescaled, what is predicted of it, and what the decoder makes of that.
_PER_VALUE, _PER_PIXEL = 24, 200
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

    >>> kinds(("labels", "csv", "overlay")), kinds(("overlay",))
    (('labels', 'csv'), ('labels',))
    """
    found = tuple(name for name in asked if name in ("labels", "csv"))
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
    """Write labels and table of an image; return how many objects, and what to say."""
    from unet_zoo import streaming
    from unet_zoo.streaming import planning

    given = job.settings.max_memory
    if given is None:  # what is free is free beside what this process holds
        given = memory.default_memory() + planning.resident()
    options, paths = asked(job), written(job)
    with job.settings.open(job.source) as opened:
        summary = streaming.stream(
            segmenter, opened, paths["labels"], max_memory=given, **options
        )
    write_table(job, summary)
    said = f"{job.source.name} in pieces, {' and '.join(paths)} only: {summary}"
    return sum(summary.objects), said


def written(job: Job) -> dict[str, Path]:
    """Return where labels and table go, by the name of each."""
    return dict(zip([kind.name for kind in job.kinds], job.results, strict=True))


def write_table(job: Job, summary: streaming.Summary) -> None:
    """Write the table of an image, if it is among what is to be written."""
    from unet_zoo import outputs

    path = written(job).get("csv")
    if path is not None:
        summary.table.insert(0, "image", job.source.name)
        outputs.write_table(path, summary.table)
