"""Pictures of what a training did."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from unet_zoo import files


def write_curve(
    path: Path, history: Sequence[Mapping[str, float]], metric: str
) -> None:
    """Write loss and validation metric against steps as a PNG picture.

    Args:
        path: of the picture.
        history: rows with "step", "loss" and perhaps `metric`.
        metric: name of the column drawn beside the loss.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    left = figure.subplots()
    steps = [row["step"] for row in history]
    losses = [row.get("loss", math.nan) for row in history]  # none at the start
    left.plot(steps, losses, color="tab:blue", marker=".")
    left.set_xlabel("step")
    left.set_ylabel("training loss", color="tab:blue")
    # Where neither annotation nor result has any foreground, there is no IoU.
    values = [row.get(metric, math.nan) for row in history]
    if not all(map(math.isnan, values)):
        right = left.twinx()
        right.plot(steps, values, color="tab:orange", marker=".")
        right.set_ylabel(f"validation {metric}", color="tab:orange")
    with files.replacing(path) as part:
        figure.savefig(part, dpi=120)
