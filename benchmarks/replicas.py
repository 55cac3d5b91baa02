"""Train on two devices and on one, and print how far apart the weights end.

    python benchmarks/replicas.py                      # TensorFlow, mirrored
    python benchmarks/replicas.py --processes          # TensorFlow, two processes
    KERAS_BACKEND=jax python benchmarks/replicas.py    # JAX, data-parallel
    KERAS_BACKEND=jax python benchmarks/replicas.py --processes
    python benchmarks/replicas.py --smooth --seeds 4

Two logical CPU devices, or two processes of one, that find each other as several
machines do; the same batches, twenty steps, deterministic, no dropout. With --smooth
the network has GELU and mean pooling in place of ReLU and max-pooling: where those
change sides, a difference that is rounding becomes a larger one.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np

from unet_zoo import catalog, devices, recipe, training

STEPS = 20
PLAN = recipe.named("default").replace(
    scale=1.0, patch=32, batch=4, steps=STEPS, validate_every=STEPS
)
# Normalisation, optimizer, learning rate, steps that warm it up.
ROWS = (
    ("none", "adamw", 0.01, 0),
    ("batch", "sgd", 0.02, 0),
    ("batch", "adamw", 0.002, 0),
    ("batch", "adamw", 0.01, 0),
    ("batch", "muon", 0.005, 0),
    ("batch", "muon", 0.005, 100),
)
JAX = keras.backend.backend() == "jax"


def train(
    row: tuple[str, str, float, int], folder: Path, on: devices.Devices, seed: int
) -> tuple[np.ndarray, float]:
    """Return the weights that a row of the table ends with, and the last loss."""
    normalization, name, rate, warmup = row
    data = catalog.open_dataset("blobs", config="easy", validation=0)
    plan = PLAN.replace(
        seed=seed,
        model_arguments={
            **PLAN.model_arguments,
            "filters": 4,
            "depth": 2,
            "dropout": 0.0,
            "normalization": normalization,
        },
        optimizer={
            "name": name,
            "learning_rate": rate,
            "warmup": warmup,
            "momentum": 0.9 if name == "sgd" else PLAN.optimizer.momentum,
        },
    )
    made = training.train(plan, data, folder, on=on)
    flat = np.concatenate([each.ravel() for each in made.network.get_weights()])
    return flat, float(made.facts["validation"]["loss"])


def smooth() -> None:
    """Build networks without kinks from here on."""
    layers = keras.layers
    plain = layers.Activation

    def activation(kind: str, **words: Any) -> keras.Layer:
        return plain("gelu" if kind == "relu" else kind, **words)

    layers.Activation = activation
    layers.MaxPooling2D = layers.AveragePooling2D


def started(folder: Path) -> list[subprocess.Popen[bytes]]:
    """Start this very command as two processes that train together into `folder`."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(f"127.0.0.1:{server.getsockname()[1]}")
    found = []
    for index in range(2):
        task = {"type": "worker", "index": index}
        cluster = {"cluster": {"worker": ports}, "task": task}
        tells = {"TF_CONFIG": json.dumps(cluster)}
        if JAX:
            tells = {
                "KERAS_DISTRIBUTION_JOB_ADDRESSES": ",".join(ports),
                "KERAS_DISTRIBUTION_NUM_PROCESSES": "2",
                "KERAS_DISTRIBUTION_PROCESS_ID": str(index),
            }
        words = [sys.executable, *sys.argv, "--work", str(folder)]
        found.append(subprocess.Popen(words, env={**os.environ, **tells}))
    return found


def wait(workers: list[subprocess.Popen[bytes]]) -> None:
    """Wait for all processes; where one fails, the others wait for it in vain."""
    while any(worker.poll() is None for worker in workers):
        if any(worker.poll() for worker in workers):
            break
        time.sleep(0.5)
    for worker in workers:
        worker.kill()
    if any(worker.wait() for worker in workers):
        sys.exit("A process failed.")


def main() -> None:
    """Print the table of this backend."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--processes", action="store_true", help="instead of devices")
    parser.add_argument("--seeds", type=int, default=1, help="0, 1, 2, ...")
    parser.add_argument("--smooth", action="store_true", help="without kinks")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.smooth:
        smooth()
    kind = "data-parallel" if JAX else "mirrored"
    if given.work or given.processes:
        kind = kind if JAX else "multiworker"
    on = devices.Devices()
    if given.work or not given.processes:
        wanted = "cpu" if given.work else "cpu:2"
        on = devices.distribute(kind, wanted, batch=PLAN.batch)
    devices.deterministic()
    if on.replicas != 2 and (given.work or not given.processes):
        sys.exit(f"{on.replicas} replicas where there should be two.")
    if given.work:
        for number, seed in itertools.product(range(len(ROWS)), range(given.seeds)):
            folder = given.work / f"{number}-{seed}"
            weights, loss = train(ROWS[number], folder, on, seed)
            if on.chief:
                np.savez(f"{folder}.npz", weights=weights, loss=loss)
        return
    print(f"{kind}, {'processes' if given.processes else 'devices'}, {STEPS} steps\n")
    seeds = " | ".join(f"weights, seed {seed}" for seed in range(given.seeds))
    print(f"| normalisation | optimizer | rate | warm-up | {seeds} | loss |")
    print("|---|---|---|---|" + "---|" * (given.seeds + 1), flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.processes:
            wait(started(folder))
        for number, row in enumerate(ROWS):
            apart, losses = [], []
            for seed in range(given.seeds):
                name = f"{number}-{seed}"
                one = train(row, folder / f"one-{name}", devices.Devices(), seed)
                if given.processes:
                    with np.load(folder / f"{name}.npz") as told:
                        two = told["weights"], float(told["loss"])
                else:
                    two = train(row, folder / f"two-{name}", on, seed)
                apart.append(f"{np.abs(one[0] - two[0]).max():.1e}")
                losses.append(abs(one[1] - two[1]))
            cells = [*map(str, row), *apart, f"{max(losses):.1e}"]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
