"""What depends on backend and devices: choice, precision, compiling, replicas."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from unet_zoo.devices.choosing import DISTRIBUTIONS, distribute
from unet_zoo.devices.compiling import compiled
from unet_zoo.devices.fusing import exportable, fuse
from unet_zoo.devices.replicas import Devices, several_hosts, share
from unet_zoo.errors import InputError, unknown

if TYPE_CHECKING:
    import keras

__all__ = [
    "BACKENDS",
    "DISTRIBUTIONS",
    "Devices",
    "choose_backend",
    "compile_xla",
    "compiled",
    "deterministic",
    "distribute",
    "exportable",
    "fuse",
    "is_deterministic",
    "precision",
    "scaled",
    "several_hosts",
    "share",
]
BACKENDS = ("tensorflow", "jax", "torch")
_deterministic = False


def choose_backend(name: str) -> None:
    """Make Keras use backend `name`; must come before keras is first imported.

    Raises:
        InputError: for an unknown backend, one whose package is missing, or when
            keras has already been imported with another one.
    """
    import importlib.util

    if name not in BACKENDS:
        raise unknown(kind="backend", word=name, options=BACKENDS)
    if importlib.util.find_spec(name) is None:
        message = (
            f"The backend {name!r} needs the package {name!r}. "
            f"Install it with: pip install 'unet-zoo[{name}]'"
        )
        raise InputError(message)
    if "keras" in sys.modules:
        import keras

        if keras.backend.backend() != name:
            message = (
                f"Keras already runs on {keras.backend.backend()!r} in this process. "
                f"Set KERAS_BACKEND={name} before anything imports keras."
            )
            raise InputError(message)
    os.environ["KERAS_BACKEND"] = name


@contextlib.contextmanager
def precision(policy: str) -> Iterator[None]:
    """Build models within the block under the dtype policy `policy`."""
    import keras

    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


@contextlib.contextmanager
def without_values() -> Iterator[None]:
    """Build models within the block whose weights will be assigned, none drawn.

    JAX compiles a program for every shape it draws, which takes it ten times as long
    as all else that loading does. The other backends draw as always.
    """
    import keras

    if keras.backend.backend() != "jax":
        yield
        return
    from keras.src.backend.common import global_state

    # Keras keeps a list of what still waits for its value, and would draw all of it
    # when the next scope ends, or fail at what has been assigned since.
    waiting = global_state.get_global_attribute("uninitialized_variables", [], True)
    before = len(waiting)
    with keras.StatelessScope(initialize_variables=False):
        yield
    made, waiting[before:] = waiting[before:], []
    for variable in made:
        if not keras.backend.is_float_dtype(variable.dtype):
            # The state of a random generator is no weight: nobody assigns it.
            variable._deferred_initialize()


def deterministic() -> None:
    """Make every later computation of this process repeat bit for bit.

    TensorFlow and PyTorch then take slower kernels, or refuse where they have none. On
    a GPU, JAX takes the same from XLA_FLAGS=--xla_gpu_deterministic_ops=true, which
    must be set before the process starts.
    """
    import keras

    global _deterministic
    _deterministic = True

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        tf.config.experimental.enable_op_determinism()
    elif keras.backend.backend() == "torch":
        import torch

        torch.use_deterministic_algorithms(True)


def is_deterministic() -> bool:
    """Return whether `deterministic` was called in this process."""
    return _deterministic


def compile_xla() -> bool | str:
    """Return what `jit_compile` should be: XLA everywhere but for TensorFlow on a CPU.

    There XLA replaces TensorFlow's convolutions by slower ones of its own.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return "auto"
    import tensorflow as tf

    return "auto" if tf.config.list_physical_devices("GPU") else False


def scaled(optimizer: keras.optimizers.Optimizer, precision: str) -> Any:
    """Return an optimizer that scales the loss where `precision` is float16."""
    import keras

    if precision != "mixed_float16":
        return optimizer
    return keras.optimizers.LossScaleOptimizer(optimizer)


def gpu_memory() -> int | None:
    """Return the bytes of the smallest GPU that Keras computes on, None without one."""
    import subprocess

    import keras

    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        there = bool(tf.config.list_physical_devices("GPU"))
    elif keras.backend.backend() == "jax":
        import jax

        there = jax.default_backend() == "gpu"
    else:
        import torch

        there = torch.cuda.is_available()
    if not there:
        return None
    # The backends say what they hold, which may be everything or nothing yet.
    query = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(query, capture_output=True, text=True, check=True)
        return min(int(line) for line in done.stdout.split()) * 2**20
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
