"""Image files of any format into one array layout, (T, Y, X, C)."""

from __future__ import annotations

import contextlib
import difflib
import io
import logging
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from unet_zoo.errors import InputError

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp")
MASK_SUFFIXES = ("_masks", "_mask", "_cp_masks")

# A header of a few bytes can ask for terabytes: more values than this are refused
# before anything is decoded. Raise it for files that really are that large.
MAX_VALUES = 2**30

_MAGIC = {
    b"II*\0": "tiff",
    b"MM\0*": "tiff",
    b"II+\0": "tiff",
    b"MM\0+": "tiff",
    b"\x89PNG\r\n\x1a\n": "png",
    b"\xff\xd8\xff": "jpeg",
    b"BM": "bmp",
}

# tifffile logs these and goes on with the frames it has: half a stack would pass
# for a whole one.
_BROKEN = re.compile(r"invalid (page )?offset|corrupt|failed to read", re.IGNORECASE)


def read(path: str | os.PathLike[str], *, indices: bool = False) -> np.ndarray:
    """Read an image file into an array (T, Y, X, C).

    The dtype is the file's; truth values become uint8 and 16- or 64-bit floats
    float32. In a TIFF, the axes come from its OME, ImageJ or tifffile metadata; the
    pages of a plain TIFF are frames, and so is every axis that is neither Y, X,
    channel nor sample (Z, time, position). Stored values are not inverted
    (WhiteIsZero). Palettes are expanded to colours, unless `indices` asks for the
    stored numbers, as one does for label images. An alpha channel is dropped when it
    is opaque throughout and refused otherwise. A photograph is turned upright as its
    EXIF data say. The format is known by the content, not by the suffix.

    Raises `InputError` that names the file and what is wrong with it.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "stack.tif"
    >>> tifffile.imwrite(path, np.zeros((7, 5, 6), "u2"), metadata={"axes": "TYX"})
    >>> read(path).shape
    (7, 5, 6, 1)
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES and not path.is_dir():
        raise _unreadable(path, _unsupported(path))
    try:
        data = path.open("rb")
    except IsADirectoryError:
        raise _unreadable(path, "it is a folder, not an image file") from None
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError as error:
        raise _unreadable(path, _reason(error)) from error
    with data:
        start = data.read(8)
        data.seek(0)
        if not start:
            raise _unreadable(path, "it is empty (0 bytes)")
        kinds = [kind for magic, kind in _MAGIC.items() if start.startswith(magic)]
        if not kinds:
            reason = (
                f"its content is not TIFF, PNG, JPEG or BMP (starts with {start!r})"
            )
            raise _unreadable(path, reason)
        try:
            if kinds[0] == "tiff":
                image = _read_tiff(path, data, indices)
            else:
                image = _read_picture(path, data, kinds[0], indices)
        except InputError:
            raise
        except Exception as error:  # decoders raise anything when a file is broken
            reason = f"it is damaged or truncated ({_reason(error)})"
            raise _unreadable(path, reason) from error
    if 0 in image.shape:
        raise _unreadable(path, f"it holds no pixels, shape (T, Y, X, C) {image.shape}")
    return _plain_dtype(path, image)


def read_one(path: str | os.PathLike[str], *, indices: bool = False) -> np.ndarray:
    """Read a file that holds one frame into an array (Y, X, C), as `read` does.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "one.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    >>> read_one(path).shape
    (5, 6, 3)
    """
    path = Path(path)
    image = read(path, indices=indices)
    if len(image) > 1:
        reason = f"it holds {len(image)} frames where one is expected; split the stack"
        raise _unreadable(path, reason)
    return image[0]


def find(
    paths: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    masks: bool = False,
) -> list[Path]:
    """Return the image files that `paths` name.

    Files stay as given; a folder stands for the images directly in it, in natural
    order (t2 before t10), without hidden files and, unless `masks` is set, without the
    mask of an image beside it (a_masks.tif where there is an a.tif).

    >>> import tempfile
    >>> folder = Path(tempfile.mkdtemp())
    >>> for name in ("t10.png", "t2.png", "t2_masks.png", ".hidden.png", "notes.txt"):
    ...     (folder / name).touch()
    >>> [path.name for path in find(folder)]
    ['t2.png', 't10.png']
    """
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found.extend(_listed(path, masks))
        elif not path.exists():
            raise _missing(path)
        elif path.suffix.lower() not in SUFFIXES:
            raise _unreadable(path, _unsupported(path))
        else:
            found.append(path)
    return found


def _read_tiff(path: Path, data: io.BufferedReader, indices: bool) -> np.ndarray:
    with _tifffile_silent() as messages, tifffile.TiffFile(data) as file:
        if not file.series:
            raise _unreadable(path, "it is a TIFF without images, damaged or truncated")
        series, first = file.series[0], file.series[0].keyframe
        if len(file.series) > 1:
            shapes = ", ".join(str(each.shape) for each in file.series[:4])
            reason = f"it holds {len(file.series)} images of different kinds ({shapes})"
            raise _unreadable(path, f"{reason}; save each to its own file")
        axes = series.axes
        if axes.count("Y") != 1 or axes.count("X") != 1:
            raise _unreadable(path, f"its axes {axes!r} lack Y or X")
        if "Q" in axes and axes[-1] == "X" and series.shape[-1] <= 4:
            reason = (
                f"its axes have no names and its shape {series.shape} leaves open "
                "whether the last one is colour; save it with axes, such as "
                "tifffile.imwrite(..., metadata={'axes': 'YXC'})"
            )
            raise _unreadable(path, reason)
        _check_size(path, series.shape)
        image = series.asarray()
        # An OME-TIFF names pages in other files; absent ones would become zeros.
        if series.kind == "ome" and any(page is None for page in series.pages):
            raise _unreadable(path, "pages that its OME metadata name are missing")
        broken = [message for message in messages if _BROKEN.search(message)]
        if broken:
            raise _unreadable(path, f"it is damaged or truncated ({broken[0]})")

    frames = [axis for axis, name in enumerate(axes) if name not in "YXCS"]
    channels = [axis for axis, name in enumerate(axes) if name == "C"]
    samples = [axis for axis, name in enumerate(axes) if name == "S"]
    order = [*frames, axes.index("Y"), axes.index("X"), *channels, *samples]
    count = [
        math.prod(image.shape[axis] for axis in some)
        for some in (frames, channels, samples)
    ]
    height, width = image.shape[axes.index("Y")], image.shape[axes.index("X")]
    image = image.transpose(order)
    image = image.reshape(count[0], height, width, count[1], count[2])
    # ImageJ's palettes colour what is shown; its values are the measurement.
    palette = None if indices or file.is_imagej else first.colormap
    if first.photometric == tifffile.PHOTOMETRIC.PALETTE and palette is not None:
        colours = np.moveaxis(palette[:, image[..., 0, 0]], 0, -1)
        image = (colours >> 8).astype(np.uint8)
    if first.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise _unreadable(path, "its colours are CMYK; convert it to RGB")
    alphas = (tifffile.EXTRASAMPLE.ASSOCALPHA, tifffile.EXTRASAMPLE.UNASSALPHA)
    if samples and first.extrasamples and first.extrasamples[-1] in alphas:
        image = _without_alpha(path, image)
    return image.reshape(*image.shape[:3], math.prod(image.shape[3:]))


def _read_picture(
    path: Path, data: io.BufferedReader, kind: str, indices: bool
) -> np.ndarray:
    from PIL import BmpImagePlugin, ImageOps, JpegImagePlugin, PngImagePlugin

    # Not Image.open: its limit on sizes is global and may be a warning or an error.
    decoders: dict[str, Any] = {
        "png": PngImagePlugin.PngImageFile,
        "jpeg": JpegImagePlugin.JpegImageFile,
        "bmp": BmpImagePlugin.BmpImageFile,
    }
    opened = decoders[kind](data)
    if getattr(opened, "n_frames", 1) > 1:
        raise _unreadable(path, "it is animated; save its frames as a TIFF stack")
    _check_size(path, (opened.height, opened.width, len(opened.getbands())))
    if opened.mode == "CMYK":
        raise _unreadable(path, "its colours are CMYK; convert it to RGB")
    opened.load()
    if kind == "png" and _png_depth(data) == 16 and opened.mode != "I;16":
        import imagecodecs

        # Pillow keeps only the high byte of 16-bit colours.
        data.seek(0)
        pixels = imagecodecs.png_decode(data.read())
        alpha = pixels.shape[-1] in (2, 4)
    else:
        if kind == "jpeg":
            opened = ImageOps.exif_transpose(opened)
        if opened.mode == "P" and not indices:
            transparent = "transparency" in opened.info
            opened = opened.convert("RGBA" if transparent else "RGB")
        elif "transparency" in opened.info and opened.mode in ("L", "RGB"):
            opened = opened.convert("LA" if opened.mode == "L" else "RGBA")
        pixels = np.asarray(opened)
        alpha = opened.mode in ("LA", "RGBA", "PA")
    image = pixels.reshape(*pixels.shape[:2], -1)[None]
    return _without_alpha(path, image) if alpha else image


def _png_depth(data: io.BufferedReader) -> int:
    data.seek(24)
    return data.read(1)[0]


def _without_alpha(path: Path, image: np.ndarray) -> np.ndarray:
    alpha = image[..., -1]
    opaque = np.iinfo(image.dtype).max if image.dtype.kind in "ui" else 1
    clear = int(np.count_nonzero(alpha != opaque))
    if clear:
        reason = (
            f"{clear} of its {alpha.size} pixels are transparent; flatten it, or, if "
            "the last channel is not transparency, save it as a plain channel"
        )
        raise _unreadable(path, reason)
    return image[..., :-1]


def _plain_dtype(path: Path, image: np.ndarray) -> np.ndarray:
    if image.dtype.kind == "b":
        return image.astype(np.uint8)
    if image.dtype.kind == "f":
        with np.errstate(over="ignore"):  # too large becomes inf, which is refused
            return image.astype(np.float32)
    if image.dtype.kind in "ui":
        return image.astype(image.dtype.newbyteorder("="), copy=False)
    raise _unreadable(path, f"its values are {image.dtype}, not whole or real numbers")


@contextlib.contextmanager
def _tifffile_silent() -> Iterator[list[str]]:
    """Collect what tifffile logs instead of letting it reach the terminal."""
    messages: list[str] = []

    def keep(record: logging.LogRecord) -> bool:
        messages.append(record.getMessage())
        return False

    logger = logging.getLogger("tifffile")
    logger.addFilter(keep)
    try:
        yield messages
    finally:
        logger.removeFilter(keep)


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    if size > MAX_VALUES:
        reason = (
            f"its header asks for {size} values, shape {shape}; the limit is "
            f"{MAX_VALUES}. Split it, or, if the file is to be trusted, raise "
            "unet_zoo.images.reading.MAX_VALUES"
        )
        raise _unreadable(path, reason)


def _listed(folder: Path, masks: bool) -> list[Path]:
    try:
        names = sorted(os.listdir(folder), key=_natural)
    except OSError as error:
        message = f"Cannot list {folder}: {_reason(error)}"
        raise InputError(message) from error
    images = [
        folder / name
        for name in names
        if not name.startswith(".") and Path(name).suffix.lower() in SUFFIXES
    ]
    stems = {path.stem for path in images}
    images = [
        path
        for path in images
        if path.is_file()
        and not any(
            not masks
            and path.stem.endswith(mark)
            and path.stem.removesuffix(mark) in stems
            for mark in MASK_SUFFIXES
        )
    ]
    if not images:
        message = (
            f"No images in {folder} ({len(names)} other entries); expected files "
            f"that end in {', '.join(SUFFIXES)} directly in it"
        )
        raise InputError(message)
    return images


def _natural(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"(\d+)", name.casefold())
    return [int(part) if part.isdecimal() else part for part in parts], name


def _missing(path: Path) -> InputError:
    try:
        names = os.listdir(path.parent)
    except OSError:
        return InputError(f"{path} does not exist, nor does the folder {path.parent}")
    near = difflib.get_close_matches(path.name, names)
    hint = " or ".join(str(path.with_name(name)) for name in near)
    if hint:
        return InputError(f"{path} does not exist. Did you mean {hint}?")
    return InputError(f"{path} does not exist")


def _unsupported(path: Path) -> str:
    suffix = (
        f"the suffix {path.suffix!r} is" if path.suffix else "names without one are"
    )
    return f"{suffix} not supported; supported: {', '.join(SUFFIXES)}"


def _unreadable(path: Path, reason: str) -> InputError:
    return InputError(f"Cannot read {path}: {reason}")


def _reason(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
