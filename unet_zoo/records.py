"""What a segmentation leaves behind about itself: `segmentation.json` beside results.

Label images alone do not say of which image they are, nor which network made them. The
file holds a list of runs; every image is in the run that segmented it last:

    {"format": 1, "runs": [{"model": ..., "weights": ..., "sha256": ..., "options": ...,
      "versions": ..., "images": [{"name": ..., "source": ..., "bytes": ...,
      "frames": ..., "channel": ...}]}]}
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import files, weights
from unet_zoo._version import __version__
from unet_zoo.errors import InputError

NAME = "segmentation.json"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Image:
    """An image that was segmented, and what of it the network was shown."""

    name: str  # of its results: NAME_masks.tif, NAME_objects.csv
    source: Path
    frames: int = 1
    channel: int | str | None = None  # None: all


@dataclasses.dataclass(frozen=True)
class Past:
    """What a folder's record says of one image, and of the run that segmented it."""

    source: Path  # absolute; it may be gone
    bytes: int
    frames: int
    channel: int | str | None
    run: Mapping[str, Any]  # model, weights, sha256, options, versions


@contextlib.contextmanager
def kept(
    folder: str | os.PathLike[str],
    found: Sequence[Image],
    *,
    model: str,
    weights_file: Path,
    options: Mapping[str, Any],
) -> Iterator[None]:
    """Write the record of a run before it begins, so that a killed one has it too.

    Earlier runs keep the images that this one does not segment again. If the body
    raises, the record names of this run only the images whose labels were written.

    Args:
        folder: of the results; it is there.
        found: the images of this run.
        model: what the user called the model.
        weights_file: what was loaded.
        options: of the segmentation, plain values, those that were given.
    """
    folder = Path(folder)
    earlier, before = _runs(folder), _results(folder)
    entries = [_entry(folder, image) for image in found]
    run = {
        "model": model,
        "weights": weights_file.name,
        "sha256": weights.sha256(weights_file),
        "options": dict(options),
        "versions": _versions(),
    }
    _write(folder, earlier, run, entries)
    try:
        yield
    except BaseException:
        new = {name for name, time in _results(folder).items() if before[name] < time}
        _write(folder, earlier, run, [each for each in entries if each["name"] in new])
        raise


def read(folder: str | os.PathLike[str]) -> dict[str, Past]:
    """Return what the record of a folder says of each image, by the results' name.

    Empty where there is no record.

    Raises:
        InputError: for one that is damaged or of another format.

    >>> import tempfile
    >>> read(tempfile.mkdtemp())
    {}
    """
    folder = Path(folder)
    past = {}
    for run in _runs(folder):
        about = {key: value for key, value in run.items() if key != "images"}
        for image in run["images"]:
            past[image["name"]] = Past(
                source=Path(os.path.normpath(folder.resolve() / image["source"])),
                bytes=image["bytes"],
                frames=image["frames"],
                channel=image["channel"],
                run=about,
            )
    return past


def _runs(folder: Path) -> list[dict[str, Any]]:
    path = folder / NAME
    if not path.exists():
        return []
    way_out = "Delete it: what it says is shown beside the results, nothing more."
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        version = content["format"]
        runs = [
            {
                **run,
                "images": [
                    {
                        "name": str(image["name"]),
                        "source": str(image["source"]),
                        "bytes": int(image["bytes"]),
                        "frames": int(image["frames"]),
                        "channel": image["channel"],
                    }
                    for image in run["images"]
                ],
            }
            for run in content["runs"]
        ]
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        message = f"{path} is not a record of a segmentation ({error!r}). {way_out}"
        raise InputError(message) from error
    if version != FORMAT:
        message = f"{path} has the format {version!r}, expected {FORMAT}. {way_out}"
        raise InputError(message)
    return runs


def _write(
    folder: Path,
    earlier: Sequence[Mapping[str, Any]],
    run: Mapping[str, Any],
    entries: Sequence[Mapping[str, Any]],
) -> None:
    """Write the record of earlier runs and of what `run` made; of nothing, none."""
    names = {entry["name"] for entry in entries}
    runs = []
    for each in earlier:
        others = [image for image in each["images"] if image["name"] not in names]
        runs.append({**each, "images": others})
    runs = [each for each in (*runs, {**run, "images": entries}) if each["images"]]
    if not runs:
        (folder / NAME).unlink(missing_ok=True)
        return
    text = json.dumps({"format": FORMAT, "runs": runs}, indent=1, default=str)
    with files.replacing(folder / NAME) as part:
        part.write_text(text, encoding="utf-8")


def _results(folder: Path) -> collections.Counter[str]:
    """Return when the label image of each name was written, 0 of one not there."""
    times = collections.Counter[str]()
    for path in folder.glob("*_masks*"):
        name = path.name.rpartition("_masks")[0]
        times[name] = max(times[name], path.stat().st_mtime_ns)
    return times


def _entry(folder: Path, image: Image) -> dict[str, Any]:
    source = image.source.resolve()
    with contextlib.suppress(ValueError):  # another drive has no relative path
        source = Path(os.path.relpath(source, folder.resolve()))
    return {
        "name": image.name,
        "source": source.as_posix(),
        "bytes": _size(image.source),
        "frames": image.frames,
        "channel": image.channel,
    }


def _size(path: Path) -> int:
    """Return the bytes of a file; of an image that is a folder, of all in it."""
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size


def _versions() -> dict[str, str]:
    found = {"unet_zoo": __version__, "python": platform.python_version()}
    for package in ("keras", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
