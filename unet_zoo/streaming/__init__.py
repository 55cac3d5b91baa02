"""Images that do not fit into memory: read, predicted, decoded and written in pieces.

`statistics` looks at the whole image before anything else; `strips` feeds a network a
few rows at a time, and where that is not possible `predictors` cuts tiles; `joining`
makes the objects of all blocks those of the image; `labels` writes them, `looks` draws
them.
"""

from __future__ import annotations

from unet_zoo.streaming.running import Summary, stream
from unet_zoo.streaming.sources import Source

__all__ = ["Source", "Summary", "stream"]
