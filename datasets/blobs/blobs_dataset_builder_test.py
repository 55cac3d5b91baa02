"""The builder of blobs: its splits, its configurations, what it writes and refuses."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds

from unet_zoo.datasets.blobs import blobs_dataset_builder as blobs
from unet_zoo.datasets.blobs import generate


def small(**values) -> blobs.BlobsConfig:
    return blobs.BlobsConfig(size=(32, 48), number=(4, 2), **values)


class BlobsTest(tfds.testing.DatasetBuilderTestCase):
    """Every difficulty, small."""

    DATASET_CLASS = blobs.Builder
    SPLITS = {"train": 4, "test": 2}  # noqa: RUF012
    BUILDER_CONFIG_NAMES_TO_TEST = [  # noqa: RUF012
        small(difficulty=difficulty) for difficulty in ("mixed", "easy", "hard")
    ]

    @classmethod
    def setUpClass(cls):
        # Nothing is downloaded, but TFDS wants a folder of examples.
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.EXAMPLE_DIR = temporary.name
        super().setUpClass()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    builder = blobs.Builder(
        config=small(seed=7), data_dir=tmp_path_factory.mktemp("data")
    )
    builder.download_and_prepare()
    return {
        split: list(tfds.as_numpy(builder.as_dataset(split=split)))
        for split in ("train", "test")
    }


def test_mixed_takes_turns(mixed):
    found = [generate.DIFFICULTIES[example["difficulty"]] for example in mixed["train"]]
    assert found == ["easy", "medium", "hard", "easy"]


def test_seed_and_difficulty_give_the_example_again(mixed):
    for example in mixed["train"] + mixed["test"]:
        image, labels = generate.generate(
            generate.DIFFICULTIES[example["difficulty"]], (32, 48), example["seed"]
        )
        np.testing.assert_array_equal(example["image"], image)
        np.testing.assert_array_equal(example["labels"][..., 0], labels)


def test_seeds_are_never_shared(mixed):
    seeds = [example["seed"] for split in mixed.values() for example in split]
    # The first of another configuration's seeds come after the last of this one's.
    assert len(set(seeds)) == 6
    assert min(seeds) >= 7 * 2**32
    assert max(seeds) < 8 * 2**32


def test_named_configs_are_those_of_the_readme():
    sizes = {
        config.name: (config.difficulty, config.size, config.number)
        for config in blobs.Builder.BUILDER_CONFIGS
    }
    assert sizes == {
        name: (name, (256, 256), (300, 90))
        for name in ("mixed", "easy", "medium", "hard")
    } | {
        "large": ("mixed", (256, 256), (3000, 90)),
        "huge": ("mixed", (256, 256), (9000, 90)),
        "hard-large": ("hard", (256, 256), (6000, 90)),
    }
    assert blobs.Builder.DEFAULT_BUILDER_CONFIG_NAME == "mixed"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"difficulty": "hrad"}, "Unknown difficulty 'hrad'. Did you mean 'hard'"),
        ({"size": (8, 64)}, r"at least 16.*Received: size=\(8, 64\)"),
        ({"number": (0, 5)}, r"`number` must be.*Received: number=\(0, 5\)"),
        ({"number": (5,)}, r"`number` must be.*Received: number=\(5,\)"),
        ({"seed": -1}, r"`seed` must be in 0..2\*\*31-1. Received: seed=-1"),
    ],
)
def test_refuses(values, message):
    with pytest.raises(ValueError, match=message):
        blobs.BlobsConfig(**values)


if __name__ == "__main__":
    tfds.testing.test_main()
