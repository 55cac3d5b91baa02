"""Results as lists of objects: tables and COCO's annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from unet_zoo import coco, images
from unet_zoo.outputs import tables

if TYPE_CHECKING:
    import pandas

    from unet_zoo.outputs.result import Result


def csv(path: Path, result: Result) -> None:
    """Write the table as CSV, with the columns image and frame in front."""
    tables.write_table(path, _rows(result))


def parquet(path: Path, result: Result) -> None:
    """Write the table as Parquet, with the columns image and frame in front."""
    tables.write_parquet(path, _rows(result))


def coco_json(path: Path, result: Result) -> None:
    """Write COCO's annotations; every frame of a stack is an image of its own.

    `label` of an annotation is the id in the label image. A frame of a stack is named
    NAME[0], NAME[1], ..., as our datasets name them.
    """
    content = coco.Annotations(classes=result.classes)
    for number, frame in enumerate(result.frames):
        page = f"[{number}]" if result.labels.ndim > 2 else ""
        content.add(f"{result.name}{page}", frame.labels)
    text = json.dumps(content.finished(), ensure_ascii=False, separators=(",", ":"))
    with images.replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _rows(result: Result) -> pandas.DataFrame:
    rows = result.table()
    if "frame" not in rows:
        rows.insert(0, "frame", 0)
    rows.insert(0, "image", result.name)
    return rows
