"""The way back: a training whose loss or weights stop being numbers goes on slower."""

from __future__ import annotations

import dataclasses
import logging
import math
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from unet_zoo import checkpoints, devices, files
from unet_zoo import recipe as recipes
from unet_zoo.errors import InputError

MOST = 3  # times that a training goes back
_LOG = logging.getLogger(__name__)


class Keeper:
    """Writes the checkpoints of a training, and takes it back to the last good one.

    `checkpoint.npz` is where a training goes on. `good.npz` is the last checkpoint of a
    validation, or of the start: where it goes back to. That place depends on the recipe
    alone, not on when a checkpoint happened to be due, so that a training which was
    stopped and resumed goes back to the same step as one that was not.

    Args:
        folder: of the training.
        of: what tells this training from another one, plain values.
        ready: makes the learner ready to train with the optimizer of so many setbacks,
            and returns all variables of the training.
        setbacks: those of before, of a training that goes on.
        on: the devices; of several processes one writes.
    """

    def __init__(
        self,
        folder: Path,
        of: Mapping[str, Any],
        ready: Callable[[int], Sequence[keras.Variable]],
        setbacks: Sequence[Mapping[str, Any]] = (),
        on: devices.Devices | None = None,
    ) -> None:
        self.on = on or devices.Devices()
        self.path, self.good = folder / "checkpoint.npz", folder / "good.npz"
        self.of, self.ready = of, ready
        self.setbacks = [dict(each) for each in setbacks]
        self.variables = ready(len(self.setbacks))

    def write(self, state: Mapping[str, Any], good: bool) -> None:
        """Write the checkpoint.

        Args:
            state: plain values, "step" among them.
            good: the step is one to go back to.
        """
        facts = {"of": self.of, "setbacks": self.setbacks, **state}

        def write() -> None:
            checkpoints.write(self.path, self.variables, facts)
            if good:
                self._keep()

        self.on.once(write)

    def restore(self, good: bool) -> None:
        """Give the variables the values in the checkpoint.

        Args:
            good: as for `write`.
        """
        checkpoints.assign(self.variables, self.path)

        def keep() -> None:
            if good or not self.good.exists():
                self._keep()

        self.on.once(keep)

    def sound(self, loss: float) -> bool:
        """Return whether the loss and all variables are finite."""
        return math.isfinite(loss) and all(
            np.isfinite(each.numpy()).all() for each in self.variables
        )

    def back(self, step: int, loss: float) -> int:
        """Return to the last good checkpoint with half the learning rate.

        Args:
            step: where the training stands.
            loss: of its last steps.

        Returns:
            The step to go on from.

        Raises:
            InputError: after three times.
        """
        what = (
            f"The loss is {loss}"
            if not math.isfinite(loss)
            else "A weight is not finite"
        )
        if len(self.setbacks) == MOST:
            message = (
                f"{what} at step {step}, and halving the learning rate {MOST} times "
                "did not help. Lower it (optimizer.learning_rate), or look at the "
                "images with `unet-zoo check`; the last good weights, if any, are in "
                "weights.h5."
            )
            raise InputError(message)
        facts = checkpoints.read_facts(self.good)
        self.setbacks.append({"step": step, "back_to": facts["step"]})
        self.variables = self.ready(len(self.setbacks))
        checkpoints.assign(self.variables, self.good)
        for variable in self.variables:
            # A rate that no schedule decides is part of the state just restored.
            if variable.name == "learning_rate":
                halved = 0.5 ** (len(self.setbacks) - len(facts["setbacks"]))
                variable.assign(variable * halved)
        kept = ("of", "setbacks", "version", "paths")
        state = {key: value for key, value in facts.items() if key not in kept}
        self.write(state, good=False)
        _LOG.warning(
            "%s at step %d: back to step %d with the learning rate halved (%d of %d).",
            what,
            step,
            facts["step"],
            len(self.setbacks),
            MOST,
        )
        return int(facts["step"])

    def finish(self) -> None:
        """Remove what only a training that runs needs."""
        self.on.once(lambda: self.good.unlink(missing_ok=True))

    def _keep(self) -> None:
        with files.replacing(self.good) as part:
            try:
                os.link(self.path, part)
            except OSError:  # a file system without links
                shutil.copyfile(self.path, part)


def slowed(plan: recipes.Optimizer, setbacks: int) -> recipes.Optimizer:
    """Return the optimizer with the learning rate halved so often.

    >>> slowed(recipes.Optimizer(learning_rate=0.4), 2).learning_rate
    0.1
    """
    return dataclasses.replace(plan, learning_rate=plan.learning_rate * 0.5**setbacks)
