"""A user's own folder of images and masks, understood and checked at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from unet_zoo import images
from unet_zoo.catalog import challenge
from unet_zoo.catalog.dataset import Dataset, Example, held_back
from unet_zoo.errors import InputError

_LAYOUTS = (
    "Expected images/ and masks/ with files of the same names, or images and their"
    " *_masks side by side, or 01/ with 01_GT/SEG or 01_ST/SEG; all of them also within"
    " train/ and test/."
)


def open_folder(folder: Path, validation: float) -> Dataset:
    """Read a folder, raising `InputError` at the first thing that is wrong in it."""
    places = _places(folder)
    if any(challenge.sequences(place) for place in places.values()):
        found = {split: challenge.read(place) for split, place in places.items()}
        note = challenge.note(found.values())
    else:
        pairs = {split: _pairs(place) for split, place in places.items()}
        found, note = _understood(folder, pairs)
    every = [example for examples in found.values() for example in examples]
    _same_channels(every)

    train = found.get("train", [])
    kept = len(train) - held_back(len(train), validation)
    parts = {"train": train[:kept], "validation": train[kept:]} if train else {}
    parts |= {"test": found["test"]} if "test" in found else {}
    return Dataset(
        name=folder.resolve().name,
        version=_fingerprint(every),
        config=None,
        kind="instances",
        note=note,
        size_of={split: len(examples) for split, examples in parts.items()},
        readers={
            split: _giving(examples)
            for split, examples in (parts | {"all": every}).items()
        },
    )


def _giving(examples: list[Example]) -> Callable[[], list[Example]]:
    return lambda: list(examples)


def _places(folder: Path) -> dict[str, Path]:
    train, test = folder / "train", folder / "test"
    if train.is_dir() and _has_pairs(folder):
        message = (
            f"{folder} has pairs of its own beside those in train/: move them there, or"
            " train/ out of it."
        )
        raise InputError(message)
    places = {}
    if train.is_dir():
        places["train"] = train
    elif _has_pairs(folder) or not test.is_dir():
        places["train"] = folder
    if test.is_dir():
        places["test"] = test
    return places


def _has_pairs(folder: Path) -> bool:
    subfolders = (folder / "images", folder / "masks")
    return bool(
        challenge.sequences(folder)
        or any(each.is_dir() for each in subfolders)
        or any(each.suffix.lower() in images.SUFFIXES for each in folder.iterdir())
    )


def _pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Return the image and the mask files that belong together, in natural order."""
    image_folder, mask_folder = folder / "images", folder / "masks"
    apart = image_folder.is_dir() or mask_folder.is_dir()
    if apart:
        for here, missing in (
            (image_folder, mask_folder),
            (mask_folder, image_folder),
        ):
            if not missing.is_dir():
                message = f"{here} is there but {missing} is not. {_LAYOUTS}"
                raise InputError(message)
        pictures = images.find(image_folder, masks=True)
        masks = images.find(mask_folder, masks=True)
    else:
        try:
            files = images.find(folder, masks=True)
        except InputError as error:
            message = f"{folder} has no pairs of images and masks. {_LAYOUTS}"
            raise InputError(message) from error
        masks = [file for file in files if file.stem.endswith(images.MASK_SUFFIXES)]
        pictures = [file for file in files if file not in set(masks)]
        if not masks or not pictures:
            what = "images but no masks" if pictures else "masks but no images"
            message = f"{folder} has {what}. {_LAYOUTS}"
            raise InputError(message)
    return _matched(pictures, masks, same_name=apart)


def _matched(
    pictures: list[Path], masks: list[Path], *, same_name: bool
) -> list[tuple[Path, Path]]:
    left = {mask.stem: mask for mask in masks}
    if len(left) < len(masks):
        twin = next(mask for mask in masks if left[mask.stem] != mask)
        message = (
            f"{left[twin.stem].name} and {twin.name} are masks of the same name. Remove"
            f" one from {twin.parent}."
        )
        raise InputError(message)
    pairs = []
    for picture in pictures:
        stem = picture.stem
        # Cellpose names an image 001_img and its mask 001_masks.
        stems = [stem, stem.removesuffix("_img")]
        expected = [stem] if same_name else []
        expected += [base + suffix for base in stems for suffix in images.MASK_SUFFIXES]
        found = [left.pop(name) for name in dict.fromkeys(expected) if name in left]
        if len(found) != 1:
            has = " and ".join(mask.name for mask in found)
            has = f"has two masks, {has}" if found else "has no mask"
            where = masks[0].parent
            message = (
                f"The image {picture} {has}. Expected one in {where}, named"
                f" {expected[0]} or {stem}_masks with the suffix of an image (PNG,"
                " TIFF). Add it, or take the image away; an image without objects has"
                " a mask that is 0 throughout."
            )
            raise InputError(message)
        pairs.append((picture, found[0]))
    if left:
        names = ", ".join(mask.name for mask in list(left.values())[:3])
        message = (
            f"Masks in {masks[0].parent} without an image: {len(left)}, {names}. Add"
            " the images, or take the masks away."
        )
        raise InputError(message)
    return pairs


def _understood(
    folder: Path, pairs: dict[str, list[tuple[Path, Path]]]
) -> tuple[dict[str, list[Example]], str]:
    """Return the examples of each split, and what their masks were taken to mean."""
    read = {
        split: [(file.stem, _image(file), _mask(mask), mask) for file, mask in each]
        for split, each in pairs.items()
    }
    every = [one for each in read.values() for one in each]
    values: set[int] = set()
    for name, image, mask, file in every:
        if image.shape[:2] != mask.shape:
            message = (
                f"The image {name} is {_size(image)} pixels, its mask {file} is"
                f" {_size(mask)}. They must be equal."
            )
            raise InputError(message)
        values.update(np.unique(mask).tolist())
    if len(values) == 1:
        message = (
            f"All masks in {folder} hold the value {values.pop()} and nothing else."
            " Background must be 0, objects 1 and more."
        )
        raise InputError(message)
    objects = sorted(value for value in values if value > 0)
    binary = len(objects) == 1
    what = "one id per object (instances)"
    if binary:
        what = f"0 and {objects[0]} only: each connected region is taken as an object"
    if -1 in values:
        what += "; -1 is not annotated"
    examples = {
        split: [
            _example(name, image, _components(mask) if binary else mask)
            for name, image, mask, _ in each
        ]
        for split, each in read.items()
    }
    return examples, f"{len(every)} pairs; masks hold {what}."


def _example(name: str, image: np.ndarray, labels: np.ndarray) -> Example:
    return Example(name=name, image=image, labels=labels, reference=labels)


def _image(path: Path) -> np.ndarray:
    image = images.read_one(path)
    wrong = 0 if image.dtype.kind != "f" else np.count_nonzero(~np.isfinite(image))
    if wrong:
        message = (
            f"The image {path} has {wrong} values that are NaN or infinite. Replace"
            " them, for instance with numpy.nan_to_num."
        )
        raise InputError(message)
    return image


def _mask(path: Path) -> np.ndarray:
    """Return a mask as int32 (Y, X)."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        message = (
            f"The mask {path} is a JPEG, which does not keep the values of its pixels."
            " Save masks as PNG or TIFF."
        )
        raise InputError(message)
    mask = images.read_one(path, indices=True)
    if mask.shape[-1] != 1:
        message = (
            f"The mask {path} has {mask.shape[-1]} channels (a colour picture?); one is"
            " expected. Save the ids of the objects, 0 for background, as one channel"
            " of whole numbers."
        )
        raise InputError(message)
    if mask.dtype.kind not in "ui":
        message = (
            f"The mask {path} holds {mask.dtype}; whole numbers are expected. Save the"
            " ids of the objects as 8- or 16-bit integers."
        )
        raise InputError(message)
    low, high = int(mask.min()), int(mask.max())
    if low < -1 or high > np.iinfo("int32").max:
        message = (
            f"The mask {path} holds values from {low} to {high}; -1 (not annotated) to"
            f" {np.iinfo('int32').max} are possible."
        )
        raise InputError(message)
    return mask[..., 0].astype("int32")


def _components(mask: np.ndarray) -> np.ndarray:
    import skimage.measure

    # Neighbours by edge only: a diagonal line of background separates two objects.
    objects = skimage.measure.label(mask > 0, connectivity=1).astype("int32")
    return np.where(mask < 0, mask, objects)


def _same_channels(examples: Iterable[Example]) -> None:
    seen: dict[int, str] = {}
    for example in examples:
        seen.setdefault(example.image.shape[-1], example.name)
    if len(seen) > 1:
        counts = ", ".join(f"{name} has {count}" for count, name in seen.items())
        message = (
            f"All images must have the same number of channels; {counts}. Convert them"
            " to one kind, grey or colour."
        )
        raise InputError(message)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[0]} x {image.shape[1]}"


def _fingerprint(examples: Iterable[Example]) -> str:
    """Return a version that changes with any pixel of any image or mask."""
    digest = hashlib.sha256()
    for example in examples:
        digest.update(f"{example.name} {example.image.shape}".encode())
        digest.update(np.ascontiguousarray(example.image).data)
        digest.update(np.ascontiguousarray(example.labels).data)
    return f"sha256:{digest.hexdigest()[:12]}"
