"""Many images: pipelined, by several processes, gone on with, and none half-written."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import deadly
import keras
import numpy as np
import psutil
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import batch, cli, converting, engines, files, records, registry
from unet_zoo import segmenter as segmenters
from unet_zoo.batch import jobs, pipeline, processes
from unet_zoo.errors import InputError

ROOT = Path(__file__).resolve().parent.parent
COUNT = 12


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images in `in`, and weights of an untrained network.

    OpenVINO runs it, with which another process can begin within a second.
    """
    place = tmp_path_factory.mktemp("batch")
    arguments = {"filters": 2, "depth": 1, "padding": "same"}
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    network.get_layer("logits").bias.assign([-0.2, 0.5, -1.0])
    facts = segmenters.describe("unet", arguments, channels=1)
    segmenters.Segmenter(network, facts).save(place / "w.h5")
    # What `engines` would have another process do, by the TensorFlow that is here.
    name = f"{files.sha256(place / 'w.h5')[:32]}-openvino-{engines._FORMAT}"
    folder = place / "cache" / "engines" / name
    folder.mkdir(parents=True)
    converting.convert("openvino", place / "w.h5", folder / "model.xml")
    sums = {each.name: files.sha256(each) for each in folder.iterdir()}
    (folder / "sums.json").write_text(json.dumps(sums))
    (place / "in").mkdir()
    for number in range(COUNT):
        tifffile.imwrite(place / "in" / f"{number:02d}.tif", picture(number))
    return place


@pytest.fixture(autouse=True)
def here(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Run in an empty folder, with OpenVINO and the network that was converted."""
    monkeypatch.setenv("UNET_ZOO_CACHE", str(place / "cache"))
    monkeypatch.setenv("UNET_ZOO_ENGINE", "openvino")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(ROOT / "tests")]))
    monkeypatch.chdir(tmp_path)
    yield
    assert not list(tmp_path.rglob(".*.part*"))


@pytest.fixture(scope="module")
def expected(place: Path) -> dict[str, bytes]:
    """Return the files that a run of one process writes."""
    os.environ["UNET_ZOO_CACHE"] = str(place / "cache")
    report = batch.segment_files(
        place / "in", place / "w.h5", place / "expected", engine="openvino"
    )
    del os.environ["UNET_ZOO_CACHE"]
    assert len(report.segmented) == COUNT
    assert report.objects > COUNT
    return contents(place / "expected")


def picture(number: int, size: int = 64) -> np.ndarray:
    generator = np.random.default_rng(number)
    return generator.integers(0, 200, (size, size + number), "uint8")


def contents(folder: Path) -> dict[str, bytes]:
    """Return what the files of results hold, by their path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != records.NAME
    }


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["segment", *map(str, words)])


# === One process ===


def test_a_batch_is_what_the_segmenter_says(place, expected):
    segmenter = segmenters.load(place / "w.h5")
    for number in range(COUNT):
        found = segmenter.segment(place / "in" / f"{number:02d}.tif")
        found.save(Path.cwd(), ("labels", "csv"))
        for name in (f"{number:02d}_masks.tif", f"{number:02d}_objects.csv"):
            assert Path(name).read_bytes() == expected[name]
    past = records.read(place / "expected")
    assert len(past) == COUNT
    assert past["03"].run["write"] == ["labels", "csv", "overlay"]
    assert past["03"].run["engine"] == "openvino"


class Watching(segmenters.Segmenter):
    """A segmenter whose stages go on with an image once those before have the next.

    The images are as wide as `picture` makes them, by which they are known.
    """

    def __init__(self, segmenter: segmenters.Segmenter, last: int) -> None:
        super().__init__(segmenter._given, segmenter.facts, engine=segmenter._engine)
        self.read = [threading.Event() for _ in range(last + 1)]
        self.predicted = [threading.Event() for _ in range(last + 1)]
        self.last, self.threads = last, set[str]()

    def wait(self, events: list[threading.Event], image: np.ndarray) -> int:
        number = image.shape[1] - 64
        assert number == self.last or events[number + 1].wait(20)
        return number

    def predict(self, image: np.ndarray, **options: object) -> np.ndarray:
        self.predicted[self.wait(self.read, image)].set()
        return super().predict(image, **options)

    def decode(self, prediction: np.ndarray, **options: object) -> np.ndarray:
        self.wait(self.predicted, prediction)
        self.threads.add(threading.current_thread().name)
        return super().decode(prediction, **options)


def test_reading_predicting_and_decoding_overlap(place, monkeypatch):
    watching = Watching(segmenters.load(place / "w.h5"), last=4)
    read = jobs.Job.read

    def reading(job: jobs.Job) -> np.ndarray:
        watching.read[job.shape[2] - 64].set()
        return read(job)

    monkeypatch.setattr(jobs.Job, "read", reading)
    planned = batch.plan(sorted((place / "in").iterdir())[:5], place / "w.h5", "out")
    done = []
    report = planned.run(load=lambda: watching, progress=lambda *now: done.append(now))
    assert len(report.segmented) == 5
    assert "MainThread" not in watching.threads
    assert done == [(number, 5) for number in range(1, 6)]


def test_what_is_held_is_bounded(monkeypatch):
    """Images wait outside until there is room; one that is too large is alone."""
    monkeypatch.setattr(pipeline, "ROOM", 100)
    room, inside = pipeline._Room(), []

    def visit() -> None:
        for weight in (60, 30, 20, 500, 10):
            room.enter(weight)
            inside.append(weight)

    thread = threading.Thread(target=visit)
    thread.start()

    def settled() -> list[int]:
        thread.join(0.05)
        return inside

    assert settled() == [60, 30]
    room.leave(60)
    assert settled() == [60, 30, 20]
    room.leave(30)
    assert settled() == [60, 30, 20]
    room.leave(20)
    assert settled() == [60, 30, 20, 500]
    room.leave(500)
    assert settled() == [60, 30, 20, 500, 10]
    for _ in range(pipeline.IN_FLIGHT - 1):
        assert room.enter(1)
    waiting = threading.Thread(target=lambda: inside.append(room.enter(1)))
    waiting.start()
    room.close()
    waiting.join(10)
    assert inside[-1] is False


def test_broken_images_are_left_out_and_listed(place):
    Path("in").mkdir()
    for number in range(4):
        tifffile.imwrite(f"in/{number}.tif", picture(number))
    whole = Path("in/1.tif").read_bytes()
    Path("in/1.tif").write_bytes(whole[: len(whole) // 2])  # its header is fine
    Path("in/2.tif").write_bytes(b"no image")
    stack = np.zeros((2, 30, 30), np.float32)
    stack[1, 3, 4] = np.nan
    tifffile.imwrite("in/3.tif", stack, photometric="minisblack")
    done = run("in", "--model", place / "w.h5", "--output", "out")
    assert done.exit_code == 1, done.output
    assert "in 1 image; results in out" in done.stdout
    lines = done.stderr.strip().splitlines()[-4:]
    assert lines[0] == "3 of 4 images could not be segmented:"
    for line, name in zip(sorted(lines[1:]), ("1.tif", "2.tif", "3.tif"), strict=True):
        assert f"in/{name}" in line
    assert "1 values that are NaN" in done.stderr
    assert set(contents(Path("out"))) == {
        "0_masks.tif",
        "0_objects.csv",
        "overlays/0.png",
    }
    assert list(records.read("out")) == ["0"]
    # Nothing can be done: as with any mistake.
    alone = run("in/1.tif", "--model", place / "w.h5", "--output", "other")
    assert alone.exit_code == 2
    assert "in/1.tif: it is damaged or truncated" in alone.stderr
    Path("in/0.tif").unlink()
    none = run("in", "--model", place / "w.h5", "--channel", 7, "--output", "other")
    assert none.exit_code == 2
    assert "Nor can any of the other 2 images" in none.stderr
    assert not Path("other").exists()


def test_a_full_disk_ends_the_batch(place):
    """What is wrong with more than one image is no reason to try all the others."""
    planned = batch.plan(place / "in", place / "w.h5", "out")
    Path("out/overlays").mkdir(parents=True)
    Path("out/overlays").chmod(0o500)
    segmenter = segmenters.load(place / "w.h5")
    Path("out/overlays").rmdir()
    Path("out/overlays").touch()
    said = []
    with pytest.raises(OSError, match="overlays"):
        pipeline.run(segmenter, planned.jobs, lambda *words: said.append(words))
    assert not said


# === Several processes ===


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    return [
        child
        for child in process.children()
        if "unet_zoo.batch.worker" in " ".join(child.cmdline())
    ]


def test_a_worker_that_dies_costs_nothing(place, expected):
    planned = deadly.turned(batch.plan(place / "in", place / "w.h5", "out"))
    killed = []

    def progress(done: int, frames: int) -> None:
        if not killed:
            killed.append(workers_of(psutil.Process())[0])
            killed[0].kill()

    report = planned.run(workers=2, progress=progress)
    assert killed
    assert not report.broken
    assert len(report.segmented) == COUNT
    assert contents(Path("out")) == expected
    assert not workers_of(psutil.Process())


def test_an_image_that_kills_its_worker_is_broken(place, expected):
    planned = batch.plan(place / "in", place / "w.h5", "out")
    report = deadly.turned(planned, jobs.Job, deadly=2).run(workers=2)
    assert [each.source.name for each in report.broken] == ["02.tif"]
    assert "was ended twice, perhaps for want of memory" in report.broken[0].reason
    others = {name: each for name, each in expected.items() if "02" not in name}
    assert contents(Path("out")) == others


def test_workers_that_cannot_begin(place):
    planned = batch.plan(place / "in", place / "w.h5", "out")
    network = jobs.Network(Path("none.h5"), "openvino")
    with pytest.raises(InputError, match=r"none\.h5"):
        processes.run(2, network, planned.jobs, lambda *words: None)
    assert not workers_of(psutil.Process())


def test_processors_are_shared_out(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {1, 2, 3, 5, 8})
    assert processes.shares(2) == [{1, 2}, {3, 5, 8}]
    assert processes.shares(5) == [{1}, {2}, {3}, {5}, {8}]
    assert processes.shares(7)[5:] == [{1}, {2}]


# === Going on ===


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_batch_goes_on(place, expected, workers):
    """SIGKILL in the middle: what is finished stays, what is in flight is redone."""
    command = [sys.executable, ROOT / "tests" / "deadly.py"]
    program = subprocess.run(
        [*command, place / "in", place / "w.h5", "out", str(workers)],
        capture_output=True,
        check=False,
    )
    assert program.returncode == -signal.SIGKILL, program.stderr
    helpers = [int(word) for word in program.stdout.split()]
    assert len(helpers) == (workers if workers > 1 else 0)
    until = time.monotonic() + 60  # they end by themselves
    while any(map(psutil.pid_exists, helpers)):
        assert time.monotonic() < until
        time.sleep(0.05)
    before = contents(Path("out"))
    assert all(before[name] == expected[name] for name in before if name in expected)
    written = {path: path.stat().st_mtime_ns for path in Path("out").glob("*_masks*")}
    assert 0 < len(written) < COUNT
    at_hand = workers * processes.AHEAD if workers > 1 else pipeline.IN_FLIGHT
    done = run(place / "in", "--model", place / "w.h5", "--output", "out", "--resume")
    assert done.exit_code == 0, done.output
    again = [path for path, time in written.items() if path.stat().st_mtime_ns != time]
    assert len(again) <= at_hand
    kept = len(written) - len(again)
    assert f"in {COUNT - kept} images, {kept} finished before" in done.stdout
    assert contents(Path("out")) == expected
    runs = json.loads(Path("out", records.NAME).read_text())["runs"]
    assert [len(each["images"]) for each in runs] == [COUNT]
    assert "journal" not in runs[0]


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
@pytest.mark.parametrize("options", [{}, {"threshold": 0.4}])
def test_what_was_to_be_replaced_does_not_pass_as_finished(place, sent, options):
    """Though results are there, of images whose files have the size they had."""
    Path("in").mkdir()
    for number in range(COUNT):
        tifffile.imwrite(f"in/{number:02d}.tif", picture(number)[::-1])
    command = ("in", "--model", place / "w.h5")
    assert run(*command, "--output", "out").exit_code == 0
    for number in range(COUNT):
        tifffile.imwrite(f"in/{number:02d}.tif", picture(number))
    words = ("in", place / "w.h5", "out", "1", sent.name)
    program = subprocess.run(
        [
            *(sys.executable, ROOT / "tests" / "deadly.py", *words),
            json.dumps({"overwrite": True, **options}),
        ],
        capture_output=True,
        check=False,
        text=True,
    )
    assert program.returncode == -sent, program.stderr
    if sent == signal.SIGINT:
        assert "--resume in place of --overwrite goes on" in program.stderr
    finished = len(records.read("out"))
    assert 0 < finished < COUNT
    for key, value in options.items():
        command += (f"--{key}", value)
    done = run(*command, "--output", "out", "--resume")
    assert done.exit_code == 0, done.output
    assert f"in {COUNT - finished} images, {finished} finished before" in done.stdout
    assert run(*command, "--output", "fresh").exit_code == 0
    assert contents(Path("out")) == contents(Path("fresh"))


def test_a_broken_image_is_not_finished_though_it_was_before(place):
    """Whether it is seen to be broken when it is opened or when it is read."""
    Path("in").mkdir()
    for number in range(3):
        tifffile.imwrite(f"in/{number}.tif", picture(number))
    command = ("in", "--model", place / "w.h5", "--output", "out")
    assert run(*command).exit_code == 0
    whole = [Path(f"in/{number}.tif").read_bytes() for number in (1, 2)]
    Path("in/1.tif").write_bytes(b"no image")
    tifffile.imwrite("in/2.tif", np.full((64, 64), np.nan, "float32"))
    again = (*command, "--threshold", 0.4)
    assert "2 of 3 images could not" in run(*again, "--overwrite").stderr
    for number, content in enumerate(whole, start=1):
        Path(f"in/{number}.tif").write_bytes(content)
    done = run(*again, "--resume")
    assert done.exit_code == 0, done.output
    assert "in 2 images, 1 finished before" in done.stdout


def test_an_image_that_is_gone_keeps_none_from_being_replaced(place):
    Path("in").mkdir()
    for number in range(2):
        tifffile.imwrite(f"in/{number}.tif", picture(number))
    Path("in/2.tif").symlink_to("nowhere.tif")
    command = ("in", "--model", place / "w.h5", "--output", "out", "--overwrite")
    for _ in range(2):
        done = run(*command)
        assert done.exit_code == 1, done.output
        assert "in 2 images" in done.stdout
        assert "1 of 3 images could not" in done.stderr


def test_other_settings_are_refused(place):
    paths = [place / "in" / name for name in ("00.tif", "01.tif")]
    command = ("--model", place / "w.h5", "--output", "out", "--threshold", 0.4)
    assert run(*paths, *command).exit_code == 0
    before = contents(Path("out"))

    def refused(*words: object) -> str:
        done = run(*paths, "--output", "out", *words, "--resume")
        assert done.exit_code == 2, done.output
        assert contents(Path("out")) == before
        return done.stderr

    same = ("--model", place / "w.h5")
    said = refused(*same, "--threshold", 0.5, "--write", "labels", "--channel", 0)
    assert "write was labels,csv,overlay, is labels" in said
    assert "threshold was 0.4, is 0.5" in said
    assert "channel was not given, is 0" in said
    assert "threshold was 0.4, is not given" in refused(*same)
    assert "model was" in refused("--model", "unet-blobs", "--threshold", 0.4)
    assert "give one" in refused(*same, "--overwrite")
    # The same once more: nothing to do; with another image, that one.
    for more, found in (
        ([], "in 0 images, 2"),
        ([place / "in/02.tif"], "in 1 image, 2"),
    ):
        done = run(*paths, *more, *command, "--resume")
        assert done.exit_code == 0, done.output
        assert found in done.stdout
    # What is no longer whole, or of which the image has changed, is made again.
    Path("out/00_objects.csv").unlink()
    assert "in 1 image, 1" in run(*paths, *command, "--resume").stdout
    assert contents(Path("out")).items() >= before.items()
    # Results that nobody knows are nobody's to replace.
    Path("out/03_masks.tif").touch()
    done = run(*paths, place / "in/03.tif", *command, "--resume")
    assert done.exit_code == 2
    assert "out/03_masks.tif is there already" in done.stderr


def test_options_that_exclude_each_other(place):
    command = (place / "in", "--model", place / "w.h5", "--output", "out")
    done = run(*command, "--workers", 2, "--dask", "tcp://localhost:1")
    assert done.exit_code == 2
    assert "give one" in done.stderr
    for options, said in (
        ({"workers": 0}, "must be 1 or more"),
        ({"workers": 2, "dask": "tcp://localhost:1"}, "exclude each other"),
        ({"thresold": 1}, "Did you mean 'threshold'"),
        ({"tta": 3}, "must be 1, 4, 7 or 8"),
        ({"write": ["lables"]}, "Did you mean 'labels'"),
    ):
        with pytest.raises(InputError, match=said):
            batch.segment_files(place / "in", place / "w.h5", "out", **options)
    assert not Path("out").exists()


@pytest.mark.parametrize("several", [False, True])
def test_what_is_loaded_already_is_refused(place: Path, several: bool) -> None:
    loaded = segmenters.load(place / "w.h5", engine="keras")
    model = [place / "w.h5", loaded] if several else loaded
    with pytest.raises(InputError, match=r"name, path or address.*Received: Segmenter"):
        batch.segment_files(place / "in", model, "out")
    assert not Path("out").exists()
