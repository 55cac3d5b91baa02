"""Train on two devices and on one, and print how far apart the weights end.

    python benchmarks/replicas.py                      # TensorFlow, mirrored
    python benchmarks/replicas.py --processes          # TensorFlow, two processes
    KERAS_BACKEND=jax python benchmarks/replicas.py    # JAX, data-parallel
    KERAS_BACKEND=jax python benchmarks/replicas.py --processes

Two logical CPU devices, or two processes of one, that find each other as several
machines do; the same batches, twenty steps, deterministic, no dropout.
"""

from __future__ import annotations

import argparse
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
) -> Any:
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
    return flat, made.facts["validation"]["loss"]


def started(folder: Path, seed: int) -> list[subprocess.Popen[bytes]]:
    """Start this file as two processes that train together into `folder`."""
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
        words = [sys.executable, __file__, "--work", str(folder), "--seed", str(seed)]
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
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    kind = "data-parallel" if JAX else "mirrored"
    if given.work or given.processes:
        kind = kind if JAX else "multiworker"
    on = devices.Devices()
    if not given.processes:
        wanted = "cpu" if given.work else "cpu:2"
        on = devices.distribute(kind, wanted, batch=PLAN.batch)
    devices.deterministic()
    if given.work:
        for number, row in enumerate(ROWS):
            weights, loss = train(row, given.work / str(number), on, given.seed)
            if on.chief:
                np.savez(given.work / f"{number}.npz", weights=weights, loss=loss)
        return
    print(f"{kind}, {'processes' if given.processes else 'devices'}, {STEPS} steps\n")
    print("| normalisation | optimizer | rate | warm-up | weights | loss |")
    print("|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        if given.processes:
            wait(started(folder, given.seed))
        for number, row in enumerate(ROWS):
            alone = folder / f"one-{number}"
            one, one_loss = train(row, alone, devices.Devices(), given.seed)
            if given.processes:
                with np.load(folder / f"{number}.npz") as told:
                    two, two_loss = told["weights"], float(told["loss"])
            else:
                both = folder / f"two-{number}"
                two, two_loss = train(row, both, on, given.seed)
            print(
                "| {} | {} | {} | {} |".format(*row),
                f"{np.abs(one - two).max():.1e} | {abs(one_loss - two_loss):.1e} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
