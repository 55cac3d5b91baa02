"""The decoder's thresholds are chosen by what they score, and nothing else changes."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import catalog, registry, segmenter, targets, tuning, weights
from unet_zoo.errors import InputError

SHAPE = (48, 64)


def shown(labels: np.ndarray) -> np.ndarray:
    """Return the logits of a network that knows the labels, as an image."""
    maps = targets.get("distance").encode(labels)[..., :3].clip(1e-3, 1 - 1e-3)
    return np.log(maps / (1 - maps))


def disc(y: int, x: int, radius: int) -> np.ndarray:
    """Return a bool image of one disc."""
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    return (rows - y) ** 2 + (columns - x) ** 2 <= radius**2


@pytest.fixture(scope="module")
def seeing() -> segmenter.Segmenter:
    """Return a segmenter whose image already shows what its network should predict.

    Its network passes on three channels as logits, so that a test decides what is
    predicted.
    """
    image = keras.Input((None, None, 3))
    logits = keras.layers.Conv2D(3, 1, name="logits")(image)
    network = keras.Model(image, logits, name="unet")
    network.get_layer("logits").set_weights([np.eye(3)[None, None], np.zeros(3)])
    facts = segmenter.describe(
        "unet", {"padding": "same"}, channels=3, normalization="none"
    )
    return segmenter.Segmenter(network, facts)


def test_dip_that_joins_what_is_one_is_found(seeing):
    labels = (disc(24, 22, 12) | disc(24, 42, 12)).astype("int32")
    maps = shown(labels)
    # The waist of a dumbbell is a dip of about 0.35 in its distance.
    example = catalog.Example("one", maps, labels, labels)
    assert seeing.segment(maps).labels.max() == 2
    tuned = tuning.tune(seeing, [example], "SEG")
    assert tuned.segment(maps).labels.max() == 1
    assert seeing.segment(maps).labels.max() == 2, "the segmenter given was changed"
    assert tuned.facts["target_arguments"]["smoothing"] == 1.5
    assert tuned.network is seeing.network


@pytest.mark.parametrize(("middle", "best"), [(1.2, 0.7), (0.9, 0.3)])
def test_the_search_goes_on_where_the_last_value_is_the_best(seeing, middle, best):
    rows, columns = np.ogrid[: SHAPE[0], : SHAPE[1]]
    away = np.hypot(rows - 24, columns - 30)
    # The further from the middle, the less sure, and an object as far as is `best`.
    sure = (middle - away / 20).clip(0.01, 0.99)
    labels = (sure > best).astype("int32")
    maps = shown((away <= 20).astype("int32"))
    maps[..., 0] = np.log(sure / (1 - sure))
    example = catalog.Example("one", maps, labels, labels)
    found = tuning.search(seeing, [example], "SEG")
    assert found.segmenter.target.arguments["threshold"] == best
    assert best in found.tried["threshold"]
    # A pixel as sure as the threshold may go either way.
    assert found.after["SEG"].value > 0.98
    assert found.before["SEG"].value < 0.9


def test_a_last_value_that_is_as_good_as_those_beyond_stays(seeing):
    labels = disc(24, 30, 12).astype("int32")
    example = catalog.Example("one", shown(labels), labels, labels)
    begun = tuning._with(seeing, {"threshold": 0.6})
    tuned = tuning.tune(begun, [example], "SEG")
    assert tuned.target.arguments["threshold"] == 0.6


def test_what_cannot_be_bettered_stays(seeing):
    labels = disc(24, 30, 12).astype("int32")
    maps = shown(labels)
    example = catalog.Example("one", maps, labels, labels)
    tuned = tuning.tune(seeing, [example], "SEG")
    assert tuned.target.arguments == seeing.target.arguments


def test_tunable_arguments_exist_and_do_not_change_what_is_taught():
    labels = disc(20, 20, 9).astype("int32")
    for name in targets.TARGETS:
        plain = targets.get(name)
        for argument, values in plain.tunable.items():
            for value in values:
                other = targets.get(name, **{argument: value})
                np.testing.assert_array_equal(
                    other.encode(labels), plain.encode(labels)
                )


# === Everything that decodes ===


@pytest.fixture(scope="module")
def dirty() -> list[catalog.Example]:
    """Return an object with a hole, and specks that are none."""
    labels = (disc(24, 30, 14) & ~disc(24, 30, 5)).astype("int32")
    seen = labels.copy()
    for number, x in enumerate(range(2, 40, 6), start=2):
        seen[2:4, x : x + 2] = number
    return [catalog.Example("dirty", shown(seen), labels, labels)]


def test_all_that_decodes_is_found(seeing, dirty):
    found = tuning.search(seeing, dirty, "AP")
    # A tenth of the object is enough to leave the specks out.
    assert found.changed["min_size"] == (0, round(0.1 * (dirty[0].labels > 0).sum()))
    assert found.changed["fill_holes"] == (True, False)
    assert found.before["AP"].value < found.after["AP"].value == 1
    assert set(found.tried) == {"dip", "threshold", "min_size", "fill_holes", "closing"}
    np.testing.assert_array_equal(
        found.segmenter.segment(dirty[0].image), dirty[0].labels
    )
    assert seeing.segment(dirty[0].image).labels.max() > 1, "the given one was changed"


def test_what_was_found_is_kept_in_a_copy(seeing, dirty, tmp_path):
    seeing.facts["metrics"] = {"SEG": {"value": 0.9}}
    # The same network as a file has it, of a model that can be built.
    network = registry.build("unet", classes=3, filters=2, depth=1, padding="same")
    arguments = {"filters": 2, "depth": 1, "padding": "same"}
    facts = segmenter.describe("unet", arguments, channels=1)
    segmenter.Segmenter(network, facts).save(tmp_path / "a.h5", dtype="float16")
    found = tuning.search(seeing, dirty, "AP")
    found.segmenter.facts |= {"model_arguments": arguments, "channels": 1}
    path = tuning.write(found, tmp_path / "a.h5", tmp_path / "b.h5")
    there = weights.read_facts(path)
    assert there["decode"] == found.segmenter.facts["decode"]
    assert there["tuned"]["after"] == 1
    assert there["tuned"]["images"] == 1
    assert "metrics" not in there
    again = segmenter.load(path, engine="keras")
    assert again.name == "b"
    for ours, theirs in zip(
        again.network.get_weights(),
        segmenter.load(tmp_path / "a.h5", engine="keras").network.get_weights(),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert again.decode(seeing.predict(dirty[0].image)).max() == 1
    before = path.read_bytes()
    with pytest.raises(InputError, match="is there already"):
        tuning.write(found, tmp_path / "a.h5", path)
    assert path.read_bytes() == before


def test_an_ensemble_is_tuned_as_one(seeing, dirty, tmp_path):
    both = segmenter.Ensemble([seeing, seeing], seeing.facts)
    found = tuning.search(both, dirty, "AP")
    assert isinstance(found.segmenter, segmenter.Ensemble)
    assert found.after["AP"].value == 1
    arguments = {"filters": 2, "depth": 1, "padding": "same"}
    facts = segmenter.describe("unet", arguments, channels=1)
    for name in "ab":
        network = registry.build("unet", classes=3, **arguments)
        segmenter.Segmenter(network, facts).save(tmp_path / f"{name}.h5")
    source = weights.write_ensemble(
        tmp_path / "two", [tmp_path / "a.h5", tmp_path / "b.h5"]
    )
    path = tuning.write(found, source, tmp_path / "tuned")
    there = weights.read_facts(path)
    assert there["decode"] == found.segmenter.facts["decode"]
    assert there["target_arguments"] == found.segmenter.target.arguments
    assert len(weights.members(path)) == 2


def test_classes_have_no_threshold(seeing, dirty):
    other = segmenter.Segmenter(
        seeing.network,
        seeing.facts | {"target": "semantic", "target_arguments": {"classes": 3}},
    )
    with pytest.raises(InputError, match="3 classes: the likeliest is taken"):
        tuning.search(other, dirty)
