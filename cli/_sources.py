"""What verbs need that take a dataset as their argument: where it comes from."""

from __future__ import annotations

import click

from unet_zoo.cli import _common

dataset_argument = click.argument("dataset", metavar="DATASET")
source_options = _common.together(
    click.option("--config", metavar="NAME", help="Configuration of a named dataset."),
    click.option(
        "--manual-dir",
        type=_common.FOLDER,
        help="Folder with files of the dataset that you placed by hand.",
    ),
    click.option(
        "--data-dir",
        type=_common.NEW_PATH,
        help="Where named datasets are kept.  [default: UNET_ZOO_DATA_DIR, else "
        "~/.cache/unet_zoo/tfds]",
    ),
)
