"""Callbacks see one training and can end it; TensorBoard's files hold what it shows."""

from __future__ import annotations

import io

import keras
import numpy as np
import PIL.Image
import pytest
import tensorflow as tf
from test_training import SMALL, data, history

from unet_zoo import segmenter, tracking, training


class Notes(keras.callbacks.Callback):
    """Notes all calls; stops after a step."""

    def __init__(self, last: int = -1) -> None:
        super().__init__()
        self.last, self.seen, self.steps = last, [], 0
        self.logs, self.pictures = [], []

    def on_train_begin(self, logs=None):
        self.seen.append("begin")

    def on_epoch_begin(self, epoch, logs=None):
        self.seen.append(f"epoch {epoch}")

    def on_train_batch_end(self, batch, logs=None):
        self.seen.append(batch)
        self.steps += 1
        assert np.isfinite(logs["loss"])
        if self.steps == self.last:
            self.model.stop_training = True

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(f"validated {epoch}")
        self.logs.append(logs)

    def on_samples(self, step, pictures):
        self.pictures.append((step, pictures))

    def on_train_end(self, logs=None):
        self.seen.append("end")


@pytest.fixture(scope="module")
def tracked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tracked") / "run"
    notes = Notes(last=5)
    board = tracking.TensorBoard(folder / "tensorboard", every=2)
    # Checkpoints after every step cut `fit` into pieces; callbacks do not see them.
    training.train(
        SMALL.replace(steps=9),
        data(),
        folder,
        callbacks=[notes, board],
        checkpoint_minutes=1e-9,
    )
    return folder, notes


def test_callbacks_see_one_training_and_can_end_it(tracked):
    folder, notes = tracked
    assert notes.seen == [
        "begin", "epoch 0", 0, 1, 2, "validated 0", "epoch 1", 0, 1, "validated 1",
        "end",
    ]  # fmt: skip
    rows = history(folder)
    assert [row["step"] for row in rows] == [3, 5]
    for row, logs in zip(rows, notes.logs, strict=True):
        assert logs["loss"] == pytest.approx(row["loss"])
        assert logs["val_Dice"] == pytest.approx(row["Dice"])
    assert [step for step, _ in notes.pictures] == [3, 5]
    assert list(notes.pictures[0][1]) == ["seq/10", "seq/11"]
    # Ended early it is whole all the same.
    assert segmenter.load(folder).facts["validation"]["step"] in (3, 5)
    assert "finished" in (folder / "report.html").read_text()


def test_tensorboard_has_scalars_images_and_the_graph(tracked):
    folder, _ = tracked
    (file,) = (folder / "tensorboard").iterdir()
    scalars, pictures, graphs = {}, {}, 0
    for record in tf.data.TFRecordDataset(str(file)):
        event = tf.compat.v1.Event.FromString(record.numpy())
        graphs += bool(event.graph_def)
        for value in event.summary.value:
            made = tf.make_ndarray(value.tensor)
            kind = value.metadata.plugin_data.plugin_name
            if kind == "scalars":
                scalars.setdefault(value.tag, {})[event.step] = float(made)
            elif kind == "images":
                pictures[value.tag, event.step] = made
    assert graphs == 1
    assert list(scalars["train/loss"]) == [2, 4]
    assert list(scalars["train/rate"]) == [2, 4]
    for row in history(folder):
        assert scalars["validation/SEG"][row["step"]] == pytest.approx(row["SEG"])
    width, height, png = pictures["validation/seq/10", 3]
    with PIL.Image.open(io.BytesIO(png)) as picture:
        assert picture.size == (int(width), int(height)) == (96, 48)


def test_a_deadline_ends_it_in_time():
    layer = keras.Sequential([keras.layers.Dense(1)])
    layer.stop_training = False
    deadline = tracking.Deadline(1000, 10)
    deadline.set_model(layer)
    deadline.on_train_batch_end(0)
    assert not layer.stop_training
    assert 980 < deadline.left < 990
    late = tracking.Deadline(5, 10)
    late.set_model(layer)
    late.on_train_batch_end(0)
    assert layer.stop_training
