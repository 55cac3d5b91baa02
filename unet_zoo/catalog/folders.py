"""A user's own images and masks: surveyed, understood and checked at once."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unet_zoo.catalog import challenge, masks, pairs, pixels, tables
from unet_zoo.catalog.dataset import Dataset, Example, Lazy, held_back
from unet_zoo.catalog.masks import Meaning, Page, Pair
from unet_zoo.catalog.pairs import Survey
from unet_zoo.errors import InputError

# Files a dataset can be given as, beside folders.
SUFFIXES = (".csv", ".json")
# Pairs of more bytes than this are read again whenever they are asked for.
KEPT = 2**30


def survey(path: Path) -> Survey:
    """Return the pairs at a path, a folder or a file of `SUFFIXES`, and all problems.

    No image is read. A folder of the Cell Tracking Challenge has no pairs: see
    `is_challenge`.
    """
    match path.suffix.lower() if path.is_file() else "":
        case ".csv":
            return tables.survey(path)
        case ".json":
            return pairs.in_coco(path)
        case _:
            return pairs.in_folder(path)


def is_challenge(path: Path) -> bool:
    """Return whether a folder is laid out as the Cell Tracking Challenge does it."""
    if not path.is_dir():
        return False
    places = pairs.places(path, [])
    return any(challenge.sequences(place) for place in places.values())


def open_folder(path: Path, validation: float) -> Dataset:
    """Read a folder or file, raising `InputError` at the first thing that is wrong."""
    if is_challenge(path):
        return _challenge(path, validation)
    found = survey(path)
    if found.problems:
        raise found.problems[0]
    # The first time everything is read, checked and forgotten, but for a small set.
    meaning, digest = Meaning(path), hashlib.sha256()
    kept: dict[str, list[Page]] | None = {split: [] for split in found.pairs}
    counts = dict.fromkeys(found.pairs, 0)
    size = 0
    for split, each in found.pairs.items():
        for pair in each:
            pages = masks.read(pair)
            meaning.add(pair, pages)
            for page in pages:
                _update(digest, page.name, page.image, page.mask)
                size += page.image.nbytes + page.mask.nbytes
            counts[split] += len(pages)
            if size > KEPT:
                kept = None
            if kept is not None:
                kept[split] += pages
    for problem in meaning.problems():
        raise problem
    examples: dict[str, Sequence[Example]] = {}
    for split, each in found.pairs.items():
        if kept is not None:
            examples[split] = [_example(page, meaning) for page in kept[split]]
        else:
            reading = functools.partial(_reading, each, meaning)
            examples[split] = Lazy(counts[split], reading)
    every = [pair.image for each in found.pairs.values() for pair in each]
    pixel_size, remark = pixels.common(every)
    remarks = [*found.remarks, *([remark] if remark else [])]
    note = "; ".join([meaning.note().rstrip("."), *remarks]) + "."
    return _dataset(path, _version(digest), note, examples, validation, pixel_size)


def _challenge(path: Path, validation: float) -> Dataset:
    problems: list[pairs.Problem] = []
    places = pairs.places(path, problems)
    if problems:
        raise problems[0]
    found = {split: challenge.read(place) for split, place in places.items()}
    every = [example for examples in found.values() for example in examples]
    _same_channels(every)
    digest = hashlib.sha256()
    for example in every:
        _update(digest, example.name, example.image, example.labels)
    note = challenge.note(found.values())
    return _dataset(path, _version(digest), note, found, validation)


def _dataset(
    path: Path,
    version: str,
    note: str,
    examples: Mapping[str, Sequence[Example]],
    validation: float,
    pixel_size: pixels.PixelSize | None = None,
) -> Dataset:
    train = examples.get("train", [])
    parts: dict[str, Sequence[Example]] = dict(examples)
    if train and "validation" not in examples:
        kept = len(train) - held_back(len(train), validation)
        parts["train"], parts["validation"] = _split(train, kept)
    order = [split for split in pairs.SPLITS if split in parts]
    readers: dict[str, Callable[[], Sequence[Example]]]
    readers = {split: _giving(parts[split]) for split in order}
    readers["all"] = _giving(
        _joined([examples[s] for s in pairs.SPLITS if s in examples])
    )
    return Dataset(
        name=path.resolve().stem if path.is_file() else path.resolve().name,
        version=version,
        config=None,
        kind="instances",
        note=note,
        size_of={split: len(parts[split]) for split in order},
        readers=readers,
        pixel_size=pixel_size,
    )


def _example(page: Page, meaning: Meaning) -> Example:
    labels = meaning.labels(page)
    return Example(page.name, page.image, labels, reference=labels)


def _reading(each: Iterable[Pair], meaning: Meaning) -> Iterator[Example]:
    for pair in each:
        for page in masks.read(pair):
            yield _example(page, meaning)


def _split(
    examples: Sequence[Example], at: int
) -> tuple[Sequence[Example], Sequence[Example]]:
    """Return the first `at` examples and the others."""
    if isinstance(examples, list):
        return examples[:at], examples[at:]
    first = Lazy(at, lambda: itertools.islice(examples, at))
    rest = Lazy(len(examples) - at, lambda: itertools.islice(examples, at, None))
    return first, rest


def _joined(parts: Sequence[Sequence[Example]]) -> Sequence[Example]:
    if all(isinstance(part, list) for part in parts):
        return [example for part in parts for example in part]
    count = sum(map(len, parts))
    return Lazy(count, lambda: (example for part in parts for example in part))


def _giving(examples: Sequence[Example]) -> Callable[[], Sequence[Example]]:
    return lambda: list(examples) if isinstance(examples, list) else examples


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


def _update(digest: hashlib._Hash, name: str, *arrays: np.ndarray) -> None:
    digest.update(f"{name} {arrays[0].shape}".encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)


def _version(digest: hashlib._Hash) -> str:
    """Return a version that changes with any pixel of any image or mask."""
    return f"sha256:{digest.hexdigest()[:12]}"
