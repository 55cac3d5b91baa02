"""The one line that a file which cannot be read gets."""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from unet_zoo.errors import InputError


def unreadable(path: Path, reason: str) -> InputError:
    """Return the error that names the file and what is wrong with it."""
    return InputError(f"Cannot read {path}: {_line(reason)}")


def damaged(path: Path, error: BaseException | str) -> InputError:
    """Return the error for a file that a decoder gave up on."""
    why = error if isinstance(error, str) else reason(error)
    return unreadable(path, f"it is damaged or truncated ({_line(why)})")


def missing(path: Path) -> InputError:
    """Return the error for a file that is not there, near matches named."""
    try:
        names = os.listdir(path.parent)
    except OSError:
        return InputError(f"{path} does not exist, nor does the folder {path.parent}")
    near = difflib.get_close_matches(path.name, names)
    hint = " or ".join(str(path.with_name(name)) for name in near)
    if hint:
        return InputError(f"{path} does not exist. Did you mean {hint}?")
    return InputError(f"{path} does not exist")


def reason(error: BaseException) -> str:
    """Return what an exception says, for people."""
    if isinstance(error, MemoryError):
        return "decoding it needs more memory than there is"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__


def _line(text: str) -> str:
    """Return one line: decoders quote what they found, of any length."""
    text = " ".join(text.split())
    return text if len(text) <= 600 else text[:597] + "..."
