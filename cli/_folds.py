"""`--folds` on the command line: one training for each fold, a table, an ensemble."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo.cli import _common

if TYPE_CHECKING:
    from unet_zoo import catalog
    from unet_zoo.folding import Result
    from unet_zoo.progress import Progress
    from unet_zoo.recipe import Recipe


def run(
    plan: Recipe,
    data: catalog.Dataset,
    output: Path,
    folds: int,
    told: Callable[[], contextlib.AbstractContextManager[Any]],
    callbacks: Callable[[int, Path], Sequence[Any]],
    **options: Any,
) -> None:
    """Train every fold and print what came out.

    Args:
        plan: of all folds.
        data: the dataset.
        output: the folder of all.
        folds: how many.
        told: makes what shows the progress of one training.
        callbacks: returns those of a fold, given its number and its folder.
        options: of `folding.cross_validate`.
    """
    from unet_zoo import folding

    shown: dict[int, Any] = {}
    bars = contextlib.ExitStack()  # at most that of the fold that is trained

    def progress(fold: int, now: Progress) -> None:
        if fold not in shown:
            click.echo(f"Fold {fold} of {folds}", err=True)
            shown[fold] = bars.enter_context(told())
        shown[fold](now)

    def scored(fold: int, scores: dict[str, float]) -> None:
        bars.close()
        values = ", ".join(
            f"{name} {value:.3f}" for name, value in scores.items() if name != "images"
        )
        click.echo(f"Fold {fold}: {values} on {scores['images']} images", err=True)

    try:
        with bars:
            result = folding.cross_validate(
                plan,
                data,
                output,
                folds,
                progress=progress,
                scored=scored,
                callbacks=lambda fold: callbacks(fold, output / f"fold-{fold}"),
                **options,
            )
    except KeyboardInterrupt as interrupt:
        done = "Folds that are finished are kept; the same command with --resume goes "
        _common.keep(interrupt, done + "on.")
        raise
    click.echo(table(result))
    click.echo(f"Networks, table and ensemble: {output}")
    click.echo("Segment with all of them:")
    click.echo(f"  unet-zoo segment IMAGES --model {output} --output masks/")


def table(result: Result) -> str:
    """Return the scores of every fold, their mean and their spread."""
    names = result.metrics
    rows = [
        [str(fold), str(each["images"]), *(f"{each[name]:.4f}" for name in names)]
        for fold, each in enumerate(result.scores, start=1)
    ]
    rows.append(["mean", "", *(f"{result.mean(name):.4f}" for name in names)])
    rows.append(["spread", "", *(f"{result.spread(name):.4f}" for name in names)])
    return _common.table(["fold", "images", *names], rows)
