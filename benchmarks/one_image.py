"""From the shell to the mask of one image: seconds of the whole command.

    python benchmarks/one_image.py IMAGE --peer PYTHON

`unet-zoo segment IMAGE --model unet-hela --write labels` with OpenVINO and with Keras,
and a script of PyTorch and MONAI that loads a U-Net of the same layers, predicts the
image in a sliding window and writes a mask; PYTHON is an interpreter that has torch,
monai and pillow. Without IMAGE, one of 512 x 512 pixels is drawn.

The commands take turns; the first turn, which converts the network and warms the
disk, is not counted. Given are the fastest turn, since other work on the machine can
only slow one down, the median, and the processor time of all threads.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from engines import MODEL, picture


def peer(image: Path, weights: Path, output: Path) -> None:
    """Segment as a script of MONAI's tutorials does; the PyTorch side of the race."""
    import numpy as np
    import torch
    from monai.inferers import sliding_window_inference
    from PIL import Image
    from torch_unet import UNet

    network = UNet().eval()
    if not weights.exists():
        torch.save(network.state_dict(), weights)
    network.load_state_dict(torch.load(weights, weights_only=True))
    pixels = torch.from_numpy(np.asarray(Image.open(image), np.float32))[None, None]
    pixels = (pixels - pixels.mean()) / pixels.std()
    with torch.inference_mode():
        logits = sliding_window_inference(pixels, 512, 4, network, overlap=0.25)
    mask = (logits[0, 0] > 0).numpy().astype(np.uint8) * 255
    Image.fromarray(mask).save(output)


def timed(words: list[str]) -> tuple[float, float]:
    """Run a command; return the seconds it took, and those of all its threads."""
    start = time.perf_counter()
    quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    process = os.posix_spawn(words[0], words, os.environ, file_actions=quiet)
    _, status, usage = os.wait4(process, 0)
    wall = time.perf_counter() - start
    if status:
        message = f"{' '.join(words)} failed."
        raise RuntimeError(message)
    return wall, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("image", type=Path, nargs="?")
    parser.add_argument("--peer", help="interpreter with torch, monai and pillow")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--as-peer", nargs=3, type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.as_peer:
        peer(*given.as_peer)
        return
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        image = given.image
        if image is None:
            from unet_zoo import images

            image = folder / "a.tif"
            images.write_tiff(image, picture(512), "YX")
        program = str(Path(sys.executable).with_name("unet-zoo"))
        words = [program, "segment", str(image), "--model", MODEL, "--overwrite"]
        words += ["--write", "labels", "--output", str(folder / "out")]
        commands = {
            "openvino": [*words, "--engine", "openvino"],
            "openvino bfloat16": [
                *(*words, "--engine", "openvino"),
                *("--precision", "bfloat16"),
            ],
            "keras": [*words, "--engine", "keras"],
        }
        if given.peer:
            paths = [image, folder / "weights.pt", folder / "mask.png"]
            script = [given.peer, str(Path(__file__)), "--as-peer"]
            commands["MONAI"] = [*script, *map(str, paths)]
        for command in commands.values():
            timed(command)
        turns: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
        for _ in range(given.rounds):
            for name, command in commands.items():
                turns[name].append(timed(command))
    for name, found in turns.items():
        walls, cpus = zip(*found, strict=True)
        print(
            f"{name:18} {min(walls):5.2f} s, median {statistics.median(walls):5.2f} s; "
            f"processor {min(cpus):5.2f} s"
        )


if __name__ == "__main__":
    main()
