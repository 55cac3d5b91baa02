"""Policies are ranges that fit, survive recipes, and leave old recipes as they were."""

from __future__ import annotations

import dataclasses
import itertools
import re
import tomllib
from pathlib import Path

import pytest

from unet_zoo import policies, recipe, toml
from unet_zoo.errors import InputError
from unet_zoo.policies import Augmentation

ZOO = Path(__file__).resolve().parent.parent / "zoo"
# What recipes were before there was more to choose from.
FIRST = {
    "rotation": 180.0,
    "flip": True,
    "scale": 0.3,
    "shift": 0.1,
    "elastic": 10.0,
    "elastic_points": 3,
    "gamma": 0.35,
    "contrast": 0.45,
    "brightness": 0.3,
    "light": 0.3,
    "blur": 1.2,
    "noise": 0.2,
}


def test_names():
    assert set(policies.AUGMENTATIONS) == {
        "none",
        "light",
        "default",
        "paper",
        "strong",
    }
    assert Augmentation.named("default") == Augmentation() == Augmentation(**FIRST)
    nothing = dataclasses.asdict(Augmentation.named("none"))
    words = {"elastic_points", "border", "interpolation"}
    assert not any(value for name, value in nothing.items() if name not in words)
    with pytest.raises(InputError, match="Did you mean 'paper'"):
        Augmentation.named("papper")


def test_the_paper_is_the_paper():
    paper = recipe.named("paper").augmentation
    assert paper == Augmentation.named("paper")
    assert (paper.elastic, paper.elastic_points) == (10.0, 3)
    # It names shift, rotation, elastic deformation and grey values, nothing else.
    others = ("scale", "shear", "blur", "noise", "poisson", "clahe", "inversion")
    assert not any(getattr(paper, name) for name in others)


def test_each_policy_is_at_least_as_strong_as_the_one_before():
    names = ("none", "light", "default", "strong")
    for weaker, stronger in itertools.pairwise(names):
        for field in dataclasses.fields(Augmentation):
            if field.name not in ("border", "interpolation"):
                low, high = (
                    getattr(Augmentation.named(name), field.name)
                    for name in (weaker, stronger)
                )
                assert low <= high, (field.name, weaker, stronger)


@pytest.mark.parametrize("name", policies.AUGMENTATIONS)
def test_recipes_keep_them(name):
    plan = recipe.Recipe().replace(augmentation=Augmentation.named(name))
    text = toml.to_toml(plan.to_dict())
    assert recipe.from_dict(tomllib.loads(text)) == plan


@pytest.mark.parametrize(
    "path", sorted(ZOO.glob("*/recipe.toml")), ids=lambda p: p.parent.name
)
def test_recipes_of_the_zoo_mean_what_they_meant(path):
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    augmentation = recipe.from_dict(values).augmentation
    kept = dataclasses.asdict(augmentation)
    new = dataclasses.asdict(Augmentation.named("none"))
    for name in kept.keys() - FIRST.keys():
        if name not in values["augmentation"]:
            assert kept[name] == new[name]
    assert values["augmentation"].items() <= kept.items()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rotation", 181.0, "`augmentation.rotation` must be in 0..180. Received: 181"),
        ("scale", -0.1, "`augmentation.scale` must be in 0..1. Received: -0.1"),
        ("noise", -1.0, "`augmentation.noise` must be at least 0. Received: -1.0"),
        (
            "noise",
            float("nan"),
            "`augmentation.noise` must be at least 0. Received: nan",
        ),
        ("elastic", float("inf"), "`augmentation.elastic` must be in 0..512."),
        ("clahe", 1.5, "`augmentation.clahe` must be in 0..1. Received: 1.5"),
        ("elastic_points", 1, "`augmentation.elastic_points` must be in 2..64."),
        ("border", "mirrored", "Unknown augmentation.border 'mirrored'. Did you mean"),
        ("interpolation", "cubik", "Unknown augmentation.interpolation 'cubik'. Did"),
    ],
)
def test_mistakes_are_named(field, value, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Augmentation(**{field: value})
    with pytest.raises(InputError, match=re.escape(message)):
        recipe.from_dict({"augmentation": {field: value}})
