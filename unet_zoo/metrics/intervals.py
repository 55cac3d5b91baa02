"""How far a figure would move on other images of the same kind: the bootstrap."""

from __future__ import annotations

import numpy as np

from unet_zoo.errors import InputError


def bootstrap(
    parts: np.ndarray, *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> tuple[float, float]:
    """Return the interval of a ratio of sums, by drawing its units anew.

    Each resample draws as many units as there are, with replacement, and divides the
    sum of their parts by the sum of their wholes; the interval leaves out the same
    share of the lowest and the highest.

    Args:
        parts: float (units, 2), part and whole of each unit. Units are what might have
            been others: objects, or frames where their objects are alike.
        level: share of the resamples within the interval.
        resamples: how many.
        seed: of the draws; the same seed gives the same interval.

    Raises:
        InputError: for fewer than two units, or wholes that are all 0.

    >>> low, high = bootstrap(np.array([[0.9, 1], [0.8, 1], [0.4, 1], [0.9, 1]]))
    >>> low < 0.75 < high
    True

    Paper: Efron 1979, https://doi.org/10.1214/aos/1176344552
    """
    parts = np.asarray(parts, float)
    if parts.ndim != 2 or parts.shape[1] != 2 or len(parts) < 2:
        message = f"`parts` must be (2 or more units, 2). Received: {parts.shape}"
        raise InputError(message)
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(resamples):
        part, whole = parts[generator.integers(len(parts), size=len(parts))].sum(0)
        if whole:
            values.append(part / whole)
    if not values:
        message = "`parts` has nothing to divide by: all wholes are 0."
        raise InputError(message)
    outside = (1 - level) / 2
    low, high = np.quantile(values, (outside, 1 - outside))
    return float(low), float(high)
