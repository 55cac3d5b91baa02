"""Train by AdamW and by Muon for the same number of steps; score images never seen.

    python benchmarks/optimizers.py --manual-dir DATA
    python benchmarks/optimizers.py --manual-dir DATA --only grains hela --seeds 3

The default recipe but for the optimizer and its learning rate, on drawn grains of which
five images are for training, on blobs, HeLa (taught on the first sequence, measured on
the second) and membranes. Any variant can be the --model.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import auto

OPTIMIZERS = {"adamw": (0.002, 0.9), "muon": (0.005, 0.95)}  # rate, momentum
# How a dataset is named on the command line, and what is measured of it.
DATASETS = {
    "grains": ([], "SEG"),  # drawn into a folder
    "blobs": (["--dataset", "blobs", "--config", "medium"], "SEG"),
    "hela": (["--dataset", "hela"], "SEG"),
    "membrane": (["--dataset", "membrane"], "V-Rand"),
}


def trained(given: argparse.Namespace, name: str, optimizer: str, seed: int) -> float:
    """Return what a training reaches on the test images."""
    rate, momentum = OPTIMIZERS[optimizer]
    words, metric = DATASETS[name]
    with tempfile.TemporaryDirectory() as scratch:
        run, data, held_out = Path(scratch) / "run", list(words), []
        if name == "grains":
            auto.draw(Path(scratch) / name, 5, 8, 384)
            data += ["--dataset", Path(scratch) / name]
            held_out = ["--validation", 0.2]  # one of the five
        elif given.manual_dir and name != "blobs":
            data += ["--manual-dir", given.manual_dir]
        plan = ["--steps", given.steps, "--validate-every", given.steps, "--seed", seed]
        plan += ["--set", f"optimizer.name={optimizer}"]
        plan += ["--set", f"optimizer.learning_rate={rate}"]
        plan += ["--set", f"optimizer.momentum={momentum}"]
        auto.cli("train", given.model, *data, *held_out, *plan, "--output", run)
        return auto.score(run, *data, metric=metric)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--manual-dir")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--model", default="unet")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    table = [f"| dataset | measured | {' | '.join(OPTIMIZERS)} |"]
    table.append("|---|---|" + "---|" * len(OPTIMIZERS))
    for name in given.only:
        told = []
        for optimizer in OPTIMIZERS:
            found = [trained(given, name, optimizer, n) for n in range(given.seeds)]
            told.append(auto.spread(found))
        table.append(f"| {name} | {DATASETS[name][1]} | {' | '.join(told)} |")
    print("\n".join(table))


if __name__ == "__main__":
    main()
