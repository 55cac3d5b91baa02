"""Sizes of pixels in micrometres, whatever the file calls them."""

from __future__ import annotations

import math

from unet_zoo.images.sources import PixelSize

_MICROMETRES = {
    "\u00b5m": 1.0,
    "\u03bcm": 1.0,
    "\\u00b5m": 1.0,  # ImageJ escapes it
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometre": 1.0,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "pm": 1e-6,
    "\u00e5": 1e-4,
    "angstrom": 1e-4,
    "mm": 1e3,
    "millimeter": 1e3,
    "millimetre": 1e3,
    "cm": 1e4,
    "centimeter": 1e4,
    "centimetre": 1e4,
    "m": 1e6,
    "meter": 1e6,
    "metre": 1e6,
    "inch": 25400.0,
    "in": 25400.0,
}
# 1,200 dots per inch: whatever is coarser was meant for a printer or a screen (72,
# 96, 300 dpi) and says nothing of the object.
PRINTED = 25400 / 1200


def micrometres(y: object, x: object, unit: object) -> PixelSize:
    """Return (y, x) in micrometres; None where a length or its unit is unknown.

    >>> micrometres(650, 650.0, "nm"), micrometres(1, 1, "pixel")
    ((0.65, 0.65), None)
    """
    factor = _MICROMETRES.get(str(unit).strip().lower())
    if factor is None:
        return None
    try:
        size = float(y) * factor, float(x) * factor  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return (round(size[0], 9), round(size[1], 9)) if plausible(size) else None


def plausible(size: tuple[float, float]) -> bool:
    """Return whether both are lengths: finite, above 0, below a metre."""
    return all(math.isfinite(each) and 1e-9 < each < 1e6 for each in size)
