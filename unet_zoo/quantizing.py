"""Make an int8 network of one that OpenVINO reads, by images it is calibrated on.

Run as a process of its own, by `unet_zoo.engines`:

    python -m unet_zoo.quantizing model.xml batches.npz int8.xml
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from unet_zoo import engines


def quantize(path: Path, calibration: Path, output: Path) -> None:
    """Write the network at `path` with weights and activations of 8 bits to `output`.

    Post-training quantisation by NNCF: the ranges of values are those that occur on
    the batches, and biases are corrected for what rounding shifts.

    Args:
        path: a network that OpenVINO reads.
        calibration: NPZ of float32 batches (1, Y, X, C).
        output: ends in .xml.
    """
    openvino = engines.import_openvino()
    import nncf

    with np.load(calibration) as held:
        shown = [held[name] for name in held.files]
    quantized = nncf.quantize(
        openvino.Core().read_model(path),
        nncf.Dataset(shown),
        # Activations of both signs, such as images of mean 0, keep their zero.
        preset=nncf.QuantizationPreset.MIXED,
        target_device=nncf.TargetDevice.CPU,
        subset_size=len(shown),
    )
    openvino.save_model(quantized, output, compress_to_fp16=False)


if __name__ == "__main__":
    quantize(*map(Path, sys.argv[1:4]))
