"""Films go through a batch frame by frame, and are linked when all frames are there."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from test_batch import contents, here, place

from unet_zoo import cli, outputs, records, segmenter
from unet_zoo.cli import _common, _films

__all__ = ["here", "place"]

FRAMES = 5


@pytest.fixture(scope="module")
def films(place: Path) -> Path:
    """Return a folder with two stacks, with the frames of one, and what is expected.

    That is what frames segmented one after the other are linked to.
    """
    folder = place / "films"
    (folder / "02").mkdir(parents=True)
    loaded = segmenter.load(place / "w.h5", engine="openvino")
    for number, name in enumerate("ab", start=1):
        generator = np.random.default_rng(number)
        pixels = generator.integers(0, 200, (FRAMES, 60, 70 + number), "uint8")
        tifffile.imwrite(folder / f"{name}.tif", pixels, photometric="minisblack")
        labels = [loaded.segment(frame).labels for frame in pixels]
        assert all(each.max() > 1 for each in labels)
        outputs.write_ctc(folder / "expected" / f"{number:02d}_RES", labels, FRAMES)
    for number, frame in enumerate(pixels):
        tifffile.imwrite(folder / "02" / f"t{number:03d}.tif", frame)
    return folder


def run(place: Path, *words: object) -> Result:
    command = ["segment", *words, "--model", place / "w.h5", "--format", "ctc"]
    return CliRunner().invoke(cli.main, [str(each) for each in command])


def fine(place: Path, *words: object) -> str:
    done = run(place, *words)
    assert done.exit_code == 0, done.output
    return done.stdout


def refused(place: Path, *words: object) -> str:
    done = run(place, *words)
    assert done.exit_code == 2, done.output
    return done.stderr


def valid(folder: Path) -> bool:
    validate = pytest.importorskip("ctc_metrics.scripts.validate")
    found: dict[str, int] = validate.validate_sequence(str(folder), threads=1)
    return found == {"Valid": 1}


@pytest.mark.parametrize("workers", [1, 2])
def test_stacks_are_films(place, films, workers):
    said = fine(
        place, films / "a.tif", films / "b.tif", "--output", "out", "--workers", workers
    )
    assert contents(Path("out")) == contents(films / "expected")
    there = {each.name for each in Path("out").iterdir()}
    assert there == {"01_RES", "02_RES", records.NAME}
    assert all(valid(each) for each in Path("out").glob("*_RES"))
    count = 0
    for each in Path("out").rglob("*.tif"):
        count += len(np.unique(tifffile.imread(each))) - 1
    assert f"{count} objects in 2 images; results in out" in said


def test_a_film_is_in_natural_order_however_its_frames_are_given(place, films):
    """Such as by a shell, which names t10 before t2."""
    Path("02").mkdir()
    for number, path in enumerate(sorted((films / "02").iterdir())):
        Path("02", f"t{7 + number}.tif").write_bytes(path.read_bytes())
    given = sorted(Path("02").iterdir())
    assert given[0].name == "t10.tif"
    fine(place, *given, "--output", "out")
    expected = contents(films / "expected" / "02_RES")
    assert contents(Path("out", "02_RES")) == expected


def test_a_cluster_segments_the_frames_of_a_film(place, films):
    with distributed.LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, dashboard_address=":0"
    ) as cluster:
        address = cluster.scheduler_address
        fine(place, films / "02", "--output", "out", "--dask", address)
    expected = contents(films / "expected" / "02_RES")
    assert contents(Path("out", "02_RES")) == expected


def ended(place: Path, *words: object, after: int = 3) -> dict[Path, int]:
    """Be interrupted after some frames; return when each was written."""

    @contextlib.contextmanager
    def counted(unit: str) -> Iterator[Callable[[int, int], None]]:
        def progress(done: int, frames: int) -> None:
            if done == after:
                raise KeyboardInterrupt

        progress(0, 1)
        yield progress

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_common, "progress_bar", counted)
        done = run(place, *words, "--output", "out")
    assert done.exit_code == 130, done.output
    assert after == 0 or "goes on with the others" in done.stderr
    return {path: path.stat().st_mtime_ns for path in Path("out").rglob("*_masks.tif")}


def test_what_was_interrupted_goes_on(place, films, monkeypatch):
    """Frames that are finished are linked as they are, also those of a stack."""
    stacks = (films / "a.tif", films / "b.tif")
    same = (*stacks, "--output", "out")
    before = ended(place, *stacks)
    assert 0 < len(before) < 2 * FRAMES
    after = {}
    link = _films._link

    def linked(film: _films.Film) -> int:
        if film.number == "02":
            raise KeyboardInterrupt
        after.update((path, path.stat().st_mtime_ns) for path in before)
        return link(film)

    assert "_masks.tif is there already" in refused(place, *same)
    said = refused(place, *same, "--resume", "--threshold", 0.2)
    assert "threshold was not given, is 0.2" in said
    # Ended once more, while films are linked.
    monkeypatch.setattr(_films, "_link", linked)
    assert run(place, *same, "--resume").exit_code == 130
    assert after == before
    first = Path("out/01_RES").stat().st_ino
    monkeypatch.setattr(_films, "_link", link)
    assert "in 1 image, 1 finished before" in fine(place, *same, "--resume")
    assert Path("out/01_RES").stat().st_ino == first
    assert contents(Path("out")) == contents(films / "expected")
    assert not _films.folder(Path("out")).exists()


def test_a_film_that_is_finished_stays(place, films):
    """As long as it is the same one, of the same files, by the same settings."""
    for number, frame in enumerate(tifffile.imread(films / "a.tif")):
        Path("02").mkdir(exist_ok=True)
        tifffile.imwrite(Path("02", f"t{number}.tif"), frame)
    same = ("02", "--output", "out")
    fine(place, *same, "--resume")
    made = Path("out/02_RES").stat().st_ino
    said = fine(place, *same, "--resume")
    assert f"0 objects in 0 images, {FRAMES} finished before" in said
    assert Path("out/02_RES").stat().st_ino == made
    assert "02_RES is there already" in refused(place, *same)
    said = refused(place, *same, "--resume", "--threshold", 0.4)
    assert "threshold was not given, is 0.4" in said
    # Others of that number: another film, and a part of this one.
    for others in ([films / "02"], ["02/t0.tif", "02/t1.tif"]):
        said = refused(place, *others, "--output", "out", "--resume")
        assert "02_RES is there already" in said
    assert Path("out/02_RES").stat().st_ino == made
    # What is no longer whole is made again, and so is a film that has grown.
    expected = contents(films / "expected" / "01_RES")
    Path("out/02_RES/mask003.tif").unlink()
    fine(place, *same, "--resume")
    assert contents(Path("out/02_RES")) == expected
    Path("02/t5.tif").write_bytes(Path("02/t0.tif").read_bytes())
    fine(place, *same, "--resume")
    assert len(contents(Path("out/02_RES"))) == FRAMES + 2
    Path("02/t5.tif").unlink()
    fine(place, *same, "--overwrite")
    assert f"{FRAMES} finished before" in fine(place, *same, "--resume")
    assert contents(Path("out/02_RES")) == expected


@pytest.mark.parametrize("after", [0, 1])
def test_a_film_that_was_to_be_replaced_is_not_finished(place, films, after):
    fine(place, films / "02", "--output", "out")
    again = (films / "02", "--threshold", 0.4)
    ended(place, *again, "--overwrite", after=after)
    said = fine(place, *again, "--output", "out", "--resume")
    assert f"in {FRAMES} images; results" in said
    fine(place, *again, "--output", "fresh")
    assert contents(Path("out")) == contents(Path("fresh"))


def test_frames_of_another_film_go_on_waiting(place, films):
    before = ended(place, films / "a.tif")
    assert before
    fine(place, films / "02", "--output", "out")
    assert contents(Path("out/02_RES")) == contents(films / "expected" / "02_RES")
    waiting = _films.folder(Path("out"))
    assert set(waiting.glob("*_masks.tif")) == set(before)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert len(records.read(waiting)) == len(before)
    # Nor is a film that is finished replaced by one which goes on.
    fine(place, films / "b.tif", "--output", "out")
    said = refused(place, films / "a.tif", "--output", "out", "--resume")
    assert "01_RES is there already" in said
    shutil.rmtree("out/01_RES")
    fine(place, films / "a.tif", "--output", "out", "--resume")
    assert contents(Path("out")) == contents(films / "expected")
    assert not waiting.exists()


def test_a_film_lacks_no_frame(place, films):
    Path("02").mkdir()
    for path in (films / "02").iterdir():
        Path("02", path.name).write_bytes(path.read_bytes())
    broken = Path("02", "t003.tif")
    whole = broken.read_bytes()
    tifffile.imwrite(broken, np.full((60, 72), np.nan, "float32"))  # seen when read
    said = refused(place, "02", "--output", "out")
    assert "02/t003.tif" in said
    assert "A film lacks no frame" in said
    assert not Path("out", "02_RES").exists()
    broken.write_bytes(whole)
    fine(place, "02", "--output", "out", "--resume")
    expected = contents(films / "expected" / "02_RES")
    assert contents(Path("out", "02_RES")) == expected


def test_frames_too_large_for_memory_are_segmented_in_pieces(place, films, monkeypatch):
    monkeypatch.setattr("unet_zoo.batch.pieces._SHARE", 0)
    done = run(place, films / "b.tif", "--output", "out", "--max-memory", "64GB")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("b.tif in pieces, labels: ") == FRAMES
    assert valid(Path("out/01_RES"))
    for path in Path("out/01_RES").glob("*.tif"):
        expected = tifffile.imread(films / "expected" / "02_RES" / path.name)
        np.testing.assert_array_equal(tifffile.imread(path) > 0, expected > 0)
