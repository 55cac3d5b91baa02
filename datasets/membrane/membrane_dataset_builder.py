"""Membranes in electron microscopy: the training stack of the ISBI 2012 challenge."""

from __future__ import annotations

import io
import pathlib
import zipfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets.public_api as tfds
import tifffile

from unet_zoo import errors

_NAME = "ISBI-2012-challenge"
_URL = f"https://downloads.imagej.net/{_NAME}.zip"
_VOLUME, _LABELS = "train-volume.tif", "train-labels.tif"
_SLICES = {"train": range(24), "test": range(24, 30)}


class Builder(tfds.core.GeneratorBasedBuilder):
    """Thirty sections of a fly's nerve cord: 24 to train, the last 6 to test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    # No checksum of the archive is published, so nothing is downloaded unverified.
    PIXEL_SIZE = (0.004, 0.004)  # micrometres
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Get {_URL} and put it, or {_VOLUME} and {_LABELS} out of it, into the manual"
        " directory."
    )

    @classmethod
    def manual_files(cls, folder: pathlib.Path) -> list[pathlib.Path]:
        """Return the files a user placed by hand in `folder`.

        These are the two stacks, in it or in its folder `ISBI-2012-challenge`, or the
        archive.
        """
        for place in (folder, folder / _NAME):
            stacks = [place / _VOLUME, place / _LABELS]
            if all(stack.is_file() for stack in stacks):
                return stacks
        archive = folder / f"{_NAME}.zip"
        return [archive] if archive.is_file() else []

    def _info(self) -> tfds.core.DatasetInfo:
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 1), dtype=np.uint8),
                    "labels": tfds.features.Tensor(
                        shape=(None, None, 1),
                        dtype=np.int32,
                        encoding=tfds.features.Encoding.ZLIB,
                    ),
                    "name": tfds.features.Text(),
                    "slice": np.int32,
                }
            ),
            supervised_keys=("image", "labels"),
            homepage="https://imagej.net/events/isbi-2012-segmentation-challenge",
            metadata=tfds.core.MetadataDict(),
            # Sections stay in order, so that a block of neighbours can be held back.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        try:
            # TFDS raises where the directory is missing or empty.
            placed = self.manual_files(pathlib.Path(dl_manager.manual_dir))
        except AssertionError:
            placed = []
        if not placed:
            message = (
                f"The membrane stacks are not there, and not downloaded either, since"
                f" no checksum is known for them. Get {_URL}, put it, or {_VOLUME} and"
                f" {_LABELS} out of it, into a folder of your choice and give that"
                " folder as manual_dir (--manual-dir)."
            )
            raise errors.InputError(message)
        names = " and ".join(file.name for file in placed)
        self.info.metadata["source"] = f"{names} placed by hand"
        volume, labels = _read(placed, _VOLUME), _read(placed, _LABELS)
        if volume.shape != labels.shape or len(volume) != 30:
            message = (
                f"{placed[0].parent}: expected two stacks of 30 sections of one size;"
                f" {_VOLUME} is {volume.shape}, {_LABELS} is {labels.shape}."
            )
            raise errors.InputError(message)
        return {
            "train": self._generate_examples(volume, labels, _SLICES["train"]),
            "test": self._generate_examples(volume, labels, _SLICES["test"]),
        }

    def _generate_examples(
        self, volume: np.ndarray, labels: np.ndarray, slices: range
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        for number in slices:
            yield (
                number,
                {
                    "image": volume[number, ..., None],
                    # White is the inside of a neuron, black its membrane.
                    "labels": (labels[number, ..., None] > 127).astype("int32"),
                    "name": f"slice{number:02d}",
                    "slice": number,
                },
            )


def _read(placed: list[pathlib.Path], name: str) -> np.ndarray:
    file = next((file for file in placed if file.name == name), placed[0])
    try:
        content = file.read_bytes()
        if file.suffix == ".zip":
            with zipfile.ZipFile(file) as archive:
                members = [m for m in archive.namelist() if m.endswith(name)]
                content = archive.read(members[0])
        return tifffile.imread(io.BytesIO(content))
    except Exception as error:
        message = f"Cannot read {name} in {file} ({error!r}). Get {_URL} again."
        raise errors.InputError(message) from error
