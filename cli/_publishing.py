"""`unet-zoo weights verify` and `publish`: figures that anyone can check."""

from __future__ import annotations

import functools
import tempfile
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import errors, files
from unet_zoo.cli import _common, _options

if TYPE_CHECKING:
    from unet_zoo import measuring, weights


@click.command("verify")
@click.argument("names", nargs=-1, metavar="[NAME|ENTRY]...")
@click.option("--all", "every", is_flag=True, help="All weights, as without NAME.")
@click.option(
    "--evaluate",
    is_flag=True,
    help="Measure again whatever the cards state; takes minutes for each entry.",
)
@click.option(
    "--tolerance",
    type=_options.Range(0),
    default=0.002,
    show_default=True,
    help="How far a figure may be off.",
)
@_options.place_options
@_options.engine_option("keras, which the cards were measured by")
@_options.precision_option
@_options.backend_option
@_options.json_option
def verify(
    names: tuple[str, ...],
    every: bool,
    evaluate: bool,
    tolerance: float,
    manual_dir: Path | None,
    data_dir: Path | None,
    engine: str | None,
    precision: str,
    backend: str | None,
    as_json: bool,
) -> None:
    """Check that weights are bit for bit what their entry says.

    Without NAME: all weights on this computer. Nothing is downloaded. An ENTRY is the
    folder of one, such as `publish` wrote it.

    With --evaluate every figure of the cards is measured again, by the datasets,
    configurations and turned copies that the entries state. Exit code 1 if one is off
    by more than --tolerance, if one cannot be measured, or if a card says another
    figure than its entry.

    \b
    Example:
      unet-zoo weights verify --all --evaluate --manual-dir DATA
    """
    from unet_zoo import weights

    if every and names:
        message = "--all means all weights; give it or names, not both."
        raise errors.InputError(message)
    engine = engine or "keras"  # by which what the cards state was measured
    if precision == "int8":
        message = (
            "--precision int8 is calibrated on images, which verify is not given: take "
            "float32 or bfloat16 here, and measure int8 by unet-zoo evaluate."
        )
        raise errors.InputError(message)
    _common.check_engine(backend, engine, precision)
    there, rows = [], []
    known = {*weights.names(), *weights.renamed()}
    for name in names or weights.names():
        # A folder that is called as an entry of the zoo is: ./unet-blobs names it.
        if name not in known and (Path(name) / "entry.toml").is_file():
            entry = weights.read_entry(name, moved=True)
            weights.check_entry(entry)
            path = entry.path
        else:
            entry = weights.entry(name)
            if not names and not entry.path.exists():
                click.echo(f"{name}: not shipped, not checked", err=as_json)
                continue
            path = weights.locate(entry.name, offline=True)
        there.append(entry)
        rows.append({"entry": entry.name, "sha256": entry.sha256, "path": str(path)})
        click.echo(
            f"{entry.name}: sha256 {entry.sha256} as expected, {path}", err=as_json
        )
    if not evaluate:
        if as_json:
            click.echo(_common.to_json(rows))
        return
    load = functools.partial(
        _common.load, backend=backend, engine=engine, precision=precision
    )
    module = _common.computing("measuring", backend)
    opened = functools.partial(
        _common.open_dataset, backend=backend, manual_dir=manual_dir, data_dir=data_dir
    )
    done: list[measuring.Repeated] = []
    for entry in there:
        click.echo(f"Measuring {entry.name} ...", err=True)
        with _common.progress_bar("frame") as tick:
            done += module.repeat(entry, load=load, opened=opened, progress=tick)
    _tell(done, tolerance, as_json)
    if not all(each.good(tolerance) for each in done):
        click.get_current_context().exit(1)


def _tell(done: Sequence[measuring.Repeated], tolerance: float, as_json: bool) -> None:
    if as_json:
        told = [
            {
                "entry": each.entry,
                "title": each.title,
                "good": each.good(tolerance),
                "problem": each.problem,
                "stated": dict(each.stated),
                "found": {name: each.found.get(name) for name in each.stated},
            }
            for each in done
        ]
        click.echo(_common.to_json(told))
        return
    for each in done:
        click.echo(f"{each.entry}, {each.title}:" if each.title else f"{each.entry}:")
        if each.found:
            away = each.differences()
            rows = [
                [
                    name,
                    f"{value:.4f}",
                    f"{value + away[name]:.4f}",
                    f"{away[name]:+.4f}",
                    "good" if abs(away[name]) <= tolerance else "OFF",
                ]
                for name, value in each.stated.items()
            ]
            head = ["metric", "stated", "now", "difference", "verdict"]
            click.echo(_common.table(head, rows))
        if each.problem:
            click.echo(f"PROBLEM: {each.problem}")
        click.echo()
    good = sum(each.good(tolerance) for each in done)
    click.echo(
        f"{good} of {len(done)} evaluations are as stated, within {tolerance:g}."
        + (" What is not stands above." if good < len(done) else "")
    )


@click.command("publish")
@click.argument("run", metavar="RUN|FILE|ENTRY", type=_options.NEW_PATH)
@click.option(
    "--to",
    required=True,
    metavar="FOLDER|hf://OWNER/NAME",
    help="Folder of entries, which any web server can offer, or the Hugging Face hub.",
)
@click.option("--name", help="Of the entry.  [default: MODEL-DATASET, of the training]")
@click.option(
    "--words",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.toml",
    help="Texts: summary, use, limits, conditions, licence, citation.",
)
@click.option(
    "--dataset",
    metavar="NAME",
    help="What to measure on.  [default: what it was trained on]",
)
@click.option(
    "--config", "configs", multiple=True, metavar="NAME", help="May be repeated."
)
@click.option(
    "--tta",
    "ttas",
    multiple=True,
    type=click.Choice(("1", "4", "7", "8")),
    help="Turned copies to average; may be repeated.  [default: that of the weights]",
)
@click.option(
    "--dtype",
    type=click.Choice(("float16", "float32")),
    default="float16",
    show_default=True,
    help="Of the weights on disk.",
)
@click.option("--overwrite", is_flag=True, help="Replace an entry that is there.")
@_options.place_options
@_options.backend_option
def publish(
    run: Path,
    to: str,
    name: str | None,
    words: Path | None,
    dataset: str | None,
    configs: tuple[str, ...],
    ttas: tuple[str, ...],
    dtype: str,
    overwrite: bool,
    manual_dir: Path | None,
    data_dir: Path | None,
    backend: str | None,
) -> None:
    """Measure a training and make a zoo entry of it.

    RUN is measured on the test split as it will be stored; weights, card, facts and
    index are written. An ENTRY, the folder of one, is copied or uploaded as it is.

    \b
    Example:
      unet-zoo weights publish runs/first --to served/ --name unet-mine --words w.toml
      unet-zoo weights publish served/unet-mine --to hf://me/unet-mine
    """
    from unet_zoo import weights

    if to.startswith("hf://"):
        weights.check_upload(to)
    else:
        files.check_folder(to)
    if (run / "entry.toml").is_file():
        entry = weights.read_entry(run)
        weights.check_entry(entry)
        _place(entry, to, overwrite, backend)
        return
    file = weights.find(run)
    facts = weights.read_facts(file)
    told = _words(words)
    trained = facts.get("dataset", {})
    publishing = _common.computing("publishing", backend)
    publishing.check_facts(facts, run)
    dataset = dataset or str(trained["name"])
    # Called by what it was taught, whatever it is measured on.
    name = name or f"{facts['model']}-{_common.word(trained['name'])}"
    try:
        weights.check_new(name)
    except errors.InputError as error:
        message = f"{error} Give it by --name, such as {facts['model']}-mine."
        raise errors.InputError(message) from error
    config: str | None
    if not configs and trained.get("name") == dataset and trained.get("config"):
        configs = (str(trained["config"]),)
    for config in configs or (None,):
        _common.check_dataset(dataset, config)
    if not to.startswith("hf://") and not overwrite:
        files.check_unused(Path(to) / name, "Say --overwrite to replace it.")
    measuring = _common.computing("measuring", backend)
    described = publishing.words_of(told, str(words))
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        stored = publishing.stored(file, scratch / "weights.h5", dtype)
        model = _common.load(stored, backend, "keras", "float32")
        evaluations = []
        for config in configs or (None,):
            data = _common.open_dataset(
                dataset,
                backend,
                config=config,
                manual_dir=manual_dir,
                data_dir=data_dir,
            )
            for tta in map(int, ttas or (model.facts["tta"],)):
                title = f"{dataset}{f', {config}' if config else ''}, test split"
                title += f", {tta} turned copies averaged" if tta > 1 else ""
                with _common.progress_bar("frame") as tick:
                    evaluations.append(
                        measuring.measure(
                            model, data, title=title, tta=tta, progress=tick
                        )
                    )
        made = publishing.publish(
            stored,
            scratch / "made" / name,
            evaluations=evaluations,
            words=described,
            dtype=dtype,
            pictures=_curve(run),
        )
        _place(weights.read_entry(made.parent), to, overwrite, backend)


def _words(path: Path | None) -> dict[str, Any]:
    if path is None:
        message = (
            "What only you can say is missing: give --words FILE.toml with the texts "
            "summary, use, limits, conditions (of the data), licence and citation."
        )
        raise errors.InputError(message)
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path} is not TOML: {error}."
        raise errors.InputError(message) from error


def _curve(run: Path) -> list[tuple[Path, str]]:
    curve = run / "curve.png"
    return [(curve, "Loss and validation of the training")] if curve.exists() else []


def _place(entry: weights.Entry, to: str, overwrite: bool, backend: str | None) -> None:
    from unet_zoo import weights

    if to.startswith("hf://"):
        click.echo(f"Uploaded: {weights.upload(entry, to, overwrite=overwrite)}")
        return
    publishing = _common.computing("publishing", backend)
    click.echo(f"Written: {publishing.copy_entry(entry, to, overwrite=overwrite)}")
    click.echo(f"Written: {weights.index(to)}")
