"""Run a zoo entry by every backend, engine and precision; write that into its card.

    python benchmarks/compare_engines.py unet-blobs
    python benchmarks/compare_engines.py unet-hela --manual-dir DATA --write
    python benchmarks/compare_engines.py unet-hela --manual-dir DATA --limit 2

The images are those of the entry's first evaluation that have a reference. Each way
runs by a process of its own, one after the other, which imports what it needs and
nothing else: its memory is that of a program that segments. int8 is calibrated on eight
training images, spread evenly, as `unet-zoo evaluate --precision int8` does it.

Timed is `Segmenter.predict` with the turned copies that the entry was evaluated with:
normalisation, scaling and turning are in it, finding objects is not. One image of each
size is predicted to warm up, then each of them `--rounds` times, and its fastest time
counts, since whatever else the machine does can only slow it down.

Exit code 1 where ways that compute the same in float32, so all of Keras's backends,
differ by more than 0.001 in an output or by more than 0.002 in the metric; the card
says so as well.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Name: engine, backend of Keras, precision. The others are compared with the first.
WAYS = {
    "tensorflow": ("keras", "tensorflow", "float32"),
    "jax": ("keras", "jax", "float32"),
    "torch": ("keras", "torch", "float32"),
    "openvino-float32": ("openvino", "", "float32"),
    "openvino-bfloat16": ("openvino", "", "bfloat16"),
    "openvino-int8": ("openvino", "", "int8"),
    "onnx-float32": ("onnx", "", "float32"),
}
FIRST = next(iter(WAYS))
PACKAGES = {"openvino": ("openvino",), "onnx": ("onnxruntime",), "keras": ("keras",)}
# What makes the precisions of less than 32 bits fast.
FLAGS = ("avx512_bf16", "avx512_vnni", "avx_vnni", "amx_bf16", "amx_int8")


# === One way, by a process of its own ===


def work(folder: Path, name: str) -> None:
    """Predict every image of the folder's plan and write down what came of it."""
    plan = json.loads((folder / "plan.json").read_text())
    engine, backend, precision = WAYS[name]
    if engine == "keras":
        import keras  # noqa: F401  (before any backend)
    from unet_zoo import segmenter

    images = arrays(folder / "images.npz")
    shown = arrays(folder / "calibration.npz") if precision == "int8" else []
    path = Path(plan["weights"])
    model = segmenter.load(
        path, engine=engine, precision=precision, calibration=shown, said=print
    )
    for image in {image.shape: image for image in images}.values():
        model.predict(image, tta=plan["tta"])
    own = folder / name
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    taken = np.empty((plan["rounds"], len(images), 2))
    begun = clocks()
    for turn in range(plan["rounds"]):
        for number, image in enumerate(images):
            start = time.perf_counter(), time.process_time()
            prediction = model.predict(image, tta=plan["tta"])
            end = time.perf_counter(), time.process_time()
            taken[turn, number] = np.subtract(end, start)
            np.save(own / f"{number}.npy", prediction)
    whole, own_seconds, every = np.subtract(clocks(), begun)
    memory = peak()  # of predicting; what follows is the comparison's
    labels = []
    for number, image in enumerate(images):
        file = own / f"{number}.npy"
        labels.append(model.decode(np.load(file)))
        if plan["tta"] != 1:
            np.save(file, model.predict(image, tta=1))
    np.savez_compressed(own / "labels.npz", *labels)
    read = [path] if model.engine is None else model.engine.files
    packages = [*PACKAGES[engine], *filter(None, [backend])]
    packages += ["nncf"] if precision == "int8" else []
    facts = {
        "seconds": taken.min(axis=0).sum(axis=0).tolist(),
        "others": max(0.0, (every - own_seconds) / (whole * os.cpu_count())),
        "memory": memory,
        "disk": sum(each.stat().st_size for each in read),
        "versions": {each: importlib.metadata.version(each) for each in packages},
    }
    (own / "facts.json").write_text(json.dumps(facts))


def clocks() -> tuple[float, float, float]:
    """Return the seconds of the wall's clock, of this process, and of all programs."""
    import psutil

    busy = psutil.cpu_times()._asdict()
    every = sum(busy.get(name, 0.0) for name in ("user", "nice", "system"))
    return time.perf_counter(), time.process_time(), every


def arrays(path: Path) -> list[np.ndarray]:
    with np.load(path) as held:
        return [held[name] for name in held.files]


def peak() -> int:
    """Return the most bytes that this process ever held at once."""
    try:
        found = re.search(
            r"^VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text(), flags=re.M
        )
        return 1024 * int(found[1])
    except (OSError, TypeError):  # not Linux, whose getrusage counts the parent in
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


# === All ways, and what they come to ===


def plan(
    entry: Any, data: Any, folder: Path, limit: int | None, rounds: int
) -> list[Any]:
    """Write what every way reads into `folder` and return the examples.

    A folder that holds another plan is refused: what lies there was measured otherwise.
    """
    from unet_zoo import calibrating, weights
    from unet_zoo.errors import InputError

    of = entry.evaluations[0]
    examples = [e for e in data.sequence(of.split) if e.reference is not None][:limit]
    shown = [each.image for each in calibrating.spread(data.sequence("train"))]
    content = {
        "sha256": entry.sha256,
        "data": [data.name, data.config, data.version, of.split],
        "tta": of.tta,
        "images": len(examples),
        "calibration": len(shown),
        "rounds": rounds,
        "machine": machine(),
    }
    path = folder / "plan.json"
    there = json.loads(path.read_text()) if path.exists() else {}
    if there and {**there, "weights": ""} != {**content, "weights": ""}:
        message = f"{folder} holds what was measured otherwise. Give another --keep."
        raise InputError(message)
    np.savez(folder / "images.npz", *(each.image for each in examples))
    np.savez(folder / "calibration.npz", *shown)
    file = weights.find(entry.path, sha256=entry.sha256)
    path.write_text(json.dumps({**content, "weights": str(file.resolve())}))
    return examples


def run(folder: Path, ways: Sequence[str]) -> None:
    """Run the ways that have not ended yet, each by a process of its own."""
    for name in ways:
        if (folder / name / "facts.json").exists():
            print(f"{name}: measured before", flush=True)
            continue
        print(f"{name} ...", flush=True)
        settings = os.environ | {
            "KERAS_BACKEND": WAYS[name][1] or "tensorflow",
            "TF_CPP_MIN_LOG_LEVEL": "3",
            "CUDA_VISIBLE_DEVICES": "",
            "JAX_PLATFORMS": "cpu",
        }
        command = [sys.executable, str(Path(__file__).resolve()), "--in", str(folder)]
        subprocess.run([*command, "--ways", name], env=settings, check=True)


def compare(
    entry: Any,
    data: Any,
    folder: Path,
    *,
    ways: Sequence[str] = tuple(WAYS),
    limit: int | None = None,
    rounds: int = 3,
) -> Any:
    """Return the `weights.Comparison` of an entry; what lies in `folder` is not redone.

    Args:
        entry: what `weights.entry` returned.
        data: the dataset of its first evaluation, opened.
        folder: for what the ways give.
        ways: names of `WAYS`; the first of them all is always among them.
        limit: only so many images, to try it.
        rounds: turns of each image, of which the fastest counts.
    """
    from unet_zoo import evaluation, weights

    ways = [name for name in WAYS if name in ways or name == FIRST]
    examples = plan(entry, data, folder, limit, rounds)
    run(folder, ways)
    of = entry.evaluations[0]
    metric = of.interval.get("metric") or next(iter(of.metrics))
    found, versions = [], {"unet-zoo": importlib.metadata.version("unet-zoo")}
    for name in ways:
        facts = json.loads((folder / name / "facts.json").read_text())
        labels = arrays(folder / name / "labels.npz")
        score = evaluation.score(examples, labels, [metric], data.kind)[metric]
        largest, mean = difference(folder, name, len(examples))
        versions |= facts["versions"]
        engine, backend, precision = WAYS[name]
        found.append(
            weights.Way(
                name=name,
                engine=engine,
                backend=backend,
                precision=precision,
                value=float(score.value),
                difference=rounded(largest),
                mean=rounded(mean),
                seconds=rounded(facts["seconds"][0]),
                processor=rounded(facts["seconds"][1]),
                others=rounded(facts["others"]),
                memory=facts["memory"],
                disk=facts["disk"],
            )
        )
    return weights.Comparison(
        dataset=data.name,
        config=data.config or "",
        version=data.version,
        split=of.split,
        tta=of.tta,
        metric=metric,
        frames=len(examples),
        objects=int(score.objects),
        pixels=sum(each.image.shape[0] * each.image.shape[1] for each in examples),
        machine=machine(),
        rounds=rounds,
        calibration=len(arrays(folder / "calibration.npz")),
        versions=dict(sorted(versions.items())),
        ways=tuple(found),
    )


def difference(folder: Path, name: str, count: int) -> tuple[float, float]:
    """Return the largest and the mean difference of single outputs from the first's."""
    largest, total, size = 0.0, 0.0, 0
    for number in range(count):
        one, other = (np.load(folder / n / f"{number}.npy") for n in (name, FIRST))
        away = np.abs(one.astype(float) - other)
        # What is no number is no agreement.
        largest = max(largest, float(np.nan_to_num(away, nan=1.0).max()))
        total, size = total + float(np.nan_to_num(away, nan=1.0).sum()), size + one.size
    return largest, total / size


def rounded(value: float) -> float:
    return float(f"{value:.4g}")


def machine() -> str:
    """Return what this is measured on, such as "AMD EPYC, 2 cores"."""
    name, flags = platform.processor() or platform.machine(), ""
    if (info := Path("/proc/cpuinfo")).exists():
        text = info.read_text()
        if found := re.search(r"^model name\s*: (.+)$", text, flags=re.M):
            name = found[1]
        if found := re.search(r"^flags\s*: (.+)$", text, flags=re.M):
            there = set(found[1].split())
            flags = ", ".join(each for each in FLAGS if each in there)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0
    told = f"{name}, {cores or os.cpu_count()} cores"
    return f"{told} ({flags})" if flags else told


def write(entry: Any, comparison: Any) -> Path:
    """Write a comparison into the facts and the card of an entry."""
    from unet_zoo import publishing, weights

    weights.amend(entry.folder, comparison=comparison.plain())
    return publishing.write_card(entry.folder)


def main(words: Sequence[str] | None = None) -> int:
    """Measure, show and perhaps write; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", nargs="?", help="of the entry, or its folder")
    parser.add_argument("--manual-dir")
    parser.add_argument("--data-dir")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit", type=int, help="only so many images, to try it")
    parser.add_argument(
        "--keep",
        type=Path,
        metavar="FOLDER",
        help="where what is measured stays; the same command goes on from there",
    )
    parser.add_argument("--write", action="store_true", help="into the entry")
    parser.add_argument("--in", dest="folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args(words)
    if given.folder:
        for name in given.ways:
            work(given.folder, name)
        return 0
    if not given.name:
        parser.error("which entry?")
    if given.limit is not None and given.write:
        parser.error("--limit is for trying; a card is of all images")
    from unet_zoo.errors import InputError

    try:
        return measured(given)
    except InputError as error:
        parser.exit(2, f"{error}\n")


def measured(given: argparse.Namespace) -> int:
    """Do what the command line says of an entry; return the exit code."""
    import keras  # noqa: F401  (before tensorflow)

    from unet_zoo import cards, catalog, weights

    is_folder = (Path(given.name) / "entry.toml").is_file()
    entry = (weights.read_entry if is_folder else weights.entry)(given.name)
    of = entry.evaluations[0]
    data = catalog.open_dataset(
        of.dataset,
        config=of.config or None,
        manual_dir=given.manual_dir,
        data_dir=given.data_dir,
    )
    with tempfile.TemporaryDirectory() as scratch:
        folder = given.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        found = compare(
            entry,
            data,
            folder,
            ways=given.ways,
            limit=given.limit,
            rounds=given.rounds,
        )
    if given.write:
        print(f"Written: {write(entry, found)}")
    print("\n".join(cards.comparison(dataclasses.replace(entry, comparison=found))))
    return 1 if found.over() else 0


if __name__ == "__main__":
    sys.exit(main())
