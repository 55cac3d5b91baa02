"""Zoo entries: which weights there are, as folders and as the index of a server."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import errors, files
from unet_zoo.weights import _file

FOLDER = Path(__file__).parent.parent / "zoo"
# No separators, no leading dot: a name becomes part of paths and of addresses.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclasses.dataclass(frozen=True)
class Listing:
    """One row of an index: where a weights file lies and how to know it again."""

    name: str
    file: str
    sha256: str
    bytes: int
    summary: str


@dataclasses.dataclass(frozen=True)
class Entry(Listing):
    """The facts of one zoo entry, as `entry.toml` holds them."""

    model: str
    dataset: str
    licence: str
    citation: str
    metrics: Mapping[str, Any]
    urls: tuple[str, ...]
    folder: Path

    @property
    def path(self) -> Path:
        """Where the weights lie when they were shipped with the package."""
        return self.folder / self.file


def names() -> list[str]:
    """Return the names of the zoo entries: the folders that hold an `entry.toml`.

    >>> import unet_zoo.weights
    >>> all(unet_zoo.weights.entry(name).sha256 for name in unet_zoo.weights.names())
    True
    """
    return sorted(path.parent.name for path in FOLDER.glob("*/entry.toml"))


def entry(name: str) -> Entry:
    """Return the facts of one zoo entry.

    Raises `InputError` for a name that is not in the zoo, near matches named.
    """
    if name not in names():
        error = errors.unknown("weights", name, names())
        raise error
    return _read_entry(FOLDER / name)


def write_entry(
    folder: str | os.PathLike[str],
    *,
    summary: str | None = None,
    dataset: str | None = None,
    licence: str | None = None,
    citation: str | None = None,
    metrics: Mapping[str, Any] | None = None,
    urls: Sequence[str] = (),
    file: str = "weights.h5",
) -> Path:
    """Write `folder`/entry.toml for the weights file in `folder` and return its path.

    The name of the entry is the name of the folder; size and SHA-256 are those of the
    file; what is not given is taken from the facts in the file, under the same key
    (`dataset` may be an object with a `name` there). `urls` say where else the file
    can be fetched from, the first one first.
    """
    folder = Path(folder)
    facts = _file.read_facts(folder / file)
    if dataset is None:
        found = facts.get("dataset")
        dataset = found.get("name") if isinstance(found, dict) else found
    content = {
        "name": folder.resolve().name,
        "model": facts["model"],
        "dataset": dataset,
        "summary": facts.get("summary") if summary is None else summary,
        "file": file,
        "sha256": files.sha256(folder / file),
        "bytes": (folder / file).stat().st_size,
        "licence": facts.get("licence") if licence is None else licence,
        "citation": facts.get("citation") if citation is None else citation,
        "urls": list(urls),
        "metrics": facts.get("metrics", {}) if metrics is None else dict(metrics),
    }
    missing = [key for key, value in content.items() if value is None]
    if missing:
        message = f"{folder / file} has no {', '.join(missing)} in its facts; give it."
        raise errors.InputError(message)
    target = folder / "entry.toml"
    _entry_of(content, folder)
    with files.replacing(target) as part:
        part.write_text(_toml(content), encoding="utf-8")
    return target


def index(folder: str | os.PathLike[str]) -> Path:
    """Write `folder`/index.json so that any web server can offer what lies there.

    Lists every subfolder with an `entry.toml` and its weights file, and every `*.h5`
    file directly in `folder` under its stem. The index maps each name to `file`
    (relative to the folder), `bytes`, `sha256` and `summary`. Entries whose weights
    are not there are left out; a file that is not what its entry says is refused.
    """
    folder = Path(folder)
    rows: dict[str, Listing] = {}
    for path in sorted(folder.glob("*/entry.toml")):
        found = _read_entry(path.parent)
        if found.path.exists():
            check(found.path, found)
            rows[found.name] = Listing(
                name=found.name,
                file=f"{found.name}/{found.file}",
                sha256=found.sha256,
                bytes=found.bytes,
                summary=found.summary,
            )
    for path in sorted(folder.glob("[!.]*.h5")):
        if path.stem in rows:
            message = f"{folder} holds {path.stem!r} twice: as an entry and as {path}."
            raise errors.InputError(message)
        summary = _file.read_facts(path).get("summary", "")
        row = {
            "file": path.name,
            "sha256": files.sha256(path),
            "bytes": path.stat().st_size,
            "summary": summary if isinstance(summary, str) else "",
        }
        rows[path.stem] = _listing(path.stem, row, str(path))
    if not rows:
        message = f"{folder} holds no weights: neither entries nor *.h5 files."
        raise errors.InputError(message)
    content = {
        name: {
            "file": row.file,
            "bytes": row.bytes,
            "sha256": row.sha256,
            "summary": row.summary,
        }
        for name, row in sorted(rows.items())
    }
    target = folder / "index.json"
    with files.replacing(target) as part:
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        part.write_text(text, encoding="utf-8")
    return target


def parse_index(text: str, where: str) -> dict[str, Listing]:
    """Return the rows of an index, each checked: an index comes from elsewhere."""
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{where} is not an index of weights: {error}."
        raise errors.InputError(message) from error
    if not isinstance(rows, dict):
        message = f"{where} is not an index of weights: expected a JSON object."
        raise errors.InputError(message)
    return {name: _listing(name, row, where) for name, row in rows.items()}


def check(path: Path, row: Listing) -> None:
    """Refuse a file that is not the one `row` describes."""
    size = path.stat().st_size
    if size != row.bytes:
        got, expected = f"{size} bytes", f"{row.bytes} bytes"
    else:
        got, expected = f"sha256 {files.sha256(path)}", f"sha256 {row.sha256}"
    if got != expected:
        message = (
            f"{path} is not the file of {row.name!r}: expected {expected}, got {got}. "
            "It is damaged or was replaced; it has not been used. Delete it, or "
            "reinstall unet-zoo if it came with it."
        )
        raise errors.InputError(message)


def _read_entry(folder: Path) -> Entry:
    path = folder / "entry.toml"
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        message = f"{path} is not TOML: {error}."
        raise errors.InputError(message) from error
    return _entry_of(content, folder)


_KINDS: dict[str, type] = {
    "name": str,
    "model": str,
    "dataset": str,
    "summary": str,
    "file": str,
    "sha256": str,
    "bytes": int,
    "licence": str,
    "citation": str,
    "urls": list,
    "metrics": dict,
}


def _entry_of(content: Mapping[str, Any], folder: Path) -> Entry:
    """Return the entry of a checked `entry.toml`."""
    where = str(folder / "entry.toml")
    _check_kinds(content, _KINDS, where)
    _listing(content["name"], content, where)
    if content["name"] != folder.resolve().name:
        message = f"{where} is of {content['name']!r}, but lies in {folder.name!r}."
        raise errors.InputError(message)
    if "/" in content["file"]:
        message = f"{where}: `file` must lie beside it, got {content['file']!r}."
        raise errors.InputError(message)
    for url in content["urls"]:
        if not isinstance(url, str) or not url.startswith(("https://", "http://")):
            message = f"{where}: `urls` must be http(s) addresses, got {url!r}."
            raise errors.InputError(message)
    return Entry(**{**content, "urls": tuple(content["urls"])}, folder=folder)


def _listing(name: str, row: Any, where: str) -> Listing:
    kinds = {key: _KINDS[key] for key in ("file", "sha256", "bytes", "summary")}
    where = f"{where}, {name!r}"
    if not isinstance(row, Mapping):
        message = f"{where}: expected an object, got {row!r}."
        raise errors.InputError(message)
    row = {key: row[key] for key in kinds if key in row}
    _check_kinds(row, kinds, where)
    parts = [name, *row["file"].split("/")]
    if not all(NAME.fullmatch(part) for part in parts):
        message = (
            f"{where}: names and `file` may hold letters, digits, '.', '_' and '-' "
            f"only, got {row['file']!r}."
        )
        raise errors.InputError(message)
    if not re.fullmatch("[0-9a-f]{64}", row["sha256"]) or row["bytes"] <= 0:
        message = (
            f"{where}: `sha256` must be 64 hexadecimal digits and `bytes` positive, "
            f"got {row['sha256']!r} and {row['bytes']}."
        )
        raise errors.InputError(message)
    return Listing(name, **row)


def _check_kinds(
    content: Mapping[str, Any], kinds: Mapping[str, type], where: str
) -> None:
    for key, kind in kinds.items():
        if key not in content:
            message = f"{where} lacks `{key}`."
            raise errors.InputError(message)
        if type(content[key]) is not kind:
            message = (
                f"{where}: `{key}` must be of type {kind.__name__}, "
                f"got {content[key]!r}."
            )
            raise errors.InputError(message)
    strange = content.keys() - kinds.keys()
    if strange:
        error = errors.unknown(f"key in {where}:", min(strange), kinds)
        raise error


def _toml(table: Mapping[str, Any], header: str = "") -> str:
    """Return plain values as TOML; the tables among them come last, as TOML wants."""
    lines = []
    tables = {key: value for key, value in table.items() if isinstance(value, Mapping)}
    for key, value in table.items():
        if key not in tables:
            lines.append(f"{_toml_key(key)} = {_toml_value(value)}")
    text = "\n".join(lines) + "\n"
    for key, value in tables.items():
        inner = f"{header}.{_toml_key(key)}".lstrip(".")
        text += f"\n[{inner}]\n{_toml(value, inner)}"
    return text


def _toml_value(value: Any) -> str:
    if not isinstance(value, str | int | float | list):
        message = f"An entry holds plain values only, got {value!r}."
        raise errors.InputError(message)
    if isinstance(value, list):
        return "[" + ", ".join(_toml_value(item) for item in value) + "]"
    # JSON's texts, numbers and truth values are TOML's, but for NaN, which is
    # refused, and the control character that only TOML wants escaped.
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except ValueError as error:
        message = f"An entry holds finite numbers only, got {value!r}."
        raise errors.InputError(message) from error
    return text.replace("\x7f", "\\u007f")


def _toml_key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _toml_value(key)
