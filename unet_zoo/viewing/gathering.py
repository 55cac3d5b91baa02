"""What a folder of results holds: label images, tables, and the images they are of."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import images, outputs, records
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    import pandas

_MASKS = re.compile(r"(.+)_masks(\.ome)?\.(tiff?|png)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class Result:
    """The files of one segmented image."""

    name: str
    masks: Path
    past: records.Past | None  # None: nothing is recorded
    given: Path | None  # where the user says that the image is now

    @property
    def folder(self) -> Path:
        return self.masks.parent

    def frames(self) -> int:
        """Return the number of frames, without reading them."""
        import tifffile

        if self.masks.suffix.lower() == ".png":
            return 1
        try:
            with tifffile.TiffFile(self.masks) as file:
                return int(np.prod(file.series[0].shape[:-2], dtype=np.int64))
        except (OSError, ValueError, IndexError):  # reading will say what is wrong
            return 1

    def labels(self) -> np.ndarray:
        """Return the label image (T, Y, X)."""
        found = images.read(self.masks, indices=True)
        if found.shape[-1] != 1 or found.dtype.kind not in "ui":
            message = (
                f"{self.masks} is not a label image: expected whole numbers and one "
                f"channel, got {found.dtype} and {found.shape[-1]} channel(s)."
            )
            raise InputError(message)
        return found[..., 0]

    def pictures(self, shape: Sequence[int]) -> tuple[Sequence[np.ndarray | None], str]:
        """Return what lies below the outlines of each frame, and a remark.

        An image (Y, X, C) for each of `shape` (T, Y, X): the frames of the image that
        was segmented; where it is gone, the overlays, which show outlines themselves;
        where these are gone too, None.
        """
        image, remark = self._source(tuple(shape))
        if image is not None:
            return list(image), remark
        overlays = self._overlays(shape[0])
        found = [_overlay(path, shape[1:]) for path in overlays]
        if not any(each is not None for each in found):
            return found, f"{remark} Its objects are shown without a picture."
        return found, f"{remark} Shown instead is the overlay, outlines drawn in."

    def table(self, labels: np.ndarray) -> pandas.DataFrame:
        """Return a row for each object, of the CSV file or, without one, measured."""
        import pandas

        path = self.folder / f"{self.name}_objects.csv"
        if path.is_file():
            try:
                frame = pandas.read_csv(path)
            except (ValueError, OSError) as error:  # its ParserError is one as well
                message = f"Cannot read {path}: {error}"
                raise InputError(message) from error
            if "label" not in frame:
                message = (
                    f"{path} has no column `label`; has: {', '.join(map(str, frame))}."
                )
                raise InputError(message)
            return frame
        parts = []
        for number, each in enumerate(labels):
            part = outputs.table(each, each)
            part.insert(0, "frame", number)
            # The brightness of labels is none.
            bright = [name for name in part if "intensity" in str(name)]
            parts.append(part.drop(columns=bright))
        return pandas.concat(parts, ignore_index=True)

    def _source(self, shape: tuple[int, ...]) -> tuple[np.ndarray | None, str]:
        path = self.given
        if path is None:
            if self.past is None:
                return None, "No image of this name is known; give it with --images."
            path = self.past.source
        if not path.exists():
            return None, f"The image is not at {path} any more."
        past = self.past
        channel = None if past is None else past.channel
        axes = None if past is None else past.run["options"].get("axes")
        try:
            with images.open_image(path, axes=axes, channel=channel) as opened:
                image = opened.read_all()
        except InputError as error:
            return None, f"{error}."
        if image.shape[:3] != shape:
            now, then = (" x ".join(map(str, each)) for each in (image.shape, shape))
            return None, f"{path} is now {now}, its labels are {then}."
        changed = (
            self.past is not None
            and path.is_file()
            and path.stat().st_size != self.past.bytes
        )
        return image, f"{path} has changed since it was segmented." if changed else ""

    def _overlays(self, frames: int) -> list[Path]:
        folder = self.folder / "overlays"
        if frames == 1:
            return [folder / f"{self.name}.png"]
        return [folder / f"{self.name}_t{number:03d}.png" for number in range(frames)]


def gather(
    folder: str | os.PathLike[str],
    given: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
) -> list[Result]:
    """Return the results in a folder, in natural order of their names.

    Args:
        folder: what `unet-zoo segment` wrote.
        given: files or folders with the images, where the record does not find them.

    Raises:
        InputError: without results, or where `folder` is not one.
    """
    folder = Path(folder)
    if not folder.is_dir():
        message = f"{folder} is not a folder. Give the --output of `unet-zoo segment`."
        raise InputError(message)
    past = records.read(folder)
    sources = {path.stem: path for path in images.find(given)} if given else {}
    results: dict[str, Result] = {}
    try:
        files = images.find(folder, masks=True)
    except InputError:  # there is no image at all
        files = []
    for file in files:
        found = _MASKS.fullmatch(file.name)
        if not found:
            continue
        name = found[1]
        # Of several, the one that holds every id.
        if name not in results or file.suffix.lower() != ".png":
            results[name] = Result(name, file, past.get(name), sources.get(name))
    if not results:
        tracks = sorted(each.parent for each in folder.glob("*_RES/res_track.txt"))
        if (folder / "res_track.txt").is_file():
            tracks = [folder]
        if tracks:
            message = (
                f"{folder} holds no label images, only tracks of the Cell Tracking "
                f"Challenge ({', '.join(each.name for each in tracks)}), as `unet-zoo "
                "segment --format ctc` writes them. A page shows results with labels: "
                "segment with --write labels,ctc in place of --format to have both."
            )
            raise InputError(message)
        message = (
            f"{folder} holds no results: expected label images such as NAME_masks.tif, "
            "which `unet-zoo segment` writes."
        )
        raise InputError(message)
    return list(results.values())


def facts(run: Any) -> dict[str, str]:
    """Return what is to be told of the run of an image, in words."""
    if not run:
        return {}
    told = {"model": f"{run.get('model')} (sha256 {str(run.get('sha256'))[:12]})"}
    options = run.get("options") or {}
    told["options"] = ", ".join(f"{k} {v}" for k, v in options.items()) or "none given"
    versions = run.get("versions") or {}
    told["versions"] = ", ".join(f"{k} {v}" for k, v in versions.items())
    return told


def _overlay(path: Path, shape: Sequence[int]) -> np.ndarray | None:
    try:
        picture = images.read_one(path)
    except InputError:
        return None
    return picture if picture.shape[:2] == tuple(shape) else None
