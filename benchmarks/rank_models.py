"""Rank all variants by size, work and speed, on this machine, beside their peers.

    python benchmarks/rank_models.py                      # rank all, write the table
    python benchmarks/rank_models.py unet u2net           # only these
    python benchmarks/rank_models.py --peers PYTHON       # beside smp and MONAI

Each variant as its paper has it, at 512x512 (or the next size that it takes), batch 1,
float32. Parameters and 10**9 multiply-accumulates (PyTorch's own counter), seconds for
an image (the least of several), seconds for a training step with Adam. Each in a
process of its own, one after the other. `PYTHON` is an interpreter with torch and
segmentation-models-pytorch or monai; each peer is timed right after the variant that is
the same architecture, and the ratio of the two stands in the last column.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEASURED = (
    Path(__file__).resolve().parent.parent / "unet_zoo" / "models" / "_measured.json"
)
SIZE = 512
# At 512 its overcomplete branch computes on 4096x4096 pixels: more than 24 GiB.
SMALLER = {"kiunet": 128}
# The same architecture elsewhere: what to import, and what to build for one channel and
# two classes.
PEERS = {
    "unet_plus_plus": "monai.networks.nets.BasicUNetPlusPlus(2, 1, 2)",
    "attention_unet": (
        "monai.networks.nets.AttentionUnet(2, 1, 2, [64, 128, 256, 512, 1024], [2] * 4)"
    ),
    "vnet": "monai.networks.nets.VNet(2, 1, 2)",
    "nnunet": (
        "monai.networks.nets.DynUNet(2, 1, 2, [3] * 8, [1] + [2] * 7, [2] * 7, "
        "filters=[32, 64, 128, 256, 512, 512, 512, 512])"
    ),
    "backbone_unet": (
        "segmentation_models_pytorch.Unet('resnet50', encoder_weights=None, "
        "in_channels=3, classes=2)"
    ),
    "unet": ("monai.networks.nets.BasicUNet(2, 1, 2, (64, 128, 256, 512, 1024, 64))"),
}


def least(call: Callable[[], Any], warm: int = 1, times: int = 3) -> float:
    """Return the seconds of the fastest of several calls."""
    for _ in range(warm):
        call()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def build(name: str) -> Any:
    """Return the variant as its paper has it, at 512x512 or the next size."""
    from unet_zoo import registry

    size = SMALLER.get(name, SIZE)
    return registry.build_near(name, (size, size))


def size_and_work(name: str) -> dict[str, float]:
    """Return parameters and multiply-accumulates, counted by PyTorch."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    model = build(name)
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model(torch.zeros(1, *model.input_shape[1:]), training=False)
    return {
        "parameters": model.count_params(),
        "gmac": counter.get_total_flops() / 2e9,
        "size": model.input_shape[1],
    }


def speed(name: str) -> dict[str, float]:
    """Return seconds for an image and for a training step, batch 1."""
    import keras
    import numpy as np

    model = build(name)
    image = np.random.default_rng(0).normal(size=(1, *model.input_shape[1:]))
    image = image.astype("float32")
    per_image = least(lambda: model.predict_on_batch(image))
    truth = np.zeros((1, *model.output_shape[1:-1]), "int32")
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    per_step = least(lambda: model.train_on_batch(image, truth), times=2)
    return {"seconds_per_image": per_image, "seconds_per_step": per_step}


def peer(construct: str) -> dict[str, float]:
    """Return seconds for an image through a peer's network; run by its interpreter."""
    import importlib

    import torch

    package = construct.split("(")[0].rpartition(".")[0]
    scope = {
        package.partition(".")[0]: importlib.import_module(package.partition(".")[0])
    }
    importlib.import_module(package)
    network = eval(construct, scope).eval()  # a constant of this file
    channels = next(network.parameters()).shape[1]
    image = torch.zeros(1, channels, SIZE, SIZE)
    with torch.inference_mode():
        seconds = least(lambda: network(image))
    counted = sum(each.numel() for each in network.parameters())
    return {"seconds_per_image": seconds, "parameters": counted}


def run(python: str, what: str, argument: str, backend: str) -> dict[str, float]:
    """Call a function of this file in a process of its own."""
    settings = os.environ | {"KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [python, __file__, "--call", what, argument]
    done = subprocess.run(
        command, env=settings, check=True, stdout=subprocess.PIPE, text=True
    )
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure what the command line names and write it down."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--peers", metavar="PYTHON")
    parser.add_argument("--call", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.call:
        functions = {"size_and_work": size_and_work, "speed": speed, "peer": peer}
        print(json.dumps(functions[given.call[0]](given.call[1])))
        return
    from unet_zoo import registry

    versions = subprocess.run(
        [
            sys.executable,
            "-c",
            "import tensorflow as t, keras; print(t.__version__, keras.__version__)",
        ],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.split()
    before = json.loads(MEASURED.read_text()) if MEASURED.exists() else {"models": {}}
    found = before["models"]
    print("| variant | parameters | GMAC | s/image | s/step | peer s/image | ratio |")
    print("| --- | --- | --- | --- | --- | --- | --- |")
    for name in given.names or registry.names():
        row = run(sys.executable, "size_and_work", name, "torch")
        row |= run(sys.executable, "speed", name, "tensorflow")
        other = ratio = ""
        if given.peers and name in PEERS:
            theirs = run(given.peers, "peer", PEERS[name], "torch")
            seconds, millions = theirs["seconds_per_image"], theirs["parameters"] / 1e6
            other = f"{seconds:.2f} ({millions:.1f} M)"
            ratio = f"{seconds / row['seconds_per_image']:.2f}"
        found[name] = row
        print(
            f"| {name} | {row['parameters']:,} | {row['gmac']:.1f} | "
            f"{row['seconds_per_image']:.2f} | {row['seconds_per_step']:.2f} | "
            f"{other} | {ratio} |",
            flush=True,
        )
        on = (
            f"{os.cpu_count()} CPU cores ({platform.machine()}), float32, TensorFlow "
            f"{versions[0]}, Keras {versions[1]}"
        )
        text = json.dumps({"on": on, "models": dict(sorted(found.items()))}, indent=2)
        MEASURED.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
