"""How large a pixel is, where all files of a data set say the same."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

from unet_zoo import images

PixelSize = tuple[float, float]


def common(paths: Iterable[Path]) -> tuple[PixelSize | None, str]:
    """Return (y, x) in micrometres that all TIFF files state, and a remark on it.

    None where one of them states none, or is no TIFF, which alone is both common and
    quick to ask; None with a remark where they differ by more than one in a thousand.

    >>> common([Path("a.png")])
    (None, '')
    """
    paths = list(paths)
    if not paths or any(p.suffix.lower() not in (".tif", ".tiff") for p in paths):
        return None, ""
    first: PixelSize | None = None
    for path in paths:
        with images.open_image(path) as opened:
            size = opened.pixel_size
        if size is None:
            return None, ""
        first = first or size
        if not all(
            math.isclose(a, b, rel_tol=1e-3) for a, b in zip(size, first, strict=True)
        ):
            remark = (
                f"a pixel is {words(first)} in {paths[0].name} and {words(size)} in "
                f"{path.name}, so none is noted"
            )
            return None, remark
    return first, f"a pixel is {words(first)}" if first else ""


def words(size: PixelSize) -> str:
    """Return a size for people.

    >>> words((0.65, 0.65)), words((0.5, 0.25))
    ('0.65 micrometres', '0.5 x 0.25 micrometres')
    """
    sides = [f"{each:.4g}" for each in size]
    return f"{' x '.join(dict.fromkeys(sides))} micrometres"
