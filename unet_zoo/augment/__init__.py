"""Augmentation on the accelerator: one field per example, one reading for everything.

All geometric changes of an example (rotation, flips, magnification, shear, shift and
the elastic deformation of Ronneberger et al. 2015) are composed into one field of
source places. Image, target and weights are read through that field together, so they
cannot disagree.

The few numbers that an example needs are a function of a seed and the example's place
in the stream (see `draws`), so that the same example looks the same on every backend,
in any batch, on any device. `Augmenter` draws them by itself; in a training they come
with the batch.
"""

from __future__ import annotations

from unet_zoo.augment._augmenter import Augmenter
from unet_zoo.augment._clahe import equalize
from unet_zoo.augment._draws import UNIFORM, draw_size, draws, hashed_normal
from unet_zoo.augment._field import cubic_upsampling, places
from unet_zoo.augment._grey import blur
from unet_zoo.augment._stack import Augment
from unet_zoo.augment._warp import Places, at, warp

__all__ = [
    "UNIFORM",
    "Augment",
    "Augmenter",
    "Places",
    "at",
    "blur",
    "cubic_upsampling",
    "draw_size",
    "draws",
    "equalize",
    "hashed_normal",
    "places",
    "warp",
]
