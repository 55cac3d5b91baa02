"""Encoded examples, each made once and kept in memory, or on disk where they are many.

On disk each example is one file, mapped for as long as it takes to read a window: the
pages of that window are read and given back, so the memory in use does not grow with
the data.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from unet_zoo import _version, catalog, files, images
from unet_zoo.errors import InputError
from unet_zoo.memory import as_bytes, default_memory
from unet_zoo.pipeline.packing import Packed, pack
from unet_zoo.recipe import Recipe
from unet_zoo.targets import Target

_OBJECT_SIZE = 80.0  # diameter in pixels that a network of depth 4 still sees whole
_FORMAT = 1  # of the files; another number where they change


def choose_scale(labels: Iterable[np.ndarray]) -> float:
    """Return the power of one half that brings the median object below 80 pixels.

    A U-Net of depth 4 sees about 140 pixels; objects larger than that are neither
    recognised nor separated at their full size, and smaller images train faster.

    Args:
        labels: int (Y, X) arrays with one id per object, read one after the other.

    >>> choose_scale([np.ones((200, 200), int)])
    0.25
    """
    areas: list[int] = []
    for frame in labels:
        areas.extend(np.bincount(frame[frame > 0])[1:])
    present = [area for area in areas if area]
    if not present:
        return 1.0
    diameter = 2 * np.sqrt(np.median(present) / np.pi)
    return float(0.5 ** max(0, int(np.ceil(np.log2(diameter / _OBJECT_SIZE)))))


def with_scale(
    recipe: Recipe, kind: str, examples: Iterable[catalog.Example]
) -> Recipe:
    """Return the recipe with a scale: its own, or the one that suits the objects.

    Args:
        recipe: its `scale` may be None.
        kind: of the dataset. Where labels are classes, nothing has a size: 1.
        examples: read only where there is a choice.
    """
    if recipe.scale is not None:
        return recipe
    if kind != "instances":
        return recipe.replace(scale=1.0)
    return recipe.replace(scale=choose_scale(each.labels for each in examples))


def prepare(
    examples: Iterable[catalog.Example],
    recipe: Recipe,
    target: Target,
    *,
    memory: int | str | None = None,
    folder: str | os.PathLike[str] | None = None,
    beside: str | os.PathLike[str] | None = None,
) -> Stacks:
    """Encode every example once and keep it, in memory where all of them fit.

    Args:
        examples: with `name`, `image` (Y, X, C) and `labels` int32 (Y, X); read one
            after the other, none of them kept.
        recipe: its `normalization` and `scale` are applied, the target last, so that
            distances and weight maps are those of the scaled labels.
        target: encodes the labels.
        memory: bytes that the encoded examples may take, or a text such as "2GB";
            None: half of the free memory. Where they take more, they go to disk.
        folder: where on disk. What is in it already, made from the same image and
            labels by the same recipe, is not made again; it stays when the training
            ends. None: a temporary folder, removed by `close`.
        beside: the temporary folder is made beside this path.

    Returns:
        A sequence of float32 (Y, X, C + K) arrays: image, then encoded target. Close
        it, or use it in a `with` statement.

    Raises:
        InputError: when channels differ, or the disk is full or cannot be written.
    """
    made = Stacks(memory=memory, folder=folder, beside=beside)
    made.by_class = target.name == "semantic" and target.channels > 2
    scale = recipe.scale or 1.0
    how = [_FORMAT, _version.__version__, recipe.normalization, scale]
    how += [target.name, target.arguments]

    def encode(example: catalog.Example) -> np.ndarray:
        image = images.normalize(example.image, recipe.normalization)
        labels = example.labels
        if scale != 1.0:
            image = images.rescale(image, scale)
            labels = images.rescale_labels(labels, shape=image.shape[:2])
        stack = np.concatenate([image, target.encode(labels)], axis=-1)
        return pack(stack, labels)

    try:
        for example in examples:
            channels = example.image.shape[-1]
            if len(made) and channels != made.image_channels:
                counts = sorted((channels, made.image_channels))
                message = (
                    "Images of one training must have the same channels. Received: "
                    f"{counts}; the first that differs is {example.name!r}."
                )
                raise InputError(message)
            made.image_channels = channels
            key = _key(example, how) if folder is not None else ""
            if not made.take(key):
                made.add(encode(example), key)
    except BaseException:
        made.close()
        raise
    return made


def _key(example: catalog.Example, how: Sequence[Any]) -> str:
    """Return a text that is another for another image, label or way of encoding."""
    digest = hashlib.blake2b(json.dumps(how).encode(), digest_size=16)
    for array in (example.image, example.labels):
        digest.update(f"{array.dtype.str} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Stacks(Sequence[np.ndarray]):
    """The encoded examples of a training; see `prepare`.

    Attributes:
        image_channels: how many of the channels are the image.
        by_class: labels are classes, not objects.
        shapes: (rows, columns) of every example.
        nbytes: what all of them take, packed.

    >>> with Stacks.of([np.zeros((4, 3, 2), "float32")]) as stacks:
    ...     stacks[0].shape, stacks.window(0, -1, -1, 6).shape
    ((4, 3, 2), (6, 6, 2))
    """

    def __init__(
        self,
        *,
        memory: int | str | None = None,
        folder: str | os.PathLike[str] | None = None,
        beside: str | os.PathLike[str] | None = None,
    ) -> None:
        self.image_channels = 0
        self.by_class = False
        self.shapes: list[tuple[int, int]] = []
        self.nbytes = 0
        self._memory = default_memory() if memory is None else as_bytes(memory)
        self._beside = Path(beside) if beside is not None else None
        # Packed examples in memory, or the files that hold them.
        self._kept: list[np.ndarray | Path] = []
        self._ids: list[np.ndarray] = []
        self._found: dict[int, tuple[np.ndarray, np.ndarray]] | None = None
        self._counts: np.ndarray | None = None
        self._written: list[Path] = []
        self._folder: Path | None = None
        self._remove: Any = None
        self._named = folder is not None
        if folder is not None:
            files.check_folder(folder)
            self._folder = Path(folder)

    @classmethod
    def of(cls, arrays: Iterable[np.ndarray]) -> Stacks:
        """Return stacks in memory, of arrays (Y, X, channels) as they are."""
        made = cls(memory=2**62)
        for array in arrays:
            made.add(pack(array))
        return made

    def __len__(self) -> int:
        return len(self._kept)

    def __getitem__(self, number: Any) -> Any:
        if isinstance(number, slice):
            return [self[each] for each in range(len(self))[number]]
        return self.packed(number).window(slice(None), slice(None))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def channels(self) -> int:
        """Return how many channels every example has, image and target together."""
        return self.packed(0).shape[2]

    @property
    def on_disk(self) -> bool:
        """Return whether the examples are in files, not in memory."""
        return self._folder is not None

    def packed(self, number: int) -> Packed:
        """Return an example as it is kept; of one on disk nothing is read yet."""
        kept = self._kept[number]
        if isinstance(kept, Path):
            # Mapped anew each time: a mapping that stays keeps all it ever read.
            kept = np.asarray(np.load(kept, mmap_mode="r"))
        return Packed(kept)

    def window(
        self, number: int, y: int, x: int, side: int, mirrored: bool = True
    ) -> np.ndarray:
        """Return float32 (side, side, channels) from row `y` and column `x` on.

        Beyond its edges the example is mirrored, the edge itself not repeated, as
        `augment` mirrors; with `mirrored` false it is 0, its weight as well.
        """
        if not mirrored:
            return self._filled(number, y, x, side)
        rows, columns = (
            _mirrored(start, side, size)
            for start, size in zip((y, x), self.shapes[number], strict=True)
        )
        return self.packed(number).window(rows, columns)

    def _filled(self, number: int, y: int, x: int, side: int) -> np.ndarray:
        packed = self.packed(number)
        out = np.zeros((side, side, packed.shape[2]), np.float32)
        (top, low), (left, right) = (
            (max(0, start), max(0, min(size, start + side)))
            for start, size in zip((y, x), packed.shape[:2], strict=True)
        )
        inside = packed.window(slice(top, low), slice(left, right))
        out[top - y : low - y, left - x : right - x] = inside
        return out

    def object_at(self, *draws: float) -> tuple[int, int, int] | None:
        """Return (example, y, x): a pixel of a random object, None if there is none.

        All objects of all examples are equally likely. Where labels are classes, all
        classes but the background are, and then all examples that have the class.

        Args:
            draws: three numbers in [0, 1): which object, which of its pixels.
        """
        if self._found is None:
            self._found = self._groups()
        if not self._found:
            return None
        first, second, third = draws
        if self.by_class:
            classes = list(self._found)
            numbers, groups = self._found[classes[int(first * len(classes))]]
            which = int(second * len(numbers))
        else:
            numbers, groups = self._found[0]
            # float32 has 2**23 steps; the second draw makes them finer.
            which = int((first + second * 2.0**-23) * len(numbers))
        number = int(numbers[which])
        points = self.packed(number).points[int(groups[which])]
        flat = int(points[int(third * len(points))])
        return (number, *divmod(flat, self.shapes[number][1]))

    def class_counts(self) -> np.ndarray:
        """Return how many annotated pixels each class has, int64 (classes,).

        The first channel after the image must be the class, the last one the weight.
        """
        if self._counts is None:
            counts: list[np.ndarray] = []
            for number in range(len(self)):
                packed = self.packed(number)
                classes = packed.channel(self.image_channels).astype(np.intp)
                annotated = packed.channel(packed.shape[2] - 1) > 0
                counts.append(np.bincount(classes[annotated]))
            self._counts = np.zeros(max(map(len, counts)), np.int64)
            for each in counts:
                self._counts[: len(each)] += each
        return self._counts

    def _groups(self) -> dict[int, tuple[np.ndarray, np.ndarray]]:
        """Return {class or 0: (number of the example, place in it)}, of all groups."""
        counts = [len(ids) for ids in self._ids]
        if not sum(counts):
            return {}
        numbers = np.repeat(np.arange(len(counts)), counts)
        places = np.concatenate([np.arange(count) for count in counts])
        if not self.by_class:
            return {0: (numbers, places)}
        ids = np.concatenate(self._ids)
        return {
            int(each): (numbers[ids == each], places[ids == each])
            for each in np.unique(ids)
        }

    def add(self, data: np.ndarray, key: str = "") -> None:
        """Keep a packed example, and move to disk once memory is used up."""
        self._note(data)
        self._kept.append(data)
        if self._folder is None and self.nbytes <= self._memory:
            return
        first = len(self) - 1
        if self._folder is None:
            self._folder, first = self._temporary(), 0
        for number in range(first, len(self)):
            kept = self._kept[number]
            if not isinstance(kept, Path):
                self._kept[number] = self._write(kept, key or f"{number:06d}")

    def take(self, key: str) -> bool:
        """Take an example that a named folder already holds; say whether it did."""
        path = self._folder / f"{key}.npy" if self._folder and key else None
        if path is None or not path.exists():
            return False
        try:
            self._note(np.asarray(np.load(path, mmap_mode="r")))
        except (EOFError, OSError, ValueError):  # cut short, or not ours: made again
            return False
        self._kept.append(path)
        return True

    def close(self) -> None:
        """Forget the examples, and remove the files that nobody asked for."""
        self._kept.clear()
        if self._remove is not None:
            self._remove()

    def _note(self, data: np.ndarray) -> None:
        packed = Packed(data)
        self.shapes.append(packed.shape[:2])
        self._ids.append(np.array(packed.ids))
        self.nbytes += data.nbytes
        self._found = self._counts = None

    def _temporary(self) -> Path:
        home = self._beside.absolute() if self._beside else Path(tempfile.gettempdir())
        parent = home.parent if self._beside else home
        while not parent.is_dir():
            parent = parent.parent
        try:
            made = tempfile.mkdtemp(prefix=f".{home.name}-cache-", dir=parent)
        except OSError as error:
            raise self._refused(error, parent) from error
        # Also where nobody calls `close`, at the end of the process at the latest.
        self._remove = weakref.finalize(self, shutil.rmtree, made, ignore_errors=True)
        return Path(made)

    def _write(self, data: np.ndarray, name: str) -> Path:
        assert self._folder is not None
        path = self._folder / f"{name}.npy"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with files.replacing(path) as part:
                np.save(part, data, allow_pickle=False)
        except OSError as error:
            raise self._refused(error, self._folder) from error
        self._written.append(path)
        return path

    def _refused(self, error: OSError, folder: Path) -> InputError:
        # What this training wrote would be all that fills the disk.
        for path in self._written:
            path.unlink(missing_ok=True)
        way_out = (
            "Give another folder as `cache_folder`, or more `cache_memory` (now "
            f"{self._memory / 1e6:,.0f} MB) where the machine has it."
        )
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            done = f"{len(self._kept)} training images take {self.nbytes / 1e6:,.0f} MB"
            message = f"The disk of {folder} is full: the first {done}. {way_out}"
        else:
            message = f"Cannot write encoded images to {folder}: {error}. {way_out}"
        return InputError(message)


def _mirrored(start: int, length: int, size: int) -> slice | np.ndarray:
    """Return which of `size` places lie at start, start + 1, ..., mirrored outside."""
    if start >= 0 and start + length <= size:
        return slice(start, start + length)
    last = max(1, size - 1)
    folded = np.arange(start, start + length) % (2 * last)
    return np.minimum(last - np.abs(folded - last), size - 1)
