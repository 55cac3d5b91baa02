"""Synthetic blobs as a TFDS dataset: generated, not downloaded."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets.public_api as tfds

from unet_zoo import errors
from unet_zoo.datasets.blobs import generate

# A configuration's seed owns 2**32 image seeds; the upper half is for testing.
_SEEDS = 2**32
_HALF = _SEEDS // 2
_DIFFICULTIES = (*generate.DIFFICULTIES, "mixed")


@dataclasses.dataclass(eq=False)
class BlobsConfig(tfds.core.BuilderConfig):
    """Say which images to generate; `number` is that of (train, test) images.

    The name, by which TFDS finds prepared data again, is made of the other values
    unless it is given.

    >>> BlobsConfig(difficulty="hard", size=(64, 96), number=(20, 5), seed=3).name
    'hard-64x96-20-5-seed3'
    """

    name: str = ""
    difficulty: str = "mixed"
    size: tuple[int, int] = (256, 256)
    number: tuple[int, int] = (300, 90)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.difficulty not in _DIFFICULTIES:
            kind = "difficulty"
            raise errors.unknown(kind, str(self.difficulty), _DIFFICULTIES)
        # Refuse a wrong size here, before hours of another one are prepared.
        generate.generate("easy", self.size, count=0)
        if len(self.number) != 2 or not all(0 < each <= _HALF for each in self.number):
            message = (
                "`number` must be how many images to (train, test), each 1 or more. "
                f"Received: number={self.number!r}"
            )
            raise errors.InputError(message)
        if not 0 <= self.seed < _HALF:
            message = f"`seed` must be in 0..2**31-1. Received: seed={self.seed!r}"
            raise errors.InputError(message)
        if not self.name:
            (height, width), (train, test) = self.size, self.number
            self.name = (
                f"{self.difficulty}-{height}x{width}-{train}-{test}-seed{self.seed}"
            )


class Builder(tfds.core.GeneratorBasedBuilder):
    """Blobs of three difficulties, with a label for every object."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[BlobsConfig]] = [
        BlobsConfig(
            name="mixed",
            difficulty="mixed",
            description="Easy, medium and hard images in turn.",
        ),
        BlobsConfig(
            name="large",
            difficulty="mixed",
            number=(3000, 90),
            description="As mixed, with ten times the images to train on.",
        ),
        BlobsConfig(
            name="huge",
            difficulty="mixed",
            number=(9000, 90),
            description="As mixed, with thirty times the images to train on.",
        ),
        BlobsConfig(
            name="easy",
            difficulty="easy",
            description="Separate discs on an even ground.",
        ),
        BlobsConfig(
            name="medium",
            difficulty="medium",
            description="Touching and overlapping shapes, blur, uneven light, noise.",
        ),
        BlobsConfig(
            name="hard",
            difficulty="hard",
            description="Textured aggregates, relief, cells, and things to overlook.",
        ),
        BlobsConfig(
            name="hard-large",
            difficulty="hard",
            number=(6000, 90),
            description="As hard, with twenty times the images to train on.",
        ),
    ]
    DEFAULT_BUILDER_CONFIG_NAME = "mixed"

    def _info(self) -> tfds.core.DatasetInfo:
        labels = tfds.features.Tensor(
            shape=(None, None, 1), dtype=np.int32, encoding=tfds.features.Encoding.ZLIB
        )
        image = tfds.features.Image(
            shape=(None, None, 1), dtype=np.uint8, encoding_format="png"
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": image,
                    "labels": labels,
                    "difficulty": tfds.features.ClassLabel(names=generate.DIFFICULTIES),
                    "seed": np.int64,
                }
            ),
            supervised_keys=("image", "labels"),
            # In turn: any block of a mixed set has all difficulties in it.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        del dl_manager  # nothing is downloaded
        train, test = self.builder_config.number
        first = self.builder_config.seed * _SEEDS
        return {
            "train": self._generate_examples(first, train),
            "test": self._generate_examples(first + _HALF, test),
        }

    def _generate_examples(
        self, first: int, number: int
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        config = self.builder_config
        for index in range(number):
            difficulty = config.difficulty
            if difficulty == "mixed":
                turn = index % len(generate.DIFFICULTIES)
                difficulty = generate.DIFFICULTIES[turn]
            seed = first + index
            image, labels = generate.generate(difficulty, config.size, seed)
            yield (
                index,
                {
                    "image": image,
                    "labels": labels[..., None],
                    "difficulty": difficulty,
                    "seed": seed,
                },
            )
