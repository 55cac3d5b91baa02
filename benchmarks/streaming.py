"""Measure what streaming a large image takes: memory, time per pixel, and exactness.

    python benchmarks/streaming.py --side 20000 --max-memory 2GB

A 16-bit image of bright discs of many sizes is written as a tiled TIFF, never whole in
memory, and streamed twice: at 2,000 pixels a side and at `--side`, each in a process of
its own, whose peak memory is compared with what it was given. Beside them, an image
that fits is segmented whole, and its labels compared with the streamed ones.
"""

from __future__ import annotations

import argparse
import json
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


class Tiled:
    """A tiled TIFF without compression as `streaming` reads it."""

    def __init__(self, path: Path) -> None:
        self._file = tifffile.TiffFile(path)
        self._page = self._file.pages[0]
        self.shape = (1, *self._page.shape, 1)
        self.dtype = self._page.dtype

    def read(self, frame: int, rows: slice, columns: slice) -> np.ndarray:
        """Return a region (y, x, 1)."""
        high, wide = rows.stop - rows.start, columns.stop - columns.start
        region = np.empty((high, wide, 1), self.dtype)
        across = -(-self.shape[2] // TILE)
        for y in range(rows.start // TILE, -(-rows.stop // TILE)):
            for x in range(columns.start // TILE, -(-columns.stop // TILE)):
                number = y * across + x
                self._file.filehandle.seek(self._page.dataoffsets[number])
                data = self._file.filehandle.read(self._page.databytecounts[number])
                there = self._page.decode(data, number)[0][0]
                down = slice(max(rows.start, y * TILE), min(rows.stop, (y + 1) * TILE))
                over = slice(
                    max(columns.start, x * TILE), min(columns.stop, (x + 1) * TILE)
                )
                region[
                    down.start - rows.start : down.stop - rows.start,
                    over.start - columns.start : over.stop - columns.start,
                ] = there[
                    down.start - y * TILE : down.stop - y * TILE,
                    over.start - x * TILE : over.stop - x * TILE,
                ]
        return region


def child(
    model: str, source: str, output: str, memory: str, engine: str, tta: int
) -> None:
    """Stream one image and print what it took."""
    from unet_zoo import segmenter, streaming

    loaded = segmenter.load(model, engine=engine)
    summary = streaming.stream(
        loaded, Tiled(Path(source)), output, max_memory=memory, tta=tta
    )
    print(
        json.dumps(
            {
                "objects": sum(summary.objects),
                "seconds": summary.seconds,
                "overhead": summary.overhead,
                "joined": summary.joined,
                "plan": str(summary.plan),
            }
        )
    )


def measured(arguments: list[str]) -> dict:
    """Run a child; return what it printed and the most memory it held."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", *arguments],
        stdout=subprocess.PIPE,
        text=True,
    )
    watched, most = psutil.Process(process.pid), 0
    while process.poll() is None:
        try:
            most = max(most, watched.memory_info().rss)
        except psutil.NoSuchProcess:
            break
        time.sleep(0.02)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(process.returncode)
    return {**json.loads(output.splitlines()[-1]), "peak": most}


def compare(model: str, engine: str, source: Path, output: Path, tta: int) -> str:
    """Say how the streamed labels differ from those of the untiled image."""
    from unet_zoo import segmenter

    whole = (
        segmenter.load(model, engine=engine)
        .segment(tifffile.imread(source), tta=tta)
        .labels
    )
    streamed = tifffile.imread(output)
    pairs = np.stack([whole.ravel(), streamed.ravel()], axis=1)
    pairs, common = np.unique(pairs, axis=0, return_counts=True)
    sizes = np.bincount(whole.ravel()), np.bincount(streamed.ravel())
    either = sizes[0][pairs[:, 0]] + sizes[1][pairs[:, 1]] - common
    best = np.zeros(whole.max() + 1)
    np.maximum.at(best, pairs[:, 0], common / either)
    least = best[1:].min(initial=1.0)
    return (
        f"{streamed.max()} objects, {whole.max()} in the untiled image; "
        f"least IoU {least:.4f}"
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=3000)
    parser.add_argument("--small", type=int, default=2000)
    parser.add_argument("--exact", type=int, default=1500, help="side that fits")
    parser.add_argument("--model", default="unet-blobs")
    parser.add_argument("--tta", type=int, default=1)
    parser.add_argument("--engine", default="keras")
    parser.add_argument("--max-memory", default="2GB")
    parser.add_argument("--folder", type=Path, help="where the images are kept")
    parser.add_argument("--child", nargs=6)
    given = parser.parse_args()
    if given.child:
        *words, tta = given.child
        child(*words, int(tta))
        return
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        pace = {}
        for side in dict.fromkeys((given.exact, given.small, given.side)):
            source, output = Path(folder) / "image.tif", Path(folder) / "labels.tif"
            write(source, side)
            found = measured(
                [
                    given.model,
                    str(source),
                    str(output),
                    given.max_memory,
                    given.engine,
                    str(given.tta),
                ]
            )
            pace[side] = found["seconds"] / side**2 * 1e6
            print(
                f"{side} x {side}: {found['objects']} objects, {found['joined']} "
                f"joined; peak {found['peak'] / 1e6:.0f} MB of {given.max_memory}; "
                f"{pace[side]:.2f} s per megapixel; {found['overhead']:.3f} pixels "
                f"computed for each; {found['plan']}",
                flush=True,
            )
            if side == given.exact:
                print(
                    compare(given.model, given.engine, source, output, given.tta),
                    flush=True,
                )
        ratio = pace[given.side] / pace[given.small]
        print(f"time per pixel at {given.side} over that at {given.small}: {ratio:.3f}")


if __name__ == "__main__":
    main()
