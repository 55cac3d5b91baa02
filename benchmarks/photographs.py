"""Draw what weights find in photographs, and put the pictures on their card.

    python benchmarks/photographs.py unet-blobs

The photographs are those that scikit-image ships, with their licences; the networks
were taught by none of them. What is missed or found twice is to be seen as well.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path

import numpy as np
import skimage.data

from unet_zoo import images, outputs, publishing, segmenter, weights


def photographs() -> dict[str, tuple[str, np.ndarray]]:
    """Return, by file name, what a photograph shows, and the photograph."""
    return {
        "coins.png": ("24 coins", skimage.data.coins()),
        "galaxies.png": (
            "galaxies and stars, seen by Hubble",
            skimage.data.hubble_deep_field()[:400, 300:800],
        ),
        "moon.png": ("the moon", skimage.data.moon()[100:, :]),
        "gravel.png": ("gravel, where it misses some", skimage.data.gravel()[:360]),
    }


def draw(file: Path, folder: Path) -> list[tuple[Path, str]]:
    """Write a picture of each photograph with outlines; return them with captions."""
    model = segmenter.load(file, engine="keras")
    drawn = []
    for name, (shown, photograph) in photographs().items():
        grey = photograph
        if grey.ndim == 3:  # what the eye sees of colours, ITU-R BT.709
            grey = (grey @ (0.2126, 0.7152, 0.0722)).round().astype(np.uint8)
        labels = model.segment(grey).labels
        images.write_png(folder / name, outputs.overlay(photograph, labels))
        count = labels.max()
        drawn.append(
            (folder / name, f"{count} objects found in a photograph of {shown}")
        )
    return drawn


def main() -> None:
    """Put the pictures into an entry, in front of those it has."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("name", help="of an entry with one channel")
    entry = weights.entry(parser.parse_args().name)
    with tempfile.TemporaryDirectory() as scratch:
        drawn = draw(entry.path, Path(scratch))
        for path, caption in drawn:
            shutil.copyfile(path, entry.folder / path.name)
            print(f"{path.name}: {caption}")
    pictures = {path.name: caption for path, caption in drawn}
    others = {k: v for k, v in entry.pictures.items() if k not in pictures}
    weights.amend(entry.folder, pictures=pictures | others)
    publishing.write_card(entry.folder)


if __name__ == "__main__":
    main()
