"""Plain values as TOML, so that people can read and compare what stands in a file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from unet_zoo import errors


def to_toml(table: Mapping[str, Any], header: str = "") -> str:
    """Return plain values as TOML; tables come last, as TOML wants. None is left out.

    Below a header, a table that holds no table stands on one line.

    Raises:
        InputError: for what is not plain or not finite.

    >>> print(to_toml({"steps": 3, "optimizer": {"name": "sgd"}, "scale": None}))
    steps = 3
    <BLANKLINE>
    [optimizer]
    name = "sgd"
    <BLANKLINE>
    """
    lines, text = [], ""
    for key, value in table.items():
        if value is None:
            continue
        if not isinstance(value, Mapping):
            lines.append(f"{_key(key)} = {_value(value)}")
        elif header and not any(isinstance(each, Mapping) for each in value.values()):
            lines.append(f"{_key(key)} = {_inline(value)}")
        else:
            inner = f"{header}.{_key(key)}".lstrip(".")
            below = to_toml(value, inner)
            # A header of headers alone says nothing.
            text += below if below.startswith("\n[") else f"\n[{inner}]\n{below}"
    return "".join(f"{line}\n" for line in lines) + text


def _inline(table: Mapping[str, Any]) -> str:
    pairs = (f"{_key(key)} = {_value(value)}" for key, value in table.items())
    return f"{{ {', '.join(pairs)} }}" if table else "{}"


def _value(value: Any) -> str:
    if not isinstance(value, str | int | float | list | tuple):
        message = f"TOML holds plain values only, got {value!r}."
        raise errors.InputError(message)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    # JSON's texts, numbers and truth values are TOML's, but for NaN, which is
    # refused, and the control character that only TOML wants escaped.
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        message = f"TOML is to hold finite numbers only, got {value!r}."
        raise errors.InputError(message) from error
    return text.replace("\x7f", "\\u007f")


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key)
