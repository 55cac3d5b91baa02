"""The same weights give the same numbers on TensorFlow, JAX and PyTorch."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest
from battery import tiny

from unet_zoo import registry

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "backends.py"


@pytest.fixture(scope="module")
def differences() -> dict[str, dict[str, float]]:
    """Every variant, tiny, asked by three processes; see `benchmarks/backends.py`."""
    compare = runpy.run_path(str(BENCHMARK))["compare"]
    return compare({name: tiny(name) for name in registry.names()}, size=(32, 48))


@pytest.mark.parametrize("name", registry.names())
def test_three_backends_give_one_answer(
    name: str, differences: dict[str, dict[str, float]]
) -> None:
    assert set(differences[name]) == {"jax", "torch"}
    for backend, difference in differences[name].items():
        assert difference < 1e-4, backend
