"""Segmenters made: from a zoo entry, a weights file, several, or from their facts."""

from __future__ import annotations

import functools
import importlib.metadata
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import calibrating, devices, engines, registry, targets, weights
from unet_zoo.segmenter.ensembles import Ensemble
from unet_zoo.segmenter.segmenting import Segmenter

if TYPE_CHECKING:
    import keras


def describe(
    model: str,
    model_arguments: Mapping[str, Any],
    *,
    channels: int,
    target: str = "distance",
    target_arguments: Mapping[str, Any] | None = None,
    normalization: str = "zscore",
    scale: float = 1.0,
    tta: int = 1,
    **provenance: Any,
) -> dict[str, Any]:
    """Return the facts that a segmenter needs, and whatever else is known of it."""
    return {
        "model": model,
        "model_arguments": dict(model_arguments),
        "channels": channels,
        "target": target,
        "target_arguments": dict(target_arguments or {}),
        "normalization": normalization,
        "scale": scale,
        "tta": tta,
        "versions": versions(),
        **provenance,
    }


def versions() -> dict[str, str]:
    """Return the versions of the packages that decide what a training gives."""
    import keras

    backend = keras.backend.backend()
    packages = ("unet-zoo", "keras", "numpy", "scipy", "scikit-image", backend)
    return {"backend": backend} | {
        package: importlib.metadata.version(package) for package in packages
    }


def load(
    name_or_path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    sha256: str | None = None,
    base_url: str | Sequence[str] | None = None,
    offline: bool = False,
    engine: str | None = None,
    precision: str = "float32",
    calibration: Sequence[calibrating.Shown] = (),
    said: Callable[[str], None] | None = None,
) -> Segmenter:
    """Return the segmenter of a zoo entry, of a weights file or of an ensemble.

    Args:
        name_or_path: a name that `unet-zoo weights` lists; the path of a weights
            file, or of the folder that a training or a cross-validation wrote;
            "hf://owner/name" on the Hugging Face hub; or the address of a weights file.
            Of several, a list: an ensemble, whose members agree on channels, target
            and scale.
        sha256: what the file must be; the address of a file needs it (see
            `weights.locate`).
        base_url: where to fetch an entry that is not shipped with the package, one
            address or several; by default the environment variable UNET_ZOO_URL.
        offline: never touch the network.
        engine: what runs the network: "keras", "openvino", "onnx", or "auto", which
            is OpenVINO where it is installed, can run the model and there is no GPU,
            else Keras. None: the environment variable UNET_ZOO_ENGINE, else "auto".
        precision: what it computes in: "float32", or "bfloat16", which is faster on
            processors that have it, or "int8" of "openvino".
        calibration: for "int8", up to 8 images of the kind that will be segmented,
            arrays or paths. The values that occur in them decide what 8 bits stand
            for; what is made of them is kept, others make another network.
        said: called with a line where something takes long.

    Raises:
        InputError: for an unknown name (near matches named), a missing or damaged
            file, weights that do not fit their model, or an engine that is not there.

    Example:
        >>> load("unet-blubs")
        Traceback (most recent call last):
        unet_zoo.errors.InputError: Unknown weights 'unet-blubs'. Did you mean ...
    """
    engines.check_precision(engines.choose(engine), precision)
    path = weights.find(name_or_path, sha256=sha256, base_url=base_url, offline=offline)
    members = weights.members(path)
    engine = engines.choose(engine, models=weights.models(members), said=said)
    engines.check_precision(engine, precision)
    loaded = [_load(each, engine, precision, calibration, said) for each in members]
    if path.suffix == ".toml":
        return Ensemble(loaded, weights.read_facts(path))
    return loaded[0]


def _load(
    path: Path,
    engine: str,
    precision: str,
    calibration: Sequence[calibrating.Shown],
    said: Callable[[str], None] | None,
) -> Segmenter:
    facts = weights.read_facts(path)

    def build() -> keras.Model:
        target = targets.get(facts["target"], **facts["target_arguments"])
        half = "mixed_bfloat16" if precision == "bfloat16" else precision
        with devices.without_values(), devices.precision(half):
            network = registry.build(
                facts["model"],
                input_shape=(None, None, facts["channels"]),
                classes=target.channels,
                **facts["model_arguments"],
            )
        weights.assign(network, path)
        return network

    if engine == "keras":
        return Segmenter(build(), facts)
    cache = weights.cache_folder()
    opened = engines.open_engine(
        engine,
        path,
        cache,
        precision=precision,
        calibration=functools.partial(calibrating.batches, calibration, facts),
        said=said,
    )
    return Segmenter(build, facts, engine=opened)
