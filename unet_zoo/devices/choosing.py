"""Which devices a training runs on: what was asked for, and what there is."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence

from unet_zoo.devices.replicas import (
    DataParallel,
    Devices,
    Mirrored,
    workers,
)
from unet_zoo.errors import InputError, unknown

DISTRIBUTIONS = ("auto", "none", "mirrored", "multiworker", "data-parallel")


def distribute(
    kind: str = "auto", devices: str | None = None, *, batch: int | None = None
) -> Devices:
    """Return what a training runs on; must come before anything is computed.

    Args:
        kind: "none" for one device; "mirrored" (TensorFlow) or "data-parallel" (JAX)
            for all devices of this host; "multiworker" (TensorFlow) for those of the
            hosts that TF_CONFIG lists; "data-parallel" also for several hosts, from
            the environment variables of `keras.distribution.initialize`. "auto": the
            one of these for which there is more than one device, else "none".
        devices: which of them: "gpu:2" for the first two, "gpu" for all, "cpu" even
            though there are GPUs, "cpu:2" for two logical devices on one processor,
            which are no faster and compute as two would. None: GPUs where there are
            any.
        batch: examples a step. It is refused where the replicas cannot share it
            equally; "auto" then takes fewer devices of this host.

    Raises:
        InputError: for an unknown word, a kind that the backend lacks, devices that
            are not there, or a backend that has already started with others.

    Example:
        >>> distribute("none").words
        'one device'
        >>> distribute("miror")
        Traceback (most recent call last):
        unet_zoo.errors.InputError: Unknown distribution 'miror'. Did you mean ...
    """
    if kind not in DISTRIBUTIONS:
        raise unknown(kind="distribution", word=kind, options=DISTRIBUTIONS)
    platform, count = _asked(devices)
    if platform and "keras" not in sys.modules:
        # What torch reads, once; the others are told below.
        os.environ["KERAS_TORCH_DEVICE"] = {"gpu": "cuda"}.get(platform, platform)
    import keras

    backend = keras.backend.backend()
    able = {"tensorflow": ("mirrored", "multiworker"), "jax": ("data-parallel",)}
    if kind not in ("auto", "none", *able.get(backend, ())):
        owner = next(each for each, kinds in able.items() if kind in kinds)
        message = (
            f"{kind!r} is of the backend {owner}, and this is {backend}. "
            f"Take --backend {owner}, or --distribute auto."
        )
        raise InputError(message)
    if count > 1 and (backend == "torch" or kind == "none"):
        reason = "with torch" if backend == "torch" else "with the distribution 'none'"
        message = (
            f"{devices!r} are {count} devices, and {reason} a training runs on one. "
            "Take --backend tensorflow or jax, or --distribute auto, or one device."
        )
        raise InputError(message)
    if backend == "torch":
        _check_torch(platform)
        return Devices()
    start = _with_tensorflow if backend == "tensorflow" else _with_jax
    made = start(kind, platform, count, batch)
    if batch is not None:
        made.check_batch(batch)
    return made


def _check_torch(platform: str | None) -> None:
    """Refuse a GPU that is not there, and a launcher of several processes."""
    import torch

    if platform == "gpu" and not torch.cuda.is_available():
        raise _none_there()
    processes = os.environ.get("WORLD_SIZE", "1")
    if processes != "1":
        message = (
            f"WORLD_SIZE says that this is one of {processes} processes, as torchrun "
            "starts them, and with torch a training runs on one device: each would "
            "train the same. Start one process, or take --backend tensorflow or jax."
        )
        raise InputError(message)


def _none_there() -> InputError:
    message = (
        "A GPU was asked for, and there is none that this backend can use. Take "
        "--devices cpu, or leave it out."
    )
    return InputError(message)


def _asked(devices: str | None) -> tuple[str | None, int]:
    """Return platform and number, 0 for all, that "cpu:2" asks for."""
    if devices is None:
        return None, 0
    found = re.fullmatch(r"(cpu|gpu)(?::([1-9]\d{0,3}))?", devices)
    if not found:
        message = (
            f"Devices are written as cpu, cpu:2, gpu or gpu:2. Received: {devices!r}"
        )
        raise InputError(message)
    return found[1], int(found[2] or 0)


def _chosen(
    kind: str, there: Sequence[str], count: int, batch: int | None
) -> Sequence[str]:
    """Return the devices to use; of several that cannot share a batch, fewer."""
    if count > len(there):
        message = (
            f"{count} devices were asked for, and there are {len(there)}: "
            f"{', '.join(there) or 'none'}. If there should be more, choose them "
            "before anything else computes in this process."
        )
        raise InputError(message)
    there = there[: count or None]
    if kind == "none":
        return there[:1]
    if kind == "auto":
        usable = [n for n in range(1, len(there) + 1) if (batch or 0) % n == 0]
        return there[: usable[-1]] if usable else there
    if len(there) < 2:
        message = (
            f"{kind!r} needs several devices, and there is one. Take --distribute "
            "none, or two logical ones, to try it out: --devices cpu:2."
        )
        raise InputError(message)
    return there


def _words(kind: str, devices: Sequence[str]) -> str:
    return f"{len(devices)} replicas, {kind}: {', '.join(devices)}"


def _with_tensorflow(
    kind: str, platform: str | None, count: int, batch: int | None
) -> Devices:
    import keras  # noqa: F401  before tensorflow
    import tensorflow as tf

    cluster = workers()
    config, gpus = tf.config, tf.config.list_physical_devices("GPU")
    # Too late: then what there is decides.
    with contextlib.suppress(RuntimeError):
        if platform == "cpu":
            config.set_visible_devices([], "GPU")
            if count > 1:
                cpu = config.list_physical_devices("CPU")[0]
                parts = [config.LogicalDeviceConfiguration()] * count
                config.set_logical_device_configuration(cpu, parts)
        elif count:
            config.set_visible_devices(gpus[:count], "GPU")
    if kind == "multiworker" or (kind == "auto" and cluster):
        return _with_workers(cluster, count if platform == "cpu" else 0)
    if platform == "gpu" and not gpus and not count:
        raise _none_there()
    kinds = platform or ("gpu" if gpus else "cpu")
    there = [
        f"{kinds}:{number}"
        for number in range(len(config.list_logical_devices(kinds.upper())))
    ]
    if platform is None and kinds == "cpu" and kind == "auto":
        there = there[:1]
    found = _chosen(kind, there, count, batch)
    if len(found) < 2:
        return Devices()
    strategy = tf.distribute.MirroredStrategy([each.upper() for each in found])
    return Mirrored(strategy, _words("mirrored", found))


def _with_workers(cluster: tuple[int, int] | None, cpus: int) -> Devices:
    import tensorflow as tf

    if cluster is None:
        message = (
            "'multiworker' needs the environment variable TF_CONFIG in every process, "
            'such as {"cluster": {"worker": ["host1:2222", "host2:2222"]}, "task": '
            '{"type": "worker", "index": 0}}.'
        )
        raise InputError(message)
    if cpus > 1:
        message = (
            "Each process of 'multiworker' uses one processor, or its GPUs: take "
            f"--devices cpu, not cpu:{cpus}."
        )
        raise InputError(message)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    except RuntimeError as error:
        message = (
            "TensorFlow has already started in this process: call "
            f"devices.distribute before anything else. ({error})"
        )
        raise InputError(message) from error
    except (ValueError, tf.errors.UnknownError) as error:
        message = (
            "TensorFlow cannot join the processes that the environment variable "
            f"TF_CONFIG lists: {str(error).rstrip('.')}. Look whether its task is one "
            "of them, and its address one of this machine that is free."
        )
        raise InputError(message) from error
    words = f"{strategy.num_replicas_in_sync} replicas, multiworker: "
    words += f"process {cluster[1] + 1} of {cluster[0]}"
    return Mirrored(strategy, words, cluster)


def _with_jax(
    kind: str, platform: str | None, count: int, batch: int | None
) -> Devices:
    import jax
    import keras

    # Too late: then what there is decides.
    with contextlib.suppress(RuntimeError):
        if platform == "cpu":
            jax.config.update("jax_platforms", "cpu")
            if count > 1:
                jax.config.update("jax_num_cpu_devices", count)
    if kind != "none" and "KERAS_DISTRIBUTION_NUM_PROCESSES" in os.environ:
        try:
            keras.distribution.initialize()
        except ValueError as error:
            message = (
                "JAX cannot join the processes that the environment variables "
                f"KERAS_DISTRIBUTION_... describe: {error}"
            )
            raise InputError(message) from error
    try:
        there = keras.distribution.list_devices(platform)
    except RuntimeError as error:
        if platform != "gpu":
            raise
        raise _none_there() from error
    if platform is None and kind == "auto" and there[0].startswith("cpu"):
        there = there[: jax.process_count()]
    found = there if jax.process_count() > 1 else _chosen(kind, there, count, batch)
    if len(found) < 2:
        return Devices()
    distribution = keras.distribution.DataParallel(devices=list(found))
    return DataParallel(distribution, _words("data-parallel", found))
