"""The whole state of a training in one file, so that it goes on as if never stopped."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import files
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    import keras

VERSION = 1
_FACTS = "facts"


def write(
    path: str | os.PathLike[str],
    variables: Sequence[keras.Variable],
    facts: Mapping[str, Any],
) -> None:
    """Write `variables`, in their order, and `facts`, plain JSON values.

    The file is a NumPy archive (.npz) of one array per variable. It appears whole or
    not at all: until the new one is complete, the one before stays.

    Raises:
        InputError: when the disk is full or the folder read-only: the checkpoint
            before is whole, if there was one.

    >>> import keras, tempfile
    >>> path = Path(tempfile.mkdtemp()) / "checkpoint.npz"
    >>> write(path, [keras.Variable([1.0, 2.0], name="a")], {"step": 7})
    >>> again = keras.Variable([0.0, 0.0], name="a")
    >>> read_facts(path), assign([again], path)
    ({'step': 7}, None)
    >>> again.numpy().tolist()
    [1.0, 2.0]
    """
    import numpy as np

    written = {"version": VERSION, "paths": [_name(v) for v in variables], **facts}
    arrays = {f"{n:05d}": np.array(v.numpy()) for n, v in enumerate(variables)}
    text = json.dumps(written, allow_nan=False).encode()
    arrays[_FACTS] = np.frombuffer(text, np.uint8)
    # In memory first, so that the disk sees one write and one rename.
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]
    path = Path(path)
    try:
        with files.replacing(path) as part:
            part.write_bytes(content.getbuffer())
    except OSError as error:
        kept = "the one before it is whole" if path.exists() else "there is none yet"
        message = (
            f"The checkpoint {path} could not be written: {error.strerror}; {kept}. "
            "Make room there, then go on with `resume`."
        )
        raise InputError(message) from error


def _name(variable: keras.Variable) -> str:
    """Return the path without the numbers that Keras counts up in a process."""
    return re.sub(r"_\d+(?=/)", "", variable.path)


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return what `write` was given as `facts`.

    Raises:
        InputError: for a file that is not a checkpoint, damaged or of a newer format.
    """
    facts = _read(Path(path), [_FACTS])[0]
    return {key: facts[key] for key in facts if key not in ("version", "paths")}


def assign(variables: Sequence[keras.Variable], path: str | os.PathLike[str]) -> None:
    """Give `variables` the values that the checkpoint holds.

    Everything is read and compared first: if the file is damaged, or is of variables
    with other names or shapes, `InputError` says which and nothing is assigned.
    """
    path = Path(path)
    facts, arrays = _read(path, None)
    ours = [_name(variable) for variable in variables]
    if facts["paths"] != ours:
        pairs = zip(ours, facts["paths"], strict=False)
        differing = [
            f"{one} here, {other} there" for one, other in pairs if one != other
        ]
        differing.append(f"{len(ours)} variables here, {len(facts['paths'])} there")
        message = (
            f"{path} is the checkpoint of another network or optimizer: {differing[0]}."
        )
        raise InputError(message)
    values = [arrays[f"{n:05d}"] for n in range(len(ours))]
    for variable, value in zip(variables, values, strict=True):
        if tuple(variable.shape) != value.shape:
            message = (
                f"{path} is the checkpoint of another network: {variable.path} has the "
                f"shape {tuple(variable.shape)} here and {value.shape} there."
            )
            raise InputError(message)
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def check_same(
    folder: str | os.PathLike[str], there: Mapping[str, Any], here: Mapping[str, Any]
) -> None:
    """Refuse to go on with another recipe or dataset, and show what differs.

    Args:
        folder: of the training, for the message.
        there: nested dictionaries of plain values, of the checkpoint.
        here: the same of the training that should go on.

    >>> check_same("run", {"recipe": {"steps": 5}}, {"recipe": {"steps": 6}})
    Traceback (most recent call last):
    unet_zoo.errors.InputError: run holds another training, which cannot be resumed \
as this one: recipe.steps is 6 here and was 5.
    """

    def flat(values: Mapping[str, Any], head: str = "") -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in values.items():
            name = f"{head}{key}"
            nested = isinstance(value, dict)
            found |= flat(value, f"{name}.") if nested else {name: value}
        return found

    # As JSON has it: in a checkpoint, a tuple is a list.
    old, new = (flat(json.loads(json.dumps(each))) for each in (there, here))
    differing = [
        f"{key} is {new.get(key)!r} here and was {old.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]
    if differing:
        message = (
            f"{folder} holds another training, which cannot be resumed as this one: "
            f"{'; '.join(differing)}."
        )
        raise InputError(message)


def _read(path: Path, names: list[str] | None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return facts and arrays; the archive's own checksums are verified by reading."""
    import numpy as np

    try:
        # Opened here: of a damaged file, NumPy would leave it open.
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in names or archive.files}
        facts = json.loads(arrays.pop(_FACTS).tobytes())
    except FileNotFoundError:
        message = f"There is no checkpoint {path}."
        raise InputError(message) from None
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        message = (
            f"{path} is not a checkpoint, or is damaged ({error}). Remove it and start "
            "the training anew, or put back a copy of it."
        )
        raise InputError(message) from error
    if facts.get("version") != VERSION:
        message = (
            f"{path} is of checkpoint format {facts.get('version')}; this version of "
            f"unet-zoo reads format {VERSION}."
        )
        raise InputError(message)
    return facts, arrays
