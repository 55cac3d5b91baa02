"""Segment images that do not fit into memory."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import memory
from unet_zoo.errors import InputError, unknown
from unet_zoo.streaming import labels, looks, planning, sources
from unet_zoo.streaming.frames import Run
from unet_zoo.streaming.planning import Plan

if TYPE_CHECKING:
    import pandas


@dataclasses.dataclass(frozen=True)
class Summary:
    """What `stream` did.

    Attributes:
        shape: of the image (T, Y, X).
        objects: how many were found, frame by frame.
        table: one row per object, the frame first: area, centroid, bounding box, mean
            intensity and whether it touches the edge, as in `outputs.table`; area and
            centroid in micrometres as well where the pixel size is known.
        joined: objects put together from what several blocks saw of them because they
            are larger than the overlap; they may differ from those of the whole image.
        overhead: pixels computed over pixels of the result.
        reused: empty tiles that were not computed again.
        plan: how the image was cut.
        seconds: that it took.
        peak: most bytes that the process held, as sampled.
        smaller: pixels of the image, each way, that are one of its overlays; 0 without.
    """

    shape: tuple[int, int, int]
    objects: tuple[int, ...]
    table: pandas.DataFrame
    joined: int
    overhead: float
    reused: int
    plan: Plan
    seconds: float
    peak: int
    smaller: int = 0

    def __str__(self) -> str:
        count, frames = sum(self.objects), self.shape[0]
        size = " x ".join(str(each) for each in self.shape[1:])
        joined = f", {self.joined} of them joined from parts" if self.joined else ""
        overlays = ""
        if self.smaller > 1:
            small = " x ".join(str(-(-n // self.smaller)) for n in self.shape[1:])
            overlays = f"; overlays are {self.smaller} times smaller, {small} pixels"
        per = self.seconds / np.prod(self.shape) * 1e6
        return (
            f"{count} objects{joined} in {frames} frame{'s' * (frames != 1)} of "
            f"{size}; {self.plan}: {self.overhead:.3f} pixels computed for each; "
            f"{self.peak / 1e6:.0f} MB at most, {self.seconds:.1f} s ({per:.2f} s per "
            f"megapixel); objects were found in blocks of {self.plan.block} that see "
            f"{self.plan.overlap} pixels around them{overlays}"
        )


def stream(
    segmenter: Any,
    image: Any,
    output: Any,
    *,
    max_memory: int | str = "2GB",
    tta: int | None = None,
    overlap: int | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    overlays: Sequence[str | os.PathLike[str]] = (),
    masks: Sequence[str | os.PathLike[str]] = (),
    progress: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Summary:
    """Segment an image of any size in bounded memory; return what was done.

    The labels are those that `segmenter.segment` gives the whole image, numbered in
    raster order: values are normalised by the statistics of the whole image, a pixel's
    prediction is that of the whole image, and objects are decoded in blocks that see
    their surroundings, then joined. An object that is larger than what two blocks see
    in common is joined from its parts; holes wider than that may stay open.

    Args:
        segmenter: a `Segmenter` or an ensemble of them.
        image: an array or memory map (Y, X), (Y, X, C) or (T, Y, X, C), or anything
            with `shape` (T, Y, X, C), `dtype` and `read(frame, rows, columns)`.
        output: path of a TIFF to write (tiled BigTIFF, zlib, uint16 or uint32), or an
            array (Y, X) or (T, Y, X) to write into.
        max_memory: that the process may hold in all, such as "2GB". The names of the
            objects, 4 bytes per pixel, are kept in a file beside the output meanwhile.
        tta: as in `segment`; not 7.
        overlap: how many pixels a block sees beyond itself; None: 128, more where
            `min_size` or `closing` ask for it.
        pixel_size: in micrometres, as in `segment`.
        overlays: PNG files to write, one for each frame: the image with the outlines
            of its objects, smaller by a whole number where it has more than 2,048
            pixels a side.
        masks: PNG files to write, one for each frame: objects 255, the rest 0.
        progress: called with (rows of blocks done, rows of blocks in all).
        options: of the decoder, see `segment`.

    Raises:
        InputError: for what `segment` refuses, and for too little memory.

    Example:
        >>> import numpy as np
        >>> from unet_zoo import registry, segmenter
        >>> network = registry.build("unet", classes=3, filters=2, padding="same")
        >>> facts = segmenter.describe(
        ...     "unet", {"filters": 2, "padding": "same"}, channels=1
        ... )
        >>> labels = np.zeros((70, 90), "uint16")
        >>> small = segmenter.Segmenter(network, facts)
        >>> stream(small, np.zeros((70, 90)), labels, max_memory="64GB").shape
        (1, 70, 90)
    """
    begun = time.monotonic()
    source = sources.as_source(image)
    check(segmenter, source, options)
    given = memory.as_bytes(max_memory)
    if pixel_size is None and hasattr(image, "pixel_size"):
        pixel_size = segmenter.pixel_size_of(image)
    frames, height, width = source.shape[:3]
    where = _folder(output, (frames, height, width))
    _check_paths(frames, overlays=overlays, masks=masks)
    with contextlib.ExitStack() as stack:
        most = stack.enter_context(planning.watching())
        run = Run(segmenter, source, given, tta, overlap, pixel_size, options, progress)
        scratches = []
        for frame in range(frames):
            scratch = stack.enter_context(labels.Scratch(where, (height, width)))
            scratches.append(scratch)
            run.frame(frame, scratch)
        room = given - planning.resident()
        pictures = {"overlays": overlays, "masks": masks}
        summary = write(run, scratches, image, output, room, **pictures)
    seconds = time.monotonic() - begun
    return dataclasses.replace(summary, seconds=seconds, peak=most[0])


def write(
    run: Run,
    scratches: Sequence[labels.Readable],
    image: Any,
    output: Any,
    room: float,
    *,
    overlays: Sequence[str | os.PathLike[str]] = (),
    masks: Sequence[str | os.PathLike[str]] = (),
) -> Summary:
    """Write the labels of all frames, once their objects are numbered.

    Args:
        run: knows their labels.
        scratches: the names of each frame.
        image: as in `stream`, as `output`, `overlays` and `masks`.
        room: bytes that are left for drawing.

    Returns:
        What was done, without the time and the memory that it took.
    """
    frames, height, width, channels = run.source.shape
    highest = [count for _, count in run.names]
    dtype: type = np.uint16 if max(highest) < 2**16 else np.uint32
    tables = [labels.Table(count, (height, width), channels) for count in highest]
    pixel_size = run.pixel_size or getattr(image, "pixel_size", None)
    times = looks.factor((height, width), channels, room) if overlays else 0
    looking: list[list[looks.Opened]] = [[] for _ in range(frames)]
    for frame, path in enumerate(overlays):
        looking[frame].append(functools.partial(looks.overlay, path, times))
    for frame, path in enumerate(masks):
        looking[frame].append(functools.partial(looks.mask, path))
    names = [each for each, _ in run.names]
    parts = labels.tiles(scratches, names, tables, run.source, dtype, looking)
    if isinstance(output, str | os.PathLike):
        shape, planes = (frames, height, width), getattr(image, "planes", None)
        labels.write_tiff(output, shape, parts, dtype, pixel_size, planes)
    else:
        for frame, top, left, tile in parts:
            place = np.s_[top : top + tile.shape[0], left : left + tile.shape[1]]
            whole = (frame, *place) if len(output.shape) == 3 else place
            output[whole] = tile
    rows = [table.frame(pixel_size) for table in tables]
    return Summary(
        shape=(frames, height, width),
        objects=tuple(map(len, rows)),
        table=_table(rows),
        joined=run.joined,
        overhead=run.work.overhead,
        reused=run.work.reused,
        plan=run.plan,
        seconds=0.0,
        peak=0,
        smaller=times,
    )


def check(segmenter: Any, source: sources.Source, options: dict[str, Any]) -> None:
    """Refuse what `segment` refuses, before anything slow begins."""
    from unet_zoo.segmenter import OPTIONS

    for word in options:
        if word not in OPTIONS:
            raise unknown(kind="option of stream", word=word, options=OPTIONS)
    wanted, there = segmenter.facts["channels"], source.shape[3]
    if there != wanted:
        message = (
            f"`image` must have {wanted} channel(s), as the network was trained with. "
            f"Received: {there}, of the shape (T, Y, X, C) {tuple(source.shape)}. "
            "Choose those that it knows"
        )
        raise InputError(message)


def _check_paths(frames: int, **given: Sequence[str | os.PathLike[str]]) -> None:
    """Refuse pictures that are not one for each frame."""
    for name, paths in given.items():
        if len(paths) not in (0, frames):
            message = (
                f"`{name}` must be {frames} path(s), one for each frame. Received: "
                f"{len(paths)}"
            )
            raise InputError(message)


def _folder(output: Any, shape: tuple[int, int, int]) -> Path | None:
    """Return the folder that holds the output; None: it is an array that fits."""
    if isinstance(output, str | os.PathLike):
        folder = Path(output).parent
        if not folder.is_dir():
            message = f"Cannot write {output}: make the folder {folder} first"
            raise InputError(message)
        return folder
    received = tuple(getattr(output, "shape", ()))
    if received != shape and not (shape[0] == 1 and received == shape[1:]):
        message = (
            f"`output` must be a path or an array of shape {shape}, that of the image. "
            f"Received: {received or type(output).__name__}"
        )
        raise InputError(message)
    return None


def _table(frames: list[pandas.DataFrame]) -> pandas.DataFrame:
    import pandas

    for number, frame in enumerate(frames):
        frame.insert(0, "frame", number)
    return pandas.concat(frames, ignore_index=True)
