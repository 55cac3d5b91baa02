"""Measure what streaming a large image takes: memory, time per pixel, and exactness.

    python benchmarks/streaming.py --side 20000 --max-memory 2GB

A 16-bit image of bright discs of many sizes is written as a tiled TIFF, never whole in
memory, and given to `unet-zoo segment` at 2,000 pixels a side and at `--side`: each in
a process of its own, whose memory and time are measured from outside, start and
writing included. An image that fits is segmented at once as well, and its labels are
compared with the streamed ones. 64 pixels a side tell what it takes to start; the time
per pixel is told with and without that. `--model thin` takes a network of the same
layers with fewer filters, for the impatient.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import scipy.ndimage
import tifffile

TILE = 512
PITCH = 40  # pixels from disc to disc, on average


def tiles(side: int) -> Iterator[np.ndarray]:
    """Yield the tiles of an image, discs drawn by the place they are at."""
    for top in range(0, side, TILE):
        for left in range(0, side, TILE):
            yield tile(top, left)


def tile(top: int, left: int) -> np.ndarray:
    """Return uint16 (TILE, TILE): the same place looks alike in every tiling."""
    around = 24
    light = np.full((TILE + 2 * around,) * 2, 0.1)
    first = [(each - around) // PITCH - 1 for each in (top, left)]
    count = (TILE + 2 * around) // PITCH + 3
    for y in range(first[0], first[0] + count):
        for x in range(first[1], first[1] + count):
            generator = np.random.default_rng([y + 10**6, x + 10**6])
            middle = (np.array([y, x]) + generator.uniform(0.2, 0.8, 2)) * PITCH
            middle += np.array([around - top, around - left])
            radius, height = generator.uniform(7, 17), generator.uniform(0.5, 1)
            low = np.maximum(0, middle - radius).astype(int)
            place = np.s_[
                low[0] : max(0, int(middle[0] + radius) + 1),
                low[1] : max(0, int(middle[1] + radius) + 1),
            ]
            rows, columns = np.indices(light[place].shape)
            away = np.hypot(rows + low[0] - middle[0], columns + low[1] - middle[1])
            np.maximum(light[place], 0.1 + height * (away < radius), out=light[place])
    light = scipy.ndimage.gaussian_filter(light, 1.5)[around:-around, around:-around]
    noise = np.random.default_rng([top, left]).normal(0, 300, light.shape)
    return np.clip(12000 * light + noise, 0, 65535).astype(np.uint16)


def write(path: Path, side: int) -> None:
    """Write the image as a tiled BigTIFF."""
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(
            tiles(side),
            shape=(side, side),
            dtype=np.uint16,
            tile=(TILE, TILE),
            photometric="minisblack",
            maxworkers=1,
        )


class Taken(NamedTuple):
    """What a process took: wall and processor seconds, bytes at most, what it said."""

    seconds: float
    busy: float
    peak: int
    said: str


def measured(arguments: list[str]) -> Taken:
    """Run `unet-zoo segment`, and ask the kernel what it took."""
    begun = time.monotonic()
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [sys.executable, "-c", "from unet_zoo.cli import main; main()", *arguments],
            stderr=said,
            stdout=subprocess.DEVNULL,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - begun
        said.seek(0)
        lines = said.read().strip().splitlines()
    if status:
        raise SystemExit("\n".join(lines))
    busy = usage.ru_utime + usage.ru_stime
    return Taken(seconds, busy, usage.ru_maxrss * 1024, lines[-1] if lines else "")


def thin(path: Path) -> None:
    """Write weights of unet-blobs-large's architecture with 4 filters instead of 24.

    They are set, not trained: what is bright goes over the first skip to the result;
    all else is computed as well, and counts nothing. The target is "semantic".
    """
    import keras

    from unet_zoo import registry, segmenter

    arguments = {"depth": 5, "filters": 4, "normalization": "batch", "padding": "same"}
    network = registry.build("unet", classes=2, **arguments)
    for variable in network.weights:
        if variable.path.split("/")[-1] in ("kernel", "bias", "beta"):
            variable.assign(np.zeros(variable.shape))
    # The last four channels that the decoder is given are the first skip.
    for layer, taken, weight in (
        ("encoder0_conv1", 0, 1),
        ("encoder0_conv2", 0, 1),
        ("decoder0_conv1", 4, 1),
        ("decoder0_conv2", 0, 1),
        ("logits", 0, 20),
    ):
        kernel = network.get_layer(layer).kernel
        values, given = (
            np.array(keras.ops.convert_to_numpy(kernel)),
            int(layer == "logits"),
        )
        values[kernel.shape[0] // 2, kernel.shape[1] // 2, taken, given] = weight
        kernel.assign(values)
    network.get_layer("logits").bias.assign([0, -8])
    facts = segmenter.describe("unet", arguments, channels=1, target="semantic")
    segmenter.Segmenter(network, facts).save(path)


def compare(model: str, engine: str, source: Path, output: Path, tta: int) -> str:
    """Say how the streamed labels differ from those of the image seen at once."""
    from unet_zoo import segmenter

    loaded = segmenter.load(model, engine=engine)
    image, streamed = tifffile.imread(source), tifffile.imread(output)
    whole = loaded.segment(image, tta=tta, tile=2 * max(image.shape)).labels
    pairs = np.stack([whole.ravel(), streamed.ravel()], axis=1)
    pairs, common = np.unique(pairs, axis=0, return_counts=True)
    sizes = np.bincount(whole.ravel()), np.bincount(streamed.ravel())
    either = sizes[0][pairs[:, 0]] + sizes[1][pairs[:, 1]] - common
    best = np.zeros(whole.max() + 1)
    np.maximum.at(best, pairs[:, 0], common / either)
    same = np.array_equal(whole > 0, streamed > 0)
    return (
        f"{streamed.max()} objects, {whole.max()} in the image seen at once; least IoU "
        f"{best[1:].min(initial=1.0):.4f}; {'the same' if same else 'not all the same'}"
        " pixels are objects"
    )


def main() -> None:
    """Print what each size takes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=4000)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--exact", type=int, default=1600, help="side that fits")
    parser.add_argument(
        "--model", default="unet-blobs-large", help="or thin; see `thin`"
    )
    parser.add_argument("--tta", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--folder", type=Path, help="where the images are kept")
    given = parser.parse_args()
    found, sides = {}, dict.fromkeys((64, given.exact, given.small, given.side))
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        if given.model == "thin":
            given.model = str(folder / "thin.h5")
            alone(thin, Path(given.model))
        words = ["--model", given.model, "--engine", given.engine]
        words += ["--tta", str(given.tta), "--max-memory", given.max_memory]
        words += ["--overwrite"]
        for side in (64, *sides):  # the first converts the network, if it must
            source, results = folder / f"{side}.tif", folder / "results"
            write(source, side)
            taken = measured(["segment", str(source), "--output", str(results), *words])
            found[side] = taken
            print(
                f"{side} x {side}: {taken.peak / 1e6:.0f} MB of {given.max_memory}, "
                f"{taken.seconds:.1f} s ({1e6 * taken.seconds / side**2:.3f} s per "
                f"megapixel, {1e6 * taken.busy / side**2:.3f} of a processor)\n"
                f"  {taken.said}",
                flush=True,
            )
        large, small, start = (found[side] for side in (given.side, given.small, 64))
        pixels = (given.small / given.side) ** 2
        for what, begun in (
            ("", Taken(0, 0, 0, "")),
            (", what it takes to start left out", start),
        ):
            wall = (large.seconds - begun.seconds) / (small.seconds - begun.seconds)
            busy = (large.busy - begun.busy) / (small.busy - begun.busy)
            print(
                f"a pixel of {given.side} x {given.side} over one of {given.small} x "
                f"{given.small}{what}: {wall * pixels:.3f} in time, "
                f"{busy * pixels:.3f} of the processors",
                flush=True,
            )
        source = folder / f"{given.exact}.tif"
        output = folder / "results" / f"{given.exact}_masks.tif"
        said = alone(compare, given.model, given.engine, source, output, given.tta)
        print(f"  {said}")


def alone(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function in a process of its own.

    What this process holds would count as memory of those that it starts.
    """
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


if __name__ == "__main__":
    main()
