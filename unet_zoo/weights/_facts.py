"""The facts in a weights file: JSON with everything needed to rebuild and run it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, NoReturn

from unet_zoo import errors

# What a network cannot be rebuilt and run without; the rest is the writer's.
REQUIRED: dict[str, type] = {
    "model": str,
    "model_arguments": dict,
    "channels": int,
    "target": str,
    "target_arguments": dict,
    "normalization": str,
    "scale": float,
    "tta": int,
}


def encode(facts: Mapping[str, Any], model: str) -> str:
    """Return the text of `facts`, which must be of `model`; equal facts, equal text."""
    try:
        text = json.dumps(
            facts, allow_nan=False, ensure_ascii=False, sort_keys=True, indent=1
        )
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        message = f"`facts` must be plain JSON values: {error}."
        raise errors.InputError(message) from error
    checked = _check(json.loads(text), "`facts`")
    if checked["model"] != model:
        message = (
            f"`facts` are of the model {checked['model']!r}, "
            f"but the network is {model!r}."
        )
        raise errors.InputError(message)
    return text


def decode(text: str, where: str) -> dict[str, Any]:
    """Return the facts in `text`, checked."""
    try:
        facts = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        message = f"{where} are not JSON: {error}."
        raise errors.InputError(message) from error
    return _check(facts, where)


def _check(facts: Any, where: str) -> dict[str, Any]:
    if not isinstance(facts, dict):
        message = f"{where} must be a JSON object, got {type(facts).__name__}."
        raise errors.InputError(message)
    missing = [key for key in REQUIRED if key not in facts]
    if missing:
        message = f"{where} lack {', '.join(missing)}."
        raise errors.InputError(message)
    for key, kind in REQUIRED.items():
        kinds = (int, float) if kind is float else (kind,)
        if type(facts[key]) not in kinds:
            message = (
                f"{where}: {key!r} must be of type {kind.__name__}, got {facts[key]!r}."
            )
            raise errors.InputError(message)
    return facts


def _refuse_constant(word: str) -> NoReturn:
    message = f"{word} is not a JSON value"
    raise ValueError(message)
