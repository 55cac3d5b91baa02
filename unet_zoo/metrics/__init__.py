"""How well predicted labels agree with reference labels.

Every metric takes two sequences of frames, integer arrays (Y, X): the references (0
background, one positive id per object, -1 not annotated) and the predictions (0
background, one positive id per object). Ids need not correspond. A frame's objects
are its own: the same id in another frame is another object.

Pixels of -1 in a reference count for nothing: they are taken out of both arrays
before anything is measured. A predicted object with more than half of its pixels
there is never counted as false, since nobody knows whether it is.

All frames are pooled before the division, so a frame with many objects weighs more
than one with few. Without any reference object a value is nan, and `objects` 0.
"""

from __future__ import annotations

from unet_zoo.metrics._frames import Score
from unet_zoo.metrics.intervals import bootstrap
from unet_zoo.metrics.objects import (
    THRESHOLDS,
    ObjectErrors,
    average_precision,
    det,
    object_errors,
    per_object,
    seg,
)
from unet_zoo.metrics.partitions import v_info, v_rand, v_rand_parts
from unet_zoo.metrics.pixels import dice, iou, pixel_accuracy

__all__ = [
    "THRESHOLDS",
    "ObjectErrors",
    "Score",
    "average_precision",
    "bootstrap",
    "det",
    "dice",
    "iou",
    "object_errors",
    "per_object",
    "pixel_accuracy",
    "seg",
    "v_info",
    "v_rand",
    "v_rand_parts",
]
