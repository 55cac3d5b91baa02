"""`unet-zoo check` as people use it."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import catalog, cli, images
from unet_zoo.datasets.blobs import generate


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run every test in an empty folder of its own."""
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.setenv("UNET_ZOO_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("COLUMNS", "90")
    return place


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["check", *map(str, arguments)])


def write_pairs(folder: str, count: int = 6) -> Path:
    for kind in ("images", "masks"):
        Path(folder, kind).mkdir(parents=True)
    for number in range(count):
        image, labels = generate.generate("medium", (80, 88), seed=number, count=6)
        tifffile.imwrite(f"{folder}/images/a{number}.tif", image[..., 0])
        tifffile.imwrite(f"{folder}/masks/a{number}.tif", labels.astype("uint16"))
    return Path(folder)


def test_a_whole_folder_is_explained_and_a_recipe_suggested() -> None:
    result = run(write_pairs("mine"))
    assert result.exit_code == 0, result.output
    text = result.stdout
    assert "that were not trained on into test/" in " ".join(text.split())
    assert text.startswith("mine: 6 images with masks (5 train, 1 validation)\n")
    for fragment in (
        "images    80 x 88 pixels",
        "uint8, ",
        "one id per object (instances)",
        "36: 6 to 6 in an image, median 6",
        "Found: 1 note.",
        "note     mine\n",
    ):
        assert fragment in text
    command = text.strip().splitlines()[-1]
    assert command == (
        "  unet-zoo train unet --dataset mine --target distance --scale 1 --patch 80"
        " --batch 16 --depth 4"
    )
    # Every option of the recipe has its reason, all aligned.
    rows = re.findall(r"^  (target|scale|patch|batch|depth) \S+( +)\w", text, re.M)
    assert len(rows) == 5


def test_errors_come_first_and_give_code_2() -> None:
    folder = write_pairs("mine")
    (folder / "masks" / "a1.tif").unlink()
    labels = tifffile.imread(folder / "masks" / "a3.tif")
    tifffile.imwrite(folder / "masks" / "a3.tif", labels.astype("float32"))
    result = run(folder)
    assert result.exit_code == 2
    assert isinstance(result.exception, SystemExit)
    text = result.stdout
    assert "Found: 2 errors, 2 notes." in text
    assert "Training would refuse this dataset until the errors are gone." in text
    places = [text.index(each) for each in ("a1.tif", "a3.tif", "note     ")]
    assert places == sorted(places)
    trained = CliRunner().invoke(cli.main, ["train", "unet", "--dataset", "mine"])
    assert trained.exit_code == 2
    refusal = trained.stderr.strip().splitlines()[-1].removeprefix("Error: ")
    assert refusal in " ".join(text.split())


def test_json_says_the_same() -> None:
    folder = write_pairs("mine")
    (folder / "masks" / "a1.tif").unlink()
    result = run(folder, "--json")
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["refused"] is True
    assert [each["severity"] for each in found["findings"]] == ["error", "note"]
    assert found["findings"][0]["file"] == "mine/images/a1.tif"
    assert found["facts"]["images"] == 5
    assert found["suggestion"]["options"]["patch"] == 80


def test_many_findings_of_a_kind_are_cut_short_but_not_in_json() -> None:
    folder = write_pairs("mine", 14)
    for number in range(12):
        (folder / "masks" / f"a{number}.tif").unlink()
    text = run(folder).stdout
    assert text.count("has no mask.") == 8
    assert "and 4 more: error, unusable (--json has them all)" in text
    assert len(json.loads(run(folder, "--json").stdout)["findings"]) == 14


def test_the_picture_is_drawn_in_either_form() -> None:
    folder = write_pairs("mine")
    for words in (["--picture", "a.png"], ["--picture", "b.png", "--json"]):
        result = run(folder, *words)
        assert result.exit_code == 0, result.output
        assert f"Drawn to {words[1]}" in result.stderr
        drawn = images.read_one(words[1])
        assert np.unique(drawn[..., 0]).size > 20
    json.loads(result.stdout)


@pytest.mark.parametrize(
    ("picture", "fragment"),
    [
        ("a.jpg", "--picture must end in .png"),
        ("no/a.png", "The folder no of --picture does not exist"),
        ("folder.png", "folder.png is a folder"),
    ],
)
def test_a_picture_that_cannot_be(picture: str, fragment: str) -> None:
    Path("folder.png").mkdir()
    result = run(write_pairs("mine", 2), "--picture", picture)
    assert result.exit_code == 2
    assert fragment in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "fragment"),
    [
        (["hella"], "Did you mean 'hela'"),
        (["no/such/place"], "no folder no/such/place"),
        (["hela", "--config", "standart"], "'standard'"),
        (["mine", "--config", "x"], "`config` chooses within a named dataset"),
        (["tfds:no_such_thing_at_all"], "tfds"),
        ([], "Missing argument 'DATASET'"),
    ],
)
def test_what_is_not_there(arguments: list[str], fragment: str) -> None:
    write_pairs("mine", 2)
    before = sorted(os.listdir())
    result = run(*arguments)
    assert result.exit_code == 2, result.output
    assert "Traceback" not in result.output
    assert fragment.lower() in result.stderr.lower()
    assert sorted(os.listdir()) == before


def test_a_table_is_checked_and_trained_by_its_name() -> None:
    write_pairs("mine")
    rows = [f"mine/images/a{n}.tif,mine/masks/a{n}.tif" for n in range(6)]
    Path("pairs.csv").write_text("\n".join(["image,mask", *rows]))
    result = run("pairs.csv")
    assert result.exit_code == 0, result.output
    assert "--dataset pairs.csv" in result.stdout
    trained = CliRunner().invoke(
        cli.main,
        "train unet --dataset pairs.csv --output run --steps 1 --validate-every 1"
        " --filters 2 --depth 2 --patch 32 --batch 1 --scale 1 --tta 1",
    )
    assert trained.exit_code == 0, trained.output
    assert Path("run/weights.h5").exists()


def test_semantic_datasets_show_their_classes(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the named ones of kind "semantic" do, without preparing one."""
    from unet_zoo import checking

    examples = []
    for seed in range(6):
        image, labels = generate.generate("easy", (80, 80), seed=seed)
        classes = (labels > 0) + (labels > 3).astype("int32")
        classes = classes.astype("int32")
        examples.append(catalog.Example(f"e{seed}", image, classes, classes))
    made = catalog.Dataset(
        "membrane",
        "1",
        None,
        "semantic",
        "Made up.",
        {"train": 6},
        {"train": lambda: examples},
    )
    monkeypatch.setattr(catalog, "open_dataset", lambda *_, **__: made)
    report = checking.check("membrane")
    assert report.facts["classes"].keys() == {"1", "2"}
    assert report.suggestion.options["target"] == "semantic"
    assert report.suggestion.options["target_arguments.classes"] == 3
    text = run("membrane").stdout
    assert re.search(r"classes +1: \d+\.\d%, 2: \d+\.\d%", text)
    assert "--target semantic" in text
