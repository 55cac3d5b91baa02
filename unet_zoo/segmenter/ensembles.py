"""Ensembles: several segmenters that are used as one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from unet_zoo import targets
from unet_zoo.errors import InputError
from unet_zoo.segmenter.segmenting import Segmenter


class Ensemble(Segmenter):
    """Several segmenters as one: what they predict is averaged, then decoded.

    Made by `load` of several names, or of a folder with `ensemble.toml`, as a
    cross-validation or `weights.write_ensemble` leaves it. It has no one `network`;
    `members` have.

    Args:
        members: segmenters that agree on channels, target and scale.
        facts: of the first, with the arguments of the target to decode by.
    """

    def __init__(self, members: Sequence[Segmenter], facts: Mapping[str, Any]) -> None:
        self.members = tuple(members)
        self.facts = dict(facts)
        self.target = targets.get(facts["target"], **facts["target_arguments"])

    def __getattr__(self, name: str) -> Any:
        message = f"An ensemble has no attribute {name!r}."
        if name in ("network", "model"):
            message += f" Each of its {len(self.members)} `members` has."
        raise AttributeError(message)

    @property
    def lanes(self) -> int:
        return min(member.lanes for member in self.members)

    def for_many(self) -> Segmenter:
        return Ensemble([member.for_many() for member in self.members], self.facts)

    def predict(
        self,
        image: np.ndarray,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        tta: int | None = None,
        tile: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Return the mean of what the members predict; see `Segmenter.predict`."""
        total: Any = 0.0
        for member in self.members:
            total = total + member.predict(
                image, pixel_size=pixel_size, tta=tta, tile=tile, progress=progress
            )
        return total / np.float32(len(self.members))

    def save(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Refuse: an ensemble is the folder that it was loaded from."""
        message = (
            "An ensemble is not one weights file. Copy its folder, or save its members "
            "and name them to unet_zoo.weights.write_ensemble."
        )
        raise InputError(message)
