"""What bfloat16 and int8 cost and save: SEG, and the time of a prediction.

    python benchmarks/precisions.py unet-hela --dataset hela --manual-dir DATA
    python benchmarks/precisions.py resunet-hela --dataset hela --manual-dir DATA

The zoo's weights by OpenVINO on the images of the split `test` that have a reference,
with the flips and rotations they were published with; int8 is calibrated on eight
training images, spread evenly, as `unet-zoo evaluate --precision int8` does it. Every
image is predicted in each precision in turn, so that whatever else the machine does
hits all alike; given are the means over the images, of the wall's clock and of the
processor's over all threads.
"""

from __future__ import annotations

import argparse
import time

import numpy as np

from unet_zoo import catalog, evaluation, segmenter
from unet_zoo.calibrating import MOST

PRECISIONS = ("float32", "bfloat16", "int8")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("weights")
    parser.add_argument("--dataset", default="hela")
    parser.add_argument("--config")
    parser.add_argument("--manual-dir")
    parser.add_argument("--data-dir")
    parser.add_argument("--tta", type=int)
    given = parser.parse_args()
    data = catalog.open_dataset(
        given.dataset,
        config=given.config,
        manual_dir=given.manual_dir,
        data_dir=given.data_dir,
    )
    taught = data.sequence("train")
    wanted = {round(n * (len(taught) - 1) / (MOST - 1)) for n in range(MOST)}
    shown = [each.image for n, each in enumerate(taught) if n in wanted]
    examples = [e for e in data.sequence("test") if e.reference is not None]
    models = {
        precision: segmenter.load(
            given.weights,
            engine="openvino",
            precision=precision,
            calibration=shown,
            said=print,
        )
        for precision in PRECISIONS
    }
    for model in models.values():
        model.predict(examples[0].image, tta=1)
    found: dict[str, list[np.ndarray]] = {name: [] for name in models}
    spent = {name: np.zeros(2) for name in models}
    for example in examples:
        for name, model in models.items():
            start = np.asarray([time.perf_counter(), time.process_time()])
            prediction = model.predict(example.image, tta=given.tta)
            spent[name] += [time.perf_counter(), time.process_time()] - start
            found[name].append(model.decode(prediction))
    size = sum(each.image.shape[0] * each.image.shape[1] for each in examples) / 1e6
    print(f"{given.weights}, {data.name}, split test, {len(examples)} images\n")
    print("| precision | SEG | Dice | s/Mpx | processor s/Mpx | times as fast |")
    print("|---|---|---|---|---|---|")
    for name in models:
        scores = evaluation.score(examples, found[name], ("SEG", "Dice"), data.kind)
        wall, cpu = spent[name] / size
        faster = spent["float32"][0] / spent[name][0]
        print(
            f"| {name} | {scores['SEG'].value:.4f} | {scores['Dice'].value:.4f} | "
            f"{wall:.2f} | {cpu:.2f} | {faster:.2f} |"
        )


if __name__ == "__main__":
    main()
