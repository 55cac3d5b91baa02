"""One kind of example, whatever the dataset it comes from."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from unet_zoo.errors import InputError


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with what is known about it.

    `image` is (Y, X, C) with the dtype of its file; `labels`, `reference` and `markers`
    are int32 (Y, X): 0 background, 1..N objects, -1 not annotated. `labels` are for
    training. `reference` is what to measure against, None where there is nothing good
    enough. `markers` touch every object, outlined or not, or are None.
    """

    name: str
    image: np.ndarray
    labels: np.ndarray
    reference: np.ndarray | None = None
    markers: np.ndarray | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """What `open_dataset` returns.

    `kind` is "instances" (labels are ids of objects) or "semantic" (classes); `note`
    says in a sentence what was understood; `size_of` counts the examples of each split.
    `readers` has one function for each split that can be asked for.
    """

    name: str
    version: str
    config: str | None
    kind: str
    note: str
    size_of: dict[str, int]
    readers: Mapping[str, Callable[[], list[Example]]] = dataclasses.field(repr=False)

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


def held_back(count: int, validation: float) -> int:
    """Return how many of `count` training examples validate.

    >>> [held_back(count, 0.12) for count in (1, 2, 84)], held_back(84, 0)
    ([0, 1, 10], 0)
    """
    if count < 2 or not validation:
        return 0
    return min(count - 1, max(1, round(count * validation)))
