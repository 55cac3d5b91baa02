"""Jobs that take long to read, or that end their process; workers import them too."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import psutil

from unet_zoo import batch
from unet_zoo.batch import jobs
from unet_zoo.streaming import frames, planning


class Slow(jobs.Job):
    """An image that is read slowly: there is time to kill somebody."""

    def read(self) -> np.ndarray:
        time.sleep(0.2)
        return super().read()


class Deadly(jobs.Job):
    """An image that nobody survives, as one for which memory runs out."""

    def read(self) -> np.ndarray:
        os.kill(os.getpid(), signal.SIGKILL)
        return super().read()


def cut_small(block: int = 128) -> None:
    """Have this process cut small images into many blocks."""
    planning._BLOCKS = (block,)


def stuck(sign: str) -> int:
    """Have this process never end with a part of an image; return its number.

    Once it is at one it makes a file. It gives up as one does that is not wanted.
    """

    def part(run: frames.Run, *_: object) -> None:
        Path(sign).touch()
        while True:
            time.sleep(0.02)
            run.progress(0, 1)

    frames.Run.part = part
    return os.getpid()


def turned(planned: batch.Batch, kind: type = Slow, deadly: int = -1) -> batch.Batch:
    """Return the batch with jobs of another kind, and that of number `deadly` so."""
    found = []
    for number, job in enumerate(planned.jobs):
        values = {f.name: getattr(job, f.name) for f in dataclasses.fields(job)}
        found.append((Deadly if number == deadly else kind)(**values))
    return dataclasses.replace(planned, jobs=tuple(found))


def main(
    images: str,
    weights: str,
    output: str,
    workers: str,
    sent: str = "SIGKILL",
    options: str = "{}",
) -> None:
    """Segment slowly, and be sent a signal after 5 frames; print who helped.

    Args:
        sent: name of the signal.
        options: of `batch.plan`, as JSON.
    """

    def progress(done: int, frames: int) -> None:
        if done == 5:
            helpers = [str(each.pid) for each in psutil.Process().children()]
            sys.stdout.write(" ".join(helpers))
            sys.stdout.flush()
            os.kill(os.getpid(), signal.Signals[sent])

    # What a shell started in the background takes no notice of Ctrl-C.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    planned = batch.plan(images, weights, output, **json.loads(options))
    turned(planned).run(workers=int(workers), progress=progress)


if __name__ == "__main__":
    import deadly  # whose classes other processes find by this name

    deadly.main(*sys.argv[1:])
