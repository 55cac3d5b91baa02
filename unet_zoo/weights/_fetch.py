"""Finding weights by name: shipped, cached, or fetched from a plain web server."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import time
import urllib.parse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unet_zoo import errors, files
from unet_zoo.weights import _ensemble, _entries

if TYPE_CHECKING:
    import requests

Progress = Callable[[int, int], None]
Result = TypeVar("Result")

TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of an answer
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
LARGEST_INDEX = 4 * 2**20
WAY_OUT = "give `base_url` or set UNET_ZOO_URL to the address of a server of weights"


def locate(
    name: str,
    *,
    base_url: str | None = None,
    cache: str | os.PathLike[str] | None = None,
    offline: bool = False,
    progress: Progress | None = None,
) -> Path:
    """Return the path of the weights file called `name`, fetching it if need be.

    Looks for the file shipped with the package, then in the cache, then fetches it:
    from `base_url` (default: the environment variable UNET_ZOO_URL) by the index.json
    there, else from the addresses in the zoo entry. A server may offer names that the
    zoo does not have. Whatever is returned has the size and SHA-256 that the entry or,
    for those other names, the index states.

    An interrupted download goes on where it stopped, dropped connections are tried
    again, and several processes may ask at once. `progress(done, total)` is called
    with bytes. `cache` is a folder (default: UNET_ZOO_CACHE, else
    ~/.cache/unet_zoo). With `offline`, or UNET_ZOO_OFFLINE=1, the network is never
    used.

    Raises `InputError` for unknown names, files that are not what they should be, and
    for everything a server or a network can get wrong.
    """
    base_url = base_url or os.environ.get("UNET_ZOO_URL") or None
    offline = offline or os.environ.get("UNET_ZOO_OFFLINE", "") not in ("", "0")
    folder = cache_folder(cache)
    row: _entries.Listing
    urls: list[str]
    if name in _entries.names():
        row = entry = _entries.entry(name)
        if entry.path.exists():
            _entries.check(entry.path, entry)
            return entry.path
        urls = list(entry.urls)
    elif base_url is None:
        message = (
            f"{errors.unknown('weights', name, _entries.names())} "
            f"For weights that are not in this zoo, {WAY_OUT}."
        )
        raise errors.InputError(message)
    else:
        row = _listed(name, base_url, folder, offline)
        urls = []
    # The digest in the name keeps another version, or another server's, apart.
    path = folder / f"{name}-{row.sha256[:16]}.h5"
    if _is_whole(path, row):
        return path
    if offline:
        message = (
            f"The weights {name!r} are not on this computer, and unet-zoo is offline. "
            f"Fetch them once with the network on, or copy the file to {path}."
        )
        raise errors.InputError(message)
    if base_url is not None:
        listed = _listed(name, base_url, folder, offline)
        if listed.sha256 != row.sha256:
            message = (
                f"{base_url} offers other weights as {name!r}: expected sha256 "
                f"{row.sha256}, its index says {listed.sha256}."
            )
            raise errors.InputError(message)
        urls = [_joined(base_url, listed.file)]
    if not urls:
        message = f"The weights {name!r} were not shipped: {WAY_OUT}."
        raise errors.InputError(message)
    for url in urls[:-1]:
        with contextlib.suppress(errors.InputError):
            return download(url, path, row, progress)
    return download(urls[-1], path, row, progress)


def find(
    name_or_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    base_url: str | None = None,
    offline: bool = False,
) -> Path:
    """Return the weights file that a path, a training's folder or a name means.

    Several mean an ensemble made on the spot: its file is written to the cache.

    A name of the zoo means its entry, even where a file or folder of that name lies. A
    folder stands for the `weights.h5` or the `ensemble.toml` in it. What is not there
    is taken for the name of weights on a server, see `locate`.
    """
    if not isinstance(name_or_path, str | os.PathLike):
        names = list(name_or_path)
        if not names:
            message = "No weights are named. Name some, or several for an ensemble."
            raise errors.InputError(message)
        found = [find(each, base_url=base_url, offline=offline) for each in names]
        if len(found) == 1:
            return found[0]
        cache = cache_folder()
        _make_writable(cache)
        return _ensemble.joined(names, found, cache)
    path = Path(name_or_path).expanduser()
    if str(name_or_path) not in _entries.names():
        if path.is_dir() and (path / "weights.h5").exists():
            return path / "weights.h5"
        if path.is_dir() and (path / _ensemble.NAME).exists():
            return path / _ensemble.NAME
        if path.suffix == ".h5" or path.is_file():
            return path
        if path.is_dir():
            message = (
                f"The folder {path} holds no weights.h5, as a training leaves it, and "
                f"no {_ensemble.NAME}."
            )
            raise errors.InputError(message)
        if path.name != str(name_or_path):
            message = f"There is neither a weights file nor a folder {path}."
            raise errors.InputError(message)
    return locate(str(name_or_path), base_url=base_url, offline=offline)


def download(
    url: str, path: Path, row: _entries.Listing, progress: Progress | None = None
) -> Path:
    """Fetch `url` to `path`: part file beside it, verified, and only then moved.

    What an earlier attempt left is continued. One process at a time works on `path`;
    the others wait and find the whole file.
    """
    import filelock

    _make_writable(path.parent)
    part = path.with_name(f".{path.name}.part")
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if _is_whole(path, row):
            return path
        resumed = part.exists()
        _retrying(url, lambda: _append(url, part, row, progress))
        if resumed and not _is_whole(part, row):
            # What was there before may have been the bad half: once more, from nothing.
            part.unlink()
            _retrying(url, lambda: _append(url, part, row, progress))
        digest = files.sha256(part)
        if digest != row.sha256:
            part.unlink()
            message = (
                f"{url} sent other bytes than {row.name!r} has: expected sha256 "
                f"{row.sha256}, got {digest}. They were deleted. The file there was "
                "replaced or something on the way changes it."
            )
            raise errors.InputError(message)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    return path


def _append(
    url: str, part: Path, row: _entries.Listing, progress: Progress | None
) -> None:
    """Bring `part` to its full size in one request, keeping what it already has."""
    import requests

    done = part.stat().st_size if part.exists() else 0
    if done == row.bytes:
        return
    if done > row.bytes:
        part.unlink()
        done = 0
    if (free := shutil.disk_usage(part.parent).free) < row.bytes - done:
        message = f"{part.parent} has {free} bytes free; {row.bytes - done} are needed."
        raise errors.InputError(message)
    # Without identity a server may compress, and sizes and ranges lose their meaning.
    headers = {"Accept-Encoding": "identity"}
    if done:
        headers["Range"] = f"bytes={done}-"
    with _get(url, headers) as response:
        if response.status_code == 416:  # the file there ends before what we have
            part.unlink(missing_ok=True)
            message = "the server cannot continue what was fetched before"
            raise requests.ConnectionError(message)
        ranged = response.headers.get("Content-Range", "")
        if response.status_code != 206:
            done = 0  # the server sends it all, whatever was asked
        elif ranged != f"bytes {done}-{row.bytes - 1}/{row.bytes}":
            part.unlink()
            message = f"the server sent the range {ranged!r} of another file"
            raise requests.ConnectionError(message)
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length) != row.bytes - done:
            raise _wrong_length(url, int(length) + done, row)
        with part.open("ab" if done else "wb") as file:
            for chunk in response.iter_content(2**16):
                done += len(chunk)
                if done > row.bytes:
                    file.truncate(0)
                    raise _wrong_length(url, f"over {row.bytes}", row)
                file.write(chunk)
                if progress is not None:
                    progress(done, row.bytes)
    if done < row.bytes:
        message = f"it ended after {done} of {row.bytes} bytes"
        raise requests.ConnectionError(message)


def _wrong_length(url: str, got: int | str, row: _entries.Listing) -> errors.InputError:
    message = (
        f"{url} has the wrong length for {row.name!r}: expected {row.bytes} bytes, "
        f"got {got}. The file there was replaced, or it is an error page."
    )
    return errors.InputError(message)


def _listed(name: str, base_url: str, folder: Path, offline: bool) -> _entries.Listing:
    """Return what the index of a server says about `name`; offline, its last copy."""
    url = _joined(base_url, "index.json")
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
        text = _retrying(url, lambda: _get_text(url))
    rows = _entries.parse_index(text, url)
    if not offline:
        _make_writable(folder)
        with files.replacing(copy) as part:
            part.write_text(text, encoding="utf-8")
    if name not in rows:
        error = errors.unknown(f"weights at {base_url}:", name, rows)
        raise error
    return rows[name]


def _get_text(url: str) -> str:
    content = b""
    with _get(url, {}) as response:
        for chunk in response.iter_content(2**16):
            content += chunk
            if len(content) > LARGEST_INDEX:
                message = f"{url} is larger than any index of weights."
                raise errors.InputError(message)
    try:
        return content.decode()
    except ValueError as error:
        message = f"{url} is not an index of weights: {error}."
        raise errors.InputError(message) from error


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    """Send one request; certificates are always verified."""
    import requests

    response = requests.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    hops = [*response.history, response]
    if url.startswith("https:") and not all(
        hop.url.startswith("https:") for hop in hops
    ):
        response.close()
        message = f"{url} leads away from https to {response.url}; not followed."
        raise errors.InputError(message)
    if response.status_code not in (200, 206, 416):
        response.close()
        response.raise_for_status()
        message = f"{url} answered {response.status_code} instead of a file."
        raise errors.InputError(message)
    return response


def _retrying(url: str, attempt: Callable[[], Result]) -> Result:
    """Return what `attempt` returns, giving a failing network a few more chances."""
    import requests

    pauses = iter(PAUSES)
    while True:
        try:
            return attempt()
        except requests.RequestException as error:
            pause = next(pauses, None)
            if pause is None or not _may_pass(error):
                raise _explained(url, error, tries=len(PAUSES) + 1) from error
        time.sleep(pause)


def _may_pass(error: requests.RequestException) -> bool:
    import requests

    if error.response is not None:
        status = error.response.status_code
        return status >= 500 or status in (408, 429)
    lasting = (requests.exceptions.SSLError, requests.exceptions.InvalidURL)
    passing = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    )
    return isinstance(error, passing) and not isinstance(error, lasting)


def _explained(
    url: str, error: requests.RequestException, tries: int
) -> errors.InputError:
    import requests

    status = None if error.response is None else error.response.status_code
    if status in (401, 403):
        message = f"{url} refused access ({status}). Check the address and your rights."
    elif status == 404:
        message = f"{url} does not exist there (404). Check the address."
    elif status is not None:
        message = f"{url} answered with HTTP {status} ({tries} tries). Try again later."
    elif isinstance(error, requests.exceptions.SSLError):
        message = f"{url}: the server's certificate could not be verified: {error}."
    elif isinstance(error, requests.Timeout):
        message = f"{url} did not answer in time ({tries} tries): {error}."
    elif _may_pass(error):
        message = (
            f"{url} could not be fetched ({tries} tries): {error}. Check the network; "
            "what has arrived is kept, and the next call goes on from there."
        )
    else:
        message = f"{url} cannot be fetched: {error}."
    return errors.InputError(message)


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


def _make_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        message = (
            f"The cache folder {folder} cannot be written to. Give another as `cache` "
            "or UNET_ZOO_CACHE."
        )
        raise errors.InputError(message)


def _is_whole(path: Path, row: _entries.Listing) -> bool:
    return (
        path.exists()
        and path.stat().st_size == row.bytes
        and files.sha256(path) == row.sha256
    )
