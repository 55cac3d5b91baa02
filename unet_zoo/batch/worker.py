"""A process that segments what it is sent: `python -m unet_zoo.batch.worker`.

Pickles come in on standard input: the network and the processors to keep to, then
jobs, then None. Pickles go out on standard output: words with what belongs to them,
see `processes`. If the input ends before None, the parent is gone: the image at hand is
left to be segmented again, what is being written is finished.
"""

from __future__ import annotations

import os
import pickle
import signal
import threading
from collections.abc import Iterator
from typing import Any, BinaryIO

from unet_zoo.batch import pipeline
from unet_zoo.batch.jobs import Job


def main() -> None:
    """Serve until there is no more to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent says when to end
    # What libraries print must not get between the pickles.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    lock, stop = threading.Lock(), threading.Event()

    def say(*words: Any) -> None:
        with lock:
            pickle.dump(words, answers)
            answers.flush()

    # Not sys.stdin, which Python closes in the end, when a thread may still read it.
    requests = os.fdopen(os.dup(0), "rb")
    network, processors = pickle.load(requests)
    if processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, processors)
    try:
        segmenter = network.load()
        say("ready")
        pipeline.run(
            segmenter,
            _incoming(requests, stop),
            lambda job, outcome: say("image", job.key, outcome),
            lambda frames: say("frames", frames),
            stop,
        )
    except pipeline.Stopped:
        return
    except Exception as error:
        say("failed", _portable(error))
        raise


def _incoming(requests: BinaryIO, stop: threading.Event) -> Iterator[Job]:
    while True:
        try:
            job = pickle.load(requests)
        except EOFError:
            stop.set()
            return
        if job is None:
            return
        yield job


def _portable(error: Exception) -> Exception:
    """Return the error, or what it said where it cannot be sent."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


if __name__ == "__main__":
    main()
