"""What a loss or a target needs to know about the borders between objects.

All functions take labels: an integer array (Y, X), or (Z, Y, X) for a stack, with 0
for background, one positive id per object and -1 where nobody annotated. None of
them changes it. An object may have several parts, and holes with others inside.

The rule for -1 is the same everywhere: such a pixel is neither object nor background.
Its weight is 0 and it does not count for the balance of the classes; it is never a
border and never becomes one; no distance is measured to it as to an object, and it
hides none behind it; an object ends where it begins.

`spacing` is the size of a pixel along each axis, for stacks whose slices lie further
apart than their pixels. Distances, and `sigma`, are then in its unit. What touches is
a matter of neighbouring pixels whatever their size.
"""

from __future__ import annotations

from unet_zoo.weight_maps.contacts import separate, touching_border
from unet_zoo.weight_maps.depth import object_distance
from unet_zoo.weight_maps.weights import border_weights

__all__ = ["border_weights", "object_distance", "separate", "touching_border"]
