"""What `segment` returns: labels, and on request all that can be made of them."""

from __future__ import annotations

import copy
import functools
import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo.errors import InputError
from unet_zoo.outputs import overlays, shapes, tables, writers

if TYPE_CHECKING:
    import pandas

    from unet_zoo import images


class Result:
    """The objects that were found in an image or in every frame of a stack.

    numpy, napari and whatever else takes arrays take a result for its labels. Tables
    and pictures are made when they are asked for; the image is not copied.

    Args:
        labels: int (Y, X) or (T, Y, X), 0 is background.
        image: what was segmented, (Y, X), (Y, X, C) or (T, Y, X, C); of a dask array,
            what is needed is computed when it is needed.
        prediction: float (Y, X, K) or (T, Y, X, K), what the network said; None where
            it is not known; or a function that returns it, called when it is needed.
        foreground: makes (..., Y, X) of a prediction, the probability of a pixel to be
            of an object, as `Target.foreground` does.
        pixel_size: micrometres, one number or (y, x); None where unknown.
        classes: labels are numbers of classes, not of objects.
        name: of the image, as tables and names of files have it.
        planes: where the frames of a stack lie in its file, as `images.Image` has it;
            None: they are time points.

    Attributes:
        labels: int32 (Y, X) or (T, Y, X).
        image: as given.
        pixel_size: (y, x) in micrometres, or None. It can be set, to one number as
            well; frames, and tables made from then on, have it.
        name: as given; it can be set, and frames have it as well.
        classes, planes: as given.

    Example:
        >>> labels = np.zeros((6, 8), int)
        >>> labels[1:4, 2:5] = 1
        >>> result = Result(labels, labels * 50.0, name="a")
        >>> result.labels.max(), int(np.sum(result)), result
        (np.int32(1), 9, <Result 'a': 1 object in 6 x 8 pixels>)
        >>> result.table()["mean_intensity"].item()
        50.0
    """

    def __init__(
        self,
        labels: np.ndarray,
        image: np.ndarray,
        *,
        prediction: np.ndarray | Callable[[], np.ndarray] | None = None,
        foreground: Callable[[np.ndarray], np.ndarray] | None = None,
        pixel_size: float | tuple[float, float] | None = None,
        classes: bool = False,
        name: str = "image",
        planes: images.Planes | None = None,
    ) -> None:
        labels = np.asarray(labels)
        if labels.ndim not in (2, 3) or labels.dtype.kind not in "bui":
            message = (
                "`labels` must be whole numbers (Y, X) or (T, Y, X). Received: "
                f"{labels.dtype} of shape {labels.shape}"
            )
            raise InputError(message)
        if labels.size and labels.max() > np.iinfo(np.int32).max:
            message = (
                f"`labels` must be ids up to {np.iinfo(np.int32).max}. Received: "
                f"{labels.max()}. Number them anew with "
                "skimage.segmentation.relabel_sequential."
            )
            raise InputError(message)
        rest = np.ndim(image) - labels.ndim
        if rest not in (0, 1) or np.shape(image)[: labels.ndim] != labels.shape:
            message = (
                f"`image` must be of the size of `labels` {labels.shape}, with an axis "
                f"of channels or without. Received: {np.shape(image)}"
            )
            raise InputError(message)
        if planes is not None and labels.ndim > 2 and planes.count != len(labels):
            message = (
                f"`planes` must be of the {len(labels)} frames of `labels`. Received: "
                f"{planes}"
            )
            raise InputError(message)
        self.labels = labels.astype(np.int32, copy=False)
        self.image = image
        self._frames: Sequence[Result] | None = None
        self.pixel_size, self.name = pixel_size, name
        self.classes, self.planes = classes, planes
        self._prediction, self._foreground = prediction, foreground

    @classmethod
    def stack(cls, frames: Sequence[Result], image: np.ndarray | None = None) -> Result:
        """Return the results of single images of one size as that of a stack.

        >>> one = Result(np.ones((2, 3), int), np.zeros((2, 3)))
        >>> Result.stack([one, one]).shape
        (2, 2, 3)
        """
        first = frames[0]
        if image is None:
            image = np.stack([each.image for each in frames])
        predicted = all(each._prediction is not None for each in frames)
        result = cls(
            np.stack([each.labels for each in frames]),
            image,
            prediction=functools.partial(_stacked, frames) if predicted else None,
            foreground=first._foreground,
            pixel_size=first.pixel_size,
            classes=first.classes,
            name=first.name,
        )
        result._frames = tuple(frames)  # with the tables that they have made already
        return result

    # === What there is ===

    @property
    def pixel_size(self) -> tuple[float, float] | None:
        """Return (y, x) in micrometres, None where unknown."""
        return self._pixel_size

    @pixel_size.setter
    def pixel_size(self, given: float | tuple[float, float] | None) -> None:
        self._pixel_size = tables.as_pixel_size(given)
        self.__dict__.pop("_table", None)  # which has no lengths, or wrong ones
        self._of_frames("pixel_size", given)

    @property
    def name(self) -> str:
        """Return the name of the image, as tables and names of files have it."""
        return self._name

    @name.setter
    def name(self, given: str) -> None:
        self._name = given
        self._of_frames("name", given)

    def _of_frames(self, name: str, value: Any) -> None:
        """Set an attribute of all frames; of copies, since `stack` was given them."""
        if self._frames is None:
            return
        self._frames = tuple(map(copy.copy, self._frames))
        for frame in self._frames:
            setattr(frame, name, value)

    @property
    def prediction(self) -> np.ndarray | None:
        """Return float32 (Y, X, K) or (T, Y, X, K), None where it is not known."""
        return None if self._prediction is None else self._predicted()

    def _predicted(self) -> np.ndarray:
        made = self._prediction() if callable(self._prediction) else self._prediction
        return np.asarray(made)

    @property
    def probability(self) -> np.ndarray | None:
        """Return float32 (Y, X) or (T, Y, X): how sure a pixel is of an object."""
        if self._foreground is None or self._prediction is None:
            return None
        return self._foreground(self._predicted())

    @property
    def frames(self) -> Sequence[Result]:
        """Return the results of single images: of each frame, or this one."""
        if self.labels.ndim == 2:
            return (self,)
        if self._frames is None:
            self._frames = tuple(map(self._frame, range(len(self.labels))))
        return self._frames

    def _frame(self, number: int) -> Result:
        known = self._prediction is not None
        return Result(
            self.labels[number],
            self.image[number],
            prediction=functools.partial(_of_frame, self, number) if known else None,
            foreground=self._foreground,
            pixel_size=self.pixel_size,
            classes=self.classes,
            name=self.name,
        )

    @property
    def count(self) -> int:
        """Return how many objects there are, of a stack in all frames together."""
        return sum(len(shapes.ids(each.labels)) for each in self.frames)

    def forget(self, again: Callable[[], np.ndarray] | None = None) -> None:
        """Give back the memory of the prediction; `again` makes it anew if asked."""
        self._prediction = again

    # === What can be made of it ===

    def table(self) -> pandas.DataFrame:
        """Return one row per object; see `outputs.table`.

        With mean_confidence where the prediction is known, and with lengths in
        micrometres where the pixel size is. That of a stack has the column frame in
        front.
        """
        return self._table.copy()

    @functools.cached_property
    def _table(self) -> pandas.DataFrame:
        if self.labels.ndim == 2:
            return tables.table(
                self.labels,
                self.image,
                probability=self.probability,
                pixel_size=self.pixel_size,
            )
        import pandas

        rows = []
        for number, frame in enumerate(self.frames):
            rows.append(frame.table())
            rows[-1].insert(0, "frame", number)
        return pandas.concat(rows, ignore_index=True)

    def overlay(self, *, fill: float = 0.0) -> np.ndarray:
        """Return the image with outlines, uint8 (Y, X, 3) or (T, Y, X, 3).

        See `outputs.overlay`.
        """
        drawn = [
            overlays.overlay(each.image, each.labels, fill=fill) for each in self.frames
        ]
        return drawn[0] if self.labels.ndim == 2 else np.stack(drawn)

    def save(
        self,
        path: str | os.PathLike[str],
        write: str | Sequence[str] | None = None,
        *,
        stem: str | None = None,
        overwrite: bool = False,
    ) -> list[Path]:
        """Write files, all of them or none, and return their paths.

        Args:
            path: a folder, made if it is not there; or one file, whose suffix says
                what it becomes: .tif labels, .csv, .parquet, .geojson, .json COCO,
                .zip ROIs of ImageJ, .zarr OME-Zarr, .png overlay.
            write: what to write into the folder, names of `outputs.WRITERS`; None:
                labels and csv.
            stem: what names of files begin with; None: the name of the image.
            overwrite: replace what is there.

        Raises:
            InputError: for unknown names, a package that is missing, or a file that is
                there already.

        Example:
            >>> import tempfile
            >>> result = Result(np.ones((4, 5), int), np.zeros((4, 5)))
            >>> [each.name for each in result.save(tempfile.mkdtemp(), stem="a")]
            ['a_masks.tif', 'a_objects.csv']
        """
        path = Path(path)
        single = writers.of_suffix(path) if write is None else None
        if single is not None and (single.folder or not path.is_dir()):
            return writers.write_one(self, path, single, overwrite=overwrite)
        names = ("labels", "csv") if write is None else write
        names = (names,) if isinstance(names, str) else names
        stem = Path(self.name).stem if stem is None else stem
        return writers.write(self, path, stem, names, overwrite=overwrite)

    # === As an array, and in Jupyter ===

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.labels, dtype=dtype, copy=copy)

    def __getitem__(self, key: Any) -> Any:
        return self.labels[key]

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (Y, X) or (T, Y, X)."""
        return self.labels.shape

    @property
    def ndim(self) -> int:
        """Return 2, or 3 of a stack."""
        return self.labels.ndim

    @property
    def size(self) -> int:
        """Return the number of pixels."""
        return self.labels.size

    @property
    def dtype(self) -> np.dtype:
        """Return int32."""
        return self.labels.dtype

    def __getattr__(self, name: str) -> Any:
        message = f"A result has no attribute {name!r}."
        if hasattr(np.ndarray, name):
            message += f" Its labels have: result.labels.{name}"
        raise AttributeError(message)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.labels.shape[-2:]))
        frames = "" if self.labels.ndim == 2 else f" and {len(self.labels)} frames"
        count = self.count
        what = "class" if self.classes else "object"
        more = "" if count == 1 else "es" if self.classes else "s"
        return f"<Result {self.name!r}: {count} {what}{more} in {size} pixels{frames}>"

    def _repr_png_(self) -> bytes:
        """Return the overlay, of a stack that of its first frame, for Jupyter."""
        import PIL.Image

        first = self.frames[0]
        picture = PIL.Image.fromarray(overlays.overlay(first.image, first.labels))
        picture.thumbnail((1024, 1024))
        memory = io.BytesIO()
        picture.save(memory, "PNG")
        return memory.getvalue()


# Functions with a name, so that a result can be pickled.


def _stacked(frames: Sequence[Result]) -> np.ndarray:
    return np.stack([each._predicted() for each in frames])


def _of_frame(stack: Result, number: int) -> np.ndarray:
    return stack._predicted()[number]
