"""`--recipe auto` against the default recipe, in the same time, on images never seen.

    python benchmarks/auto.py --hours 0.2
    python benchmarks/auto.py --hours 0.2 --dataset my_images/ --seeds 3
    python benchmarks/auto.py --hours 0.2 --together

Without --dataset a folder of images is drawn: grains of changing size and brightness on
uneven ground, some touching, with a subfolder test/. For each seed, two processes run
`unet-zoo train` one after the other: with --recipe auto, and with the default recipe,
whose number of steps is planned for the same time and nothing else. With --together
they run at the same time, each on half of the processor's cores. Printed is how long
each took, from its start to its end, and its score on the test images. Exit code 1
where auto took longer than its time, or is worse than the default by more than twice
the standard error over the seeds (0.01 of one seed).
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
import time
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np


def draw(folder: Path, train: int, test: int, side: int, seed: int = 7) -> None:
    """Write a folder of images and masks that no recipe was made for."""
    import scipy.ndimage
    import tifffile

    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:side, :side]
    for part, count in (("train", train), ("test", test)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((side, side), np.uint16)
            image = np.zeros((side, side))
            for n in range(1, side * side // 700):
                cy, cx = generator.uniform(0, side, 2)
                long, short = generator.uniform((9, 6), (19, 12))
                angle = generator.uniform(0, math.pi)
                u = (y - cy) * math.cos(angle) + (x - cx) * math.sin(angle)
                v = (x - cx) * math.cos(angle) - (y - cy) * math.sin(angle)
                far = (u / long) ** 2 + (v / short) ** 2
                inside = (far < 1) & (labels == 0)
                if inside.sum() < 0.7 * math.pi * long * short:
                    continue
                labels[inside] = n
                bright = generator.uniform(0.4, 1.2)
                image[inside] = bright * (1.1 - 0.5 * far[inside])
            ground = scipy.ndimage.gaussian_filter(
                generator.normal(size=labels.shape), side / 8
            )
            image = scipy.ndimage.gaussian_filter(image, 1.2) + 8 * ground
            image = 300 + 900 * image + generator.normal(0, 140, labels.shape)
            name = f"grains{number:03d}.tif"
            image = image.clip(0, 65535).astype(np.uint16)
            tifffile.imwrite(folder / part / "images" / name, image)
            tifffile.imwrite(folder / part / "masks" / name, labels)


def cli(*words: object, cores: Collection[int] = ()) -> float:
    """Run a command of unet-zoo and return the seconds that it took."""
    code = "import os, sys; from unet_zoo.cli import main; "
    if cores:
        code += f"os.sched_setaffinity(0, {set(cores)}); "
    started = time.monotonic()
    words = (sys.executable, "-c", code + "main(sys.argv[1:])", *map(str, words))
    subprocess.run(words, check=True)
    return time.monotonic() - started


def score(run: Path, *words: object, metric: str | None = None) -> float:
    """Return a metric of the test images; if not said, SEG, or IoU of classes."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "scores.json"
        cli("evaluate", run, *words, "--output", file)
        found = json.loads(file.read_text())["metrics"]
    return float(found[metric or ("SEG" if "SEG" in found else "IoU")]["value"])


def spread(values: Sequence[float]) -> str:
    """Return the mean of several seeds, and how far they scatter, for a table."""
    mean = f"{statistics.fmean(values):.3f}"
    return f"{mean} +- {statistics.stdev(values):.3f}" if len(values) > 1 else mean


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--hours", type=float, default=0.2)
    parser.add_argument("--dataset", type=Path, help="a folder with train/ and test/")
    parser.add_argument("--model", default="unet")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--images", type=int, default=24, help="to draw, for training")
    parser.add_argument(
        "--together", action="store_true", help="on half the cores each"
    )
    parser.add_argument("--side", type=int, default=384, help="of the drawn images")
    given = parser.parse_args()
    limit = 3600 * given.hours
    scores: dict[str, list[float]] = {"auto": [], "default": []}
    late = False
    with tempfile.TemporaryDirectory() as scratch:
        dataset = given.dataset
        if dataset is None:
            dataset = Path(scratch) / "grains"
            draw(dataset, given.images, max(2, given.images // 3), given.side)
        cores = sorted(os.sched_getaffinity(0))
        half = len(cores) // 2
        shares = {"auto": cores[:half], "default": cores[half:]}

        def train(name: str, seed: int) -> float:
            words = ["train", given.model, "--dataset", dataset, "--seed", seed]
            words += ["--recipe", "auto", "--hours", given.hours]
            words += ["--output", Path(scratch) / f"{name}-{seed}"]
            if name == "default":
                words += default(given.model)
            return cli(*words, cores=shares[name] if given.together else ())

        for seed in range(given.seeds):
            with ThreadPoolExecutor(2 if given.together else 1) as pool:
                times = list(pool.map(train, scores, [seed] * 2))
            for name, took in zip(scores, times, strict=True):
                run = Path(scratch) / f"{name}-{seed}"
                scores[name].append(score(run, "--dataset", dataset))
                line = f"{name:8} seed {seed}: {took:7.1f} s of {limit:.0f} s, "
                print(f"{line}score {scores[name][-1]:.4f}", flush=True)
                late = late or (name == "auto" and took > limit)
    means = {name: statistics.fmean(values) for name, values in scores.items()}
    error = 0.01
    if given.seeds > 1:
        error = 2 * math.sqrt(
            sum(statistics.variance(each) for each in scores.values()) / given.seeds
        )
    print(f"auto {means['auto']:.4f}, default {means['default']:.4f} +- {error:.4f}")
    return int(late or means["auto"] < means["default"] - error)


def default(model: str) -> list[object]:
    """Return what fixes everything but the number of steps to the default recipe."""
    from unet_zoo import recipe

    plan = recipe.named("default", model)
    words: list[object] = ["--tta", plan.tta]
    words += ["--patch", plan.patch, "--batch", plan.batch]
    words += ["--set", f"foreground_crops={plan.foreground_crops}"]
    for name in ("filters", "depth"):
        if name in plan.model_arguments:
            words += [f"--{name}", plan.model_arguments[name]]
    return words


if __name__ == "__main__":
    sys.exit(main())
