"""Megapixels a second of one network: what runs it, and PyTorch with MONAI beside.

    python benchmarks/engines.py --peer PYTHON
    python benchmarks/engines.py --side 1024 --rounds 5 keras openvino-int8

Each predicts the same image of --side x --side pixels, normalisation and tiles
included, objects not: the network of `unet-hela` by the engines of unet_zoo, and a
U-Net of the same layers in PyTorch, as many parameters, in MONAI's sliding window.
PYTHON is an interpreter that has torch and monai.

All wait in processes of their own and take turns, so that whatever else the machine
does hits all alike. A figure is the fastest of the rounds, since other work can only
slow one down; beside it stands the processor time of all its threads, which other work
changes less. Ratios are to PyTorch.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

KINDS = (
    "pytorch",
    "pytorch-channels-last",
    "keras",
    "keras-bfloat16",
    "onnx",
    "openvino",
    "openvino-bfloat16",
    "openvino-int8",
)
MODEL = "unet-hela"


def picture(side: int) -> np.ndarray:
    """Return grey values as smooth as those of cells, uint8 (side, side)."""
    noise = np.random.default_rng(0).normal(size=(side // 16 + 1, side // 16 + 1))
    smooth = noise.repeat(16, axis=0).repeat(16, axis=1)[:side, :side]
    fine = np.random.default_rng(1).normal(size=(side, side))
    return np.clip(128 + 30 * smooth + 8 * fine, 0, 255).astype("uint8")


def pytorch(given: argparse.Namespace) -> tuple[int, Callable[[], Any]]:
    """Return the parameters, and MONAI's sliding window over the image."""
    import torch
    from monai.inferers import sliding_window_inference
    from torch_unet import UNet

    network = UNet().eval()
    count = sum(each.numel() for each in network.parameters())
    count += sum(each.numel() for each in network.buffers() if each.is_floating_point())
    last = given.worker.endswith("channels-last")
    if last:
        network = network.to(memory_format=torch.channels_last)

    def predict() -> Any:
        image = torch.from_numpy(picture_of[0].astype("float32"))[None, None]
        image = (image - image.mean()) / image.std()
        if last:
            image = image.contiguous(memory_format=torch.channels_last)
        with torch.inference_mode():
            return sliding_window_inference(
                image, given.window, given.batch, network, overlap=given.overlap
            )

    picture_of = [picture(given.side)]
    return count, predict


def zoo(given: argparse.Namespace) -> tuple[int, Callable[[], Any]]:
    """Return the parameters, and the prediction of the zoo's segmenter."""
    from unet_zoo import segmenter

    engine, _, precision = given.worker.partition("-")
    image = picture(given.side)
    made = segmenter.load(
        MODEL,
        engine=engine,
        precision=precision or "float32",
        calibration=[image] if precision == "int8" else (),
    )
    count = made.network.count_params() if engine == "keras" else 0
    return count, lambda: made.predict(image, tta=1, tile=given.tile)


def work(given: argparse.Namespace) -> None:
    """Predict once to warm up, then once for each line that comes in."""
    make = pytorch if given.worker.startswith("pytorch") else zoo
    count, predict = make(given)
    predict()
    print("ready", count, flush=True)
    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        predict()
        print(time.perf_counter() - wall, time.process_time() - cpu, flush=True)


def answer(process: subprocess.Popen[str]) -> list[str]:
    """Return the words of the next line that is an answer; engines print others."""
    assert process.stdout is not None
    for line in process.stdout:
        words = line.split()
        if words and (words[0] == "ready" or words[0][0].isdigit()):
            return words
    message = f"{process.args} ended."
    raise RuntimeError(message)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", help=f"of {', '.join(KINDS)}")
    parser.add_argument("--peer", help="interpreter with torch and monai")
    parser.add_argument("--side", type=int, default=2048, help="of the image")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tile", type=int, help="of unet_zoo; default: its own choice")
    parser.add_argument("--window", type=int, default=512, help="of MONAI")
    parser.add_argument("--overlap", type=float, default=0.25, help="of MONAI")
    parser.add_argument("--batch", type=int, default=4, help="windows a call, of MONAI")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        work(given)
        return
    chosen = [each for each in given.kinds or KINDS if given.peer or each[0] != "p"]
    processes = {}
    for kind in chosen:
        python = given.peer if kind.startswith("pytorch") else sys.executable
        words = [python, str(Path(__file__)), *sys.argv[1:], "--worker", kind]
        processes[kind] = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        # One after the other: what is not measured yet disturbs nobody.
        print(f"{kind:22} parameters {answer(processes[kind])[1]}", flush=True)
    times: dict[str, list[list[float]]] = {kind: [] for kind in chosen}
    for _ in range(given.rounds):
        for kind, process in processes.items():
            assert process.stdin is not None
            print("go", file=process.stdin, flush=True)
            times[kind].append([float(word) for word in answer(process)])
    for process in processes.values():
        process.communicate()
    size = given.side**2 / 1e6
    base = np.min(times["pytorch"], axis=0) if "pytorch" in times else None
    for kind, found in times.items():
        wall, cpu = np.min(found, axis=0)
        line = f"{kind:22} {size / wall:6.2f} Mpx/s {cpu / size:6.2f} cpu s/Mpx"
        if base is not None:
            line += f"  {base[0] / wall:5.2f} x, of cpu {base[1] / cpu:5.2f} x"
        print(line, flush=True)


if __name__ == "__main__":
    main()
