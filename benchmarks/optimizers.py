"""Train by AdamW and by Muon for the same number of steps; score images never seen.

    python benchmarks/optimizers.py --manual-dir DATA
    python benchmarks/optimizers.py --manual-dir DATA --only grains hela --seeds 3

The default recipe but for the optimizer and its learning rate, on drawn grains of which
five images are for training, on blobs, HeLa (taught on the first sequence, measured on
the second) and membranes. Any variant can be the --model.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path

import auto

OPTIMIZERS = {"adamw": (0.002, 0.9), "muon": (0.005, 0.95)}  # rate, momentum
# How a dataset is named on the command line, and what is measured of it.
DATASETS = {
    "grains": (["--validation", 0.2], "SEG"),  # one of the five
    "blobs": (["--dataset", "blobs", "--config", "medium"], "SEG"),
    "hela": (["--dataset", "hela"], "SEG"),
    "membrane": (["--dataset", "membrane"], "V-Rand"),
}


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
        words, metric = DATASETS[name]
        told = []
        for optimizer, (rate, momentum) in OPTIMIZERS.items():
            found = []
            for seed in range(given.seeds):
                with tempfile.TemporaryDirectory() as scratch:
                    run, file = Path(scratch) / "run", Path(scratch) / "found.json"
                    data = list(words)
                    if name == "grains":
                        auto.draw(Path(scratch) / name, 5, 8, 384)
                        data += ["--dataset", Path(scratch) / name]
                    elif given.manual_dir and name != "blobs":
                        data += ["--manual-dir", given.manual_dir]
                    plan = ["--steps", given.steps, "--seed", seed, "--output", run]
                    plan += ["--validate-every", given.steps]
                    plan += ["--set", f"optimizer.name={optimizer}"]
                    plan += ["--set", f"optimizer.learning_rate={rate}"]
                    plan += ["--set", f"optimizer.momentum={momentum}"]
                    auto.cli("train", given.model, *data, *plan)
                    if "--validation" in data:
                        data = data[2:]
                    auto.cli("evaluate", run, *data, "--output", file)
                    scores = json.loads(file.read_text())["metrics"]
                    found.append(float(scores[metric]["value"]))
            told.append(f"{statistics.fmean(found):.3f}")
            if len(found) > 1:
                told[-1] += f" +- {statistics.stdev(found):.3f}"
        table.append(f"| {name} | {metric} | {' | '.join(told)} |")
    print("\n".join(table))


if __name__ == "__main__":
    main()
