"""What README.txt says beside the files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping

from unet_zoo import catalog
from unet_zoo._version import __version__


def text(
    dataset: catalog.Dataset,
    format: str,
    unannotated: int | None,
    counts: Mapping[str, Mapping[str, int]],
) -> str:
    """Return what README.txt says.

    Args:
        dataset: what was written.
        format: in which.
        unannotated: number written instead of -1, or None.
        counts: "images", "objects" and pixels "unannotated" of each split.
    """
    title = f"The dataset {dataset.name} as plain files ({format})"
    config = f", configuration {dataset.config}" if dataset.config else ""
    parts = [
        f"Written by `unet-zoo prepare`, unet-zoo {__version__}, from {dataset.name} "
        f"{dataset.version}{config}. {dataset.note}"
    ]
    for split, count in counts.items():
        line = f"{split}/ holds {_counted(count['images'], 'image')}"
        if dataset.kind == "instances":
            line += f" with {_counted(count['objects'], 'object')}"
        parts.append(f"{line}.")
    missing = any(count["unannotated"] for count in counts.values())
    parts += [_meaning(dataset, format), _of_unannotated(format, unannotated, missing)]
    if format != "npy":
        target = "" if dataset.kind == "instances" else " --target semantic"
        parts.append("To train on it, with FOLDER the folder of this file:")
        parts.append(f"  unet-zoo train unet --dataset FOLDER{target}")
    body = "\n\n".join(textwrap.fill(part, 79) for part in parts)
    body = f"{title}\n{'=' * len(title)}\n\n{body}\n"
    # A user's folder may be called like a named dataset; only a folder has "all".
    if dataset.name in catalog.names() and "all" not in dataset.readers:
        facts = catalog.info(dataset.name)
        body += (
            f"\nAbout the data, and its conditions:\n\n{facts.description.strip()}\n"
        )
        if facts.citation.strip():
            body += f"\nCite:\n\n{facts.citation.strip()}\n"
    return body


def _counted(count: int, what: str) -> str:
    return f"{count} {what}{'s' * (count != 1)}"


def _meaning(dataset: catalog.Dataset, format: str) -> str:
    others = (
        " reference/ holds the labels to measure against where these are not those for "
        "training; images without are not measured. markers/ holds one mark in every "
        "object."
    )
    if format == "coco":
        each = "object" if dataset.kind == "instances" else "class and image"
        return (
            f"images/ holds the images, annotations.json one annotation per {each} in "
            "COCO's format, run-length encoded; `label` is its number in the dataset."
            + others
        )
    what = "object" if dataset.kind == "instances" else "class"
    return (
        "images/ holds the images in their own depth and channels, masks/ files of the "
        f"same names: 16-bit whole numbers, 0 for background, one number per {what}."
        + others
    )


def _of_unannotated(format: str, value: int | None, missing: bool) -> str:
    if not missing:
        return "Every pixel of the labels is annotated."
    if value is not None:
        meaning = "background" if value == 0 else "not an object: leave it out"
        return (
            f"Some pixels are not annotated; they are {value} in masks/, {meaning}."
            " unet-zoo has no way to know that from the files: to train on them, take"
            " the format tiff."
        )
    if format == "coco":
        return (
            "What is not annotated is an annotation with `iscrowd` 1 and `label` -1:"
            " neither object nor background, and left out of every measure."
        )
    return (
        "Pixels that are not annotated are -1, neither object nor background; masks"
        " with such pixels hold 32-bit signed numbers."
    )
