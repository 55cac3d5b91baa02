"""Showing where a training stands."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from unet_zoo.progress import Progress


class Told(logging.Handler):
    """Shows where a training stands: a bar on a terminal, lines in a log.

    What the package has to say meanwhile stands above the bar.

    Args:
        every: steps between two lines.
    """

    def __init__(self, every: int) -> None:
        import psutil
        import tqdm

        super().__init__()
        self.every = every
        self.process, self.asked, self.busy = psutil.Process(), 0.0, ""
        self.step = 0
        self.bar = tqdm.tqdm(unit="step", disable=None)

    def __enter__(self) -> Self:
        logging.getLogger("unet_zoo").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("unet_zoo").removeHandler(self)
        self.bar.close()

    def emit(self, record: logging.LogRecord) -> None:
        self.bar.write(record.getMessage(), file=sys.stderr)

    def __call__(self, now: Progress) -> None:
        self.step = now.step
        self.bar.total = now.steps
        best = "" if now.best is None else f"best {now.metric} {now.best:.3f}"
        rate = f"{now.images_per_second:.3g} images/s"
        if not math.isfinite(now.images_per_second):
            rate = ""
        if not self.bar.disable:
            told = [f"loss {now.loss:.3f}", best, rate, self.use()]
            self.bar.set_postfix_str(", ".join(filter(None, told)), refresh=False)
            if now.step < self.bar.n:  # the next of several trainings
                self.bar.reset(now.steps)
            self.bar.update(now.step - self.bar.n)
        elif now.step % self.every == 0 or now.step == now.steps:
            parts = [f"step {now.step}/{now.steps}", f"loss {now.loss:.3f}", best]
            parts += [rate, self.use(), f"{now.seconds_left:.0f} s left"]
            click.echo(", ".join(part for part in parts if part), err=True)

    def use(self) -> str:
        """Return how busy this process keeps the processor, asked once a second."""
        now = time.monotonic()
        if now - self.asked >= 1:
            share = self.process.cpu_percent() / (os.cpu_count() or 1)
            self.busy = f"CPU {share:.0f} %" if self.asked else ""
            self.asked = now
        return self.busy
