"""Kill a training at random moments and resume it, until it is finished.

    python benchmarks/kill.py                  # ten SIGKILLs, in deterministic mode
    python benchmarks/kill.py --kills 3 --backend jax

A tiny U-Net is trained on drawn discs once without a stop, and once killed again and
again by SIGKILL at random moments, resumed each time by the same program. After every
kill each file in the folder is opened and read. Exit code 1 if a file cannot be read,
or if the weights in the end are not the same bytes.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import numpy as np

STEPS = 60


def work(folder: str) -> None:
    """Train, or go on, in this process."""
    import keras

    from unet_zoo import devices, recipe, training
    from unet_zoo.catalog import Dataset, Example

    def disc(number: int) -> Example:
        generator = np.random.default_rng(number)
        y, x = np.mgrid[:48, :48]
        labels = np.zeros((48, 48), "int32")
        for n in range(1, 4):
            middle = generator.integers(8, 40, 2)
            labels[(y - middle[0]) ** 2 + (x - middle[1]) ** 2 < 49] = n
        image = 60 + 90 * (labels > 0) + generator.normal(0, 12, labels.shape)
        return Example(
            str(number), image.clip(0, 255).astype("uint8")[..., None], labels
        )

    plan = recipe.Recipe(
        model_arguments={"padding": "same", "filters": 4, "depth": 1, "dropout": 0.2},
        scale=1.0,
        patch=24,
        batch=2,
        steps=STEPS,
        validate_every=10,
        tta=1,
    )
    readers = {
        "train": lambda: [disc(n) for n in range(4)],
        "validation": lambda: [disc(9)],
    }
    sizes = {"train": 4, "validation": 1}
    data = Dataset("discs", "1", None, "instances", "", sizes, readers)
    devices.deterministic()
    print(keras.backend.backend(), flush=True)
    training.train(
        plan,
        data,
        folder,
        resume=True,
        # A checkpoint after each step: a kill often hits the writing of one.
        checkpoint_minutes=1e-9,
        progress=lambda now: print(now.step, flush=True),
    )


def start(folder: Path, backend: str) -> subprocess.Popen[str]:
    """Start the training in a process of its own."""
    settings = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, str(Path(__file__).resolve()), "--in", str(folder)]
    return subprocess.Popen(
        command, env=settings, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def unreadable(folder: Path) -> list[str]:
    """Return the files that cannot be read; parts of files have names of their own."""
    from unet_zoo import checkpoints, images, weights

    readers = {
        ".npz": checkpoints.read_facts,
        ".h5": weights.read_facts,
        ".toml": lambda path: tomllib.loads(path.read_text(encoding="utf-8")),
        ".csv": lambda path: list(csv.DictReader(path.open(newline=""), strict=True)),
        ".png": images.read_one,
        ".html": lambda path: path.read_text(encoding="utf-8").rindex("</html>"),
    }
    wrong = []
    for path in sorted(folder.rglob("*")):
        if path.is_file() and not path.name.startswith("."):
            try:
                readers[path.suffix](path)
            except Exception as error:
                wrong.append(f"{path.name}: {error}")
    return wrong


def main() -> None:
    """Print a line for each kill, and what became of the weights."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--backend", default="tensorflow", choices=("tensorflow", "jax", "torch")
    )
    parser.add_argument("--in", dest="folder", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        work(given.folder)
        return
    from unet_zoo import checkpoints, segmenter

    dice = random.Random(given.seed)
    wrong: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        whole, killed = Path(scratch) / "whole", Path(scratch) / "killed"
        process = start(whole, given.backend)
        process.stdout.readline()
        process.stdout.readline()  # the first step is done
        began = time.monotonic()
        _, errors = process.communicate()
        lasted = time.monotonic() - began
        if process.returncode:
            sys.exit(errors)
        print(f"never killed: {STEPS} steps, {lasted:.1f} s, {given.backend}")
        for number in range(1, given.kills + 1):
            process = start(killed, given.backend)
            process.stdout.readline()
            if dice.random() < 0.3:  # while it builds the network or reads its past
                time.sleep(dice.uniform(0, 1.0))
            elif process.stdout.readline():
                time.sleep(dice.uniform(0, 2 * lasted / given.kills))
            process.kill()
            process.communicate()
            path = killed / "checkpoint.npz"
            step = checkpoints.read_facts(path)["step"] if path.exists() else "none"
            parts = [each for each in killed.rglob(".*.part*") if each.is_file()]
            found = unreadable(killed)
            wrong += found
            print(
                f"kill {number}: checkpoint of step {step}, {len(found)} unreadable, "
                f"{len(parts)} part(s) under a name that nobody reads",
                flush=True,
            )
        process = start(killed, given.backend)
        _, errors = process.communicate()
        if process.returncode:
            sys.exit(errors)
        wrong += unreadable(killed)
        left = [each.name for each in killed.rglob(".*.part*")]
        networks = [segmenter.load(folder).network for folder in (whole, killed)]
        pairs = zip(*(each.get_weights() for each in networks), strict=True)
        same = all(np.array_equal(one, other) for one, other in pairs)
    print(f"files that could not be read: {wrong or 'none'}; parts left: {left or 0}")
    print("final weights: the same bytes" if same else "final weights DIFFER")
    sys.exit(bool(wrong) or bool(left) or not same)


if __name__ == "__main__":
    main()
