"""Train on two devices and on one, and print how far apart the weights end.

    python benchmarks/replicas.py                      # TensorFlow, mirrored
    KERAS_BACKEND=jax python benchmarks/replicas.py    # JAX, data-parallel

Two logical CPU devices, the same batches, twenty steps, deterministic, no dropout.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import keras
import numpy as np

from unet_zoo import catalog, devices, recipe, training

STEPS = 20
PLAN = recipe.named("default").replace(
    scale=1.0, patch=32, batch=4, steps=STEPS, validate_every=STEPS
)
# Normalisation, optimizer, learning rate.
ROWS = (
    ("none", "adamw", 0.01),
    ("batch", "sgd", 0.02),
    ("batch", "adamw", 0.002),
    ("batch", "adamw", 0.01),
)


def main() -> None:
    """Print the table of this backend."""
    kind = "data-parallel" if keras.backend.backend() == "jax" else "mirrored"
    two = devices.distribute(kind, "cpu:2", batch=PLAN.batch)
    devices.deterministic()
    data = catalog.open_dataset("blobs", config="easy", validation=0)
    print(f"{two.words}, {STEPS} steps\n")
    print(
        "| normalisation | optimizer | rate | weights | loss |\n|---|---|---|---|---|"
    )
    for normalization, name, rate in ROWS:
        plan = PLAN.replace(
            model_arguments={
                **PLAN.model_arguments,
                "filters": 4,
                "depth": 2,
                "dropout": 0.0,
                "normalization": normalization,
            },
            optimizer={"name": name, "learning_rate": rate, "warmup": 0},
        )
        weights, losses = [], []
        for place in (two, devices.Devices()):
            with tempfile.TemporaryDirectory() as scratch:
                folder = Path(scratch) / "run"
                made = training.train(plan, data, folder, on=place)
                flat = [each.ravel() for each in made.network.get_weights()]
                weights.append(np.concatenate(flat))
                losses.append(made.facts["validation"]["loss"])
        away = np.abs(weights[0] - weights[1]).max()
        print(
            f"| {normalization} | {name} | {rate} | {away:.1e} | "
            f"{abs(losses[0] - losses[1]):.1e} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
