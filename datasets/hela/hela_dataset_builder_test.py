"""The builder of hela on small made-up sequences, and its rules on made-up frames."""

from __future__ import annotations

import pathlib
import tempfile

import numpy as np
import pytest
import tensorflow_datasets as tfds
import tifffile

from unet_zoo.datasets.hela import hela_dataset_builder, truth


def write_sequence(folder: pathlib.Path, sequence: str, frames: int = 3) -> None:
    """Write frames with three cells each; gold has two of them, in frame 1 only.

    Like the real files these are compressed by LZW.
    """
    rng = np.random.default_rng(int(sequence))
    for number in range(frames):
        cells = np.zeros((40, 48), "uint16")
        for cell, column in enumerate((2, 18, 34), start=1):
            cells[5 + number : 15 + number, column : column + 10] = cell
        markers = np.where(np.roll(cells, 2, 0) == cells, cells, 0)
        images = {
            f"{sequence}/t{number:03d}.tif": rng.integers(0, 255, cells.shape, "uint8"),
            f"{sequence}_GT/TRA/man_track{number:03d}.tif": markers,
            f"{sequence}_ST/SEG/man_seg{number:03d}.tif": cells,
        }
        if number == 1:
            images[f"{sequence}_GT/SEG/man_seg001.tif"] = np.where(cells == 3, 0, cells)
        for name, image in images.items():
            file = folder / "DIC-C2DH-HeLa" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(file, image, compression="lzw")


class HelaTest(tfds.testing.DatasetBuilderTestCase):
    """Both configurations, read from an unpacked folder."""

    DATASET_CLASS = hela_dataset_builder.Builder
    SPLITS = {"train": 3, "test": 3}  # noqa: RUF012

    @classmethod
    def setUpClass(cls):
        temporary = tempfile.TemporaryDirectory()
        cls.addClassCleanup(temporary.cleanup)
        cls.EXAMPLE_DIR = temporary.name
        for sequence in ("01", "02"):
            write_sequence(pathlib.Path(temporary.name), sequence)
        super().setUpClass()


def test_uncovered_counts_half_as_covered():
    markers = np.array([[1, 1, 2, 2, 3, 3]])
    objects = np.array([[5, 0, 0, 0, 6, 7]])
    # Half of 1 is covered, nothing of 2, all of 3 although by two objects.
    np.testing.assert_array_equal(truth.uncovered(markers, objects), [2])


def test_unannotated_reaches_as_far_as_said_and_spares_objects():
    markers = np.zeros((41, 41), int)
    markers[20, 20], markers[3, 3] = 1, 2
    objects = np.zeros_like(markers)
    objects[18:23, 24:30] = 9
    objects[2:5, 2:5] = 4
    result = truth.unannotated(objects, markers, 6.0)
    np.testing.assert_array_equal(result[objects > 0], objects[objects > 0])
    rows, columns = np.nonzero(result == -1)
    distance = np.hypot(rows - 20, columns - 20)
    assert distance.max() <= 6
    # Every background pixel within reach is unknown: as many as the disc has, less
    # those of the object.
    disc = np.hypot(*(np.indices(markers.shape) - 20)) <= 6
    assert rows.size == np.count_nonzero(disc & (objects == 0))


def test_unannotated_leaves_a_complete_frame_alone():
    markers = np.array([[0, 1, 0]])
    np.testing.assert_array_equal(
        truth.unannotated(np.array([[0, 3, 0]]), markers, 50.0), [[0, 3, 0]]
    )


def test_gold_is_unknown_over_the_silver_cell_it_lacks():
    markers = np.zeros((5, 60), int)
    markers[2, 2], markers[2, 40] = 1, 2
    gold, silver = np.zeros_like(markers), np.zeros_like(markers)
    gold[1:4, 1:4] = 8
    silver[1:4, 30:55] = 2
    known = truth.frame(silver, gold, markers, 2.0)
    assert (known.gold[silver == 2] == -1).all()
    assert (known.gold[gold == 8] == 8).all()
    # Silver lacks the cell that gold has; the labels to learn from lack neither.
    assert (known.silver[2, 1:4] == -1).all()
    assert (known.labels >= 0).all()
    assert len(np.unique(known.labels[known.labels > 0])) == 2


def test_complete_gold_needs_nothing_of_silver():
    markers = np.array([[1, 0, 0, 2]])
    gold, silver = np.array([[7, 7, 0, 9]]), np.array([[1, 0, 2, 2]])
    known = truth.frame(silver, gold, markers, 9.0)
    assert known.complete
    np.testing.assert_array_equal(known.labels, gold)


def test_merge_replaces_the_same_cell_and_keeps_the_neighbour():
    silver = np.array([[1, 1, 1, 1, 2, 2, 2, 2, 2]])
    gold = np.array([[0, 5, 5, 5, 5, 0, 0, 0, 0]])
    merged = truth.merge(silver, gold)
    # Cell 1 is mostly gold: what gold leaves of it is background. Of 2 it took a pixel.
    np.testing.assert_array_equal(merged, [[0, 3, 3, 3, 3, 2, 2, 2, 2]])


def test_refuses_a_sequence_without_markers(tmp_path):
    write_sequence(tmp_path, "01")
    write_sequence(tmp_path, "02")
    (tmp_path / "DIC-C2DH-HeLa/02_GT/TRA/man_track002.tif").unlink()
    builder = hela_dataset_builder.Builder(data_dir=tmp_path / "data")
    config = tfds.download.DownloadConfig(manual_dir=tmp_path)
    with pytest.raises(ValueError, match=r"t002\.tif has no annotation in 02_GT/TRA"):
        builder.download_and_prepare(download_config=config)


if __name__ == "__main__":
    tfds.testing.test_main()
