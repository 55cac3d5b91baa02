"""What every test may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with the real DIC-C2DH-HeLa archive and the ISBI stack."""
    folder = Path(os.environ.get("UNET_ZOO_DATA", ROOT.parent / "shared" / "data"))
    if not (folder / "DIC-C2DH-HeLa.zip").exists():
        pytest.skip(f"no real data at {folder}; set UNET_ZOO_DATA to its folder")
    return folder


@pytest.fixture(autouse=True, scope="session")
def _engine() -> None:
    """Let Keras run what tests load, but for those of the other engines.

    These convert each network first, which takes seconds.
    """
    os.environ.setdefault("UNET_ZOO_ENGINE", "keras")
