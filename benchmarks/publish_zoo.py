"""Measure finished trainings and write the zoo's entries from them.

    python benchmarks/publish_zoo.py unet-blobs runs/last --earlier runs/first
    python benchmarks/publish_zoo.py resunet-hela runs/resunet-hela \
        --swapped runs/resunet-hela-swapped --manual-dir DATA
    python benchmarks/publish_zoo.py unet-membrane runs/unet-membrane --manual-dir DATA

What is measured are the weights as they are stored, by Keras; each is measured with the
turned copies that it recommends and, where these are several, without. Every command in
a card gives the card's figures again, and so does `unet-zoo weights verify --evaluate`.
Then the entry is run by every backend, engine and precision, as `compare_engines.py`
does it with an entry that is there; the exit code is 1 if backends differ.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import compare_engines
import keras  # noqa: F401  (before tensorflow)
import photographs

from unet_zoo import (
    catalog,
    measuring,
    publishing,
    registry,
    segmenter,
    weights,
)

ZOO = Path(__file__).resolve().parent.parent / "zoo"
HELA = publishing.Words(
    summary="{title} that finds HeLa cells in differential interference contrast.",
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
    conditions=(
        "The images and annotations are those of the Cell Tracking Challenge "
        "(https://celltrackingchallenge.net/datasets/) and are not part of this "
        "package. The challenge asks users to cite it; public scientific use outside "
        "the challenge needs the permission of the data's provider, commercial use "
        "that of the organisers as well. The weights were made from these images: ask "
        "before you use them for more than the challenge allows."
    ),
    licence="Conditions of the Cell Tracking Challenge data; see the card",
    citation=(
        "Maska et al., The Cell Tracking Challenge: 10 years of objective "
        "benchmarking, Nature Methods 20 (2023), "
        "https://doi.org/10.1038/s41592-023-01879-y. The images are by Dr. G. van "
        "Cappellen, Erasmus MC, Rotterdam."
    ),
)
BLOBS = publishing.Words(
    summary="{title} that finds blob-like objects in grey images of all kinds, "
    "taught by drawn images alone.",
    use=(
        "Round or irregular objects that stand out from their surroundings, bright on "
        "dark or dark on bright, from 8 to 90 pixels across: coins, nuclei, grains, "
        "colonies. Rescale images whose objects are larger or smaller."
    ),
    limits=(
        "It has never seen a photograph. Objects without a common outline (fibres, "
        "vessels, tissue) are not what it was taught."
    ),
    conditions="The images are drawn by the package itself; there are none to ask "
    "permission for.",
    licence="Apache-2.0",
    citation="",
)
MEMBRANE = publishing.Words(
    summary="{title} that finds the membranes between neurons in electron microscopy.",
    use=(
        "Serial sections of nervous tissue, membranes stained dark, seen by "
        "transmission electron microscopy at about 4 nanometres a pixel. A starting "
        "point for other tissues with dark membranes."
    ),
    limits=(
        "Trained on 24 neighbouring sections of one fly larva. Other stainings, "
        "magnifications and species were not measured; expect to train on some "
        "sections of your own."
    ),
    conditions=(
        "The images are those of the ISBI 2012 challenge, published without a licence "
        "and not part of this package; cite both papers when you use the weights."
    ),
    licence="Conditions of the ISBI 2012 challenge data; see the card",
    citation=(
        "Cardona et al., PLoS Biology 8 (2010), "
        "https://doi.org/10.1371/journal.pbio.1000502; Arganda-Carreras et al., "
        "Frontiers in Neuroanatomy 9 (2015), https://doi.org/10.3389/fnana.2015.00142"
    ),
)
WORDS = {"hela": HELA, "blobs": BLOBS, "membrane": MEMBRANE}
# Of blobs, nobody's images are to be cited; the network is.
CITATIONS = {
    "unet": "Ronneberger, Fischer, Brox: U-Net, 2015, https://arxiv.org/abs/1505.04597"
}
# Where the model's title says too little.
SUMMARIES = {
    "unet-hela": "A U-Net that finds HeLa cells in differential interference contrast, "
    "at their full resolution.",
    "unet-blobs-large": "A larger U-Net that finds blob-like objects in grey images "
    "of all kinds, taught longer, by drawn images alone.",
    "unext-blobs": "A UNeXt of 3 MB that finds blob-like objects in grey images of all "
    "kinds, taught by drawn images alone.",
    "resunet-hela": "A small ResUNet that finds HeLa cells in differential "
    "interference contrast.",
}
# What is measured of each dataset: (configuration, what the card says of it).
MEASURED = {
    "blobs": [
        (config, f"Unseen blobs, {config}")
        for config in ("mixed", "easy", "medium", "hard")
    ],
    "hela": [("standard", "Sequence 02, never seen: taught and validated on 01")],
    "membrane": [(None, "Slices 24 to 29, never seen")],
}
SWAPPED = "The other way round, the same recipe: 02 taught, 01 measured"


def words(name: str, model: str, dataset: str) -> publishing.Words:
    """Return the words of an entry, the model's title and paper filled in."""
    about = registry.info(model)
    found = WORDS[dataset]
    article = "An" if about.title.startswith(("A", "E", "I", "O")) else "A"
    summary = found.summary.format(title=f"{article} {about.title}")
    paper = f"{about.title} ({about.year}), {about.paper}"
    return dataclasses.replace(
        found,
        summary=SUMMARIES.get(name, summary),
        citation=found.citation or CITATIONS.get(model, paper),
    )


def measure(
    file: Path, data: catalog.Dataset, title: str, *, plain: bool = True
) -> list[weights.Evaluation]:
    """Measure as recommended and, if `plain`, also without turning the image."""
    model = segmenter.load(file, engine="keras")
    titles = {model.facts["tta"]: title}
    if plain:
        titles.setdefault(1, f"{title}, without turning the image")
    done = []
    for tta, told in titles.items():
        found = measuring.measure(model, data, title=told, tta=tta)
        done.append(found)
        print(told, found.interval, flush=True)
        for metric, score in found.metrics.items():
            print(f"  {metric:15} {score['value']:.4f} {score['objects']}", flush=True)
    return done


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", help="of the entry, such as unet-hela")
    parser.add_argument("run", type=Path)
    parser.add_argument("--swapped", type=Path, help="the training the other way round")
    parser.add_argument("--earlier", type=Path, nargs="*", default=[])
    parser.add_argument("--manual-dir")
    parser.add_argument("--dtype", default="float16")
    parser.add_argument("--url", action="append", default=[], help="where else it lies")
    parser.add_argument(
        "--ways",
        nargs="*",
        choices=compare_engines.WAYS,
        default=list(compare_engines.WAYS),
        help="of running it, for the card to compare; none: it compares nothing",
    )
    given = parser.parse_args()
    facts = weights.read_facts(weights.find(given.run))
    dataset = facts["dataset"]["name"]

    def opened(config: str | None) -> catalog.Dataset:
        return catalog.open_dataset(dataset, config=config, manual_dir=given.manual_dir)

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        file = publishing.stored(given.run, scratch / "weights.h5", given.dtype)
        evaluations, pictures, others = [], [], {}
        for config, title in MEASURED[dataset]:
            # Of blobs there are four evaluations already.
            plain = dataset != "blobs"
            evaluations += measure(file, opened(config), title, plain=plain)
        if given.swapped:
            others["swapped.h5"] = publishing.stored(
                given.swapped, scratch / "swapped.h5", given.dtype
            )
            evaluations += [
                dataclasses.replace(each, file="swapped.h5")
                for each in measure(others["swapped.h5"], opened("swapped"), SWAPPED)
            ]
        if dataset == "blobs":
            pictures += photographs.draw(file, scratch)
        if (curve := given.run / "curve.png").exists():
            pictures.append((curve, "Loss and validation of the training"))
        entry = publishing.publish(
            file,
            ZOO / given.name,
            evaluations=evaluations,
            words=words(given.name, facts["model"], dataset),
            dtype=given.dtype,
            pictures=pictures,
            others=others,
            earlier=given.earlier,
            urls=given.url,
            overwrite=True,
        )
        made = weights.read_entry(entry.parent)
        print(entry, made.bytes, flush=True)
        if not given.ways:
            return 0
        data = opened(made.evaluations[0].config or None)
        kept = scratch / "compared"
        kept.mkdir()
        found = compare_engines.compare(made, data, kept, ways=given.ways)
        compare_engines.write(made, found)
        print("\n".join(found.over() or ["The backends agree."]))
        return 1 if found.over() else 0


if __name__ == "__main__":
    sys.exit(main())
