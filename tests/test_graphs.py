"""What a network is made of, and the same result from a few rows at a time."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import pytest

from unet_zoo import graphs, registry, segmenter, streaming, tiling
from unet_zoo.graphs import strips
from unet_zoo.segmenter import segmenting

SHARED = {"filters": 4, "depth": 2, "normalization": "batch"}
MODELS = {"unet": {**SHARED, "padding": "same"}, "resunet": SHARED}


def saved(model: str, folder: Path, **more) -> Path:
    """Write the weights of a small network of random weights."""
    arguments = {**MODELS[model], **more}
    keras.utils.set_random_seed(2)
    network = registry.build(model, classes=3, **arguments)
    generator = np.random.default_rng(3)
    network.set_weights(
        [
            abs(value + generator.normal(0, 0.2, value.shape))
            if "variance" in variable.path
            else value + generator.normal(0, 0.2, value.shape)
            for value, variable in zip(
                network.get_weights(), network.weights, strict=True
            )
        ]
    )
    facts = segmenter.describe(model, arguments, channels=1)
    path = folder / f"{model}.h5"
    segmenter.Segmenter(network, facts).save(path)
    return path


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    return {model: saved(model, folder) for model in MODELS}


@pytest.fixture(scope="module")
def cache(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _own_cache(cache, monkeypatch):
    monkeypatch.setenv("UNET_ZOO_CACHE", str(cache))


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(width).normal(size=(height, width, 1)).astype("f")


def whole(loaded: segmenter.Segmenter, image: np.ndarray) -> np.ndarray:
    return tiling.predict(loaded.run, image, margin=0, step=loaded.step, padding="same")


@pytest.mark.parametrize("engine", ["keras", "openvino"])
@pytest.mark.parametrize("model", MODELS)
def test_rows_give_what_the_whole_gives(model, engine, files, monkeypatch):
    """Convolutions with strides, poolings and all kinds of upsampling among them."""
    loaded = segmenter.load(files[model], engine=engine)
    image = picture(201, 90)
    expected = whole(loaded, image)
    graph = graphs.of(loaded)
    assert graph is not None
    assert loaded.margin == graph.halo
    for at_once, rows in ((8, 16), (64, 64)):
        monkeypatch.setattr(strips, "_AT_ONCE", at_once)
        found = strips.predict(graph, image, rows=rows)
        np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max())


def test_columns_are_computed_some_after_the_others(files, monkeypatch):
    from unet_zoo.graphs import converted

    loaded = segmenter.load(files["resunet"], engine="openvino")
    for shape in ((64, 300), (300, 64)):  # and rows, where they are the longer ones
        image = picture(*shape)
        monkeypatch.setattr(converted, "_AT_ONCE", 2**14)
        found = strips.predict(graphs.of(loaded), image)
        expected = whole(loaded, image)
        np.testing.assert_allclose(found, expected, atol=2e-5 * abs(expected).max())


def test_the_halo_is_how_far_a_pixel_can_matter(files):
    """Beyond it nothing changes; an unpadded network of the same depth loses less."""
    for model in ("unet", "resunet"):
        loaded = segmenter.load(files[model], engine="keras")
        image = picture(160, 16)
        other = image.copy()
        other[:80] = 9
        apart = abs(whole(loaded, image) - whole(loaded, other)).max(axis=(1, 2))
        changed = np.flatnonzero(apart > 1e-6).max() - 79
        halo = loaded.margin
        assert 0 < changed <= halo
        assert halo < 2 * tiling.valid_unet(2).margin
    assert segmenter.load(files["unet"], engine="keras").margin == 22


def test_converted_networks_know_how_far_they_see(files, cache):
    """Whichever engine: it is written down where they are converted."""
    known = {
        model: segmenter.load(path, engine="openvino")._engine.halo
        for model, path in files.items()
    }
    kept = [json.loads(each.read_text()) for each in cache.rglob("facts.json")]
    assert sorted(each["halo"] for each in kept) == sorted(known.values())
    for model, path in files.items():
        loaded = segmenter.load(path, engine="keras")
        assert graphs.of(loaded).halo == known[model]


def test_what_looks_at_the_whole_image_has_no_graph(tmp_path):
    grouped = saved("unet", tmp_path, normalization="group")
    loaded = segmenter.load(grouped, engine="keras")
    assert graphs.of(loaded) is None
    assert loaded.margin == 2 * tiling.valid_unet(2).margin
    unpadded = saved("unet", tmp_path, padding="valid")
    assert graphs.of(segmenter.load(unpadded, engine="keras")) is None


def test_normalisation_and_upsampling_are_converted_to_what_is_quick(files, cache):
    import openvino

    for path in files.values():
        segmenter.load(path, engine="openvino")
    for path in cache.rglob("model.xml"):
        model = openvino.Core().read_model(str(path))
        kinds = [each.get_type_name() for each in model.get_ordered_ops()]
        assert len(model.outputs) == 1
        assert kinds.count("Transpose") == 2, path
        assert "Tile" not in kinds


@pytest.mark.parametrize("engine", ["keras", "openvino"])
def test_large_images_are_fed_in_rows_by_several_threads(files, engine, monkeypatch):
    monkeypatch.setattr(segmenting, "_WHOLE", 1000)
    loaded = segmenter.load(files["unet"], engine=engine)
    pictures = [picture(90 + 7 * n, 110)[..., 0] for n in range(6)]
    told: list[tuple[int, int]] = []
    loaded.predict(pictures[0], progress=lambda *of: told.append(of))
    assert told == [(1, 1)]
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(loaded.predict, pictures))
    for image, found in zip(pictures, together, strict=True):
        expected = loaded.predict(image, tile=512)
        np.testing.assert_allclose(found, expected, atol=2e-4)


def test_rows_of_int8_are_those_of_the_whole(files, monkeypatch):
    """What is rounded is rounded alike in rows, also in streaming."""
    pytest.importorskip("nncf", reason="the extra int8 is not installed")
    image = picture(201, 90)
    exact = segmenter.load(files["unet"], engine="openvino")
    eight = segmenter.load(
        files["unet"], engine="openvino", precision="int8", calibration=[image]
    )
    graph = graphs.of(eight)
    assert graph is not None
    assert graph.halo == graphs.of(exact).halo
    expected = whole(eight, image)
    rounding = abs(expected - whole(exact, image)).mean()
    assert rounding > 0
    found = strips.predict(graph, image, rows=16)
    # Rows compute in another order, by which a value is now and then rounded elsewhere.
    assert abs(found - expected).mean() < 0.05 * rounding
    # A large image is fed in rows by itself, within a given memory as well.
    monkeypatch.setattr(segmenting, "_WHOLE", 1000)
    told: list[tuple[int, int]] = []
    labels = eight.segment(image, progress=lambda *of: told.append(of)).labels
    assert told == [(1, 1)]
    streamed = np.zeros(image.shape[:2], np.uint16)
    summary = streaming.stream(eight, image, streamed, max_memory="64GB")
    assert summary.plan.strips
    assert labels.max() > 0
    assert np.mean((streamed > 0) == (labels > 0)) > 0.99
