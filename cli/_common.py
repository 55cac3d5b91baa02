"""What two verbs or more do alike: errors for people, a quiet start, files, tables."""

from __future__ import annotations

import contextlib
import errno
import functools
import importlib
import json
import math
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import click

from unet_zoo import devices, engines, errors, files

if TYPE_CHECKING:
    from unet_zoo import catalog
    from unet_zoo.segmenter import Segmenter

# What the machine refuses; any other OSError is a bug and keeps its traceback.
_REFUSALS = {
    errno.EACCES,
    errno.EDQUOT,
    errno.EEXIST,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENAMETOOLONG,
    errno.ENOENT,
    errno.ENOSPC,
    errno.ENOTDIR,
    errno.EPERM,
    errno.EROFS,
}
_WAYS_OUT = {
    errno.ENOSPC: " Make room, or write to another disk.",
    errno.EDQUOT: " Make room, or write to another disk.",
    errno.EFBIG: " Raise the limit on the size of files, or write elsewhere.",
    errno.EACCES: " Choose a place you may use, or ask for the permission.",
    errno.EROFS: " Choose a place that can be written to.",
}
# Lines that TensorFlow's C++ writes to the terminal while it is imported, before it
# looks at TF_CPP_MIN_LOG_LEVEL: information and warnings, never errors.
_NOISE = re.compile(
    rb"[IW]\d{4} \d\d:\d\d:|WARNING: All log messages before absl::"
    rb"|\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IW] "
)


class Refused(click.ClickException):
    """Something given cannot be used; shown without a traceback."""

    exit_code = 2


def explained(error: Exception) -> str | None:
    """Return what to tell a user about `error`; None: it is a bug."""
    if isinstance(error, errors.InputError):
        return str(error)
    if isinstance(error, OSError) and error.errno in _REFUSALS:
        reason = (error.strerror or str(error)).rstrip(".")
        where = f"{error.filename}: " if error.filename else ""
        return f"{where}{reason}.{_WAYS_OUT.get(error.errno, '')}"
    name = type(error).__name__
    if name in ("MemoryError", "ResourceExhaustedError", "OutOfMemoryError"):
        return (
            "The memory is full. A training takes less with a smaller --batch or "
            "--patch, a segmentation with a smaller --tile."
        )
    return None


def keep(interrupt: KeyboardInterrupt, what: str) -> None:
    """Let `interrupt` say what is left, once the program has ended."""
    interrupt.add_note(what)


def kept(interrupt: KeyboardInterrupt) -> str:
    """Return what `keep` said."""
    return " ".join(getattr(interrupt, "__notes__", []))


# === A quiet start ===


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep TensorFlow's greetings off the terminal; everything else arrives late."""
    sys.stderr.flush()
    with tempfile.TemporaryFile() as held:
        saved = os.dup(2)
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            for line in held:
                if not _NOISE.match(line):
                    os.write(2, line)


def computing(module: str, backend: str | None = None) -> ModuleType:
    """Import a module of unet_zoo that computes, with Keras on `backend`."""
    chosen = backend or os.environ.get("KERAS_BACKEND")
    if chosen:
        devices.choose_backend(chosen)
    with quiet():
        importlib.import_module("keras")
        return importlib.import_module(f"unet_zoo.{module}")


# === What verbs open ===


def check_dataset(name: str, config: str | None) -> None:
    """Refuse an unknown dataset or configuration before anything slow begins."""
    from unet_zoo import catalog

    if name in catalog.names():
        configs = catalog.info(name).configs
        if config is not None and config not in configs:
            kind = f"configuration of {name}"
            raise errors.unknown(kind, config, configs)
    elif not name.startswith("tfds:") and not catalog.is_own(name):
        catalog.open_dataset(name, config=config)  # says what is wrong with it


def open_dataset(name: str, backend: str | None, **options: Any) -> catalog.Dataset:
    """Open a dataset; a named one is prepared by TensorFlow, with keras before it."""
    from unet_zoo import catalog

    if name in catalog.names():
        computing("datasets", backend)
        click.echo(f"Opening the dataset {name} ...", err=True)
    elif backend:
        devices.choose_backend(backend)
    with quiet():
        return catalog.open_dataset(name, **options)


def word(dataset: str) -> str:
    """Return the name of a dataset as it may stand in the name of a folder."""
    if dataset.startswith("tfds:"):
        return dataset.removeprefix("tfds:").partition("?")[0].replace("/", "-")
    path = Path(dataset).expanduser().resolve()
    return path.stem if path.is_file() else path.name


def find_weights(name: str | Sequence[str]) -> Path:
    """Return the weights file of a zoo name or a path; of several, an ensemble's."""
    from unet_zoo import weights

    return weights.find(name)


def check_engine(backend: str | None, engine: str | None, precision: str) -> str:
    """Return what runs the network; refuse what cannot, before anything slow begins."""
    chosen = engines.choose(engine, backend)
    engines.check_precision(chosen, precision)
    return chosen


def load(
    path: Path,
    backend: str | None,
    engine: str | None,
    precision: str,
    calibration: Sequence[Any] = (),
) -> Segmenter:
    """Return the segmenter of a weights file, run by an engine."""
    from unet_zoo import weights

    said = functools.partial(click.echo, err=True)
    path = weights.find(path)  # of the folder of a training, too
    models = weights.models(weights.members(path, verify=False))
    chosen = engines.choose(engine, backend, models, said)
    engines.check_precision(chosen, precision)
    if chosen == "keras":
        module = computing("segmenter", backend)
    else:
        from unet_zoo import segmenter as module
    loaded: Segmenter = module.load(
        path, engine=chosen, precision=precision, calibration=calibration, said=said
    )
    return loaded


# === What verbs show ===


@contextlib.contextmanager
def progress_bar(
    unit: str, *, unit_scale: bool = False
) -> Iterator[Callable[[int, int], None]]:
    """Show a bar of (done, total), which is what the yielded function is told."""
    import tqdm

    with tqdm.tqdm(unit=unit, unit_scale=unit_scale, disable=None, leave=False) as bar:

        def tick(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield tick


# === What verbs write ===


def check_writable(path: Path) -> None:
    """Refuse a folder or file that cannot be made, before anything slow begins."""
    parent = path
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() and parent != path:
        message = f"{path} cannot be made: {parent} is a file."
        raise errors.InputError(message)
    if not os.access(parent, os.W_OK):
        message = f"{path} cannot be written: no permission to write to {parent}."
        raise errors.InputError(message)


def check_file(path: Path, option: str, suffixes: Sequence[str] = ()) -> None:
    """Refuse what cannot be the name of a file, before anything slow begins.

    Args:
        path: of the file; its folder is there.
        option: what gave it, as the user knows it.
        suffixes: that it may end in, in small letters; none: any.
    """
    if suffixes and path.suffix.lower() not in suffixes:
        message = f"{option} must end in {' or '.join(suffixes)}. Received: {path}"
        raise errors.InputError(message)
    if path.is_dir():
        message = f"{option} {path} is a folder; give the name of a file."
        raise errors.InputError(message)
    if not path.parent.is_dir():
        message = f"The folder {path.parent} of {option} does not exist. Make it first."
        raise errors.InputError(message)
    check_writable(path)


def write_text(path: Path, text: str) -> None:
    """Write a text file, the whole file or nothing."""
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def to_json(value: Any) -> str:
    """Return plain values as JSON; what is not a number becomes null."""

    def plain(item: Any) -> Any:
        if isinstance(item, dict):
            return {key: plain(inner) for key, inner in item.items()}
        if isinstance(item, list | tuple):
            return [plain(inner) for inner in item]
        return None if isinstance(item, float) and not math.isfinite(item) else item

    return json.dumps(plain(value), indent=2, ensure_ascii=False, default=str)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return rows as aligned text; the last column wraps to the terminal's width."""
    import shutil
    import textwrap

    lines = [list(head), *map(list, rows)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(head) - 1)]
    indent = sum(widths) + 2 * len(widths)
    room = max(30, shutil.get_terminal_size((100, 24)).columns - indent)
    shown = []
    for line in lines:
        cells = [cell.ljust(width) for cell, width in zip(line, widths, strict=False)]
        last = textwrap.wrap(line[-1], room) or [""]
        shown.append("  ".join([*cells, last[0]]).rstrip())
        shown.extend(" " * indent + more for more in last[1:])
    return "\n".join(shown)
