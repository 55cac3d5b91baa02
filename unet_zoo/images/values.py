"""Values and sizes of images: what networks expect, and what people see."""

from __future__ import annotations

import numpy as np

from unet_zoo.errors import InputError


def normalize(image: np.ndarray, method: str = "zscore") -> np.ndarray:
    """Bring an image (Y, X, C) into the range networks expect, as float32.

    Statistics are those of the whole image, one set per channel, so that its tiles
    agree. "zscore": mean 0 and standard deviation 1. "percentile": the 1st and 99.8th
    percentile become 0 and 1, nothing is clipped; where the two coincide, minimum and
    maximum take their place. A constant channel becomes 0 in both. "unit" (or "none"):
    uint8 divided by 255, uint16 by 65535, floats as they are. NaN and infinite values
    are refused.

    >>> image = np.arange(12, dtype=np.uint8).reshape(3, 4, 1)
    >>> normalized = normalize(image)
    >>> float(abs(normalized.mean())) < 1e-6, round(float(normalized.std()), 3)
    (True, 1.0)
    """
    image = np.asarray(image)
    if image.ndim != 3 or image.size == 0:
        message = (
            f"`image` must have the axes (Y, X, C), got shape {image.shape}; "
            "give a grey image its channel with image[..., None]"
        )
        raise InputError(message)
    _check_finite(image)
    if method in ("unit", "none"):
        return _unit(image)
    low, high = image.min(axis=(0, 1)), image.max(axis=(0, 1))
    if method == "zscore":
        offset = image.mean(axis=(0, 1), dtype=np.float64)
        scale = image.std(axis=(0, 1), dtype=np.float64)
    elif method == "percentile":
        offset, top = _percentiles(image, (1, 99.8)).astype(np.float64)
        sparse = top <= offset  # nearly all pixels alike: the few others still count
        offset, top = np.where(sparse, low, offset), np.where(sparse, high, top)
        scale = top - offset
    else:
        message = (
            f"Unknown normalization {method!r}. Known: zscore, percentile, unit, none."
        )
        raise InputError(message)
    # Rounding may leave a constant channel a deviation of 1e-17: ask the values.
    constant = (low == high) | (scale == 0)
    result = (image - offset) / np.where(constant, 1, scale)
    result[..., constant] = 0
    return result.astype(np.float32)


def to_uint8(image: np.ndarray) -> np.ndarray:
    """Return an image (Y, X) or (Y, X, C) as uint8 (Y, X, 3) for people to look at.

    The 1st and 99th percentile become black and white: per channel, or for 8-bit
    colours in common, which keeps their hue. One channel becomes grey, two magenta
    and green, of four or more the first three are shown. Not for networks.

    >>> to_uint8(np.linspace(0, 9000, 20, dtype=np.uint16).reshape(4, 5)).max()
    np.uint8(255)
    """
    image = np.asarray(image)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.size == 0:
        message = f"`image` must be (Y, X) or (Y, X, C), got shape {image.shape}"
        raise InputError(message)
    shown = {1: [0, 0, 0], 2: [0, 1, 0]}.get(image.shape[-1], [0, 1, 2])
    together = image.dtype == np.uint8 and image.shape[-1] >= 3
    image = image[..., : max(shown) + 1]
    if image.dtype.kind not in "bu":
        image = np.where(np.isfinite(image), image, 0).astype(np.float64)
    values = image.reshape(-1, 1, 1) if together else image
    low, high = _percentiles(values, (1, 99))
    flat = high <= low
    low = np.where(flat, values.min(axis=(0, 1)), low)
    high = np.where(flat, values.max(axis=(0, 1)), high)
    spread = np.where(high > low, high - low, 1)

    def stretched(values: np.ndarray) -> np.ndarray:
        return np.round(np.clip((values - low) / spread, 0, 1) * 255).astype(np.uint8)

    if image.dtype == np.uint8 and image.shape[-1] == 1:
        # Few values: a table of them takes a tenth of the time.
        return np.repeat(stretched(np.arange(256.0))[image], 3, axis=-1)
    return np.ascontiguousarray(stretched(image)[..., shown])


def rescale(
    image: np.ndarray,
    factor: float | tuple[int, int] | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Resize an image (Y, X, C) to round(factor * (Y, X)) or to `shape`, as float32.

    Bilinear with centred pixels; when shrinking, the triangle is as wide as the step
    between new pixels, so that nothing aliases. Values keep their range.

    >>> rescale(np.ones((10, 15, 1), np.uint8), 0.5).shape
    (5, 8, 1)
    """
    import PIL.Image

    height, width = _target(np.shape(image), factor, shape)
    image = np.asarray(image, np.float32)
    if (height, width) == image.shape[:2]:
        return image.copy()
    result = np.empty((height, width, *image.shape[2:]), np.float32)
    planes = image.reshape(*image.shape[:2], -1)
    resized = result.reshape(height, width, -1)
    for channel in range(planes.shape[-1]):
        plane = PIL.Image.fromarray(np.ascontiguousarray(planes[..., channel]))
        resized[..., channel] = plane.resize(
            (width, height), PIL.Image.Resampling.BILINEAR
        )
    return result


def rescale_labels(
    labels: np.ndarray,
    factor: float | tuple[int, int] | None = None,
    *,
    shape: tuple[int, int] | None = None,
) -> np.ndarray:
    """Resize labels (Y, X) like `rescale`, each pixel a copy of the nearest one.

    >>> rescale_labels(np.array([[1, 2]]), 2)
    array([[1, 1, 2, 2],
           [1, 1, 2, 2]])
    """
    labels = np.asarray(labels)
    height, width = _target(labels.shape, factor, shape)
    rows = (2 * np.arange(height) + 1) * labels.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * labels.shape[1] // (2 * width)
    return labels[rows[:, None], columns]


def _percentiles(image: np.ndarray, shares: tuple[float, float]) -> np.ndarray:
    """Return what `np.percentile` makes of each channel of (Y, X, C): (2, C)."""
    if image.dtype == bool:  # which numpy does not interpolate
        image = image.astype(np.uint8)
    if image.dtype != np.uint8:
        return np.percentile(image, shares, axis=(0, 1))
    # Few values: to count them takes a tenth of the time.
    places = np.divide(shares, 100) * (image[..., 0].size - 1)
    ranks = np.floor(places).astype(int)
    found = np.empty((2, image.shape[-1]))
    for channel in range(image.shape[-1]):
        upto = np.cumsum(np.bincount(image[..., channel].ravel(), minlength=256))
        lower = np.searchsorted(upto, ranks, side="right")
        upper = np.searchsorted(upto, np.minimum(ranks + 1, upto[-1] - 1), side="right")
        found[:, channel] = lower + (upper - lower) * (places - ranks)
    return found


def _check_finite(image: np.ndarray) -> None:
    if image.dtype.kind != "f":
        return
    wrong = ~np.isfinite(image)
    if wrong.any():
        y, x, channel = np.argwhere(wrong)[0].tolist()
        message = (
            f"`image` has {np.count_nonzero(wrong)} values that are NaN or infinite, "
            f"the first at y={y}, x={x}, channel={channel}; replace them, "
            "for instance with np.nan_to_num"
        )
        raise InputError(message)


def _unit(image: np.ndarray) -> np.ndarray:
    if image.dtype in (np.uint8, np.uint16):
        return (image / np.float32(np.iinfo(image.dtype).max)).astype(np.float32)
    if image.dtype.kind in "fb":
        return image.astype(np.float32)
    message = (
        f"Normalization 'unit' knows the range of uint8, uint16 and floats, not of "
        f"{image.dtype}; use 'zscore' or 'percentile'"
    )
    raise InputError(message)


def _target(
    old: tuple[int, ...],
    factor: float | tuple[int, int] | None,
    shape: tuple[int, int] | None,
) -> tuple[int, int]:
    if (factor is None) == (shape is None):
        message = "Give either `factor` or `shape`"
        raise InputError(message)
    if isinstance(factor, tuple):
        shape = factor
    elif factor is not None:
        if not np.isfinite(factor) or factor <= 0:
            message = f"`factor` must be positive, got {factor}; 1 keeps the size"
            raise InputError(message)
        shape = (max(1, round(factor * old[0])), max(1, round(factor * old[1])))
    if shape is None or len(shape) != 2 or min(shape) < 1:
        message = f"`shape` must be two positive numbers (Y, X), got {shape}"
        raise InputError(message)
    return int(shape[0]), int(shape[1])
