"""The builder of membrane on a small made-up stack."""

from __future__ import annotations

import pathlib
import tempfile
import zipfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tifffile

from unet_zoo.datasets.membrane import membrane_dataset_builder


def write_stacks(folder: pathlib.Path, sections: int = 30) -> None:
    """Write the two stacks; section n has n white columns."""
    rng = np.random.default_rng(0)
    shape = (sections, 16, 40)
    labels = np.where(np.arange(40) < np.arange(sections)[:, None, None], 255, 0)
    tifffile.imwrite(folder / "train-volume.tif", rng.integers(0, 255, shape, "uint8"))
    tifffile.imwrite(
        folder / "train-labels.tif", np.broadcast_to(labels, shape).astype("uint8")
    )


def prepared(folder: pathlib.Path) -> tfds.core.DatasetBuilder:
    """Return the builder, prepared from what lies in `folder`."""
    builder = membrane_dataset_builder.Builder(data_dir=folder / "data")
    config = tfds.download.DownloadConfig(manual_dir=folder)
    builder.download_and_prepare(download_config=config)
    return builder


class MembraneTest(tfds.testing.DatasetBuilderTestCase):
    """Read from the two files."""

    DATASET_CLASS = membrane_dataset_builder.Builder
    SPLITS = {"train": 24, "test": 6}  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.EXAMPLE_DIR = temporary.name
        write_stacks(pathlib.Path(temporary.name))
        super().setUpClass()


def test_sections_keep_order_and_white_is_inside(tmp_path):
    write_stacks(tmp_path)
    with zipfile.ZipFile(tmp_path / "ISBI-2012-challenge.zip", "w") as archive:
        for name in ("train-volume.tif", "train-labels.tif"):
            archive.write(tmp_path / name, f"ISBI-2012-challenge/{name}")
            (tmp_path / name).unlink()
    records = list(tfds.as_numpy(prepared(tmp_path).as_dataset(split="test")))
    assert [record["slice"] for record in records] == [*range(24, 30)]
    assert [record["labels"][0].sum() for record in records] == [*range(24, 30)]


def test_refuses_a_stack_of_another_length(tmp_path):
    write_stacks(tmp_path, sections=29)
    with pytest.raises(ValueError, match="two stacks of 30 sections"):
        prepared(tmp_path)


def test_says_where_to_get_the_stacks(tmp_path):
    with pytest.raises(ValueError, match=r"downloads\.imagej\.net.*manual_dir"):
        prepared(tmp_path)


if __name__ == "__main__":
    tfds.testing.test_main()
