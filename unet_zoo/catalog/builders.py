"""Datasets that are TFDS builders: what the folder says, and what it prepares."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import importlib
import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from unet_zoo.catalog.dataset import Dataset, Example, Lazy, held_back
from unet_zoo.errors import InputError, unknown

_FOLDER = Path(__file__).resolve().parent.parent / "datasets"


@dataclasses.dataclass(frozen=True)
class DatasetInfo:
    """What is written about a dataset in its folder.

    `summary` is the first paragraph of `description`, its README. `kind` is "instances"
    or "semantic".
    """

    name: str
    summary: str
    description: str
    citation: str
    version: str
    kind: str
    configs: tuple[str, ...]
    splits: tuple[str, ...]


def names() -> list[str]:
    """Return the names of the datasets, which are those of the folders.

    >>> "hela" in names()
    True
    """
    files = _FOLDER.glob("*/*_dataset_builder.py")
    return sorted(
        file.parent.name
        for file in files
        if file.stem == f"{file.parent.name}_dataset_builder"
    )


def info(name: str) -> DatasetInfo:
    """Return what the folder of a dataset says; neither TFDS nor TensorFlow is loaded.

    >>> info("hela").splits, info("hela").kind
    (('train', 'test'), 'instances')
    """
    if name not in names():
        raise unknown(kind="dataset", word=name, options=names())
    folder = _FOLDER / name
    source = (folder / f"{name}_dataset_builder.py").read_text(encoding="utf-8")
    description = _text(folder / "README.md")
    facts = _declared(ast.parse(source))
    semantic = "ml.task.instance-segmentation" not in _text(folder / "TAGS.txt")
    return DatasetInfo(
        name=name,
        summary=" ".join(description.split("\n\n")[0].split()),
        description=description,
        citation=_text(folder / "CITATIONS.bib"),
        kind="semantic" if semantic else "instances",
        **facts,
    )


def open_builder(
    name: str,
    config: str | object | None,
    manual_dir: str | os.PathLike[str] | None,
    data_dir: str | os.PathLike[str] | None,
    validation: float,
) -> Dataset:
    """Prepare a named dataset where that has not been done, and open it."""
    root = _root(data_dir)
    manual = root / "manual" if manual_dir is None else Path(manual_dir).expanduser()
    tfds = load_tfds()
    with quietly(tfds):
        cls = tfds.builder_cls(name)
        configs = [each.name for each in cls.BUILDER_CONFIGS]
        if isinstance(config, str) and config not in configs:
            raise unknown(kind=f"configuration of {name}", word=config, options=configs)
        placed = cls.manual_files(manual) if hasattr(cls, "manual_files") else []
        if manual_dir is not None and hasattr(cls, "manual_files") and not placed:
            message = f"`manual_dir` {manual} has no files for the dataset {name!r}. "
            raise InputError(
                message + " ".join(cls.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
            )
        try:
            # One copy for each content of the files placed by hand.
            home = root / f"manual-{_fingerprint(placed)}" if placed else root
            home.mkdir(parents=True, exist_ok=True)
            builder = cls(data_dir=home, config=config)
            with contextlib.suppress(FileExistsError):  # another process was faster
                builder.download_and_prepare(
                    download_dir=root / "downloads",
                    download_config=tfds.download.DownloadConfig(
                        manual_dir=manual, try_download_gcs=False
                    ),
                )
            builder = cls(data_dir=home, config=config)
        except OSError as error:
            message = (
                f"Cannot prepare the dataset {name!r} in {root}: {error}. Give another"
                " folder as data_dir, or in the environment variable UNET_ZOO_DATA_DIR."
            )
            raise InputError(message) from error
    return _dataset(builder, validation)


def _dataset(builder: Any, validation: float) -> Dataset:
    available = {
        split: part.num_examples for split, part in builder.info.splits.items()
    }
    total = available["train"]
    slices = {split: split for split in available}
    if not validation:
        available["validation"] = 0
    elif "validation" not in available:
        available["validation"] = held_back(total, validation)
        available["train"] = total - available["validation"]
        slices["train"] = f"train[:{available['train']}]"
        slices["validation"] = f"train[{available['train']}:]"

    def reader(split: str) -> Callable[[], Sequence[Example]]:
        def read() -> Iterator[Example]:
            return _read(builder, slices[split], split)

        return lambda: Lazy(available[split], read) if available[split] else []

    config = builder.builder_config
    source = (builder.info.metadata or {}).get("source")
    notes = [
        config.description if config else "",
        f"Source: {source}." if source else "",
    ]
    order = [split for split in ("train", "validation", "test") if split in available]
    return Dataset(
        name=builder.name,
        version=str(builder.version),
        config=config.name if config else None,
        kind=info(builder.name).kind,
        note=" ".join(note for note in notes if note),
        size_of={split: available[split] for split in order},
        readers={split: reader(split) for split in order},
        # The same of every image, so no part of what is prepared and kept on disk.
        pixel_size=getattr(builder, "PIXEL_SIZE", None),
    )


def _read(builder: Any, part: str, split: str) -> Iterator[Example]:
    tfds = load_tfds()
    with quietly(tfds):
        # Whoever reads a part of it, or more than fits into memory, wants no cache.
        plain = tfds.ReadConfig(try_autocache=False)
        found = builder.as_dataset(split=part, read_config=plain)
        records = tfds.as_numpy(found)
    for number, record in enumerate(records):
        yield _example(record, f"{split}{number:03d}")


def _example(record: dict[str, Any], name: str) -> Example:
    """Return a builder's record as an example; only `image` and `labels` must be in it.

    `gold`, counted where `has_gold` is true, goes before `labels` as the reference.
    """

    def plane(feature: str) -> np.ndarray | None:
        return record[feature][..., 0].astype("int32") if feature in record else None

    labels = record["labels"][..., 0].astype("int32")
    reference = labels
    if "gold" in record:
        reference = plane("gold") if record["has_gold"] else None
    return Example(
        name=record["name"].decode() if "name" in record else name,
        image=record["image"],
        labels=labels,
        reference=reference,
        markers=plane("markers"),
        challenge="markers" in record,
    )


def _root(data_dir: str | os.PathLike[str] | None) -> Path:
    chosen = data_dir or os.environ.get("UNET_ZOO_DATA_DIR") or "~/.cache/unet_zoo/tfds"
    return Path(chosen).expanduser().absolute()


def _fingerprint(placed: list[Path]) -> str:
    digest = hashlib.sha256()
    for file in placed:
        content = hashlib.sha256(file.read_bytes()).digest()
        digest.update(f"{file.parent.name}/{file.name}\n".encode() + content)
    return digest.hexdigest()[:12]


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


def _declared(module: ast.Module) -> dict[str, Any]:
    """Return what the source of a builder says in constants."""
    facts: dict[str, Any] = {"version": "", "configs": (), "splits": ()}
    for node in ast.walk(module):
        if isinstance(node, ast.FunctionDef) and node.name == "_split_generators":
            facts["splits"] = _keys_returned(node)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            match getattr(target, "id", ""):
                case "VERSION":
                    facts["version"] = "".join(_strings(node.value))
                case "BUILDER_CONFIGS":
                    facts["configs"] = tuple(
                        text
                        for each in ast.walk(node.value)
                        if isinstance(each, ast.keyword) and each.arg == "name"
                        for text in _strings(each.value)
                    )
    return facts


def _keys_returned(function: ast.FunctionDef) -> tuple[str, ...]:
    return tuple(
        key.value
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and isinstance(node.value, ast.Dict)
        for key in node.value.keys
        if isinstance(key, ast.Constant) and isinstance(key.value, str)
    )


def _strings(node: ast.AST) -> Iterator[str]:
    for each in ast.walk(node):
        if isinstance(each, ast.Constant) and isinstance(each.value, str):
            yield each.value


def load_tfds() -> ModuleType:
    """Return tensorflow_datasets, with our builders known to it."""
    # This package registers our builders, and imports keras before tensorflow.
    importlib.import_module("unet_zoo.datasets")
    return importlib.import_module("tensorflow_datasets")


@contextlib.contextmanager
def quietly(tfds: ModuleType) -> Iterator[None]:
    """Keep what TFDS prints and logs off the terminal; the command line has its own."""
    tqdm_utils = tfds.core.utils.tqdm_utils
    logger = logging.getLogger("absl")
    level, bars = logger.level, tqdm_utils._active
    logger.setLevel(logging.ERROR)
    tqdm_utils.display_progress_bar(enable=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
        tqdm_utils.display_progress_bar(enable=bars)
