"""Image files of any format into one array layout, (T, Y, X, C)."""

from __future__ import annotations

import math
import os
from pathlib import Path
from types import TracebackType

import numpy as np

from unet_zoo.errors import InputError, unknown
from unet_zoo.images import axes as axes_of_files
from unet_zoo.images import (
    finding,
    microscopes,
    numpys,
    ome_zarrs,
    pictures,
    refusing,
    tiff,
    units,
    zarrs,
)
from unet_zoo.images.axes import Layout, Planes
from unet_zoo.images.sources import PixelSize, Source

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
    b"\x93NUMPY": "npy",
    b"ZISRAWFI": "czi",
    b"\x70\0\0\0": "lif",
    b"\xda\xce\xbe\x0a": "nd2",
    b"\0\0\0\x0cjP  ": "nd2",
}


class Image:
    """An image file opened, of which only the parts asked for are decoded.

    Made by `open_image`; a context manager that closes the file.

    Attributes:
        path: of the file.
        shape: (T, Y, X, C). Z, time, position and pages are all frames.
        dtype: of what `read` returns.
        axes: a letter for each axis as stored.
        pixel_size: (y, x) in micrometres, None where neither the file nor the caller
            says.
        channels: a name per channel, None where the file has none.
        guessed: whether the axes are a guess.
        note: one sentence on how the file was understood, and the guess if it is one;
            empty where the metadata say all.
    """

    def __init__(
        self,
        path: Path,
        source: Source,
        layout: Layout,
        *,
        channel: int | None,
        pixel_size: PixelSize,
        channels: tuple[str, ...] | None,
        note: str,
        guessed: bool,
    ) -> None:
        self.path, self.axes = path, layout.axes
        self.pixel_size, self.channels = pixel_size, channels
        self.note, self.guessed = note, guessed
        self.dtype = _plain(path, source.dtype)
        frames, height, width, there = layout.shape
        self.shape = (frames, height, width, there if channel is None else 1)
        self._source, self._layout, self._channel = source, layout, channel

    @property
    def planes(self) -> Planes:
        """Return where the frames lie in the file."""
        return self._layout.planes

    def read(
        self,
        frame: int = 0,
        rows: slice = slice(None),
        columns: slice = slice(None),
    ) -> np.ndarray:
        """Return a part of a frame as an array (y, x, C).

        The tiles, strips or chunks that it touches are decoded, of a file that is not
        compressed the pixels alone; PNG, JPEG and BMP have no parts and are decoded
        once, as a whole. Safe to call in threads.

        Args:
            frame: which of `shape[0]`, from 0.
            rows: slice without a step.
            columns: slice without a step.

        Raises:
            InputError: for a frame that is not there, or a damaged file.
        """
        if not 0 <= frame < self.shape[0]:
            message = (
                f"`frame` must be 0 to {self.shape[0] - 1} in {self.path}. "
                f"Received: {frame}"
            )
            raise InputError(message)
        bounds: list[slice] = []
        for name, part, size in zip(
            ("rows", "columns"), (rows, columns), self.shape[1:3], strict=True
        ):
            start, stop, step = part.indices(size)
            if step != 1:
                message = f"`{name}` must be a slice without a step. Received: {part}"
                raise InputError(message)
            bounds.append(slice(start, max(start, stop)))
        sizes = [part.stop - part.start for part in bounds]
        _check_size(self.path, (*sizes, self.shape[3]))
        _check_size(self.path, self._source.unit)
        if 0 in sizes:
            return np.empty((*sizes, self.shape[3]), self.dtype)
        selection = self._layout.selection(frame, bounds[0], bounds[1], self._channel)
        try:
            found = self._source.fetch(selection)
        except InputError:
            raise
        except Exception as error:  # decoders raise anything when a file is broken
            raise refusing.damaged(self.path, error) from error
        return _converted(self._layout.arrange(found), self.dtype)

    def read_all(self) -> np.ndarray:
        """Return all frames, (T, Y, X, C)."""
        _check_size(self.path, self.shape)
        if self.shape[0] == 1:
            return self.read(0)[None]
        try:
            found = np.empty(self.shape, self.dtype)
        except MemoryError as error:
            size = math.prod(self.shape) * self.dtype.itemsize
            reason = f"all its frames are {size} bytes, more than there is memory"
            raise refusing.unreadable(self.path, reason) from error
        for frame in range(self.shape[0]):
            found[frame] = self.read(frame)
        return found

    def close(self) -> None:
        """Give the file back; `read` must not be called any more."""
        self._source.close()

    def __enter__(self) -> Image:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def open_image(
    path: str | os.PathLike[str],
    *,
    axes: str | None = None,
    channel: int | str | None = None,
    pixel_size: float | tuple[float, float] | None = None,
    indices: bool = False,
) -> Image:
    """Open an image file, to read it part by part.

    TIFF (OME, BigTIFF, ImageJ, pyramids), PNG, JPEG, BMP, NPY, Zarr and OME-Zarr; CZI,
    LIF and ND2 with the extra of that name. The format is known by the content, not by
    the suffix. Of a pyramid the full resolution is opened.

    Args:
        path: a file, or the folder that a Zarr array is.
        axes: a letter for each axis as stored, Y and X among them, such as "TZCYX";
            None: as the metadata say, else as it seems (`Image.guessed`). C is
            channels, S colours, every other letter counts frames.
        channel: the only channel to read: its number from 0, or its name.
        pixel_size: in micrometres, one or (y, x), in place of what the file says.
        indices: return the stored numbers of a palette, not its colours.

    Raises:
        InputError: naming the file and what is wrong with it, or with an argument.

    Example:
        >>> import tempfile, tifffile
        >>> path = Path(tempfile.mkdtemp()) / "stack.ome.tif"
        >>> stack = np.zeros((3, 2, 30, 40), "uint16")
        >>> tifffile.imwrite(path, stack, metadata={"axes": "TCYX"})
        >>> with open_image(path, channel=1) as image:
        ...     image.shape, image.read(2, rows=slice(5, 10)).shape
        ((3, 30, 40, 1), (5, 40, 1))
    """
    path = Path(path)
    return _opened(path, axes, channel, _pixel_size(pixel_size), indices, False)


def read(path: str | os.PathLike[str], *, indices: bool = False) -> np.ndarray:
    """Read an image file into an array (T, Y, X, C).

    The dtype is the file's; truth values become uint8 and 16- or 64-bit floats
    float32. In a TIFF, the axes come from its OME, ImageJ or tifffile metadata; the
    pages of a plain TIFF are frames, and so is every axis that is neither Y, X,
    channel nor sample (Z, time, position). Stored values are not inverted
    (WhiteIsZero). Palettes are expanded to colours, unless `indices` asks for the
    stored numbers, as one does for label images. An alpha channel is dropped when it
    is opaque throughout and refused otherwise. A photograph is turned upright as its
    EXIF data say. The format is known by the content, not by the suffix; see
    `open_image` for the others.

    Raises `InputError` that names the file and what is wrong with it, also where its
    last axis may be colour or not and nothing says which.

    >>> import tempfile, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "stack.tif"
    >>> tifffile.imwrite(path, np.zeros((7, 5, 6), "u2"), metadata={"axes": "TYX"})
    >>> read(path).shape
    (7, 5, 6, 1)
    """
    with _opened(Path(path), None, None, None, indices, True) as image:
        return image.read_all()


def read_one(path: str | os.PathLike[str], *, indices: bool = False) -> np.ndarray:
    """Read a file that holds one frame into an array (Y, X, C), as `read` does.

    >>> import tempfile, tifffile
    >>> path = Path(tempfile.mkdtemp()) / "one.tif"
    >>> tifffile.imwrite(path, np.zeros((5, 6, 3), np.uint8), photometric="rgb")
    >>> read_one(path).shape
    (5, 6, 3)
    """
    path = Path(path)
    image = read(path, indices=indices)
    if len(image) > 1:
        reason = f"it holds {len(image)} frames where one is expected; split the stack"
        raise refusing.unreadable(path, reason)
    return image[0]


def _opened(
    path: Path,
    axes: str | None,
    channel: int | str | None,
    pixel_size: PixelSize,
    indices: bool,
    strict: bool,
) -> Image:
    try:
        source = _source(path, indices)
    except InputError:
        raise
    except PermissionError as error:
        raise refusing.unreadable(path, refusing.reason(error)) from error
    except Exception as error:  # decoders raise anything when a file is broken
        raise refusing.damaged(path, error) from error
    try:
        if axes is not None:
            source.axes = axes_of_files.override(path, axes, source.axes, source.shape)
            source.guess = ""
        elif strict and source.unclear:
            raise refusing.unreadable(path, source.unclear)
        elif not source.axes:
            reason = f"nothing names the {len(source.shape)} axes of {source.shape}"
            raise refusing.unreadable(path, f"{reason}; give `axes`, such as 'TZCYX'")
        layout = Layout.of(source.axes, source.shape)
        if 0 in layout.shape:
            reason = f"it holds no pixels, shape (T, Y, X, C) {layout.shape}"
            raise refusing.unreadable(path, reason)
        names = source.channels
        if names is not None and len(names) != layout.shape[3]:
            names = None
        chosen = None
        if channel is not None:
            chosen = _channel(path, channel, layout.shape[3], names)
            names = names and (names[chosen],)
        return Image(
            path,
            source,
            layout,
            channel=chosen,
            pixel_size=pixel_size or source.pixel_size,
            channels=names,
            note=_note(source, layout),
            guessed=bool(source.guess),
        )
    except BaseException:
        source.close()
        raise


def _source(path: Path, indices: bool) -> Source:
    if path.is_dir():
        if zarrs.is_zarr(path):
            return ome_zarrs.open_zarr(path)
        raise refusing.unreadable(path, "it is a folder, not an image file")
    if path.suffix.lower() not in finding.READABLE:
        raise refusing.unreadable(path, finding.unsupported(path))
    try:
        with path.open("rb") as data:
            start = data.read(8)
    except FileNotFoundError:
        raise refusing.missing(path) from None
    except OSError as error:
        raise refusing.unreadable(path, refusing.reason(error)) from error
    if not start:
        raise refusing.unreadable(path, "it is empty (0 bytes)")
    kinds = [kind for magic, kind in _MAGIC.items() if start.startswith(magic)]
    if not kinds:
        reason = f"its content is not TIFF, PNG, JPEG or BMP (starts with {start!r})"
        raise refusing.unreadable(path, reason)
    if kinds[0] == "tiff":
        return tiff.open_tiff(path, indices)
    if kinds[0] == "npy":
        return numpys.open_npy(path)
    if kinds[0] in ("czi", "lif", "nd2"):
        return microscopes.open_file(path, kinds[0])
    return pictures.open_picture(path, kinds[0], indices)


def _note(source: Source, layout: Layout) -> str:
    told = layout.told()
    if source.guess:
        axes, sizes = layout.stretched()
        seen = f"{source.guess}, {sizes} is taken for {axes}; --axes says otherwise"
        told = f"{seen}; {told}" if told else seen
    return "; ".join(part for part in (told, source.remark) if part)


def _channel(
    path: Path, wanted: int | str, count: int, names: tuple[str, ...] | None
) -> int:
    there = f"{path} has {count} channel(s), counted from 0"
    if isinstance(wanted, str):
        alike = [n for n, name in enumerate(names or ()) if name == wanted] or [
            n for n, name in enumerate(names or ()) if name.lower() == wanted.lower()
        ]
        if len(alike) == 1:
            return alike[0]
        if alike:
            message = (
                f"{path} has several channels {wanted!r}; give the number of one: "
                f"--channel {' or '.join(map(str, alike))}."
            )
            raise InputError(message)
        if wanted.removeprefix("-").isdecimal():
            wanted = int(wanted)
    if isinstance(wanted, str):
        if names is None:
            message = f"{there}, without names; --channel {wanted!r} is not there."
            raise InputError(message)
        kind = f"channel of {path}:"
        raise unknown(kind, wanted, names)
    if not 0 <= wanted < count:
        message = f"{there}; --channel {wanted} is not there."
        raise InputError(message)
    return wanted


def _pixel_size(given: float | tuple[float, float] | None) -> PixelSize:
    if given is None:
        return None
    size = (given, given) if isinstance(given, int | float) else tuple(given)
    if len(size) != 2 or not units.plausible(size):
        message = f"`pixel_size` must be micrometres, one or (y, x). Received: {given}"
        raise InputError(message)
    return float(size[0]), float(size[1])


def _plain(path: Path, dtype: np.dtype) -> np.dtype:
    if dtype.kind == "b":
        return np.dtype(np.uint8)
    if dtype.kind == "f":
        return np.dtype(np.float32)
    if dtype.kind in "ui":
        return dtype.newbyteorder("=")
    reason = f"its values are {dtype}, not whole or real numbers"
    raise refusing.unreadable(path, reason)


def _converted(image: np.ndarray, dtype: np.dtype) -> np.ndarray:
    # Too large becomes inf, which is refused; so is a NaN of any kind.
    with np.errstate(over="ignore", invalid="ignore"):
        return np.ascontiguousarray(image, dtype)


def _check_size(path: Path, shape: tuple[int, ...]) -> None:
    size = math.prod(shape)
    if size > MAX_VALUES:
        reason = (
            f"its header asks for {size} values, shape {shape}; the limit is "
            f"{MAX_VALUES}. Split it, or, if the file is to be trusted, raise "
            "unet_zoo.images.reading.MAX_VALUES"
        )
        raise refusing.unreadable(path, reason)
