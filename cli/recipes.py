"""`unet-zoo recipes`: the ways to train."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from unet_zoo import policies, recipe, registry, toml
from unet_zoo.cli import _common, _options

_EXAMPLE = 1.0  # of the fields that may be None: all of them are numbers


@click.command()
@click.argument("name", required=False)
@click.option(
    "--model", default="unet", show_default=True, help="The model to be trained."
)
@_options.json_option
def command(name: str | None, model: str, as_json: bool) -> None:
    """List the recipes, or write one out.

    With NAME: every field with what it means, as TOML that can be changed and used:

    \b
      unet-zoo recipes default > mine.toml
      unet-zoo train unet --dataset my_dataset/ --recipe mine.toml
    """
    registry.info(model)
    if name is not None:
        plan = recipe.named(name, model)
        values = plan.to_dict()
        click.echo(_common.to_json(values) if as_json else _annotated(values))
        return
    if as_json:
        every = {key: plan.to_dict() for key, plan in recipe.RECIPES.items()}
        click.echo(_common.to_json(every))
        return
    rows = [
        [
            key,
            plan.target,
            f"{plan.steps} of {plan.batch} x {plan.patch} pixels",
            f"{plan.optimizer.name}, {plan.optimizer.learning_rate:g}",
        ]
        for key, plan in recipe.RECIPES.items()
    ]
    click.echo(_common.table(["name", "target", "steps", "optimizer"], rows))


def _annotated(values: Mapping[str, Any]) -> str:
    """Return TOML with what each field means, as its dataclass documents it.

    TOML has no None: such a field is there with an example, as a comment.
    """
    meanings = _meanings()
    none = {key for key, value in values.items() if value is None}
    section, lines = "Recipe", []
    for line in toml.to_toml({**values, **dict.fromkeys(none, _EXAMPLE)}).splitlines():
        key = line.partition(" = ")[0]
        if header := re.fullmatch(r"\[(\w+)\]", line):
            section, key = "Recipe", header[1]
        if meaning := meanings.get((section, key)):
            lines.append(f"# {meaning}")
        lines.append(f"# {line}" if section == "Recipe" and key in none else line)
        if header:
            section = header[1].capitalize()
    return "\n".join(lines)


def _meanings() -> dict[tuple[str, str], str]:
    """Return what is written about the fields of a recipe and of its sections."""
    source = "\n".join(
        Path(inspect.getfile(each)).read_text(encoding="utf-8")
        for each in (recipe, policies)
    )
    found: dict[tuple[str, str], str] = {}
    for node in ast.parse(source).body:
        if not isinstance(node, ast.ClassDef):
            continue
        # `Args:` of the class, one entry from "name:" to the next.
        entries = re.findall(
            r"^ {4}(\w+): (.+(?:\n {8}.+)*)", ast.get_docstring(node) or "", flags=re.M
        )
        found |= {(node.name, key): " ".join(text.split()) for key, text in entries}
        # A text right after a field is about that field.
        for field, text in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(field, ast.AnnAssign)
                and isinstance(field.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                meaning = " ".join(str(text.value.value).split())
                found[node.name, field.target.id] = meaning
    return found
