"""What a segmentation leaves behind about itself: `segmentation.json` beside results.

Label images alone do not say of which image they are, nor which network made them. The
file holds a list of runs; every image is in the run that segmented it last:

    {"format": 1, "runs": [{"model": ..., "weights": ..., "sha256": ..., "options": ...,
      "write": ..., "engine": ..., "versions": ..., "images": [{"name": ...,
      "source": ..., "bytes": ..., "frames": ..., "channel": ...}]}]}

A run that has not ended has a "journal" as well. That word opens a file beside the
record, to which the name of every image is added once its results are written: of a
run that was killed, the images named there count, and no others. A run that was
interrupted, or that met broken images, may leave results of earlier ones which it was
to replace. Those images are in an entry of it with a word whose file is gone: they are
not finished, and whoever goes on may replace what there is.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib.metadata
import json
import os
import platform
import secrets
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import files, weights
from unet_zoo._version import __version__
from unet_zoo.errors import InputError

NAME = "segmentation.json"
JOURNAL = ".segmentation.jsonl"
FORMAT = 1


@dataclasses.dataclass(frozen=True)
class Image:
    """An image that was segmented, and what of it the network was shown."""

    name: str  # of its results: NAME_masks.tif, NAME_objects.csv
    source: Path
    frames: int = 1
    channel: int | str | None = None  # None: all
    results: tuple[Path, ...] = ()  # that are written of it


@dataclasses.dataclass(frozen=True)
class Past:
    """What a folder's record says of one image, and of the run that segmented it."""

    source: Path  # absolute; it may be gone
    bytes: int
    frames: int
    channel: int | str | None
    run: Mapping[str, Any]  # model, weights, sha256, options, write, ...


def about(
    model: str,
    weights_file: Path,
    options: Mapping[str, Any],
    *,
    write: Sequence[str] = (),
    engine: str | None = None,
) -> dict[str, Any]:
    """Return what a record says of a run.

    Args:
        model: what the user called the model.
        weights_file: what was loaded.
        options: of the segmentation, plain values, those that were given.
        write: the kinds of results that it writes.
        engine: what runs the network.
    """
    return {
        "model": model,
        "weights": weights_file.name,
        "sha256": weights.sha256(weights_file),
        "options": dict(options),
        "write": list(write),
        "engine": engine,
        "versions": _versions(),
    }


@contextlib.contextmanager
def kept(
    folder: str | os.PathLike[str],
    found: Sequence[Image],
    run: Mapping[str, Any],
    *,
    done: Collection[str] = (),
) -> Iterator[Callable[[str], None]]:
    """Write the record of a run before it begins, so that a killed one has it too.

    Earlier runs keep the images that this one does not segment again. In the end, also
    if the body raises, the record names of this run the images that were finished, and
    as unfinished those others of which there are results, by whomever.

    Args:
        folder: of the results; it is there.
        found: the images of this run.
        run: what `about` returned.
        done: names of those that an earlier run finished, which this one goes on with.

    Yields:
        A function to call with the name of an image once all its results are written;
        threads may.
    """
    folder = Path(folder)
    measured = functools.cache(size)  # of the frames of a stack, once
    entries = {image.name: _entry(folder, image, measured) for image in found}
    finished, lock = set(done), threading.Lock()
    word = secrets.token_hex(8)
    begun = {**run, "journal": word}
    waiting = entries.keys() - finished
    # What waits to be replaced is finished no more, even if it is never come to.
    earlier = _without(_apart(folder), waiting)

    def of(names: Collection[str]) -> list[dict[str, Any]]:
        return [each for name, each in entries.items() if name in names]

    # The record alone decides which journal counts, and is replaced in one step.
    _write(folder, [*earlier, {**begun, "images": of(waiting)}])
    try:
        with (folder / JOURNAL).open("w", encoding="utf-8") as journal:

            def finish(name: str) -> None:
                with lock:
                    journal.write(json.dumps(name) + "\n")
                    journal.flush()
                    finished.add(name)

            journal.write(json.dumps(word) + "\n")
            journal.flush()
            yield finish
    finally:
        left = {
            image.name
            for image in found
            if image.name not in finished and any(map(os.path.lexists, image.results))
        }
        runs = [{**run, "images": of(finished)}, {**begun, "images": of(left)}]
        _write(folder, [*_without(earlier, finished), *runs])
        (folder / JOURNAL).unlink(missing_ok=True)


def differences(
    folder: str | os.PathLike[str], found: Sequence[Image], run: Mapping[str, Any]
) -> list[str]:
    """Return how earlier runs on these images, killed ones too, differ from `run`.

    A line for each setting, such as "threshold was 0.4, is 0.5"; none where results of
    both can stand side by side.
    """
    lines = []
    now = {image.name: image.channel for image in found}
    for earlier in _written(Path(folder)):
        channels = {
            image["name"]: image["channel"]
            for image in earlier["images"]
            if image["name"] in now
        }
        if not channels:
            continue
        if earlier["sha256"] != run["sha256"]:
            same = earlier["model"] == run["model"]
            key, what = ("sha256", "weights") if same else ("model", "model")
            lines.append(_difference(what, earlier[key], run[key]))
        if "write" in earlier and sorted(earlier["write"]) != sorted(run["write"]):
            then, there = (",".join(each["write"]) for each in (earlier, run))
            lines.append(_difference("write", then, there))
        if earlier.get("engine") not in (None, run["engine"]):
            lines.append(_difference("engine", earlier["engine"], run["engine"]))
        before, after = earlier["options"], run["options"]
        lines += [
            _difference(key, before.get(key), after.get(key))
            for key in sorted({*before, *after} - {"engine"})
            if before.get(key) != after.get(key)
        ]
        name, channel = next(iter(channels.items()))
        if channel != now[name]:
            lines.append(_difference("channel", channel, now[name]))
    return list(dict.fromkeys(lines))


def _difference(what: str, then: Any, now: Any) -> str:
    before, after = (
        "not given" if each is None else each[:8] if what == "weights" else each
        for each in (then, now)
    )
    return f"{what} was {before}, is {after}"


def read(
    folder: str | os.PathLike[str], *, unfinished: bool = False
) -> dict[str, Past]:
    """Return what the record of a folder says of each image, by the results' name.

    Empty where there is no record. With `unfinished`, also of the images that a run
    was to segment which was ended before.

    Raises:
        InputError: for one that is damaged or of another format.

    >>> import tempfile
    >>> read(tempfile.mkdtemp())
    {}
    """
    folder = Path(folder)
    past = {}
    for run in _written(folder) if unfinished else _runs(folder):
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


def unchanged(past: Mapping[str, Past], found: Sequence[Image]) -> set[str]:
    """Return the names of those images that are what `read` said of them."""
    measured = functools.cache(size)  # of the frames of a stack, once

    def same(image: Image, then: Past) -> bool:
        return (
            then.source == image.source.resolve()
            and then.bytes == measured(image.source)
            and then.frames == image.frames
        )

    return {
        image.name
        for image in found
        if image.name in past and same(image, past[image.name])
    }


def forget(folder: str | os.PathLike[str], names: Collection[str]) -> None:
    """Take images out of a record whose results were taken away."""
    folder = Path(folder)
    _write(folder, _without(_apart(folder), names))


def _apart(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a record, what they finished apart from what they did not."""
    runs = []
    for run in _written(folder):
        if "journal" not in run:
            runs.append(run)
            continue
        names = _journal(folder, run["journal"])
        ended = {key: value for key, value in run.items() if key != "journal"}
        for each, done in ((ended, True), (run, False)):
            images = [im for im in run["images"] if (im["name"] in names) == done]
            runs.append({**each, "images": images})
    return runs


def _runs(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a record; of one that did not end, what it finished."""
    return [run for run in _apart(folder) if "journal" not in run]


def _journal(folder: Path, word: str) -> set[str]:
    """Return the names in the journal that begins with `word`."""
    names = set()
    try:
        lines = (folder / JOURNAL).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return set()
    for number, line in enumerate(lines):
        try:
            name = json.loads(line)
        except ValueError:
            continue  # of its last line, only the beginning was written
        if number == 0 and name != word:
            return set()
        names.add(name)
    return names - {word}


def _written(folder: Path) -> list[dict[str, Any]]:
    """Return the runs of a record with all images that they were to segment."""
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


def _without(
    runs: Sequence[Mapping[str, Any]], names: Collection[str]
) -> list[dict[str, Any]]:
    """Return the runs of a record without the images of these names."""
    return [
        {**run, "images": [im for im in run["images"] if im["name"] not in names]}
        for run in runs
    ]


def _write(folder: Path, runs: Sequence[Mapping[str, Any]]) -> None:
    """Write the record of those runs that have images; of none, no record."""
    runs = [each for each in runs if each["images"]]
    if not runs:
        (folder / NAME).unlink(missing_ok=True)
        return
    text = json.dumps({"format": FORMAT, "runs": runs}, indent=1, default=str)
    with files.replacing(folder / NAME) as part:
        part.write_text(text, encoding="utf-8")


def _entry(
    folder: Path, image: Image, measured: Callable[[Path], int]
) -> dict[str, Any]:
    source = image.source.resolve()
    with contextlib.suppress(ValueError):  # another drive has no relative path
        source = Path(os.path.relpath(source, folder.resolve()))
    return {
        "name": image.name,
        "source": source.as_posix(),
        "bytes": measured(image.source),
        "frames": image.frames,
        "channel": image.channel,
    }


def size(path: Path) -> int:
    """Return the bytes of a file; of an image that is a folder, of all in it.

    0 of what is gone, which no image has: it is another one once it is back.
    """
    if path.is_dir():
        return sum(each.stat().st_size for each in path.rglob("*") if each.is_file())
    return path.stat().st_size if path.exists() else 0


def _versions() -> dict[str, str]:
    found = {"unet_zoo": __version__, "python": platform.python_version()}
    for package in ("keras", "numpy"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[package] = importlib.metadata.version(package)
    return found
