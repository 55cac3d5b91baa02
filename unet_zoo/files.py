"""Writing so that nobody finds half a file and nothing is overwritten."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path

from unet_zoo.errors import InputError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a path beside `path` to write to; move it into place on success.

    The temporary name keeps the suffix, since writers choose their format by it.
    If the body raises, the temporary file is removed and `path` is untouched.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.txt"
    >>> with replacing(target) as part:
    ...     _ = part.write_text("whole")
    >>> target.read_text()
    'whole'
    """
    path = Path(path)
    part = path.with_name(f".{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        yield part
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: str | os.PathLike[str]) -> None:
    """Remove what a process left in `folder` that was killed within `replacing`.

    Folders of `replacing_folder` as well.

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> (folder / ".a.0123abcd.part.txt").touch()
    >>> (folder / ".a.zarr.0123abcd.part").mkdir()
    >>> sweep(folder)
    >>> list(folder.iterdir())
    []
    """
    folder = Path(folder)
    if folder.is_dir():
        for path in folder.rglob(".*.part*"):
            if re.fullmatch(r"\..+\.[0-9a-f]{8}\.part(\.\w+)?", path.name):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)


def check_folder(path: str | os.PathLike[str]) -> None:
    """Refuse an output folder that is a file; one that is not there yet will do."""
    path = Path(path)
    if path.exists() and not path.is_dir():
        message = f"The output folder {path} is a file. Choose another name."
        raise InputError(message)


def check_unused(
    folder: str | os.PathLike[str], way_out: str = "{free} is free."
) -> None:
    """Refuse an output folder that is a file or holds anything, and name a free one."""
    folder = Path(folder)
    check_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        number = 2
        while (free := folder.with_name(f"{folder.name}-{number}")).exists():
            number += 1
        message = f"The output folder {folder} is not empty. "
        message += way_out.format(free=free)
        raise InputError(message)


@contextlib.contextmanager
def beginning(folder: Path, names: Collection[str]) -> Iterator[None]:
    """Leave no trace where an InputError ends what has only begun in `folder`.

    What is refused then can be put right and given again, without a folder in its way.

    Args:
        folder: made here if it is not there.
        names: files that say what was begun; with anything else there, all stay.
    """
    made = not folder.exists()
    folder.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except InputError:
        if {each.name for each in folder.iterdir()} <= set(names):
            for name in names:
                (folder / name).unlink(missing_ok=True)
            if made:
                folder.rmdir()
        raise


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a folder beside `folder` to write into; move it into place on success.

    If the body raises, the temporary folder is removed and `folder` is as it was. One
    that holds anything is refused.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "new"
    >>> with whole_folder(target) as part:
    ...     _ = (part / "a.txt").write_text("whole")
    >>> [file.name for file in target.iterdir()]
    ['a.txt']
    """
    check_unused(folder)
    made = [each for each in folder.parents if not each.exists()]
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.is_dir():  # and empty
            folder.rmdir()
        part.rename(folder)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        for parent in made:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def replacing_folder(folder: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a folder beside `folder` to write into; on success it takes its place.

    What was there goes away only once the new one is whole, and stays if the body
    raises.

    >>> import tempfile
    >>> target = Path(tempfile.mkdtemp()) / "a.zarr"
    >>> for text in ("old", "new"):
    ...     with replacing_folder(target) as part:
    ...         _ = (part / f"{text}.txt").write_text(text)
    >>> [file.name for file in target.iterdir()]
    ['new.txt']
    """
    folder = Path(folder)
    part = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    old = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.part")
    try:
        part.mkdir(parents=True)
        yield part
        if folder.exists():
            folder.rename(old)
        part.rename(folder)
    finally:
        if old.exists() and not folder.exists():
            old.rename(folder)
        for each in (part, old):
            shutil.rmtree(each, ignore_errors=True)


def sha256(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "empty"
    >>> path.touch()
    >>> sha256(path)[:16]
    'e3b0c44298fc1c14'
    """
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
