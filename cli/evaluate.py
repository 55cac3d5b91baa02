"""`unet-zoo evaluate`: how good weights are on annotated images."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo.cli import _calibration, _common, _options, _reading

if TYPE_CHECKING:
    from unet_zoo.metrics import Score

SUFFIXES = (".json", ".csv")


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME|FILE...")
@_options.dataset_options
@click.option(
    "--split",
    default="test",
    show_default=True,
    help='"train", "validation", "test"; of a folder also "all".',
)
@_options.segment_options
@_reading.pixel_size_option
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FILE",
    help="Write the scores to a file as well, .json or .csv.",
)
@_options.engine_options
@_calibration.option
def command(
    models: tuple[str, ...],
    dataset: str,
    config: str | None,
    manual_dir: Path | None,
    data_dir: Path | None,
    split: str,
    output: Path | None,
    engine: str | None,
    precision: str,
    backend: str | None,
    calibrate: Path | None,
    pixel_size: float | None,
    **options: Any,
) -> None:
    """Measure weights on annotated images.

    Several weights are measured as an ensemble, which averages what they predict.
    Every metric comes with what it rests on: how many annotated objects in how many
    frames. A value that no annotation supports is nan.

    \b
    Example:
      unet-zoo evaluate resunet-hela --dataset hela
      unet-zoo evaluate runs/first --dataset more_annotated/ --split all
      unet-zoo evaluate runs/first runs/second --dataset more_annotated/
    """
    from unet_zoo import weights

    if output is not None:
        _common.check_file(output, "--output", SUFFIXES)
    _calibration.check(calibrate, precision)
    _common.check_engine(backend, engine, precision)
    _common.check_dataset(dataset, config)
    model = " + ".join(models)
    file = _common.find_weights(models)
    channels = weights.read_facts(file)["channels"]
    data = _common.open_dataset(
        dataset, backend, config=config, manual_dir=manual_dir, data_dir=data_dir
    )
    examples = _reading.examples(data, split, channels, model)
    shown = _calibration.of_dataset(calibrate, precision, data)
    segmenter = _common.load(file, backend, engine, precision, shown)
    from unet_zoo import evaluation

    chosen = _options.given(**options)
    chosen |= _reading.pixel_size(segmenter, data, pixel_size)
    with _common.progress_bar("frame") as show:
        scores = evaluation.evaluate(
            segmenter,
            examples,
            kind=data.kind,
            progress=show,
            **chosen,
        )
    _show(scores)
    if output is not None:
        facts = {
            "model": model,
            "weights_sha256": weights.sha256(file),
            "dataset": {
                "name": data.name,
                "version": data.version,
                "config": data.config,
                "note": data.note,
            },
            "split": split,
            "options": chosen,
            "metrics": {name: vars(score) for name, score in scores.items()},
        }
        text = (
            _csv(scores)
            if output.suffix.lower() == ".csv"
            else _common.to_json(facts) + "\n"
        )
        _common.write_text(output, text)
        click.echo(f"Written to {output}")


def _show(scores: dict[str, Score]) -> None:
    rows = [
        [name, f"{score.value:.4f}", str(score.objects), str(score.frames)]
        for name, score in scores.items()
    ]
    click.echo(_common.table(["metric", "value", "objects", "frames"], rows))


def _csv(scores: dict[str, Score]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["metric", "value", "objects", "frames"])
    for name, score in scores.items():
        writer.writerow([name, score.value, score.objects, score.frames])
    return text.getvalue()
