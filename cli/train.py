"""`unet-zoo train`: from a dataset to weights that segment."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import devices, files, registry
from unet_zoo.cli import _automatic, _common, _folds, _options, _recipes, _telling

if TYPE_CHECKING:
    from unet_zoo.recipe import Recipe


@click.command()
@click.argument("model")
@_options.dataset_options
@click.option(
    "--validation",
    type=_options.Range(0, 1, max_open=True),
    default=0.12,
    show_default=True,
    metavar="FRACTION",
    help="Part of the training images to hold back.",
)
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="A new or empty folder.  [default: runs/MODEL-DATASET]",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Go on from the checkpoint in the --output folder, if there is one.",
)
@click.option(
    "--checkpoint-minutes",
    type=_options.Range(0, min_open=True),
    default=10.0,
    show_default=True,
    metavar="MINUTES",
    help="Time between two checkpoints; each validation also writes one.",
)
@click.option(
    "--extend",
    type=click.IntRange(min=1),
    metavar="STEPS",
    help="Go on with the finished training in the --output folder for so many steps.",
)
@click.option(
    "--from",
    "start",
    metavar="NAME|FILE|RUN",
    help="Start from these weights: a name that `unet-zoo weights` lists, a weights "
    "file, or the folder of a training.",
)
@click.option(
    "--freeze",
    metavar="LEVELS",
    help="With --from, the first levels that keep their weights: a number, or encoder.",
)
@_recipes.recipe_option
@click.option(
    "--hours",
    type=_options.Range(0, min_open=True),
    metavar="HOURS",
    help="The time that --recipe auto plans for.  [default: 1]",
)
@click.option(
    "--folds",
    type=click.IntRange(min=2),
    metavar="NUMBER",
    help="Cross-validate: train as many networks, each judged on the images that it "
    "did not see, and join them to an ensemble.",
)
@click.option("--steps", type=int, help="Number of steps.")
@_recipes.network_options
@click.option("--loss", help="Such as cross_entropy, dice_cross_entropy or focal.")
@click.option("--learning-rate", type=float, help="The highest learning rate.")
@click.option(
    "--precision", help="float32, mixed_bfloat16, or mixed_float16 (scaling the loss)."
)
@click.option(
    "--tta", type=int, help="Flips and rotations averaged in prediction: 1, 4, 7 or 8."
)
@click.option("--validate-every", type=int, help="Steps between two validations.")
@click.option(
    "--patience",
    type=int,
    help="End after so many validations without a better value; 0: never.",
)
@click.option("--seed", type=int, help="The seed of every random choice.")
@_recipes.settings_option
@click.option(
    "--cache-memory",
    metavar="SIZE",
    help="Memory for the encoded images, such as 4GB; beyond it they go to disk.  "
    "[default: half of what is free]",
)
@click.option(
    "--cache-folder",
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="Keep the encoded images here, for other trainings too.",
)
@click.option(
    "--deterministic",
    is_flag=True,
    help="Repeat bit for bit, which takes slower kernels.",
)
@click.option(
    "--distribute",
    type=click.Choice(devices.DISTRIBUTIONS),
    default="auto",
    show_default=True,
    help="How several devices share every batch; auto: all GPUs that can.",
)
@click.option(
    "--devices",
    "wanted",
    metavar="KIND[:N]",
    help="gpu, gpu:2, cpu, or cpu:2 for two logical ones, to try it out.",
)
@click.option(
    "--tensorboard",
    is_flag=True,
    help="Write what TensorBoard shows to tensorboard/ in the --output folder.",
)
@_options.backend_option
def command(
    model: str,
    dataset: str,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    validation: float,
    output: Path | None,
    resume: bool,
    checkpoint_minutes: float,
    extend: int | None,
    start: str | None,
    freeze: str | None,
    recipe_name: str,
    hours: float | None,
    folds: int | None,
    settings: tuple[str, ...],
    cache_memory: str | None,
    cache_folder: Path | None,
    deterministic: bool,
    distribute: str,
    wanted: str | None,
    tensorboard: bool,
    backend: str | None,
    **options: Any,
) -> None:
    """Train a network on a dataset.

    MODEL is a name that `unet-zoo models` lists; the dataset a name as well, or a
    folder of your own images and masks. The folder --output then holds the weights that
    did best in validation, the recipe, the history and its curve, validation images
    with the outlines found in them, and report.html with all of it on one page.

    What an option states no default of is as the recipe has it, which
    `unet-zoo recipes NAME` shows.

    With --recipe auto, patch, batch, depth, width and number of steps are planned from
    the images, the memory and the --hours that it may take; the plan is printed with
    its reasons.

    Ctrl-C ends a training early and keeps the best weights so far. After that, or a
    crash, or the end of a cluster job, the same command with --resume goes on from the
    last checkpoint, to the weights that it would have reached without a stop.

    With --from, the network starts from weights there are. Its arguments, the target,
    scale and normalization are theirs where nothing else is said.

    \b
    Example:
      unet-zoo train unet --dataset hela
      unet-zoo train unet --dataset my_dataset/ --recipe auto --hours 0.5
      unet-zoo train unet --dataset my_dataset/ --from unet-blobs --freeze 2
      unet-zoo train resunet --dataset my_dataset/ --steps 500 --output runs/first
    """
    started = time.monotonic()
    registry.info(model)
    automatic = recipe_name == "auto"
    _automatic.check(recipe_name, hours, options, settings)
    if devices.several_hosts() and (automatic or folds):
        message = (
            "--recipe auto and --folds are for one process; TF_CONFIG or JAX say that "
            "this is one of several. Train the folds one by one, with a recipe."
        )
        raise click.UsageError(message)
    if (start or extend is not None) and (automatic or folds):
        message = (
            "--from and --extend are for one training: not --recipe auto, --folds."
        )
        raise click.UsageError(message)
    if freeze is not None:
        options["freeze"] = int(freeze) if freeze.isdecimal() else freeze
    plan = _recipes.read("default" if automatic else recipe_name, model)
    if start is not None:
        from unet_zoo import starting

        begun = starting.find(start)
        # A recipe in a file says everything; a named one leaves this to the start.
        if not recipe_name.endswith(".toml"):
            plan = starting.taken_over(plan, begun)
    plan = _recipes.changed(plan, options, settings)
    _common.check_dataset(dataset, config)
    given = _recipes.decided(options, settings)
    if output is None:
        output = Path("runs") / f"{model}-{_common.word(dataset)}"
    # Refused now, not once everything is loaded; of several processes, one decides.
    if not resume and extend is None and not devices.several_hosts():
        files.check_unused(
            output, "Give --output {free}, which is free, or --resume to go on there."
        )
    _common.check_writable(output)
    if devices.several_hosts():
        click.echo("One of several processes: waiting for the others ...", err=True)
    # Before anything computes: backends count their devices once.
    with _common.quiet():
        on = _common.computing("devices", backend).distribute(
            distribute, wanted, batch=plan.batch
        )
    data = _common.open_dataset(
        dataset,
        backend,
        config=config,
        manual_dir=manual_dir,
        data_dir=data_dir,
        validation=validation,
    )
    if recipe_name in ("default", "auto") and start is None:
        plan = _recipes.suited(plan, dataset, data.kind, given)
    training = _common.computing("training", backend)
    if deterministic:
        _common.computing("devices", backend).deterministic()
    sizes = ", ".join(f"{count} {split}" for split, count in data.size_of.items())
    click.echo(f"{data.name}: {sizes}. {data.note}", err=True)
    if on.replicas > 1:
        click.echo(f"{on.words}; {plan.batch // on.replicas} patches each.", err=True)
    end, reserve = math.inf, 0.0
    if automatic:
        hours = hours or _automatic.HOURS
        end = started + 3600 * hours
        whole = end - time.monotonic()
        seen = data
        if folds:
            seen = _common.computing("folding", backend).fold_of(data, 1, folds)
        if on.replicas > 1:  # which share it equally, as was checked
            given.add("batch")

        def resumed(past: Recipe) -> Recipe:
            return _recipes.changed(past.replace(model=model), options, settings)

        plan, reserve = _automatic.planned(
            plan,
            seen,
            hours,
            whole / (folds or 1),
            given,
            output,
            resumed if resume else None,
        )

    def callbacks(number: int, folder: Path) -> list[Any]:
        """Return those of training `number`; later ones share the time that is left."""
        from unet_zoo import tracking

        share = (end - time.monotonic()) / ((folds or 1) - number + 1)
        made: list[Any] = []
        if automatic:
            made.append(tracking.Deadline(share, reserve))
        if tensorboard:
            made.append(tracking.TensorBoard(folder / "tensorboard"))
        return made

    shared: dict[str, Any] = {
        "resume": resume,
        "checkpoint_minutes": checkpoint_minutes,
        "cache_memory": cache_memory,
        "cache_folder": cache_folder,
        "on": on,
    }
    if folds:
        _folds.run(
            plan,
            data,
            output,
            folds,
            lambda: _telling.Told(plan.validate_every),
            callbacks,
            **shared,
        )
        return
    told = _telling.Told(plan.validate_every)
    try:
        with told:
            segmenter = training.train(
                plan,
                data,
                output,
                progress=told if on.chief else None,
                callbacks=callbacks(1, output),
                start=start,
                extend=extend,
                **shared,
            )
    except KeyboardInterrupt as interrupt:
        _common.keep(interrupt, _left(output))
        raise
    if on.chief:
        if plan.patience and 0 < told.step < plan.steps:
            ending = f"Ended after step {told.step} of {plan.steps}"
            click.echo(
                f"{ending}: {plan.patience} validation(s) brought nothing better."
            )
        _summarize(output, segmenter.facts.get("validation", {}))


def _left(output: Path) -> str:
    if (output / "weights.h5").exists():
        return (
            f"The best weights so far are in {output / 'weights.h5'}. "
            "The same command with --resume goes on."
        )
    if (output / "checkpoint.npz").exists():
        return "The same command with --resume goes on."
    return f"No validation was reached, so {output} holds no weights."


def _summarize(output: Path, best: Mapping[str, Any]) -> None:
    # Of a dataset of objects there are SEG and Dice; the first is what is compared.
    for metric in ("SEG", "IoU"):
        if metric in best:
            value, step = best[metric], best["step"]
            click.echo(f"Best {metric} in validation: {value:.3f}, step {step}")
    click.echo(f"Weights, recipe, history, curve and samples: {output}")
    click.echo(f"All of it on one page: {output / 'report.html'}")
    click.echo("Segment with them:")
    weights = output / "weights.h5"
    click.echo(f"  unet-zoo segment IMAGES --model {weights} --output masks/")
