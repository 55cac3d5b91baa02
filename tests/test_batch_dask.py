"""A batch on a Dask cluster, and dask arrays."""

from __future__ import annotations

import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dask.array
import deadly
import distributed
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner
from test_batch import COUNT, ROOT, contents, expected, here, picture, place

from unet_zoo import batch, cli, records
from unet_zoo import segmenter as segmenters
from unet_zoo.batch import clusters, pieces, sharing
from unet_zoo.errors import InputError
from unet_zoo.streaming import planning, shares

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
            [dask, kind, "--scheduler-file", file, "--dashboard-address", ":0", *words],
            env=os.environ
            | {"PYTHONPATH": paths, "DASK_LOGGING__DISTRIBUTED": "error"}
            | {"UNET_ZOO_CACHE": str(self.folder / "cache")},
            cwd=self.folder,
            stderr=subprocess.DEVNULL,
        )

    def work(self) -> None:
        words = ("--no-nanny", "--nthreads", "1", "--host", "127.0.0.1")
        self.programs += [self.start("worker", *words) for _ in range(3)]
        with self.client() as client:
            client.wait_for_workers(3, timeout=60)

    def client(self) -> distributed.Client:
        return distributed.Client(self.address, set_as_default=False)

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
    """Of three workers one is killed half-way, and others do its images again."""
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


@pytest.fixture
def large(cluster, monkeypatch) -> Iterator[distributed.Client]:
    """Have a small image treated as a large one, by those two who are left."""
    tifffile.imwrite("large.tif", picture(0, 1200)[:, :200])
    monkeypatch.setattr(pieces, "_SHARE", 0)
    monkeypatch.setattr(shares, "_UNEVEN", 9)  # more parts than there are workers
    monkeypatch.setattr(planning, "_BLOCKS", (128,))
    with cluster.client() as client:
        client.run(deadly.cut_small)
        assert len(client.nthreads()) == 2
        yield client


def of_large(place: Path, output: str, resume: bool = False) -> batch.Batch:
    kinds = ("labels", "csv", "overlay")
    return batch.plan(
        "large.tif",
        place / "w.h5",
        output,
        write=kinds,
        resume=resume,
        max_memory="64GB",
    )


def test_what_is_wrong_with_a_large_image_is_said(place, cluster, large):
    image = np.zeros((1200, 200), "float32")
    image[700, 3] = np.nan
    tifffile.imwrite("large.tif", image)
    with pytest.raises(InputError, match=r"large.tif.* NaN .* first at y=700, x=3"):
        of_large(place, "out").run(dask=cluster.address)
    planned = of_large(place, "out")
    tifffile.imwrite("large.tif", image[:900])
    with pytest.raises(InputError, match=r"large.tif changed while"):
        planned.run(dask=cluster.address)
    assert not Path("out").exists()


def test_workers_share_a_large_image_also_when_one_is_killed(
    place, cluster, large, monkeypatch
):
    of_large(place, "one").run()
    expected = contents(Path("one"))
    pictures = {"overlays/large.png"}
    assert set(expected) == {"large_masks.tif", "large_objects.csv"} | pictures
    report = of_large(place, "out").run(dask=cluster.address)
    said = r"large.tif in (\d+) parts by 2 Dask workers, labels, csv and overlay: "
    found = re.match(said, report.said[0])
    assert found is not None
    assert int(found[1]) > 3
    assert report.objects == tifffile.imread("one/large_masks.tif").max() > 100
    assert contents(Path("out")) == expected

    # The command is interrupted while a worker is at a part: nothing is left.
    [address, _] = large.nthreads()
    sign = Path("stuck").resolve()
    pid = large.run(deadly.stuck, str(sign), workers=[address])[address]

    def interrupted(*_: object) -> None:
        wait(sign.exists)
        raise KeyboardInterrupt

    planned = of_large(place, "more")
    with monkeypatch.context() as patch:
        patch.setattr(sharing.Shared, "_had", interrupted)
        with pytest.raises(KeyboardInterrupt):
            planned.run(dask=cluster.address)
    assert not list(Path("more").glob("**/*large*"))
    wait(lambda: not any(large.processing().values()))

    # Gone on with; the worker dies, and the other does its part as well.
    sign.unlink()

    def kill() -> None:
        wait(sign.exists)
        os.kill(pid, signal.SIGKILL)

    killing = threading.Thread(target=kill)
    killing.start()
    report = of_large(place, "more", resume=True).run(dask=cluster.address)
    killing.join()
    assert f"large.tif in {found[1]} parts by 1 Dask worker," in report.said[0]
    assert contents(Path("more")) == expected


def wait(for_: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not for_():
        assert time.monotonic() < until
        time.sleep(0.02)


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
