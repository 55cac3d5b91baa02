"""`checking.advice`: the recipe that a report suggests fits the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_checking import write

from unet_zoo import catalog, checking, pipeline


def disks(folder: Path, radius: int, size: int, count: int = 4) -> Path:
    y, x = np.mgrid[:size, :size]
    for number in range(count):
        random = np.random.default_rng(number)
        labels = np.zeros((size, size), "uint16")
        step = 2 * radius + 6
        for place, (top, left) in enumerate(
            np.ndindex(size // step, size // step), start=1
        ):
            centre = np.array([top, left]) * step + radius + 2
            inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
            labels[inside] = place
        image = (labels > 0) * 100 + random.normal(50, 5, labels.shape)
        write(folder / "images" / f"a{number}.tif", image.astype("uint8"))
        write(folder / "masks" / f"a{number}.tif", labels)
    return folder


@pytest.mark.parametrize(
    ("radius", "size", "expected"),
    [
        (4, 300, {"scale": 1.0, "patch": 256, "batch": 4, "depth": 3}),
        (20, 300, {"scale": 1.0, "patch": 256, "batch": 4, "depth": 4}),
        (20, 130, {"scale": 1.0, "patch": 128, "batch": 16, "depth": 4}),
        (60, 300, {"scale": 0.5, "patch": 144, "batch": 13, "depth": 4}),
    ],
)
def test_the_recipe_follows_the_objects(tmp_path, radius, size, expected):
    suggestion = checking.check(disks(tmp_path, radius, size)).suggestion
    assert suggestion.options == {"target": "distance", **expected}
    assert suggestion.reasons.keys() == suggestion.options.keys()
    train = catalog.open_dataset(tmp_path).examples("train")
    assert expected["scale"] == pipeline.choose_scale(e.labels for e in train)


def test_the_command_is_one_that_train_takes(tmp_path):
    """Its options are those of the command, and they make a recipe and a network."""
    import shlex

    from unet_zoo import cli, registry
    from unet_zoo.cli import _recipes, train

    folder = disks(tmp_path / "my images", 20, 130)
    suggestion = checking.check(folder).suggestion
    words = shlex.split(suggestion.command)
    assert words[:3] == ["unet-zoo", "train", "unet"]
    # With its group above it: a command remembers the help options it first had.
    above = cli.main.make_context("unet-zoo", ["train"])
    context = train.command.make_context("train", words[2:], parent=above)
    assert context.params["dataset"] == str(folder)
    names = ("batch", "patch", "depth", "scale", "target")
    options = {name: context.params[name] for name in names}
    plan = _recipes.changed(_recipes.read("default", "unet"), options, ())
    assert plan.patch == suggestion.options["patch"]
    side = plan.patch
    network = registry.build(
        "unet", input_shape=(side, side, 1), classes=3, **plan.model_arguments
    )
    assert network.output_shape[1:3] == (side, side)


def test_rare_objects_ask_for_crops_on_them(tmp_path):
    labels = np.zeros((600, 600), "uint16")
    labels[100:130, 100:130], labels[300:330, 400:430] = 1, 2
    image = (labels > 0) * 99 + np.random.default_rng(0).normal(50, 5, labels.shape)
    for name in "ab":
        write(tmp_path / "images" / f"{name}.tif", image.astype("uint8"))
        write(tmp_path / "masks" / f"{name}.tif", labels)
    suggestion = checking.check(tmp_path).suggestion
    assert suggestion.options["foreground_crops"] == 0.5
    assert "--set foreground_crops=0.5" in suggestion.command
