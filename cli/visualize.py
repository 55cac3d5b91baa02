"""`unet-zoo visualize`: what a training is given, as pictures."""

from __future__ import annotations

import contextlib
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import files
from unet_zoo.cli import _common, _options, _recipes

if TYPE_CHECKING:
    from unet_zoo.recipe import Recipe


@click.command()
@_options.dataset_argument
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="A new or empty folder.  [default: pages/DATASET]",
)
@click.option(
    "--split",
    type=click.Choice(("train", "validation", "test", "all")),
    default="train",
    show_default=True,
    help="Of which images; all: every pair of a dataset of your own.",
)
@click.option(
    "--number",
    type=click.IntRange(1, 20),
    default=3,
    show_default=True,
    help="Rows of a page.",
)
@click.option("--seed", type=int, help="Other images, places and random changes.")
@_recipes.recipe_option
@click.option("--model", metavar="NAME", help="As for train.  [default: unet]")
@_recipes.augmentation_option
@_recipes.target_option
@_recipes.patch_option
@_recipes.scale_option
@_recipes.settings_option
@click.option(
    "--tile",
    type=click.IntRange(min=16),
    metavar="PIXELS",
    help="Side of the tiles, in pixels that the network sees.",
)
@_options.source_options
@_options.backend_option
def command(
    dataset: str,
    output: Path | None,
    split: str,
    number: int,
    recipe_name: str,
    model: str | None,
    settings: tuple[str, ...],
    tile: int | None,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    backend: str | None,
    **options: Any,
) -> None:
    """Draw what a training would be given, before it begins.

    DATASET is a name that `unet-zoo datasets` lists, or your own images and masks, as
    for train. The folder --output then holds `index.html`, one page to look at or to
    send, and its pictures:

    \b
      deformation.png     image and augmented patch, one grid over both
      elastic-field.png   the elastic deformation by itself
      tiles.png           how a large image is cut, and mirrored at its edge
      patches.png         what the network gets, with its labels
      weights.png         the weight map of the U-Net paper
      targets.png         what the network is taught

    The patches are the first ones of `unet-zoo train` with the same recipe and seed.

    \b
    Example:
      unet-zoo visualize my_dataset/ --augmentation strong --output pages/
    """
    plan = _recipes.changed(_recipe(recipe_name, model), options, settings)
    _common.check_dataset(dataset, config)
    if output is None:
        output = Path("pages") / _common.word(dataset)
    # Refused now, not once everything is loaded.
    files.check_unused(output, "Give --output {free}, which is free.")
    _common.check_writable(output)
    data = _common.open_dataset(
        dataset, backend, config=config, manual_dir=manual_dir, data_dir=data_dir
    )
    if recipe_name == "default":
        given = _recipes.decided(options, settings)
        plan = _recipes.suited(plan, dataset, data.kind, given)
    visualizing = _common.computing("visualizing", backend)
    click.echo(
        f"{data.name}, {data.size_of.get(split, 0)} {split}. {data.note}", err=True
    )
    with _common.progress_bar("page") as tick:
        page = visualizing.visualize(
            data,
            plan,
            output,
            split=split,
            number=number,
            tile=tile,
            progress=tick,
        )
    click.echo(f"Open in a browser: {page}")


def _recipe(name: str, model: str | None) -> Recipe:
    """Return the recipe, for the model it names itself where none is given."""
    if model is None and Path(name).suffix == ".toml":
        with contextlib.suppress(ValueError):  # what is wrong is said below
            values = tomllib.loads(Path(name).read_text(encoding="utf-8"))
            model = str(values.get("model", "unet"))
    return _recipes.read(name, model or "unet")
