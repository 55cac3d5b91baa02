"""Zoo entries: which weights there are, and what is known of each."""

from __future__ import annotations

import dataclasses
import functools
import os
import re
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import errors, files
from unet_zoo.toml import to_toml
from unet_zoo.weights import _comparison, _file, _listing
from unet_zoo.weights._comparison import Comparison
from unet_zoo.weights._listing import Listing

FOLDER = Path(__file__).parent.parent / "zoo"
NAME = "entry.toml"
RENAMED = "renamed.toml"
ADDRESS = re.compile(r"https?://\S+|hf://[\w.-]+/[\w.-]+(@[\w./-]+)?")


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What was measured, on what and with which weights: enough to do it again.

    Attributes:
        title: what it says in the card; of an entry, each once.
        dataset: its name in the catalog, with `config` ("": none) and `version`.
        split: of the dataset.
        tta: turned copies that were averaged (see `Segmenter.segment`).
        metrics: {name: {"value", "objects", "frames"}}.
        interval: "metric", "low", "high", "level", and how it was found: "by" (what
            was drawn anew), "resamples", "seed". Empty: not known.
        file: other weights than the entry's own, beside them, with their `sha256`.
    """

    title: str
    dataset: str
    config: str
    split: str
    tta: int
    metrics: Mapping[str, Mapping[str, Any]]
    version: str = ""
    interval: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    file: str = ""
    sha256: str = ""


@dataclasses.dataclass(frozen=True)
class Entry(Listing):
    """The facts of one zoo entry, as `entry.toml` holds them.

    `metrics` are those of the first of the `evaluations`. `use`, `limits` and
    `conditions` are sentences of the card, `pictures` {file: caption}. `comparison` is
    of backends, engines and precisions; None: not measured yet.
    """

    model: str
    dataset: str
    licence: str
    citation: str
    metrics: Mapping[str, Any]
    urls: tuple[str, ...]
    folder: Path
    evaluations: tuple[Evaluation, ...] = ()
    parameters: int = 0
    dtype: str = ""
    use: str = ""
    limits: str = ""
    conditions: str = ""
    pictures: Mapping[str, str] = dataclasses.field(default_factory=dict)
    comparison: Comparison | None = None

    @property
    def path(self) -> Path:
        """Where the weights lie when they were shipped with the package."""
        return self.folder / self.file


_KINDS: dict[str, type] = {
    "name": str,
    "model": str,
    "dataset": str,
    **_listing.KINDS,
    "licence": str,
    "citation": str,
    "urls": list,
    "metrics": dict,
}
_OPTIONAL: dict[str, type] = {
    "evaluations": dict,
    "parameters": int,
    "dtype": str,
    "use": str,
    "limits": str,
    "conditions": str,
    "pictures": dict,
    "comparison": dict,
}
_EVALUATED: dict[str, type] = {
    "dataset": str,
    "config": str,
    "split": str,
    "tta": int,
    "metrics": dict,
}
_ALSO: dict[str, type] = {"version": str, "interval": dict, "file": str, "sha256": str}


def names(
    *, model: str | None = None, dataset: str | None = None, metric: str | None = None
) -> list[str]:
    """Return the names of the zoo entries: the folders that hold an `entry.toml`.

    Args:
        model: only entries of this architecture.
        dataset: only entries that were trained on this dataset.
        metric: only entries that were measured by this metric, the best one first.

    Raises:
        InputError: for a model, dataset or metric that no entry has, near ones named.

    >>> import unet_zoo.weights
    >>> all(unet_zoo.weights.entry(name).sha256 for name in unet_zoo.weights.names())
    True
    >>> unet_zoo.weights.names(dataset="hela", metric="SEG")[0] in names()
    True
    """
    found = sorted(path.parent.name for path in FOLDER.glob(f"*/{NAME}"))
    wanted = {"model": model, "dataset": dataset}
    if not any(wanted.values()) and metric is None:
        return found
    entries = [entry(name) for name in found]
    for key, word in wanted.items():
        if word is not None:
            there = {getattr(each, key) for each in entries}
            if word not in there:
                raise errors.unknown(kind=f"{key} of weights", word=word, options=there)
            entries = [each for each in entries if getattr(each, key) == word]
    if metric is not None:
        measured = [each for each in entries if metric in each.metrics]
        if not measured:
            there = {name for each in entries for name in each.metrics}
            kind = "metric of these weights"
            raise errors.unknown(kind, metric, there)
        measured.sort(key=lambda each: -float(each.metrics[metric]["value"]))
        entries = measured
    return [each.name for each in entries]


def entry(name: str) -> Entry:
    """Return the facts of one zoo entry; an old name gives a warning, see `current`.

    Raises `InputError` for a name that is not in the zoo, near matches named.
    """
    name = current(name)
    if name not in names():
        error = errors.unknown("weights", name, names())
        raise error
    return read(FOLDER / name)


def check_new(name: str) -> None:
    """Refuse the name of a new entry where `load` would take other weights by it.

    Raises:
        InputError: for the name of an entry of the zoo, one of today or of before, and
            for what no entry may be called.
    """
    _listing.check_name(name, "The name of an entry")
    if name in (*names(), *renamed()):
        message = (
            f"{name!r} is what an entry of unet-zoo itself is called: whoever loads "
            "that name gets its weights, not these. Choose another."
        )
        raise errors.InputError(message)


def renamed() -> dict[str, str]:
    """Return {old name: new name} of entries, from `renamed.toml` beside them."""
    table = FOLDER / RENAMED
    return tomllib.loads(table.read_text(encoding="utf-8")) if table.exists() else {}


def current(name: str) -> str:
    """Return the name that an entry has today; a `FutureWarning` says that it is new.

    The same weights are meant: an entry that is made anew keeps its name.
    """
    new = renamed().get(name)
    if new is None:
        return name
    if new not in names():
        message = f"The weights {name!r} are called {new!r} now, and that is not there."
        raise errors.InputError(message)
    message = f"The weights {name!r} are called {new!r} now; use that name."
    warnings.warn(message, FutureWarning, stacklevel=3)
    return new


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
    name: str | None = None,
    evaluations: Sequence[Evaluation] = (),
    **details: Any,
) -> Path:
    """Write `folder`/entry.toml for the weights file in `folder` and return its path.

    Size and SHA-256 are those of the file; what is not given is taken from the facts in
    the file, under the same key (`dataset` may be an object with a `name` there).

    Args:
        folder: of the entry.
        summary: one sentence: what it is.
        dataset: the name of what it was trained on.
        licence: of the weights.
        citation: what to cite.
        metrics: what was measured.
        urls: where else the file can be fetched from, the first one first: addresses
            of the file, or `hf://owner/name`.
        file: the name of the weights file.
        name: of the entry; None: that of the folder.
        evaluations: what was measured on what; the first one is the entry's own.
        details: further fields of `Entry`.
    """
    folder = Path(folder)
    facts = _file.read_facts(folder / file)
    if dataset is None:
        found = facts.get("dataset")
        dataset = found.get("name") if isinstance(found, dict) else found
    content = {
        "name": name or folder.resolve().name,
        "model": facts["model"],
        "dataset": dataset,
        "summary": facts.get("summary") if summary is None else summary,
        "file": file,
        "sha256": files.sha256(folder / file),
        "bytes": (folder / file).stat().st_size,
        "licence": facts.get("licence") if licence is None else licence,
        "citation": facts.get("citation") if citation is None else citation,
        "urls": list(urls),
        **details,
        "metrics": facts.get("metrics", {}) if metrics is None else dict(metrics),
    }
    if evaluations:
        content["evaluations"] = {each.title: _plain(each) for each in evaluations}
    missing = [key for key, value in content.items() if value is None]
    if missing:
        message = f"{folder / file} has no {', '.join(missing)} in its facts; give it."
        raise errors.InputError(message)
    target = folder / NAME
    _of(content, folder, str(target))
    with files.replacing(target) as part:
        part.write_text(to_toml(content), encoding="utf-8")
    return target


def amend(folder: str | os.PathLike[str], **tables: Mapping[str, Any]) -> Path:
    """Write whole tables into the `entry.toml` of a folder, and return its path.

    Args:
        folder: of an entry.
        tables: `pictures`, or `comparison` (`Comparison.plain()`); each takes the place
            of the one that was there. Everything else stays.
    """
    folder = Path(folder)
    read(folder, moved=True)
    target = folder / NAME
    content = tomllib.loads(target.read_text(encoding="utf-8")) | tables
    _of(content, folder, str(target))
    with files.replacing(target) as part:
        part.write_text(to_toml(content), encoding="utf-8")
    return target


def read(folder: str | os.PathLike[str], *, moved: bool = False) -> Entry:
    """Return the entry in a folder, which is called as the entry is, unless `moved`."""
    folder = Path(folder)
    path = folder / NAME
    if not path.is_file():
        message = f"{folder} is no zoo entry: it holds no {NAME}."
        raise errors.InputError(message)
    found = parse(path.read_text(encoding="utf-8"), str(path), folder)
    if found.name != folder.resolve().name and not moved:
        message = f"{path} is of {found.name!r}, but lies in {folder.name!r}."
        raise errors.InputError(message)
    return found


def check_entry(entry: Entry) -> None:
    """Refuse an entry whose weights are not there or not what it says."""
    if not entry.path.exists():
        message = f"{entry.path} is not there: the entry {entry.name!r} has no weights."
        raise errors.InputError(message)
    _listing.check(entry.path, entry)


def parse(text: str, where: str, folder: Path) -> Entry:
    """Return the entry of the text of an `entry.toml`, checked."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        message = f"{where} is not TOML: {error}."
        raise errors.InputError(message) from error
    return _of(content, folder, where)


def _of(content: Mapping[str, Any], folder: Path, where: str) -> Entry:
    _listing.check_kinds(content, _KINDS, where, _OPTIONAL)
    _listing.listing(content["name"], content, where)
    for name in (content["file"], *content.get("pictures", {})):
        _check_beside(name, where)
    for url in content["urls"]:
        if not isinstance(url, str) or not ADDRESS.fullmatch(url):
            message = (
                f"{where}: `urls` must be http(s) addresses or hf://owner/name, "
                f"got {url!r}."
            )
            raise errors.InputError(message)
    evaluation = functools.partial(_evaluation, where=where)
    evaluated = tuple(
        evaluation(title, each)
        for title, each in content.get("evaluations", {}).items()
    )
    told = {**content, "urls": tuple(content["urls"]), "evaluations": evaluated}
    if "comparison" in content:
        told["comparison"] = _comparison.parse(content["comparison"], where)
    return Entry(**told, folder=folder)


def _evaluation(title: str, content: Any, where: str) -> Evaluation:
    where = f"{where}, {title!r}"
    if not isinstance(content, Mapping):
        message = f"{where}: expected a table, got {content!r}."
        raise errors.InputError(message)
    _listing.check_kinds(content, _EVALUATED, where, _ALSO)
    for name, score in content["metrics"].items():
        value = score.get("value") if isinstance(score, Mapping) else None
        if not isinstance(value, int | float):
            message = f"{where}: {name!r} must have a value, got {score!r}."
            raise errors.InputError(message)
    if "file" in content:
        _check_beside(content["file"], where)
        if not _listing.DIGEST.fullmatch(content.get("sha256", "")):
            message = f"{where}: `sha256` of {content['file']!r} must be 64 digits."
            raise errors.InputError(message)
    return Evaluation(title=title, **content)


def _check_beside(file: str, where: str) -> None:
    if not _listing.NAME.fullmatch(file):
        message = f"{where}: `file` must lie beside it, got {file!r}."
        raise errors.InputError(message)


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    content = dataclasses.asdict(evaluation)
    del content["title"]
    return {key: content[key] for key in content if key in _EVALUATED or content[key]}
