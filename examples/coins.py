"""Segment a photograph of coins with the weights that come with the package.

The photograph is a real one (Greek coins from Pompeii, shipped with scikit-image); the
network has seen nothing but drawn blobs. Run it with `make demo`, or with
`python examples/coins.py`; the results go to the folder `demo/`.
"""

from __future__ import annotations

from pathlib import Path

import skimage.data

import unet_zoo
from unet_zoo import images, outputs


def main(folder: Path = Path("demo")) -> int:
    """Write the overlay and the labels into `folder`; return the number of objects."""
    image = skimage.data.coins()
    segmenter = unet_zoo.load("unet-blobs")
    labels = segmenter.segment(image).labels
    folder.mkdir(parents=True, exist_ok=True)
    overlay, masks = folder / "coins-overlay.png", folder / "coins-labels.tif"
    images.write_png(overlay, outputs.overlay(image, labels))
    images.write_labels(masks, labels)
    count = int(labels.max())
    print(f"{count} objects found in a photograph of 24 coins.")
    print(f"Outlines: {overlay}")
    print(f"Labels, one number per object: {masks}")
    return count


if __name__ == "__main__":
    main()
