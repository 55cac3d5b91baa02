"""Which datasets there are, and what is in them: one kind of example for all.

A dataset is a folder in `unet_zoo/datasets` (a TFDS builder, found by listing), one of
anyone's TFDS datasets (`tfds:NAME`), or a user's own images and masks.
"""

from __future__ import annotations

import os
from pathlib import Path

from unet_zoo.catalog import builders, folders, others
from unet_zoo.catalog.builders import DatasetInfo, info, names
from unet_zoo.catalog.dataset import Dataset, Example, Lazy, hashed, held_back
from unet_zoo.catalog.problems import Problem
from unet_zoo.errors import InputError, unknown

__all__ = [
    "Dataset",
    "DatasetInfo",
    "Example",
    "Lazy",
    "Problem",
    "hashed",
    "held_back",
    "info",
    "is_own",
    "names",
    "open_dataset",
]


def open_dataset(
    name_or_path: str | os.PathLike[str],
    *,
    config: str | object | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    validation: float = 0.12,
) -> Dataset:
    """Open a dataset by its name, or images and masks of one's own by their path.

    A name (`names()` lists them) is prepared once and then read from `data_dir`, by
    default the environment variable UNET_ZOO_DATA_DIR, else `~/.cache/unet_zoo/tfds`.
    `config` names one of its configurations, or is a `tfds.core.BuilderConfig` made for
    it, such as `BlobsConfig(size=(64, 64), number=(8, 2))`. `manual_dir` is a folder
    with files that cannot be downloaded, by default `data_dir/manual`; each content of
    it is prepared apart, so that another archive never meets an old copy.

    A path may point to
    - `images/` and `masks/`, masks named like their image or with `_mask` or `_masks`,
    - images and their `*_masks` side by side, as Cellpose has them,
    - sequences of the Cell Tracking Challenge: `01/`, `01_GT/SEG`, `01_ST/SEG`,
    - images with a file of COCO annotations, or that JSON file itself,
    - `train/` and `test/`, perhaps `validation/`, each one of these,
    - a CSV file with the columns image, mask and perhaps split.
    Instead of a mask there may be outlines: ImageJ's ROIs (`a.zip`, `a_RoiSet.zip`,
    `a.roi`) or QuPath's GeoJSON (`a.geojson`). The pages of a TIFF stack are examples
    `a[0]`, `a[1]` and so on. Everything is read and checked at once, and read again
    when asked for if it is larger than a gigabyte; `examples("all")` gives every pair.
    A word that is a name means that dataset: write `./hela` for a folder of that name.

    `tfds:NAME`, `tfds:NAME/CONFIG` is a dataset of TFDS or of anyone's builder that has
    been imported, with an image and a segmentation in each example; the `note` says
    which features were taken, `tfds:NAME?image=FEATURE&labels=FEATURE` which to take.

    `validation` is the part of the training examples to hold back: their last block,
    since neighbouring frames are alike, at least one of two, none where it is 0.

    Raises `InputError` for an unknown name, a missing file (where to get it, where to
    put it), or the first thing wrong in a folder.

    >>> dataset = open_dataset("nowhere/at/all")
    Traceback (most recent call last):
        ...
    unet_zoo.errors.InputError: There is no folder nowhere/at/all.
    """
    if not 0 <= validation < 1:
        message = f"`validation` must be at least 0 and less than 1, got {validation}."
        raise InputError(message)
    if isinstance(name_or_path, str) and name_or_path in names():
        return builders.open_builder(
            name_or_path, config, manual_dir, data_dir, validation
        )
    if isinstance(name_or_path, str) and name_or_path.startswith(others.PREFIX):
        if config is not None and not isinstance(config, str):
            message = "`config` of a dataset of TFDS must be a name."
            raise InputError(message)
        name = name_or_path.removeprefix(others.PREFIX)
        return others.open_other(name, config, manual_dir, data_dir, validation)
    path = Path(name_or_path).expanduser()
    if is_own(name_or_path):
        if config is not None:
            message = f"`config` chooses within a named dataset; {path} is not one."
            raise InputError(message)
        return folders.open_folder(path, validation)
    if path.exists():
        message = f"{path} is a file; give the folder of images and masks it is in."
        raise InputError(message)
    if isinstance(name_or_path, str) and name_or_path == path.name:
        message = (
            f"{unknown('dataset', name_or_path, names())} Nor is there such a folder "
            "or file here."
        )
        raise InputError(message)
    message = f"There is no folder {path}."
    raise InputError(message)


def is_own(name_or_path: str | os.PathLike[str]) -> bool:
    """Return whether this is data of one's own: a folder, a CSV file, a JSON file.

    A word that names a dataset is not, even where there is such a folder.

    >>> is_own("hela"), is_own("."), is_own("tfds:mnist")
    (False, True, False)
    """
    if isinstance(name_or_path, str) and (
        name_or_path in names() or name_or_path.startswith(others.PREFIX)
    ):
        return False
    path = Path(name_or_path).expanduser()
    return path.is_dir() or (path.is_file() and path.suffix.lower() in folders.SUFFIXES)
