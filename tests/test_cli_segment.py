"""`unet-zoo segment`: which files are written, and what is refused before any is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import keras
import numpy as np
import pandas
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import cli, images, outputs, registry, segmenter, weights


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the weights of an untrained network that finds objects all the same."""
    path = tmp_path_factory.mktemp("weights") / "tiny.h5"
    arguments = {"filters": 2, "depth": 1, "padding": "same"}
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    network.get_layer("logits").bias.assign([0.5, 1.0, -1.0])
    weights.write(path, network, segmenter.describe("unet", arguments, channels=1))
    return path


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def film(path: str, frames: int = 3) -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 200, (frames, 30, 37), "uint8")
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(path, pixels, photometric="minisblack")
    return pixels


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["segment", *map(str, arguments)])


def fine(*arguments: object) -> str:
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.output


def refused(*arguments: object) -> str:
    before = sorted(Path.cwd().rglob("*"))
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert sorted(Path.cwd().rglob("*")) == before
    return result.stderr


def test_every_kind_is_what_a_result_writes(tiny: Path) -> None:
    pixels = film("in/a.tif", 2)
    images.write_png("in/b.png", pixels[0])
    every = ", ".join(outputs.WRITERS).upper()
    said = fine("in", "--model", tiny, "--output", "out", "--write", every)
    found = segmenter.load(tiny)
    stack = found.segment(pixels[..., None])
    assert stack.count > 0
    assert f"{stack.count + stack.frames[0].count} objects in 2 images" in said
    paths = {"b": [], "a": []}
    for name, writer in outputs.WRITERS.items():
        paths["a"] += writer.paths(Path("out"), "a", 2)
        paths["b"] += writer.paths(Path("out"), "b", None)
        assert all(path.exists() for path in paths["a"] + paths["b"]), name
    # The same as in Python, by way of files that can be compared.
    stack.name = "a.tif"
    stack.save("expected", tuple(outputs.WRITERS), stem="a")
    for each in ("a_masks.tif", "a_probability.tif", "a_coco.json", "a.geojson"):
        made, expected = Path("out", each), Path("expected", each)
        if each.endswith("tif"):
            ours, theirs = tifffile.imread(made), tifffile.imread(expected)
            np.testing.assert_allclose(ours, theirs, atol=1e-6)
        else:
            assert made.stat().st_size == pytest.approx(expected.stat().st_size, 0.01)
    rows = pandas.read_csv("out/a_objects.csv")
    parquet = pandas.read_parquet("out/a_objects.parquet")
    pandas.testing.assert_frame_equal(rows, parquet, check_dtype=False)
    assert len(rows) == stack.count
    assert rows["mean_confidence"].between(0, 1).all()
    refusal = refused("in", "--model", tiny, "--output", "out", "--write", "ome-zarr")
    assert "a.ome.zarr is there already" in refusal
    fine(
        "in/b.png", "--model", tiny, "--output", "out", "--write", "ome-zarr,ctc",
        "--overwrite",
    )  # fmt: skip


def test_only_what_is_asked_for(tiny: Path) -> None:
    film("a.tif", 1)
    fine("a.tif", "--model", tiny, "--output", "out", "--write", "geojson")
    there = {path.name for path in Path("out").rglob("*")}
    assert there == {"a.geojson", "segmentation.json"}


def test_what_cannot_be_written_is_refused(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    film("a.tif", 1)
    command = ("a.tif", "--model", tiny, "--output", "out", "--write")
    assert "Did you mean 'overlay'" in refused(*command, "labels,overlays")
    assert "--write names nothing. Known: labels, csv" in refused(*command, " ,")
    assert "Leave out --write" in refused(*command, "labels", "--format", "ctc")
    there = importlib.util.find_spec
    monkeypatch.setattr(
        "unet_zoo.outputs.writers.importlib.util.find_spec",
        lambda name, *more: None if name == "zarr" else there(name, *more),
    )
    said = refused(*command, "labels,ome-zarr")
    assert "pip install 'unet-zoo[zarr]'" in said


def test_a_folder_in_the_way(tiny: Path) -> None:
    film("a.tif", 1)
    Path("out/a.geojson").mkdir(parents=True)
    Path("out/a.ome.zarr").touch()
    for kind, what in (("geojson", "folder"), ("ome-zarr", "file")):
        said = refused(
            "a.tif", "--model", tiny, "--output", "out", "--write", kind, "--overwrite"
        )
        assert f"is a {what} where a result would go" in said


def valid(folder: Path) -> bool:
    from ctc_metrics.scripts import validate

    return validate.validate_sequence(str(folder), threads=1) == {"Valid": 1}


def names(folder: str) -> list[str]:
    return sorted(path.name for path in Path(folder).iterdir())


def test_films_for_the_challenge(tiny: Path) -> None:
    pixels = film("film.tif")
    command = ("--model", tiny, "--format", "ctc", "--output")
    fine("film.tif", *command, "stack")
    assert names("stack") == ["01_RES", "segmentation.json"]
    for number, frame in enumerate(pixels):
        film(f"02/t{number:03d}.tif", 1)
        tifffile.imwrite(f"02/t{number:03d}.tif", frame)
    fine("02", *command, "frames")
    assert names("frames") == ["02_RES", "segmentation.json"]
    found = segmenter.load(tiny)
    for folder in (Path("stack/01_RES"), Path("frames/02_RES")):
        assert valid(folder)
        for number, frame in enumerate(pixels):
            mask = tifffile.imread(folder / f"mask{number:03d}.tif")
            labels = found.segment(frame)
            assert ((mask > 0) == (labels.labels > 0)).all()
            assert len(np.unique(mask)) == len(np.unique(labels))
    assert "01_RES is there already" in refused("film.tif", *command, "stack")
    fine("film.tif", *command, "stack", "--overwrite")
    film("other.tif", 2)
    fine("film.tif", "other.tif", *command, "both")
    assert names("both") == ["01_RES", "02_RES", "segmentation.json"]


def test_films_that_are_none(tiny: Path) -> None:
    film("film.tif")
    film("one.tif", 1)
    tifffile.imwrite("wide.tif", np.zeros((30, 50), "uint8"))
    command = ("--model", tiny, "--format", "ctc", "--output", "out")
    assert "Segment them by two commands" in refused("one.tif", "film.tif", *command)
    said = refused("one.tif", "wide.tif", *command)
    assert "one.tif is (30, 37), wide.tif is (30, 50) pixels" in said
