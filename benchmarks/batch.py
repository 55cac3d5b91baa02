"""A folder of images: its wall time beside that of the network alone, and its deaths.

    python benchmarks/batch.py                  # 200 images of 512 x 512, unet-hela
    python benchmarks/batch.py --model resunet-hela --images 50 --only time
    python benchmarks/batch.py --only dask      # or: time, workers, resume

- `time`: a batch writes labels, table and overlay of every image. The pure network time
  is that of the same engine given the same arrays, prepared before, one after the
  other: normalised, turned as test-time augmentation turns them. Both take turns by
  blocks of images in one process, so that whatever else the machine does hits both
  alike; the processor time of both is told as well.
- `workers`: the same by two processes, one of which is killed.
- `dask`: by two workers of a LocalCluster, then by a scheduler and two workers that are
  started by hand, one of which is killed half-way. Then one image that does not fit
  into the memory that is given, by one process and by two workers that share it, one
  of which is killed the second time; and what more it costs to share out a slide of
  30,000 x 30,000 to more of them.
- `resume`: the command is killed by SIGKILL again and again, and resumed.

Files of all ways are compared byte for byte. Exit code 1 if one differs, or if more
images were segmented again than were in flight.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import tifffile

from unet_zoo import batch, memory, records, segmenter
from unet_zoo.batch import pipeline
from unet_zoo.streaming import shares

PARTS = ("time", "workers", "dask", "resume")
BLOCK = 100  # images between which the pipeline and the network alone take turns


def cells(number: int, size: int) -> np.ndarray:
    """Return a grey image uint8 with some twenty round cells, unlike any other."""
    generator = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size].astype(np.float32)
    image = generator.normal(90, 6, (size, size)).astype(np.float32)
    for _ in range(20):
        middle, radius = generator.uniform(0, size, 2), generator.uniform(18, 40)
        distance = np.hypot(y - middle[0], x - middle[1]) / radius
        image += 60 * np.exp(-((distance - 0.8) ** 2) * 12) - 15 * (distance < 1)
    return image.clip(0, 255).astype(np.uint8)


class Listening(segmenter.Segmenter):
    """Keeps the arrays that its engine is given."""

    given: list[np.ndarray]

    def run(self, one: np.ndarray) -> np.ndarray:
        self.given.append(one.copy())
        return super().run(one)


def timed(given: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Print the wall time of the pipeline and that of the network alone."""
    made = segmenter.load(given.model)
    listening = Listening(made._given, made.facts, engine=made.engine)
    listening.given = []
    ratios, whole, alone, spent = [], 0.0, 0.0, np.zeros(2)
    for start in range(0, len(paths), BLOCK):
        block = paths[start : start + BLOCK]
        planned = batch.plan(block, given.model, output)
        listening.given.clear()
        for path in block:
            listening.predict(tifffile.imread(path))
        began, first = time.perf_counter(), time.process_time()
        for one in listening.given:
            made.run(one)
        middle, second = time.perf_counter(), time.process_time()
        report = planned.run(load=lambda: made)
        ended, third = time.perf_counter(), time.process_time()
        spent += (second - first, third - second)
        assert len(report.segmented) == len(block)
        alone, whole = alone + middle - began, whole + ended - middle
        ratios.append((ended - middle) / (middle - began))
    count = len(paths)
    print(
        f"{count} images: {whole:.1f} s, the network alone {alone:.1f} s; "
        f"{count / whole:.2f} images/s; wall over network {whole / alone:.3f}, "
        f"median of {len(ratios)} blocks {statistics.median(ratios):.3f} "
        f"({min(ratios):.3f} to {max(ratios):.3f}); processor time "
        f"{spent[1]:.1f} s, of the network alone {spent[0]:.1f} s",
        flush=True,
    )


def contents(folder: Path) -> dict[str, bytes]:
    """Return what the files of results hold, by their path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in (records.NAME, records.JOURNAL)
    }


def compared(what: str, output: Path, expected: dict[str, bytes]) -> bool:
    """Print whether the files in `output` are those expected."""
    found = contents(output)
    differing = [name for name in expected if found.get(name) != expected[name]]
    more = sorted(set(found) - set(expected))
    fine = not differing and not more
    print(f"{what}: {'the same files' if fine else f'DIFFER: {differing} {more}'}")
    sys.stdout.flush()
    return fine


def killer(count: int, whom: Callable[[], int]) -> Callable[[int, int], None]:
    """Return a progress that kills a process once `count` images are done."""
    done = False

    def progress(frames: int, total: int) -> None:
        nonlocal done
        if frames >= count and not done:
            done = True
            os.kill(whom(), signal.SIGKILL)

    return progress


def by_workers(given: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Segment by two processes, one of which is killed half-way."""

    def whom() -> int:
        for child in psutil.Process().children():
            if "unet_zoo.batch.worker" in " ".join(child.cmdline()):
                return child.pid
        raise LookupError

    began = time.perf_counter()
    progress = killer(len(paths) // 2, whom)
    report = batch.segment_files(
        paths, given.model, output, workers=2, progress=progress
    )
    print(
        f"2 workers, one killed half-way: {len(report.segmented)} images in "
        f"{time.perf_counter() - began:.1f} s, {len(report.broken)} broken"
    )


def by_local_cluster(
    given: argparse.Namespace, paths: list[Path], output: Path
) -> None:
    """Segment by a LocalCluster of two processes."""
    import distributed

    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        report = batch.segment_files(paths, given.model, output, dask=address)
    print(f"LocalCluster: {len(report.segmented)} images, {len(report.broken)} broken")


def by_hand(given: argparse.Namespace, paths: list[Path], output: Path) -> None:
    """Segment by a scheduler and two workers, one of which is killed half-way."""
    dask = Path(sys.executable).with_name("dask")
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch, "scheduler.json")
        words = ("--scheduler-file", str(file), "--dashboard-address", ":0")

        def start(kind: str, *more: str) -> subprocess.Popen[bytes]:
            command = [dask, kind, *words, *more]
            return subprocess.Popen(command, cwd=scratch, stderr=subprocess.DEVNULL)

        programs = [start("scheduler", "--port", "0")]
        while not file.exists() or not file.read_text():
            time.sleep(0.1)
        address = json.loads(file.read_text())["address"]
        more = ("--no-nanny", "--nthreads", "1")
        programs += [start("worker", *more) for _ in range(2)]
        try:
            report = batch.segment_files(
                paths,
                given.model,
                output,
                dask=address,
                progress=killer(len(paths) // 2, lambda: programs[1].pid),
            )
        finally:
            for each in programs:
                each.kill()
                each.wait()
    print(
        f"scheduler by hand, a worker killed half-way: {len(report.segmented)} images, "
        f"{len(report.broken)} broken"
    )


def sharing(given: argparse.Namespace, place: Path) -> bool:
    """Segment a large image by one process, and by two that share it."""
    import distributed

    side, size = -(-given.large // 512), given.large
    rows = [[cells(side * y + x, 512) for x in range(side)] for y in range(side)]
    path, output = place / "large.tif", place / "large"
    tifffile.imwrite(path, np.block(rows)[:size, :size], tile=(512, 512))

    def segmented(dask: str | None = None) -> float:
        began = time.perf_counter()
        report = batch.segment_files(
            path,
            given.model,
            output,
            write=("labels", "csv"),
            max_memory=given.max_memory,
            dask=dask,
            tta=1,
        )
        print("; ".join(report.said), flush=True)
        return time.perf_counter() - began

    alone = segmented()
    expected = contents(output)
    shutil.rmtree(output)
    fine = True
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        segmented(cluster.scheduler_address)  # the networks are loaded by that
        shutil.rmtree(output)
        together = segmented(cluster.scheduler_address)
        print(f"one process {alone:.1f} s, two workers {together:.1f} s")
        fine &= compared("two workers", output, expected)
        shutil.rmtree(output)
        pid = next(iter(client.run(os.getpid).values()))

        def kill() -> None:
            while len(list(output.glob(".large.*/*"))) < 3:
                time.sleep(0.05)
            os.kill(pid, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        segmented(cluster.scheduler_address)
        fine &= compared("two workers, one killed", output, expected)
    return fine


def costs(given: argparse.Namespace) -> None:
    """Print how a slide is cut, and the pixels computed for each of it."""
    slide = np.broadcast_to(np.uint8(0), (30000, 30000, 1))
    loaded, most = segmenter.load(given.model), memory.as_bytes(given.max_memory)
    survey = shares.survey(loaded, slide, {"tta": 1}, most, 1)
    for threads in (1, 2, 4, 8, 16, 32, 64, 128):
        parts = survey.parts(threads)
        sizes = [
            math.prod(
                min(side.stop + survey.around, 30000)
                - max(side.start - survey.around, 0)
                for side in (part.rows, part.columns)
            )
            for part in parts
        ]
        rounds = -(-len(parts) // threads)
        print(
            f"{threads} workers: {len(parts)} parts, {sum(sizes) / slide.size:.3f} "
            f"pixels computed for each, {slide.size / (rounds * max(sizes)):.1f} times "
            "as fast as one, at best"
        )
    print(survey)


def by_resuming(given: argparse.Namespace, paths: list[Path], output: Path) -> bool:
    """Kill the command again and again; return whether it redid but what it must."""
    code = "from unet_zoo.cli import main; main()"
    words = ["segment", *map(str, paths), "--model", given.model, "--resume"]
    command = [sys.executable, "-c", code, *words, "--output", str(output)]
    most, each = 0, max(1, len(paths) // (given.kills + 1))
    for number in range(1, given.kills + 1):
        program = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        before = finished(output)
        while program.poll() is None and len(finished(output)) < number * each:
            time.sleep(0.01)
        program.kill()
        program.wait()
        written = {
            path.name for path in output.glob("*_masks.tif") if path.stem not in before
        }
        known = {f"{name}_masks.tif" for name in finished(output)}
        parts = len(list(output.rglob(".*.part*")))
        most = max(most, len(written - known))
        print(
            f"kill {number}: {len(known)} of {len(paths)} finished, "
            f"{len(written - known)} written and not noted, {parts} part(s) of files",
            flush=True,
        )
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    print(ended.stdout.strip() or ended.stderr.strip())
    return ended.returncode == 0 and most <= pipeline.IN_FLIGHT


def finished(output: Path) -> set[str]:
    return set(records.read(output)) if output.exists() else set()


def main() -> None:
    """Print a line for each part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="unet-hela")
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--folder", type=Path, help="of images, in place of drawn ones")
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument(
        "--large", type=int, default=4000, help="side of one image; 0: none"
    )
    parser.add_argument("--max-memory", default="2GB", help="for it")
    parser.add_argument("--only", choices=PARTS, action="append")
    given = parser.parse_args()
    parts = given.only or PARTS
    fine = True
    with tempfile.TemporaryDirectory() as scratch:
        place = Path(scratch)
        if given.folder:
            paths = sorted(given.folder.iterdir())[: given.images]
        else:
            (place / "in").mkdir()
            paths = [place / "in" / f"{n:03d}.tif" for n in range(given.images)]
            for number, path in enumerate(paths):
                tifffile.imwrite(path, cells(number, given.size))
        if "time" in parts:
            timed(given, paths, place / "expected")
        else:
            batch.segment_files(paths, given.model, place / "expected")
        expected = contents(place / "expected")
        ways = {
            "workers": [by_workers],
            "dask": [by_local_cluster, by_hand],
            "resume": [by_resuming],
        }
        for part, functions in ways.items():
            for function in functions if part in parts else ():
                output = place / function.__name__
                fine &= function(given, paths, output) is not False
                fine &= compared(function.__name__, output, expected)
                shutil.rmtree(output)
        if "dask" in parts and given.large:
            fine &= sharing(given, place)
            costs(given)
    sys.exit(not fine)


if __name__ == "__main__":
    main()
