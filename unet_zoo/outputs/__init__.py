"""What people get of a segmentation: the result itself, and the files of it.

The names below are found when they are first used, so that the command line can say
which files there are without numpy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from unet_zoo.outputs.films import link, write_ctc
    from unet_zoo.outputs.outlines import polygons
    from unet_zoo.outputs.overlays import COLOURS, overlay, write_overlay
    from unet_zoo.outputs.result import Result
    from unet_zoo.outputs.tables import table, write_parquet, write_table
    from unet_zoo.outputs.writers import WRITERS, Writer, write

__all__ = [
    "COLOURS",
    "WRITERS",
    "Result",
    "Writer",
    "link",
    "overlay",
    "polygons",
    "table",
    "write",
    "write_ctc",
    "write_overlay",
    "write_parquet",
    "write_table",
]

_HOMES = {
    "COLOURS": "overlays",
    "WRITERS": "writers",
    "Result": "result",
    "Writer": "writers",
    "link": "films",
    "overlay": "overlays",
    "polygons": "outlines",
    "table": "tables",
    "write": "writers",
    "write_ctc": "films",
    "write_overlay": "overlays",
    "write_parquet": "tables",
    "write_table": "tables",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module 'unet_zoo.outputs' has no attribute {name!r}"
        raise AttributeError(message)
    home = importlib.import_module(f"unet_zoo.outputs.{_HOMES[name]}")
    value = globals()[name] = getattr(home, name)
    return value
