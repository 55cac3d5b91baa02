"""Two devices train what one does, from the same batches.

A backend counts its devices once, so each kind has a process of its own: this file, run
as a script.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from unet_zoo import devices
from unet_zoo.errors import InputError

# Normalised over the batch, and clipped at nearly every step: what goes wrong first.
CHANGES = {
    "model_arguments": {
        "padding": "same",
        "filters": 3,
        "depth": 1,
        "dropout": 0.0,
        "normalization": "batch",
    },
    "patch": 24,
    "batch": 4,
    "steps": 20,
    "validate_every": 10,
    "optimizer": {"clip": 0.3},
}


def work(kind: str, wanted: str | None, folder: Path) -> None:
    """Train on one device and on two, and write down what is compared."""
    on = devices.distribute(kind, wanted, batch=4)  # before anything computes
    from test_training import SMALL, data

    from unet_zoo import training

    devices.deterministic()
    results: dict[str, np.ndarray] = {}

    def train(name: str, place: devices.Devices, run: str, **options) -> None:
        losses: list[float] = []
        stop = options.pop("stop", None)

        def tell(now: training.Progress) -> None:
            losses.append(now.loss)
            if now.step == stop:
                raise KeyboardInterrupt

        plan = SMALL.replace(**CHANGES).replace(**options)
        try:
            made = training.train(
                plan, data(), folder / run, on=place, progress=tell, resume=True
            )
        except KeyboardInterrupt:
            return
        flat = [weights.ravel() for weights in made.network.get_weights()]
        results[name] = np.concatenate(flat)
        results[f"{name} losses"] = np.array(losses)
        results[f"{name} best"] = np.array(made.facts["validation"]["SEG"])

    train("two", on, "two")
    if on.processes == 1:
        one = devices.Devices()
        train("one", one, "one")
        train("", on, "resumed", stop=8)
        train("resumed", one, "resumed")
    results["words"] = np.array(on.words)
    name = "results" if on.chief else "other"
    np.savez(folder / f"{name}.npz", **results)


def start(kind: str, wanted: str, folder: Path, **environment: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, __file__, kind, wanted, str(folder)],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[str, dict[str, np.ndarray]]:
    """Return what every kind wrote down."""
    folders = {
        kind: tmp_path_factory.mktemp(kind)
        for kind in ("mirrored", "multiworker", "data-parallel")
    }
    workers = [f"127.0.0.1:{port}" for port in free_ports(2)]
    started = [
        start("mirrored", "cpu:2", folders["mirrored"], KERAS_BACKEND="tensorflow"),
        start("data-parallel", "cpu:2", folders["data-parallel"], KERAS_BACKEND="jax"),
    ]
    for index in range(2):
        task = {"type": "worker", "index": index}
        config = json.dumps({"cluster": {"worker": workers}, "task": task})
        started.append(
            start(
                "multiworker",
                "cpu",
                folders["multiworker"],
                KERAS_BACKEND="tensorflow",
                TF_CONFIG=config,
            )
        )
    try:
        for process in started:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said[-3000:]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    found = {}
    for kind, folder in folders.items():
        with np.load(folder / "results.npz") as archive:
            found[kind] = dict(archive)
    with np.load(folders["multiworker"] / "other.npz") as archive:
        found["other"] = dict(archive)
    # A process of TensorFlow alone is what two of them are compared with.
    for name in ("one", "one losses", "one best"):
        found["multiworker"][name] = found["mirrored"][name]
    return found


@pytest.mark.parametrize("kind", ["mirrored", "multiworker", "data-parallel"])
def test_two_devices_train_what_one_does(results, kind):
    found = results[kind]
    assert str(found["words"]).startswith(f"2 replicas, {kind}: ")
    assert np.abs(found["one"]).max() > 0.1
    np.testing.assert_allclose(found["two"], found["one"], atol=1e-5)
    assert len(found["one losses"]) == 20
    np.testing.assert_allclose(found["two losses"], found["one losses"], atol=1e-5)
    assert found["two best"] == pytest.approx(found["one best"], abs=1e-5)


@pytest.mark.parametrize("kind", ["mirrored", "data-parallel"])
def test_a_training_on_two_is_resumed_on_one(results, kind):
    found = results[kind]
    np.testing.assert_allclose(found["resumed"], found["one"], atol=1e-5)
    assert len(found["resumed losses"]) == 12


def test_every_process_gets_the_same(results):
    chief, other = results["multiworker"], results["other"]
    np.testing.assert_array_equal(other["two"], chief["two"])
    np.testing.assert_array_equal(other["two losses"], chief["two losses"])
    assert str(other["words"]).endswith("process 2 of 2")


def test_a_batch_that_cannot_be_shared_names_the_next():
    on = devices.Devices()
    on.replicas = 4
    on.check_batch(8)
    with pytest.raises(InputError, match=r"`batch` is 6, which 4 .* Take batch=8"):
        on.check_batch(6)


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
