"""Contrast-limited adaptive histogram equalisation, on the device."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from keras import ops

Tensor = Any


def equalize(
    image: Tensor, tiles: int = 8, limit: float = 0.01, bins: int = 256
) -> Tensor:
    """Return the image with the contrast of each neighbourhood spread evenly.

    Each tile has a histogram of its own, of which no bin keeps more than `limit` (what
    is above is shared out among all bins, once, as OpenCV does); its running sum maps
    grey values to new ones, and a pixel takes the mean of the maps of the tiles
    around it, by their distance. A value between two bins counts in both and is mapped
    between both, so that no rounding of a grey value shows in the result.

    Args:
        image: float (batch, *size, channels); channels are equalised one by one.
        tiles: along each axis; fewer where there are fewer pixels.
        limit: largest share of a tile's pixels in one bin.
        bins: of each histogram.

    Returns:
        As `image`, within the range of each of its channels.

    Paper: Zuiderveld 1994, Contrast limited adaptive histogram equalization.
    """
    size, channels = tuple(image.shape[1:-1]), image.shape[-1]
    rank = len(size)
    axes = tuple(range(1, rank + 1))
    low = ops.min(image, axis=axes, keepdims=True)
    span = ops.max(image, axis=axes, keepdims=True) - low
    value = (image - low) / (span + 1e-6) * (bins - 1)
    lower = ops.clip(ops.floor(value), 0, bins - 2)
    part = value - lower
    lower = ops.cast(lower, "int32")
    batch = ops.shape(image)[0]
    first = ops.reshape(
        ops.arange(batch * channels, dtype="int32"),
        (batch,) + (1,) * rank + (channels,),
    )

    # Per axis: the tile of each pixel, and the two tiles whose centres enclose it.
    counts = [min(tiles, length) for length in size]
    own, around = first, []
    for axis, (length, count) in enumerate(zip(size, counts, strict=True), start=1):
        shape = [1] * (rank + 2)
        shape[axis] = length
        pixel = np.arange(length)
        own = own * count + _constant(pixel * count // length, "int32", shape)
        centre = np.clip((pixel + 0.5) * count / length - 0.5, 0, count - 1)
        before = np.floor(centre).astype(int)
        after = np.minimum(before + 1, count - 1)
        upper = centre - before
        around.append(
            [
                (_constant(which, "int32", shape), _constant(weight, "float32", shape))
                for which, weight in ((before, 1 - upper), (after, upper))
            ]
        )

    here = ops.reshape(own * bins + lower, (-1,))
    flat = ops.reshape(part, (-1,))
    number = batch * channels * int(np.prod(counts)) * bins
    histogram = ops.segment_sum(
        ops.concatenate([1.0 - flat, flat]),
        ops.concatenate([here, here + 1]),
        num_segments=number,
    )
    histogram = ops.reshape(histogram, (-1, bins))
    share = histogram / ops.sum(histogram, axis=1, keepdims=True)
    kept = ops.minimum(share, limit)
    share = kept + (1.0 - ops.sum(kept, axis=1, keepdims=True)) / bins
    rising = ops.reshape(ops.cumsum(share, axis=1), (-1,))

    total: Tensor = 0.0
    for corner in itertools.product(*around):
        tile, weight = first, 1.0
        for count, (which, factor) in zip(counts, corner, strict=True):
            tile, weight = tile * count + which, weight * factor
        place = tile * bins + lower
        mapped = ops.take(rising, place, axis=0) * (1.0 - part)
        mapped = mapped + ops.take(rising, place + 1, axis=0) * part
        total = total + weight * mapped
    return low + span * total


def _constant(values: np.ndarray, dtype: str, shape: list[int]) -> Tensor:
    return ops.convert_to_tensor(values.astype(dtype).reshape(shape))
