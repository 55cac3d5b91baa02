"""A batch on a Dask cluster, and dask arrays."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dask.array
import deadly
import distributed
import numpy as np
import pytest
from click.testing import CliRunner
from test_batch import COUNT, ROOT, contents, expected, here, place

from unet_zoo import batch, cli, records
from unet_zoo import segmenter as segmenters
from unet_zoo.batch import clusters
from unet_zoo.errors import InputError

__all__ = ["expected", "here", "place"]


class Cluster:
    """A scheduler and two workers, started by hand as programs of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = ""
        self.programs = [self.start("scheduler", "--port", "0")]
        until = time.monotonic() + 60
        while not self.address:
            assert time.monotonic() < until
            time.sleep(0.05)
            if (folder / "scheduler.json").exists():
                text = (folder / "scheduler.json").read_text()
                self.address = json.loads(text)["address"] if text else ""

    def start(self, kind: str, *words: str) -> subprocess.Popen[bytes]:
        dask = Path(sys.executable).with_name("dask")
        file = self.folder / "scheduler.json"
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
        return subprocess.Popen(
            [dask, kind, "--scheduler-file", file, "--no-dashboard", *words],
            env=os.environ
            | {"PYTHONPATH": paths, "DASK_LOGGING__DISTRIBUTED": "error"}
            | {"UNET_ZOO_CACHE": str(self.folder / "cache")},
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )

    def work(self) -> None:
        words = ("--no-nanny", "--nthreads", "1", "--host", "127.0.0.1")
        self.programs += [self.start("worker", *words) for _ in range(2)]
        with distributed.Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(2, timeout=60)

    def end(self) -> None:
        for each in self.programs:
            each.kill()
        for each in self.programs:
            each.wait(30)


@pytest.fixture(scope="module")
def cluster(place: Path) -> Iterator[Cluster]:
    cluster = Cluster(place)
    yield cluster
    cluster.end()


def test_a_cluster_that_cannot(place, cluster, monkeypatch):
    monkeypatch.setattr(clusters, "_PATIENCE", 0.5)
    planned = batch.plan(place / "in", place / "w.h5", "out")
    with pytest.raises(InputError, match="has no workers"):
        planned.run(dask=cluster.address)
    for address in ("tcp://127.0.0.1:9", "nowhere"):
        with pytest.raises(InputError, match="There is no Dask scheduler at"):
            planned.run(dask=address)
    assert not Path("out").exists()


def test_workers_give_the_same_files_also_when_one_is_killed(place, cluster, expected):
    """Two workers: one is killed half-way, and the other does its images again."""
    cluster.work()
    planned = deadly.turned(batch.plan(place / "in", place / "w.h5", "out"))
    seen = []

    def progress(done: int, frames: int) -> None:
        seen.append(done)
        if done == COUNT // 2:
            cluster.programs[1].kill()
            cluster.programs[1].wait()

    report = planned.run(dask=cluster.address, progress=progress)
    assert not report.broken
    assert seen == list(range(1, COUNT + 1))
    assert contents(Path("out")) == expected
    # By the command line, what was made here is gone on with there, from elsewhere.
    Path("out/03_masks.tif").unlink()
    words = ("--model", place / "w.h5", "--output", "out", "--resume", "--dask")
    command = ["segment", place / "in", *words, cluster.address]
    done = CliRunner().invoke(cli.main, [str(each) for each in command])
    assert done.exit_code == 0, done.output
    assert f"in 1 image, {COUNT - 1} finished before" in done.stdout
    assert contents(Path("out")) == expected
    assert len(records.read("out")) == COUNT


def test_a_dask_array_is_computed_frame_by_frame(place):
    segmenter = segmenters.load(place / "w.h5")
    stack = np.random.default_rng(0).integers(0, 200, (3, 40, 48, 1), "uint8")
    computed = []

    def block(block_info: dict) -> np.ndarray:
        first, last = block_info[None]["array-location"][0]
        computed.append(first)
        return stack[first:last]

    lazy = dask.array.map_blocks(
        block, chunks=((1, 1, 1), (40,), (48,), (1,)), dtype="uint8", meta=stack[:0]
    )
    order = []
    predict = segmenter.predict

    def predicting(image: np.ndarray, **options: object) -> np.ndarray:
        order.append(list(computed))
        return predict(image, **options)

    segmenter.predict = predicting
    with dask.config.set(scheduler="synchronous"):
        found = segmenter.segment(lazy)
        assert order == [[], [0], [0, 1]]  # each when its turn comes, and none before
        assert isinstance(found.image, dask.array.Array)
        expected = segmenters.load(place / "w.h5").segment(stack)
        np.testing.assert_array_equal(found, expected)
        assert found.table().equals(expected.table())
        np.testing.assert_array_equal(found.overlay(), expected.overlay())
        for one in (lazy[1], lazy[1, ..., 0]):
            np.testing.assert_array_equal(segmenter.segment(one), expected.labels[1])


def test_results_can_be_pickled(place):
    """As those of other processes, and of tasks, are sent."""
    segmenter = segmenters.load(place / "w.h5")
    stack = np.random.default_rng(0).integers(0, 200, (2, 40, 48, 1), "uint8")
    for image in (stack, stack[0]):
        found = segmenter.segment(image)
        there = pickle.loads(pickle.dumps(found))
        np.testing.assert_array_equal(there, found)
        np.testing.assert_array_equal(there.probability, found.probability)
        assert there.table().equals(found.table())
    frame = pickle.loads(pickle.dumps(batch_result(segmenter, stack).frames[1]))
    np.testing.assert_array_equal(frame, segmenter.segment(stack[1]))


def batch_result(segmenter, stack):
    """Return a stack's result whose frames were not kept."""
    found = segmenter.segment(stack)
    found._frames = None
    return found
