"""Measure what streaming a large image takes: memory, time per pixel, and exactness.

    python benchmarks/streaming.py --side 20000 --max-memory 2GB

A 16-bit image of bright discs of many sizes is written as a tiled TIFF, never whole in
memory, and given to `unet-zoo segment` at 2,000 pixels a side and at `--side`: each in
a process of its own, whose memory and time are measured from outside, start and
writing included. An image that fits is segmented at once as well, and its labels are
compared with the streamed ones.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
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
    rows, columns = np.indices((TILE + 2 * around,) * 2)
    light = np.full(rows.shape, 0.1)
    first = [(each - around) // PITCH - 1 for each in (top, left)]
    count = (TILE + 2 * around) // PITCH + 3
    for y in range(first[0], first[0] + count):
        for x in range(first[1], first[1] + count):
            generator = np.random.default_rng([y + 10**6, x + 10**6])
            middle = (np.array([y, x]) + generator.uniform(0.2, 0.8, 2)) * PITCH
            radius, height = generator.uniform(7, 17), generator.uniform(0.5, 1)
            away = np.hypot(
                rows + top - around - middle[0], columns + left - around - middle[1]
            )
            light = np.maximum(light, 0.1 + height * (away < radius))
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


def measured(arguments: list[str]) -> dict[str, float | str]:
    """Run `unet-zoo segment`; return its line, seconds, and the most memory it held."""
    begun, most = time.monotonic(), 0
    process = subprocess.Popen(
        [sys.executable, "-c", "from unet_zoo.cli import main; main()", *arguments],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    watched = psutil.Process(process.pid)
    while process.poll() is None:
        with contextlib.suppress(psutil.NoSuchProcess):
            most = max(most, watched.memory_info().rss)
        time.sleep(0.01)
    said = (process.stderr.read() if process.stderr else "").strip()
    if process.returncode:
        raise SystemExit(said)
    seconds = time.monotonic() - begun
    return {"said": said.splitlines()[-1], "seconds": seconds, "peak": most}


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
    parser.add_argument("--model", default="unet-blobs")
    parser.add_argument("--tta", type=int, default=1)
    parser.add_argument("--engine", default="auto")
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--folder", type=Path, help="where the images are kept")
    given = parser.parse_args()
    words = ["--model", given.model, "--engine", given.engine, "--tta", str(given.tta)]
    words += ["--max-memory", given.max_memory, "--overwrite"]
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        pace = {}
        for side in dict.fromkeys((given.exact, given.small, given.side)):
            source, results = Path(folder) / "image.tif", Path(folder) / "results"
            write(source, side)
            found = measured(["segment", str(source), "--output", str(results), *words])
            pace[side] = found["seconds"] / side**2 * 1e6
            print(
                f"{side} x {side}: peak {found['peak'] / 1e6:.0f} MB of "
                f"{given.max_memory}, {found['seconds']:.0f} s, {pace[side]:.3f} s per "
                f"megapixel\n  {found['said']}",
                flush=True,
            )
            if side == given.exact:
                output = results / "image_masks.tif"
                said = compare(given.model, given.engine, source, output, given.tta)
                print(f"  {said}", flush=True)
        ratio = pace[given.side] / pace[given.small]
        print(f"time per pixel at {given.side} over that at {given.small}: {ratio:.3f}")


if __name__ == "__main__":
    main()
