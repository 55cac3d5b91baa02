"""One kind of example, whatever the dataset it comes from."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from unet_zoo.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with what is known about it.

    `image` is (Y, X, C) with the dtype of its file; `labels`, `reference` and `markers`
    are int32 (Y, X): 0 background, 1..N objects, -1 not annotated. `labels` are for
    training. `reference` is what to measure against, None where there is nothing good
    enough. `markers` touch every object, outlined or not, or are None.
    `challenge`: SEG is to be that of the Cell Tracking Challenge, whose program knows
    no -1 and takes it for background.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    reference: np.ndarray | None = None
    markers: np.ndarray | None = None
    challenge: bool = False


class Lazy(Sequence[Example]):
    """Examples that are read each time they are asked for, and kept by nobody.

    Going through them one after the other reads each once. An index reads those before
    it as well; a slice gives a list.

    Args:
        count: how many there are.
        read: starts at the first example each time it is called.

    >>> made = Lazy(9, lambda: (Example(str(n), None, None) for n in range(9)))
    >>> made[-1].name, [each.name for each in made[2:4]]
    ('8', ['2', '3'])
    """

    def __init__(self, count: int, read: Callable[[], Iterable[Example]]) -> None:
        self._count, self._read = count, read

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Example]:
        return iter(self._read())

    def __getitem__(self, number: Any) -> Any:
        chosen = range(self._count)[number]
        if isinstance(chosen, int):
            return next(itertools.islice(self._read(), chosen, None))
        end = max(chosen, default=-1) + 1
        read = dict(enumerate(itertools.islice(self._read(), end)))
        return [read[each] for each in chosen]


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """What `open_dataset` returns.

    `kind` is "instances" (labels are ids of objects) or "semantic" (classes); `note`
    says in a sentence what was understood; `size_of` counts the examples of each split;
    `pixel_size` is (y, x) in micrometres, of all images, None where that is not known.
    `readers` has one function for each split that can be asked for; it gives a list, or
    `Lazy` examples where they may be larger than the memory.
    """

    name: str
    version: str
    config: str | None
    kind: str
    note: str
    size_of: dict[str, int]
    readers: Mapping[str, Callable[[], Sequence[Example]]] = dataclasses.field(
        repr=False
    )
    pixel_size: tuple[float, float] | None = None

    def examples(self, split: str) -> list[Example]:
        """Return the examples of a split: "train", "validation", "test".

        "validation" is the last block of the training examples and is not in "train".
        A folder also has "all", and "test" only if it has a subfolder `test/`.

        >>> one = Example("a", np.zeros((2, 2, 1)), np.zeros((2, 2), "int32"))
        >>> readers = {"train": lambda: [one]}
        >>> Dataset("d", "1", None, "semantic", "", {}, readers).examples("test")
        Traceback (most recent call last):
            ...
        unet_zoo.errors.InputError: The dataset 'd' has no split 'test'; it has 'train'.
        """
        return list(self.sequence(split))

    def sequence(self, split: str) -> Sequence[Example]:
        """Return the examples of a split, each read when it is asked for.

        What `examples` gives, without holding all of it in memory, where the dataset
        can read so.
        """
        if split in self.readers:
            return self.readers[split]()
        message = f"The dataset {self.name!r} has no split {split!r}; it has "
        message += ", ".join(map(repr, self.readers)) + "."
        if split == "test" and "all" in self.readers:
            message += (
                " Put pairs for testing into its subfolder test/, laid out like the"
                " others, or use the split 'all' to measure on every pair."
            )
        raise InputError(message)


def hashed(examples: Iterable[Example], digest: hashlib._Hash) -> Iterator[Example]:
    """Yield the examples, having added each one's image and labels to `digest`.

    >>> digest = hashlib.sha256()
    >>> one = Example("a", np.zeros((2, 2, 1), "uint8"), np.zeros((2, 2), "int32"))
    >>> [each.name for each in hashed([one], digest)], digest.hexdigest()[:8]
    (['a'], '88fc9a72')
    """
    for example in examples:
        for array in (example.image, example.labels):
            digest.update(f"{array.dtype.str} {array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        yield example


def held_back(count: int, validation: float) -> int:
    """Return how many of `count` training examples validate.

    >>> [held_back(count, 0.12) for count in (1, 2, 84)], held_back(84, 0)
    ([0, 1, 10], 0)
    """
    if count < 2 or not validation:
        return 0
    return min(count - 1, max(1, round(count * validation)))
