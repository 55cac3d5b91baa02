"""DIC-C2DH-HeLa of the Cell Tracking Challenge, the cells of the U-Net paper."""

from __future__ import annotations

import hashlib
import io
import pathlib
import re
import shutil
import urllib.request
import zipfile
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets.public_api as tfds
import tifffile
from tensorflow_datasets.core.download import download_manager

from unet_zoo import errors
from unet_zoo.datasets.hela import truth

_NAME = "DIC-C2DH-HeLa"
_URL = f"http://data.celltrackingchallenge.net/training-datasets/{_NAME}.zip"
_CONFIGS = {
    "standard": ("01", "02"),
    "swapped": ("02", "01"),
}
# What pathlib.Path and zipfile.Path have in common is all that is used of them.
Folder = pathlib.Path | zipfile.Path


class Builder(tfds.core.GeneratorBasedBuilder):
    """Two time-lapse sequences of HeLa cells on glass, one to train, one to test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    BUILDER_CONFIGS: ClassVar[list[tfds.core.BuilderConfig]] = [
        tfds.core.BuilderConfig(
            name="standard", description="Train on sequence 01, test on sequence 02."
        ),
        tfds.core.BuilderConfig(
            name="swapped", description="Train on sequence 02, test on sequence 01."
        ),
    ]
    PIXEL_SIZE = (0.19, 0.19)  # micrometres, as the challenge states it
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        f"Get {_URL} and put it, as {_NAME}.zip or unpacked as the folder {_NAME}, into"
        " the manual directory."
    )

    @classmethod
    def manual_files(cls, folder: pathlib.Path) -> list[pathlib.Path]:
        """Return the files a user placed by hand in `folder`; none: it is downloaded.

        An unpacked folder goes before the archive: whoever unpacked it may have put
        something right in it.
        """
        unpacked = sorted((folder / _NAME).rglob("*.tif"))
        archive = folder / f"{_NAME}.zip"
        return unpacked or ([archive] if archive.is_file() else [])

    def _info(self) -> tfds.core.DatasetInfo:
        labels = tfds.features.Tensor(
            shape=(None, None, 1), dtype=np.int32, encoding=tfds.features.Encoding.ZLIB
        )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 1), dtype=np.uint8),
                    "labels": labels,
                    "silver": labels,
                    "gold": labels,
                    "has_gold": np.bool_,
                    "complete": np.bool_,
                    "annotated": tfds.features.Sequence(np.int32),
                    "markers": labels,
                    "name": tfds.features.Text(),
                    "sequence": tfds.features.Text(),
                    "frame": np.int32,
                }
            ),
            supervised_keys=("image", "labels"),
            homepage="https://celltrackingchallenge.net/2d-datasets/",
            metadata=tfds.core.MetadataDict(),
            # Frames stay in the order of time: a block of them can be held back.
            disable_shuffling=True,
        )

    def _split_generators(
        self, dl_manager: tfds.download.DownloadManager
    ) -> dict[str, Any]:
        folder, source = _open(self, dl_manager)
        self.info.metadata["source"] = source
        train, test = _CONFIGS[self.builder_config.name]
        return {
            "train": self._generate_examples(folder, train),
            "test": self._generate_examples(folder, test),
        }

    def _generate_examples(
        self, folder: Folder, sequence: str
    ) -> Iterator[tuple[int, dict[str, Any]]]:
        images = _numbered(folder / sequence, "t")
        silver = _numbered(folder / f"{sequence}_ST" / "SEG", "man_seg")
        markers = _numbered(folder / f"{sequence}_GT" / "TRA", "man_track")
        # Few enough to hold: the largest of them says how far an unknown cell reaches.
        gold = {
            number: _read(file)
            for number, file in _numbered(
                folder / f"{sequence}_GT" / "SEG", "man_seg"
            ).items()
        }
        distance = truth.reach(max(map(truth.largest_area, gold.values())))
        for number, file in images.items():
            for kind, files in {"01_ST/SEG": silver, "01_GT/TRA": markers}.items():
                if number not in files:
                    kind = kind.replace("01", sequence)
                    message = f"{_NAME}: {file.name} has no annotation in {kind}."
                    raise errors.InputError(message)
            marked = _read(markers[number])
            outlined = gold.get(number)
            known = truth.frame(_read(silver[number]), outlined, marked, distance)
            yield (
                number,
                {
                    "image": _read(file, "uint8")[..., None],
                    "labels": known.labels[..., None],
                    "silver": known.silver[..., None],
                    "gold": known.gold[..., None],
                    "has_gold": outlined is not None,
                    "complete": known.complete,
                    "annotated": np.unique(known.gold[known.gold > 0]),
                    "markers": marked[..., None],
                    "name": f"{sequence}_{file.name.removesuffix('.tif')}",
                    "sequence": sequence,
                    "frame": number,
                },
            )


def _open(
    builder: Builder, dl_manager: tfds.download.DownloadManager
) -> tuple[Folder, str]:
    """Return the folder with the frames, and a sentence that says where it is from."""
    expected = builder.url_infos[_URL].checksum
    try:
        # TFDS raises where the directory is missing or empty.
        manual = pathlib.Path(dl_manager.manual_dir)
        placed = builder.manual_files(manual)
    except AssertionError:
        placed = []
    if not placed:
        archive = _download(dl_manager, expected)
        return _unzip(archive), f"official archive, {_URL}"
    if placed[0].suffix != ".zip":
        return manual / _NAME, f"folder {_NAME} placed by hand"
    found = hashlib.sha256(placed[0].read_bytes()).hexdigest()
    which = "the official archive" if found == expected else "not the official archive"
    source = f"{_NAME}.zip placed by hand, SHA-256 {found}, {which}"
    return _unzip(placed[0]), source


def _download(dl_manager: tfds.download.DownloadManager, expected: str) -> pathlib.Path:
    """Return the official archive; nothing without its SHA-256 is ever returned."""
    way_out = (
        f"Get {_URL} in another way, put it as {_NAME}.zip into a folder of your choice"
        " and give that folder as manual_dir (--manual-dir)."
    )
    downloads = pathlib.Path(dl_manager.download_dir)
    before = set(downloads.rglob("*.tmp.*"))
    try:
        if not any(downloads.rglob(f"*{_NAME}*.zip")):
            # TFDS tries for minutes where there is no network; this fails at once.
            urllib.request.build_opener().open(_URL, timeout=20).close()
        return pathlib.Path(dl_manager.download(_URL))
    except download_manager.NonMatchingChecksumError as error:
        message = (
            f"What {_URL} sent is refused: its SHA-256 is not {expected}, that of"
            f" the official archive. {way_out}"
        )
        raise errors.InputError(message) from error
    except (tfds.download.DownloadError, OSError) as error:
        message = f"Cannot download {_NAME}: {error}. {way_out}"
        raise errors.InputError(message) from error
    finally:
        # TFDS leaves the folder of a failed or refused download behind.
        for rest in set(downloads.rglob("*.tmp.*")) - before:
            shutil.rmtree(rest, ignore_errors=True)


def _unzip(archive: pathlib.Path) -> zipfile.Path:
    try:
        folder = zipfile.Path(archive) / _NAME
    except (zipfile.BadZipFile, OSError) as error:
        message = (
            f"{archive} is not a readable zip archive ({error}). Get it again from"
            f" {_URL}."
        )
        raise errors.InputError(message) from error
    return folder


def _numbered(folder: Folder, prefix: str) -> dict[int, Folder]:
    """Return the TIFF files `<prefix>NNN.tif` of `folder` by number, in order."""
    if folder.is_dir():
        found = {
            int(match[1]): file
            for file in folder.iterdir()
            if (match := re.fullmatch(rf"{prefix}(\d+)\.tif", file.name))
        }
        if found:
            return dict(sorted(found.items()))
    message = (
        f"{folder} does not exist or holds no {prefix}NNN.tif. The challenge's training"
        f" archive has it: get {_URL}."
    )
    raise errors.InputError(message)


def _read(file: Folder, dtype: str = "int32") -> np.ndarray:
    try:
        return tifffile.imread(io.BytesIO(file.read_bytes())).astype(dtype)
    except Exception as error:
        message = f"{file} is not a readable TIFF: {error}"
        raise errors.InputError(message) from error
