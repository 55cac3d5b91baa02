"""Time the border weight map against one distance transform per cell.

    python benchmarks/weight_maps.py [LABELS.tif ...]

Two images: a HeLa frame with 16 cells, from DIC-C2DH-HeLa.zip in ../shared/data beside
the repository or in the folder that UNET_ZOO_DATA names, and 700 x 1100 pixels with
347 cells, drawn. Label images given on the command line are timed instead. Three
contestants, in one process, of one thread:

every cell: the formula as it is usually written, one full distance transform per
    cell, all of them sorted. Of 347 cells that takes 5 GB of memory.
its box: one transform per cell of its box, as wide as the border term reaches.
here: `unet_zoo.weight_maps.border_weights`, balance of the classes included.

One transform is that of a single cell, the cheapest that the formula needs. Seconds are
those that the processor spent on this thread, the least of several runs, so that
what else the machine does hardly counts. If the package `edt` is installed, its
transform is timed beside SciPy's.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import io
import os
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from scipy import ndimage

from unet_zoo import weight_maps

ROOT = Path(__file__).resolve().parent.parent
FRAME = "DIC-C2DH-HeLa/01_ST/SEG/man_seg065.tif"
W0, SIGMA = 10.0, 5.0


def every_cell(labels: np.ndarray) -> np.ndarray:
    """Return the border term with one full distance transform per cell."""
    ids = sorted(np.unique(labels[labels > 0]))
    distances = np.zeros((*labels.shape, len(ids)))
    for place, number in enumerate(ids):
        distances[..., place] = ndimage.distance_transform_edt(labels != number)
    distances = np.sort(distances, axis=-1)
    total = distances[..., 0] + distances[..., 1]
    return W0 * np.exp(-1 / 2 * (total / SIGMA) ** 2) * (labels == 0)


def its_box(labels: np.ndarray) -> np.ndarray:
    """Return the border term with one transform per cell, of its widened box."""
    reach = int(5.5 * SIGMA)
    first, second = np.full((2, *labels.shape), np.inf)
    for number, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        wide = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        distance = ndimage.distance_transform_edt(labels[wide] != number)
        np.minimum(second[wide], np.maximum(first[wide], distance), out=second[wide])
        np.minimum(first[wide], distance, out=first[wide])
    term = W0 * np.exp(-((first + second) ** 2) / (2 * SIGMA**2))
    return np.where(labels == 0, term, 0)


def images(paths: list[str]) -> dict[str, np.ndarray]:
    """Return the label images to time, touching cells parted."""
    if paths:
        found = {Path(path).name: tifffile.imread(path) for path in paths}
    else:
        folder = Path(os.environ.get("UNET_ZOO_DATA", ROOT.parent / "shared" / "data"))
        found = {}
        if (folder / "DIC-C2DH-HeLa.zip").exists():
            with zipfile.ZipFile(folder / "DIC-C2DH-HeLa.zip") as archive:
                found["HeLa"] = tifffile.imread(io.BytesIO(archive.read(FRAME)))
        else:
            print(f"No DIC-C2DH-HeLa.zip in {folder}: without the HeLa frame.\n")
        # Late: it brings TensorFlow along.
        from unet_zoo.datasets.blobs import generate

        _, found["drawn"] = generate.generate("medium", (700, 1100), count=347)
    return {
        name: weight_maps.separate(labels.astype(np.int32))
        for name, labels in found.items()
    }


def seconds(function: Callable[[], object], runs: int) -> float:
    """Return the least processor time of several runs."""
    times = []
    for _ in range(runs):
        start = time.thread_time()
        function()
        times.append(time.thread_time() - start)
    return min(times)


def measure(name: str, labels: np.ndarray) -> str:
    """Return one row of the table."""
    ids = np.unique(labels[labels > 0])
    apart = labels != ids[len(ids) // 2]
    one = seconds(lambda: ndimage.distance_transform_edt(apart), 20)
    here = seconds(lambda: weight_maps.border_weights(labels), 40)
    boxes = seconds(lambda: its_box(labels), 10)
    exact: list[np.ndarray] = []
    runs = 5 if len(ids) < 50 else 1
    every = seconds(lambda: exact.append(every_cell(labels)), runs)
    away = weight_maps.border_weights(labels, balance=False) - 1 - exact[0]
    return (
        f"| {name} | {' x '.join(map(str, labels.shape))} | {len(ids)} | "
        f"{1e3 * every:.0f} | {1e3 * boxes:.1f} | {1e3 * here:.1f} | "
        f"{every / here:.0f} | {1e3 * one:.1f} | {here / one:.1f} | "
        f"{np.abs(away).max() / W0:.0e} |"
    )


def compare_libraries(labels: np.ndarray) -> str:
    """Return what one transform of the whole background takes in SciPy and in edt."""
    import edt

    background = labels == 0
    ours = seconds(lambda: ndimage.distance_transform_edt(background), 20)
    theirs = seconds(lambda: edt.edt(background, parallel=1), 20)
    version = importlib.metadata.version("edt")
    return f"SciPy {1e3 * ours:.1f} ms, edt {version} {1e3 * theirs:.1f} ms"


def main(paths: list[str]) -> None:
    """Print the table."""
    everything = images(paths)
    print("Milliseconds of one thread; `faster` is every cell / here, `transforms` is")
    print("here / one, and the last column the largest difference as a part of w0.\n")
    print(
        "| labels | size | cells | every cell | its box | here | faster | one ", end=""
    )
    print("| transforms | difference |\n|---|---|---|---|---|---|---|---|---|---|")
    for name, labels in everything.items():
        print(measure(name, labels), flush=True)
    if importlib.util.find_spec("edt"):
        for name, labels in everything.items():
            print(f"\nOne transform of {name}: {compare_libraries(labels)}")


if __name__ == "__main__":
    main(sys.argv[1:])
