"""The layer that draws by itself, in models, on arrays and in tf.data."""

from __future__ import annotations

import dataclasses
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from unet_zoo import augment, policies
from unet_zoo.errors import InputError
from unet_zoo.policies import Augmentation

RANDOM = np.random.default_rng(11)
IMAGES = RANDOM.random((4, 20, 24, 2)).astype("float32") * 255
LABELS = (IMAGES[..., 0] / 40).astype("int32")
PLACES = np.arange(4)


def arrays(found):
    return keras.tree.map_structure(keras.ops.convert_to_numpy, found)


# === Numbers ===


def test_numbers_are_functions_of_seed_and_place():
    ranges = Augmentation()
    uniform, normal = augment.draws(ranges, 3, np.arange(4000))
    assert (uniform.min() >= 0) & (uniform.max() < 1)
    other = augment.draws(ranges, 3, keras.ops.convert_to_tensor([17, 5]))
    np.testing.assert_array_equal(
        keras.ops.convert_to_numpy(other[0]), uniform[[17, 5]]
    )
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(other[1]), normal[[17, 5]])
    far = augment.draws(ranges, 3, np.array([17 + 2**32], "int64"))
    np.testing.assert_array_equal(far[0][0], uniform[17])
    assert (augment.draws(ranges, 4, np.arange(4000))[0] != uniform).mean() > 0.999
    last, _ = augment.draws(ranges, 2**32 - 1, np.arange(3))
    assert len(np.unique(last)) == last.size


def test_numbers_are_evenly_spread_and_independent():
    count = 4000
    uniform, normal = augment.draws(Augmentation(), 0, np.arange(count))
    beside, _ = augment.draws(Augmentation(), 1, np.arange(count))
    for values in (*uniform.T, *beside.T):
        share = np.histogram(values, bins=10, range=(0, 1))[0]
        # Chi-squared with 9 degrees of freedom: beyond 40 once in 100,000.
        assert ((share - count / 10) ** 2 / (count / 10)).sum() < 40
    np.testing.assert_allclose(normal.mean(axis=0), 0, atol=5 / np.sqrt(count))
    np.testing.assert_allclose(normal.std(axis=0), 1, atol=0.06)
    assert abs((abs(normal) > 2).mean() - 0.0455) < 0.004
    everything = np.concatenate([uniform, beside, normal, np.roll(uniform, 1, 0)], 1)
    alike = np.corrcoef(everything.T) - np.eye(everything.shape[1])
    assert abs(alike).max() < 5.5 / np.sqrt(count)


# === On arrays ===


def test_all_parts_move_together_and_keep_their_types():
    layer = augment.Augmenter("strong", seed=5, maps={"depth": "linear"})
    given = {
        "images": IMAGES.astype("uint8"),
        "labels": LABELS,
        "masks": LABELS.astype("uint16"),
        "weights": LABELS[..., None].astype("float32"),
        "targets": LABELS[..., None].astype("float32"),
        "depth": LABELS.astype("float32"),
    }
    before = {name: part.copy() for name, part in given.items()}
    out = arrays(layer(given, index=PLACES))
    assert list(out) == list(given)
    for name, part in out.items():
        assert part.shape == given[name].shape
        np.testing.assert_array_equal(given[name], before[name])
        if name != "images":
            assert part.dtype == given[name].dtype
    assert out["images"].dtype == np.float32
    np.testing.assert_array_equal(out["masks"], out["labels"])
    np.testing.assert_array_equal(out["weights"][..., 0], out["labels"])
    np.testing.assert_array_equal(out["targets"][..., 0], out["depth"])
    assert np.isin(out["labels"], LABELS).all()
    assert (out["labels"] != LABELS).mean() > 0.5


@pytest.mark.parametrize("name", policies.AUGMENTATIONS)
def test_every_policy_runs_and_none_changes_nothing(name):
    layer = augment.Augmenter(name)
    images, labels = arrays(layer((IMAGES, LABELS), index=PLACES))
    assert np.isfinite(images).all()
    unchanged = (images == IMAGES).all() and (labels == LABELS).all()
    assert unchanged == (name == "none")


def test_an_example_is_the_same_alone_in_a_batch_and_later():
    layer = augment.Augmenter("strong", seed=9)
    images, labels = arrays(layer((IMAGES, LABELS), index=PLACES))
    single = arrays(layer((IMAGES[2], LABELS[2]), index=2))
    np.testing.assert_allclose(single[0], images[2], atol=1e-3)
    np.testing.assert_array_equal(single[1], labels[2])
    back = arrays(layer((IMAGES[::-1].copy(), LABELS[::-1].copy()), index=PLACES[::-1]))
    np.testing.assert_allclose(back[0][::-1], images, atol=1e-3)
    other = arrays(augment.Augmenter("strong", seed=8)((IMAGES, LABELS), index=PLACES))
    assert (other[1] != labels).mean() > 0.3


def test_examples_are_counted_where_no_index_is_given():
    layer = augment.Augmenter("light", seed=2)
    first = arrays(layer(IMAGES[:3]))
    second = arrays(layer(IMAGES[3:]))
    assert int(layer.seen.numpy()) == 4
    layer(IMAGES, training=False)
    assert int(layer.seen.numpy()) == 4
    whole = arrays(layer(IMAGES, index=PLACES))
    np.testing.assert_allclose(np.concatenate([first, second]), whole, atol=1e-3)


def test_inference_takes_the_middle():
    layer = augment.Augmenter("strong", size=(10, 14))
    images, labels = arrays(layer((IMAGES, LABELS), training=False))
    np.testing.assert_array_equal(images, IMAGES[:, 5:-5, 5:-5])
    np.testing.assert_array_equal(labels, LABELS[:, 5:-5, 5:-5])


def test_beyond_a_constant_border_nothing_is_annotated():
    ranges = dataclasses.replace(
        Augmentation.named("none"), shift=1.0, border="constant"
    )
    given = {
        "images": IMAGES + 1,
        "labels": LABELS + 1,
        "masks": (LABELS + 1).astype("uint8"),
        "weights": 1.0 + LABELS,
    }
    out = arrays(augment.Augmenter(ranges)(given, index=PLACES))
    unknown = out["labels"] == -1
    assert 0.1 < unknown.mean() < 0.95
    for name in ("images", "masks", "weights"):
        assert (out[name][unknown] == 0).all()
        assert (out[name][~unknown] > 0).all()


def test_the_unit_of_grey_values_does_not_matter():
    layer = augment.Augmenter("strong", seed=4)
    small = arrays(layer(IMAGES / 1000 - 3, index=PLACES))
    large = arrays(layer(IMAGES, index=PLACES))
    np.testing.assert_allclose((small + 3) * 1000, large, atol=0.5)


def test_volumes():
    volume = RANDOM.random((2, 6, 16, 14, 1)).astype("float32")
    labels = (volume[..., 0] * 5).astype("int32")
    ranges = dataclasses.replace(Augmentation(), tilt=10.0, elastic=1.0)
    layer = augment.Augmenter(ranges, rank=3, seed=1)
    images, moved = arrays(layer((volume, labels), index=PLACES[:2]))
    assert images.shape == volume.shape
    assert np.isin(moved, labels).all()
    assert (moved != labels).mean() > 0.5
    single = arrays(layer((volume[1], labels[1]), index=1))
    np.testing.assert_array_equal(single[1], moved[1])


@pytest.mark.parametrize(
    ("make", "given", "message"),
    [
        (
            {"augmentation": "strnog"},
            None,
            "Unknown augmentation 'strnog'. Did you mean",
        ),
        ({"augmentation": {"blurr": 1}}, None, "Did you mean 'blur'?"),
        ({"augmentation": {"blur": -1}}, None, "`augmentation.blur` must be in 0..32."),
        ({"rank": 4}, None, "`rank` must be 2 or 3. Received: 4"),
        ({"size": (3,)}, None, "`size` must have 2 numbers. Received: (3,)"),
        ({"seed": -1}, None, "`seed` must lie in 0..4294967295. Received: -1"),
        ({"maps": {"a": "cubic"}}, None, "Unknown interpolation of 'a' 'cubic'."),
        ({}, {"image": IMAGES}, "Unknown part of the inputs 'image'. Did you mean 'im"),
        ({}, {"labels": LABELS}, "`inputs` must hold the images as 'images'."),
        ({}, (IMAGES,) * 4, "Received: 4 parts. Name them in a dictionary."),
        ({}, LABELS[0], "'images' must have the axes (batch, Y, X, channels); the bat"),
        ({}, (IMAGES, LABELS[0]), "'labels' must have the axes"),
        ({}, (IMAGES, LABELS[:, :9]), "'labels' must be as large as the images"),
    ],
)
def test_mistakes_are_named(make, given, message):
    with pytest.raises(InputError, match=re.escape(message)):
        augment.Augmenter(**make)(given)


# === In models ===


# Keras' own saving, of any variable under TensorFlow.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_a_model_trains_saves_and_loads(tmp_path):
    inputs = keras.Input((20, 24, 2))
    layer = augment.Augmenter("paper", (16, 16), seed=3, maps={"depth": "nearest"})
    model = keras.Model(inputs, keras.layers.Conv2D(1, 3)(layer(inputs)))
    model.compile("sgd", "mse", jit_compile=False)
    model.fit(IMAGES / 255, np.zeros((4, 14, 14, 1)), batch_size=2, verbose=0)
    assert int(layer.seen.numpy()) == 4
    expected = model.predict(IMAGES, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(loaded.predict(IMAGES, verbose=0), expected, atol=1e-4)
    again = loaded.layers[1]
    assert again.get_config() == layer.get_config()
    assert again.augmentation == Augmentation.named("paper")
    assert int(again.seen.numpy()) == 4


def test_half_precision_is_not_for_images_or_labels():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        layer = augment.Augmenter("none")
        images, labels = arrays(layer((IMAGES, LABELS + 1000)))
    finally:
        keras.config.set_dtype_policy("float32")
    np.testing.assert_array_equal(images, IMAGES)
    np.testing.assert_array_equal(labels, LABELS + 1000)


# === In tf.data ===


def test_a_pipeline_gives_what_arrays_give():
    layer = augment.Augmenter("strong", (16, 16), seed=6)
    expected = arrays(layer((IMAGES, LABELS), index=PLACES))
    data = tf.data.Dataset.from_tensor_slices((PLACES, IMAGES, LABELS))

    def change(place, image, labels):
        return layer((image, labels), index=place)

    whole = data.batch(4).map(change)
    single = data.map(change, num_parallel_calls=2).batch(4)
    for pipeline in (whole, single):
        images, labels = next(iter(pipeline.as_numpy_iterator()))
        assert pipeline.element_spec[0].shape[-3:] == (16, 16, 2)
        np.testing.assert_allclose(images, expected[0], atol=1e-2)
        np.testing.assert_array_equal(labels, expected[1])


def test_a_pipeline_of_mixed_sizes():
    layer = augment.Augmenter("light", seed=6)
    given = [IMAGES[0], IMAGES[1, :12], IMAGES[2, :, :9]]
    data = tf.data.Dataset.from_generator(
        lambda: iter(given), output_signature=tf.TensorSpec((None, None, 2))
    )
    out = list(data.map(layer).as_numpy_iterator())
    assert int(layer.seen.numpy()) == 3
    for place, (image, found) in enumerate(zip(given, out, strict=True)):
        expected = arrays(layer(image, index=place))
        np.testing.assert_allclose(found, expected, atol=1e-3)
