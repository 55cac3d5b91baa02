"""`unet-zoo tune`: what is found is said and kept, and nothing is overwritten."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from unet_zoo import catalog, cli, images, registry, segmenter, weights

ARGUMENTS = {"filters": 2, "depth": 1, "padding": "same", "dropout": 0.0}


def bright(path: Path) -> Path:
    """Write the weights of a U-Net that takes what is brighter than 0.5 for objects."""
    network = registry.build("unet", classes=2, **ARGUMENTS)
    for variable in network.weights:
        value = np.zeros(variable.shape)
        if value.shape[:2] == (3, 3):  # passes on what is above and what is below 0.5
            for n in range(value.shape[2]):
                value[1, 1, n, n % 2] = 1
            if value.shape[2] == 1:
                value[1, 1, 0] = 1, -1
        if value.shape == (1, 1, 2, 2):
            value[0, 0, :, 1] = 40, -40
        variable.assign(value)
    network.get_layer("logits").bias.assign([0.0, -20.0])
    facts = segmenter.describe(
        "unet", ARGUMENTS, channels=1, target="semantic", normalization="unit"
    )
    weights.write(path, network, facts | {"metrics": {"SEG": {"value": 0.9}}})
    return path


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make two images of a disc among specks, in a folder of its own."""
    monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNET_ZOO_ENGINE", "keras")
    monkeypatch.chdir(tmp_path)
    bright(tmp_path / "bright.h5")
    rows, columns = np.ogrid[:40, :50]
    Path("mine").mkdir()
    for number in range(2):
        labels = (rows - 20) ** 2 + (columns - 20 - 5 * number) ** 2 <= 100
        seen = np.where(labels, 180, 60).astype("uint8")
        seen[2:4, 4:40:6] = 180
        images.write_png(Path(f"mine/{number}.png"), seen)
        images.write_labels(Path(f"mine/{number}_mask.tif"), labels.astype("int32"))


def run(*words: object) -> Result:
    return CliRunner().invoke(cli.main, ["tune", *map(str, words)])


def test_what_is_found_is_said_and_kept() -> None:
    command = ("bright.h5", "--dataset", "mine", "--split", "all", "--metric", "AP")
    found = run(*command)
    assert found.exit_code == 0, found.output
    lines = [line.split() for line in found.stdout.splitlines() if line]
    assert next(line[:4] for line in lines if line[0] == "min_size") == [
        "min_size",
        "0",
        "->",
        "32",
    ]
    assert next(line for line in lines if line[0] == "AP") == ["AP", "0.1429", "1.0000"]
    assert "Written to bright-tuned.h5" in found.stdout
    facts = weights.read_facts("bright-tuned.h5")
    assert facts["decode"] == {"min_size": 32, "fill_holes": True, "closing": 0}
    assert facts["tuned"]["dataset"] == "mine"
    assert "metrics" not in facts
    seen = images.read_one(Path("mine/0.png"))
    counts = [
        segmenter.load(path).segment(seen).count
        for path in ("bright.h5", "bright-tuned.h5")
    ]
    assert counts == [7, 1]
    # Nothing is overwritten, and what does as well as can be stays.
    again = run(*command)
    assert again.exit_code == 2
    assert "bright-tuned.h5 is there already" in again.stderr
    same = run("bright-tuned.h5", *command[1:])
    assert same.exit_code == 0, same.output
    assert "Nothing did better on 2 images; nothing is written." in same.stdout
    assert not Path("bright-tuned-tuned.h5").exists()


def test_images_are_seen_at_the_pixel_size_of_the_training() -> None:
    facts = weights.read_facts("bright.h5")
    weights.rewrite("sized.h5", "bright.h5", facts | {"pixel_size": 0.5})
    for number in range(2):
        seen = images.read_one(Path(f"mine/{number}.png"))[..., 0]
        Path(f"mine/{number}.png").unlink()
        path = Path(f"mine/{number}.ome.tif")
        images.write_tiff(path, seen, "YX", (0.25, 0.25), ome=True)
    words = ["--dataset", "mine", "--split", "all"]
    # A speck is one pixel wide, and too pale at half the size.
    for name, given, value in (
        ("bright.h5", [], "0.1429"),
        ("sized.h5", [], "1.0000"),
        ("sized.h5", ["--pixel-size", "0.5"], "0.1429"),
    ):
        told = CliRunner().invoke(cli.main, ["evaluate", name, *words, *given])
        assert told.exit_code == 0, told.output
        rows = {line.split()[0]: line.split()[1] for line in told.stdout.splitlines()}
        assert rows["AP50"] == value
        assert ("images are scaled by 0.5 x 0.5" in told.stderr) == (value == "1.0000")
        found = run(name, *words, "--metric", "AP", *given, "--output", "new.h5")
        assert found.exit_code == 0, found.output
        assert ["AP", rows["AP"]] in [
            line.split()[:2] for line in found.stdout.splitlines()
        ]
        Path("new.h5").unlink(missing_ok=True)
    data = catalog.open_dataset("mine")
    model = segmenter.load("sized.h5")
    assert model.evaluate(data, "all")["AP50"].value == 1.0


def test_an_ensemble_is_kept_in_a_folder() -> None:
    shutil.copy("bright.h5", "other.h5")
    weights.rewrite(
        "other.h5", "bright.h5", weights.read_facts("bright.h5") | {"tta": 4}
    )
    found = run("bright.h5", "other.h5", "--dataset", "mine", "--split", "all")
    assert found.exit_code == 0, found.output
    assert "Nothing did better" in found.stdout  # SEG asks for no specks
    words = ("--dataset", "mine", "--split", "all", "--metric", "AP")
    found = run("bright.h5", "other.h5", *words)
    assert found.exit_code == 0, found.output
    tuned = segmenter.load("bright-other-tuned")
    assert len(tuned.members) == 2
    assert tuned.segment(images.read_one(Path("mine/0.png"))).count == 1


def test_what_cannot_be_tuned_is_refused() -> None:
    words = ("--dataset", "mine", "--split", "all")
    for more, message in (
        (("--metric", "SEGG"), "Did you mean 'SEG'"),
        (("--output", "a.txt"), "--output must end in .h5"),
        (("--output", "mine"), "is not empty. Give another --output, such as mine-2"),
        (("--split", "tset"), "has no split 'tset'"),
    ):
        found = run("bright.h5", *words, *more)
        assert found.exit_code == 2, found.output
        assert message in found.stderr
    assert not list(Path.cwd().glob("*tuned*"))


def test_the_backend_is_chosen_before_anything_imports_keras() -> None:
    words = ["tune", "bright.h5", "--dataset", "mine", "--split", "tset"]
    code = f"from unet_zoo import cli; cli.main({[*words, '--backend', 'torch']!r})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "has no split 'tset'" in done.stderr
