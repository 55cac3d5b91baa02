"""From a file with metadata to labels: its axes, its channels, its pixel size."""

from __future__ import annotations

import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tifffile
from click.testing import CliRunner, Result

from unet_zoo import cli, images, registry, segmenter
from unet_zoo.errors import InputError

NAMES = ("DAPI", "GFP")
STACK = np.random.default_rng(0).integers(0, 4000, (2, 2, 40, 48), np.uint16)


@pytest.fixture(scope="module")
def model() -> segmenter.Segmenter:
    """Return an untrained network that finds objects all the same."""
    arguments = {"filters": 2, "depth": 2, "padding": "same"}
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    network.get_layer("logits").bias.assign([0.5, 1.0, -1.0])
    facts = segmenter.describe("unet", arguments, channels=1, pixel_size=0.5)
    return segmenter.Segmenter(network, facts)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """Return an OME-TIFF of two channels whose pixels are 1 x 0.25 micrometres."""
    path = tmp_path / "stack.ome.tif"
    metadata = {
        "axes": "TCYX", "Channel": {"Name": NAMES},
        "PhysicalSizeX": 0.25, "PhysicalSizeY": 1,
    }  # fmt: skip
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=metadata)
    return path


def segment(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, ["segment", *map(str, arguments)])


def test_paths_and_opened_images(model, stack, tmp_path):
    with images.open_image(stack, channel="GFP") as image:
        found = model.segment(image, min_size=2)
    for frame in (0, 1):
        expected = model.segment(STACK[frame, 1], pixel_size=(1, 0.25), min_size=2)
        assert expected.count
        np.testing.assert_array_equal(found.labels[frame], expected)
    one = tmp_path / "one.png"
    images.write_png(one, (STACK[0, 0] // 16).astype(np.uint8))
    np.testing.assert_array_equal(
        model.segment(str(one)), model.segment(STACK[0, 0] // 16)
    )
    with pytest.raises(InputError, match="takes 1 channel"):
        model.segment(stack)


def test_frames_of_a_file_know_its_pixel_size_and_name(model, stack):
    """Whether or not the network asks for it; what is given goes before the file's."""
    facts = {k: v for k, v in model.facts.items() if k != "pixel_size"}
    unsized = segmenter.Segmenter(model.network, facts)
    with images.open_image(stack, channel="GFP") as image:
        for found, size in (
            (model.segment(image), (1, 0.25)),
            (unsized.segment(image), (1, 0.25)),
            (model.segment(image, pixel_size=0.5), (0.5, 0.5)),
        ):
            assert found.pixel_size == size
            assert [each.pixel_size for each in found.frames] == [size] * 2
            assert [each.name for each in found.frames] == [stack.name] * 2
            rows = found.table()
            np.testing.assert_allclose(rows["area_um2"], rows["area"] * np.prod(size))


def test_pixel_size_scales_to_that_of_the_training_and_back(model):
    """Half the pixel size is what an image twice as large shows."""
    image = STACK[0, 0]
    prediction = model.predict(image, pixel_size=1.0)
    assert prediction.shape[:2] == image.shape
    normal = images.rescale(images.normalize(image[..., None], "zscore"), 2.0)
    # Twice as large, then normalised again: all but what z-scores of both differ by.
    large = images.rescale(model.predict(normal), shape=image.shape)
    assert np.corrcoef(prediction.ravel(), large.ravel())[0, 1] > 0.99
    assert model.segment(image, pixel_size=(1, 0.5)).shape == image.shape
    np.testing.assert_array_equal(
        model.predict(image, pixel_size=0.5), model.predict(image)
    )
    with pytest.raises(InputError, match="within 32 times that of the training"):
        model.predict(image, pixel_size=650)
    facts = {k: v for k, v in model.facts.items() if k != "pixel_size"}
    unsized = segmenter.Segmenter(model.network, facts)
    with pytest.raises(InputError, match="does not say at which it was trained"):
        unsized.segment(image, pixel_size=0.5)


def test_the_command_understands_the_file_as_told(model, stack, tmp_path):
    weights, output = tmp_path / "w.h5", tmp_path / "out"
    model.save(weights)
    command = ("--model", weights, "--output", output, "--overwrite")
    refused = segment(stack, *command)
    assert refused.exit_code == 2
    assert "has 2 channel(s) (DAPI, GFP), the model takes 1" in refused.stderr
    refused = segment(stack, *command, "--channel", "DAPPI")
    assert "Did you mean 'DAPI'?" in refused.stderr
    done = segment(stack, *command, "--channel", "GFP")
    assert done.exit_code == 0, done.output
    expected = model.segment(STACK[:, 1, ..., None], pixel_size=(1, 0.25))
    labels = tifffile.imread(output / "stack.ome_masks.tif")
    np.testing.assert_array_equal(labels, expected)
    done = segment(stack, *command, "--channel", 1, "--pixel-size", 0.5)
    labels = tifffile.imread(output / "stack.ome_masks.tif")
    np.testing.assert_array_equal(labels, model.segment(STACK[:, 1, ..., None]))
    assert "rescaled" not in done.stderr


def test_outlines_have_the_z_and_t_of_the_file(model, tmp_path):
    source, weights = tmp_path / "a.ome.tif", tmp_path / "w.h5"
    array = STACK[:, :, None].repeat(2, axis=2)
    metadata = {"axes": "TZCYX"}
    tifffile.imwrite(source, array, photometric="minisblack", metadata=metadata)
    model.save(weights)
    with images.open_image(source, channel=0) as image:
        model.segment(image, min_size=2).save(tmp_path, "geojson", stem="a")
    command = ("--model", weights, "--output", tmp_path / "out", "--write", "geojson")
    done = segment(source, *command, "--channel", 0, "--min-size", 2)
    assert done.exit_code == 0, done.output
    for path in (tmp_path / "a.geojson", tmp_path / "out" / "a.ome.geojson"):
        planes = [
            each["geometry"]["plane"]
            for each in json.loads(path.read_text())["features"]
        ]
        found = list(dict.fromkeys((each["z"], each["t"]) for each in planes))
        assert found == [(0, 0), (1, 0), (0, 1), (1, 1)]


def test_guesses_are_told_once_and_overridden(model, tmp_path):
    folder, weights = tmp_path / "in", tmp_path / "w.h5"
    folder.mkdir()
    for name in "ab":
        np.save(folder / f"{name}.npy", STACK[0])
    model.facts = {k: v for k, v in model.facts.items() if k != "pixel_size"}
    model.save(weights)
    command = (folder, "--model", weights, "--output", tmp_path / "out")
    done = segment(*command, "--pixel-size", 0.5)
    assert done.exit_code == 0, done.output
    assert done.stderr.count("(2, 40, 48) is taken for TYX; --axes says") == 1
    assert "does not say at which pixel size it was trained" in done.stderr
    done = segment(*command, "--axes", "CYX", "--channel", 0, "--overwrite")
    assert done.exit_code == 0, done.output
    assert "--axes" not in done.stderr
    assert tifffile.imread(tmp_path / "out" / "b_masks.tif").shape == (40, 48)
    refused = segment(*command, "--axes", "TCYX", "--overwrite")
    assert refused.exit_code == 2
    assert "'TCYX' names 4 axes" in refused.stderr
