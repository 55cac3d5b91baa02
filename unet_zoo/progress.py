"""How a training tells where it stands, and hears that it should stop."""

from __future__ import annotations

import contextlib
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import keras

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True)
class Progress:
    """Where a training stands: what `train` hands to its `progress` callback."""

    step: int
    steps: int
    loss: float
    """Mean over the steps since the last stop, but for the newest (see `Behind`)."""
    metric: str
    best: float | None
    seconds: float
    images_per_second: float = math.nan
    """Patches that the steps of this process took in a second, validation aside."""

    @property
    def seconds_left(self) -> float:
        """Return the time that the remaining steps would take at the present rate."""
        return self.seconds / max(1, self.step) * (self.steps - self.step)


class Interrupted(KeyboardInterrupt):
    """A signal ended the training after a whole step; `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def terminated(interrupt: BaseException | None) -> bool:
    """Return whether it was SIGTERM, whose sender will not wait for long.

    >>> terminated(Interrupted(signal.SIGTERM)), terminated(KeyboardInterrupt())
    (True, False)
    """
    return getattr(interrupt, "signal", None) == signal.SIGTERM


class Mean:
    """The mean of the losses of steps that were made in several parts."""

    def __init__(self, total: float = 0.0, count: int = 0) -> None:
        self.total, self.count = total, count

    def add(self, mean: float, count: int) -> None:
        self.total += float(mean) * count
        self.count += count

    @property
    def value(self) -> float:
        return self.total / self.count

    @property
    def state(self) -> dict[str, Any]:
        return {"total": self.total, "count": self.count}


@contextlib.contextmanager
def ending() -> Iterator[None]:
    """Let SIGTERM raise `Interrupted` at once, so that what is temporary is removed.

    Where nothing else listens to it; Python gives signals to the main thread alone.

    >>> with ending():
    ...     signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    False
    """

    def end(number: int, frame: Any) -> None:
        raise Interrupted(number)

    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    ):
        yield
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Behind(keras.callbacks.CallbackList):
    """Tells callbacks at the end of each step what the step before it gave.

    Keras waits for the loss of a step before it makes the next one ready, for which the
    device then waits: half of the time on a GPU. So two steps are under way, and no
    more than two: whoever asks a training to stop is heard.
    """

    _newest: Any = None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._newest = None
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        before, self._newest = self._newest, logs
        super().on_train_batch_end(batch, logs if before is None else before)


class Teller(keras.callbacks.Callback):
    """Reports every step to the caller, and ends `fit` when a checkpoint is due.

    Args:
        steps: of the whole training.
        standing: returns the other fields of `Progress`.
        progress: called after every step.
        minutes: after this time, `fit` is ended for a checkpoint.
        agree: whether any process of the training says so (`devices.Devices.any`).
        batch: images a step.
        alone: whether no other process waits for what this one computes.
    """

    def __init__(
        self,
        steps: int,
        standing: Callable[[], dict[str, Any]],
        progress: Callable[[Progress], None] | None,
        minutes: float,
        agree: Callable[[bool], bool] = bool,
        batch: int = 1,
        alone: bool = True,
    ) -> None:
        super().__init__()
        self.agree, self.alone = agree, alone
        self._unsaved = False  # steps since the last checkpoint
        self.steps, self.standing, self.progress = steps, standing, progress
        self.pause = 60 * minutes
        self.batch, self._spent, self._counted = batch, 0.0, 0
        self._last: float | None = None
        self.step = 0
        self.loss: Any = math.nan
        self.interrupt: KeyboardInterrupt | None = None

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the training after the step that runs.

        At once ends it a second Ctrl-C, and SIGTERM while the first step after a
        checkpoint is computed, which may have to wait for a compiler. Python gives
        signals to the main thread alone: elsewhere this does nothing.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def take(number: int, frame: Any) -> None:
            if self.interrupt is not None and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.interrupt = Interrupted(number)
            if number == signal.SIGTERM and self.alone and not self._unsaved:
                raise self.interrupt

        before = {each: signal.getsignal(each) for each in _SIGNALS}
        for each, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(each, take)
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    @property
    def images_per_second(self) -> float:
        """Return how many images the steps of this process took in a second."""
        if not self._spent:
            return math.nan
        return self.batch * self._counted / self._spent

    def on_train_begin(self, logs: Any = None) -> None:
        self.due = time.monotonic() + self.pause
        self._unsaved = False  # `fit` is called after a checkpoint
        # The first step of a part also waits for its first batch, or for a compiler.
        self._last = None

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._unsaved = True
        self.step += 1
        self.loss = logs["loss"]
        moment = time.monotonic()
        if self._last is not None:
            self._spent += moment - self._last
            self._counted += 1
        self._last = moment
        if self.progress is not None:
            now = Progress(
                step=self.step,
                steps=self.steps,
                loss=float(self.loss),
                images_per_second=self.images_per_second,
                **self.standing(),
            )
            try:
                self.progress(now)
            except KeyboardInterrupt as interrupt:
                self.interrupt = interrupt
        if self.agree(self.interrupt is not None or time.monotonic() >= self.due):
            self.model.stop_training = True

    def heed(self) -> None:
        """Raise `Interrupted` where SIGTERM was heard."""
        if self.interrupt is not None and terminated(self.interrupt):
            raise self.interrupt

    def stopped(self) -> KeyboardInterrupt | None:
        """Return what asked this process, or another of the training, to stop."""
        if not self.agree(self.interrupt is not None):
            return None
        # The processes end in the same way, whoever was asked.
        if self.agree(terminated(self.interrupt)):
            return Interrupted(signal.SIGTERM)
        return self.interrupt or Interrupted(signal.SIGINT)
