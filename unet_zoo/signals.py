"""Ctrl-C stays harmless beside libraries that meddle with how signals arrive."""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Iterator


class _Stack(ctypes.Structure):
    """`stack_t` of Linux."""

    _fields_ = (
        ("pointer", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("size", ctypes.c_size_t),
    )


@contextlib.contextmanager
def own_stack() -> Iterator[None]:
    """Leave this thread the stack that signals arrive on, whatever the body sets.

    OpenVINO sets one for every model it compiles, and with the model it goes. Of models
    that go in the order in which they came, the last puts back what went with the first
    one, and the next signal, such as that of Ctrl-C, ends the process.
    """
    if sys.platform != "linux":  # where alone OpenVINO does so
        yield
        return
    change = ctypes.CDLL(None).sigaltstack
    before = _Stack()
    change(None, ctypes.byref(before))
    try:
        yield
    finally:
        change(ctypes.byref(before), None)
