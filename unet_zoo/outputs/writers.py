"""Which files `segment` can write, and writing them: all of an image, or none.

Only the standard library is imported here, so that the command line can list them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_zoo.errors import InputError, unknown

if TYPE_CHECKING:
    from unet_zoo.outputs.result import Result


@dataclasses.dataclass(frozen=True)
class Writer:
    """One kind of file.

    Attributes:
        name: as `--write` has it.
        what: one line that says what is in it.
        pattern: its path in the results' folder, of the image's name `{stem}`.
        function: "module.name" in `unet_zoo.outputs`; takes a path and a `Result`.
        each: one file for each frame of a stack, and a `Result` of the frame.
        folder: it is a folder.
        package: what has to be installed for it, None: nothing.
        extra: of unet-zoo, which brings that package.
    """

    name: str
    what: str
    pattern: str
    function: str
    each: bool = False
    folder: bool = False
    package: str | None = None
    extra: str | None = None

    @property
    def suffix(self) -> str:
        """Return how its names end, such as ".tif"."""
        return os.path.splitext(self.pattern)[1]

    def paths(self, folder: Path, stem: str, frames: int | None) -> list[Path]:
        """Return where it goes; `frames` of a stack, None of a single image."""
        if not self.each or frames is None:
            return [folder / self.pattern.format(stem=stem)]
        stems = [f"{stem}_t{frame:03d}" for frame in range(frames)]
        return [folder / self.pattern.format(stem=each) for each in stems]

    def check(self) -> None:
        """Refuse where its package is missing, with the command that brings it."""
        if self.package and importlib.util.find_spec(self.package) is None:
            message = (
                f"Writing {self.name!r} needs the package {self.package!r}. Install it "
                f"with: pip install 'unet-zoo[{self.extra}]'"
            )
            raise InputError(message)

    def __call__(self, path: Path, result: Result) -> None:
        """Write one file, the whole of it or nothing."""
        module, _, name = self.function.rpartition(".")
        home = importlib.import_module(f"unet_zoo.outputs.{module}")
        getattr(home, name)(path, result)


WRITERS = {
    each.name: each
    for each in (
        Writer(
            "labels",
            "label image, TIFF: 0 is background, 1, 2, ... the objects",
            "{stem}_masks.tif",
            "planes.labels",
        ),
        Writer(
            "csv",
            "table, one row per object: frame, label, area, centroid, ...",
            "{stem}_objects.csv",
            "lists.csv",
        ),
        Writer(
            "overlay",
            "the image with the outlines found in it, PNG",
            "overlays/{stem}.png",
            "planes.overlay",
            each=True,
        ),
        Writer(
            "mask",
            "objects white on black, PNG",
            "foreground/{stem}.png",
            "planes.mask",
            each=True,
        ),
        Writer(
            "probability",
            "how sure each pixel is of an object, 0 to 1, OME-TIFF",
            "{stem}_probability.tif",
            "planes.probability",
        ),
        Writer(
            "ome-zarr",
            "image and labels as OME-Zarr 0.4, for napari and viewers on the web",
            "{stem}.ome.zarr",
            "omezarr.write",
            folder=True,
            package="zarr",
            extra="zarr",
        ),
        Writer(
            "geojson",
            "outlines with measurements, for QuPath",
            "{stem}.geojson",
            "drawings.geojson",
        ),
        Writer(
            "rois",
            "outlines, for ImageJ's ROI manager",
            "{stem}_rois.zip",
            "drawings.rois",
            package="roifile",
            extra="imagej",
        ),
        Writer(
            "coco",
            "run-length encoded objects in COCO's format",
            "{stem}_coco.json",
            "lists.coco_json",
        ),
        Writer(
            "parquet",
            "the table as Parquet, for large numbers of objects",
            "{stem}_objects.parquet",
            "lists.parquet",
            package="pyarrow",
            extra="parquet",
        ),
        Writer(
            "ctc",
            "tracks through a film, as the Cell Tracking Challenge has them",
            "{stem}_RES",
            "films.ctc",
            folder=True,
        ),
    )
}


def chosen(names: Sequence[str]) -> list[Writer]:
    """Return the writers of these names, each once, in the order of the table.

    Raises:
        InputError: for an unknown name (near matches named), or a missing package.

    >>> [each.name for each in chosen(["csv", "labels", "csv"])]
    ['labels', 'csv']
    """
    for name in names:
        if name not in WRITERS:
            raise unknown(kind="kind of result", word=name, options=WRITERS)
    found = [each for name, each in WRITERS.items() if name in names]
    for each in found:
        each.check()
    return found


def of_suffix(path: Path) -> Writer | None:
    """Return the writer of a file that ends like this one.

    >>> of_suffix(Path("a.tif")).name, of_suffix(Path("results"))
    ('labels', None)
    """
    suffix = path.suffix.lower().replace(".tiff", ".tif")
    preferred = ("labels", "overlay", *WRITERS)
    ending = (WRITERS[name] for name in preferred if WRITERS[name].suffix == suffix)
    return next(ending, None) if suffix else None


def write(
    result: Result,
    folder: str | os.PathLike[str],
    stem: str,
    names: Sequence[str] = ("labels", "csv"),
    *,
    overwrite: bool = False,
) -> list[Path]:
    """Write the files of one image into a folder, all of them or none.

    Returns:
        The paths, in the order of `WRITERS`.

    Raises:
        InputError: for an unknown name, a missing package, or a file that is there
            already and may not be overwritten.
    """
    frames = None if result.labels.ndim == 2 else len(result.labels)
    jobs = [
        (writer, writer.paths(Path(folder), stem, frames)) for writer in chosen(names)
    ]
    return _write(result, jobs, overwrite)


def write_one(
    result: Result, path: Path, writer: Writer, *, overwrite: bool = False
) -> list[Path]:
    """Write one file of any name; of a stack, a file for each frame where need be."""
    writer.check()
    paths = [path]
    if writer.each and result.labels.ndim > 2:
        count = len(result.labels)
        paths = [path.with_stem(f"{path.stem}_t{n:03d}") for n in range(count)]
    return _write(result, [(writer, paths)], overwrite)


def _write(
    result: Result, jobs: Sequence[tuple[Writer, list[Path]]], overwrite: bool
) -> list[Path]:
    every = [path for _, paths in jobs for path in paths]
    for path in () if overwrite else every:
        if path.exists():
            message = (
                f"{path} is there already. Give another place, or `overwrite` to "
                "replace it."
            )
            raise InputError(message)
    with all_or_none(every):
        # The label image comes last: where it is, all the others are.
        for writer, paths in reversed(jobs):
            parts = result.frames if writer.each else (result,)
            for path, part in zip(paths, parts, strict=True):
                writer(path, part)
    return every


@contextlib.contextmanager
def all_or_none(paths: Sequence[Path]) -> Iterator[None]:
    """Make the folders of results; after a failure, remove what there is of them."""
    before = {path: _age(path) for path in paths}
    with _folders({path.parent for path in paths}):
        try:
            yield
        except BaseException:
            for path in paths:
                if _age(path) == before[path]:
                    continue  # it was not come to: what is there is an earlier one
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                path.unlink(missing_ok=True)
            raise


def _age(path: Path) -> tuple[int, int] | None:
    """Return what differs once another file or folder is at the path."""
    try:
        facts = path.lstat()
    except OSError:
        return None
    return facts.st_ino, facts.st_mtime_ns


@contextlib.contextmanager
def _folders(folders: set[Path]) -> Iterator[None]:
    """Make folders; after a failure, take away those that hold nothing."""
    above = {each for folder in folders for each in (folder, *folder.parents)}
    missing = sorted((each for each in above if not each.exists()), reverse=True)
    try:
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for folder in missing:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise
