"""One battery over every registered model; a new model is tested by existing."""

from __future__ import annotations

import copy
import inspect
import json
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from battery import (
    build,
    image,
    inputs_without_effect,
    other_values,
    pinned,
    predict,
    resolutions_joined,
    tiny,
)

from unet_zoo import errors, muon, registry, segmenter

SHARED = ["input_shape", "classes", "filters", "depth", "dropout", "normalization"]
# TensorFlow's variables have not followed NumPy 2 in the signature of `__array__`.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")

# Arguments that do not show in the graph: where weights come from.
INERT = {"backbone_unet": ("weights",)}

every_model = pytest.mark.parametrize("name", registry.names())


@every_model
def test_parameter_counts_are_the_published_ones(name: str) -> None:
    for arguments, total, trainable in pinned(name):
        # Counting needs no values, and drawing millions of them takes long.
        with keras.StatelessScope(initialize_variables=False):
            model = registry.build(name, **arguments)
        assert model.count_params() == total, arguments
        counted = sum(int(np.prod(v.shape)) for v in model.trainable_variables)
        assert counted == trainable, arguments


@every_model
def test_muon_takes_the_kernels_that_mix_channels(name: str) -> None:
    model = build(name)
    optimizer = muon.Muon()
    apart = (keras.layers.DepthwiseConv2D, keras.layers.Embedding)
    expected = {
        weight.path
        for layer in model._flatten_layers()
        if hasattr(layer, "kernel") and not isinstance(layer, apart)
        for weight in [layer.kernel]
        if weight.shape[-1] > 1 and np.prod(weight.shape[:-1]) > 1
        if "logits" not in layer.name and len(weight.shape) != 3
    }
    weights = model.trainable_variables
    taken = {each.path for each in weights if not optimizer._should_use_adamw(each)}
    assert expected
    assert taken == expected


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
    for kind in (type(layer) for layer in model.layers):
        if kind in stock:
            continue
        assert keras.saving.get_registered_name(kind).startswith("unet_zoo>")


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
    free = build(name, (None, None))
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
        run_eagerly=True,  # one step takes less time than compiling it
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
@pytest.mark.parametrize("depth", [2])
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
def test_every_argument_counts_and_returns_from_json(name: str) -> None:
    def made(**arguments: Any) -> keras.Model:
        size = arguments.pop("input_shape", (48, 64, 1))
        # A graph needs no values, and drawing them for every argument takes minutes.
        with keras.StatelessScope(initialize_variables=False):
            return build(name, size[:-1], channels=size[-1], **arguments)

    usual = made(dropout=0.5).get_config()
    for argument, value in other_values(name).items():
        other = value if isinstance(value, dict) else {argument: value}
        arguments = dict(dropout=0.5) | other
        model = made(**arguments)
        config = model.get_config()
        assert (config != usual) or argument in INERT.get(name, ()), argument
        with keras.StatelessScope(initialize_variables=False):
            rebuilt = type(model).from_config(copy.deepcopy(config))
        assert rebuilt.get_config() == config, argument
        # What a weights file keeps is the arguments as JSON, where a tuple is a list.
        stored = json.loads(json.dumps(arguments))
        if stored != arguments:
            assert made(**stored).get_config() == config, argument


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
def test_a_segmenter_takes_images_of_any_size(name: str) -> None:
    network = build(name, (None, None), classes=3)
    facts = segmenter.describe(name, tiny(name), channels=1)
    found = segmenter.Segmenter(network, facts)
    picture = np.random.default_rng(0).normal(size=(51, 61)).astype("float32")
    prediction = found.predict(picture, tta=1)
    assert prediction.shape == (51, 61, 3)
    assert np.ptp(prediction) > 0


@every_model
def test_volumes_are_taken_or_refused(name: str) -> None:
    if 3 not in registry.info(name).ranks:
        with pytest.raises(errors.InputError, match=r"Models for volumes: .*unet"):
            registry.build(name, input_shape=(64, 64, 64, 1))
        return
    model = build(name, (48, 64, 48), channels=2)
    assert predict(model, image(model, 1)).shape == (1, *model.output_shape[1:])
    assert len(model.output_shape) == 5
    assert inputs_without_effect(model) == []


@every_model
def test_deep_supervision_adds_outputs_after_the_first(name: str) -> None:
    if "deep_supervision" not in inspect.signature(registry.get(name)).parameters:
        return
    plain, deep = build(name), build(name, deep_supervision=True)
    assert plain.output_names == ["logits"]
    assert deep.output_names[0] == "logits"
    assert len(deep.outputs) > 1
    heads = {output.dtype for output in deep.outputs}
    assert heads == {"float32"}
    # The first output does not depend on the others' layers.
    for variable in plain.weights:
        (same,) = [each for each in deep.weights if each.path == variable.path]
        variable.assign(same)
    inputs = image(plain)
    first = keras.ops.convert_to_numpy(deep(inputs)[0])
    np.testing.assert_allclose(predict(plain, inputs), first, atol=1e-5)


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
        (dict(input_shape=(64, 64)), "(height, width, channels)"),
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
