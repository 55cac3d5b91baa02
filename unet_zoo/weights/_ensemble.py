"""Ensembles: a small file that names several weights files, to be averaged."""

from __future__ import annotations

import contextlib
import hashlib
import os
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import errors, files
from unet_zoo.toml import to_toml
from unet_zoo.weights import _file

NAME = "ensemble.toml"
_VERSION = 1
# What members must agree on, for their predictions to mean the same.
_SHARED = ("channels", "target", "scale")
# What is a fact of the ensemble where all members say the same, and else unknown.
_COMMON = ("pixel_size",)
# What `tuning.tune` may have found for the ensemble.
_TUNED = ("target_arguments", "decode", "tuned")


def write_ensemble(
    folder: str | os.PathLike[str],
    members: Sequence[str | os.PathLike[str]],
    *,
    validation: Mapping[str, float] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Path:
    """Write `ensemble.toml` into `folder` and return its path.

    `unet_zoo.load(folder)` then averages what the members predict. The file names them
    relative to `folder`, with their SHA-256, and nothing else is copied: keep them
    together. The decoder's arguments (thresholds) are, each by itself, the median of
    the members'.

    Args:
        folder: is made if it is not there.
        members: at least two weights files, or folders of trainings.
        validation: scores to be kept with it.
        facts: how the ensemble decodes, where not as its members do: what `tuning.tune`
            found (`target_arguments`, `decode`, `tuned`).

    Raises:
        InputError: for fewer than two members, or members of another target, number of
            classes, scale or number of channels.
    """
    folder = Path(folder)
    paths = [Path(each) for each in members]
    paths = [each / "weights.h5" if each.is_dir() else each for each in paths]
    if len(paths) < 2:
        message = f"An ensemble has at least two members. Received: {len(paths)}"
        raise errors.InputError(message)
    known = [_file.read_facts(path) for path in paths]
    _check_alike(paths, known)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": _VERSION,
        "members": [_relative(each, folder) for each in paths],
        "sha256": [files.sha256(each) for each in paths],
        "target_arguments": _between([each["target_arguments"] for each in known]),
        "validation": dict(validation or {}),
        "common": {
            key: known[0][key]
            for key in _COMMON
            if key in known[0] and all(e.get(key) == known[0][key] for e in known)
        },
    }
    decoded = [each.get("decode", {}) for each in known]
    if all(each.keys() == decoded[0].keys() for each in decoded):
        content["decode"] = _between(decoded)
    content |= {key: (facts or {})[key] for key in _TUNED if key in (facts or {})}
    with files.replacing(folder / NAME) as part:
        part.write_text(to_toml(content), encoding="utf-8")
    return folder / NAME


def joined(
    names: Sequence[str | os.PathLike[str]], paths: Sequence[Path], cache: Path
) -> Path:
    """Return `ensemble.toml` of an ensemble made on the spot, in the cache.

    Args:
        names: what the user calls the members.
        paths: the files of them; an ensemble among them gives its own members.
        cache: where it is written, in a folder named by what is in it.

    Raises:
        InputError: for members that do not fit together, or one named twice.
    """
    every = [member for path in paths for member in members(path)]
    sums: dict[str, Path] = {}
    for path in every:
        digest = files.sha256(path)
        if digest in sums:
            message = (
                f"An ensemble needs different weights: {' and '.join(map(str, names))} "
                f"hold {path} twice."
            )
            raise errors.InputError(message)
        sums[digest] = path
    _check_alike(every, [_file.read_facts(path) for path in every])
    where = "\n".join(f"{digest} {path.resolve()}" for digest, path in sums.items())
    key = hashlib.sha256(where.encode()).hexdigest()[:32]
    return write_ensemble(cache / "ensembles" / key, [path.resolve() for path in every])


def _check_alike(paths: Sequence[Path], facts: Sequence[Mapping[str, Any]]) -> None:
    def said(each: Mapping[str, Any]) -> dict[str, Any]:
        classes = each["target_arguments"].get("classes")
        return {**{key: each[key] for key in _SHARED}, "classes": classes}

    for path, each in zip(paths, facts, strict=True):
        for key, value in said(each).items():
            if value != (first := said(facts[0])[key]):
                message = (
                    f"The members of an ensemble must agree on {key}: it is "
                    f"{first!r} of {paths[0]} and {value!r} of {path}."
                )
                raise errors.InputError(message)


def _relative(path: Path, folder: Path) -> str:
    """Return the way from the folder, as posix has it: it may move between systems."""
    with contextlib.suppress(ValueError):  # another drive has no relative path
        path = Path(os.path.relpath(path, folder))
    return path.as_posix()


def _between(arguments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments of the first, numbers replaced by the median of all."""
    merged = dict(arguments[0])
    for key, value in merged.items():
        values = [each.get(key, value) for each in arguments]
        if all(type(each) in (int, float) for each in values):
            # Of an even number the lower one: a value that somebody has tried.
            merged[key] = statistics.median_low(values)
    return merged


def members(path: Path, *, verify: bool = True) -> list[Path]:
    """Return the weights files of an ensemble; of a weights file, itself.

    Those of an ensemble are verified: present, and the very files it was made of,
    unless whoever asks will load it, which verifies them all the same.
    """
    if path.suffix != ".toml":
        return [path]
    content = _read(path)
    found = []
    for name, digest in zip(content["members"], content["sha256"], strict=True):
        member = path.parent / name
        if not member.is_file():
            message = f"The ensemble {path} lacks its member {member}."
            raise errors.InputError(message)
        if verify and files.sha256(member) != digest:
            message = (
                f"{member} is not the file that the ensemble {path} was made of: its "
                "SHA-256 is another. Write the ensemble anew, with "
                "unet_zoo.weights.write_ensemble."
            )
            raise errors.InputError(message)
        found.append(member)
    return found


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a weights file, or of an ensemble, without its variables.

    Those of an ensemble are the first member's, with `target_arguments`, `members` and
    `validation` of its own. Needs neither keras nor the model. Raises `InputError` for
    a file that is not one of ours, damaged, incomplete, or of a newer format.
    """
    path = Path(path)
    if path.suffix != ".toml":
        return _file.read_facts(path)
    content = _read(path)
    first = path.parent / content["members"][0]
    facts = _file.read_facts(first)
    for key in _COMMON:
        facts.pop(key, None)
    own = {key: content.get(key, {}) for key in (*_TUNED, "validation")}
    return {
        **facts,
        **content.get("common", {}),
        **own,
        "members": content["members"],
    }


def models(paths: Sequence[Path]) -> list[str]:
    """Return the names of the models that weights files, such as `members`, are of."""
    return sorted({str(_file.read_facts(each)["model"]) for each in paths})


def _read(path: Path) -> dict[str, Any]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        message = f"There is no ensemble {path}."
        raise errors.InputError(message) from None
    except ValueError as error:
        message = f"{path} is not an ensemble: it is not TOML ({error})."
        raise errors.InputError(message) from error
    version = content.get("version")
    lists = [content.get(key) for key in ("members", "sha256")]
    whole = all(
        isinstance(each, list) and each and all(isinstance(e, str) for e in each)
        for each in lists
    )
    if not whole or len(lists[0]) != len(lists[1]):  # type: ignore[arg-type]
        message = f"{path} is not an ensemble: it names no members and their sha256."
        raise errors.InputError(message)
    if version != _VERSION:
        message = (
            f"{path} is of ensemble format {version}; this version of unet-zoo reads "
            f"format {_VERSION}."
        )
        raise errors.InputError(message)
    return content
