"""How much memory there is, and how much was given."""

from __future__ import annotations

import re
from pathlib import Path

from unet_zoo.errors import InputError

_SHARE = 0.5  # of the free memory; the rest is for the network and everybody else
_CONTROL = Path("/sys/fs/cgroup")
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def as_bytes(amount: int | str) -> int:
    """Return an amount of memory in bytes; "2GB", "500 MB" and "1GiB" are understood.

    >>> as_bytes("1.5GB"), as_bytes("1 KiB"), as_bytes(7)
    (1500000000, 1024, 7)
    """
    found = re.fullmatch(
        r"\s*(\d+(?:\.\d*)?)\s*([kmgt]?)(i?)b?\s*", str(amount), flags=re.I
    )
    if isinstance(amount, bool) or not found or (found[3] and not found[2]):
        message = (
            "An amount of memory is a number of bytes, or a text such as '2GB' or "
            f"'500MB'. Received: {amount!r}"
        )
        raise InputError(message)
    unit = _UNITS[found[2].lower()]
    if found[3]:
        unit = 1024 ** list(_UNITS).index(found[2].lower())
    return int(float(found[1]) * unit)


def default_memory() -> int:
    """Return half of the memory that is free now, in bytes.

    Within a container with a limit of its own (cgroup v2), what that leaves counts.
    """
    import psutil

    free = int(psutil.virtual_memory().available)
    try:
        limit = int((_CONTROL / "memory.max").read_text())
        used = int((_CONTROL / "memory.current").read_text())
        facts = (_CONTROL / "memory.stat").read_text()
    except (OSError, ValueError):  # no such limit: "max", or no such file
        return int(_SHARE * free)
    # Cached files are counted as used, and given up when memory is needed.
    cached = re.search(r"^inactive_file (\d+)$", facts, flags=re.M)
    left = limit - used + (int(cached[1]) if cached else 0)
    return int(_SHARE * max(0, min(free, left)))
