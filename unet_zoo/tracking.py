"""Keras callbacks of a training: those a user gives, TensorBoard, a deadline."""

from __future__ import annotations

import io
import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import keras
import numpy as np


class Relay(keras.callbacks.Callback):
    """Gives callbacks one training, of which `fit` makes the parts between two stops.

    To them, an epoch is what lies between two validations. Its logs are "loss" and,
    as Keras calls what was validated, "val_SEG", "val_Dice" and so on. One that has a
    method `on_samples(step, pictures)` is given the first validation images with their
    outlines after each validation: a dictionary of uint8 arrays (Y, X, 3).

    A callback ends the training early by `self.model.stop_training = True`, as always:
    what there is, is then validated and written.

    Args:
        callbacks: of Keras.
        model: what is trained.
        steps: of the training.
        every: steps between two validations.
        agree: whether any process of the training says so (`devices.Devices.any`).
        heard: whether this process is the one whose callbacks are called.

    Attributes:
        step: steps done; to be set when a training is resumed.
        stopped: a callback has asked for the end.
    """

    def __init__(
        self,
        callbacks: Sequence[keras.callbacks.Callback],
        model: keras.Model,
        steps: int,
        every: int,
        agree: Callable[[bool], bool] = bool,
        heard: bool = True,
    ) -> None:
        super().__init__()
        self.every, self.step, self.stopped = every, 0, False
        # One that stopped alone would leave the others waiting for its gradients.
        # Without callbacks no process needs to ask.
        self._agree = agree if callbacks else bool
        self._each = list(callbacks) if heard else []
        self._all = keras.callbacks.CallbackList(
            self._each,
            model=model,
            epochs=math.ceil(steps / every),
            steps=every,
            verbose=0,
        )
        self._model = model

    def __enter__(self) -> Self:
        self._all.on_train_begin()
        return self

    def __exit__(self, *_: object) -> None:
        self._all.on_train_end()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        if self.step % self.every == 0:
            self._all.on_epoch_begin(self.step // self.every)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self._all.on_train_batch_begin(self.step % self.every)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._all.on_train_batch_end(self.step % self.every, logs)
        self.step += 1
        self._ask()

    def validated(
        self, row: Mapping[str, float], pictures: Mapping[str, np.ndarray]
    ) -> None:
        """Tell of a validation: its row of the history, and what was seen."""
        logs = {
            name if name == "loss" else f"val_{name}": value
            for name, value in row.items()
            if name not in ("step", "seconds")
        }
        self._model.stop_training = False
        self._all.on_epoch_end((self.step - 1) // self.every, logs)
        for each in self._each:
            if hasattr(each, "on_samples"):
                each.on_samples(self.step, pictures)
        self._ask()

    def _ask(self) -> None:
        if self._agree(bool(self._model.stop_training)):
            self._model.stop_training = self.stopped = True


class Deadline(keras.callbacks.Callback):
    """Ends a training in time to be done with everything at a moment.

    Args:
        seconds: from now on, until everything is to be done.
        reserve: seconds needed after the last step.
    """

    def __init__(self, seconds: float, reserve: float) -> None:
        super().__init__()
        self.at, self.reserve = time.monotonic() + seconds, reserve

    @property
    def left(self) -> float:
        """Return the seconds that are left for steps."""
        return self.at - self.reserve - time.monotonic()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.left <= 0:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.left <= 0:
            self.model.stop_training = True


class TensorBoard(keras.callbacks.Callback):
    """Writes what TensorBoard shows: scalars, validation images, the graph.

    Loss and learning rate of every tenth step, everything that was validated, the
    first validation images with the outlines found in them; with TensorFlow as the
    backend also the graph of the network. Writing needs no package but TensorFlow;
    looking needs `tensorboard --logdir FOLDER`.

    Args:
        folder: of the event files. A resumed training adds a file.
        every: steps between two points of the curve of the loss.
    """

    def __init__(self, folder: str | os.PathLike[str], every: int = 10) -> None:
        super().__init__()
        self.folder, self.every = os.fspath(folder), every
        self._writer: Any = None
        self._step = 0

    def on_train_begin(self, logs: Any = None) -> None:
        import tensorflow as tf

        # Of a resumed training, the steps before; JAX keeps the count to itself later.
        self._step = int(self.model.optimizer.iterations)
        self._writer = tf.summary.create_file_writer(self.folder)
        if keras.backend.backend() != "tensorflow":
            return
        network: Any = getattr(self.model, "network", self.model)
        image = tf.TensorSpec([1, *network.input_shape[1:]], tf.float32)
        traced = tf.function(lambda image: network(image)).get_concrete_function(image)
        with self._writer.as_default(step=0):
            tf.summary.graph(traced.graph)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self._step += 1
        if self._step % self.every == 0:
            rate = float(self.model.optimizer.learning_rate)
            self._scalars({"train/loss": logs["loss"], "train/rate": rate})

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        named = {
            f"validation/{name.removeprefix('val_')}": value
            for name, value in (logs or {}).items()
            if name.startswith("val_")
        }
        self._scalars(named)

    def on_samples(self, step: int, pictures: Mapping[str, np.ndarray]) -> None:
        for name, picture in pictures.items():
            height, width = picture.shape[:2]
            content = [str(width), str(height), _png(picture)]
            self._write("images", f"validation/{name}", content, step)
        self._writer.flush()

    def on_train_end(self, logs: Any = None) -> None:
        self._writer.close()

    def _scalars(self, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._write("scalars", name, np.float32(value), self._step)

    def _write(self, plugin: str, tag: str, value: Any, step: int) -> None:
        import tensorflow as tf

        # What tf.summary.scalar and tf.summary.image write; those need a package more.
        kind = tf.compat.v1.SummaryMetadata(
            plugin_data=tf.compat.v1.SummaryMetadata.PluginData(plugin_name=plugin)
        )
        with self._writer.as_default(), tf.device("cpu:0"):
            tf.summary.write(tag, tf.constant(value), step=step, metadata=kind)


def _png(picture: np.ndarray) -> bytes:
    import PIL.Image

    memory = io.BytesIO()
    PIL.Image.fromarray(picture).save(memory, "PNG")
    return memory.getvalue()
