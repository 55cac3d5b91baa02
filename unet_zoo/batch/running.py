"""A batch from beginning to end: checked, segmented, recorded, gone on with."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import calibrating, engines, files, memory, records, weights
from unet_zoo.batch import clusters, jobs, pipeline, processes
from unet_zoo.batch.jobs import Broken, Job, Network, Settings
from unet_zoo.errors import InputError, unknown
from unet_zoo.images import Image, finding, open_image
from unet_zoo.outputs import writers

if TYPE_CHECKING:
    from unet_zoo.segmenter import Segmenter

WRITE = ("labels", "csv", "overlay")
_FEW = 4  # frames; of more, some are predicted at once


@dataclasses.dataclass(frozen=True)
class Report:
    """What became of a batch.

    Attributes:
        output: the folder of the results.
        objects: how many were found in the images of this run.
        segmented: the images of this run.
        kept: images that an earlier run had finished.
        broken: images that could not be segmented, and why.
        said: a line on each image that was segmented in pieces.
    """

    output: Path
    objects: int = 0
    segmented: tuple[Path, ...] = ()
    kept: tuple[Path, ...] = ()
    broken: tuple[Broken, ...] = ()
    said: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Batch:
    """Images that were checked and can be segmented; made by `plan`.

    Attributes:
        jobs: one for each image that is to be segmented.
        kept: those of images that an earlier run has finished.
        broken: images that cannot be segmented.
        settings: what holds for all.
        about: what the record of the folder says of the run.
        every: `jobs` and `kept` in the order of the images.
        overwrite: results that are there are replaced.
    """

    jobs: tuple[Job, ...]
    kept: tuple[Job, ...]
    broken: tuple[Broken, ...]
    settings: Settings
    about: Mapping[str, Any]
    every: tuple[Job, ...] = ()
    overwrite: bool = False

    def run(
        self,
        *,
        workers: int = 1,
        dask: str | None = None,
        load: Callable[[], Segmenter] | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Segment the images; arguments and errors are those of `segment_files`.

        Args:
            workers: processes.
            dask: address of a scheduler.
            load: returns the segmenter of this process; None: `Network.load`.
            progress: called with (frames done, frames in all).
        """
        output, network = self.settings.output, self.settings.network
        count = _Count(self, progress)
        if not self.jobs:
            with self._recorded():
                return self._report(count)
        elsewhere = dask is not None or workers > 1
        segmenter = None
        if not elsewhere or network.engine != "keras":
            # Also for others to do it: what must be converted is converted once, and
            # what cannot be loaded is refused before anything is made.
            segmenter = (load or network.load)()
        with emptied(output), self._recorded() as finish:

            def report(job: Job, outcome: pipeline.Outcome) -> None:
                if outcome.broken is None:
                    finish(job.name)
                count.add(job, outcome)

            try:
                if dask is not None:
                    clusters.run(dask, self.jobs, report, count.tick)
                elif elsewhere:
                    processes.run(workers, network, self.jobs, report, count.tick)
                elif segmenter is not None:
                    several = sum(job.frames for job in self.jobs) > _FEW
                    pipeline.run(
                        segmenter, self.jobs, report, count.tick, several=several
                    )
            except KeyboardInterrupt as interrupt:
                resume = "--resume" + " in place of --overwrite" * self.overwrite
                interrupt.add_note(
                    f"{len(count.segmented) + len(self.kept)} of {self.size} images "
                    f"are complete in {output}; {resume} goes on with the others."
                )
                raise
            finally:
                if elsewhere:
                    files.sweep(output)  # what a worker left that was killed
        if self.size == 1 and count.broken:
            raise InputError(count.broken[0].reason)
        return self._report(count)

    @property
    def size(self) -> int:
        """Return the number of images, broken ones included."""
        return len(self.jobs) + len(self.kept) + len(self.broken)

    def _recorded(self) -> contextlib.AbstractContextManager[Callable[[str], None]]:
        # Broken ones were to be replaced as well, which once they are mended they are.
        never = self.broken if self.overwrite else ()
        unread = [Job(each.source, self.settings) for each in never]
        return records.kept(
            self.settings.output,
            [_image(job) for job in (*unread, *self.kept, *self.jobs)],
            self.about,
            done={job.name for job in self.kept},
        )

    def _report(self, count: _Count) -> Report:
        return Report(
            self.settings.output,
            count.objects,
            tuple(job.source for job in self.jobs if job.key in count.segmented),
            tuple(job.source for job in self.kept),
            (*self.broken, *count.broken),
            tuple(count.said),
        )


def segment_files(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    write: str | Sequence[str] = WRITE,
    axes: str | None = None,
    channel: int | str | None = None,
    pixel_size: float | None = None,
    engine: str | None = None,
    precision: str = "float32",
    backend: str | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    workers: int = 1,
    dask: str | None = None,
    max_memory: int | str | None = None,
    progress: Callable[[int, int], None] | None = None,
    said: Callable[[str], None] | None = None,
    **options: Any,
) -> Report:
    """Segment image files and write results, as `unet-zoo segment` does.

    Reading, predicting, finding objects and writing overlap. Of an image all results
    are written or none; `segmentation.json` beside them says what was made with what.
    An image that is broken is reported, and the others are segmented.

    Args:
        images: files, folders of them, or several of these.
        model: a name that `unet-zoo weights` lists, or a weights file; of several, an
            ensemble.
        output: folder of the results; made if it is not there.
        write: names of `outputs.WRITERS`.
        axes: see `images.open_image`, as `channel` and `pixel_size` (in micrometres).
        engine: see `segmenter.load`, as `precision`.
        backend: what Keras computes with, where that is the engine.
        calibrate: folder of images that the precision "int8" is calibrated on; None:
            up to 8 of `images`.
        overwrite: replace results that are there.
        resume: go on with a batch that was ended: what is finished stays, and nothing
            is read of it but its size.
        workers: processes that share the images and the processors; 1: this one.
        dask: address of a Dask scheduler, such as "tcp://10.0.0.1:8786", whose
            workers segment; they see weights, images and output by the same paths.
        max_memory: that each process may hold, such as "2GB"; None: half of what is
            free. Images that do not fit are segmented in pieces: of `write`, labels,
            tables, masks and smaller overlays are written.
        progress: called with (frames done, frames in all), by one thread at a time.
        said: called with a line on how files are understood.
        options: `tta`, `tile`, `threshold`, `min_size`, `fill_holes`, `closing`; see
            `Segmenter.segment`.

    Raises:
        InputError: for what cannot be used; if no image can be segmented; with
            `resume`, if results there were made by other settings.

    Example:
        >>> import tempfile, numpy
        >>> folder = Path(tempfile.mkdtemp())
        >>> numpy.save(folder / "a.npy", numpy.zeros((64, 64), "uint8"))
        >>> report = segment_files(folder, "unet-blobs", folder / "masks", tta=1)
        >>> [path.name for path in report.segmented], report.broken
        (['a.npy'], ())
    """
    _check_number(workers, dask)
    batch = plan(
        images,
        model,
        output,
        write=write,
        axes=axes,
        channel=channel,
        pixel_size=pixel_size,
        engine=engine,
        precision=precision,
        backend=backend,
        calibrate=calibrate,
        overwrite=overwrite,
        resume=resume,
        max_memory=max_memory,
        said=said,
        **options,
    )
    return batch.run(workers=workers, dask=dask, progress=progress)


def plan(
    images: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    model: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    output: str | os.PathLike[str],
    *,
    write: str | Sequence[str] = WRITE,
    axes: str | None = None,
    channel: int | str | None = None,
    pixel_size: float | None = None,
    engine: str | None = None,
    precision: str = "float32",
    backend: str | None = None,
    calibrate: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    max_memory: int | str | None = None,
    apart: bool = False,
    said: Callable[[str], None] | None = None,
    **options: Any,
) -> Batch:
    """Open all images and check what is to be done with them; see `segment_files`.

    Nothing is written, and of images only what they say of themselves is read. With
    `apart`, each frame of a stack is segmented as an image of its own.
    """
    kinds = writers.chosen((write,) if isinstance(write, str) else write)
    sources = finding.find(images)
    output = Path(output)
    folders = {path.parent for each in kinds for path in each.paths(output, "a", None)}
    for folder in (output, *sorted(folders - {output})):
        files.check_folder(folder)
    file = weights.find(model)
    parts = [model] if isinstance(model, str | os.PathLike) else model
    called = " + ".join(map(str, parts))
    facts = weights.read_facts(file)
    if pixel_size is not None and facts.get("pixel_size") is None and said is not None:
        said(
            f"{called} does not say at which pixel size it was trained: nothing is "
            "rescaled to it."
        )
    _check_options(facts, options)
    models = weights.models(weights.members(file))
    chosen = engines.choose(engine, backend, models, said)
    engines.check_precision(chosen, precision)
    if chosen == "keras":
        backend = backend or os.environ.get("KERAS_BACKEND")
    shown: tuple[functools.partial[Image], ...] = ()
    if precision == "int8":
        among = sources if calibrate is None else finding.find(calibrate)
        if calibrate is None and said is not None:
            said(calibrating.words("of the images to be segmented"))
        shown = tuple(
            functools.partial(open_image, path, axes=axes, channel=channel)
            for path in calibrating.spread(among)
        )
    settings = Settings(
        Network(file.resolve(), chosen, precision, backend, shown),
        output,
        tuple(kind.name for kind in kinds),
        axes=axes,
        channel=channel,
        pixel_size=pixel_size,
        options=options,
        max_memory=None if max_memory is None else memory.as_bytes(max_memory),
    )
    found, broken = jobs.opened(sources, settings, facts, said)
    if apart:
        found = jobs.apart(found)
    if not found:
        more = len(broken) - 1
        message = broken[0].reason
        if more:
            message += f" Nor can any of the other {more} images be segmented."
        raise InputError(message)
    given = {"engine": engine, "axes": axes, "pixel_size": pixel_size}
    given["calibrate"] = None if calibrate is None else str(calibrate)
    given = {key: value for key, value in given.items() if value is not None}
    about = records.about(
        called,
        file,
        {**options, "precision": precision, **given},
        write=settings.kinds,
        engine=chosen,
    )
    kept, ours = _finished(found, about, overwrite) if resume else ([], [])
    done = {job.key for job in kept}
    rest = [job for job in found if job.key not in done]
    jobs.check_results(found, overwrite=overwrite, ours={job.source for job in ours})
    return Batch(
        tuple(rest),
        tuple(kept),
        tuple(broken),
        settings,
        about,
        every=tuple(found),
        overwrite=overwrite,
    )


def _check_number(workers: int, dask: str | None) -> None:
    """Refuse processes and a cluster at once."""
    if workers < 1:
        message = f"`workers` must be 1 or more. Received: {workers}"
        raise InputError(message)
    if workers > 1 and dask is not None:
        message = "`workers` and `dask` exclude each other: the cluster has workers."
        raise InputError(message)


def _check_options(facts: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    """Refuse options of `segment` that would be refused with every image."""
    import numpy as np

    from unet_zoo import segmenter, targets, turning

    known = ("tta", "tile", *segmenter.OPTIONS)
    for word in options:
        if word not in known:
            raise unknown(kind="option of segment", word=word, options=known)
    if options.get("tta") is not None:
        turning.check(options["tta"])
    target = targets.get(facts["target"], **facts["target_arguments"])
    decoding = {k: v for k, v in options.items() if k in segmenter.OPTIONS}
    target.decode(np.zeros((1, 1, target.channels), np.float32), **decoding)


def _image(job: Job) -> records.Image:
    channel = job.settings.channel
    return records.Image(job.name, job.source, job.frames, channel, tuple(job.results))


def _finished(
    found: Sequence[Job], about: Mapping[str, Any], overwrite: bool
) -> tuple[list[Job], list[Job]]:
    """Return the jobs that are finished, and those that were at least begun.

    Raises:
        InputError: where results were made by other settings.
    """
    output = found[0].output
    if overwrite:
        message = "--resume keeps what is finished, --overwrite replaces it: give one."
        raise InputError(message)
    images = [_image(job) for job in found]
    check_alike(output, images, about)
    files.sweep(output)
    begun = records.read(output, unfinished=True)
    same = records.unchanged(records.read(output), images)

    def whole(job: Job) -> bool:
        return all(path.exists() for path in job.results)

    ours = [job for job in found if job.name in begun]
    kept = [job for job in ours if job.name in same and whole(job)]
    return kept, [j for j in ours if begun[j.name].source == j.source.resolve()]


def check_alike(
    output: Path, found: Sequence[records.Image], about: Mapping[str, Any]
) -> None:
    """Refuse to go on where results of these images were made by other settings."""
    differing = records.differences(output, found, about)
    if differing:
        message = (
            f"--resume cannot go on in {output}, which was made otherwise: "
            f"{'; '.join(differing)}. Give what was given then, or another --output."
        )
        raise InputError(message)


@contextlib.contextmanager
def emptied(output: Path) -> Iterator[None]:
    """Make the folder; after a failure, take it away if it holds nothing."""
    made = [path for path in (output, *output.parents) if not path.exists()]
    try:
        output.mkdir(parents=True, exist_ok=True)
        yield
    finally:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()


class _Count:
    """What has become of the images so far; threads add to it."""

    def __init__(
        self, batch: Batch, progress: Callable[[int, int], None] | None
    ) -> None:
        self.objects = 0
        self.segmented: set[tuple[Path, int | None]] = set()
        self.broken: list[Broken] = []
        self.said: list[str] = []
        self._done, self._frames = 0, sum(job.frames for job in batch.jobs)
        self._progress, self._lock = progress, threading.Lock()

    def add(self, job: Job, outcome: pipeline.Outcome) -> None:
        with self._lock:
            if outcome.broken is not None:
                self.broken.append(outcome.broken)
            else:
                self.objects += outcome.objects
                self.segmented.add(job.key)
                self.said += [outcome.said] if outcome.said else []

    def tick(self, frames: int) -> None:
        with self._lock:
            self._done += frames
            if frames and self._progress is not None:
                self._progress(self._done, self._frames)
