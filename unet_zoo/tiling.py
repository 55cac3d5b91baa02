"""Overlap-tile: predict an image of any size piece by piece, without seams."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from unet_zoo.errors import InputError


class Tile(NamedTuple):
    """One call of the network: what it sees and where its result goes.

    Both count in pixels of the image. `source` may begin below 0 and end past the
    image: what lies outside is mirrored. `target` never leaves the image.
    """

    source: tuple[slice, slice]
    target: tuple[slice, slice]


class Geometry(NamedTuple):
    """Which input sizes a network takes, and what it loses at each side.

    Sizes are n with n % step == remainder; the result is n - 2 * margin.
    """

    margin: int
    step: int
    remainder: int


def valid_unet(depth: int) -> Geometry:
    """Return the geometry of the U-Net of 2015, without padding, for `depth` poolings.

    Two 3x3 convolutions per level and 2x2 pooling, as in
    https://arxiv.org/abs/1505.04597, where 572 pixels give 388.

    >>> valid_unet(4)
    Geometry(margin=92, step=16, remainder=12)
    """
    step = 2**depth
    return Geometry(margin=6 * step - 4, step=step, remainder=-4 % step)


def fitting(at_least: int, step: int, remainder: int = 0) -> int:
    """Return the smallest size n >= `at_least` with n % step == remainder.

    >>> fitting(512 + 184, step=16, remainder=12)
    700
    """
    return at_least + (remainder - at_least) % step


def plan(
    shape: tuple[int, int],
    *,
    tile: int | tuple[int, int] | None,
    margin: int,
    step: int,
    remainder: int = 0,
    inside: bool = False,
) -> list[Tile]:
    """Cut an image of `shape` (Y, X) into tiles, row by row.

    Every pixel is the target of exactly one tile and every source has the same
    shape. A source reaches `margin` beyond its target, at least, and begins a multiple
    of `step` after the first, so that pooling groups the pixels as it would in the
    whole image. `tile` is the largest target, in pixels or (Y, X); of the plans with
    the fewest tiles, the one with the smallest is taken. None: one tile.

    With `inside`, sources stay within the image (completed to a multiple of `step`):
    a network that pads by itself then meets the border of the image where it is, and
    nowhere else.

    >>> for tile in plan((100, 300), tile=160, margin=8, step=16):
    ...     print(tile.source[1], tile.target[1])
    slice(-8, 168, None) slice(0, 160, None)
    slice(152, 328, None) slice(160, 300, None)
    >>> for tile in plan((100, 300), tile=160, margin=16, step=16, inside=True):
    ...     print(tile.source[1], tile.target[1])
    slice(0, 192, None) slice(0, 160, None)
    slice(112, 304, None) slice(160, 300, None)
    """
    margin = _whole("margin", margin, 0)
    step = _whole("step", step, 1)
    tiles = tile if isinstance(tile, tuple) else (tile, tile)
    rows, columns = (
        _cut_inside(size, limit, margin, step)
        if inside
        else _cut(size, limit, margin, step, remainder)
        for size, limit in zip(shape, tiles, strict=True)
    )
    return [
        Tile((row.source, column.source), (row.target, column.target))
        for row, column in itertools.product(rows, columns)
    ]


def predict(
    function: Callable[[np.ndarray], Any],
    image: np.ndarray,
    *,
    tile: int | tuple[int, int] | None = None,
    margin: int,
    step: int,
    padding: str,
    remainder: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> np.ndarray:
    """Predict an image (Y, X, C) tile by tile, as float32 (Y, X, K).

    With padding "valid", what lies outside the image is mirrored at its border,
    repeatedly where the image is smaller than `margin`. With "same", tiles stay within
    the image, completed to a multiple of `step` by mirroring. The result is that of the
    whole image: always with "valid", and with "same" as far as the network sees no
    further than `margin`.

    Args:
        function: takes a batch (1, h, w, C) and returns (1, h, w, K) for padding
            "same" or (1, h - 2 * margin, w - 2 * margin, K) for "valid". All batches
            of one call have the same shape.
        image: real values (Y, X, C).
        tile: largest part of the result to compute at once, in pixels or (Y, X), at
            least `step` and rounded down to a multiple of it. The network sees
            2 * margin more. None: everything at once.
        margin: context in pixels at each side of a tile.
        step: 2**depth, the pixels that the deepest level groups to one.
        padding: "same" or "valid", that of the network.
        remainder: the network's input sizes are n % step == remainder. Default: 0
            for "same", and for "valid" that of `valid_unet`.
        progress: called with the number of tiles done and of all tiles.

    This is the overlap-tile strategy of https://arxiv.org/abs/1505.04597, figure 2.

    >>> image = np.arange(12.0).reshape(3, 4, 1)
    >>> shrink = lambda batch: batch[:, 2:-2, 2:-2]
    >>> result = predict(shrink, image, tile=2, margin=2, step=2, padding="valid")
    >>> bool((result == image).all())
    True
    """
    image = np.asarray(image, np.float32)
    if image.ndim != 3 or image.size == 0:
        message = f"`image` must have the axes (Y, X, C), got shape {image.shape}"
        raise InputError(message)
    if padding not in ("same", "valid"):
        message = f'`padding` must be "same" or "valid", got {padding!r}'
        raise InputError(message)
    step = _whole("step", step, 1)
    if remainder is None:
        remainder = 0 if padding == "same" else -4 % step
    shape = (image.shape[0], image.shape[1])
    inside = padding == "same"
    tiles = plan(
        shape, tile=tile, margin=margin, step=step, remainder=remainder, inside=inside
    )

    result = None
    for done, (source, target) in enumerate(tiles, start=1):
        batch = mirrored(image, source)[None]
        output = np.asarray(function(batch))
        lost = 2 * margin if padding == "valid" else 0
        expected = (1, batch.shape[1] - lost, batch.shape[2] - lost)
        if output.ndim != 4 or output.shape[:3] != expected:
            message = (
                f"`function` must return {(*expected, 'K')} for {batch.shape} with "
                f"padding={padding!r} and margin={margin}, got {output.shape}"
            )
            raise ValueError(message)
        if result is None:
            result = np.empty((*shape, output.shape[-1]), np.float32)
        # A valid network has lost `margin` of its source at each side.
        begins = [
            kept.start - seen.start - lost // 2
            for kept, seen in zip(target, source, strict=True)
        ]
        rows, columns = (
            slice(begin, begin + kept.stop - kept.start)
            for begin, kept in zip(begins, target, strict=True)
        )
        result[target] = output[0, rows, columns]
        if progress is not None:
            progress(done, len(tiles))
    assert result is not None  # an image has pixels, so there was a tile
    return result


def mirrored(image: np.ndarray, part: tuple[slice, slice]) -> np.ndarray:
    """Return `part` of an image (Y, X, ...), mirrored where it lies outside.

    A part that lies inside is a view. The pixels at the border are not doubled.

    >>> mirrored(np.array([[1, 2, 3]]), (slice(0, 1), slice(-3, 6)))
    array([[2, 3, 2, 1, 2, 3, 2, 1, 2]])
    """
    if all(
        each.start >= 0 and each.stop <= size
        for each, size in zip(part, image.shape, strict=False)
    ):
        return image[part]
    rows, columns = (
        reflect(np.arange(each.start, each.stop), size)
        for each, size in zip(part, image.shape[:2], strict=True)
    )
    return image[rows[:, None], columns]


def reflect(index: np.ndarray, size: int) -> np.ndarray:
    """Return which pixels of an axis stand at `index`, mirrored where it is outside.

    >>> reflect(np.arange(-2, 5), 3)
    array([2, 1, 0, 1, 2, 1, 0])
    """
    if size == 1:
        return np.zeros_like(index)
    index = index % (2 * size - 2)
    return np.minimum(index, 2 * size - 2 - index)


class _Piece(NamedTuple):
    source: slice
    target: slice


def _cut(
    size: int, limit: int | None, margin: int, step: int, remainder: int
) -> list[_Piece]:
    """Cut one axis; see `plan`."""
    stride, count = size, 1
    seen = fitting(size + 2 * margin, step, remainder)
    if limit is not None:
        limit = _whole("tile", limit, step, hint=f"; the smallest tile is {step}")
        limit -= limit % step
        # Of a network's result, `spare` pixels beyond the last multiple of step come
        # for nothing: at the end of the axis they save a tile.
        largest = fitting(limit + 2 * margin, step, remainder)
        spare = largest - 2 * margin - limit
        if seen > largest:
            count = -(-(size - spare) // limit)
            stride = fitting(-(-(size - spare) // count), step)
            seen = fitting(stride + 2 * margin, step, remainder)
    pieces = []
    for number in range(count):
        start = number * stride
        stop = size if number == count - 1 else start + stride
        pieces.append(
            _Piece(slice(start - margin, start - margin + seen), slice(start, stop))
        )
    return pieces


def _cut_inside(size: int, limit: int | None, margin: int, step: int) -> list[_Piece]:
    """Cut one axis into pieces whose sources stay inside; see `plan`."""
    whole = fitting(size, step)
    margin = fitting(margin, step)
    if limit is None:
        return [_Piece(slice(0, whole), slice(0, size))]
    limit = _whole("tile", limit, step, hint=f"; the smallest tile is {step}")
    count = -(-size // (limit - limit % step))
    stride = fitting(-(-size // count), step)
    seen = min(whole, stride + 2 * margin)
    pieces = []
    for start in range(0, size, stride):
        begin = min(max(0, start - margin), whole - seen)
        target = slice(start, min(start + stride, size))
        pieces.append(_Piece(slice(begin, begin + seen), target))
    return pieces


def _whole(name: str, value: object, smallest: int, hint: str = "") -> int:
    """Return `value` as an int of at least `smallest`, or raise `InputError`."""
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = smallest - 1
    if number < smallest:
        message = (
            f"`{name}` must be a whole number of at least {smallest}, got {value}{hint}"
        )
        raise InputError(message)
    return number
