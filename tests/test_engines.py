"""Engines give what Keras gives, with nothing of Keras or TensorFlow imported."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from unet_zoo import (
    calibrating,
    cli,
    engines,
    files,
    images,
    registry,
    segmenter,
)
from unet_zoo.errors import InputError
from unet_zoo.weights import models

ARGUMENTS = {"filters": 4, "depth": 2, "padding": "same", "normalization": "batch"}
# Segments as a user's program does, and says what it had to import for it.
PROGRAM = """
import sys
import numpy as np
import unet_zoo
image = np.load(sys.argv[2])
found = unet_zoo.load(sys.argv[1], engine=sys.argv[3])
np.save(sys.argv[4], found.predict(image))
print(*({"keras", "tensorflow", "torch", "jax"} & set(sys.modules)))
"""


def picture(height: int, width: int) -> np.ndarray:
    generator = np.random.default_rng(height)
    return generator.integers(0, 255, (height, width)).astype("uint8")


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    """Return a file of a small network, normalised and not trained."""
    network = registry.build("unet", classes=3, **ARGUMENTS)
    generator = np.random.default_rng(0)
    network.set_weights(
        [
            np.abs(value + generator.normal(0, 0.1, value.shape))
            if "variance" in variable.path
            else value + generator.normal(0, 0.1, value.shape)
            for value, variable in zip(
                network.get_weights(), network.weights, strict=True
            )
        ]
    )
    made = segmenter.Segmenter(
        network, segmenter.describe("unet", ARGUMENTS, channels=1, tta=4)
    )
    path = tmp_path_factory.mktemp("weights") / "weights.h5"
    made.save(path)
    return path


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("UNET_ZOO_CACHE", str(cache))


# === Choosing ===


def test_openvino_is_taken_where_it_is_and_no_gpu(monkeypatch):
    monkeypatch.delenv("UNET_ZOO_ENGINE", raising=False)
    there = {"openvino"}
    monkeypatch.setattr(engines, "_is_there", lambda package: package in there)
    monkeypatch.setattr(engines, "_gpu", lambda: False)
    assert engines.choose() == engines.choose("auto") == "openvino"
    monkeypatch.setattr(engines, "_gpu", lambda: True)
    assert engines.choose() == "keras"
    assert engines.choose("openvino") == "openvino"
    monkeypatch.setattr(engines, "_gpu", lambda: False)
    there.clear()
    assert engines.choose() == "keras"
    monkeypatch.setenv("UNET_ZOO_ENGINE", "openvino")
    with pytest.raises(InputError, match=r"pip install 'unet-zoo\[openvino\]'"):
        engines.choose()
    assert engines.choose("keras") == "keras"


def test_what_is_not_there_is_refused(weights):
    with pytest.raises(InputError, match="Did you mean 'openvino'"):
        segmenter.load(weights, engine="openvin")
    with pytest.raises(InputError, match="Did you mean 'bfloat16'"):
        segmenter.load(weights, engine="keras", precision="bfloat")
    with pytest.raises(InputError, match="'onnx' computes in float32"):
        engines.check_precision("onnx", "bfloat16")


# === Running ===


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_an_engine_gives_what_keras_gives_without_it(engine, weights, cache, tmp_path):
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    image = picture(61, 43)
    np.save(tmp_path / "image.npy", image)
    said: list[str] = []
    segmenter.load(weights, engine=engine, said=said.append)
    assert said == [f"Converting weights.h5 for {engine}, once ..."]
    words = [str(weights), str(tmp_path / "image.npy"), engine, str(tmp_path / "p.npy")]
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == ""
    expected = segmenter.load(weights, engine="keras")
    assert expected.predict(image).std() > 0.01
    found = np.load(tmp_path / "p.npy")
    np.testing.assert_allclose(found, expected.predict(image), atol=1e-5)
    # In tiles, and asked for its network, it is the same segmenter.
    again = segmenter.load(weights, engine=engine, said=said.append)
    assert len(said) == 1
    np.testing.assert_allclose(
        again.predict(image, tile=32), expected.predict(image, tile=32), atol=1e-5
    )
    np.testing.assert_array_equal(again.segment(image), expected.segment(image))
    assert again.step == expected.step == 4
    assert all(each.is_file() for each in again.engine.files)
    assert expected.engine is None
    for ours, theirs in zip(
        again.network.get_weights(), expected.network.get_weights(), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def untrained(name: str, folder: Path, **arguments: object) -> Path:
    """Write the weights of a network that was never trained."""
    network = registry.build(name, classes=3, **arguments)
    facts = segmenter.describe(name, arguments, channels=1, target="distance")
    segmenter.Segmenter(network, facts).save(folder / "small.h5")
    return folder / "small.h5"


@pytest.mark.parametrize("engine", ["openvino", "onnx"])
def test_gelu_is_known_to_every_engine(engine, tmp_path, monkeypatch):
    if engine == "onnx":
        pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
        pytest.importorskip("tf2onnx", reason="the extra onnx is not installed")
    monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path))
    file = untrained("unext", tmp_path, filters=4, multipliers=(1, 1, 2, 2, 2))
    image = picture(64, 64)
    expected = segmenter.load(file, engine="keras").predict(image)
    found = segmenter.load(file, engine=engine).predict(image)
    assert expected.std() > 0.001
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_engine_that_cannot_run_a_model_is_refused(tmp_path):
    file = untrained("swin_unet", tmp_path, filters=6, depth=2, window=4)
    with pytest.raises(
        InputError, match=r"cannot run 'swin_unet'\. Take 'keras' or 'on"
    ):
        segmenter.load(file, engine="openvino")


def test_where_nobody_asks_keras_runs_what_openvino_cannot(tmp_path, monkeypatch):
    monkeypatch.delenv("UNET_ZOO_ENGINE")
    monkeypatch.setattr(engines, "_gpu", lambda: False)
    folders = [tmp_path / name for name in ("swin", "unet")]
    for folder in folders:
        folder.mkdir()
    swin = untrained("swin_unet", folders[0], filters=6, depth=2, window=4)
    unet = untrained("unet", folders[1], filters=2, depth=1, padding="same")
    said = []
    assert engines.choose(models=models([unet]), said=said.append) == "openvino"
    assert not said
    found = segmenter.load(swin, said=said.append)
    assert said == ["Keras runs swin_unet, which openvino cannot"]
    assert found.predict(picture(64, 64)).shape[:2] == (64, 64)


def test_what_an_engine_fails_at_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path))
    able = dataclasses.replace(registry.info("swin_unet"), engines=engines.ENGINES)
    monkeypatch.setattr(registry, "info", lambda name: able)
    file = untrained("swin_unet", tmp_path, filters=6, depth=2, window=4)
    found = segmenter.load(file, engine="openvino")
    with pytest.raises(InputError, match=r"cannot run this network .* 'keras' or 'on"):
        found.predict(picture(384, 384))


def test_threads_share_an_engine(weights):
    found = segmenter.load(weights, engine="openvino")
    images = [picture(size, 40) for size in range(32, 72, 4)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(found.predict, images))
    for image, prediction in zip(images, together, strict=True):
        np.testing.assert_array_equal(prediction, found.predict(image))


def test_many_images_at_once_give_what_each_gives_alone(weights):
    alone = segmenter.load(weights, engine="openvino")
    many = segmenter.Ensemble([alone, alone], alone.facts).for_many()
    cores = len(os.sched_getaffinity(0))
    assert (alone.lanes, many.lanes) == (1, min(4, cores))
    images = [picture(size, 40) for size in range(32, 72, 4)]
    with ThreadPoolExecutor(many.lanes) as pool:
        together = list(pool.map(many.predict, images))
    for image, prediction in zip(images, together, strict=True):
        np.testing.assert_array_equal(prediction, alone.predict(image))


@pytest.mark.parametrize("engine", ["openvino", "keras"])
def test_bfloat16_is_near(weights, engine):
    image = picture(48, 48)
    exact = segmenter.load(weights, engine="keras").predict(image)
    half = segmenter.load(weights, engine=engine, precision="bfloat16").predict(image)
    assert half.dtype == exact.dtype
    assert abs(half - exact).max() < 0.05


# === int8 ===


def test_int8_is_near_and_asks_for_images(weights, cache):
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    shown = [picture(48, 40), picture(40, 48)]
    said: list[str] = []
    exact = segmenter.load(weights, engine="openvino")

    def load(shown):
        return segmenter.load(
            weights,
            engine="openvino",
            precision="int8",
            calibration=shown,
            said=said.append,
        )

    found = load(shown)
    assert said == ["Calibrating int8 on 2 images ..."]
    apart = abs(found.predict(shown[0]) - exact.predict(shown[0]))
    assert 0 < apart.mean() < 0.02
    # The same images make the same network, which is there.
    again = load([image[..., None] for image in shown])
    assert len(said) == 1
    np.testing.assert_array_equal(again.predict(shown[0]), found.predict(shown[0]))
    (made,) = cache.glob("engines/*-int8-*")
    assert {each.name for each in made.iterdir()} >= {"model.xml", "model.bin"}
    with pytest.raises(InputError, match="calibrated on images: `calibration` must"):
        load([])
    with pytest.raises(InputError, match=r"hold images \(Y, X, 1\).*\(48, 40, 3\)"):
        load([np.zeros((48, 40, 3))])


def test_int8_is_of_openvino(weights, monkeypatch):
    with pytest.raises(InputError, match="int8 is for the engine 'openvino'"):
        segmenter.load(weights, engine="keras", precision="int8")
    monkeypatch.setattr(engines, "_is_there", lambda package: package != "nncf")
    with pytest.raises(InputError, match=r"pip install 'unet-zoo\[int8\]'"):
        engines.check_precision("openvino", "int8")


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_calibration_shows_what_the_network_takes(padding):
    arguments = {"filters": 2, "depth": 2, "padding": padding}
    facts = segmenter.describe("unet", arguments, channels=1, scale=0.5)
    image = np.random.default_rng(0).integers(0, 99, (3, 1300, 70, 1))
    for shown in (image, picture(20, 20)):
        network = registry.build("unet", classes=3, **arguments)
        for batch in calibrating.batches([shown], facts, 4):
            assert batch.dtype == np.float32
            assert max(batch.shape) <= 516
            assert 0 not in network.predict_on_batch(batch).shape
    assert len(calibrating.batches([image] * 4, facts, 4)) == calibrating.MOST
    whole = calibrating.batches([picture(40, 40)], facts | {"scale": 1.0}, 4)[0]
    assert abs(whole[:, :40, :40].mean()) < 1e-5


def test_importing_openvino_reports_nothing(weights):
    program = (
        "import sys; from unet_zoo import engines; engines.import_openvino(); "
        "print('openvino_telemetry' in sys.modules, 'openvino' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout.split() == ["False", "True"]


def test_ctrl_c_is_survived_by_who_has_let_models_go(weights):
    """In the order in which they came; the last one held what the first one took."""
    code = """
import gc, signal, sys, unet_zoo
for _ in range(3):
    model = unet_zoo.load(sys.argv[1], engine="openvino").for_many()
del model
gc.collect()
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""
    ended = subprocess.run(
        [sys.executable, "-c", code, str(weights)],
        capture_output=True,
        check=False,
        text=True,
    )
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


def test_a_damaged_conversion_is_made_anew(weights, cache):
    said: list[str] = []
    segmenter.load(weights, engine="openvino", said=said.append)
    (model,) = cache.glob("engines/*-openvino-?/model.bin")
    content = bytearray(model.read_bytes())
    content[len(content) // 2] ^= 1
    model.write_bytes(content)
    said.clear()
    segmenter.load(weights, engine="openvino", said=said.append)
    assert said
    sums = json.loads((model.parent / "sums.json").read_text())
    assert sums["model.bin"] == files.sha256(model)


def test_what_cannot_be_converted_says_why(tmp_path, cache, weights):
    broken = tmp_path / "weights.h5"
    broken.write_bytes(weights.read_bytes()[:-100])
    before = set(cache.rglob("*"))
    with pytest.raises(InputError, match=r"cannot be converted.*Take the engine"):
        engines.open_engine("openvino", broken, cache)
    assert set(cache.rglob("*")) == before


# === The command line ===


def test_the_command_segments_by_an_engine(weights, tmp_path):
    from PIL import Image

    Image.fromarray(picture(40, 40)).save(tmp_path / "a.png")
    words = ["segment", str(tmp_path / "a.png"), "--model", str(weights), "--engine"]
    out = ["--output", str(tmp_path / "out")]
    run = CliRunner().invoke(cli.main, [*words, "openvino", *out])
    assert run.exit_code == 0, run.output
    assert (tmp_path / "out" / "a_masks.tif").exists()
    backend = ["--backend", "tensorflow", "--overwrite"]
    run = CliRunner().invoke(cli.main, [*words, "openvino", *out, *backend])
    assert run.exit_code == 2
    assert "'tensorflow' is a backend of Keras" in run.output


def test_the_command_calibrates_on_its_images(weights, tmp_path):
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    from PIL import Image

    shown = [picture(48, 40), picture(40, 48)]
    for number, image in enumerate(shown):
        Image.fromarray(image).save(tmp_path / f"{number}.png")
    words = ["segment", str(tmp_path), "--model", str(weights), "--output"]
    words += [str(tmp_path / "out"), "--write", "labels", "--calibrate", str(tmp_path)]
    run = CliRunner().invoke(cli.main, words)
    assert run.exit_code == 2
    assert "--calibrate is for --precision int8" in run.stderr
    eight = ["--precision", "int8", "--engine", "openvino"]
    run = CliRunner().invoke(cli.main, [*words[:-2], *eight])
    assert run.exit_code == 0, run.output
    assert "calibrated on up to 8 of the images to be segmented" in run.stderr
    made = segmenter.load(
        weights, engine="openvino", precision="int8", calibration=shown
    )
    found = images.read_one(tmp_path / "out" / "0_masks.tif")[..., 0]
    np.testing.assert_array_equal(found, made.segment(shown[0]))
