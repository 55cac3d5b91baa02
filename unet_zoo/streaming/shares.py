"""An image cut into parts that different processes segment: each leaves a file.

`survey` says how an image is cut, `measured` how its values are normalised, `find`
segments one part, and `join` makes the files of all parts the labels of the image. All
that goes from one to the next is small and can be pickled; what is not is in the files.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import os
import secrets
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from unet_zoo.errors import InputError
from unet_zoo.streaming import frames, labels, planning, running, sources, statistics
from unet_zoo.streaming.frames import Run
from unet_zoo.streaming.joining import View
from unet_zoo.streaming.planning import Plan
from unet_zoo.streaming.predictors import Work

# Of a part's time: as much longer than the others it may take one worker.
_UNEVEN = 0.1
_SENSIBLE = 4  # parts along an axis, at most, for each thread
_ASKED = ("tta", "overlap", "pixel_size")


@dataclasses.dataclass(frozen=True)
class Part:
    """Rows and columns of a frame that one process segments."""

    frame: int
    rows: slice
    columns: slice


@dataclasses.dataclass(frozen=True)
class Survey:
    """How an image is segmented.

    Attributes:
        shape: of the image (T, Y, X).
        plan: in which blocks, the same whoever segments it.
        around: how far beyond a part is computed for it.
    """

    shape: tuple[int, int, int]
    plan: Plan
    around: int

    def parts(self, threads: int) -> list[Part]:
        """Return parts of all frames with which so many threads are done soonest.

        Those of a frame are in order, row by row.

        >>> survey = Survey((1, 5000, 3000), Plan(1000, 100, 3000, 256), 200)
        >>> [(part.rows.start, part.rows.stop) for part in survey.parts(2)]
        [(0, 2000), (2000, 5000)]
        """
        (stack, *size), block = self.shape, self.plan.block
        least = (1, math.ceil(size[1] / self.plan.swath))
        longest: list[dict[int, int]] = []  # along each axis, of so many parts
        for each, low in zip(size, least, strict=True):
            high = max(low, min(math.ceil(each / block), _SENSIBLE * threads))
            counts = range(low, high + 1)
            longest.append({n: self._longest(each, n) for n in counts})

        def time(counts: tuple[int, ...]) -> float:
            down, across = counts
            rounds = math.ceil(stack * down * across / threads)
            return longest[0][down] * longest[1][across] * (rounds + _UNEVEN)

        down, across = min(itertools.product(*longest), key=time)
        return [
            Part(frame, rows, columns)
            for frame in range(stack)
            for rows in _evenly(size[0], block, down)
            for columns in _evenly(size[1], block, across)
        ]

    def _longest(self, size: int, count: int) -> int:
        """Return what is computed for the longest of `count` parts of an axis."""
        return max(
            min(size, part.stop + self.around) - max(0, part.start - self.around)
            for part in _evenly(size, self.plan.block, count)
        )


@dataclasses.dataclass(frozen=True)
class Found:
    """What was made of a part.

    Attributes:
        part: which.
        path: of the file with the names and edges of its objects.
        work: what was computed.
        peak: most bytes that the process held.
        process: host and number of the process.
    """

    part: Part
    path: Path
    work: Work
    peak: int
    process: str


def survey(
    segmenter: Any,
    image: Any,
    asked: Mapping[str, Any],
    given: int,
    threads: int,
) -> Survey:
    """Return how an image is segmented by processes that may hold `given` bytes each.

    Args:
        segmenter: see `running.stream`, as `image`.
        image: with `shape` (T, Y, X, C).
        asked: options of `running.stream`.
        given: bytes.
        threads: of a process, each of which segments a part at a time.
    """
    try:
        run = _run(segmenter, image, asked, given=given, threads=threads)
    except InputError as error:
        if threads == 1 or "max_memory" not in str(error):
            raise
        message = f"{error}, or fewer threads than {threads} to every process"
        raise InputError(message) from error
    return Survey(run.source.shape[:3], run.plan, run.around)


def measured(segmenter: Any, image: Any, frame: int) -> dict[str, statistics.Scaling]:
    """Return how the network sees the values of a frame; all of it is read."""
    return frames.measured(segmenter, sources.as_source(image), frame)


def find(
    segmenter: Any,
    image: Any,
    asked: Mapping[str, Any],
    plan: Plan,
    part: Part,
    scalings: Mapping[str, statistics.Scaling],
    folder: Path,
) -> Found:
    """Find the objects of a part and write a file of them into `folder`.

    Once the folder is gone nobody wants them any more, and `InputError` is raised.
    """

    def check(done: int, of: int) -> None:
        if not folder.is_dir():
            message = f"{folder} is gone: the image is not to be segmented any more"
            raise InputError(message)

    run = _run(segmenter, image, asked, plan=plan, progress=check)
    path = folder / f"{secrets.token_hex(8)}.npz"
    joiner = run.joiner()
    with planning.watching() as most, _Writer(path) as writer:
        core = part.rows, part.columns
        edges = run.part(part.frame, core, scalings, joiner, writer)
        for side, views in vars(edges).items():
            for number, view in enumerate(views):
                name = f"{side}_{view.top}_{view.left}_{number}"
                writer.put(name, view.labels)
        for word, values in joiner.state().items():
            writer.put(word, values)
    import socket

    process = f"{socket.gethostname()} {os.getpid()}"
    return Found(part, path, run.work, most[0], process)


def join(
    segmenter: Any,
    image: Any,
    output: Path,
    asked: Mapping[str, Any],
    plan: Plan,
    found: Sequence[Found],
    given: int,
    **pictures: Any,
) -> running.Summary:
    """Write the labels of an image of which all parts were found; see `running.write`.

    Args:
        segmenter: as given to `find`, as `image`, `asked` and `plan`.
        image: is read once more, for the intensities in the table.
        output: path of the TIFF.
        asked: options.
        plan: of the survey.
        found: the parts, in the order of `Survey.parts`.
        given: bytes that this process may hold.
        pictures: `overlays` and `masks`.
    """
    widest = max(each.part.columns.stop - each.part.columns.start for each in found)
    plan = dataclasses.replace(plan, swath=min(plan.swath, widest))
    run = _run(segmenter, image, asked, plan=plan)
    scratches = []
    with planning.watching() as most:
        for _, each in itertools.groupby(found, lambda one: one.part.frame):
            scratches.append(_joined(run, list(each)))
        for one in found:
            run.work.computed += one.work.computed
            run.work.reused += one.work.reused
        room = given - planning.resident()
        summary = running.write(run, scratches, image, output, room, **pictures)
    peak = max(most[0], *(one.peak for one in found))
    return dataclasses.replace(summary, peak=peak)


def _joined(run: Run, found: list[Found]) -> _Names:
    """Number the objects of a frame, and return their names."""
    joiner, offsets = run.joiner(), [0] * len(found)
    if not run.classes:
        for number, one in enumerate(found):
            with _reading(one) as file:
                offsets[number] = joiner.take_in(file)
        across = sum(one.part.rows == found[0].part.rows for one in found)
        for number, one in enumerate(found):
            if (number + 1) % across:
                joiner.meet_all(
                    _views(one, "right", offsets[number]),
                    list(_views(found[number + 1], "left", offsets[number + 1])),
                )
            if number >= across:
                joiner.meet_all(
                    _views(found[number - across], "bottom", offsets[number - across]),
                    list(_views(one, "top", offsets[number])),
                )
    run.finish(joiner)
    height, width = run.source.shape[1:3]
    return _Names((height, width), found, offsets)


def _run(
    segmenter: Any,
    image: Any,
    asked: Mapping[str, Any],
    *,
    given: int = 0,
    plan: Plan | None = None,
    threads: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Run:
    options = {key: value for key, value in asked.items() if key not in _ASKED}
    source = sources.as_source(image)
    running.check(segmenter, source, options)
    tta, overlap, pixel_size = (asked.get(word) for word in _ASKED)
    return Run(
        segmenter,
        source,
        given,
        tta,
        overlap,
        pixel_size,
        options,
        progress,
        plan,
        threads,
    )


def _evenly(size: int, block: int, count: int) -> list[slice]:
    """Return `count` parts of an axis; each begins where a block does."""
    blocks = math.ceil(size / block)
    cuts = [min(size, number * blocks // count * block) for number in range(count + 1)]
    return [slice(a, b) for a, b in itertools.pairwise(cuts)]


class _Writer:
    """A file of arrays, each on its own and compressed, that grows part by part.

    It is one that `numpy.load` reads, an array at a time.
    """

    def __init__(self, path: Path) -> None:
        self._file = zipfile.ZipFile(path, "x", zipfile.ZIP_DEFLATED, compresslevel=1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def write(self, top: int, left: int, names: np.ndarray) -> None:
        """Write names (y, x) at a place, as they will be read: by rows of tiles."""
        begin = top
        while begin < top + len(names):
            end = min(top + len(names), begin - begin % labels.TILE + labels.TILE)
            self.put(f"names_{begin}_{left}", names[begin - top : end - top])
            begin = end

    def put(self, name: str, values: np.ndarray) -> None:
        """Write an array."""
        with self._file.open(f"{name}.npy", "w", force_zip64=True) as file:
            np.lib.format.write_array(file, np.ascontiguousarray(values))


@dataclasses.dataclass(frozen=True)
class _Names:
    """The names of one frame, read from the files of its parts."""

    shape: tuple[int, int]
    found: Sequence[Found]
    offsets: Sequence[int]

    def read(self, rows: slice) -> np.ndarray:
        """Return the names of a row of tiles."""
        names = np.zeros((rows.stop - rows.start, self.shape[1]), np.uint32)
        for one, offset in zip(self.found, self.offsets, strict=True):
            if one.part.rows.start >= rows.stop or one.part.rows.stop <= rows.start:
                continue
            with _reading(one) as file:
                for key in file:
                    word, *place = key.split("_")
                    if word != "names" or not rows.start <= int(place[0]) < rows.stop:
                        continue
                    there = file[key]
                    there[there > 0] += np.uint32(offset)
                    top, left = int(place[0]) - rows.start, int(place[1])
                    here = slice(top, top + len(there))
                    names[here, left : left + there.shape[1]] = there
        return names


def _views(one: Found, side: str, offset: int) -> Iterator[View]:
    """Yield the views along a side of a part, with names of the frame."""
    with _reading(one) as file:
        for key in file:
            word, *place = key.split("_")
            if word == side:
                names = file[key].astype(np.int64)
                names[names > 0] += offset
                yield View(names, int(place[0]), int(place[1]))


def _reading(one: Found) -> contextlib.closing[Any]:
    return contextlib.closing(np.load(one.path))
