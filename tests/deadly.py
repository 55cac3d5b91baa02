"""Jobs that take long to read, or that end their process; workers import them too."""

from __future__ import annotations

import dataclasses
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np

from unet_zoo import batch
from unet_zoo.batch import jobs


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


def turned(planned: batch.Batch, kind: type = Slow, deadly: int = -1) -> batch.Batch:
    """Return the batch with jobs of another kind, and that of number `deadly` so."""
    found = []
    for number, job in enumerate(planned.jobs):
        values = {f.name: getattr(job, f.name) for f in dataclasses.fields(job)}
        found.append((Deadly if number == deadly else kind)(**values))
    return dataclasses.replace(planned, jobs=tuple(found))


if __name__ == "__main__":  # IMAGES WEIGHTS OUTPUT WORKERS: a slow batch, to be killed
    sys.modules["deadly"] = sys.modules["__main__"]
    Slow.__module__ = "deadly"
    program, workers = batch.plan(*map(Path, sys.argv[1:4])), int(sys.argv[4])
    turned(program).run(workers=workers)
