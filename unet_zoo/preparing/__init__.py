"""Any dataset as plain files, for other programs and for people to look at."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unet_zoo import catalog, coco, files, images
from unet_zoo.errors import InputError, unknown
from unet_zoo.preparing import planes, readme

__all__ = ["FORMATS", "file_names", "prepare"]

FORMATS = ("png", "npy", "tiff", "coco")
_SUFFIX = {"png": ".png", "npy": ".npy", "tiff": ".tif", "coco": ".png"}


def prepare(
    dataset: catalog.Dataset,
    output: str | os.PathLike[str],
    *,
    format: str = "tiff",
    splits: Sequence[str] | None = None,
    unannotated: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Write a dataset as plain files, the whole folder or nothing; return its path.

    For every split, `output` then holds a folder with `images/` and `masks/`, files of
    the same names in both, which `catalog.open_dataset(output)` reads again: the same
    images, the same labels, in the same order. Where measuring is done against other
    labels than those for training (gold truth), these are in `reference/`; markers,
    where there are any, in `markers/`. A `README.txt` says what is what.

    Images keep depth and channels. Masks hold the ids of the objects, 0 for background,
    in 16 bits. What is not annotated (-1 in labels) stays -1 in "tiff" and "npy", whose
    masks then are int32; "png" has no place for it, see `unannotated`.

    - "png": images uint8 or uint16 of one or three channels.
    - "tiff": images of any depth and channels, zlib-compressed.
    - "npy": images (Y, X), or (Y, X, C) with more than one channel.
    - "coco": PNG images, and `annotations.json` instead of `masks/`: one run-length
      encoded annotation per object, of a semantic dataset one per class and image.
      What is not annotated is an annotation with `iscrowd` 1.

    Args:
        dataset: what `catalog.open_dataset` returned.
        output: a new or empty folder.
        format: one of `FORMATS`.
        splits: of "train", "validation", "test"; None: all there are.
        unannotated: number to write instead of -1, within 0..65535 and not the id of an
            object. 0 makes background of what is not annotated.
        progress: called with the number of examples done and of all.

    Raises:
        InputError: when `output` holds anything, or an image or mask does not fit the
            format; the message names one that it fits.

    >>> square = np.zeros((4, 5), "int32"); square[1:3, 1:3] = 7
    >>> one = catalog.Example("a", np.ones((4, 5, 1), "uint16"), square, square)
    >>> data = catalog.Dataset(
    ...     "mine", "1", None, "instances", "", {"train": 1}, {"train": lambda: [one]}
    ... )
    >>> folder = prepare(data, Path(tempfile.mkdtemp()) / "plain", format="png")
    >>> sorted(file.name for file in folder.rglob("*.*"))
    ['README.txt', 'a.png', 'a.png']
    >>> bool((images.read_one(folder / "train/masks/a.png")[..., 0] == square).all())
    True
    """
    if format not in FORMATS:
        raise unknown(kind="format", word=format, options=FORMATS)
    _check_unannotated(format, unannotated)
    chosen = _chosen(dataset, splits)
    total, done = sum(dataset.size_of[split] for split in chosen), 0
    output = Path(output).expanduser().resolve()
    with files.whole_folder(output) as part:
        counts = {}
        for split in chosen:
            # Read twice where they are lazy, rather than held in memory.
            examples = dataset.sequence(split)
            stems = file_names([example.name for example in examples])
            writer = _Writer(part / split, format, dataset.kind, unannotated)
            for stem, example in zip(stems, examples, strict=True):
                writer.add(stem, example)
                done += 1
                if progress is not None:
                    progress(done, total)
            writer.finish()
            counts[split] = writer.counts
        text = readme.text(dataset, format, unannotated, counts)
        (part / "README.txt").write_text(text, encoding="utf-8")
    return output


def file_names(names: Sequence[str]) -> list[str]:
    """Return names of files without suffix, which list in the order of `names`.

    Names stay as they are where all of them can be names of files anywhere, differ and
    are in natural order; otherwise they get a number in front.

    >>> file_names(["t2", "t10"]), file_names(["b", "a/c"])
    (['t2', 't10'], ['0_b', '1_a_c'])
    """
    safe = [re.sub(r"[^\w .+()\[\]-]", "_", name).strip(" .") for name in names]
    if safe == list(names) and _in_order(safe):
        return safe
    digits = len(str(len(names) - 1))
    return [f"{number:0{digits}}_{name}" for number, name in enumerate(safe)]


class _Writer:
    """Writes the examples of one split into its folder."""

    def __init__(
        self, folder: Path, format: str, kind: str, unannotated: int | None
    ) -> None:
        self.folder, self.format = folder, format
        self.unannotated = unannotated
        self.classes = kind == "semantic"
        self.counts = {"images": 0, "objects": 0, "unannotated": 0}
        self.coco: dict[str, coco.Annotations] = {}
        # Whether what to measure against is more than what to learn from.
        self.measured = False
        (folder / "images").mkdir(parents=True)

    def add(self, stem: str, example: catalog.Example) -> None:
        """Write one example; its files are called `stem`."""
        name = f"{stem}{_SUFFIX[self.format]}"
        planes.write_image(self.folder / "images" / name, example.image, example.name)
        labels, reference = example.labels, example.reference
        self.counts["images"] += 1
        self.counts["objects"] += len(np.unique(labels[labels > 0]))
        self.counts["unannotated"] += int(np.count_nonzero(labels < 0))
        self._add_plane("masks", name, labels, example.name)
        if reference is not None:
            self._add_plane("reference", name, reference, example.name)
        if reference is None or not np.array_equal(reference, labels):
            self.measured = True
        if example.markers is not None:
            self._add_plane("markers", name, example.markers, example.name)

    def _add_plane(self, kind: str, name: str, labels: np.ndarray, which: str) -> None:
        what = f"{which} ({kind})"
        if self.unannotated is not None:
            labels = planes.replaced(labels, self.unannotated, what)
        if self.format == "coco":
            if kind not in self.coco:
                self.coco[kind] = coco.Annotations(classes=self.classes)
            self.coco[kind].add(f"images/{name}", labels)
        else:
            (self.folder / kind).mkdir(exist_ok=True)
            planes.write_mask(self.folder / kind / name, labels, what)

    def finish(self) -> None:
        """Write what is known only after the last example."""
        if not self.measured:
            self.coco.pop("reference", None)
            shutil.rmtree(self.folder / "reference", ignore_errors=True)
        for kind, content in self.coco.items():
            # Beside the images; others in a folder of their own, as one file of
            # annotations is all that readers expect.
            folder = self.folder if kind == "masks" else self.folder / kind
            folder.mkdir(exist_ok=True)
            text = json.dumps(
                content.finished(), ensure_ascii=False, separators=(",", ":")
            )
            (folder / "annotations.json").write_text(text, encoding="utf-8")


def _chosen(dataset: catalog.Dataset, splits: Sequence[str] | None) -> list[str]:
    """Return the splits to write, those without examples left out."""
    for split in splits or ():
        if split not in dataset.size_of:
            kind = f"split of {dataset.name}"
            raise unknown(kind, split, dataset.size_of)
    there = [split for split, count in dataset.size_of.items() if count]
    chosen = [split for split in there if splits is None or split in splits]
    if not chosen:
        sizes = ", ".join(
            f"{count} {split}" for split, count in dataset.size_of.items()
        )
        message = (
            f"There is nothing to write: the dataset {dataset.name!r} has {sizes}."
        )
        raise InputError(message)
    return chosen


def _check_unannotated(format: str, value: int | None) -> None:
    if value is None:
        return
    if not 0 <= value <= planes.LARGEST:
        message = f"`unannotated` must lie in 0..{planes.LARGEST}. Received: {value}"
        raise InputError(message)
    if format == "coco" and value:
        message = (
            "COCO marks what is not annotated by `iscrowd`, not by a number. Leave "
            f"`unannotated` out, or give 0 for background. Received: {value}"
        )
        raise InputError(message)


def _in_order(names: Sequence[str]) -> bool:
    """Return whether files of these names are found, and in this order."""
    reserved = r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?|"  # of Windows, or empty
    if any(len(name) > 200 or re.fullmatch(reserved, name) for name in names):
        return False
    # Not a second rule of the same order: whoever reads the files is asked.
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            (Path(folder) / f"{name}.png").touch()
        found = images.find(folder, masks=True) if names else []
    lower = {name.casefold() for name in names}
    return [file.stem for file in found] == list(names) and len(lower) == len(names)
