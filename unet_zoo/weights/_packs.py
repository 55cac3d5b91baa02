"""The cache as one file, for computers without a network.

A pack is a plain tar archive: `manifest.json` first, then weights and what was known of
them, each under the name it has in a cache. It is not compressed, so that what it takes
on disk is what it says; weights hardly compress.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import IO, Any, cast

from unet_zoo import errors, files
from unet_zoo.weights import _entries, _fetch, _file, _http, _index, _listing
from unet_zoo.weights._listing import Listing

FORMAT = "unet-zoo cache"
VERSION = 1
MANIFEST = "manifest.json"
_LARGEST_MANIFEST = 2**20
# What a cache holds that somebody else may want; a name says the digest's beginning.
_WEIGHTS = re.compile(rf"{_listing.NAME.pattern}-([0-9a-f]{{16}})\.h5")
_TEXT = re.compile(r"(index-[0-9a-f]{16}\.json|entry-[0-9a-f]{16}\.toml)")


def export_cache(
    path: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None
) -> list[str]:
    """Pack the weights in the cache into one file and return the names packed.

    Equal caches give equal bytes. A file in the cache that is not what its name says is
    left out, as it would be when used.

    Raises `InputError` when `path` exists or the cache holds no weights.
    """
    path, folder = Path(path), _fetch.cache_folder(cache)
    if path.exists():
        message = f"{path} exists already. Choose another name, or delete it first."
        raise errors.InputError(message)
    found: dict[str, dict[str, Any]] = {}
    for each in sorted(folder.glob("*")):
        weights = _WEIGHTS.fullmatch(each.name)
        if not (weights or _TEXT.fullmatch(each.name)) or not each.is_file():
            continue
        digest = files.sha256(each)
        if weights is None or digest.startswith(weights[1]):
            found[each.name] = {"sha256": digest, "bytes": each.stat().st_size}
    if not any(_WEIGHTS.fullmatch(name) for name in found):
        message = f"The cache {folder} holds no weights. Fetch some: unet-zoo download."
        entries = map(_entries.entry, _entries.names())
        if shipped := ", ".join(each.name for each in entries if each.path.exists()):
            message += f" Those that come along with unet-zoo need no pack: {shipped}."
        raise errors.InputError(message)
    manifest = {"format": FORMAT, "version": VERSION, "files": found}
    text = json.dumps(manifest, indent=1, sort_keys=True).encode()
    with files.replacing(path) as part, tarfile.open(part, "w") as pack:
        pack.addfile(_member(MANIFEST, len(text)), io.BytesIO(text))
        for name, row in found.items():
            with (folder / name).open("rb") as file:
                pack.addfile(_member(name, row["bytes"]), file)
    return [name for name in found if _WEIGHTS.fullmatch(name)]


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size = size
    return member


def import_cache(
    path: str | os.PathLike[str],
    *,
    sha256: str | None = None,
    cache: str | os.PathLike[str] | None = None,
) -> list[str]:
    """Take the weights of a packed cache into this one and return their names.

    Everything is verified before anything is taken: only regular files, under names
    that a cache gives, not more bytes than the pack has, each with the size and SHA-256
    of the manifest, weights files that can be read, lists that can be parsed. What is
    there already stays.

    Args:
        path: what `export_cache` wrote.
        sha256: of the pack, to be sure that it is the one that was exported.
        cache: see `locate`.

    Raises:
        InputError: for whatever is wrong with the pack; then nothing was taken.
    """
    path, folder = Path(path), _fetch.cache_folder(cache)
    if not path.is_file():
        message = f"There is no packed cache {path}."
        raise errors.InputError(message)
    _fetch.check_digest(path, sha256)
    _http.make_writable(folder)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".import-") as scratch:
        try:
            taken = _unpack(path, Path(scratch))
        except (tarfile.TarError, EOFError) as error:
            message = f"{path} is not a packed cache, or is damaged: {error}."
            raise errors.InputError(message) from error
        for name, digest in taken.items():
            there = folder / name
            # An index that is there may be newer; of weights, the name says which.
            if not there.exists() or (
                _WEIGHTS.fullmatch(name) and files.sha256(there) != digest
            ):
                (Path(scratch) / name).replace(there)
    return [name for name in taken if _WEIGHTS.fullmatch(name)]


def _unpack(path: Path, folder: Path) -> dict[str, str]:
    """Write what a pack holds into `folder`, verified; return {name: sha256}."""
    taken: dict[str, str] = {}
    room = path.stat().st_size
    # "r:" takes no compression, which could make much of little.
    with tarfile.open(path, "r:") as pack:
        members = iter(pack)
        rows = _manifest(pack, next(members, None), path)
        for member in members:
            row = rows.pop(member.name, None)
            if row is None or not member.isfile() or member.issparse():
                message = (
                    f"{path} holds {member.name!r}, which is not a file of its "
                    "manifest. Nothing was taken from it."
                )
                raise errors.InputError(message)
            room -= member.size
            if member.size != row.bytes or room < 0:
                message = (
                    f"{path} says other sizes than it has: {member.name!r} of "
                    f"{row.bytes} bytes. Nothing was taken from it."
                )
                raise errors.InputError(message)
            source = cast(IO[bytes], pack.extractfile(member))
            with (folder / member.name).open("wb") as target:
                shutil.copyfileobj(source, target, 2**20)
            _check(folder / member.name, row, path)
            taken[member.name] = row.sha256
    if rows:
        message = f"{path} is incomplete: it lacks {', '.join(sorted(rows))}."
        raise errors.InputError(message)
    return taken


def _manifest(
    pack: tarfile.TarFile, first: tarfile.TarInfo | None, path: Path
) -> dict[str, Listing]:
    """Return what the first member of a pack says that there is, checked."""
    where = f"The manifest of {path}"
    if (
        first is None
        or first.name != MANIFEST
        or not first.isfile()
        or first.issparse()
        or first.size > _LARGEST_MANIFEST
    ):
        message = f"{path} is not a packed cache: it does not begin with {MANIFEST}."
        raise errors.InputError(message)
    try:
        content = json.loads(cast(IO[bytes], pack.extractfile(first)).read())
    except (ValueError, RecursionError) as error:
        message = f"{where} is not JSON: {error}."
        raise errors.InputError(message) from error
    kinds: dict[str, type] = {"format": str, "version": int, "files": dict}
    if not isinstance(content, dict):
        message = f"{where} must be a JSON object."
        raise errors.InputError(message)
    _listing.check_kinds(content, kinds, where)
    if content["format"] != FORMAT or content["version"] != VERSION:
        message = (
            f"{path} is of the format {content['format']!r} {content['version']}; this "
            f"unet-zoo reads {FORMAT!r} {VERSION}."
        )
        raise errors.InputError(message)
    rows = {}
    for name, row in content["files"].items():
        row = row if isinstance(row, dict) else {}
        rows[name] = _listing.listing(name, {**row, "file": name, "summary": ""}, where)
        weights = _WEIGHTS.fullmatch(name)
        if not (weights or _TEXT.fullmatch(name)) or (
            weights and not rows[name].sha256.startswith(weights[1])
        ):
            message = f"{where} names {name!r}, which no cache of weights holds."
            raise errors.InputError(message)
    return rows


def _check(path: Path, row: Listing, pack: Path) -> None:
    """Refuse a member that is not what the manifest says, or not what it must be."""
    if files.sha256(path) != row.sha256:
        message = (
            f"{pack}: {row.name!r} is damaged or was replaced, its SHA-256 is another. "
            "Nothing was taken from it."
        )
        raise errors.InputError(message)
    where = f"{row.name} of {pack}"
    if _WEIGHTS.fullmatch(row.name):
        _file.read_facts(path)
    elif row.name.startswith("index-"):
        _index.parse_index(_text(path), where)
    else:
        _entries.parse(_text(path), where, path.parent)


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except ValueError as error:
        message = f"{path.name} is not text: {error}."
        raise errors.InputError(message) from error
