"""What every list of weights says of a file, and checking that it is that file."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_zoo import errors, files

# No separators, no leading dot: a name becomes part of paths and of addresses.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
DIGEST = re.compile("[0-9a-f]{64}")
KINDS: dict[str, type] = {"file": str, "sha256": str, "bytes": int, "summary": str}


@dataclasses.dataclass(frozen=True)
class Listing:
    """One row of an index: where a weights file lies and how to know it again."""

    name: str
    file: str
    sha256: str
    bytes: int
    summary: str

    @property
    def cached(self) -> str:
        """Return the name of the file in a cache.

        The digest in it keeps another version, or another server's, apart.
        """
        return f"{self.name}-{self.sha256[:16]}.h5"


def listing(name: str, row: Any, where: str) -> Listing:
    """Return a row that was read somewhere, checked."""
    where = f"{where}, {name!r}"
    if not isinstance(row, Mapping):
        message = f"{where}: expected an object, got {row!r}."
        raise errors.InputError(message)
    row = {key: row[key] for key in KINDS if key in row}
    check_kinds(row, KINDS, where)
    for part in (name, *row["file"].split("/")):
        check_name(part, where)
    if not DIGEST.fullmatch(row["sha256"]) or row["bytes"] <= 0:
        message = (
            f"{where}: `sha256` must be 64 hexadecimal digits and `bytes` positive, "
            f"got {row['sha256']!r} and {row['bytes']}."
        )
        raise errors.InputError(message)
    return Listing(name, **row)


def check_name(name: str, where: str) -> None:
    """Refuse a name that could not be part of an address, or lead out of a folder."""
    if not NAME.fullmatch(name):
        message = (
            f"{where}: names and `file` may hold letters, digits, '.', '_' and '-' "
            f"only, and begin with one of the first two. Received: {name!r}"
        )
        raise errors.InputError(message)


def check_kinds(
    content: Mapping[str, Any],
    kinds: Mapping[str, type],
    where: str,
    optional: Mapping[str, type] | None = None,
) -> None:
    """Refuse a table that lacks a key, holds an unknown one, or one of another type."""
    every = {**kinds, **(optional or {})}
    for key, kind in every.items():
        if key not in content:
            if key not in kinds:
                continue
            message = f"{where} lacks `{key}`."
            raise errors.InputError(message)
        if type(content[key]) is not kind:
            message = (
                f"{where}: `{key}` must be of type {kind.__name__}, "
                f"got {content[key]!r}."
            )
            raise errors.InputError(message)
    strange = content.keys() - every.keys()
    if strange:
        error = errors.unknown(f"key in {where}:", min(strange), every)
        raise error


def check(path: Path, row: Listing) -> None:
    """Refuse a file that is not the one `row` describes."""
    size = path.stat().st_size
    if size != row.bytes:
        got, expected = f"{size} bytes", f"{row.bytes} bytes"
    else:
        got, expected = f"sha256 {files.sha256(path)}", f"sha256 {row.sha256}"
    if got != expected:
        message = (
            f"{path} is not the file of {row.name!r}: expected {expected}, got {got}. "
            "It is damaged or was replaced; it has not been used. Delete it, or "
            "reinstall unet-zoo if it came with it."
        )
        raise errors.InputError(message)


def is_whole(path: Path, row: Listing) -> bool:
    """Return whether `path` is the file that `row` describes."""
    return (
        path.exists()
        and path.stat().st_size == row.bytes
        and files.sha256(path) == row.sha256
    )
