"""Time the border weight map against one distance transform per cell.

Run `python benchmarks/weight_maps.py`. It draws synthetic cells, times the exact
formula as everybody writes it (one full distance transform per cell, then a sort)
and `unet_zoo.weight_maps.border_weights`, and prints both, their ratio, their
largest difference and the time of a single distance transform, which is the floor.
Pass label images (TIFF) to time those instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import tifffile
from scipy import ndimage

from unet_zoo import weight_maps


def plain(labels: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """Return the border term with one full distance transform per cell."""
    ids = np.unique(labels[labels > 0])
    distances = np.stack([ndimage.distance_transform_edt(labels != i) for i in ids])
    nearest = np.sort(distances, axis=0)[:2].sum(axis=0)
    return np.where(labels == 0, w0 * np.exp(-(nearest**2) / (2 * sigma**2)), 0)


def cells(height: int, width: int, count: int, radius: float) -> np.ndarray:
    """Return labels of about `count` discs that touch but do not overlap."""
    generator = np.random.default_rng(0)
    centres = generator.uniform((0, 0), (height, width), (count, 2)).astype(int)
    seeds = np.zeros((height, width), np.int32)
    seeds[tuple(centres.T)] = np.arange(1, count + 1)
    distance, (rows, columns) = ndimage.distance_transform_edt(
        seeds == 0, return_indices=True
    )
    return np.where(distance <= radius, seeds[rows, columns], 0)


def seconds(function: Callable[[], object], repeats: int) -> float:
    """Return the shortest of `repeats` runs: the others waited for something."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def main(paths: list[str]) -> None:
    """Print one line of the table per label image."""
    if paths:
        images = {path: tifffile.imread(path).astype(np.int32) for path in paths}
    else:
        images = {
            "large cells": cells(512, 512, 16, 55),
            "nuclei": cells(700, 1100, 350, 14),
            "dense small": cells(512, 512, 2000, 5),
        }
    print("| labels | shape | cells | per cell | here | ratio | one EDT | difference |")
    print("|---|---|---|---|---|---|---|---|")
    for name, labels in images.items():
        count = len(np.unique(labels[labels > 0]))
        # The plain way keeps one float64 image per cell.
        affordable = count * labels.size * 8 < 4e9
        here = seconds(lambda: weight_maps.border_weights(labels, balance=False), 5)  # noqa: B023
        floor = seconds(lambda: ndimage.distance_transform_edt(labels == 0), 5)  # noqa: B023
        before = difference = float("nan")
        if affordable:
            before = seconds(lambda: plain(labels), 1 if count > 50 else 3)  # noqa: B023
            fast = weight_maps.border_weights(labels, balance=False)
            difference = np.abs(fast - 1 - plain(labels))[labels >= 0].max()
        print(
            f"| {name} | {labels.shape[0]} x {labels.shape[1]} | {count} | "
            f"{before:.3f} s | {here:.3f} s | {before / here:.1f} | {floor:.3f} s | "
            f"{difference:.0e} |"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
