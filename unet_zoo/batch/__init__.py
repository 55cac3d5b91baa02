"""Many images: segmented while others are read and written, here or elsewhere.

`segment_files` is what `unet-zoo segment` does. A batch that was killed goes on where
it stopped; an image that is broken is reported, and the others are segmented.
"""

from __future__ import annotations

from unet_zoo.batch.jobs import Broken
from unet_zoo.batch.running import Batch, Report, plan, segment_files

__all__ = ["Batch", "Broken", "Report", "plan", "segment_files"]
