"""Augmentation as one compiled function.

Written with `keras.ops`, an augmentation is some hundred operations that each read and
write a whole image. XLA makes a few loops of them in which places and weights never
reach memory: five to ten times faster, also where the rest of a step is not compiled.
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


def compiled(function: Callable[..., Any], size: tuple[int, ...]) -> Callable[..., Any]:
    """Return `function` of tensors, compiled where the backend has a compiler for it.

    Args:
        function: pure, of tensors or dictionaries of tensors.
        size: of one example in pixels.
    """
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(function)
    # TensorFlow for Windows comes without XLA.
    wanted = math.prod(size) >= _WORTH_IT and sys.platform != "win32"
    if backend == "tensorflow" and wanted:
        import tensorflow as tf

        # TensorFlow takes functions of the same code for one that is traced too often.
        return tf.function(functools.partial(function), jit_compile=True)
    return function


def once(make: Callable[..., Any]) -> Callable[..., Any]:
    """Cache what `make` returns: equal arguments, all hashable, compile once."""
    return functools.lru_cache(maxsize=64)(make)
