"""Finding weights by name: shipped, cached, or fetched from a plain web server."""

from __future__ import annotations

import functools
import hashlib
import os
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from unet_zoo import errors, files
from unet_zoo.weights import _addresses, _ensemble, _entries, _http, _index, _listing
from unet_zoo.weights._listing import Listing

Result = TypeVar("Result")

WAY_OUT = "give `base_url` or set UNET_ZOO_URL to the address of a server of weights"


def locate(
    name: str,
    *,
    sha256: str | None = None,
    base_url: str | Sequence[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    offline: bool = False,
    progress: _http.Progress | None = None,
) -> Path:
    """Return the path of the weights file called `name`, fetching it if need be.

    Looks for the file shipped with the package, then in the cache, then fetches it:
    from `base_url` by the index.json there, then from the addresses in the zoo entry,
    one mirror after the other until one gives the right file. A server may offer names
    that the zoo does not have. Whatever is returned has the size and SHA-256 that the
    entry or, for those other names, the index states.

    An interrupted download goes on where it stopped, dropped connections are tried
    again, and several processes may ask at once.

    Args:
        name: of the zoo or of a server, or an address: `hf://owner/name` of an entry on
            the Hugging Face hub (HF_ENDPOINT says where else), or the http(s) address
            of an entry or of a weights file.
        sha256: what the file must be. An address of a file needs it, here or behind it
            as `#sha256=...`, unless an entry beside the file says it.
        base_url: servers of weights in the order they are asked; None: those of the
            environment variable UNET_ZOO_URL, parted by blanks.
        cache: a folder; None: UNET_ZOO_CACHE, else ~/.cache/unet_zoo.
        offline: the network is never used; so it is with UNET_ZOO_OFFLINE=1.
        progress: called with (bytes done, bytes in all).

    Raises:
        InputError: for unknown names, files that are not what they should be, and for
            everything a server or a network can get wrong.
    """
    offline = offline or os.environ.get("UNET_ZOO_OFFLINE", "") not in ("", "0")
    folder = cache_folder(cache)
    if _addresses.is_address(name):
        return _addresses.fetch(
            name, folder, sha256=sha256, offline=offline, progress=progress
        )
    path = _locate(_entries.current(name), _bases(base_url), folder, offline, progress)
    check_digest(path, sha256)
    return path


def _locate(
    name: str,
    bases: list[str],
    folder: Path,
    offline: bool,
    progress: _http.Progress | None,
) -> Path:
    row: Listing
    urls: list[str] = []
    if name in _entries.names():
        row = entry = _entries.entry(name)
        if entry.path.exists():
            _listing.check(entry.path, entry)
            return entry.path
        urls = [_addresses.file_address(url, entry.file) for url in entry.urls]
    elif not bases:
        message = (
            f"{errors.unknown('weights', name, _entries.names())} "
            f"For weights that are not in this zoo, {WAY_OUT}."
        )
        raise errors.InputError(message)
    else:
        row = _one_of(
            [functools.partial(_listed, name, base, folder, offline) for base in bases]
        )
    path = folder / row.cached
    if _listing.is_whole(path, row):
        return path
    if offline:
        message = (
            f"The weights {name!r} are not on this computer, and unet-zoo is offline. "
            f"Fetch them once with the network on, or copy the file to {path}."
        )
        raise errors.InputError(message)
    if not (bases or urls):
        message = f"The weights {name!r} were not shipped: {WAY_OUT}."
        raise errors.InputError(message)

    def from_server(base: str) -> Path:
        listed = _listed(name, base, folder, offline)
        if listed.sha256 != row.sha256:
            message = (
                f"{base} offers other weights as {name!r}: expected sha256 "
                f"{row.sha256}, its index says {listed.sha256}."
            )
            raise errors.InputError(message)
        return _http.download(_joined(base, listed.file), path, row, progress)

    return _one_of(
        [functools.partial(from_server, base) for base in bases]
        + [functools.partial(_http.download, url, path, row, progress) for url in urls]
    )


def _one_of(attempts: Sequence[Callable[[], Result]]) -> Result:
    """Return what the first mirror gives that gives anything; else say all reasons."""
    failures = []
    for attempt in attempts:
        try:
            return attempt()
        except errors.InputError as error:
            failures.append(error)
    if len(failures) == 1:
        raise failures[0]
    message = "No mirror gave the weights. " + " ".join(map(str, failures))
    raise errors.InputError(message)


def find(
    name_or_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sha256: str | None = None,
    base_url: str | Sequence[str] | None = None,
    offline: bool = False,
) -> Path:
    """Return the weights file that a path, a training's folder or a name means.

    Several mean an ensemble made on the spot: its file is written to the cache.

    A name of the zoo means its entry, even where a file or folder of that name lies. A
    folder stands for the `weights.h5` or the `ensemble.toml` in it; of an entry, the
    weights must be those that it says. What is not there is taken for the name of
    weights on a server; names and addresses are `locate`'s. With `sha256`, another file
    is refused.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        try:
            names = list(name_or_path)
        except TypeError as error:
            message = (
                "Weights are given by their name, path or address, or several of these "
                f"for an ensemble. Received: {type(name_or_path).__name__}. Give what "
                "it was loaded from."
            )
            raise errors.InputError(message) from error
        if not names:
            message = "No weights are named. Name some, or several for an ensemble."
            raise errors.InputError(message)
        if len(names) == 1:
            return find(names[0], sha256=sha256, base_url=base_url, offline=offline)
        if sha256 is not None:
            message = (
                f"`sha256` is of one file. Received: {len(names)} weights; write it "
                "behind each address, as `#sha256=...`."
            )
            raise errors.InputError(message)
        found = [find(each, base_url=base_url, offline=offline) for each in names]
        cache = cache_folder()
        _http.make_writable(cache)
        return _ensemble.joined(names, found, cache)
    path = Path(name_or_path).expanduser()
    named = str(name_or_path) in {*_entries.names(), *_entries.renamed()}
    if not (named or _addresses.is_address(name_or_path)):
        if (path / _entries.NAME).is_file():
            entry = _entries.read(path, moved=True)
            _entries.check_entry(entry)
            path = entry.path
        elif path.is_dir() and (path / "weights.h5").exists():
            path = path / "weights.h5"
        elif path.is_dir() and (path / _ensemble.NAME).exists():
            path = path / _ensemble.NAME
        elif path.is_dir():
            message = (
                f"The folder {path} holds no weights.h5, as a training leaves it, and "
                f"no {_ensemble.NAME}."
            )
            raise errors.InputError(message)
        if path.suffix == ".h5" or path.is_file():
            check_digest(path, sha256)
            return path
        if path.name != str(name_or_path):
            message = f"There is neither a weights file nor a folder {path}."
            raise errors.InputError(message)
    name = str(name_or_path)
    return locate(name, sha256=sha256, base_url=base_url, offline=offline)


def check_digest(path: Path, sha256: str | None) -> None:
    """Refuse a file of another SHA-256; None: whatever it has."""
    if sha256 is not None and path.exists() and files.sha256(path) != sha256.lower():
        message = (
            f"{path} is not the file you asked for: expected sha256 {sha256}, got "
            f"{files.sha256(path)}."
        )
        raise errors.InputError(message)


def _listed(name: str, base_url: str, folder: Path, offline: bool) -> Listing:
    """Return what the index of a server says about `name`; offline, its last copy."""
    url = _joined(base_url, _index.NAME)
    copy = folder / f"index-{hashlib.sha256(url.encode()).hexdigest()[:16]}.json"
    if offline:
        if not copy.exists():
            message = (
                f"unet-zoo is offline and has never seen {url}, so {name!r} is not on "
                "this computer. Fetch it once with the network on."
            )
            raise errors.InputError(message)
        text = copy.read_text(encoding="utf-8")
    else:
        text = _http.get_text(url)
    rows = _index.parse_index(text, url)
    if not offline:
        _http.make_writable(folder)
        with files.replacing(copy) as part:
            part.write_text(text, encoding="utf-8")
    if name not in rows:
        error = errors.unknown(f"weights at {base_url}:", name, rows)
        raise error
    return rows[name]


def _bases(base_url: str | Sequence[str] | None) -> list[str]:
    given = base_url or os.environ.get("UNET_ZOO_URL") or ""
    return given.split() if isinstance(given, str) else list(given)


def _joined(base_url: str, file: str) -> str:
    parts = urllib.parse.urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        message = (
            "`base_url` (or UNET_ZOO_URL) must start with http:// or https://, "
            f"got {base_url!r}."
        )
        raise errors.InputError(message)
    return f"{base_url.rstrip('/')}/{file}"


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return where what is fetched or converted is kept (see `locate`)."""
    given = cache or os.environ.get("UNET_ZOO_CACHE")
    if given:
        return Path(given).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "unet_zoo"
