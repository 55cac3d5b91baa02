"""A CSV file that says which image has which mask."""

from __future__ import annotations

import csv
import difflib
import io
import os
from pathlib import Path

from unet_zoo import images
from unet_zoo.catalog import pairs
from unet_zoo.catalog.masks import Pair
from unet_zoo.catalog.pairs import SPLITS, Survey
from unet_zoo.catalog.problems import Problem

_COLUMNS = "Expected a first line with the columns image and mask, and perhaps split."


def survey(path: Path) -> Survey:
    """Return the pairs that a CSV file names.

    Columns `image` and `mask`, files relative to the CSV's own folder, and where there
    is one `split`: train, validation or test. Other columns are left alone. Cells are
    separated by commas, semicolons or tabs.
    """
    result = Survey(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = (getattr(error, "strerror", None) or "").lower()
        reason = reason or "it is not text in UTF-8; save it as CSV in UTF-8"
        result.problems.append(Problem(path, f"Cannot read {path}: {reason}."))
        return result
    first = text.partition("\n")[0]
    separator = max(",;\t", key=first.count)
    reader = csv.DictReader(io.StringIO(text), delimiter=separator)
    try:
        heads = {head.strip().lower(): head for head in reader.fieldnames or () if head}
        rows = [(reader.line_num, row) for row in reader]
    except csv.Error as error:  # a cell that never ends
        what = f"Cannot read {path} from line {reader.line_num + 1} on: {error}."
        result.problems.append(Problem(path, what, "Look for a quote too many."))
        return result
    for column in ("image", "mask"):
        if column not in heads:
            near = difflib.get_close_matches(column, heads)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            what = (
                f"{path} has no column {column!r}; its columns are"
                f" {', '.join(heads) or 'none'}.{hint}"
            )
            result.problems.append(Problem(path, what, _COLUMNS))
    if result.problems:
        return result
    names: dict[str, int] = {}
    for line, row in rows:
        cells = {key: (row.get(head) or "").strip() for key, head in heads.items()}
        if not any(cells.values()):
            continue
        split = _split(cells.get("split", ""))
        pair = _pair(path, line, cells, result)
        if split is None:
            what = f"Line {line} of {path} has the split {cells['split']!r}."
            way_out = "Splits are train, validation and test."
            result.problems.append(Problem(path, what, way_out))
        elif pair is not None and pair.name in names:
            what = (
                f"Line {line} of {path} names the image {cells['image']} again, as line"
                f" {names[pair.name]} did."
            )
            result.problems.append(Problem(pair.image, what, "Take one line out."))
        elif pair is not None:
            names[pair.name] = line
            result.pairs.setdefault(split, []).append(pair)
    if not result.pairs and not result.problems:
        result.problems.append(Problem(path, f"{path} names no pairs.", _COLUMNS))
    return result


def _split(word: str) -> str | None:
    """Return the split that a word means, "train" for none."""
    if not word:
        return "train"
    return next((name for name, words in SPLITS.items() if word.lower() in words), None)


def _pair(path: Path, line: int, cells: dict[str, str], result: Survey) -> Pair | None:
    files = {}
    for column in ("image", "mask"):
        if not cells[column]:
            what = f"Line {line} of {path} has no {column}."
            way_out = "Fill it in, or take the line out."
            result.problems.append(Problem(path, what, way_out))
            return None
        # As another system may have written it.
        name = cells[column].replace("\\", "/")
        file = files[column] = path.parent / Path(name).expanduser()
        # Unlike Path.is_file, false for what cannot be the name of a file.
        if not os.path.isfile(file):
            what = (
                f"Line {line} of {path} names the {column} {file}, which is not there."
            )
            way_out = f"Files are looked for from {path.parent}."
            result.problems.append(Problem(file, what, way_out))
            return None
        if file.name.endswith("_seg.npy"):
            what = f"Line {line} of {path} names the {column} {file}."
            result.problems.append(Problem(file, what, pairs.seg_npy(file)))
            return None
    # Two folders may have an image of the same name: the name has its folder.
    place = Path(cells["image"].replace("\\", "/"))
    name = place.with_name(images.stem(place)).as_posix()
    return pairs.pair_of(name, files["image"], files["mask"])
