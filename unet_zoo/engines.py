"""What runs a trained network: Keras, or an inference engine that needs no framework.

An engine other than Keras reads a network converted once, by a process of its own with
TensorFlow, and kept in the cache (`UNET_ZOO_CACHE`). From then on nothing of Keras or
TensorFlow is imported: a command starts within a second, and runs faster.
"""

from __future__ import annotations

import copy
import functools
import hashlib
import importlib
import importlib.util
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from unet_zoo import files, memory, registry, signals
from unet_zoo.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np

ENGINES = ("auto", "keras", "openvino", "onnx")
PRECISIONS = ("float32", "bfloat16", "int8")
_PACKAGES = {"openvino": ("openvino",), "onnx": ("onnxruntime", "tf2onnx")}
_FILES = {"openvino": "model.xml", "onnx": "model.onnx"}
_FORMAT = 2  # of what lies in the cache
_LANES = 4  # images that are predicted at once, where there are as many cores
_LANE = 2**30  # bytes of one of them, about, at a million pixels


class Engine(Protocol):
    """A network that is run: float32 (1, Y, X, C) to float32 (1, Y, X, K) logits.

    Attributes:
        step: the multiple that the heights and widths of its images must be of.
        halo: how far a pixel's result depends on others, None where that is not known.
        lanes: how many threads should call it at once.
        files: what it reads the network from.
    """

    files: Sequence[Path]
    step: int
    halo: int | None
    lanes: int

    def __call__(self, batch: np.ndarray) -> np.ndarray: ...


def choose(
    name: str | None = None,
    backend: str | None = None,
    models: Sequence[str] = (),
    said: Callable[[str], None] | None = None,
) -> str:
    """Return "keras", "openvino" or "onnx".

    Args:
        name: one of these is taken as it is, if its packages are there. "auto", or
            None where the environment variable UNET_ZOO_ENGINE says nothing else:
            "openvino" where it is installed and there is no GPU, else "keras".
        backend: what Keras is to compute with; asking for one asks for "keras".
        models: whose weights are to be run. "auto" takes what runs them all.
        said: called with a line where that is not what "auto" takes elsewhere.

    Raises:
        InputError: for an unknown engine, one whose package is missing or that cannot
            run a model, or another than "keras" beside a backend.

    >>> choose("keras")
    'keras'
    """
    if backend and name not in (None, "auto", "keras"):
        message = f"{backend!r} is a backend of Keras; the engine {name!r} has none."
        raise InputError(message)
    name = "keras" if backend else name or os.environ.get("UNET_ZOO_ENGINE") or "auto"
    if name not in ENGINES:
        raise unknown(kind="engine", word=name, options=ENGINES)
    automatic = name == "auto"
    if automatic:
        name = "openvino" if _is_there("openvino") and not _gpu() else "keras"
    for model in models:
        able = registry.info(model).engines
        if name in able:
            continue
        if not automatic:
            ways = " or ".join(map(repr, able))
            message = f"The engine {name!r} cannot run {model!r}. Take {ways}."
            raise InputError(message)
        if said is not None:
            said(f"Keras runs {model}, which {name} cannot")
        return "keras"
    for package in _PACKAGES.get(name, ()):
        if not _is_there(package):
            message = (
                f"The engine {name!r} needs the package {package!r}. Install it with: "
                f"pip install 'unet-zoo[{name}]'"
            )
            raise InputError(message)
    return name


def check_precision(engine: str, precision: str) -> None:
    """Refuse a precision that is unknown or that the engine does not have.

    >>> check_precision("openvino", "bfloat16")
    """
    if precision not in PRECISIONS:
        raise unknown(kind="precision", word=precision, options=PRECISIONS)
    if precision == "int8" and engine != "openvino":
        message = f"int8 is for the engine 'openvino'. Received: {engine!r}."
        raise InputError(message)
    if precision == "int8" and not _is_there("nncf"):
        message = (
            "int8 needs the package 'nncf'. Install it with: pip install "
            "'unet-zoo[int8]'"
        )
        raise InputError(message)
    if engine == "onnx" and precision != "float32":
        message = (
            "The engine 'onnx' computes in float32. Received: "
            f"precision={precision!r}. Take the engine 'openvino' or 'keras'."
        )
        raise InputError(message)


def open_engine(
    name: str,
    weights: str | os.PathLike[str],
    cache: str | os.PathLike[str],
    *,
    precision: str = "float32",
    calibration: Callable[[int], Sequence[np.ndarray]] | None = None,
    said: Callable[[str], None] | None = None,
) -> Engine:
    """Return the engine `name` with the network of a weights file.

    Args:
        name: "openvino" or "onnx".
        weights: the file. What is converted from it is kept by its SHA-256.
        cache: folder for converted networks, within `engines/`.
        precision: "float32", or "bfloat16" where the processor has it: faster, with
            logits that differ in their third digit. "int8" where `calibration` is.
        calibration: gives the batches (1, Y, X, C) that ranges of int8 are taken from,
            when it is told the network's `step`. Each set of batches makes a network
            of its own, so that what was segmented before changes nothing.
        said: called with a line where something takes long.

    Raises:
        InputError: when the network cannot be converted.
    """
    check_precision(name, precision)
    folder = _converted(name, Path(weights), Path(cache), said)
    facts = json.loads((folder / "facts.json").read_text())
    if precision == "int8":
        if calibration is None:
            message = "int8 is calibrated on images: `calibration` must give some."
            raise InputError(message)
        folder = _quantized(folder, calibration(facts["step"]), said)
    kind: Any = {"openvino": OpenVINO, "onnx": ONNX}[name]
    path = folder / _FILES[name]
    engine: Engine = kind(path, facts["step"], facts["halo"], precision)
    return engine


class OpenVINO:
    """OpenVINO on the processor. Threads may share it, each with its own request."""

    def __init__(
        self, path: Path, step: int, halo: int | None, precision: str = "float32"
    ) -> None:
        self.path, self.step, self.halo = path, step, halo
        self.files = [path, path.with_suffix(".bin")]
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            # Of an int8 network, what is not int8 stays exact.
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32",
        }
        self.lanes = 1
        self._compile(self.options)

    def _compile(self, options: dict[str, str]) -> None:
        folder = self.path.parent
        if os.access(folder, os.W_OK):
            # What is compiled is kept as well: that takes longer than to segment.
            options = {**options, "CACHE_DIR": str(folder / "compiled")}
        core = import_openvino().Core()
        with signals.own_stack():
            self._compiled = core.compile_model(str(self.path), "CPU", options)
        self._local = threading.local()

    def for_many(self) -> OpenVINO:
        """Return an engine that up to four threads may call at once; `lanes` says it.

        Each has cores of its own: no core waits for another at the end of a layer.
        """
        if hasattr(os, "sched_getaffinity"):
            cores = len(os.sched_getaffinity(0))
        else:
            cores = os.cpu_count() or 1
        many = copy.copy(self)
        many.lanes = max(1, min(_LANES, cores, memory.default_memory() // _LANE))
        many._compile({**self.options, "NUM_STREAMS": str(many.lanes)})
        return many

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        import numpy as np

        if not hasattr(self._local, "request"):
            self._local.request = self._compiled.create_infer_request()
        batch = np.ascontiguousarray(batch, np.float32)
        try:
            found = self._local.request.infer([batch], share_inputs=True)[0]
        except RuntimeError as error:  # such as window attention, whose shapes it fixes
            reason = str(error).strip().splitlines()[-1].strip().rstrip(".")
            message = (
                f"OpenVINO cannot run this network on an input of shape {batch.shape}: "
                f"{reason}. Take the engine 'keras' or 'onnx'."
            )
            raise InputError(message) from error
        # A copy: the request writes its next result over this one.
        return np.array(found)


class ONNX:
    """ONNX Runtime on the processor. Threads may share it."""

    def __init__(
        self, path: Path, step: int, halo: int | None, precision: str = "float32"
    ) -> None:
        import onnxruntime

        self.files = [path]
        self.step, self.halo, self.lanes = step, halo, 1
        self._session = onnxruntime.InferenceSession(
            str(path), providers=["CPUExecutionProvider"]
        )
        self._input = self._session.get_inputs()[0].name

    def __call__(self, batch: np.ndarray) -> np.ndarray:
        import numpy as np

        batch = np.ascontiguousarray(batch, np.float32)
        found: np.ndarray = self._session.run(None, {self._input: batch})[0]
        return found


def import_openvino() -> Any:
    """Import OpenVINO without the telemetry that reports each import to its maker.

    With a network that never answers, a program would also wait for it when it ends.
    """
    hidden = "openvino_telemetry"
    if "openvino" in sys.modules or hidden in sys.modules:
        return importlib.import_module("openvino")
    sys.modules[hidden] = None  # type: ignore[assignment]
    try:
        return importlib.import_module("openvino")
    finally:
        del sys.modules[hidden]


def _converted(
    name: str, weights: Path, cache: Path, said: Callable[[str], None] | None
) -> Path:
    """Return the folder of a network as an engine reads it; convert it if need be."""
    folder = cache / "engines" / f"{files.sha256(weights)[:32]}-{name}-{_FORMAT}"
    why = f"{weights} cannot be converted for the engine {name!r}"

    def convert(part: Path) -> None:
        words = ["unet_zoo.converting", name, str(weights), str(part / _FILES[name])]
        _run(words, why, "Take the engine 'keras'.")

    return _kept(folder, convert, said, f"Converting {weights.name} for {name}, once")


def _quantized(
    exact: Path, batches: Sequence[np.ndarray], said: Callable[[str], None] | None
) -> Path:
    """Return the folder of a network in int8, made of an exact one if need be."""
    import numpy as np

    digest = hashlib.sha256()
    for batch in batches:
        digest.update(f"{batch.shape}".encode() + np.ascontiguousarray(batch).data)
    folder = exact.with_name(f"{exact.name}-int8-{digest.hexdigest()[:32]}")

    def quantize(part: Path) -> None:
        held = part / "batches.npz"
        np.savez(held, *batches)
        words = ["unet_zoo.quantizing", str(exact / _FILES["openvino"]), str(held)]
        words.append(str(part / _FILES["openvino"]))
        why = f"int8 cannot be made of {exact / _FILES['openvino']}"
        _run(words, why, "Take the precision 'bfloat16' or 'float32'.")
        held.unlink()

    return _kept(folder, quantize, said, f"Calibrating int8 on {len(batches)} images")


def _kept(
    folder: Path,
    make: Callable[[Path], None],
    said: Callable[[str], None] | None,
    words: str,
) -> Path:
    """Return the folder, whose files `make` writes if they are not there whole."""
    if _is_whole(folder):
        return folder
    if said is not None:
        said(f"{words} ...")
    _discard(folder)
    try:
        with files.whole_folder(folder) as part:
            make(part)
            sums = {path.name: files.sha256(path) for path in sorted(part.iterdir())}
            (part / "sums.json").write_text(json.dumps(sums))
    except (InputError, OSError):
        # Another process may have been faster.
        if not _is_whole(folder):
            raise
    return folder


def _run(words: Sequence[str], why: str, way_out: str) -> None:
    """Run a module by a process of its own, whatever this one has imported."""
    quiet = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"}
    ended = subprocess.run(
        [sys.executable, "-m", *words],
        env={**os.environ, **quiet},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        last = (ended.stderr.strip().splitlines() or ["no reason given"])[-1]
        last = last.removeprefix("unet_zoo.errors.InputError: ")
        message = f"{why}: {last.rstrip('.')}. {way_out}"
        raise InputError(message)


def _is_whole(folder: Path) -> bool:
    """Return whether the folder holds what was once written, byte for byte."""
    try:
        sums: Mapping[str, str] = json.loads((folder / "sums.json").read_text())
        return all(
            files.sha256(folder / name) == digest for name, digest in sums.items()
        )
    except (OSError, ValueError):
        return False


def _discard(folder: Path) -> None:
    """Remove a damaged conversion."""
    import shutil

    if folder.is_dir():
        shutil.rmtree(folder)


@functools.cache
def _is_there(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def _gpu() -> bool:
    """Return whether this machine has a GPU that a backend of Keras might use."""
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    return hidden not in ("", "-1") and Path("/dev/nvidiactl").exists()
