"""Fetching files from plain web servers: verified, continued, never half."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from unet_zoo import errors, files
from unet_zoo.weights._listing import Listing, is_whole

if TYPE_CHECKING:
    import requests

Progress = Callable[[int, int], None]
Result = TypeVar("Result")

TIMEOUT = (10.0, 30.0)  # seconds to connect, and between two pieces of an answer
PAUSES = (0.5, 1.0, 2.0, 4.0)  # seconds before each further attempt
LARGEST_TEXT = 4 * 2**20
LARGEST_FILE = 4 * 2**30  # of weights whose size nothing but the server says
HUB = "https://huggingface.co"


def download(
    url: str, path: Path, row: Listing, progress: Progress | None = None
) -> Path:
    """Fetch `url` to `path`: part file beside it, verified, and only then moved.

    What an earlier attempt left is continued. One process at a time works on `path`;
    the others wait and find the whole file.
    """
    import filelock

    make_writable(path.parent)
    part = path.with_name(f".{path.name}.part")
    with filelock.FileLock(path.with_name(f".{path.name}.lock")):
        if is_whole(path, row):
            return path
        resumed = part.exists()
        _retrying(url, lambda: _append(url, part, row, progress))
        if resumed and not is_whole(part, row):
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


def _append(url: str, part: Path, row: Listing, progress: Progress | None) -> None:
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


def _wrong_length(url: str, got: int | str, row: Listing) -> errors.InputError:
    message = (
        f"{url} has the wrong length for {row.name!r}: expected {row.bytes} bytes, "
        f"got {got}. The file there was replaced, or it is an error page."
    )
    return errors.InputError(message)


def get_text(url: str) -> str:
    """Return a small text file, such as an index."""
    return _retrying(url, lambda: _get_text(url))


def length_of(url: str) -> int:
    """Return how many bytes a server says a file has; an absurd size is refused."""

    def ask() -> str:
        with _get(url, {"Accept-Encoding": "identity"}) as response:
            return str(response.headers.get("Content-Length", ""))

    said = _retrying(url, ask)
    if not said.isdecimal() or not 0 < int(said) <= LARGEST_FILE:
        message = (
            f"{url} must say a length of 1 to {LARGEST_FILE} bytes, as weights have. "
            f"It says {said or 'none'}."
        )
        raise errors.InputError(message)
    return int(said)


def hub() -> str:
    """Return the address of the Hugging Face hub, or of what stands in for it."""
    return (os.environ.get("HF_ENDPOINT") or HUB).rstrip("/")


def _get_text(url: str) -> str:
    content = b""
    with _get(url, {}) as response:
        for chunk in response.iter_content(2**16):
            content += chunk
            if len(content) > LARGEST_TEXT:
                message = f"{url} is larger than any list of weights."
                raise errors.InputError(message)
    try:
        return content.decode()
    except ValueError as error:
        message = f"{url} is not text: {error}."
        raise errors.InputError(message) from error


def _get(url: str, headers: dict[str, str]) -> requests.Response:
    """Send one request; certificates are always verified."""
    import requests

    token = os.environ.get("HF_TOKEN")
    if token and url.startswith(f"{hub()}/") and url.startswith("https:"):
        # For private repositories; requests leaves it out where the hub redirects to.
        headers = {**headers, "Authorization": f"Bearer {token}"}
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


def make_writable(folder: Path) -> None:
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
