"""A segmenter takes any image as it is, and gives back labels of its size."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from unet_zoo import registry, segmenter, tiling, weights
from unet_zoo.catalog import Dataset, Example
from unet_zoo.errors import InputError
from unet_zoo.segmenter import segmenting

SAME = {"filters": 2, "depth": 2, "padding": "same"}
VALID = {"filters": 2, "depth": 2, "padding": "valid"}


def make(
    arguments=SAME, model="unet", channels=1, classes=3, noise=0.1, **facts
) -> segmenter.Segmenter:
    """Return a segmenter of random weights that answers with varied logits."""
    keras.utils.set_random_seed(0)
    network = registry.build(
        model, input_shape=(None, None, channels), classes=classes, **arguments
    )
    generator = np.random.default_rng(5)
    # Untrained biases are zero: without these every pixel would look alike.
    network.set_weights(
        [w + generator.normal(0, noise, w.shape) for w in network.get_weights()]
    )
    described = segmenter.describe(model, arguments, channels=channels, **facts)
    return segmenter.Segmenter(network, described)


def picture(*shape: int, dtype="uint8") -> np.ndarray:
    generator = np.random.default_rng(shape)
    return generator.integers(0, 255, shape).astype(dtype)


@pytest.fixture(scope="module")
def same() -> segmenter.Segmenter:
    return make()


@pytest.fixture(scope="module")
def valid() -> segmenter.Segmenter:
    return make(VALID, target="semantic", classes=2)


@pytest.mark.parametrize("size", [(1, 1), (1, 40), (7, 5), (33, 64), (90, 61)])
@pytest.mark.parametrize("name", ["same", "valid"])
def test_any_size_is_taken(name, size, request):
    model = request.getfixturevalue(name)
    prediction = model.predict(picture(*size))
    assert prediction.shape == (*size, model.target.channels)
    assert prediction.dtype == np.float32
    assert ((prediction >= 0) & (prediction <= 1)).all()
    labels = model.segment(picture(*size))
    assert labels.shape == size
    assert labels.dtype == np.int32


def test_number_types_do_not_matter(same):
    image = picture(40, 50)
    expected = same.predict(image)
    assert expected.std() > 1e-3
    for dtype in ("uint16", "int32", "float32", "float64"):
        # z-scores do not change with the unit either.
        found = same.predict(image.astype(dtype) * 100)
        np.testing.assert_allclose(found, expected, atol=1e-5)
    np.testing.assert_array_equal(same.predict(image[..., None]), expected)
    mask = image > 100
    np.testing.assert_allclose(
        same.predict(mask), same.predict(mask.astype("uint8")), atol=1e-6
    )


def test_stacks_are_segmented_frame_by_frame(same):
    stack = picture(3, 40, 30, 1)
    labels = same.segment(stack)
    assert labels.shape == (3, 40, 30)
    for frame, found in zip(stack, labels, strict=True):
        np.testing.assert_array_equal(found, same.segment(frame[..., 0]))


@pytest.mark.parametrize("kept", [2**30, 0])
def test_a_result_knows_what_was_predicted(kept, same, monkeypatch):
    """Kept where that is little, otherwise predicted anew when it is asked for."""
    monkeypatch.setattr(segmenting, "_KEPT", kept)
    stack = picture(3, 40, 30, 1)
    for image in (stack, stack[0]):
        found = same.segment(image, tta=4)
        frames = stack[: len(found.frames)]
        predicted = [same.predict(frame, tta=4) for frame in frames]
        if found.ndim == 2:
            assert found.image is image or np.shares_memory(found.image, image)
            (predicted,) = predicted
        np.testing.assert_allclose(found.prediction, predicted, atol=1e-6)
        sure = np.asarray(predicted)[..., 0]  # of the distance target, the foreground
        np.testing.assert_allclose(found.probability, sure, atol=1e-6)
        assert "mean_confidence" in found.table()
        assert not found.classes


@pytest.mark.parametrize(
    ("arguments", "classes", "channel"),
    [
        ({"target": "semantic", "classes": 2}, False, 1),
        ({"target": "border", "classes": 2}, False, 1),
        ({"target": "semantic", "classes": 4}, True, None),
    ],
)
def test_what_the_foreground_of_a_target_is(arguments, classes, channel):
    if classes:
        arguments["target_arguments"] = {"classes": arguments["classes"]}
    found = make(**arguments).segment(picture(40, 30))
    assert found.classes == classes
    expected = (
        1 - found.prediction[..., 0] if classes else found.prediction[..., channel]
    )
    np.testing.assert_array_equal(found.probability, expected)


def test_what_is_given_is_not_changed(same):
    image = picture(40, 30, dtype="float32")
    before = image.copy()
    same.segment(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    ("shape", "channels", "message"),
    [
        ((30, 30, 3), 1, r"takes 1 channel\(s\). Received: \(30, 30, 3\).*image\[...,"),
        ((30, 30), 3, r"takes 3 channel\(s\). Received: \(30, 30, 1\)"),
        ((30,), 1, r"must be of shape \(Y, X, 1\)"),
    ],
)
def test_other_channels_are_refused(shape, channels, message):
    with pytest.raises(InputError, match=message):
        make(channels=channels).segment(picture(*shape))


def test_impossible_wishes_are_refused(same):
    with pytest.raises(InputError, match="must be 1, 4, 7 or 8"):
        same.segment(picture(9, 9), tta=3)
    with pytest.raises(InputError, match="Did you mean 'threshold'"):
        same.segment(picture(9, 9), treshold=0.4)
    with pytest.raises(InputError, match="NaN or infinite"):
        same.segment(np.full((9, 9), np.nan))
    with pytest.raises(InputError, match="must not be negative"):
        same.segment(picture(9, 9), min_size=-1)


def test_options_of_the_decoder_arrive():
    plain = {"target": "semantic", "classes": 2}
    image, model = picture(60, 60), make(**plain)
    # Half of the pixels lie above the median: many objects, some of them small.
    options = {
        "threshold": float(np.median(model.predict(image)[..., 1])),
        "min_size": 30,
        "fill_holes": False,
    }
    labels = model.segment(image, **options).labels
    all_sizes = model.segment(image, **options | {"min_size": 0})
    assert 1 <= labels.max() < all_sizes.labels.max()
    assert np.bincount(labels.ravel())[1:].min() >= 30
    assert not model.segment(image, threshold=1.0).count
    published = make(decode=options, **plain)
    np.testing.assert_array_equal(published.segment(image), labels)
    # What is asked for beats what was published.
    assert not published.segment(image, threshold=1.0).count


TURNS = {
    1: [],
    4: [np.flipud, np.fliplr],
    8: [np.flipud, np.fliplr, np.rot90, lambda image: image.swapaxes(0, 1)],
}


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("tta", [4, 8])
@pytest.mark.parametrize("name", ["same", "valid"])
def test_turning_the_image_turns_the_prediction(name, tta, scale, request):
    model = request.getfixturevalue(name)
    model = segmenter.Segmenter(model.network, {**model.facts, "scale": scale})
    image = picture(45, 36)
    prediction = model.predict(image, tta=tta)
    for turn in TURNS[tta]:
        found = model.predict(turn(image), tta=tta)
        np.testing.assert_allclose(found, turn(prediction), atol=1e-5)
    # Not because the network sees no difference.
    once = model.predict(np.flipud(image), tta=1)
    assert abs(once - np.flipud(model.predict(image, tta=1))).max() > 1e-3


def test_averages_are_of_all_turns(same):
    """Four flips, and their transposes: nothing counted twice."""
    image = picture(32, 32)
    expected = [
        turn(same.predict(turn(image), tta=1))
        for turn in (lambda x: x, np.flipud, np.fliplr, lambda x: x[::-1, ::-1])
    ]
    np.testing.assert_allclose(
        same.predict(image, tta=4), np.mean(expected, axis=0), atol=1e-6
    )


@pytest.mark.parametrize("size", [(61, 90), (64, 64)])
def test_rotations_by_sevenths_come_back_to_their_place(size):
    """A network that looks at single pixels sees the same in every rotation."""
    inputs = keras.Input((None, None, 1))
    network = keras.Model(inputs, keras.layers.Conv2D(3, 1)(inputs), name="unet")
    facts = segmenter.describe("unet", SAME, channels=1)
    y, x = np.indices(size)
    image = np.sin(y / 9) + np.cos((x - 0.5 * y) / 11)
    model = segmenter.Segmenter(network, facts)
    once = model.predict(image, tta=1)
    assert once.std() > 0.05
    away = abs(model.predict(image, tta=7) - once)
    assert away[2:-2, 2:-2].max() < 0.01
    # At the very edge, mirrored pixels take part in the interpolation.
    assert away.max() < 0.05


@pytest.mark.parametrize("scale", [0.5, 0.3, 2.0])
def test_results_come_at_the_size_of_the_image(scale):
    model = make(scale=scale)
    for size in ((41, 60), (1, 1), (3, 50)):
        assert model.predict(picture(*size)).shape == (*size, 3)
        assert model.segment(picture(*size)).shape == size


def test_a_smaller_scale_sees_a_smaller_image():
    image = np.kron(picture(30, 24), np.ones((2, 2), "uint8"))
    seen = []
    model = make(scale=0.5)
    run = model.network.predict_on_batch
    model.network.predict_on_batch = lambda batch: (
        seen.append(batch.shape) or run(batch)
    )
    model.predict(image)
    assert seen == [(1, 32, 24, 1)]


# === Tiles ===


def test_valid_tiles_cannot_be_seen_in_a_large_image():
    model = make(
        {"filters": 2, "depth": 4, "padding": "valid"}, classes=2, target="border"
    )
    image = picture(1500, 1100)
    calls = []
    tiled = model.predict(image, progress=lambda done, of: calls.append((done, of)))
    assert calls[-1] == (len(calls), len(calls))
    assert len(calls) >= 6  # by itself, since it is larger than a million pixels
    whole = model.predict(image, tile=1504)
    assert whole.std() > 1e-3
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("model", ["unet", "resunet"])
@pytest.mark.parametrize(
    ("size", "depth", "tile"),
    [((200, 130), 2, 32), ((97, 301), 2, 32), ((1500, 1100), 4, 512)],
)
def test_padded_tiles_agree_with_the_whole(model, size, depth, tile):
    arguments = {"filters": 2, "depth": depth, "normalization": "batch"}
    if model == "unet":
        arguments["padding"] = "same"
    # Weights near their start keep logits small: in thousands, rounding would show.
    segments = make(arguments, model=model, noise=0.02)
    image = picture(*size)
    whole = segments.predict(image, tile=2000)
    tiled = segments.predict(image, tile=tile)
    assert whole.std() > 1e-3
    np.testing.assert_allclose(tiled, whole, atol=1e-4)


def test_the_margin_is_what_a_valid_network_loses(valid):
    margin = tiling.valid_unet(2).margin
    size = tiling.fitting(100, 4, remainder=0)
    image = picture(size, size, dtype="float32")
    image = (image - image.mean()) / image.std()
    output = valid.network.predict_on_batch(image[None, ..., None])
    assert output.shape[1] == size - 2 * margin
    whole = valid.predict(image)[margin:-margin, margin:-margin]
    np.testing.assert_allclose(whole, valid.target.activate(output[0]), atol=1e-5)


# === Files ===


@pytest.mark.parametrize(("dtype", "atol"), [("float32", 0), ("float16", 5e-3)])
def test_a_file_gives_the_segmenter_back(tmp_path, dtype, atol):
    arguments = {**SAME, "normalization": "batch"}
    model = make(arguments, scale=0.5, tta=4, target_arguments={"seed": 0.3})
    image, path = picture(50, 40), tmp_path / "w.h5"
    model.save(path, dtype=dtype)
    loaded = segmenter.load(path)
    assert loaded.facts == model.facts
    assert loaded.target.arguments["seed"] == 0.3
    np.testing.assert_allclose(loaded.predict(image), model.predict(image), atol=atol)
    if not atol:
        np.testing.assert_array_equal(loaded.segment(image), model.segment(image))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(InputError, match=r"none\.h5"):
        segmenter.load(tmp_path / "none.h5")
    with pytest.raises(InputError, match="neither a weights file nor a folder"):
        segmenter.load(tmp_path / "none" / "weights")


def test_a_folder_stands_for_its_weights_and_never_for_a_name(
    same, tmp_path, monkeypatch
):
    run, zoo = tmp_path / "run", tmp_path / "zoo"
    run.mkdir()
    with pytest.raises(InputError, match=r"holds no weights\.h5"):
        segmenter.load(run)
    same.save(run / "weights.h5")
    assert segmenter.load(run).facts == same.facts
    # A name means the entry, even where a folder of that name lies.
    (zoo / "unet-mine").mkdir(parents=True)
    named = segmenter.Segmenter(same.network, {**same.facts, "name": "unet-mine"})
    named.save(zoo / "unet-mine" / "weights.h5")
    told = {"summary": "s", "dataset": "d", "licence": "l", "citation": "c"}
    weights.write_entry(zoo / "unet-mine", **told)
    monkeypatch.setattr(weights._entries, "FOLDER", zoo)
    (tmp_path / "unet-mine").mkdir()
    monkeypatch.chdir(tmp_path)
    assert segmenter.load("unet-mine").name == "unet-mine"


def test_facts_say_what_made_them():
    facts = make(author="me").facts
    assert facts["author"] == "me"
    assert {"backend", "keras", "numpy", "unet-zoo"} <= facts["versions"].keys()


def test_evaluate_asks_for_the_split(same):
    image, labels = picture(30, 30, 1), np.zeros((30, 30), "int32")
    labels[3:9, 3:9] = 1
    example = Example("a", image, labels, reference=labels)
    data = Dataset("d", "1", None, "instances", "", {}, {"test": lambda: [example]})
    scores = same.evaluate(data, names=["Dice"])
    assert list(scores) == ["Dice"]
    assert scores["Dice"].frames == 1
    with pytest.raises(InputError, match="has no split 'validation'"):
        same.evaluate(data, "validation")
