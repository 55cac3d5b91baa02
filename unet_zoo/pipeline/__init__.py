"""From examples to batches: normalise and encode once, cache, cut, draw, batch.

`stacks` encodes every example once and keeps it, packed, in memory or on disk; `feed`
cuts windows out of them and draws the random numbers that go with each. What the
numbers do is up to `augment`, on the device.
"""

from __future__ import annotations

from unet_zoo.memory import as_bytes, default_memory
from unet_zoo.pipeline.feed import batches, class_weights, window_size
from unet_zoo.pipeline.memory import hold
from unet_zoo.pipeline.stacks import Stacks, choose_scale, prepare, with_scale

__all__ = [
    "Stacks",
    "as_bytes",
    "batches",
    "choose_scale",
    "class_weights",
    "default_memory",
    "hold",
    "prepare",
    "window_size",
    "with_scale",
]
