"""Which images a file or folder name stands for."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from unet_zoo.errors import InputError
from unet_zoo.images import refusing, zarrs

# What networks are taught with.
SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
# What can be read.
READABLE = (*SUFFIXES, ".npy", ".zarr", ".czi", ".lif", ".nd2")
MASK_SUFFIXES = ("_masks", "_mask", "_cp_masks")


def find(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    masks: bool = False,
    suffixes: tuple[str, ...] = READABLE,
) -> list[Path]:
    """Return the image files that `paths` name.

    Files stay as given, and so do Zarr folders; any other folder stands for the images
    directly in it, in natural order (t2 before t10), without hidden files and, unless
    `masks` is set, without the mask of an image beside it (a_masks.tif, a_seg.npy where
    there is an a.tif).

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("t10.png", "t2.png", "t2_masks.png", ".hidden.png", "notes.txt"):
    ...     (folder / name).touch()
    >>> for name in ("z.ome.tif", "z_masks.tif", "z.ome_masks.tif"):
    ...     (folder / name).touch()
    >>> (folder / "t3.zarr").mkdir()
    >>> [path.name for path in find(folder)]
    ['t2.png', 't3.zarr', 't10.png', 'z.ome.tif']
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir() and not (".zarr" in suffixes and zarrs.is_zarr(path)):
            found.extend(_listed(path, masks, suffixes))
        elif not path.exists():
            raise refusing.missing(path)
        elif path.suffix.lower() not in suffixes and not path.is_dir():
            raise refusing.unreadable(path, unsupported(path, suffixes))
        else:
            found.append(path)
    return found


def unsupported(path: Path, suffixes: tuple[str, ...] = READABLE) -> str:
    """Return what to say of a file of another suffix."""
    suffix = (
        f"the suffix {path.suffix!r} is" if path.suffix else "names without one are"
    )
    return f"{suffix} not supported; supported: {', '.join(suffixes)}"


def _listed(folder: Path, masks: bool, suffixes: tuple[str, ...]) -> list[Path]:
    try:
        names = sorted(os.listdir(folder), key=natural)
    except OSError as error:
        message = f"Cannot list {folder}: {refusing.reason(error)}"
        raise InputError(message) from error
    images = [
        folder / name
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in suffixes
    ]
    stems = {stem(path) for path in images}
    images = [
        path
        for path in images
        if path.is_dir() == (path.suffix.lower() == ".zarr")
        and (masks or not _is_mask(path, stems))
    ]
    if not images:
        message = (
            f"No images in {folder} ({len(names)} other entries); expected files "
            f"that end in {', '.join(suffixes)} directly in it"
        )
        raise InputError(message)
    return images


def _is_mask(path: Path, stems: set[str]) -> bool:
    marks = (*MASK_SUFFIXES, "_seg") if path.suffix == ".npy" else MASK_SUFFIXES
    name = stem(path)
    # Of a.ome.tif, a_masks.tif and a.ome_masks.tif.
    return any(
        name.endswith(mark) and name.removesuffix(mark).removesuffix(".ome") in stems
        for mark in marks
    )


def stem(path: Path) -> str:
    """Return the name without its suffix, or its two suffixes if it is an OME-TIFF.

    >>> stem(Path("a.b.tif")), stem(Path("a.ome.tif"))
    ('a.b', 'a')
    """
    return path.stem.removesuffix(".ome")


def natural(name: str) -> tuple[list[str | int], str]:
    """Return what to sort names by, so that numbers in them count as numbers.

    >>> sorted(["t10.png", "t2.png", "T1.png"], key=natural)
    ['T1.png', 't2.png', 't10.png']
    """
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if part.isdecimal() else part for part in parts], name
