"""Segment a photograph of coins with the weights that come with the package.

The photograph is a real one (Greek coins from Pompeii, shipped with scikit-image); the
network has seen nothing but drawn blobs. Run it with `make demo`, or with
`python examples/coins.py`; the results go to the folder `demo/`.
"""

from __future__ import annotations

from pathlib import Path

import skimage.data

import unet_zoo


def main(folder: Path = Path("demo")) -> int:
    """Write the overlay and the labels into `folder`; return the number of objects."""
    result = unet_zoo.load("unet-blobs").segment(skimage.data.coins())
    folder.mkdir(parents=True, exist_ok=True)
    overlay, masks = folder / "coins-overlay.png", folder / "coins-labels.tif"
    result.save(overlay, overwrite=True)
    result.save(masks, overwrite=True)
    print(f"{result.count} objects found in a photograph of 24 coins.")
    print(f"Outlines: {overlay}")
    print(f"Labels, one number per object: {masks}")
    return result.count


if __name__ == "__main__":
    main()
