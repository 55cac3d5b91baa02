"""One process segments images so that nothing waits: the stages overlap.

A thread reads ahead, as many run the network as its engine likes best, others make
objects of its predictions and write them. What is held at a time is bounded, in bytes
and in images.
"""

from __future__ import annotations

import dataclasses
import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import outputs
from unet_zoo.batch import pieces
from unet_zoo.batch.jobs import BROKEN, ROOM, Broken, Job, broken

if TYPE_CHECKING:
    from unet_zoo.outputs import Result
    from unet_zoo.segmenter import Segmenter

IN_FLIGHT = 6  # images that are read, segmented and written at a time
_FINISHERS = 2
_WAITING = 4  # predictions of which objects are to be made
# What needs a table of the objects, or what was predicted of every pixel.
_WITH_TABLE = ("csv", "parquet", "geojson")
_SEEING = ("tta", "tile")  # options of the network's part; the others are decoded by


class Stopped(Exception):
    """The pipeline was asked to end before the last image."""


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of an image: its objects, or why it has none; what to say of it."""

    objects: int = 0
    broken: Broken | None = None
    said: str = ""


def run(
    segmenter: Segmenter,
    jobs: Iterable[Job],
    report: Callable[[Job, Outcome], None],
    tick: Callable[[int], None] = lambda frames: None,
    stop: threading.Event | None = None,
    several: bool = True,
) -> None:
    """Segment images and write their results, all of an image or none.

    Args:
        segmenter: of all of them.
        jobs: the images; the iterator may wait for more.
        report: called by some thread with each image once it is written or given up.
        tick: called by some thread with the number of frames segmented since.
        stop: once set, no further frame is begun, and `Stopped` raised.
        several: there are so many frames that predicting some at once pays.

    Raises:
        Exception: what went wrong with more than one image, such as a full disk.
            Images that are being written are finished first.
    """
    room, ready = _Room(), queue.SimpleQueue[Any]()
    failures: list[BaseException] = []

    def end(work: _Work) -> None:
        """Write an image whose frames are all done, or given up."""
        try:
            outcome = work.finish()
            tick(work.job.frames - work.decoded)
            report(work.job, outcome)
        except BaseException as error:
            fail(error)
        finally:
            room.leave(work.job.weight)

    def fail(error: BaseException) -> None:
        failures.append(error)
        ready.put(None)  # so that nobody waits for it

    def check() -> None:
        if failures:
            raise failures[0]
        if stop is not None and stop.is_set():
            raise Stopped

    def predicted(work: _Work, number: int) -> None:
        try:
            found = work.predict(number)
            finishing.submit(decoded, work, number, found)
        except BaseException as error:
            waiting.release()
            fail(error)

    def decoded(work: _Work, number: int, found: np.ndarray | None) -> None:
        try:
            last = work.decode(number, found)
        except BaseException as error:
            fail(error)
        else:
            if last:
                end(work)
        finally:
            waiting.release()

    many = segmenter.for_many() if several else segmenter
    lanes = many.lanes
    network = ThreadPoolExecutor(lanes, thread_name_prefix="network")
    finishing = ThreadPoolExecutor(_FINISHERS, thread_name_prefix="finishing")
    waiting = threading.Semaphore(lanes + _WAITING)
    arguments = (jobs, room, ready)
    threading.Thread(target=_read, args=arguments, name="reading", daemon=True).start()
    try:
        for job, image in iter(ready.get, None):
            check()
            if isinstance(image, (*BROKEN, OSError)):
                tick(job.frames)
                report(job, Outcome(broken=broken(job.source, image)))
                room.leave(job.weight)
                continue
            if isinstance(image, BaseException):
                raise image
            if job.large:
                report(job, _in_pieces(segmenter, job))
                tick(job.frames)
                room.leave(job.weight)
                continue
            work = _Work(many, job, image, tick)
            for number in range(job.frames):
                waiting.acquire()
                check()
                network.submit(predicted, work, number)
            del work, image  # or they stay while the next image is waited for
        network.shutdown()
        finishing.shutdown()
        check()
    finally:
        room.close()
        network.shutdown(cancel_futures=True)
        finishing.shutdown(cancel_futures=True)


def _in_pieces(segmenter: Segmenter, job: Job) -> Outcome:
    try:
        objects, said = pieces.segment(segmenter, job)
    except (*BROKEN, OSError) as error:
        return Outcome(broken=broken(job.source, error))
    return Outcome(objects, said=said)


class _Work:
    """An image on its way: predicted and decoded frame by frame, then written."""

    def __init__(
        self,
        segmenter: Segmenter,
        job: Job,
        image: np.ndarray,
        tick: Callable[[int], None],
    ) -> None:
        self.job = job
        self._segmenter, self._image, self._tick = segmenter, image, tick
        options = job.settings.options
        self._seeing = {key: options[key] for key in _SEEING if key in options}
        self._decoding = {k: v for k, v in options.items() if k not in _SEEING}
        self._frames: dict[int, Result] = {}
        self._left, self._lock = job.frames, threading.Lock()
        self._error: BaseException | None = None

    def predict(self, number: int) -> np.ndarray | None:
        """Return the prediction of a frame, None where the image is given up."""
        if self._error is None:
            try:
                return self._segmenter.predict(
                    self._image[number], **self.job.scaling, **self._seeing
                )
            except BROKEN as error:
                self._error = error
        return None

    def decode(self, number: int, prediction: np.ndarray | None) -> bool:
        """Make objects of a prediction; return whether that was the last frame."""
        if prediction is not None:
            try:
                self._frames[number] = self._decode(self._image[number], prediction)
            except BROKEN as error:
                self._error = error
        with self._lock:
            self._left -= 1
            return not self._left

    def _decode(self, frame: np.ndarray, prediction: np.ndarray) -> Result:
        """Return the objects of a frame."""
        found = self._segmenter.result(
            frame, prediction, **self.job.scaling, **self._seeing, **self._decoding
        )
        found.name, found.pixel_size = self.job.source.name, self.job.pixel_size
        kinds = self.job.settings.kinds
        if any(name in _WITH_TABLE for name in kinds):
            found.table()  # while it is known what was predicted
        if "probability" not in kinds:
            found.forget()
        self._tick(1)
        return found

    @property
    def decoded(self) -> int:
        """Return how many frames are objects by now."""
        return len(self._frames)

    def finish(self) -> Outcome:
        """Write all results, or none."""
        if self._error is not None:
            return Outcome(broken=broken(self.job.source, self._error))
        frames = [self._frames[number] for number in range(self.job.frames)]
        single = len(frames) == 1
        result = frames[0] if single else outputs.Result.stack(frames, self._image)
        result.planes = self.job.planes
        outputs.write(
            result,
            self.job.output,
            self.job.name,
            self.job.settings.kinds,
            overwrite=True,
        )
        return Outcome(result.count)


class _Room:
    """Lets images in as long as they fit beside those that are in already."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._bytes = self._images = 0
        self._closed = False

    def enter(self, weight: int) -> bool:
        """Wait until there is room; return whether it is still open."""

        def fits() -> bool:
            if self._closed or not self._images:
                return True
            return self._images < IN_FLIGHT and self._bytes + weight <= ROOM

        with self._changed:
            self._changed.wait_for(fits)
            self._bytes += weight
            self._images += 1
            return not self._closed

    def leave(self, weight: int) -> None:
        with self._changed:
            self._bytes -= weight
            self._images -= 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _read(jobs: Iterable[Job], room: _Room, ready: queue.SimpleQueue[Any]) -> None:
    """Read images while there is room; where one cannot be, what was raised goes on."""
    try:
        for job in jobs:
            if not room.enter(job.weight):
                return
            try:
                ready.put((job, None if job.large else job.read()))
            except Exception as error:
                ready.put((job, error))
    except BaseException as error:
        ready.put((None, error))
    finally:
        ready.put(None)
