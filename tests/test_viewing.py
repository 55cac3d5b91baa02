"""The page of results, as a file: what it holds, and what is refused."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import tifffile
from click.testing import CliRunner

from unet_zoo import cli, images, outputs, records, viewing
from unet_zoo.errors import InputError
from unet_zoo.viewing import packing


def stored(page: Path, name: str) -> Any:
    """Return the data of that name in a page."""
    text = page.read_text(encoding="utf-8")
    pattern = rf'<script type="application/json" id="{name}">(.*?)</script>'
    (found,) = re.findall(pattern, text, flags=re.S)
    return json.loads(found)


def labels_of(frame: dict[str, Any]) -> np.ndarray:
    """Return the labels that a page shows, by the reverse of what wrote them."""
    kind = "<u2" if len(frame["ids"]) < 2**16 else "<u4"
    content = zlib.decompress(base64.b64decode(frame["labels"]))
    plane = np.frombuffer(content, kind).reshape(frame["height"], frame["width"])
    ranks = np.cumsum(plane, axis=0, dtype=kind)
    return np.array([0, *frame["ids"]])[ranks]


def blobs(seed: int, side: int = 48, count: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Return an image and labels of it, some of them touching."""
    random = np.random.default_rng(seed)
    labels = np.zeros((side, side), np.int32)
    y, x = np.mgrid[:side, :side]
    for number in range(1, count + 1):
        top, left = random.integers(4, side - 4, 2)
        labels[((y - top) ** 2 + (x - left) ** 2 < 50) & (labels == 0)] = number
    image = random.integers(100, 200, labels.shape) + 900 * (labels > 0)
    return image.astype(np.uint16), labels


def write(folder: Path, name: str, image: np.ndarray, labels: np.ndarray) -> Path:
    """Write an image into in/, its results into out/ as `segment` does."""
    for each in ("in", "out"):
        (folder / each).mkdir(exist_ok=True)
    weights = folder / "w.h5"
    weights.write_bytes(b"weights")
    source = folder / "in" / f"{name}.tif"
    frames = image if image.ndim == 3 else image[None]
    tifffile.imwrite(source, image, photometric="minisblack")
    found = [records.Image(name, source, len(frames))]
    run = records.about("mine", weights, {"tta": 4})
    with records.kept(folder / "out", found, run) as finish:
        images.write_labels(folder / "out" / f"{name}_masks.tif", labels)
        finish(name)
    tables = []
    planes = labels if labels.ndim == 3 else labels[None]
    for number, (plane, frame) in enumerate(zip(planes, frames, strict=True)):
        rows = outputs.table(plane, frame)
        rows.insert(0, "frame", number)
        rows.insert(0, "image", source.name)
        tables.append(rows)
    table = pandas.concat(tables, ignore_index=True)
    outputs.write_table(folder / "out" / f"{name}_objects.csv", table)
    return folder / "out"


def test_the_page_holds_the_very_labels_and_the_very_table(tmp_path):
    made = {name: blobs(number) for number, name in enumerate(("a10", "a2"))}
    for name, (image, labels) in made.items():
        folder = write(tmp_path, name, image, labels)
    page = viewing.view(folder)
    assert page == folder / "view.html"
    manifest = stored(page, "manifest")
    assert [each["name"] for each in manifest["images"]] == ["a2", "a10"]
    for number, about in enumerate(manifest["images"]):
        _, labels = made[about["name"]]
        assert np.array_equal(labels_of(stored(page, f"frame-{number}-0")), labels)
        table = pandas.read_csv(folder / f"{about['name']}_objects.csv")
        held = stored(page, f"table-{number}")
        columns = json.loads(zlib.decompress(base64.b64decode(held["data"])))
        found = pandas.DataFrame(dict(zip(held["columns"], columns, strict=True)))
        pandas.testing.assert_frame_equal(found, table, rtol=1e-6)
        assert about["objects"] == len(table) == len(np.unique(labels)) - 1
        assert about["remark"] == ""
    (told,) = manifest["runs"]
    assert told["model"].startswith("mine (sha256 ")
    assert told["options"] == "tta 4"


@pytest.mark.parametrize("ids", [[1, 2], [7, 70_000, 4_000_000_000], []])
def test_any_ids_come_back(ids):
    labels = np.zeros((9, 5), np.int64)
    for row, label in enumerate(ids):
        labels[2 * row : 2 * row + 2] = label
    frame, _ = packing.frame(None, labels, 256, 1e6)
    assert np.array_equal(labels_of(frame), labels)


def test_labels_without_background_and_more_than_16_bits_of_objects():
    labels = np.arange(1, 257 * 256 + 1).reshape(257, 256)
    frame, _ = packing.frame(None, labels, 512, 1e9)
    assert np.array_equal(labels_of(frame), labels)


def test_a_stack_frame_by_frame(tmp_path):
    pairs = [blobs(number) for number in range(3)]
    image, labels = (np.stack(each) for each in zip(*pairs, strict=True))
    page = viewing.view(write(tmp_path, "movie", image, labels))
    assert stored(page, "manifest")["images"][0]["frames"] == 3
    for number in range(3):
        frame = stored(page, f"frame-0-{number}")
        assert np.array_equal(labels_of(frame), labels[number])


def test_large_images_are_shown_smaller_and_no_object_is_lost(tmp_path):
    image = np.zeros((300, 600), np.uint8)
    labels = np.zeros((300, 600), np.uint16)
    labels[10:100, 20:200] = 1
    labels[201, 301] = 2  # falls between the pixels that are shown
    page = viewing.view(write(tmp_path, "a", image, labels), max_side=256)
    frame = stored(page, "frame-0-0")
    assert (frame["width"], frame["height"]) == (256, 128)
    about = stored(page, "manifest")["images"][0]
    assert (about["width"], about["height"]) == (600, 300)
    shown = labels_of(frame)
    assert np.argwhere(shown == 2).tolist() == [[201 * 128 // 300, 301 * 256 // 600]]
    y, x = np.nonzero(shown == 1)
    assert y.min() == pytest.approx(10 * 128 / 300, abs=1)
    assert x.max() == pytest.approx(199 * 256 / 600, abs=1)


def test_a_page_of_many_keeps_its_size(tmp_path, monkeypatch):
    for number in range(3):
        image, labels = blobs(number, side=512)
        folder = write(tmp_path, f"a{number}", image, labels)
    whole = viewing.view(folder, tmp_path / "whole.html")
    assert stored(whole, "frame-0-0")["width"] == 512
    monkeypatch.setattr(viewing, "LIMIT", 200_000)
    page = viewing.view(folder, tmp_path / "small.html")
    assert whole.stat().st_size > 2 * 200_000
    assert page.stat().st_size < 200_000 + 80_000  # of what every page holds
    assert stored(page, "frame-2-0")["width"] < 512


def test_images_that_were_moved(tmp_path):
    image, labels = blobs(0)
    folder = write(tmp_path, "a", image, labels)
    (tmp_path / "in").rename(tmp_path / "elsewhere")

    def seen(**options: Any) -> tuple[str, str]:
        page = viewing.view(folder, **options)
        remark = stored(page, "manifest")["images"][0]["remark"]
        return remark, stored(page, "frame-0-0")["picture"]

    remark, picture = seen()
    assert f"not at {tmp_path / 'in' / 'a.tif'} any more" in remark
    assert "without a picture" in remark
    assert picture == ""
    (folder / "overlays").mkdir()
    outputs.write_overlay(folder / "overlays" / "a.png", image, labels)
    remark, overlay = seen()
    assert "the overlay" in remark
    assert overlay.startswith("data:image/jpeg")
    remark, picture = seen(images=tmp_path / "elsewhere")
    assert remark == ""
    assert picture not in ("", overlay)
    tifffile.imwrite(tmp_path / "elsewhere" / "a.tif", image[:40])
    assert "is now 1 x 40 x 48" in seen(images=[tmp_path / "elsewhere"])[0]


def test_an_image_that_was_changed(tmp_path):
    image, labels = blobs(0)
    folder = write(tmp_path, "a", image, labels)
    tifffile.imwrite(tmp_path / "in" / "a.tif", image, compression="zlib")
    remark = stored(viewing.view(folder), "manifest")["images"][0]["remark"]
    assert "has changed since it was segmented" in remark


def test_label_images_alone(tmp_path):
    """Of any program: no record, no table, no picture."""
    _, labels = blobs(0)
    images.write_png(tmp_path / "b_masks.png", labels.astype(np.uint8))
    page = viewing.view(tmp_path)
    about = stored(page, "manifest")["images"][0]
    assert about["objects"] == len(np.unique(labels)) - 1
    assert "--images" in about["remark"]
    assert "mean_intensity" not in stored(page, "table-0")["columns"]


def test_what_is_refused(tmp_path):
    with pytest.raises(InputError, match="holds no results"):
        viewing.view(tmp_path)
    with pytest.raises(InputError, match="is not a folder"):
        viewing.view(tmp_path / "none")
    folder = write(tmp_path, "a", *blobs(0))
    with pytest.raises(InputError, match="at least 256"):
        viewing.view(folder, max_side=100)
    other = tmp_path / "mine.html"
    other.write_text("my own page")
    with pytest.raises(InputError, match="is there and not such a page"):
        viewing.view(folder, other)
    assert other.read_text() == "my own page"
    viewing.view(folder)
    viewing.view(folder)  # a page of this kind is replaced
    (folder / "a_objects.csv").write_text("x,y\n1,2\n")
    before = (folder / "view.html").read_bytes()
    with pytest.raises(InputError, match="no column `label`; has: x, y"):
        viewing.view(folder)
    assert (folder / "view.html").read_bytes() == before
    assert not list(folder.glob(".*"))
    tifffile.imwrite(folder / "a_masks.tif", np.zeros((8, 8), np.float32))
    with pytest.raises(InputError, match="is not a label image"):
        viewing.view(folder)


def test_tracks_alone_are_told_from_no_results(tmp_path):
    _, labels = blobs(0)
    outputs.write_ctc(tmp_path / "01_RES", [labels], 1)
    for folder in (tmp_path, tmp_path / "01_RES"):
        with pytest.raises(InputError, match=r"tracks.*01_RES.*--write labels,ctc"):
            viewing.view(folder)


def test_the_command(tmp_path):
    folder = write(tmp_path, "a", *blobs(0))
    page = tmp_path / "sent" / "page.html"
    command = ["view", str(folder), "--output", str(page)]
    result = CliRunner().invoke(cli.main, command)
    assert result.exit_code == 0, result.output
    assert f"Open in a browser: {page}" in result.stdout
    assert stored(page, "manifest")["images"][0]["name"] == "a"
    result = CliRunner().invoke(cli.main, ["view", str(tmp_path)])
    assert result.exit_code == 2
    assert "holds no results" in result.output


def test_open_shows_it(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("webbrowser.open", shown.append)
    page = viewing.view(write(tmp_path, "a", *blobs(0)), open=True)
    assert shown == [page.resolve().as_uri()]


def test_nothing_that_trains_is_imported(tmp_path):
    folder = write(tmp_path, "a", *blobs(0))
    code = (
        "import sys; from unet_zoo import cli\n"
        f"cli.main(['view', {str(folder)!r}], standalone_mode=False)\n"
        "print(sorted({'keras', 'tensorflow', 'torch', 'jax'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]"
