"""Hundreds of networks in one process: let each go when its test is done."""

from __future__ import annotations

from collections.abc import Iterator

import keras
import pytest


@pytest.fixture(autouse=True)
def forget_networks() -> Iterator[None]:
    """Free what Keras keeps of the networks that a test built."""
    yield
    keras.backend.clear_session()
