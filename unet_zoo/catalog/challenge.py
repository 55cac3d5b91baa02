"""Folders laid out as the Cell Tracking Challenge lays out a 2D data set."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from unet_zoo import images
from unet_zoo.catalog.dataset import Example
from unet_zoo.errors import InputError


def sequences(folder: Path) -> list[str]:
    """Return the sequences in `folder` that have annotations: "01" where `01_GT` is."""
    return sorted(
        each.name
        for each in folder.iterdir()
        if re.fullmatch(r"\d\d", each.name)
        and any(
            (folder / f"{each.name}_{kind}" / "SEG").is_dir() for kind in ("GT", "ST")
        )
    )


def read(folder: Path) -> list[Example]:
    """Return the annotated frames of every sequence in `folder`.

    Labels and -1 are made as for the dataset `hela`, see `unet_zoo.datasets.hela`. The
    reference is gold truth, None in frames without it; silver where there is no gold.
    """
    found = [
        example for name in sequences(folder) for example in _sequence(folder, name)
    ]
    if not found:
        message = f"{folder} has no sequence such as 01/ with 01_GT/SEG or 01_ST/SEG."
        raise InputError(message)
    return found


def note(found: Iterable[list[Example]]) -> str:
    """Return the sentence that says what was read."""
    examples = [example for each in found for example in each]
    measured = sum(example.reference is not None for example in examples)
    return (
        f"{len(examples)} annotated frames of the Cell Tracking Challenge's layout,"
        f" {measured} of them with a reference to measure against; -1 is not annotated."
    )


def _sequence(folder: Path, name: str) -> list[Example]:
    # Imports tensorflow with its package, so only where such a folder is read.
    truth = importlib.import_module("unet_zoo.datasets.hela.truth")
    frames = _numbered(folder / name, "t")
    silver = _numbered(folder / f"{name}_ST" / "SEG", "man_seg")
    gold = {
        number: _labels(file)
        for number, file in _numbered(folder / f"{name}_GT" / "SEG", "man_seg").items()
    }
    markers = _numbered(folder / f"{name}_GT" / "TRA", "man_track")
    for number in (silver | gold).keys() - frames.keys():
        message = f"{folder / name} has no frame t{number:03d}.tif, but a mask for it."
        raise InputError(message)
    outlined = gold.values() if gold else map(_labels, silver.values())
    distance = truth.reach(max(map(truth.largest_area, outlined), default=0))
    examples = []
    for number in [number for number in frames if number in silver or number in gold]:
        image = images.read_one(frames[number])
        marked = _labels(markers[number]) if number in markers else None
        inputs = (
            _labels(silver[number]) if number in silver else None,
            gold.get(number),
            marked,
        )
        if any(each is not None and each.shape != image.shape[:2] for each in inputs):
            message = (
                f"{frames[number]} is {image.shape[0]} x {image.shape[1]} pixels, its"
                " masks are not."
            )
            raise InputError(message)
        known = truth.frame(*inputs, distance)
        reference: np.ndarray | None = known.gold if number in gold else None
        examples.append(
            Example(
                name=f"{name}_{frames[number].stem}",
                image=image,
                labels=known.labels,
                reference=reference if gold else known.labels,
                markers=marked,
                challenge=True,
            )
        )
    return examples


def _numbered(folder: Path, prefix: str) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = [
        (re.fullmatch(rf"{prefix}(\d+)\.tiff?", file.name), file)
        for file in folder.iterdir()
    ]
    return dict(sorted((int(match[1]), file) for match, file in matches if match))


def _labels(path: Path) -> np.ndarray:
    mask = images.read_one(path, indices=True)
    if mask.shape[-1] != 1 or mask.dtype.kind not in "ui":
        message = (
            f"{path} holds {mask.shape[-1]} channels of {mask.dtype}; a label image of"
            " one channel of whole numbers is expected."
        )
        raise InputError(message)
    return mask[..., 0].astype("int32")
