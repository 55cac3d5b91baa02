"""Measure finished trainings and write the zoo's entries from them.

    python benchmarks/publish_zoo.py unet-blobs runs/unet-blobs
    python benchmarks/publish_zoo.py resunet-hela runs/resunet-hela \
        --swapped runs/resunet-hela-swapped --manual-dir DATA

Each command that stands in a card is the one that gives the card's figures again.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import keras  # noqa: F401  (before tensorflow)
import skimage.data

from unet_zoo import (
    catalog,
    evaluation,
    images,
    outputs,
    publishing,
    segmenter,
    weights,
)

ZOO = Path(__file__).resolve().parent.parent / "zoo"
HELA_CITATION = (
    "Maska et al., The Cell Tracking Challenge: 10 years of objective benchmarking, "
    "Nature Methods 20 (2023), https://doi.org/10.1038/s41592-023-01879-y. The images "
    "are by Dr. G. van Cappellen, Erasmus MC, Rotterdam."
)
HELA_CONDITIONS = (
    "The images and annotations are those of the Cell Tracking Challenge "
    "(https://celltrackingchallenge.net/datasets/) and are not part of this package. "
    "The challenge asks users to cite it; public scientific use outside the challenge "
    "needs the permission of the data's provider, commercial use that of the "
    "organisers as well. The weights were made from these images: ask before you use "
    "them for more than the challenge allows."
)
HELA = dict(
    use=(
        "HeLa cells on glass, seen by differential interference contrast at about the "
        "magnification of DIC-C2DH-HeLa: cells of 100 to 150 pixels, touching each "
        "other. A starting point for other label-free images of crowded cells."
    ),
    limits=(
        "Trained on one sequence of one experiment. Other microscopes, magnifications "
        "and cell types were not measured; expect to train on some images of your own. "
        "Very close cells are sometimes merged, and mitotic cells are rare in the data."
    ),
    conditions=HELA_CONDITIONS,
    licence="Conditions of the Cell Tracking Challenge data; see the card",
    citation=HELA_CITATION,
)
WORDS = {
    "unet-blobs": publishing.Words(
        summary="A U-Net that finds blob-like objects in grey images of all kinds, "
        "taught by drawn images alone.",
        use=(
            "Round or irregular objects that stand out from their surroundings, bright "
            "on dark or dark on bright, from 8 to 90 pixels across: coins, nuclei, "
            "grains, colonies. Rescale images whose objects are larger or smaller."
        ),
        limits=(
            "It has never seen a photograph. Objects without a common outline (fibres, "
            "vessels, tissue) are not what it was taught."
        ),
        conditions="The images are drawn by the package itself; there are none to ask "
        "permission for.",
        licence="Apache-2.0",
        citation="Ronneberger, Fischer, Brox: U-Net, 2015, "
        "https://arxiv.org/abs/1505.04597",
        reproduce="unet-zoo train unet --dataset blobs --config huge "
        "--validation 0.01 --recipe zoo/unet-blobs/recipe-first.toml --output first && "
        "unet-zoo train unet --dataset blobs --config hard-large --validation 0.01 "
        "--from first --recipe zoo/unet-blobs/recipe.toml",
    ),
    "unet-hela": publishing.Words(
        summary="A U-Net that finds HeLa cells in differential interference contrast, "
        "at their full resolution.",
        reproduce="unet-zoo train unet --dataset hela --manual-dir DATA "
        "--recipe zoo/unet-hela/recipe.toml",
        **HELA,
    ),
    "resunet-hela": publishing.Words(
        summary="A small ResUNet that finds HeLa cells in differential interference "
        "contrast.",
        reproduce="unet-zoo train resunet --dataset hela --manual-dir DATA "
        "--recipe zoo/resunet-hela/recipe.toml",
        **HELA,
    ),
}


def measure(
    weights_file: Path, title: str, command: str, dataset: catalog.Dataset
) -> publishing.Measured:
    """Return what `evaluate` gives on the dataset's test split."""
    print(title, flush=True)
    model = segmenter.load(weights_file)
    scores = evaluation.evaluate(model, dataset.examples("test"))
    for name, score in scores.items():
        print(
            f"  {name:15} {score.value:.4f} {score.objects} {score.frames}", flush=True
        )
    return publishing.Measured(title, command, scores)


def stored(run: Path, dtype: str, folder: Path) -> Path:
    """Return the weights as they will be stored: what is measured is what ships."""
    path = folder / f"{run.name}.h5"
    segmenter.load(run / "weights.h5").save(path, dtype=dtype)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=WORDS)
    parser.add_argument("run", type=Path)
    parser.add_argument("--swapped", type=Path)
    parser.add_argument("--manual-dir")
    parser.add_argument("--dtype", default="float16")
    given = parser.parse_args()
    command = f"unet-zoo evaluate {given.name} --dataset "
    with tempfile.TemporaryDirectory() as scratch:
        file = stored(given.run, given.dtype, Path(scratch))
        measured, pictures = [], []
        if given.name.endswith("blobs"):
            for config in ("mixed", "easy", "medium", "hard"):
                data = catalog.open_dataset("blobs", config=config)
                told = f"{command}blobs --config {config} --split test"
                measured.append(measure(file, f"Unseen blobs, {config}", told, data))
            photograph = skimage.data.coins()
            labels = segmenter.load(file).segment(photograph).labels
            picture = Path(scratch) / "coins.png"
            images.write_png(picture, outputs.overlay(photograph, labels))
            caption = f"{labels.max()} objects found in a photograph of 24 coins"
            pictures.append((picture, caption))
            print(caption)
        else:
            told = f"{command}hela --split test --manual-dir DATA"
            data = catalog.open_dataset("hela", manual_dir=given.manual_dir)
            title = "Sequence 02, never seen: taught and validated on sequence 01"
            measured.append(measure(file, title, told, data))
            if given.swapped:
                swapped = stored(given.swapped, given.dtype, Path(scratch))
                data = catalog.open_dataset(
                    "hela", config="swapped", manual_dir=given.manual_dir
                )
                words = WORDS[given.name].reproduce
                told = (
                    f"{words} --config swapped --output swapped\n"
                    "    unet-zoo evaluate swapped/weights.h5 --dataset hela "
                    "--config swapped --split test --manual-dir DATA"
                )
                title = "The other way round, the same recipe: 02 taught, 01 measured"
                measured.append(measure(swapped, title, told, data))
        entry = publishing.publish(
            given.run,
            ZOO / given.name,
            measured=measured,
            words=WORDS[given.name],
            dtype=given.dtype,
            pictures=pictures,
        )
    print(entry, weights.entry(given.name).bytes)


if __name__ == "__main__":
    main()
