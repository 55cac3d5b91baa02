"""`unet-zoo reproduce`: train again by what a weights file says, and compare."""

from __future__ import annotations

import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

from unet_zoo import devices, errors, files
from unet_zoo.cli import _common, _options, _telling

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unet_zoo.measuring import Repeated
    from unet_zoo.reproducing import Comparison


@click.command()
@click.argument("model", metavar="NAME|RUN|FILE")
@click.option(
    "--dataset",
    metavar="NAME|FOLDER",
    help="The images it was trained on.  [default: the named dataset of its facts]",
)
@_options.source_options
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FOLDER",
    help="Of the new training, new or empty.  [default: runs/NAME-again]",
)
@click.option(
    "--from",
    "start",
    metavar="NAME|FILE|RUN",
    help="Of fine-tuned weights, what they started from.  [default: what they name]",
)
@click.option(
    "--spread",
    type=_options.Range(0),
    help="Largest difference of a metric that counts as none.  [default: what the "
    "weights state, else 0.02]",
)
@click.option(
    "--backend",
    type=click.Choice(devices.BACKENDS),
    help="What computes.  [default: what computed then]",
)
def command(
    model: str,
    dataset: str | None,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    output: Path | None,
    start: str | None,
    spread: float | None,
    backend: str | None,
) -> None:
    """Train weights again and compare.

    The recipe and the dataset are those in the weights file. Where it was trained with
    --deterministic, on the same versions and images, the new weights are the same bits;
    otherwise the metrics of the validation are compared. What differs is said. Exit
    code 1 when neither is the same. The training ends at the step that the weights are
    of; the steps after it gave nothing better.

    Weights of the zoo are then measured as their card's were: every figure with an
    interval must lie in it.

    Weights that began from others are trained from those. Where they are not here, the
    trainings that led to them are done first, in folders beside that of --output.

    \b
    Example:
      unet-zoo reproduce runs/first --dataset my_dataset/
      unet-zoo reproduce unet-blobs --output runs/blobs-again
    """
    from unet_zoo import catalog, reproducing, weights

    plan, there = reproducing.source(model)
    facts = weights.read_facts(_common.find_weights(model))
    if dataset is None:
        dataset = str(there.get("name"))
        if dataset not in catalog.names():
            message = f"{model} was trained on {dataset!r}: give it with --dataset."
            raise errors.InputError(message)
    config = config or there.get("config")
    _common.check_dataset(dataset, config)
    backend = backend or str(facts.get("versions", {}).get("backend", "tensorflow"))
    output = output or reproducing.default_output(model)
    files.check_unused(output, "Give --output {free}, which is free.")
    _common.check_writable(output)
    data = _common.open_dataset(
        dataset,
        backend,
        config=config,
        manual_dir=manual_dir,
        data_dir=data_dir,
        validation=reproducing.validation_of(there),
    )
    _common.computing("training", backend)
    if facts.get("deterministic"):
        _common.computing("devices", backend).deterministic()
    opened = functools.partial(
        reproducing.open_named, manual_dir=manual_dir, data_dir=data_dir
    )
    with _telling.Told(plan.validate_every) as told:
        found = reproducing.reproduce(
            model,
            data,
            output,
            start=start,
            opened=opened,
            spread=spread,
            progress=told,
        )
    _tell(found)
    good = found.reproduced
    name = weights.current(model)
    if name in weights.names():
        with _common.progress_bar("frame") as tick:
            measured = _common.computing("measuring", backend).repeat_with(
                output,
                weights.entry(name),
                load=functools.partial(
                    _common.load,
                    backend=backend,
                    engine="keras",
                    precision="float32",
                ),
                opened=functools.partial(
                    catalog.open_dataset, manual_dir=manual_dir, data_dir=data_dir
                ),
                progress=tick,
            )
        _tell_intervals(measured)
        good &= all(each.within() for each in measured)
    if not good:
        click.get_current_context().exit(1)


def _tell(found: Comparison) -> None:
    for each in found.differing:
        click.echo(f"Not the same to begin with: {each}.")
    if found.same_bits:
        click.echo("Reproduced: all weights are the same bits.")
    else:
        click.echo(f"The weights differ, by {found.distance:.3g} at most.")
        rows = [
            [name, f"{then:.4f}", f"{now:.4f}", f"{now - then:+.4f}"]
            for name, (then, now) in found.metrics.items()
        ]
        click.echo(_common.table(["metric", "then", "now", "difference"], rows))
        words = "within" if found.reproduced else "NOT within"
        click.echo(f"Every metric is {words} the spread of {found.spread:g}.")


def _tell_intervals(measured: Sequence[Repeated]) -> None:
    rows = []
    for each in measured:
        metric, low, high = (each.interval[key] for key in ("metric", "low", "high"))
        now = each.found.get(metric, math.nan)
        rows.append(
            [
                each.title,
                metric,
                f"{each.stated[metric]:.4f}",
                f"{low:.4f} to {high:.4f}",
                f"{now:.4f}",
                "within" if each.within() else each.problem or "OUTSIDE",
            ]
        )
    if rows:
        head = ["evaluation", "metric", "stated", "interval", "now", "verdict"]
        click.echo(_common.table(head, rows))
