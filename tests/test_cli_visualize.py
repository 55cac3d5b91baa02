"""`unet-zoo visualize` and `unet-zoo prepare`, as people use them."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import catalog, cli, recipe, toml

TINY = ("--patch", 32, "--scale", 1, "--number", 1)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(each) for each in arguments])


def fine(*arguments: object) -> str:
    """Run a command that must succeed and return what it printed."""
    result = run(*arguments)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: object) -> str:
    """Run a command that must be refused and return what it said."""
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    return " ".join(result.output.split())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a dataset of four pairs to train on and one to test with."""
    random = np.random.default_rng(0)
    y, x = np.mgrid[:48, :56]
    for split, count in (("train", 4), ("test", 1)):
        for kind in ("images", "masks"):
            (tmp_path / "mine" / split / kind).mkdir(parents=True)
        for number in range(count):
            labels = np.zeros((48, 56), np.uint8)
            for value, (top, left) in enumerate([(12, 14), (30, 20), (24, 42)], 1):
                labels[(y - top) ** 2 + (x - left) ** 2 < 40] = value
            image = (labels > 0) * 120 + random.integers(0, 60, labels.shape)
            place = tmp_path / "mine" / split
            name = f"a{number}.tif"
            tifffile.imwrite(place / "images" / name, image.astype(np.uint8))
            tifffile.imwrite(place / "masks" / name, labels)
    return tmp_path / "mine"


# === visualize ===


def test_visualize_takes_the_split_that_it_advises(folder, tmp_path):
    shutil.rmtree(folder / "test")
    words = ("visualize", folder, *TINY, "--output", tmp_path / "pages", "--split")
    assert "use the split 'all'" in refused(*words, "test")
    fine(*words, "all")
    assert (tmp_path / "pages" / "index.html").is_file()


def test_visualize_writes_the_pages_and_says_where(folder, tmp_path):
    said = fine("visualize", folder, *TINY, "--output", tmp_path / "pages")
    assert str(tmp_path / "pages" / "index.html") in said
    text = (tmp_path / "pages" / "index.html").read_text(encoding="utf-8")
    assert "What a training on mine is given" in text
    assert len(list((tmp_path / "pages").glob("*.png"))) == 6


def test_visualize_takes_recipes_as_train_does(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = recipe.named("default", "resunet").replace(patch=32, seed=7)
    Path("mine.toml").write_text(toml.to_toml(plan.to_dict()))
    fine(
        *("visualize", folder, "--recipe", "mine.toml", "--number", 1),
        *("--augmentation", "none", "--set", "augmentation.shift=0.2"),
        *("--target", "border", "--scale", 0.5, "--split", "test"),
    )
    text = Path("pages/mine/index.html").read_text(encoding="utf-8")
    for word in ("shift 0.2<", "32 x 32", "border", "0.5 of", "test: 1 image<", ">7<"):
        assert word in text, word
    assert not Path("pages/mine/elastic-field.png").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--augmentation", "stong"), "Did you mean 'strong'"),
        (("--set", "augmentation.elastik=1"), "Did you mean 'elastic'"),
        (("--recipe", "papre"), "Did you mean 'paper'"),
        (("--recipe", "no.toml"), "no.toml"),
        (("--model", "unett"), "Did you mean 'unet'"),
        (("--number", "0"), "1<=x<=20"),
        (("--target", "boarder"), "Did you mean 'border'"),
    ],
)
def test_visualize_refuses_before_it_begins(folder, tmp_path, options, message):
    output = tmp_path / "pages"
    said = refused("visualize", folder, *options, "--output", output)
    assert message in said
    assert not output.exists()


def test_visualize_leaves_a_used_folder_alone(folder, tmp_path):
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "mine.txt").write_text("mine")
    said = refused("visualize", folder, "--output", tmp_path / "pages")
    assert "pages-2, which is free" in said
    assert [each.name for each in (tmp_path / "pages").iterdir()] == ["mine.txt"]


def test_visualize_refuses_what_is_no_dataset(tmp_path):
    assert "There is no folder" in refused("visualize", tmp_path / "nowhere")
    assert "Did you mean 'blobs'" in refused("visualize", "blob")


# === prepare ===


@pytest.mark.parametrize("file_format", ["png", "tiff", "npy", "coco"])
def test_prepare_writes_every_split(folder, tmp_path, file_format):
    output = tmp_path / "plain"
    said = fine("prepare", folder, "--format", file_format, "--output", output)
    assert said == f"5 images of mine in {output}\n"
    assert (output / "README.txt").exists()
    if file_format == "npy":
        assert len(list(output.rglob("*.npy"))) == 10
        return
    one, again = catalog.open_dataset(folder), catalog.open_dataset(output)
    assert one.size_of == again.size_of
    for split in one.size_of:
        for first, second in zip(
            one.examples(split), again.examples(split), strict=True
        ):
            np.testing.assert_array_equal(first.image, second.image)
            np.testing.assert_array_equal(first.labels, second.labels)


def test_prepare_writes_what_is_asked_for(folder, tmp_path):
    fine("prepare", folder, "--split", "test", "--output", tmp_path / "plain")
    assert {each.name for each in (tmp_path / "plain").iterdir()} == {
        "README.txt",
        "test",
    }


def test_prepare_says_what_a_png_cannot_hold(folder, tmp_path):
    mask = folder / "train" / "masks" / "a1.tif"
    labels = tifffile.imread(mask).astype(np.int16)
    labels[:5] = -1
    tifffile.imwrite(mask, labels)
    output = tmp_path / "plain"
    said = refused("prepare", folder, "--format", "png", "--output", output)
    assert "280 pixels of a1 (masks) are not annotated" in said
    assert not output.exists()
    said = fine(
        *("prepare", folder, "--format", "png", "--output", output),
        *("--unannotated", 65535),
    )
    assert said.startswith("5 images")


def test_prepare_leaves_a_used_folder_alone(folder, tmp_path):
    said = refused("prepare", folder, "--output", folder)
    assert "mine-2, which is free" in said
    assert "Missing option '--output'" in refused("prepare", folder)
