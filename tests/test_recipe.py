"""Recipes refuse what is not meant, and survive the way through TOML."""

from __future__ import annotations

import dataclasses
import re
import tomllib

import keras
import pytest

from unet_zoo import recipe, registry, toml
from unet_zoo.errors import InputError

NAMED = [recipe.named(name) for name in recipe.RECIPES]


@pytest.mark.parametrize("plan", NAMED, ids=list(recipe.RECIPES))
def test_toml_gives_the_recipe_back(plan):
    text = toml.to_toml(plan.to_dict())
    assert recipe.from_dict(tomllib.loads(text)) == plan


def test_toml_gives_odd_values_back():
    plan = recipe.Recipe(
        target_arguments={"seed": 1e-7, "smoothing": 3.0, "border": 3},
        model_arguments={"a": True, "b": [1, 2.5], "c": 'say "né"\n\\'},
        scale=0.125,
        optimizer=recipe.Optimizer(learning_rate=3e-5),
    )
    assert recipe.from_dict(tomllib.loads(toml.to_toml(plan.to_dict()))) == plan


def test_a_recipe_of_before_a_field_came_has_its_default():
    values = recipe.named("paper").to_dict()
    for name in ("loss", "loss_arguments", "patience", "optimizer_arguments"):
        del values[name]
    for name in ("power", "plateau", "factor"):
        del values["optimizer"][name]
    assert recipe.from_dict(values) == recipe.named("paper")
    assert recipe.from_dict(values).loss == "cross_entropy"


def test_replace_changes_only_what_it_names():
    base = recipe.named("paper")
    changed = base.replace(steps=3, augmentation={"blur": 2, "flip": False})
    assert (changed.steps, changed.augmentation.blur) == (3, 2.0)
    assert type(changed.augmentation.blur) is float
    back = changed.replace(
        steps=base.steps, augmentation=dataclasses.asdict(base.augmentation)
    )
    assert back == base
    assert base.steps == 20000


def test_replace_takes_whole_sections():
    plan = recipe.Recipe().replace(optimizer=recipe.Optimizer(name="sgd"))
    assert plan.optimizer.name == "sgd"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"stepz": 3}, "Unknown recipe field 'stepz'. Did you mean 'steps'?"),
        (
            {"augmentation": {"rotations": 3}},
            "Unknown augmentation field 'rotations'. Did you mean 'rotation'?",
        ),
        (
            {"optimizer": {"learning_rat": 3}},
            "Unknown optimizer field 'learning_rat'. Did you mean 'learning_rate'?",
        ),
        ({"target": "distanse"}, "Unknown target 'distanse'. Did you mean 'distance'?"),
        ({"precision": "float64"}, "Unknown precision 'float64'. Did you mean"),
        ({"optimizer": {"name": "adamx"}}, "Unknown optimizer.name 'adamx'. Did you"),
        ({"optimizer": {"schedule": "cosin"}}, "Unknown optimizer.schedule 'cosin'."),
        ({"loss": "lovas"}, "Unknown loss 'lovas'. Did you mean 'lovasz'?"),
        (
            {"loss": "focal", "loss_arguments": {"gama": 2}},
            "Unknown argument of the loss 'focal' 'gama'. Did you mean 'gamma'?",
        ),
        (
            {"loss_arguments": {"gamma": 2}},
            "of the loss 'cross_entropy' 'gamma'. Known",
        ),
        (
            {"loss": "tversky", "loss_arguments": {"beta": 2}},
            "`loss_arguments.beta` must be a number in [0, 1]. Received: 2",
        ),
        (
            {"loss": "cldice", "loss_arguments": {"iterations": 2.5}},
            "`loss_arguments.iterations` must be a whole number in [0, 100].",
        ),
        (
            {"loss": "boundary", "loss_arguments": {"alpha": -1}},
            "`loss_arguments.alpha` must be a number of at least 0. Received: -1",
        ),
        ({"loss": "focal", "loss_arguments": {"alpha": True}}, "a number in [0, 1]."),
        (
            {"optimizer": {"name": "adamw"}, "optimizer_arguments": {"beta2": 0.9}},
            "Unknown argument of the optimizer 'adamw' 'beta2'. Did you mean 'beta_2'",
        ),
        ({"patience": -1}, "`patience` must be at least 0. Received: -1"),
        (
            {"optimizer": {"name": "adamw"}, "optimizer_arguments": {"beta_2": "x"}},
            "`optimizer_arguments.beta_2` must be of type int or float. Received: 'x'",
        ),
        (
            {"optimizer_arguments": {"ns_steps": 2.5}},
            "`optimizer_arguments.ns_steps` must be of type int. Received: 2.5",
        ),
        (
            {"optimizer_arguments": {"nesterov": 1}},
            "`optimizer_arguments.nesterov` must be of type bool. Received: 1",
        ),
        ({"optimizer": {"momentum": 1.5}}, "`optimizer.momentum` must be in [0, 1)."),
        ({"optimizer": {"average": 1.0}}, "`optimizer.average` must be in [0, 1)."),
        ({"optimizer": {"warmup": -5}}, "`optimizer.warmup` must be at least 0."),
        ({"optimizer": {"clip": -1}}, "`optimizer.clip` must be at least 0."),
        ({"optimizer": {"weight_decay": -1}}, "`optimizer.weight_decay` must be at l"),
        ({"optimizer": {"name": "ftrl"}}, "'ftrl' divides by the learning rate"),
        ({"optimizer": {"plateau": 0}}, "`optimizer.plateau` must be at least 1."),
        ({"optimizer": {"factor": 1.0}}, "`optimizer.factor` must be in (0, 1)."),
        ({"optimizer": {"power": 0}}, "`optimizer.power` must be positive."),
        ({"seed": -1}, "`seed` must lie in 0..4294967295. Received: -1"),
        ({"tta": 3}, "`tta` must be 1, 4, 7 or 8. Received: 3"),
        ({"steps": 0}, "`steps` must be at least 1. Received: 0"),
        ({"steps": "many"}, "`steps` must be of type int. Received: 'many'"),
        ({"steps": 3.0}, "`steps` must be of type int. Received: 3.0"),
        ({"steps": True}, "`steps` must be of type int. Received: True"),
        ({"scale": 9}, "`scale` must lie in (0, 8]. Received: 9.0"),
        ({"scale": "half"}, "`scale` must be of type float | None. Received: 'half'"),
        ({"augmentation": {"flip": 1}}, "`augmentation.flip` must be of type bool."),
        ({"optimizer": {"name": 3}}, "`optimizer.name` must be of type str."),
        ({"augmentation": 3}, "`augmentation` must be a table of fields. Received: 3"),
        ({"model_arguments": [1]}, "`model_arguments` must be of type Mapping."),
        ({"optimizer": {"learning_rate": 0}}, "`optimizer.learning_rate` must be pos"),
        ({"optimizer": {"learning_rate": float("nan")}}, "must be positive."),
        ({"optimizer": recipe.Augmentation()}, "`optimizer` must be a table of fiel"),
    ],
)
def test_mistakes_are_named(changes, message):
    with pytest.raises(InputError, match=re.escape(message)):
        recipe.from_dict(changes)


def test_scale_may_be_left_open():
    assert recipe.Recipe(scale=0.5).replace(scale=None).scale is None


@pytest.mark.parametrize("model", registry.names())
def test_default_builds_every_model_at_its_patch(model):
    plan = recipe.named("default", model)
    assert plan.model == model
    shape = (plan.patch, plan.patch, 1)
    # Counting needs no values, and drawing millions of them takes long.
    with keras.StatelessScope(initialize_variables=False):
        built = registry.build(
            model, input_shape=shape, classes=3, **plan.model_arguments
        )
    assert built.output_shape[1:] == (plan.patch, plan.patch, 3)
    assert built.count_params() > 100_000


def test_paper_is_of_its_own_model():
    with pytest.raises(InputError, match="Take the recipe 'default'"):
        recipe.named("paper", "resunet")
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        recipe.named("papper")
    # 572 to 388, as in figure 1.
    plan = recipe.named("paper")
    arguments = {**plan.model_arguments, "filters": 2}
    shape = (plan.patch, plan.patch, 1)
    built = registry.build(plan.model, input_shape=shape, **arguments)
    assert built.output_shape[1:3] == (388, 388)


def test_an_argument_of_none_comes_back_through_toml():
    arguments = {"filters": 2, "depth": 1, "normalization": None}
    plan = recipe.named("default", "resunet").replace(model_arguments=arguments)
    again = recipe.from_dict(tomllib.loads(toml.to_toml(plan.to_dict())))
    network = registry.build("resunet", **again.model_arguments)
    assert not any("norm" in layer.name for layer in network.layers)
    assert any("norm" in layer.name for layer in registry.build("resunet").layers)


INFINITE = float("inf")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("optimizer.learning_rate", {"optimizer": {"learning_rate": INFINITE}}),
        ("optimizer.clip", {"optimizer": {"clip": INFINITE}}),
        (
            "loss_arguments.alpha",
            {"loss": "boundary", "loss_arguments": {"alpha": INFINITE}},
        ),
        ("model_arguments.a", {"model_arguments": {"a": [1.0, float("nan")]}}),
    ],
)
def test_every_number_is_finite(name, changes):
    # A checkpoint could not hold it, once the training is ready to begin.
    with pytest.raises(InputError, match=f"`{name}` must be a finite number."):
        recipe.from_dict(changes)


@pytest.mark.parametrize("size", [0, -1, float("inf"), float("nan")])
def test_a_pixel_has_a_size(size):
    with pytest.raises(InputError, match="`pixel_size` must be micrometres, above 0"):
        recipe.Recipe(pixel_size=size)
    assert recipe.Recipe().replace(pixel_size=1).pixel_size == 1.0


def test_arguments_go_with_what_they_are_arguments_of():
    plan = recipe.from_dict(
        {
            "target_arguments": {"dip": 0.2},
            "loss": "tversky",
            "loss_arguments": {"beta": 0.9},
            "optimizer_arguments": {"ns_steps": 4},
        }
    )
    other = plan.replace(target="semantic", loss="focal", optimizer={"name": "adamw"})
    assert not other.target_arguments
    assert not other.loss_arguments
    assert not other.optimizer_arguments
    same = plan.replace(target="distance", loss="tversky", optimizer={"name": "muon"})
    assert same == plan
    told = plan.replace(target="border", target_arguments={"w0": 5.0})
    assert told.target_arguments == {"w0": 5.0}
