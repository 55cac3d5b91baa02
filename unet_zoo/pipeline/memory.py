"""Which examples fit into the memory that was given."""

from __future__ import annotations

from collections.abc import Sequence

from unet_zoo import catalog


def hold(
    examples: Sequence[catalog.Example], memory: int
) -> tuple[Sequence[catalog.Example], int]:
    """Return the examples as a list where they fit into `memory` bytes, else as given.

    Args:
        examples: may read their images each time they are asked for.
        memory: bytes that their arrays may take.

    Returns:
        The examples, and the bytes taken: 0 where they are not held.
    """
    held, used = [], 0
    for example in examples:
        arrays = (example.image, example.labels, example.reference, example.markers)
        # The reference often is the labels, the very same array.
        distinct = {id(array): array for array in arrays if array is not None}
        used += sum(array.nbytes for array in distinct.values())
        if used > memory:
            return examples, 0
        held.append(example)
    return held, used
