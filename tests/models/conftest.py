"""Hundreds of networks in one process: let them go now and then."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import keras
import pytest

TESTS = itertools.count(1)


@pytest.fixture(autouse=True)
def forget_networks() -> Iterator[None]:
    """Free what Keras keeps of the networks that tests built."""
    yield
    # Not every time: it looks at every object of the process.
    if next(TESTS) % 25 == 0:
        keras.backend.clear_session()
