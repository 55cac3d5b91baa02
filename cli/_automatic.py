"""`--recipe auto` on the command line: the plan, why, and when it will be done."""

from __future__ import annotations

import time
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, recipe
from unet_zoo.cli import _common, _recipes

if TYPE_CHECKING:
    from unet_zoo import catalog
    from unet_zoo.planning import Plan
    from unet_zoo.recipe import Recipe

HOURS = 1.0


def check(
    name: str, hours: float | None, options: Mapping[str, Any], settings: Sequence[str]
) -> None:
    """Refuse what does not go together, before anything slow begins."""
    if name != "auto" and hours is not None:
        message = (
            "--hours is the time that --recipe auto plans for. Add --recipe auto, or "
            "leave out --hours."
        )
        raise errors.InputError(message)
    if name == "auto" and "steps" in _recipes.decided(options, settings):
        message = (
            "With --recipe auto the time decides on the number of steps: give --hours, "
            "or another recipe."
        )
        raise errors.InputError(message)


def planned(
    plan: Recipe,
    data: catalog.Dataset,
    hours: float,
    seconds: float,
    kept: set[str],
    output: Path,
    resumed: Callable[[Recipe], Recipe] | None,
) -> tuple[Recipe, float]:
    """Return the recipe for `seconds`, and the time that its end takes; print both.

    They are what is left of `hours` for this training.

    A training that is resumed has its plan already. `resumed` is given it and returns
    it with what the command line says otherwise, which the training then refuses.
    """
    if resumed is not None and (output / "recipe.toml").exists():
        text = (output / "recipe.toml").read_text(encoding="utf-8")
        click.echo(f"Going on with the plan in {output / 'recipe.toml'}.", err=True)
        return resumed(recipe.from_dict(tomllib.loads(text))), 0.05 * seconds
    from unet_zoo import planning

    made = planning.plan(
        plan,
        data,
        seconds,
        fixed=kept,
        said=lambda line: click.echo(f"{line} ...", err=True),
        hours=hours,
    )
    click.echo(shown(made, seconds), err=True)
    return made.recipe, made.reserve


def shown(made: Plan, seconds: float) -> str:
    """Return the plan as people read it."""
    rows = [
        [field, _plain(made.value(field)), why] for field, why in made.reasons.items()
    ]
    parts = ", ".join(f"{name} {_time(each)}" for name, each in made.parts.items())
    end = time.localtime(time.time() + made.seconds)
    return "\n".join(
        [
            _common.table(["field", "value", "why"], rows),
            f"Planned: {_time(made.seconds)} ({parts}), within "
            f"{_time(seconds - made.spent)} that are left. "
            f"Done at about {time.strftime('%H:%M', end)}.",
        ]
    )


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _time(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
