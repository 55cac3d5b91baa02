"""Ensembles: a small file that names several weights files, to be averaged."""

from __future__ import annotations

import os
import statistics
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import errors, files
from unet_zoo.recipe import to_toml
from unet_zoo.weights import _file

NAME = "ensemble.toml"
_VERSION = 1
# What members must agree on, for their predictions to mean the same.
_SHARED = ("channels", "target", "scale")


def write_ensemble(
    folder: str | os.PathLike[str],
    members: Sequence[str | os.PathLike[str]],
    *,
    validation: Mapping[str, float] | None = None,
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

    Raises:
        InputError: for fewer than two members, or members of another target, scale or
            number of channels.
    """
    folder = Path(folder)
    paths = [Path(each) for each in members]
    paths = [each / "weights.h5" if each.is_dir() else each for each in paths]
    if len(paths) < 2:
        message = f"An ensemble has at least two members. Received: {len(paths)}"
        raise errors.InputError(message)
    facts = [_file.read_facts(path) for path in paths]
    _check_alike(paths, facts)
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "version": _VERSION,
        # As posix has it, so that the folder can be moved between systems.
        "members": [Path(os.path.relpath(each, folder)).as_posix() for each in paths],
        "sha256": [files.sha256(each) for each in paths],
        "target_arguments": _between([each["target_arguments"] for each in facts]),
        "validation": dict(validation or {}),
    }
    with files.replacing(folder / NAME) as part:
        part.write_text(to_toml(content) + "\n", encoding="utf-8")
    return folder / NAME


def _check_alike(paths: Sequence[Path], facts: Sequence[Mapping[str, Any]]) -> None:
    for path, each in zip(paths, facts, strict=True):
        for key in _SHARED:
            if each[key] != facts[0][key]:
                message = (
                    f"The members of an ensemble must agree on {key}: it is "
                    f"{facts[0][key]!r} of {paths[0]} and {each[key]!r} of {path}."
                )
                raise errors.InputError(message)


def _between(arguments: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the arguments of the first, numbers replaced by the median of all."""
    merged = dict(arguments[0])
    for key, value in merged.items():
        values = [each.get(key, value) for each in arguments]
        if all(type(each) in (int, float) for each in values):
            # Of an even number the lower one: a value that somebody has tried.
            merged[key] = statistics.median_low(values)
    return merged


def members(path: Path) -> list[Path]:
    """Return the weights files of an ensemble; of a weights file, itself.

    Those of an ensemble are verified: present, and the very files it was made of.
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
        if files.sha256(member) != digest:
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
    own = {key: content.get(key, {}) for key in ("target_arguments", "validation")}
    return {**_file.read_facts(first), **own, "members": content["members"]}


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
