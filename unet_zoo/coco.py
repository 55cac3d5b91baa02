"""COCO's format: run lengths of objects, and the annotations around them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np


def run_lengths(labels: np.ndarray) -> dict[int, list[int]]:
    """Return COCO's run lengths of every value in labels (Y, X), 0 left out.

    Pixels are counted down the columns; lengths outside and inside the object take
    turns, the first is outside.

    >>> run_lengths(np.array([[0, 5], [5, 5]]))
    {5: [1, 3]}
    """
    flat = labels.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    stops = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    order = order[values[order] != 0]
    values = values[order]
    if not len(values):
        return {}
    first = np.flatnonzero(np.append(True, values[1:] != values[:-1]))
    bounds = np.stack([starts[order], stops[order]], axis=1).ravel()
    lengths = np.diff(bounds, prepend=0)
    lengths[2 * first] = bounds[2 * first]  # each object counts from the beginning
    ends = np.append(first[1:], len(values)) - 1
    rests = (flat.size - bounds[2 * ends + 1]).tolist()
    every, found = lengths.tolist(), dict[int, list[int]]()
    whole = zip(values[first].tolist(), first.tolist(), ends.tolist(), strict=True)
    for (value, begin, end), rest in zip(whole, rests, strict=True):
        own = every[2 * begin : 2 * end + 2]
        found[value] = [*own, rest] if rest else own
    return found


def compressed(lengths: Sequence[int]) -> str:
    """Return run lengths as the text that COCO's own tools write.

    From the fourth on, the difference to the length before the last is written, in
    groups of five bits, lowest first.

    >>> compressed([3, 40, 1000])
    '3X1Xo0'
    """
    text = []
    for place, length in enumerate(lengths):
        rest = length - lengths[place - 2] if place > 2 else length
        more = True
        while more:
            group, rest = rest & 0x1F, rest >> 5
            # The highest bit of the last group is the sign.
            more = rest != (-1 if group & 0x10 else 0)
            text.append(chr(48 + (group | 0x20 if more else group)))
    return "".join(text)


class Annotations:
    """Collects the annotations of one file, image by image.

    Args:
        classes: labels are numbers of classes, not of objects.

    >>> content = Annotations(classes=False)
    >>> content.add("images/a.png", np.array([[0, 3], [3, 3]]))
    >>> annotation = content.finished()["annotations"][0]
    >>> annotation["bbox"], annotation["area"], annotation["label"]
    ([0, 0, 2, 2], 3, 3)
    """

    def __init__(self, *, classes: bool) -> None:
        self.classes = classes
        self.images: list[dict[str, Any]] = []
        self.annotations: list[dict[str, Any]] = []

    def add(self, file_name: str, labels: np.ndarray) -> None:
        """Add an image and its labels (Y, X), -1 where nothing is annotated."""
        import scipy.ndimage

        height, width = labels.shape
        number = len(self.images) + 1
        self.images.append(
            {"id": number, "file_name": file_name, "height": height, "width": width}
        )
        values, compact = np.unique(labels, return_inverse=True)
        boxes = scipy.ndimage.find_objects(compact.reshape(labels.shape) + 1)
        box_of = dict(zip(values.tolist(), boxes, strict=True))
        found = run_lengths(labels)
        # Objects in order, and last what is not annotated.
        for value in sorted(found, key=lambda value: (value < 0, value)):
            rows, columns = box_of[value]
            y, x = rows.start, columns.start
            lengths = found[value]
            self.annotations.append(
                {
                    "id": len(self.annotations) + 1,
                    "image_id": number,
                    "category_id": value if self.classes and value > 0 else 1,
                    "segmentation": {
                        "size": [height, width],
                        "counts": compressed(lengths),
                    },
                    "area": sum(lengths[1::2]),
                    "bbox": [x, y, columns.stop - x, rows.stop - y],
                    "iscrowd": int(value < 0),
                    "label": value,
                }
            )

    def finished(self) -> dict[str, Any]:
        """Return the content of the file."""
        numbers = [each["category_id"] for each in self.annotations]
        return {
            "images": self.images,
            "annotations": self.annotations,
            "categories": [
                {"id": number, "name": f"class {number}" if self.classes else "object"}
                for number in range(1, max(numbers, default=1) + 1)
            ],
        }
