"""Train one recipe on TensorFlow, JAX and PyTorch with several seeds, and compare.

    python benchmarks/seeds.py
    python benchmarks/seeds.py --steps 2000 --seeds 5 --config medium

A small U-Net on blobs, taught briefly as that of the zoo is. For every backend and seed
a process runs `unet-zoo train`, and one `unet-zoo evaluate` on the test images. Printed
is the score of each, and of each backend the mean and the standard deviation over its
seeds. Exit code 1 where the means of two backends are further apart than twice the
standard error of their difference.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import combinations
from pathlib import Path

RECIPE = (
    Path(__file__).resolve().parent.parent / "zoo" / "unet-blobs-large" / "recipe.toml"
)
BACKENDS = ("tensorflow", "jax", "torch")


def cli(backend: str, *words: object) -> None:
    code = "import sys; from unet_zoo.cli import main; main(sys.argv[1:])"
    subprocess.run(
        [sys.executable, "-c", code, *map(str, words)],
        check=True,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "KERAS_BACKEND": backend},
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--config", default="mixed", help="of the blobs")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--filters", type=int, default=8)
    parser.add_argument("--patch", type=int, default=128)
    given = parser.parse_args()
    data = ["--dataset", "blobs", "--config", given.config]
    found: dict[str, dict[str, list[float]]] = {"SEG": {}, "pixel accuracy": {}}
    with tempfile.TemporaryDirectory() as scratch:
        for seed in range(given.seeds):
            for backend in BACKENDS:
                run = Path(scratch) / f"{backend}-{seed}"
                words = ["--seed", seed, "--steps", given.steps, "--patch", given.patch]
                words += ["--filters", given.filters, "--depth", 3, "--tta", 1]
                words += ["--recipe", RECIPE, "--learning-rate", 0.003]
                words += ["--set", "optimizer.warmup=50"]
                words += ["--set", "optimizer.average=0.98", "--output", run]
                words += ["--validate-every", given.steps, "--precision", "float32"]
                cli(backend, "train", "unet", *data, *words)
                file = run / "metrics.json"
                cli(backend, "evaluate", run, *data, "--output", file)
                metrics = json.loads(file.read_text())["metrics"]
                for name, scores in found.items():
                    scores.setdefault(backend, []).append(metrics[name]["value"])
                print(f"{backend} {seed}: {metrics['SEG']['value']:.4f}", flush=True)
    apart = False
    for name, scores in found.items():
        seeds = " | ".join(f"seed {seed}" for seed in range(given.seeds))
        print(
            f"\n| {name} | {seeds} | mean | deviation |\n{'|---' * (given.seeds + 3)}|"
        )
        for backend, each in scores.items():
            cells = " | ".join(f"{value:.4f}" for value in each)
            mean, spread = statistics.fmean(each), statistics.stdev(each)
            print(f"| {backend} | {cells} | {mean:.4f} | {spread:.4f} |")
        for one, other in combinations(scores.values(), 2):
            both = statistics.variance(one) + statistics.variance(other)
            far = abs(statistics.fmean(one) - statistics.fmean(other))
            apart = apart or far > 2 * math.sqrt(both / given.seeds)
    return int(apart)


if __name__ == "__main__":
    sys.exit(main())
