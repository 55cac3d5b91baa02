"""A training that starts from weights: what it takes over, makes anew and freezes."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from test_training import PLAN, SMALL, blob, data, history

from unet_zoo import (
    metrics,
    recipe,
    registry,
    segmenter,
    starting,
    targets,
    training,
    weights,
)
from unet_zoo.errors import InputError

# Of every variant something small.
TINY = {name: {"depth": 2, "filters": 4} for name in registry.names()} | {
    "backbone_unet": {"depth": 2, "filters": 4, "weights": None},
    "swin_unet": {"depth": 2, "filters": 6, "heads": 1, "window": 4},
    "trans_unet": {
        "depth": 2,
        "filters": 4,
        "units": (1,),
        "hidden": 8,
        "mlp": 16,
        "heads": 2,
        "blocks": 1,
        "widths": (8, 8, 4),
    },
    "unet": {"depth": 2, "filters": 4, "padding": "same", "normalization": "batch"},
}


def build(name: str, channels: int, classes: int = 3):
    arguments = {"input_shape": (None, None, channels), "classes": classes}
    return registry.build(name, **arguments, **TINY[name])


def write(path, name: str, channels: int):
    """Write a network with random weights, biases and statistics too; return it."""
    network = build(name, channels)
    generator = np.random.default_rng(0)
    for variable in network.weights:
        if len(variable.shape) == 1 and "float" in variable.dtype:
            variable.assign(generator.uniform(0.5, 1.5, variable.shape))
    weights.write(
        path, network, segmenter.describe(name, TINY[name], channels=channels)
    )
    return network


# === Every variant ===


@pytest.mark.parametrize("name", registry.names())
def test_the_encoder_is_frozen_level_by_level(name):
    with keras.StatelessScope(initialize_variables=False):
        network = build(name, 1)
    if name == "backbone_unet":
        with pytest.raises(InputError, match='Freeze "encoder", all of it'):
            starting.freeze(network, 1)
        one: set[str] = set()
    else:
        one = set(starting.freeze(network, 1))
        assert one
    every = set(starting.freeze(network, "encoder"))
    assert one < every
    free = {each.name for each in network.layers if each.weights and each.trainable}
    assert not every & free
    # Nothing of the decoder is frozen, and nothing of the encoder is left.
    assert not [each for each in every if each.startswith(("decoder", "up", "logits"))]
    assert not [each for each in free if each.startswith(("encoder", "bottom", "stem"))]
    assert any(each.startswith("logits") for each in free)
    with pytest.raises(InputError, match="encoder"):
        starting.freeze(network, 99)


# One of each kind of first layer: two branches, a shortcut, depthwise, repeated input.
@pytest.mark.parametrize(
    "name", ["kiunet", "resunet", "smaat_unet", "unet", "unext", "vnet"]
)
def test_an_image_of_equal_channels_gives_what_it_gave(tmp_path, name):
    network = write(tmp_path / "weights.h5", name, 1)
    plan = recipe.from_dict({"model": name, "model_arguments": TINY[name]})
    image = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype("float32")
    wide = build(name, 3)
    start = starting.find(tmp_path / "weights.h5")
    facts = starting.begin(wide, start, plan, targets.get("distance"))
    assert facts["adapted"]
    assert not facts["anew"]
    found = wide(np.repeat(image, 3, axis=-1))
    expected = keras.ops.convert_to_numpy(network(image))
    limit = 1e-5 * np.ptp(expected)
    np.testing.assert_allclose(
        keras.ops.convert_to_numpy(found), expected, atol=limit, rtol=0
    )


def test_colour_to_grey_and_another_target(tmp_path, caplog):
    network = write(tmp_path / "weights.h5", "unet", 3)
    start = starting.find(tmp_path / "weights.h5")
    plan = recipe.from_dict(
        {"model_arguments": TINY["unet"], "target": "semantic"}
    ).replace(target_arguments={"classes": 4})
    grey = build("unet", 1, classes=4)
    before = [np.array(each.numpy()) for each in grey.get_layer("logits").weights]
    facts = starting.begin(grey, start, plan, targets.get("semantic", classes=4))
    assert facts["anew"] == ["logits"]
    assert facts["adapted"] == ["encoder0_conv1"]
    assert facts["sha256"] == weights.sha256(tmp_path / "weights.h5")
    for one, other in zip(before, grey.get_layer("logits").weights, strict=True):
        np.testing.assert_array_equal(one, other.numpy())
    image = np.random.default_rng(1).normal(size=(1, 32, 32, 1)).astype("float32")
    last = [
        keras.Model(each.input, each.get_layer("decoder0_relu2").output)(picture)
        for each, picture in ((network, np.repeat(image, 3, axis=-1)), (grey, image))
    ]
    np.testing.assert_allclose(*map(np.asarray, last), atol=1e-4)
    told = "\n".join(each.getMessage() for each in caplog.records)
    assert "last layer starts anew (logits): the target is 'semantic' of 4" in told
    assert "1 channel(s) here and had 3: the weights of encoder0_conv1" in told
    # As many channels, but another meaning.
    same = build("unet", 3)
    facts = starting.begin(same, start, plan, targets.get("semantic", classes=3))
    assert (facts["anew"], facts["adapted"]) == (["logits"], [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filters": 5, "depth": 3}, r"filters is 5 here and 4 there; depth is 3 here"),
        ({"normalization": "none"}, "normalization is 'none' here and 'batch' there"),
    ],
)
def test_other_arguments_are_refused(tmp_path, changes, message):
    write(tmp_path / "weights.h5", "unet", 1)
    plan = recipe.from_dict({"model_arguments": TINY["unet"] | changes})
    with pytest.raises(InputError, match=message):
        training.train(plan, data(), tmp_path / "run", start=tmp_path / "weights.h5")
    assert not (tmp_path / "run").exists()
    start = starting.find(tmp_path / "weights.h5")
    assert starting.taken_over(plan, start).model_arguments == TINY["unet"]
    with pytest.raises(InputError, match="of the model 'unet', and the recipe is of"):
        starting.taken_over(plan.replace(model="vnet", model_arguments={}), start)


# === Trained ===


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """Return the folder of a network that finds discs."""
    folder = tmp_path_factory.mktemp("taught") / "run"
    training.train(PLAN.replace(steps=80), data(), folder)
    return folder


def scored(run) -> float:
    """Return SEG of the held-back images, as the weights are decoded for users.

    The validation that chose the weights knew nothing yet of the threshold that was
    then found to suit them.
    """
    examples = data().examples("validation")
    found = [segmenter.load(run).segment(each.image).labels for each in examples]
    return metrics.seg([each.labels for each in examples], found).value


def test_it_starts_where_the_other_ended_and_keeps_what_is_frozen(taught, tmp_path):
    begun = starting.find(taught)
    short = SMALL.replace(steps=6, validate_every=6, patch=32, freeze=1)
    plan = starting.taken_over(short, begun).replace(optimizer={"learning_rate": 1e-4})
    result = training.train(plan, data(), tmp_path / "tuned", start=taught)
    rows = history(tmp_path / "tuned")
    assert [row["step"] for row in rows] == [0, 6]
    # The very images, the very weights: the very score.
    before = scored(taught)
    assert rows[0]["SEG"] == pytest.approx(before, abs=1e-6)
    assert result.facts["validation"]["SEG"] >= before
    provenance = result.facts["start"]
    assert provenance["sha256"] == weights.sha256(taught / "weights.h5")
    assert (provenance["anew"], provenance["adapted"]) == ([], [])

    fresh = training.train(plan.replace(freeze=0), data(), tmp_path / "fresh").facts[
        "validation"
    ]
    assert rows[-1]["SEG"] > fresh["SEG"] + 0.1
    assert rows[-1]["Dice"] > fresh["Dice"]


def test_frozen_weights_are_those_of_the_start_to_the_bit(taught, tmp_path):
    plan = starting.taken_over(SMALL, starting.find(taught)).replace(
        freeze="encoder", patch=32, steps=3, validate_every=3
    )
    # Without validation images the last weights are kept, not the best.
    stopped = training.train(plan, data(held_out=0), tmp_path / "run", start=taught)
    ours = weights.variables(stopped.network)
    theirs = weights.variables(segmenter.load(taught).network)
    # Statistics of the normalisation as well.
    for key, variable in ours.items():
        same = (variable.numpy() == theirs[key].numpy()).all()
        assert same == key.startswith(("encoder", "bottom")), key


def test_a_frozen_training_is_resumed_with_its_start(taught, tmp_path):
    plan = starting.taken_over(SMALL, starting.find(taught)).replace(
        freeze=2, patch=32, steps=2, validate_every=2
    )
    given = data(held_out=0)
    training.train(plan, given, tmp_path / "run", start=taught)
    training.train(plan, given, tmp_path / "run", start=taught, resume=True)
    with pytest.raises(InputError, match="`freeze` keeps the weights that a training"):
        training.train(plan, given, tmp_path / "run", resume=True)
    other = plan.replace(freeze=0)
    with pytest.raises(InputError, match=r"start is None here and was '[0-9a-f]{64}'"):
        training.train(other, given, tmp_path / "run", resume=True)
    other = plan.replace(freeze=1)
    with pytest.raises(InputError, match="freeze is 1 here and was 2"):
        training.train(other, given, tmp_path / "run", start=taught, resume=True)


def test_colour_images_after_grey_ones(taught, tmp_path):
    plan = starting.taken_over(SMALL, starting.find(taught)).replace(
        patch=32, steps=1, validate_every=1
    )
    colour = data(channels=3)
    training.train(plan, colour, tmp_path / "run", start=taught)
    # Three equal channels are as good as the one they were made from.
    before = pytest.approx(scored(taught), abs=1e-3)
    assert history(tmp_path / "run")[0]["SEG"] == before
    assert segmenter.load(tmp_path / "run").segment(blob(3, channels=3).image).count


@pytest.mark.parametrize("other", ["semantic", "border"])
def test_another_target_than_that_of_the_start(taught, tmp_path, caplog, other):
    plan = starting.taken_over(SMALL, starting.find(taught)).replace(
        target=other, steps=2, validate_every=2
    )
    found = training.train(plan, data(), tmp_path / "run", start=taught)
    assert found.facts["target"] == other
    assert found.facts["start"]["anew"]
