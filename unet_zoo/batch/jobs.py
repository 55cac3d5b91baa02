"""What a batch consists of: its settings, and a job for each image."""

from __future__ import annotations

import contextlib
import dataclasses
import math
import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from unet_zoo import images
from unet_zoo.batch import pieces
from unet_zoo.errors import InputError
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo.segmenter import Segmenter

# What goes wrong with one image; the others are segmented.
BROKEN = (InputError, MemoryError)
ROOM = 2**30  # bytes that images may take together; a larger one is alone


@dataclasses.dataclass(frozen=True)
class Network:
    """Which network is run, and by what; another process can load it again.

    Attributes:
        weights: the file.
        engine: "keras", "openvino" or "onnx".
        precision: what it computes in.
        backend: of Keras, where that is the engine; None: its own choice.
        shown: each opens an image that int8 is calibrated on.
    """

    weights: Path
    engine: str
    precision: str = "float32"
    backend: str | None = None
    shown: tuple[Callable[[], images.Image], ...] = ()

    def calibration(self) -> list[np.ndarray]:
        """Return the frame in the middle of each image that is shown, (Y, X, C)."""
        frames = []
        for each in self.shown:
            with each() as image:
                frames.append(image.read(image.shape[0] // 2))
        return frames

    def load(self, said: Callable[[str], None] | None = None) -> Segmenter:
        """Return the segmenter."""
        from unet_zoo import devices, segmenter

        if self.backend is not None:
            devices.choose_backend(self.backend)
        return segmenter.load(
            self.weights,
            engine=self.engine,
            precision=self.precision,
            calibration=self.calibration(),
            said=said,
        )


@dataclasses.dataclass(frozen=True)
class Settings:
    """What holds for all images of a batch; plain values, for other processes too.

    Attributes:
        network: what segments.
        output: folder of the results.
        kinds: names of `outputs.WRITERS`.
        axes, channel, pixel_size: how files are understood, see `images.open_image`.
        options: of `Segmenter.segment`.
        max_memory: bytes that a process may hold; None: half of what is free.
    """

    network: Network
    output: Path
    kinds: tuple[str, ...] = ()
    axes: str | None = None
    channel: int | str | None = None
    pixel_size: float | None = None
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    max_memory: int | None = None

    def open(self, path: Path) -> images.Image:
        """Open an image as these settings understand it."""
        return images.open_image(
            path, axes=self.axes, channel=self.channel, pixel_size=self.pixel_size
        )


class Frame:
    """One frame of an image, in place of the image."""

    def __init__(self, image: images.Image, number: int) -> None:
        self._image, self._number = image, number
        self.dtype, self.pixel_size = image.dtype, image.pixel_size
        self.shape = (1, *image.shape[1:])

    def read(
        self, frame: int, rows: slice = slice(None), columns: slice = slice(None)
    ) -> np.ndarray:
        """Return a part (y, x, C) of the frame, the only one."""
        return self._image.read(self._number, rows, columns)

    def read_all(self) -> np.ndarray:
        """Return the frame as (1, Y, X, C)."""
        return self.read(0)[None]


@dataclasses.dataclass(frozen=True)
class Job:
    """One image or one frame of a stack, and where its results go.

    Attributes:
        source: the file.
        settings: of the batch.
        shape: (T, Y, X, C), as it will be read.
        itemsize: bytes of a value.
        pixel_size: (y, x) in micrometres, None where unknown.
        scaled: the network sees it at the pixel size that it was trained at.
        large: it does not fit into the memory, and is segmented in pieces.
        frame: the only one of the file that is segmented; None: all.
        planes: where the frames lie in the file; None: there is one.
    """

    source: Path
    settings: Settings
    shape: tuple[int, int, int, int] = (1, 0, 0, 1)
    itemsize: int = 1
    pixel_size: tuple[float, float] | None = None
    scaled: bool = False
    large: bool = False
    frame: int | None = None
    planes: images.Planes | None = None

    @property
    def key(self) -> tuple[Path, int | None]:
        """Return what no other job of the batch has."""
        return self.source, self.frame

    @property
    def name(self) -> str:
        """Return how the names of its results begin."""
        if self.frame is None:
            return self.source.stem
        return f"{self.source.stem}_t{self.frame:03d}"

    @property
    def frames(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.shape[1:3]

    @property
    def output(self) -> Path:
        return self.settings.output

    @property
    def kinds(self) -> list[writers.Writer]:
        names = self.settings.kinds
        return writers.chosen(pieces.kinds(names) if self.large else names)

    @property
    def weight(self) -> int:
        """Return about how many bytes it takes while it is segmented.

        Its values, and of every pixel three of prediction, one label and a table.
        """
        bytes_ = math.prod(self.shape[:3]) * (self.shape[3] * self.itemsize + 20)
        # Images at a time may take an eighth of what was given.
        given = self.settings.max_memory or 8 * ROOM
        return bytes_ * max(1, 8 * ROOM // given)

    def paths(self, kind: writers.Writer) -> list[Path]:
        """Return its results of one kind."""
        frames = None if self.frames == 1 else self.frames
        return kind.paths(self.output, self.name, frames)

    @property
    def results(self) -> list[Path]:
        """Return all that is written of it."""
        return [path for kind in self.kinds for path in self.paths(kind)]

    @property
    def folders(self) -> set[Path]:
        """Return those of the results that are folders."""
        return {path for kind in self.kinds if kind.folder for path in self.paths(kind)}

    @property
    def scaling(self) -> dict[str, Any]:
        """Return what `segment` is told of the size of this image's pixels."""
        return {"pixel_size": self.pixel_size} if self.scaled else {}

    @contextlib.contextmanager
    def open(self) -> Iterator[images.Image | Frame]:
        """Open the image.

        Raises:
            InputError: if it has another size than it had.
        """
        with self.settings.open(self.source) as image:
            opened = image if self.frame is None else Frame(image, self.frame)
            if opened.shape != self.shape:
                message = f"{self.source} changed while others were segmented."
                raise InputError(message)
            yield opened

    def read(self) -> np.ndarray:
        """Return the image (T, Y, X, C) with the channels the network is shown.

        Raises:
            InputError: for a file that is damaged or gone, NaN, or another size than
                it had.
        """
        with self.open() as opened:
            image = opened.read_all()
        if image.dtype.kind == "f" and not np.isfinite(image).all():
            wrong = int(np.count_nonzero(~np.isfinite(image)))
            message = (
                f"{self.source} has {wrong} values that are NaN or infinite. Replace "
                "them, for instance with numpy.nan_to_num."
            )
            raise InputError(message)
        return image


@dataclasses.dataclass(frozen=True)
class Broken:
    """An image that could not be segmented, and why, in one line."""

    source: Path
    reason: str


def broken(source: Path, error: BaseException) -> Broken:
    """Return what to tell of an image on which `error` was raised.

    >>> broken(Path("a.tif"), MemoryError()).reason
    'a.tif: the memory is full'
    """
    reason = " ".join(str(error).split())
    if isinstance(error, OSError):
        reason = error.strerror or reason
    if isinstance(error, MemoryError):
        reason = "the memory is full"
    if str(source) not in reason:
        reason = f"{source}: {reason}"
    return Broken(source, reason)


def opened(
    sources: Sequence[Path],
    settings: Settings,
    facts: Mapping[str, Any],
    said: Callable[[str], None] | None = None,
) -> tuple[list[Job], list[Broken]]:
    """Open every image; return a job for each, and those that cannot be segmented.

    Only what files say of themselves is read. How they were understood is told to
    `said`, once for each kind of file.

    Args:
        sources: of the images.
        settings: of the batch.
        facts: of the weights: how many channels, at which pixel size.
        said: called with a line.
    """
    jobs, wrong = [], []
    told = set()
    for source in sources:
        try:
            with settings.open(source) as image:
                _check_channels(image, facts["channels"])
                kind = (source.suffix.lower(), image.axes)
                if said is not None and image.note and kind not in told:
                    told.add(kind)
                    said(f"{source}: {image.note}.")
                known = None not in (facts.get("pixel_size"), image.pixel_size)
                job = Job(
                    source,
                    settings,
                    image.shape,
                    image.dtype.itemsize,
                    image.pixel_size,
                    known,
                    bool(settings.kinds)
                    and pieces.is_large(image.shape, settings.max_memory),
                    planes=image.planes,
                )
        except (*BROKEN, OSError) as error:
            wrong.append(broken(source, error))
        else:
            jobs.append(job)
    return jobs, wrong


def apart(jobs: Sequence[Job]) -> list[Job]:
    """Return a job for each frame of each image."""
    found = []
    for job in jobs:
        if job.frames == 1:
            found.append(job)
            continue
        shape = (1, *job.shape[1:])
        large = pieces.is_large(shape, job.settings.max_memory)
        found += [
            dataclasses.replace(
                job, shape=shape, large=large, frame=number, planes=None
            )
            for number in range(job.frames)
        ]
    return found


def _check_channels(image: images.Image, wanted: int) -> None:
    """Refuse an image with another number of channels than the weights take."""
    there = image.shape[3]
    if there == wanted:
        return
    names = f" ({', '.join(image.channels)})" if image.channels else ""
    message = f"{image.path} has {there} channel(s){names}, the model takes {wanted}."
    if wanted == 1:
        message += " Choose one, such as --channel 0."
    raise InputError(message)


class Writes(Protocol):
    """What has a source and results."""

    @property
    def source(self) -> Path: ...

    @property
    def results(self) -> list[Path]: ...

    @property
    def folders(self) -> set[Path]: ...


def check_results(
    writing: Sequence[Writes], *, overwrite: bool = False, ours: Collection[Path] = ()
) -> None:
    """Refuse results that would meet, or replace what is there.

    Args:
        writing: the jobs.
        overwrite: whether they may replace it.
        ours: sources whose results may be replaced in any case.
    """
    takers: dict[str, Writes] = {}
    for each in writing:
        folders = each.folders
        for path in each.results:
            # Some file systems take a.tif and A.tif for one.
            other = takers.setdefault(str(path).casefold(), each)
            if other is not each:
                message = (
                    f"{other.source} and {each.source} would both be written to "
                    f"{path}. Rename one, or segment them into two folders."
                )
                raise InputError(message)
            if not os.path.lexists(path):
                continue
            if not overwrite and each.source not in ours:
                message = (
                    f"{path} is there already. Give another --output, or --overwrite "
                    "to replace it."
                )
                raise InputError(message)
            if path.is_dir() != (path in folders):
                there = "folder" if path.is_dir() else "file"
                message = f"{path} is a {there} where a result would go."
                raise InputError(message)
