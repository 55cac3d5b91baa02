"""Films go through a batch frame by frame, and are linked when all frames are there."""

from __future__ import annotations

from pathlib import Path

import distributed
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result
from test_batch import contents, here, place

from unet_zoo import batch, cli, outputs, segmenter
from unet_zoo.cli import _films

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
    assert [each.name for each in Path("out").iterdir()] == ["01_RES", "02_RES"]
    assert all(valid(each) for each in Path("out").iterdir())
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


def ended(place: Path, *images: Path) -> dict[Path, int]:
    """Segment a film, be interrupted, and return when each frame was written."""
    planned = batch.plan(
        images, place / "w.h5", _films.folder(Path("out")), write="labels", apart=True
    )

    def progress(done: int, frames: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        planned.run(progress=progress)
    assert "--resume goes on" in caught.value.__notes__[0]
    there = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*_masks.tif")}
    assert 0 < len(there) < 2 * FRAMES
    return there


def test_what_was_interrupted_goes_on(place, films, monkeypatch):
    """Frames that are finished are linked as they are, also those of a stack."""
    stacks = (films / "a.tif", films / "b.tif")
    before = ended(place, *stacks)
    after = {}
    link = _films._link

    def linked(film: _films.Film) -> int:
        after.update((path, path.stat().st_mtime_ns) for path in before)
        return link(film)

    said = refused(place, *stacks, "--output", "out")
    assert "_masks.tif is there already" in said
    said = refused(place, *stacks, "--output", "out", "--resume", "--threshold", 0.2)
    assert "threshold was not given, is 0.2" in said
    # As if it had been ended while films were linked.
    Path("out/01_RES").mkdir()
    monkeypatch.setattr(_films, "_link", linked)
    fine(place, *stacks, "--output", "out", "--resume")
    assert after == before
    assert contents(Path("out")) == contents(films / "expected")
    assert not _films.folder(Path("out")).exists()
    assert "01_RES is there already" in refused(
        place, *stacks, "--output", "out", "--resume"
    )


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
