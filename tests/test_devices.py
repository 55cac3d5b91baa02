"""Two devices train what one does, from the same batches.

A backend counts its devices once, so each kind has a process of its own: this file, run
as a script.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from unet_zoo import cli, devices
from unet_zoo.devices import choosing, replicas
from unet_zoo.errors import InputError

# Normalised over the batch, and clipped at nearly every step: what goes wrong first.
# Adam, for which small gradients count as much as large ones, at the default's rate.
PLAIN = {
    "patch": 24,
    "batch": 4,
    "steps": 20,
    "validate_every": 10,
    "augmentation": {"elastic": 0.0, "scale": 0.0, "rotation": 0.0},
    "model_arguments": {
        "padding": "same",
        "filters": 3,
        "depth": 1,
        "dropout": 0.0,
        "normalization": "batch",
    },
    "optimizer": {"clip": 0.3, "learning_rate": 0.002},
}
# On JAX nothing depends on the number of devices.
ALL = {
    **PLAIN,
    "model_arguments": PLAIN["model_arguments"] | {"dropout": 0.3},
    "optimizer": {"clip": 0.3},
}


def work(kind: str, wanted: str, folder: Path) -> None:
    """Train on one device and on two, and write down what is compared."""
    on = devices.distribute(kind, wanted, batch=4)  # before anything computes
    from test_training import SMALL, data, history

    from unet_zoo import training

    devices.deterministic()
    results: dict[str, np.ndarray] = {}
    told: dict[str, list[float]] = {}

    def train(name: str, place: devices.Devices, plan: dict, stop: int = 0) -> None:
        losses = told.setdefault(name, [])

        def tell(now: training.Progress) -> None:
            losses.append(now.loss)
            if now.step == stop:
                raise KeyboardInterrupt

        run = folder / name
        given = data(held_out=2 if plan is PLAIN else 0)
        try:
            made = training.train(
                SMALL.replace(**plan), given, run, on=place, progress=tell, resume=True
            )
        except KeyboardInterrupt:
            return
        flat = [weights.ravel() for weights in made.network.get_weights()]
        results[name] = np.concatenate(flat)
        results[f"{name} losses"] = np.array(losses)
        rows = [[row["loss"], row.get("SEG", 0)] for row in history(run)]
        results[f"{name} history"] = np.array(rows)

    one = devices.Devices()
    plan = ALL if kind == "data-parallel" else PLAIN
    if on.processes > 1:
        # The second process hears of it from the first.
        train("two", on, plan, stop=8 if on.chief else 0)
    train("two", on, plan)
    if on.processes == 1:
        train("one", one, plan)
        train("resumed", on, plan, stop=8)
        train("resumed", one, plan)
    if kind == "mirrored":
        results |= overflow(on)
    results["words"] = np.array(on.words)
    np.savez(folder / f"{'results' if on.chief else 'other'}.npz", **results)


def overflow(on: devices.Devices) -> dict[str, np.ndarray]:
    """Train in float16 where the second of two replicas alone overflows."""
    import keras
    import tensorflow as tf

    with on.scope():
        network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        network.compile(
            devices.scaled(keras.optimizers.SGD(0.1), "mixed_float16"), loss="mse"
        )
        on.adapt(network)
    before = network.get_weights()[0]
    scales = []
    for values in ([[1.0], [np.inf]], [[1.0], [2.0]]):
        made = tf.data.Dataset.from_tensor_slices((values, [[1.0], [1.0]])).batch(2)
        network.fit(made, verbose=0)
        scales.append(float(network.optimizer.dynamic_scale.numpy()))
        moved = network.get_weights()[0] - before
        scales.append(float(abs(moved).max()))
    return {"scales": np.array(scales)}


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
        start(
            "data-parallel",
            "cpu:2",
            folders["data-parallel"],
            KERAS_BACKEND="jax",
            # What is trained twice is compiled once.
            JAX_COMPILATION_CACHE_DIR=str(folders["data-parallel"]),
            JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS="0",
        ),
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
    for name in ("one", "one losses", "one history"):
        found["multiworker"][name] = found["mirrored"][name]
    return found


@pytest.mark.parametrize("kind", ["mirrored", "multiworker", "data-parallel"])
def test_two_devices_train_what_one_does(results, kind):
    found = results[kind]
    assert str(found["words"]).startswith(f"2 replicas, {kind}: ")
    assert np.abs(found["one"]).max() > 0.1
    np.testing.assert_allclose(found["two"], found["one"], atol=1e-5)
    assert found["one history"].shape == (2, 2)
    np.testing.assert_allclose(found["two history"], found["one history"], atol=1e-5)
    assert len(found["two losses"]) == 20
    if kind != "multiworker":  # which was stopped, and tells means from there on
        np.testing.assert_allclose(found["two losses"], found["one losses"], atol=1e-5)


@pytest.mark.parametrize("kind", ["mirrored", "data-parallel"])
def test_a_training_on_two_is_resumed_on_one(results, kind):
    found = results[kind]
    np.testing.assert_allclose(found["resumed"], found["one"], atol=1e-5)
    assert len(found["resumed losses"]) == 20


def test_every_process_gets_the_same(results):
    chief, other = results["multiworker"], results["other"]
    np.testing.assert_array_equal(other["two"], chief["two"])
    np.testing.assert_array_equal(other["two losses"], chief["two losses"])
    assert str(other["words"]).endswith("process 2 of 2")


def test_an_overflow_in_one_replica_changes_no_weights(results):
    halved, unmoved, kept, moved = results["mirrored"]["scales"]
    assert (halved, kept) == (2.0**14, 2.0**14)
    assert unmoved == 0
    assert 0 < moved < np.inf


def test_the_scale_of_the_loss_is_in_the_checkpoint(tmp_path):
    from test_training import SMALL, data

    from unet_zoo import training

    def stop(now: training.Progress) -> None:
        if now.step == 2:
            raise KeyboardInterrupt

    plan = SMALL.replace(
        precision="mixed_float16", steps=4, augmentation=PLAIN["augmentation"]
    )
    for step, progress in ((2, stop), (4, None)):
        with contextlib.suppress(KeyboardInterrupt):
            training.train(
                plan, data(held_out=0), tmp_path, progress=progress, resume=True
            )
        with np.load(tmp_path / "checkpoint.npz") as archive:
            paths = json.loads(archive["facts"].tobytes())["paths"]
            values = {path: archive[f"{n:05d}"] for n, path in enumerate(paths)}
        assert values["loss_scale_optimizer/dynamic_scale"] == 2.0**15
        assert values["loss_scale_optimizer/step_counter"] == step


# === Refused ===


def test_a_batch_that_cannot_be_shared_names_the_next():
    on = devices.Devices()
    on.replicas = 4
    on.check_batch(8)
    with pytest.raises(InputError, match=r"`batch` is 6, which 4 .* Take batch=8"):
        on.check_batch(6)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (("mirorred",), "Did you mean 'mirrored'"),
        (("data-parallel",), "is of the backend jax, and this is tensorflow"),
        (("none", "cpu:2"), "with the distribution 'none' a training runs on one"),
        (("auto", "tpu"), "written as cpu, cpu:2, gpu or gpu:2. Received: 'tpu'"),
        (("auto", "cpu:0"), "Received: 'cpu:0'"),
        (("mirrored", "cpu"), "needs several devices, and there is one"),
        (("mirrored", "gpu:99"), "99 devices were asked for, and there are"),
        (("multiworker",), "needs the environment variable TF_CONFIG"),
    ],
)
def test_what_cannot_be_is_refused(asked, message, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(InputError, match=message):
        devices.distribute(*asked)


TWO = {"cluster": {"worker": ["localhost:2222", "localhost:2223"]}}
BEYOND = TWO | {"task": {"type": "worker", "index": 5}}


@pytest.mark.parametrize(
    ("backend", "wanted", "environment", "message"),
    [
        ("tensorflow", "gpu", {}, "A GPU was asked for, and there is none"),
        ("jax", "gpu", {}, "A GPU was asked for, and there is none"),
        ("torch", "gpu", {}, "A GPU was asked for, and there is none"),
        ("torch", None, {"WORLD_SIZE": "2"}, "one of 2 processes, as torchrun"),
        (
            "tensorflow",
            None,
            {"TF_CONFIG": json.dumps(TWO)},
            "TF_CONFIG lists: When `cluster_spec` is given, you must also specify",
        ),
        (
            "tensorflow",
            None,
            {"TF_CONFIG": json.dumps(BEYOND)},
            "TF_CONFIG lists: The `task_id` 5 exceeds",
        ),
        (
            "jax",
            None,
            {"KERAS_DISTRIBUTION_NUM_PROCESSES": "2"},
            "JAX cannot join the processes",
        ),
    ],
)
def test_what_is_not_there_is_refused(backend, wanted, environment, message):
    script = f"from unet_zoo import devices; devices.distribute('auto', {wanted!r})"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "KERAS_BACKEND": backend, "CUDA_VISIBLE_DEVICES": "-1"}
        | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    last = done.stderr.strip().splitlines()[-1]
    assert "InputError: " in last
    assert message in last


@pytest.mark.parametrize(
    ("there", "count", "batch", "found"),
    [
        (8, 0, 4, 4),
        (8, 0, 6, 6),
        (3, 0, 8, 2),
        (8, 2, 4, 2),
        (8, 0, 7, 7),
        (4, 0, 7, 1),
    ],
)
def test_auto_takes_the_most_devices_that_share_a_batch(there, count, batch, found):
    names = [f"gpu:{number}" for number in range(there)]
    assert choosing._chosen("auto", names, count, batch) == names[:found]
    if found not in (there, count):
        on = devices.Devices()
        on.replicas = there
        with pytest.raises(InputError, match="cannot share"):
            on.check_batch(batch)


def test_who_this_is_stands_in_the_environment(monkeypatch):
    monkeypatch.delenv("KERAS_DISTRIBUTION_NUM_PROCESSES", raising=False)

    def given(cluster: dict, kind: str, index: int) -> tuple[int, int] | None:
        config = {"cluster": cluster, "task": {"type": kind, "index": index}}
        monkeypatch.setenv("TF_CONFIG", json.dumps(config))
        return replicas.workers()

    assert given({"worker": ["a:1"]}, "worker", 0) is None
    assert not devices.several_hosts()
    assert given({"worker": ["a:1", "b:1"]}, "worker", 1) == (2, 1)
    assert given({"chief": ["a:1"], "worker": ["b:1"]}, "worker", 0) == (2, 1)
    assert given({"chief": ["a:1"], "worker": ["b:1"]}, "chief", 0) == (2, 0)
    assert devices.several_hosts()
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(InputError, match="TF_CONFIG cannot be read"):
        devices.several_hosts()


def test_the_command_line_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    train = ["train", "unet", "--dataset", "blobs", "--distribute"]
    for asked in ("data-parallel", "multiworker"):
        done = CliRunner().invoke(cli.main, [*train, asked])
        assert done.exit_code == 2
        assert f"Error: '{asked}' " in done.stderr
    # Without the others, TensorFlow waits and says nothing.
    monkeypatch.setenv("TF_CONFIG", json.dumps(BEYOND))
    done = CliRunner().invoke(cli.main, [*train, "auto"])
    assert done.exit_code == 2
    assert "waiting for the others" in done.stderr
    assert list(tmp_path.iterdir()) == []


if __name__ == "__main__":
    work(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
