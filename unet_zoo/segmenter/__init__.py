"""Segmenters: a network with all it takes to turn an image into labels."""

from __future__ import annotations

from unet_zoo.segmenter.ensembles import Ensemble
from unet_zoo.segmenter.loading import describe, load, versions
from unet_zoo.segmenter.segmenting import OPTIONS, TTA, Segmenter, of_classes

__all__ = [
    "OPTIONS",
    "TTA",
    "Ensemble",
    "Segmenter",
    "describe",
    "load",
    "of_classes",
    "versions",
]
