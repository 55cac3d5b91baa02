"""Running a test file as a program on each backend, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BACKENDS = ("tensorflow", "jax", "torch")


def results(
    file: str, factory: pytest.TempPathFactory, *arguments: object, timeout: float
) -> dict[str, dict[str, np.ndarray]]:
    """Run `file` with a folder and `arguments`; return its `results.npz` by backend."""
    started, found = {}, {}
    for backend in BACKENDS:
        folder = factory.mktemp(backend)
        environment = {
            **os.environ,
            "KERAS_BACKEND": backend,
            "TF_CPP_MIN_LOG_LEVEL": "2",
        }
        process = subprocess.Popen(
            [sys.executable, file, str(folder), *map(str, arguments)],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        started[backend] = (process, Path(folder))
    try:
        for backend, (process, folder) in started.items():
            _, said = process.communicate(timeout=timeout)
            assert process.returncode == 0, said[-3000:]
            with np.load(folder / "results.npz") as archive:
                found[backend] = dict(archive)
    finally:
        for process, _ in started.values():
            process.kill()
            process.communicate()
    return found
