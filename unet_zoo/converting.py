"""Convert the network of a weights file for an inference engine.

Run as a process of its own, which has TensorFlow, by `unet_zoo.engines`:

    python -m unet_zoo.converting openvino weights.h5 model.xml
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from unet_zoo import engines


def convert(name: str, weights: Path, output: Path) -> None:
    """Write the network of `weights` to `output`, and beside it `facts.json`.

    Args:
        name: "openvino" (`output` ends in .xml) or "onnx" (.onnx).
        weights: the weights file.
        output: heights, widths and the number of images stay free.

    Raises:
        InputError: when the weights cannot be loaded.
    """
    if name == "openvino":
        engines.import_openvino()
    import keras

    from unet_zoo import devices, graphs, segmenter

    made = segmenter.load(weights, engine="keras")
    network = made.network
    graph = graphs.of(made)
    facts = {"step": made.step, "halo": graph.halo if graph else None}
    devices.exportable(network)
    if len(network.outputs) > 1:  # the others supervised the training
        network = keras.Model(network.inputs, network.outputs[0], name=network.name)
    shape = (None, None, None, made.facts["channels"])
    images = keras.InputSpec(dtype="float32", shape=shape)
    network.export(str(output), format=name, input_signature=[images], verbose=False)
    (output.parent / "facts.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    convert(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
