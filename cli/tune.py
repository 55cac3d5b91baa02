"""`unet-zoo tune`: the decoder's thresholds, chosen on annotated images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, files
from unet_zoo.cli import _calibration, _common, _options, _reading

if TYPE_CHECKING:
    from unet_zoo.tuning import Tuned


@click.command()
@click.argument("models", nargs=-1, required=True, metavar="NAME|FILE...")
@_options.dataset_options
@click.option(
    "--split",
    default="validation",
    show_default=True,
    help='"validation", "train", "test"; of a folder also "all".',
)
@click.option(
    "--metric",
    help="What is to be as large as possible, such as SEG, AP or Dice.  [default: SEG, "
    "of classes IoU]",
)
@_options.tta_option
@_reading.pixel_size_option
@click.option(
    "--output",
    type=_options.NEW_PATH,
    metavar="FILE",
    help="A new weights file; of several weights, a new folder.  [default: beside the "
    "weights, NAME-tuned]",
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
    metric: str | None,
    tta: str | None,
    output: Path | None,
    engine: str | None,
    precision: str,
    backend: str | None,
    calibrate: Path | None,
    pixel_size: float | None,
) -> None:
    """Find thresholds that suit annotated images.

    One after the other, the thresholds of the target, and what tidies objects
    (min-size, fill-holes, closing), take the value that scores best; what is better by
    chance only stays as it was. The network is not changed. A copy of the weights that
    decodes by what was found is written to --output, where something did better.

    Images are measured against the masks they teach. Of the dataset that the weights
    were trained on, validation images are the ones held back then. Never tune on the
    images that you will judge by.

    \b
    Example:
      unet-zoo tune unet-blobs --dataset my_dataset/ --split all
      unet-zoo tune runs/first --dataset my_dataset/ --metric AP
    """
    from unet_zoo import weights

    _calibration.check(calibrate, precision)
    _common.check_engine(backend, engine, precision)
    _common.check_dataset(dataset, config)
    file = _common.find_weights(models)
    facts = weights.read_facts(file)
    output = output or _default_output(models, file)
    if output.is_file():
        message = f"{output} is there already. Give another --output."
        raise errors.InputError(message)
    files.check_unused(output, "Give another --output, such as {free}.")
    if file.suffix != ".toml" and output.suffix != ".h5":
        message = f"--output must end in .h5, as weights files do. Received: {output}"
        raise errors.InputError(message)
    _common.check_writable(output)
    data = _common.open_dataset(
        dataset,
        backend,
        config=config,
        manual_dir=manual_dir,
        data_dir=data_dir,
        **_held_back(facts, dataset),
    )
    channels = facts["channels"]
    examples = _reading.examples(data, split, channels, " + ".join(models))
    if split == "test":
        click.echo("From now on, what is measured on these images flatters.", err=True)
    shown = _calibration.of_dataset(calibrate, precision, data)
    segmenter = _common.load(file, backend, engine, precision, shown)
    from unet_zoo import tuning

    size = _reading.pixel_size(segmenter, data, pixel_size)
    with _common.progress_bar("image") as tick:
        found = tuning.search(
            segmenter,
            [tuning.as_taught(example) for example in examples],
            metric,
            kind=data.kind,
            progress=tick,
            **_options.given(tta=tta),
            **size,
        )
    _show(found)
    if not found.changed:
        click.echo(f"Nothing did better on {len(examples)} images; nothing is written.")
        return
    found.segmenter.facts["tuned"] |= {
        "dataset": data.name,
        "version": data.version,
        "split": split,
    }
    click.echo(f"Written to {tuning.write(found, file, output)}")


def _default_output(models: tuple[str, ...], file: Path) -> Path:
    """Return a name beside what was given; here, where the zoo's own was named."""
    from unet_zoo import weights

    if file.suffix == ".toml":
        given = Path(models[0])
        if len(models) == 1 and given.is_dir():
            return given.with_name(f"{given.resolve().name}-tuned")
        return Path("-".join(Path(each).stem for each in models) + "-tuned")
    if models[0] in weights.names():
        return Path(f"{models[0]}-tuned.h5")
    given = Path(models[0]).expanduser()
    beside = file if given.exists() else Path(given.name)
    return beside.with_name(f"{beside.stem}-tuned.h5")


def _held_back(facts: dict[str, Any], dataset: str) -> dict[str, float]:
    """Return the part of the images that the training held back, if it was of these."""
    from unet_zoo import reproducing

    trained = facts.get("dataset", {})
    if trained.get("name") != _common.word(dataset) or not trained.get("validation"):
        return {}
    return {"validation": reproducing.validation_of(trained)}


def _show(found: Tuned) -> None:
    rows = []
    for name in found.tried:
        before, after = found.changed.get(name, (None, None))
        tried = ", ".join(f"{value}" for value in found.tried[name])
        change = f"{before} -> {after}" if name in found.changed else "stays"
        rows.append([name, change, tried])
    click.echo(_common.table(["option", "found", "tried"], rows))
    click.echo()
    scores = [
        [name, f"{score.value:.4f}", f"{found.after[name].value:.4f}"]
        for name, score in found.before.items()
    ]
    click.echo(_common.table(["metric", "before", "after"], scores))
