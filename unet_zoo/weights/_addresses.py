"""Weights at an address: on the Hugging Face hub, or on any web server.

Nothing is fetched that cannot be verified: an address of a file comes with its SHA-256,
or the entry that lies beside it says which file it is.
"""

from __future__ import annotations

import hashlib
import os
import re
import urllib.parse
from pathlib import Path

from unet_zoo import errors, files
from unet_zoo.weights import _entries, _http
from unet_zoo.weights._listing import DIGEST, NAME, Listing, is_whole

_HUB = re.compile(r"hf://([\w.-]+)/([\w.-]+)(?:@([\w./-]+))?/?")


def is_address(text: str | os.PathLike[str]) -> bool:
    """Return whether this is an address rather than a name or a path."""
    return isinstance(text, str) and text.startswith(("hf://", "https://", "http://"))


def file_address(address: str, file: str) -> str:
    """Return the address of a file: as given, or within a repository of the hub."""
    return f"{_base(address)}/{file}" if address.startswith("hf://") else address


def fetch(
    address: str,
    folder: Path,
    *,
    sha256: str | None = None,
    offline: bool = False,
    progress: _http.Progress | None = None,
) -> Path:
    """Return the weights file at an address, from the cache `folder` where it is there.

    Args:
        address: `hf://owner/name`, perhaps with `@revision`; the http(s) address of a
            folder with an entry.toml; or that of a weights file, perhaps with its
            digest behind `#sha256=`.
        folder: the cache.
        sha256: of the file; without it the entry in the folder of the file says it.
        offline: never use the network.
        progress: called with (bytes done, bytes in all).

    Raises:
        InputError: for an address that nothing vouches for, other bytes than stated,
            and for everything a server or a network can get wrong.
    """
    address, _, fragment = address.partition("#")
    sha256 = _digest(sha256, fragment, address)
    last = urllib.parse.urlsplit(address).path.rpartition("/")[2]
    file = urllib.parse.unquote(last) if last.endswith(".h5") else None
    if sha256 is not None and file is not None:
        stem = file.removesuffix(".h5")
        name = stem if NAME.fullmatch(stem) else "weights"
        path = folder / f"{name}-{sha256[:16]}.h5"
        if path.exists() and files.sha256(path) == sha256:
            return path
        _check_online(offline, address, path)
        row = Listing(name, f"{name}.h5", sha256, _http.length_of(address), "")
        return _http.download(address, path, row, progress)
    if address.startswith("http://") and sha256 is None:
        message = (
            f"{address} is not encrypted, so nothing on it proves what it sends. Give "
            "the digest of the file as `sha256`, or behind the address as #sha256=..., "
            "or use https."
        )
        raise errors.InputError(message)
    base = _base(address)
    if file is not None:
        base = base.partition("?")[0].rpartition("/")[0]
    url = f"{base}/{_entries.NAME}"
    row = _stated(address, url, folder, offline)
    if file not in (None, row.file):
        raise _unvouched(address, f"The entry {url} is of another file, {row.file}.")
    if sha256 not in (None, row.sha256):
        message = (
            f"{address} holds other weights: expected sha256 {sha256}, its entry says "
            f"{row.sha256}."
        )
        raise errors.InputError(message)
    path = folder / row.cached
    if is_whole(path, row):
        return path
    _check_online(offline, address, path)
    return _http.download(f"{base}/{row.file}", path, row, progress)


def _stated(address: str, url: str, folder: Path, offline: bool) -> Listing:
    """Return what the entry at `url` says of its file; offline, its last copy."""
    copy = folder / f"entry-{hashlib.sha256(url.encode()).hexdigest()[:16]}.toml"
    if offline:
        _check_online(not copy.exists(), url, copy)
        text = copy.read_text(encoding="utf-8")
    else:
        try:
            text = _http.get_text(url)
        except errors.InputError as error:
            raise _unvouched(address, str(error)) from error
    found = _entries.parse(text, url, folder)
    if not offline:
        _http.make_writable(folder)
        with files.replacing(copy) as part:
            part.write_text(text, encoding="utf-8")
    return found


def _unvouched(address: str, why: str) -> errors.InputError:
    message = f"Nothing says which file {address} is, so it is not used. {why}"
    if not address.startswith("hf://"):
        message += (
            " Give the digest of a file as `sha256`, or as #sha256=... behind it."
        )
    return errors.InputError(message)


def _base(address: str) -> str:
    if not address.startswith("hf://"):
        return address.rstrip("/")
    match = _HUB.fullmatch(address)
    if match is None:
        message = (
            "An address on the Hugging Face hub is hf://owner/name or "
            f"hf://owner/name@revision. Received: {address}"
        )
        raise errors.InputError(message)
    owner, name, revision = match.groups()
    quoted = urllib.parse.quote(revision or "main", safe="")
    return f"{_http.hub()}/{owner}/{name}/resolve/{quoted}"


def _digest(sha256: str | None, fragment: str, address: str) -> str | None:
    if fragment and not fragment.startswith("sha256="):
        message = f"{address}: behind # may stand sha256=..., got {fragment!r}."
        raise errors.InputError(message)
    both = [each for each in (sha256, fragment.removeprefix("sha256=")) if each]
    both = [each.lower() for each in both]
    for each in both:
        if not DIGEST.fullmatch(each) or each != both[0]:
            message = (
                f"{address}: `sha256` must be the one digest of the file, 64 "
                f"hexadecimal digits, got {', '.join(map(repr, both))}."
            )
            raise errors.InputError(message)
    return both[0] if both else None


def _check_online(offline: bool, address: str, path: Path) -> None:
    if offline:
        message = (
            f"{address} is not on this computer, and unet-zoo is offline. Fetch it "
            f"once with the network on, or copy the file to {path}."
        )
        raise errors.InputError(message)
