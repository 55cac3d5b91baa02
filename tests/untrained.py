"""A network that was never trained and few small blobs, for what is published."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import pytest

from unet_zoo import catalog, registry, segmenter
from unet_zoo.recipe import Recipe


def prepare_blobs(folder: Path, *names: str) -> None:
    """Prepare these configurations of blobs in a folder, but few and small."""
    from unet_zoo.datasets.blobs.blobs_dataset_builder import Builder

    for config in Builder.BUILDER_CONFIGS:
        if config.name in names:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(config, "size", (48, 64))
                patch.setattr(config, "number", (4, 3))
                catalog.open_dataset("blobs", config=config.name, data_dir=folder)


def save(folder: Path, **facts: Any) -> None:
    """Write weights.h5 as if a training on easy blobs had."""
    arguments = {"filters": 2, "depth": 2, "padding": "same"}
    about = {"name": "blobs", "version": "1.0.0", "config": "easy"}
    told = segmenter.describe(
        "unet",
        arguments,
        channels=1,
        recipe=Recipe().to_dict(),
        dataset={**about, "train": 3, "validation": 1},
        **facts,
    )
    keras.utils.set_random_seed(0)
    network = registry.build("unet", classes=3, **arguments)
    network.get_layer("logits").bias.assign([0.5, 1.0, -1.0])
    segmenter.Segmenter(network, told).save(folder / "weights.h5")
