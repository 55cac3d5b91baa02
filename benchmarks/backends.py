"""Ask TensorFlow, JAX and PyTorch for the output of every variant, from one file.

    python benchmarks/backends.py            # every variant, as its paper has it
    python benchmarks/backends.py unet vnet

Each variant is built with random weights, written as a weights file, and loaded and run
by each backend in a process of its own. Printed is the largest difference to TensorFlow
divided by the range of its output, channel by channel. Exit code 1 above 1e-4.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

BACKENDS = ("tensorflow", "jax", "torch")
LIMIT = 1e-4
SIZE = (64, 64)


def compare(
    variants: Mapping[str, Mapping[str, Any]], size: Sequence[int] = SIZE
) -> dict[str, dict[str, float]]:
    """Return {variant: {backend: difference to TensorFlow, by the range of a channel}}.

    Args:
        variants: arguments for every name, as `registry.build_near` takes them.
        size: of the images; variants that cannot take it take the next that fits.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        plan = {"variants": variants, "size": tuple(size)}
        (folder / "plan.json").write_text(json.dumps(plan))
        for backend in BACKENDS:
            # The first also writes the weights that all of them read.
            settings = os.environ | {
                "KERAS_BACKEND": backend,
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "CUDA_VISIBLE_DEVICES": "",
            }
            command = [sys.executable, str(Path(__file__).resolve()), "--in", scratch]
            subprocess.run(command, env=settings, check=True)
        found = {}
        for name in variants:
            outputs = [np.load(folder / f"{name}-{each}.npy") for each in BACKENDS]
            found[name] = {
                backend: difference(output, outputs[0])
                for backend, output in zip(BACKENDS[1:], outputs[1:], strict=True)
            }
        return found


def difference(output: np.ndarray, reference: np.ndarray) -> float:
    """Return the largest difference of a channel divided by that channel's range."""
    axes = tuple(range(output.ndim - 1))
    away = np.abs(output - reference).max(axis=axes)
    return float((away / np.ptp(reference, axis=axes)).max())


def settle(network: Any, images: np.ndarray) -> None:
    """Give batch normalisation the statistics of `images`.

    With others the signal fades from layer to layer, down to outputs that are the
    same everywhere, and equal on every backend for that reason alone.
    """
    import keras

    normalizing = [
        layer
        for layer in network._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    kept = [layer.momentum for layer in normalizing]
    for layer in normalizing:
        layer.momentum = 0.0
    network(images.astype("float32"), training=True)
    for layer, momentum in zip(normalizing, kept, strict=True):
        layer.momentum = momentum


def work(folder: Path) -> None:
    """Run every variant of the folder's plan on the backend of this process."""
    import keras

    from unet_zoo import devices, registry, segmenter, weights

    plan = json.loads((folder / "plan.json").read_text())
    backend = keras.backend.backend()
    for name, arguments in plan["variants"].items():
        keras.utils.set_random_seed(0)
        with devices.without_values():
            network = registry.build_near(name, plan["size"], **arguments)
        shape = (1, *network.input_shape[1:])
        path = folder / f"{name}.h5"
        generator = np.random.default_rng(0)
        if not path.exists():
            for variable in network.weights:
                # Biases and statistics too: a swapped pair of zeros goes unseen.
                if len(variable.shape) == 1:
                    value = generator.uniform(0.5, 1.5, variable.shape)
                    shift = 1.0 if variable.name in ("bias", "beta") else 0.0
                    variable.assign((value - shift).astype("float32"))
            settle(network, generator.normal(size=(4, *shape[1:])))
            facts = segmenter.describe(name, arguments, channels=shape[-1])
            weights.write(path, network, facts)
        weights.assign(network, path)
        image = np.random.default_rng(1).normal(size=shape).astype("float32")
        # Operation by operation. Compiled, each backend rounds in yet another order:
        # u2net, the deepest, then differs by 1.02e-4, and TensorFlow from itself
        # without oneDNN by 0.89e-4.
        output = network(image, training=False)
        output = output[0] if isinstance(output, list | tuple) else output
        array = keras.ops.convert_to_numpy(output)
        np.save(folder / f"{name}-{backend}.npy", array)
        keras.backend.clear_session()


def main() -> None:
    """Print the table of all variants, or of those named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.folder:
        work(given.folder)
        return
    from unet_zoo import registry

    print("| variant | jax | torch |\n| --- | --- | --- |")
    worst = 0.0
    for name in given.names or registry.names():
        found = compare({name: {}})[name]
        print(f"| {name} | {found['jax']:.1e} | {found['torch']:.1e} |", flush=True)
        worst = max(worst, *found.values())
    sys.exit(not worst < LIMIT)


if __name__ == "__main__":
    main()
