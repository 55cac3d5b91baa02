"""Ensembles made on the spot: several weights named at once, averaged."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner

import unet_zoo
from unet_zoo import cli, files, registry, segmenter, weights
from unet_zoo.cli import _common
from unet_zoo.errors import InputError

ARGUMENTS = {"filters": 2, "depth": 1, "padding": "same"}


def member(path: Path, seed: int, **facts: object) -> Path:
    """Write the weights of an untrained network that finds objects all the same."""
    keras.utils.set_random_seed(seed)
    network = registry.build("unet", classes=3, **ARGUMENTS)
    network.get_layer("logits").bias.assign([0.5, 1.0, -1.0])
    described = segmenter.describe("unet", ARGUMENTS, channels=1) | facts
    weights.write(path, network, described)
    return path


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("members")
    arguments = [{"threshold": each} for each in (0.4, 0.6)]
    return [
        member(folder / f"{n}.h5", n, target_arguments=each, pixel_size=0.5)
        for n, each in enumerate(arguments)
    ]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("UNET_ZOO_ENGINE", "keras")
    monkeypatch.chdir(tmp_path)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 200, (30, 37), "uint8")


def test_several_names_are_averaged(two: list[Path]) -> None:
    both = unet_zoo.load(two)
    alone = [unet_zoo.load(each).predict(picture()) for each in two]
    assert abs(alone[0] - alone[1]).max() > 0.01
    np.testing.assert_allclose(both.predict(picture()), np.mean(alone, 0), atol=1e-6)
    assert both.target.arguments["threshold"] == 0.4
    assert both.facts["pixel_size"] == 0.5
    # One name in a list is that name; an ensemble gives its own members.
    assert not hasattr(unet_zoo.load([two[0]]), "members")
    folder = weights.write_ensemble("folder", two).parent
    third = member(Path("third.h5"), 3)
    joined = unet_zoo.load([folder, third])
    assert len(joined.members) == 3
    assert "pixel_size" not in joined.facts  # the third does not know it


def test_what_decodes_is_that_of_the_members(two: list[Path]) -> None:
    tuned = [
        member(Path(f"{n}.h5"), n, decode={"min_size": size, "fill_holes": False})
        for n, size in enumerate((4, 10, 30))
    ]
    facts = weights.read_facts(weights.find(tuned))
    assert facts["decode"] == {"min_size": 10, "fill_holes": False}
    mixed = weights.read_facts(weights.find([tuned[0], two[1]]))
    assert mixed["decode"] == {}


def test_members_that_differ_are_refused(two: list[Path]) -> None:
    other = member(Path("other.h5"), 3, scale=0.5)
    with pytest.raises(InputError, match=r"agree on scale: it is 1\.0 of .* and 0\.5"):
        unet_zoo.load([two[0], other])
    with pytest.raises(InputError, match=r"needs different weights: .* twice"):
        unet_zoo.load([two[0], two[1], two[0]])
    with pytest.raises(InputError, match="No weights are named"):
        unet_zoo.load([])
    member(Path("classes.h5"), 3, target="semantic", target_arguments={"classes": 3})
    member(Path("more.h5"), 4, target="semantic", target_arguments={"classes": 4})
    with pytest.raises(InputError, match=r"agree on classes: it is 3 of .* and 4 of"):
        unet_zoo.load(["classes.h5", "more.h5"])


def test_the_command_segments_by_several(two: list[Path]) -> None:
    tifffile.imwrite("a.tif", picture(), photometric="minisblack")
    words = ["segment", "a.tif", "--output", "out", "--write", "labels"]
    words += [word for each in two for word in ("--model", str(each))]
    run = CliRunner().invoke(cli.main, words)
    assert run.exit_code == 0, run.output
    found = tifffile.imread("out/a_masks.tif")
    np.testing.assert_array_equal(found, unet_zoo.load(two).segment(picture()))
    (past,) = json.loads(Path("out/segmentation.json").read_text())["runs"]
    assert past["model"] == f"{two[0]} + {two[1]}"
    run = CliRunner().invoke(cli.main, [*words, "--model", str(two[0]), "--overwrite"])
    assert run.exit_code == 2
    assert "needs different weights" in run.stderr


def test_the_command_line_verifies_each_member_once(
    two: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = weights.write_ensemble("folder", two)
    hashed: list[Path] = []
    real = files.sha256

    def counted(path: Path) -> str:
        hashed.append(Path(path).resolve())
        return real(path)

    monkeypatch.setattr(files, "sha256", counted)
    loaded = _common.load(path.parent, None, "keras", "float32")
    assert len(loaded.members) == 2  # type: ignore[attr-defined]
    assert sorted(hashed) == sorted(each.resolve() for each in two)
