"""One pair of files read and checked: images with the labels of their objects."""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unet_zoo import images
from unet_zoo.catalog import outlines
from unet_zoo.catalog.outlines import Outline
from unet_zoo.catalog.problems import Problem, problem_of
from unet_zoo.errors import InputError

# What programs write for white: no id of an object, whatever other masks hold.
WHITE = (255, 65535)

Drawn = Callable[[], tuple[list[Outline], Counter[str]]]


@dataclasses.dataclass(frozen=True)
class Pair:
    """An image file and the file that says where its objects are.

    `drawn` gives the outlines where `mask` is not an image; `shape` (Y, X) is the
    image's size as the file of outlines has it.
    """

    name: str
    image: Path
    mask: Path
    drawn: Drawn | None = None
    shape: tuple[int, int] | None = None


@dataclasses.dataclass(frozen=True, eq=False)
class Page:
    """One image (Y, X, C) with its mask int32 (Y, X), as the files have them.

    `drawn` is true where the mask was made of outlines, which are objects always;
    `told` counts what happened to them. `only` is the one value beside 0 (and -1) that
    the file holds in all of its pages, None where it holds none or several.
    """

    name: str
    image: np.ndarray
    mask: np.ndarray
    drawn: bool
    told: Counter[str]
    only: int | None = None


def read(pair: Pair) -> list[Page]:
    """Return the pages of a pair: one, or as many as a stack has.

    Raises `Problem` at the first thing that is wrong.
    """
    stack = read_image(pair.image)
    names = [pair.name]
    if len(stack) > 1:
        names = [f"{pair.name}[{number}]" for number in range(len(stack))]
    if pair.drawn is not None:
        return _drawn(pair, pair.drawn, stack, names)
    masks = read_mask(pair.mask)
    if len(masks) != len(stack):
        what = (
            f"The image {pair.image} has {len(stack)} pages, its mask {pair.mask} has"
            f" {len(masks)}."
        )
        raise Problem(pair.mask, what, "Every page needs its mask.")
    _equal(pair, stack.shape[1:3], masks.shape[1:])
    top = int(masks.max())
    only = None if top < 1 or ((masks > 0) & (masks < top)).any() else top
    return [
        Page(name, image, mask, False, Counter(), only)
        for name, image, mask in zip(names, stack, masks, strict=True)
    ]


def _drawn(pair: Pair, drawn: Drawn, stack: np.ndarray, names: list[str]) -> list[Page]:
    found, left_out = drawn()
    shape = stack.shape[1:3]
    if pair.shape is not None:
        _equal(pair, shape, pair.shape)
    for each in found:
        if each.shape is not None:
            _equal(pair, shape, each.shape)
    # ROIs of a single image may still carry the slice of the stack it was.
    on = [found] if len(stack) == 1 else _by_page(pair, found, len(stack))
    pages = []
    for name, image, here in zip(names, stack, on, strict=True):
        labels, told = outlines.draw(here, shape)
        pages.append(Page(name, image, labels, True, told + left_out))
        left_out = Counter()
    return pages


def _by_page(pair: Pair, found: list[Outline], count: int) -> list[list[Outline]]:
    """Return the outlines on each page of a stack."""
    with images.open_image(pair.image) as image:
        planes = image.planes
    at: dict[tuple[int | None, int | None], list[int]] = defaultdict(list)
    for number in range(count):
        z, t = planes.place(number)
        for place in ((z, t), (z, None), (None, t)):
            at[place].append(number)
    pages: list[list[Outline]] = [[] for _ in range(count)]
    for outline in found:
        on: Sequence[int] = range(count)
        numbers = [n for n in (outline.page, *(outline.plane or ())) if n is not None]
        if outline.plane is not None and planes.both:
            on = at.get(outline.plane, [])
            names = zip("zt", outline.plane, strict=True)
            where = " of ".join(f"{name} {n + 1}" for name, n in names if n is not None)
        elif numbers:
            # Programs differ in whether they count pages along z or t.
            on, where = on[max(numbers) :][:1], f"page {max(numbers) + 1}"
        if not on:
            what = (
                f"{pair.mask} has outlines on {where}; the image {pair.image} has"
                f" {count} pages."
            )
            way_out = (
                "Give the image that they were drawn on; if it is this one, write the"
                " outlines anew."
            )
            raise Problem(pair.mask, what, way_out)
        for number in on:
            pages[number].append(outline)
    return pages


def _equal(pair: Pair, image: tuple[int, ...], mask: tuple[int, ...]) -> None:
    if image == mask:
        return
    what = (
        f"The image {pair.name} is {image[0]} x {image[1]} pixels, its mask"
        f" {pair.mask} is {mask[0]} x {mask[1]}."
    )
    raise Problem(pair.mask, what, "They must be equal.")


def read_image(path: Path) -> np.ndarray:
    """Return an image file as (T, Y, X, C)."""
    try:
        image = images.read(path)
    except InputError as error:
        raise problem_of(path, error) from error
    wrong = 0 if image.dtype.kind != "f" else np.count_nonzero(~np.isfinite(image))
    if wrong:
        what = f"The image {path} has {wrong} values that are NaN or infinite."
        raise Problem(path, what, "Replace them, for instance with numpy.nan_to_num.")
    return image


def read_mask(path: Path) -> np.ndarray:
    """Return a mask file as int32 (T, Y, X)."""
    if path.suffix.lower() in (".jpg", ".jpeg"):
        what = (
            f"The mask {path} is a JPEG, which does not keep the values of its pixels."
        )
        raise Problem(path, what, "Save masks as PNG or TIFF.")
    try:
        mask = images.read(path, indices=True)
    except InputError as error:
        raise problem_of(path, error) from error
    if mask.shape[-1] != 1:
        what = (
            f"The mask {path} has {mask.shape[-1]} channels (a colour picture?); one is"
            " expected."
        )
        way_out = (
            "Save the ids of the objects, 0 for background, as one channel of whole"
            " numbers."
        )
        raise Problem(path, what, way_out)
    if mask.dtype.kind not in "ui":
        what = f"The mask {path} holds {mask.dtype}; whole numbers are expected."
        way_out = "Save the ids of the objects as 8- or 16-bit integers."
        raise Problem(path, what, way_out)
    low, high = int(mask.min()), int(mask.max())
    if low < -1 or high > np.iinfo("int32").max:
        what = (
            f"The mask {path} holds values from {low} to {high}; -1 (not annotated) to"
            f" {np.iinfo('int32').max} are possible."
        )
        raise Problem(path, what)
    return mask[..., 0].astype("int32")


class Meaning:
    """What masks mean, which shows only in all of them together."""

    def __init__(self, path: Path) -> None:
        self.path, self.pages, self.stacks = path, 0, 0
        self.values: set[int] = set()
        self.drawn = 0
        self._white: set[int] = set()  # what white masks hold, and what the others do
        self._ids: set[int] = set()
        self.told: Counter[str] = Counter()
        self._channels: dict[int, tuple[Path, str]] = {}

    def add(self, pair: Pair, pages: list[Page]) -> None:
        """Take the pages of one pair into account."""
        self.stacks += len(pages) > 1
        for page in pages:
            self.pages += 1
            self.drawn += page.drawn
            self.told += page.told
            values = set(np.unique(page.mask).tolist())
            self.values |= values
            if not page.drawn:
                found = self._white if page.only in WHITE else self._ids
                found |= {value for value in values if value > 0}
            channels = page.image.shape[-1]
            self._channels.setdefault(channels, (pair.image, page.name))

    @property
    def binary(self) -> bool:
        """Return whether no mask says which object is which: regions are the objects.

        So it is where masks hold one value beside 0, the same in all that are not
        white. Outlines are left out of account.
        """
        return len(self._ids) < 2 and bool(self._ids | self._white)

    def problems(self) -> list[Problem]:
        """Return what is wrong with all masks or images together."""
        found = []
        if len(self.values) == 1 and not self.drawn:
            what = (
                f"All masks in {self.path} hold the value {min(self.values)} and"
                " nothing else."
            )
            way_out = "Background must be 0, objects 1 and more."
            found.append(Problem(self.path, what, way_out))
        elif self.drawn and not any(value > 0 for value in self.values):
            what = f"No image of {self.path} has an object."
            found.append(Problem(self.path, what, "Draw the objects of some at least."))
        if len(self._channels) > 1:
            counts = ", ".join(
                f"{name} has {count}" for count, (_, name) in self._channels.items()
            )
            what = f"All images must have the same number of channels; {counts}."
            file = list(self._channels.values())[1][0]
            way_out = "Convert them to one kind, grey or colour."
            found.append(Problem(file, what, way_out))
        return found

    def labels(self, page: Page) -> np.ndarray:
        """Return the labels of a page, int32 (Y, X)."""
        regions = page.only is not None and (self.binary or page.only in WHITE)
        return _components(page.mask) if regions else page.mask

    @property
    def kind(self) -> str:
        """Return "binary", "outlines", or "instances": one id per object."""
        if self.binary:
            return "binary"
        return "outlines" if self.drawn == self.pages else "instances"

    def note(self) -> str:
        """Return the sentence that says what was understood."""
        what = "masks hold one id per object (instances)"
        if self.binary:
            value = " or ".join(map(str, sorted(self._ids | self._white)))
            what = (
                f"masks hold 0 and {value} only: each connected region is taken as an"
                " object"
            )
        elif self.drawn == self.pages:
            what = "each outline is an object (instances)"
        elif self._white:
            value = " or ".join(map(str, sorted(self._white)))
            what += f", those of {value} alone one connected region per object"
        if 0 < self.drawn < self.pages:
            what += f", {self.drawn} are drawn from outlines"
        if -1 in self.values:
            what += "; -1 is not annotated"
        if self.stacks:
            what += f"; each page of {self.stacks} stacks is an example"
        what += "".join(f"; {count} {each}" for each, count in self.told.items())
        return f"{self.pages} pairs; {what}."


def _components(mask: np.ndarray) -> np.ndarray:
    import skimage.measure

    # Neighbours by edge only: a diagonal line of background separates two objects.
    objects = skimage.measure.label(mask > 0, connectivity=1).astype("int32")
    return np.where(mask < 0, mask, objects)
