"""More steps for a training that is finished."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_zoo import recipe as recipes
from unet_zoo.errors import InputError


def extended(recipe: recipes.Recipe, more: int) -> recipes.Recipe:
    """Return the recipe of `more` steps, the schedule starting anew where it ended.

    A training by this recipe, from its first step on, ends in the same weights as one
    that was extended.

    Raises:
        InputError: for less than one step.

    >>> longer = extended(recipes.Recipe(steps=100), 20)
    >>> longer.steps, longer.optimizer.restarts
    (120, (100,))
    """
    if more < 1:
        message = f"`extend` must be at least 1 step. Received: {more}"
        raise InputError(message)
    restarts = [*recipe.optimizer.restarts, recipe.steps]
    return recipe.replace(
        steps=recipe.steps + more, optimizer={"restarts": tuple(restarts)}
    )


def check_finished(
    folder: Path, past: Mapping[str, Any], recipe: recipes.Recipe
) -> None:
    """Refuse to extend a training that has steps left, or that patience has ended.

    Args:
        folder: of the training.
        past: the facts of its checkpoint.
        recipe: of the training.

    Raises:
        InputError: with the way out.
    """
    step, steps = past["step"], recipe.steps
    waited = past.get("course", {}).get("stopping", {}).get("waited", 0)
    if 0 < recipe.patience <= waited:
        message = (
            f"The training in {folder} ended at step {step} of {steps}: {waited} "
            "validation(s) brought nothing better. More steps would end like that, at "
            "once; start another training from its weights, in a folder of its own: "
            f"--from {folder}"
        )
        raise InputError(message)
    if step < steps:
        message = (
            f"The training in {folder} stopped at step {step} of {steps}. Resume it "
            "first; it can be extended once it is finished."
        )
        raise InputError(message)


def as_extended(recipe: recipes.Recipe, past: Mapping[str, Any]) -> recipes.Recipe:
    """Return `recipe`, extended as the one of a checkpoint was.

    Args:
        recipe: of the training, perhaps from before it was extended.
        past: the recipe in the checkpoint, plain values.

    >>> once = recipes.Recipe(steps=100)
    >>> as_extended(once, extended(extended(once, 20), 5).to_dict()).steps
    125
    """
    restarts = list(past["optimizer"].get("restarts", ()))
    own = list(recipe.optimizer.restarts)
    added = restarts[len(own) :]
    if restarts[: len(own)] != own or added[:1] != [recipe.steps]:
        return recipe
    return recipe.replace(steps=past["steps"], optimizer={"restarts": tuple(restarts)})
