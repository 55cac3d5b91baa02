"""A training that was stopped, however, ends in the weights of one that was not."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import keras
import numpy as np
import pytest
from test_training import SMALL, data, history

from unet_zoo import checkpoints, segmenter, training
from unet_zoo.errors import InputError

PLAN = SMALL.replace(steps=12, validate_every=4)

# The same in a process of its own, which can be killed. A checkpoint after each step.
PROGRAM = """
import sys
import keras
from unet_zoo import devices, training
from test_resume import PLAN
from test_training import data
devices.deterministic()
print("ready", flush=True)
training.train(
    PLAN.replace(steps=40, validate_every=10), data(), sys.argv[1], resume=True,
    checkpoint_minutes=1e-9, progress=lambda now: print(now.step, flush=True),
)
"""


# Images without end, of one split: whoever waits for the last one waits for ever.
ENDLESS = """
import itertools, sys
from unet_zoo import training
from unet_zoo.catalog.dataset import Lazy
from test_resume import PLAN
from test_training import blob, data
folder, split = sys.argv[1:]
given = data()
def read():
    for number in itertools.count():
        if number == 3:
            print("read", flush=True)
        yield blob(number)
given.readers[split] = lambda: Lazy(10**9, read)
training.train(PLAN, given, folder, cache_memory=0)
"""

# SIGTERM in the validations at steps 4 and 12, the training gone on with after each.
STOPPED = """
import pathlib, signal, sys
from unet_zoo import checkpoints, training
from unet_zoo.catalog.dataset import Lazy
from test_resume import PLAN
from test_training import data
folder, given, now, at = pathlib.Path(sys.argv[1]), data(), [-1], [0]
def read():
    if now[0] == at[0]:
        at[0] = 0
        signal.raise_signal(signal.SIGTERM)
    yield from data().readers["validation"]()
given.readers["validation"] = lambda: Lazy(2, read)
def train():
    training.train(
        PLAN, given, folder, resume=True, cache_memory=0,
        progress=lambda progress: now.__setitem__(0, progress.step),
    )
for at[0] in (4, 12):
    try:
        train()
    except training.Interrupted as told:
        facts = checkpoints.read_facts(folder / "checkpoint.npz")
        steps = [row["step"] for row in facts["judge"]["history"]]
        print(signal.Signals(told.signal).name, facts["step"], steps)
print(signal.getsignal(signal.SIGTERM).name)
train()
"""


class Stop:
    """Presses Ctrl-C after each of some steps."""

    def __init__(self, *after: int) -> None:
        self.after = after

    def __call__(self, progress: training.Progress) -> None:
        if progress.step in self.after:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    return folder, training.train(PLAN, data(), folder)


def test_resumed_it_ends_as_if_never_stopped(whole, tmp_path):
    folder, expected = whole
    stopped = tmp_path / "run"
    for step in (3, 8, 9):
        with pytest.raises(KeyboardInterrupt):
            training.train(PLAN, data(), stopped, progress=Stop(step), resume=True)
        assert checkpoints.read_facts(stopped / "checkpoint.npz")["step"] == step
    result = training.train(PLAN, data(), stopped, resume=True)
    pairs = zip(
        result.network.get_weights(), expected.network.get_weights(), strict=True
    )
    for found, right in pairs:
        np.testing.assert_allclose(found, right, atol=1e-6)
    # Stopped before the first validation it makes one at once, but not in the history
    # of what goes on.
    rows = history(stopped)
    assert [row["step"] for row in rows] == [4, 8, 12]
    for row, other in zip(rows, history(folder), strict=True):
        assert row["loss"] == pytest.approx(other["loss"], rel=1e-4)
    assert rows[-1]["seconds"] > rows[0]["seconds"]


def test_a_finished_training_resumed_stays_what_it_is(whole):
    folder, expected = whole
    again = training.train(PLAN, data(), folder, resume=True)
    for found, right in zip(
        again.network.get_weights(), expected.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(found, right)


def test_another_training_is_not_resumed(whole):
    folder, _ = whole
    before = {path: path.read_bytes() for path in folder.glob("*.*")}
    other = PLAN.replace(batch=3, optimizer={"learning_rate": 0.5})
    says = r"batch is 3 here and was 2; recipe.optimizer.learning_rate is 0.5 here and "
    with pytest.raises(InputError, match=says):
        training.train(other, data(), folder, resume=True)
    with pytest.raises(InputError, match=r"dataset\.validation is 1 here and was 2"):
        training.train(PLAN, data(held_out=1), folder, resume=True)
    assert {path: path.read_bytes() for path in folder.glob("*.*")} == before


def test_what_is_no_checkpoint_is_refused(whole, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="There is no checkpoint"):
        training.train(PLAN, data(), folder, resume=True)
    content = bytearray((whole[0] / "checkpoint.npz").read_bytes())
    half = content[: len(content) // 2]
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    for damaged in (b"", b"text", half, flipped):
        (folder / "checkpoint.npz").write_bytes(damaged)
        with pytest.raises(InputError, match="is not a checkpoint, or is damaged"):
            training.train(PLAN, data(), folder, resume=True)


def test_only_the_same_variables_are_assigned(tmp_path):
    path = tmp_path / "checkpoint.npz"
    variables = [keras.Variable([1.0, 2.0], name="a"), keras.Variable(3.0, name="b")]
    checkpoints.write(path, variables, {"step": 1})
    swapped = [keras.Variable(0.0, name="b"), keras.Variable([0.0, 0.0], name="a")]
    with pytest.raises(InputError, match="b here, a there"):
        checkpoints.assign(swapped, path)
    with pytest.raises(InputError, match="1 variables here, 2 there"):
        checkpoints.assign(variables[:1], path)
    longer = [keras.Variable([0.0] * 3, name="a"), variables[1]]
    with pytest.raises(InputError, match=r"shape \(3,\) here and \(2,\) there"):
        checkpoints.assign(longer, path)
    assert longer[0].numpy().tolist() == [0.0] * 3


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path):
    path = tmp_path / "checkpoint.npz"
    checkpoints.write(path, [keras.Variable(1.0, name="a")], {"step": 1})
    before = path.read_bytes()
    # No file may grow beyond 64 bytes, as if the disk were full.
    limit = f"""
import resource, signal, keras
from unet_zoo import checkpoints
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
checkpoints.write({str(path)!r}, [keras.Variable([1.0] * 999, name="a")], {{}})
"""
    done = subprocess.run(
        [sys.executable, "-c", limit], check=False, capture_output=True, text=True
    )
    assert "could not be written: File too large; the one before it is whole." in (
        done.stderr
    )
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def start(folder: Path, program: str = PROGRAM, *words: str) -> subprocess.Popen:
    settings = os.environ | {
        "PYTHONPATH": str(Path(__file__).parent),
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.Popen(
        [sys.executable, "-c", program, str(folder), *words],
        env=settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_killed_at_random_moments_it_ends_in_the_same_bytes(tmp_path):
    whole = start(tmp_path / "whole")
    _, errors = whole.communicate()
    assert whole.returncode == 0, errors
    dice = random.Random(0)
    for _ in range(2):
        killed = start(tmp_path / "killed")
        assert killed.stdout is not None
        killed.stdout.readline()
        first = killed.stdout.readline()
        time.sleep(dice.uniform(0, 0.3))
        killed.kill()
        killed.communicate()
        assert first
        # No half of anything under a name that is read.
        facts = checkpoints.read_facts(tmp_path / "killed" / "checkpoint.npz")
        assert facts["step"] >= int(first) - 1
    last = start(tmp_path / "killed")
    _, errors = last.communicate()
    assert last.returncode == 0, errors
    networks = [
        segmenter.load(tmp_path / name / "weights.h5") for name in ("whole", "killed")
    ]
    for found, right in zip(
        *(each.network.get_weights() for each in networks), strict=True
    ):
        np.testing.assert_array_equal(found, right)
    assert [row["loss"] for row in history(tmp_path / "whole")] == [
        row["loss"] for row in history(tmp_path / "killed")
    ]


def test_sigterm_ends_it_with_a_checkpoint(tmp_path):
    process = start(tmp_path / "run")
    assert process.stdout is not None
    while process.stdout.readline().strip() != "2":
        pass
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode != 0
    step = checkpoints.read_facts(tmp_path / "run" / "checkpoint.npz")["step"]
    assert 2 <= step < 40


def test_sigterm_waits_neither_for_encoding_nor_for_a_validation(tmp_path):
    splits = ("train", "validation")
    started = {each: start(tmp_path / each, ENDLESS, each) for each in splits}
    try:
        for process in started.values():
            assert process.stdout is not None
            assert process.stdout.readline().strip() == "read"
            process.send_signal(signal.SIGTERM)
        for process in started.values():
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 1
            assert errors.rstrip().endswith("Interrupted")
    finally:
        for process in started.values():
            process.kill()
            process.communicate()
    # What was encoded so far lay beside the folder of the training.
    assert [each.name for each in tmp_path.iterdir()] == ["validation"]
    checkpoint = tmp_path / "validation" / "checkpoint.npz"
    assert checkpoints.read_facts(checkpoint)["step"] == 4


def test_a_validation_that_sigterm_left_out_comes_first(whole, tmp_path):
    folder, expected = whole
    stopped = tmp_path / "run"
    process = start(stopped, STOPPED)
    said, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert said.splitlines() == ["SIGTERM 4 []", "SIGTERM 12 [4, 8]", "SIG_DFL"]
    result = segmenter.load(stopped)
    for found, right in zip(
        result.network.get_weights(), expected.network.get_weights(), strict=True
    ):
        np.testing.assert_allclose(found, right, atol=1e-6)
    for row, other in zip(history(stopped), history(folder), strict=True):
        assert row["SEG"] == pytest.approx(other["SEG"], abs=1e-3)
        assert row["step"] == other["step"]
    assert (stopped / "curve.png").exists()
