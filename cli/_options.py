"""Options that two verbs or more share."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from unet_zoo import devices, engines

Function = TypeVar("Function", bound=Callable[..., Any])


def together(
    *options: Callable[[Function], Function],
) -> Callable[[Function], Function]:
    """Return one decorator for several options, in the order they are given."""

    def decorate(function: Function) -> Function:
        return functools.reduce(
            lambda decorated, option: option(decorated), reversed(options), function
        )

    return decorate


class Range(click.FloatRange):
    """Numbers between bounds; nan lies beyond all, which click does not notice."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Any:
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


FOLDER = click.Path(exists=True, file_okay=False, path_type=Path)
NEW_PATH = click.Path(path_type=Path)

backend_option = click.option(
    "--backend",
    type=click.Choice(devices.BACKENDS),
    help="What computes.  [default: KERAS_BACKEND, else tensorflow]",
)
# Where a dataset comes from.
place_options = together(
    click.option(
        "--manual-dir",
        type=FOLDER,
        help="Folder with files of the dataset that you placed by hand.",
    ),
    click.option(
        "--data-dir",
        type=NEW_PATH,
        help="Where named datasets are kept.  [default: UNET_ZOO_DATA_DIR, else "
        "~/.cache/unet_zoo/tfds]",
    ),
)
source_options = together(
    click.option("--config", metavar="NAME", help="Configuration of a named dataset."),
    place_options,
)
dataset_argument = click.argument("dataset", metavar="DATASET")
dataset_options = together(
    click.option(
        "--dataset",
        required=True,
        metavar="NAME|FOLDER",
        help="A name that `unet-zoo datasets` lists, your own folder, CSV or COCO "
        "file, or tfds:NAME.",
    ),
    source_options,
)
tta_option = click.option(
    "--tta",
    type=click.Choice(("1", "4", "7", "8")),
    help="Flips and rotations to average.  [default: that of the weights]",
)
segment_options = together(
    tta_option,
    click.option(
        "--tile",
        type=click.IntRange(min=16),
        metavar="PIXELS",
        help="Side of the tiles of large images, in pixels that the network sees.  "
        "[default: 512 above a million pixels]",
    ),
    click.option(
        "--threshold",
        type=Range(0, 1),
        help="How sure the network must be of an object's pixel.  [default: that of "
        "the weights]",
    ),
    click.option(
        "--min-size",
        type=click.IntRange(min=0),
        metavar="PIXELS",
        help="Objects of a smaller area are dropped.  [default: 0]",
    ),
    click.option(
        "--fill-holes/--no-fill-holes",
        default=None,
        help="Fill holes in objects.  [default: fill]",
    ),
    click.option(
        "--closing",
        type=click.IntRange(min=0),
        metavar="PIXELS",
        help="Radius within which gaps in an object's outline close.  [default: 0]",
    ),
)
precision_option = click.option(
    "--precision",
    type=click.Choice(engines.PRECISIONS),
    default="float32",
    show_default=True,
    help="bfloat16 is faster on processors that have it, int8 (of OpenVINO) faster "
    "still and less exact.",
)


def engine_option(default: str) -> Callable[[Function], Function]:
    """Return the option that says what runs the network.

    Args:
        default: what does where nothing is said, in words.
    """
    return click.option(
        "--engine",
        type=click.Choice(engines.ENGINES),
        help="What runs the network. auto: OpenVINO where it is installed and there is "
        f"no GPU, else Keras.  [default: {default}]",
    )


engine_options = together(
    engine_option("UNET_ZOO_ENGINE, else auto"), precision_option, backend_option
)
models_option = click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    metavar="NAME|FILE",
    help="A name that `unet-zoo weights` lists, a weights file, or the folder of a "
    "training. Given again, an ensemble: predictions are averaged.",
)
cache_option = click.option(
    "--cache",
    type=NEW_PATH,
    metavar="FOLDER",
    help="Where weights are kept.  [default: UNET_ZOO_CACHE, else ~/.cache/unet_zoo]",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print JSON, for programs."
)


def given(**options: Any) -> dict[str, Any]:
    """Return the options that were given; the others are left to the weights."""
    options = {name: value for name, value in options.items() if value is not None}
    if "tta" in options:
        options["tta"] = int(options["tta"])
    return options
