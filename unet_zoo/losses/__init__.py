"""Losses in `keras.ops`: one number per example, pixels without annotation left out.

Every loss takes a map of weights that is 0 where nothing is annotated: such pixels
change neither its value nor its gradient, whatever they hold. Losses that are a mean
divide by the number of annotated pixels, so that a weight map changes the weight of
pixels against each other without changing the size of the step; in losses of regions
the weight of a pixel is how often it counts.

A recipe names a loss (`loss`, `loss_arguments`), and `Loss` applies it to what a
target teaches: to classes, or to a mask.
"""

from __future__ import annotations

from unet_zoo.losses.choice import CROSS_ENTROPY, Loss
from unet_zoo.losses.pixels import (
    annotated_mean,
    binary_cross_entropy,
    binary_focal,
    cross_entropy,
    focal,
)
from unet_zoo.losses.regions import (
    dice,
    focal_tversky,
    lovasz_hinge,
    lovasz_softmax,
    tversky,
)
from unet_zoo.losses.shapes import boundary, cldice, signed_distance, skeleton

__all__ = [
    "CROSS_ENTROPY",
    "Loss",
    "annotated_mean",
    "binary_cross_entropy",
    "binary_focal",
    "boundary",
    "cldice",
    "cross_entropy",
    "dice",
    "focal",
    "focal_tversky",
    "lovasz_hinge",
    "lovasz_softmax",
    "signed_distance",
    "skeleton",
    "tversky",
]
