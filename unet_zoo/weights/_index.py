"""The index of a folder of weights that any web server can offer."""

from __future__ import annotations

import json
import os
from pathlib import Path

from unet_zoo import errors, files
from unet_zoo.weights import _entries, _file, _listing
from unet_zoo.weights._listing import Listing

NAME = "index.json"


def index(folder: str | os.PathLike[str]) -> Path:
    """Write `folder`/index.json so that any web server can offer what lies there.

    Lists every subfolder with an `entry.toml` and its weights file, and every `*.h5`
    file directly in `folder` under its stem. The index maps each name to `file`
    (relative to the folder), `bytes`, `sha256` and `summary`. Entries whose weights
    are not there are left out; a file that is not what its entry says is refused.
    """
    folder = Path(folder)
    rows: dict[str, Listing] = {}
    for path in sorted(folder.glob("[!.]*/entry.toml")):
        found = _entries.read(path.parent)
        if found.path.exists():
            _listing.check(found.path, found)
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
        rows[path.stem] = _listing.listing(path.stem, row, str(path))
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
    target = folder / NAME
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
    return {name: _listing.listing(name, row, where) for name, row in rows.items()}
