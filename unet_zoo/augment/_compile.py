"""Augmentation as a few compiled functions.

Written with `keras.ops`, an augmentation is some hundred operations that each read and
write a whole image. XLA makes one loop of many of them, in which places and weights
never reach memory: ten times faster, also where the rest of a step is not compiled. It
goes too far where one value is needed in several places, and computes it again for
each. So an augmentation is cut into kernels, whose results are stored.
"""

from __future__ import annotations

import functools
import math
import sys
from collections.abc import Callable
from typing import Any

import keras

# Compiling takes a second: below this many pixels an example, TensorFlow, which runs
# single operations at little cost, is left to it.
_WORTH_IT = 2**14


def kernel(function: Callable[..., Any], size: tuple[int, ...]) -> Callable[..., Any]:
    """Return `function` compiled by itself, so that what it returns is stored.

    Args:
        function: pure, of tensors.
        size: of one example in pixels.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return lambda *given: jax.lax.optimization_barrier(function(*given))
    # TensorFlow for Windows comes without XLA.
    wanted = math.prod(size) >= _WORTH_IT and sys.platform != "win32"
    if backend == "tensorflow" and wanted:
        import tensorflow as tf

        # TensorFlow takes functions of the same code for one that is traced too often.
        return tf.function(functools.partial(function), jit_compile=True)
    return function


def whole(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that calls kernels, compiled at once where kernels are not."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.jit(function)
    return function


def once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Cache what `make` returns: equal arguments, all hashable, compile once."""
    return functools.lru_cache(maxsize=64)(make)
