"""Anyone's TFDS datasets: `tfds:NAME`, with an image and a segmentation in each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo.catalog import builders
from unet_zoo.catalog.dataset import Dataset, Example, Lazy, held_back
from unet_zoo.errors import InputError, unknown

PREFIX = "tfds:"
_IMAGES = ("image", "images", "img", "input")
# The likelier ones first; an instance mask says more than a mask of classes.
_LABELS = (
    "instance_mask",
    "instances",
    "labels",
    "segmentation_mask",
    "segmentation",
    "mask",
    "label",
    "annotation",
)
_SPLITS = {"train": "train", "validation": "validation", "valid": "validation"}
_SPLITS |= {"val": "validation", "test": "test"}


def open_other(
    name: str,
    config: str | None,
    manual_dir: str | os.PathLike[str] | None,
    data_dir: str | os.PathLike[str] | None,
    validation: float,
) -> Dataset:
    """Prepare a dataset of TFDS where that has not been done, and open it.

    Args:
        name: what stands after `tfds:`, NAME or NAME/CONFIG, then perhaps
            ?image=FEATURE&labels=FEATURE.
        config: of the dataset, unless `name` has it.
        manual_dir: files that cannot be downloaded.
        data_dir: TFDS's own by default, where prepared copies may lie already.
        validation: part of the training examples to hold back where the dataset has
            no validation split.
    """
    tfds = builders.load_tfds()
    name, _, query = name.partition("?")
    asked = _asked(query)
    name, _, inner = name.partition("/")
    if inner and config not in (None, inner):
        message = f"tfds:{name}/{inner} names another configuration than {config!r}."
        raise InputError(message)
    builder = _builder(tfds, name, inner or config, data_dir)
    image, labels = _features(name, builder.info.features, asked)
    with builders.quietly(tfds):
        try:
            manual = None if manual_dir is None else Path(manual_dir).expanduser()
            builder.download_and_prepare(
                download_config=tfds.download.DownloadConfig(
                    manual_dir=manual, try_download_gcs=False
                )
            )
        except (AssertionError, OSError, NotImplementedError) as error:
            message = (
                f"Cannot prepare tfds:{name}: {' '.join(str(error).split())}. Prepare"
                " it with `tfds build` where it can be, and give its folder as"
                " data_dir."
            )
            raise InputError(message) from error
    return _dataset(tfds, builder, image, labels, validation)


def _asked(query: str) -> dict[str, str]:
    asked = {}
    for part in filter(None, query.split("&")):
        key, equals, feature = part.partition("=")
        if not equals or key not in ("image", "labels"):
            message = (
                "After ? stand image=FEATURE and labels=FEATURE, with & between."
                f" Received: {part!r}"
            )
            raise InputError(message)
        asked[key] = feature
    return asked


def _builder(
    tfds: Any, name: str, config: str | None, data_dir: str | os.PathLike[str] | None
) -> Any:
    if not re.fullmatch(r"\w+", name):
        message = f"tfds:{name} is not a name of TFDS: tfds:NAME or tfds:NAME/CONFIG."
        raise InputError(message)
    kept = None if data_dir is None else str(Path(data_dir).expanduser())
    with builders.quietly(tfds):
        try:
            return tfds.builder(name, config=config, data_dir=kept)
        except tfds.core.DatasetNotFoundError as error:
            known = tfds.list_builders(with_community_datasets=False)
            message = (
                f"{unknown('TFDS dataset', name, known)} A dataset of your own must be"
                " imported first, or lie prepared in data_dir."
            )
            if len(known) > 20 and "Did you mean" not in message:
                message = message.partition(" Known: ")[0] + (
                    " TFDS has no such dataset; one of your own must be imported first,"
                    " or lie prepared in data_dir."
                )
            raise InputError(message) from error
        except (ValueError, OSError) as error:
            message = f"Cannot open tfds:{name}: {' '.join(str(error).split())}"
            raise InputError(message) from error


def _features(name: str, features: Any, asked: dict[str, str]) -> tuple[str, str]:
    """Return the features to take for the image and for the labels."""
    available = dict(features.items()) if hasattr(features, "items") else {}
    told = ", ".join(
        f"{key} ({type(each).__name__})" for key, each in available.items()
    )
    for key, feature in asked.items():
        if feature not in available:
            message = f"tfds:{name} has no feature {feature!r}. It has {told}."
            raise InputError(message)
        if not _is_plane(available[feature]):
            message = f"The feature {feature!r} of tfds:{name} is no image ({key})."
            raise InputError(message)
    planes = [key for key, each in available.items() if _is_plane(each)]
    masks = [
        key
        for key in planes
        if np.dtype(available[key].np_dtype).kind in "uib"
        and available[key].shape[-1] == 1
    ]
    labels = asked.get("labels") or next((key for key in _LABELS if key in masks), None)
    pictures = [key for key in planes if key != labels]
    image = asked.get("image") or next((k for k in _IMAGES if k in pictures), None)
    if image is None and len(pictures) == 1:
        image = pictures[0]
    if labels is None:
        rest = [key for key in masks if key != image and key not in _IMAGES]
        labels = rest[0] if len(rest) == 1 else None
    if image is None or labels is None or image == labels:
        missing = (
            "image" if image is None else "segmentation (whole numbers, 1 channel)"
        )
        message = (
            f"tfds:{name} leaves open which feature is the {missing}. It has"
            f" {told or 'none'}. If one of them is, say"
            f" tfds:{name}?image=FEATURE&labels=FEATURE; else it cannot teach a"
            " segmentation."
        )
        raise InputError(message)
    return image, labels


def _is_plane(feature: Any) -> bool:
    """Return whether a feature is (Y, X, C) or (Y, X, 1) numbers."""
    shape, dtype = getattr(feature, "shape", None), getattr(feature, "np_dtype", None)
    return (
        shape is not None
        and len(shape) == 3
        and shape[-1] is not None
        and np.dtype(dtype).kind in "uifb"
    )


def _dataset(
    tfds: Any, builder: Any, image: str, labels: str, validation: float
) -> Dataset:
    """Return the dataset of a prepared builder."""
    found = {split: part.num_examples for split, part in builder.info.splits.items()}
    sizes = {_SPLITS[split]: found[split] for split in found if split in _SPLITS}
    parts = {_SPLITS[split]: split for split in found if split in _SPLITS}
    if "train" not in parts:
        there = ", ".join(found) or "none"
        message = f"tfds:{builder.name} has no split 'train', but {there}."
        raise InputError(message)
    if "validation" not in parts:
        kept = sizes["train"] - held_back(sizes["train"], validation)
        parts |= {"train": f"train[:{kept}]", "validation": f"train[{kept}:]"}
        sizes |= {"train": kept, "validation": sizes["train"] - kept}
    feature = builder.info.features[labels]
    # Many ids need many bits, and who has one id per object says so.
    objects = "instance" in labels or np.dtype(feature.np_dtype).itemsize > 1
    kind = "instances" if objects else "semantic"

    def reader(split: str) -> Any:
        def read() -> Iterator[Example]:
            with builders.quietly(tfds):
                plain = tfds.ReadConfig(try_autocache=False)
                records = builder.as_dataset(split=parts[split], read_config=plain)
                records = tfds.as_numpy(records)
            for number, record in enumerate(records):
                yield _example(record, image, labels, f"{split}{number:05d}")

        return lambda: Lazy(sizes[split], read) if sizes[split] else []

    order = [split for split in ("train", "validation", "test") if split in parts]
    config = builder.builder_config
    what = "one id per object" if objects else "classes"
    return Dataset(
        name=builder.name,
        version=str(builder.version),
        config=config.name if config else None,
        kind=kind,
        note=(
            f"Of TFDS's {builder.info.full_name}, the feature {image!r} is the image"
            f" and {labels!r} the labels, taken as {what}."
        ),
        size_of={split: sizes[split] for split in order},
        readers={split: reader(split) for split in order},
    )


def _example(record: dict[str, Any], image: str, labels: str, name: str) -> Example:
    mask = np.asarray(record[labels])[..., 0]
    if mask.max(initial=0) > np.iinfo("int32").max or mask.min(initial=0) < -1:
        message = (
            f"The feature {labels!r} of {name} holds values from {mask.min()} to"
            f" {mask.max()}; -1 (not annotated) to {np.iinfo('int32').max} are"
            " possible."
        )
        raise InputError(message)
    found = mask.astype("int32")
    pixels = np.asarray(record[image])
    if pixels.shape[:2] != found.shape:
        message = (
            f"In {name}, {image!r} is {pixels.shape[0]} x {pixels.shape[1]} pixels and"
            f" {labels!r} is {found.shape[0]} x {found.shape[1]}. They must be equal."
        )
        raise InputError(message)
    return Example(name, pixels, found, reference=found)
