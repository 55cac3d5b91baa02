"""One battery over every registered model; a new model is tested by existing."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

from unet_zoo import errors, registry

SHARED = ["input_shape", "classes", "filters", "depth", "dropout", "normalization"]
RESUNET_PAPER = dict(
    input_shape=(None, None, 3),
    classes=1,
    filters=64,
    depth=3,
    bridge=0,
    wide_decoder=False,
)
# Arguments, parameters with the statistics of batch normalisation, trainable ones.
PINNED: dict[str, list[tuple[dict[str, Any], int, int]]] = {
    "unet": [
        # Figure 1 of the paper, and the same with one sigmoid output.
        (dict(input_shape=(572, 572, 1)), 31_030_658, 31_030_658),
        (dict(classes=1), 31_030_593, 31_030_593),
        # The widespread padded U-Net with batch normalisation.
        (
            dict(input_shape=(None, None, 3), padding="same", normalization="batch"),
            31_049_474,
            31_037_698,
        ),
    ],
    "resunet": [
        # The slim network that is widespread in Keras, by its printed summary.
        (dict(input_shape=(512, 512, 1), classes=1), 4_722_737, 4_715_441),
        # The paper's widths with each kind of shortcut.
        (RESUNET_PAPER | dict(shortcut="identity"), 7_795_713, 7_789_313),
        (RESUNET_PAPER | dict(shortcut="conv"), 8_227_393, 8_220_993),
        (RESUNET_PAPER, 8_233_025, 8_223_809),
    ],
}

# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

every_model = pytest.mark.parametrize("name", registry.names())


def build(name: str, size: tuple[int, int] = (48, 64), **arguments: Any) -> keras.Model:
    """Build a tiny `name` at `size`, or at the size its error asks for."""
    channels = arguments.pop("channels", 1)
    arguments = dict(filters=4, depth=2) | arguments
    keras.utils.set_random_seed(7)
    try:
        return registry.build(name, input_shape=(*size, channels), **arguments)
    except errors.InputError as error:
        fitting = re.search(r"Pad to \((\d+), (\d+)\)", str(error))
        if fitting is None:
            raise
        size = (int(fitting[1]), int(fitting[2]))
        return registry.build(name, input_shape=(*size, channels), **arguments)


def image(model: keras.Model, batch: int = 2, seed: int = 1) -> np.ndarray:
    shape = (batch, *model.input_shape[1:])
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def predict(model: keras.Model, inputs: np.ndarray, **options: Any) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(inputs, **options))


# === The battery ===


@every_model
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    assert name in PINNED, f"Pin the parameter count of {name!r} in this file."
    for arguments, total, trainable in PINNED[name]:
        model = registry.build(name, **arguments)
        assert model.count_params() == total, arguments
        counted = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert counted == trainable, arguments


@every_model
def test_function_file_and_model_agree_and_say_the_same_words(name: str) -> None:
    parameters = inspect.signature(registry.get(name)).parameters
    assert list(parameters)[: len(SHARED)] == SHARED
    own = list(parameters.values())[len(SHARED) :]
    assert all(one.kind is one.KEYWORD_ONLY for one in own)
    assert all(one.default is not one.empty for one in parameters.values())
    model = build(name)
    assert model.name == name
    assert isinstance(model, keras.src.models.functional.Functional)
    stock = [getattr(keras.layers, layer) for layer in dir(keras.layers)]
    assert all(type(layer) in stock for layer in model.layers)


@every_model
@pytest.mark.parametrize(("channels", "classes"), [(1, 5), (3, 1), (7, 2)])
def test_channels_and_classes_are_free(name: str, channels: int, classes: int) -> None:
    model = build(name, channels=channels, classes=classes)
    assert predict(model, image(model)).shape[-1] == classes
    assert model.layers[-1].name == "logits"


@every_model
def test_odd_sizes_fit_or_the_error_names_one_that_does(name: str) -> None:
    asked = (75, 90)
    model = build(name, asked, depth=3)
    height, width, _ = model.input_shape[1:]
    assert 0 <= height - asked[0] < 32
    assert 0 <= width - asked[1] < 32
    lost = np.subtract(model.input_shape[1:3], model.output_shape[1:3])
    assert lost[0] == lost[1] >= 0
    assert predict(model, image(model, 1)).shape == (1, *model.output_shape[1:])


@every_model
def test_free_sizes_compute_what_fixed_ones_do(name: str) -> None:
    fixed = build(name)
    free = registry.build(name, input_shape=(None, None, 1), filters=4, depth=2)
    free.set_weights(fixed.get_weights())
    inputs = image(fixed)
    expected = predict(fixed, inputs)
    np.testing.assert_allclose(predict(free, inputs), expected, atol=1e-5)


@every_model
@pytest.mark.parametrize("arguments", [{}, {"normalization": None}])
def test_a_step_of_training_moves_every_variable(
    name: str, arguments: dict[str, None]
) -> None:
    model = build(name, dropout=0.0, **arguments)
    before = [keras.ops.convert_to_numpy(v) for v in model.trainable_variables]
    model.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    truth = np.random.default_rng(0).integers(0, 2, (2, *model.output_shape[1:3]))
    assert np.isfinite(model.train_on_batch(image(model), truth))
    normalized = any("norm" in v.path for v in model.variables)
    for variable, old in zip(model.trainable_variables, before, strict=True):
        new = keras.ops.convert_to_numpy(variable)
        assert np.isfinite(new).all(), variable.path
        # What is added ahead of a normalisation is subtracted there: it cannot learn.
        if not (normalized and variable.name in ("bias", "beta")):
            assert np.abs(new - old).max() > 1e-4, variable.path


@every_model
@pytest.mark.parametrize("depth", [1, 3])
def test_every_skip_is_there_and_used(name: str, depth: int) -> None:
    # Not the smallest size: there all levels of an unpadded decoder are equally large.
    model = build(name, (96, 112), depth=depth)
    assert len(resolutions_joined(model)) >= depth
    assert inputs_without_effect(model) == []


def test_the_search_for_unused_skips_finds_one() -> None:
    inputs = keras.Input((8, 8, 1))
    down = keras.layers.MaxPooling2D()(inputs)
    both = keras.layers.Concatenate(name="join")([down, down])
    used = keras.layers.Cropping2D(((0, 0), (0, 1)), "channels_first")(both)
    model = keras.Model(inputs, keras.layers.UpSampling2D()(used))
    assert resolutions_joined(model) == {4}
    assert inputs_without_effect(model) == [("join", 1)]


def joins(model: keras.Model) -> list[keras.layers.Layer]:
    kind = keras.layers.Concatenate
    return [layer for layer in model.layers if isinstance(layer, kind)]


def resolutions_joined(model: keras.Model) -> set[int]:
    return {layer.output.shape[1] for layer in joins(model)}


def inputs_without_effect(model: keras.Model) -> list[tuple[str, int]]:
    """Zero each input of each concatenation alone; list those that changed nothing."""
    inputs = image(model, 1)
    expected = predict(model, inputs)
    found = []
    for join in joins(model):
        for number in range(len(join.input)):

            def call(layer, *args, join=join, number=number, **kwargs):
                if layer is join:
                    tensors = list(args[0])
                    tensors[number] = keras.ops.zeros_like(tensors[number])
                    args = (tensors, *args[1:])
                return layer(*args, **kwargs)

            zeroed = keras.models.clone_model(
                model, clone_function=lambda layer: layer, call_function=call
            )
            if np.abs(predict(zeroed, inputs) - expected).max() < 1e-5:
                found.append((join.name, number))
    return found


@every_model
def test_weights_return_by_path(name: str, tmp_path: Path) -> None:
    model = build(name)
    inputs = image(model)
    expected = predict(model, inputs)
    model.save_weights(tmp_path / "model.weights.h5")

    other = build(name)
    # `weights`, since `variables` also has the seeds of dropout, numbered per process.
    paths = [variable.path for variable in model.weights]
    assert len(set(paths)) == len(paths)
    assert [variable.path for variable in other.weights] == paths
    for variable in other.weights:
        variable.assign(keras.ops.zeros_like(variable))
    assert np.abs(predict(other, inputs)).max() == 0
    other.load_weights(tmp_path / "model.weights.h5")
    np.testing.assert_array_equal(predict(other, inputs), expected)


@every_model
def test_the_configuration_rebuilds_the_model(name: str) -> None:
    model = build(name)
    again = type(model).from_config(model.get_config())
    again.set_weights(model.get_weights())
    inputs = image(model)
    np.testing.assert_array_equal(predict(again, inputs), predict(model, inputs))


@every_model
def test_mixed_precision_ends_in_float32(name: str) -> None:
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(name)
    finally:
        keras.config.set_dtype_policy("float32")
    output = model(image(model))
    assert keras.backend.standardize_dtype(output.dtype) == "float32"
    assert np.isfinite(keras.ops.convert_to_numpy(output)).all()
    assert sum(layer.compute_dtype == "bfloat16" for layer in model.layers) > 5


@every_model
@pytest.mark.parametrize("kind", [None, "batch", "group", "instance", "layer"])
def test_only_batch_normalisation_lets_images_see_each_other(
    name: str, kind: str | None
) -> None:
    model = build(name, normalization=kind, dropout=0.0)
    inputs = image(model)
    together = predict(model, inputs, training=True)[:1]
    alone = predict(model, inputs[:1], training=True)
    assert (np.abs(together - alone).max() > 1e-3) == (kind == "batch")


@every_model
def test_dropout_acts_in_training_only(name: str) -> None:
    model = build(name, dropout=0.5)
    inputs = image(model)
    np.testing.assert_array_equal(predict(model, inputs), predict(model, inputs))
    first, second = (predict(model, inputs, training=True) for _ in range(2))
    assert np.abs(first - second).max() > 1e-3


@every_model
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (dict(classes=0), "`classes` must be a whole number of at least 1. Received"),
        (dict(filters=-4), "`filters` must be a whole number of at least 1. Received"),
        (dict(filters=1.5), "Received: 1.5"),
        (dict(depth=0), "`depth` must be a whole number of at least 1. Received: 0"),
        (dict(depth=True), "`depth` must be a whole number of at least 1."),
        (dict(dropout=1.0), "`dropout` must be at least 0 and below 1. Received: 1.0"),
        (dict(dropout=-0.1), "`dropout` must be at least 0 and below 1."),
        (dict(dropout=float("nan")), "`dropout` must be at least 0 and below 1."),
        (dict(dropout="0.5"), "`dropout` must be at least 0 and below 1."),
        (dict(normalization="bach"), "'bach'. Did you mean 'batch'?"),
        (dict(normalization="None"), "Unknown `normalization` 'None'."),
        (dict(input_shape=(64, 64)), "(height, width, channels), without the batch."),
        (dict(input_shape=64), "Received: 64."),
        (dict(input_shape=(64, 64, None)), "`input_shape` must say the number of"),
        (dict(input_shape=(64, 64, 0)), "`input_shape[2]` must be a whole number"),
        (dict(input_shape=(-64, 64, 1)), "`input_shape[0]` must be a whole number"),
        (dict(input_shape=(64, 6.4, 1)), "`input_shape[1]` must be a whole number"),
    ],
)
def test_what_cannot_be_built_is_refused(
    name: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build(name, **arguments)


# === One model's own ===


def test_unet_has_the_sizes_of_the_paper() -> None:
    unet = registry.get("unet")
    model = unet((572, 572, 1), filters=1)
    sizes = [model.get_layer(f"encoder{n}_relu2").output.shape[1] for n in range(4)]
    assert sizes == [568, 280, 136, 64]
    assert model.get_layer("bottom_relu2").output.shape[1] == 28
    sizes = [model.get_layer(f"decoder{n}_relu2").output.shape[1] for n in range(4)]
    assert sizes == [388, 196, 100, 52]
    crops = [model.get_layer(f"crop{n}").cropping[0][0] for n in range(4)]
    assert crops == [88, 40, 16, 4]
    assert unet((188, 188, 1), filters=1).output_shape == (None, 4, 4, 2)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 5])
def test_fitting_sizes_are_those_that_build(depth: int) -> None:
    from unet_zoo.models import unet

    smallest = unet.fitting_size(1, depth)
    for size in (smallest, smallest + 2**depth):
        model = unet.unet((size, None, 1), filters=1, depth=depth)
        assert model.output_shape[1] == size - 2 * unet.margin(depth) > 0
    assert smallest - 2**depth <= 2 * unet.margin(depth)
    for size in range(smallest - 2, smallest + 2**depth):
        fitting = unet.fitting_size(size, depth)
        if fitting != size:
            with pytest.raises(errors.InputError, match=rf"Pad to \({fitting}, None\)"):
                unet.unet((size, None, 1), filters=1, depth=depth)


def test_sizes_that_cannot_be_halved_get_the_next_that_can() -> None:
    says = "`input_shape` (250, 250) cannot be halved 4 times. Pad to (256, 256)."
    for name, arguments in (("unet", dict(padding="same")), ("resunet", {})):
        with pytest.raises(errors.InputError, match=re.escape(says)):
            registry.build(name, input_shape=(250, 250, 1), **arguments)


def test_unpadded_unet_predicts_tiles_as_it_predicts_the_whole() -> None:
    model = registry.build("unet", depth=2, filters=4)
    whole = np.random.default_rng(0).normal(size=(1, 76, 92, 1)).astype("float32")
    expected = predict(model, whole)[:, 16:36, 8:44]
    tile = whole[:, 16:76, 8:84]
    np.testing.assert_allclose(predict(model, tile), expected, atol=1e-5)


def test_padded_unet_keeps_the_size() -> None:
    model = build("unet", padding="same", normalization="batch")
    assert model.output_shape == (None, 48, 64, 2)
    assert len(resolutions_joined(model)) == 2
    assert inputs_without_effect(model) == []


@pytest.mark.parametrize("name", ["unet", "resunet"])
@pytest.mark.parametrize(
    ("where", "stages"),
    [
        ("bottom", ["encoder2", "bottom"]),
        ("encoder", ["encoder0", "encoder1", "encoder2", "bottom"]),
        ("decoder", ["decoder2", "decoder1", "decoder0"]),
    ],
)
@pytest.mark.parametrize("spatial", [False, True])
def test_dropout_goes_where_it_is_told(
    name: str, where: str, stages: list[str], spatial: bool
) -> None:
    model = build(
        name, depth=3, dropout=0.25, dropout_at=where, spatial_dropout=spatial
    )
    kind = keras.layers.SpatialDropout2D if spatial else keras.layers.Dropout
    found = [layer for layer in model.layers if "dropout" in layer.name]
    assert [layer.name for layer in found] == [f"{stage}_dropout" for stage in stages]
    assert all(type(layer) is kind and layer.rate == 0.25 for layer in found)


@pytest.mark.parametrize(
    ("name", "arguments", "says"),
    [
        ("unet", dict(padding="valdi"), "Unknown `padding` 'valdi'. Did you mean"),
        ("unet", dict(dropout_at="botom"), "Did you mean 'bottom'?"),
        ("resunet", dict(shortcut="con"), "Did you mean 'conv'"),
        ("resunet", dict(bridge=-1), "`bridge` must be a whole number of at least 0."),
    ],
)
def test_own_arguments_are_checked(
    name: str, arguments: dict[str, Any], says: str
) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        registry.build(name, **arguments)


def test_identity_shortcut_keeps_values_and_has_nothing_to_learn() -> None:
    arguments = RESUNET_PAPER | dict(filters=4, depth=1, shortcut="identity")
    model = registry.build("resunet", **arguments)
    assert not any("shortcut" in variable.path for variable in model.variables)
    inputs = np.random.default_rng(0).normal(size=(1, 8, 8, 3)).astype("float32")
    # With the convolutions silenced only the shortcuts are left.
    for stage in ("encoder0", "bottom", "decoder0"):
        conv = model.get_layer(f"{stage}_conv2")
        conv.kernel.assign(keras.ops.zeros_like(conv.kernel))
    ends = [model.get_layer(f"{n}_add").output for n in ("encoder0", "bottom")]
    ends.append(model.get_layer("decoder0_add").output)
    first, bottom, last = (
        keras.ops.convert_to_numpy(x) for x in keras.Model(model.input, ends)(inputs)
    )
    np.testing.assert_array_equal(first[..., :3], inputs)
    assert not first[..., 3:].any()
    np.testing.assert_array_equal(bottom[..., :3], inputs[:, ::2, ::2])
    assert not bottom[..., 3:].any()
    np.testing.assert_array_equal(last, first)
