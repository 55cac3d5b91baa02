"""Measure what the distance target's `dip` does to images unlike those that taught.

    python benchmarks/decoder.py --manual-dir DATA runs/a runs/b=swapped

Validation images look like the training images, and hardly tell one setting from
another. So each is measured in altered copies as well: other magnification, light,
contrast, sharpness and noise, as far as the network's own recipe goes. A run that was
trained with another configuration of the dataset is given as RUN=CONFIG. The test split
is not touched.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import keras
import numpy as np
import skimage.measure

from unet_zoo import augment, catalog, images, metrics, recipe, segmenter, targets

DIPS = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)


def altered(
    example: catalog.Example, ranges: recipe.Augmentation, scale: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return image and labels of one altered copy, at the network's scale."""
    image = images.rescale(images.normalize(example.image), scale)
    labels = images.rescale_labels(example.labels, shape=image.shape[:2])
    layer = augment.Augment(ranges, image.shape[:2], image.shape[-1], ("nearest",))
    generator = np.random.default_rng(seed)
    uniforms, normals = augment.draw_size(ranges)
    stack = layer(
        np.concatenate([image, labels[..., None].astype("float32")], axis=-1)[None],
        generator.random((1, uniforms)).astype("float32"),
        generator.standard_normal((1, normals)).astype("float32"),
    )
    stack = keras.ops.convert_to_numpy(stack)[0]
    # Beyond the border the warp mirrors: an object and its reflection are two.
    pieces = skimage.measure.label(np.rint(stack[..., -1]).astype(int), connectivity=1)
    return stack[..., :-1], pieces.astype("int32")


def copies(
    run: str, dataset: str, manual_dir: str | None, number: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the labels and the prediction of every altered validation image."""
    path, _, config = run.partition("=")
    model = segmenter.load(path)
    data = catalog.open_dataset(dataset, config=config or None, manual_dir=manual_dir)
    ranges = recipe.from_dict(model.facts["recipe"]).augmentation
    ranges = recipe.Augmentation(
        **{**vars(ranges), "rotation": 0.0, "elastic": 0.0, "shift": 0.0, "flip": False}
    )
    at_scale = {**model.facts, "scale": 1.0, "normalization": "none"}
    unscaled = segmenter.Segmenter(model.network, at_scale)
    for number_of_copy in range(number):
        for at, example in enumerate(data.examples("validation")):
            seed = 1000 * number_of_copy + at
            image, labels = altered(example, ranges, model.facts["scale"], seed)
            yield labels, unscaled.predict(image, tta=4)


def main() -> None:
    """Print SEG for every run and dip, and the mean of all runs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", metavar="RUN[=CONFIG]")
    parser.add_argument("--dataset", default="hela")
    parser.add_argument("--manual-dir")
    parser.add_argument("--copies", type=int, default=4)
    given = parser.parse_args()
    print("| run |", *(f"{dip} |" for dip in DIPS))
    print("| --- |", *("--- |" for _ in DIPS))
    rows = []
    for run in given.runs:
        found = list(copies(run, given.dataset, given.manual_dir, given.copies))
        labels = [each for each, _ in found]
        row = []
        for dip in DIPS:
            target = targets.get("distance", dip=dip)
            decoded = [target.decode(prediction) for _, prediction in found]
            row.append(metrics.seg(labels, decoded).value)
        rows.append(row)
        print(f"| {run} |", *(f"{value:.4f} |" for value in row), flush=True)
    print("| mean |", *(f"{value:.4f} |" for value in np.mean(rows, axis=0)))


if __name__ == "__main__":
    main()
