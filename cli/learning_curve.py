"""`unet-zoo learning-curve`: would more annotated images help?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from unet_zoo import errors, files, registry
from unet_zoo.cli import _common, _options, _recipes


@click.command()
@_options.dataset_argument
@_options.source_options
@click.option(
    "--model", default="unet", show_default=True, help="The model to be trained."
)
@click.option(
    "--validation",
    type=_options.Range(0, 1, min_open=True, max_open=True),
    default=0.25,
    show_default=True,
    metavar="FRACTION",
    help="Part of the images that all trainings are scored on.",
)
@click.option(
    "--images",
    metavar="N,N,...",
    help="How many images to train on.  [default: 1,2,4,... and all]",
)
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Trainings for each number of images, on other ones each time.",
)
@_recipes.recipe_option
@click.option(
    "--steps",
    type=int,
    default=300,
    show_default=True,
    help="Number of steps of every training.",
)
@_recipes.network_options
@click.option("--seed", type=int, help="The seed of the first training.")
@_recipes.settings_option
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="A new or empty folder.  [default: runs/curve-DATASET]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on in the --output folder; what is scored is not trained again.",
)
@_options.backend_option
def command(
    dataset: str,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    model: str,
    validation: float,
    images: str | None,
    seeds: int,
    recipe_name: str,
    settings: tuple[str, ...],
    output: Path | None,
    resume: bool,
    backend: str | None,
    **options: Any,
) -> None:
    """Tell whether more annotated images would help.

    Trains on 1, 2, 4, ... of your annotated images, always with the same recipe and
    number of steps, several times on different ones, and scores each training on the
    same images. The folder --output then holds curve.csv and curve.png: score against
    number of images, with the spread. While the curve still rises, annotate more.

    What an option states no default of is as the recipe has it, which
    `unet-zoo recipes NAME` shows.

    \b
    Example:
      unet-zoo learning-curve my_dataset/
      unet-zoo learning-curve my_dataset/ --images 4,8,16 --seeds 5 --steps 500
    """
    registry.info(model)
    plan = _recipes.changed(_recipes.read(recipe_name, model), options, settings)
    wanted = _numbers(images)
    _common.check_dataset(dataset, config)
    output = output or Path("runs") / f"curve-{_common.word(dataset)}"
    if not resume:
        files.check_unused(
            output, "Give --output {free}, which is free, or --resume to go on there."
        )
    _common.check_writable(output)
    data = _common.open_dataset(
        dataset,
        backend,
        config=config,
        manual_dir=manual_dir,
        data_dir=data_dir,
        validation=validation,
    )
    if recipe_name == "default":
        given = _recipes.decided(options, settings)
        plan = _recipes.suited(plan, dataset, data.kind, given)
    annotating = _common.computing("annotating", backend)
    metric = annotating.metric_of(data)
    import tqdm

    trainings = len(wanted or annotating.counts(len(data.sequence("train")))) * seeds
    with tqdm.tqdm(total=trainings * plan.steps, unit="step", disable=None) as bar:

        def tell(count: int, seed: int, now: Any) -> None:
            bar.set_postfix_str(f"{count} images, seed {seed}", refresh=False)
            bar.update()

        def scored(count: int, seed: int, score: float) -> None:
            # A bar is not to be written into.
            line = f"{count} images, seed {seed}: {metric} {score:.4f}"
            bar.clear()
            click.echo(line, err=True)

        points = annotating.learning_curve(
            plan,
            data,
            output,
            images=wanted,
            seeds=seeds,
            progress=tell,
            scored=scored,
            resume=resume,
        )
    rows = [
        [
            str(each.images),
            str(len(each.scores)),
            f"{each.mean:.4f}",
            f"{each.spread:.4f}",
        ]
        for each in points
    ]
    click.echo(_common.table(["images", "trainings", metric, "spread"], rows))
    click.echo(annotating.verdict(points, metric))
    click.echo(f"Table and picture: {output / 'curve.csv'}, {output / 'curve.png'}")


def _numbers(text: str | None) -> list[int] | None:
    """Return the numbers of --images.

    >>> _numbers("1,2, 4")
    [1, 2, 4]
    """
    if text is None:
        return None
    try:
        return [int(each) for each in text.split(",")]
    except ValueError:
        message = f"--images takes numbers such as 1,2,4,8. Received: {text}"
        raise errors.InputError(message) from None
