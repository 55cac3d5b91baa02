"""The recipe that a dataset suggests, each choice with its reason."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from unet_zoo import recipe
from unet_zoo.checking.looks import Look

# Diameters in pixels of the network's image.
_SMALL, _LARGE = 16, 128
_RARE = 0.03


@dataclasses.dataclass(frozen=True)
class Suggestion:
    """What to train with: options of `unet-zoo train`, a reason for each, the command.

    Keys of `options` and `reasons` are target, scale, patch, batch and depth, and
    others where the data ask for them.
    """

    options: dict[str, Any]
    reasons: dict[str, str]
    command: str


def suggest(looks: Sequence[Look], kind: str, dataset: str) -> Suggestion | None:
    """Return what frames suggest, None where there are none to train on.

    Everything is that of the default recipe unless the data say otherwise; the scale is
    what training would choose by itself.

    Args:
        looks: of all frames; those of the split "train" count.
        kind: of the masks; "semantic" where they are classes.
        dataset: as it is to stand in the command.
    """
    taught = [each for each in looks if each.split == "train"]
    if not taught:
        return None
    default = recipe.named("default")
    reasons: dict[str, str] = {}
    options: dict[str, Any] = {}
    areas = np.concatenate([each.areas for each in taught])
    objects = kind != "semantic" and len(areas) > 0

    # === Target and scale ===
    if kind == "semantic":
        options |= {"target": "semantic", "scale": 1.0}
        reasons["target"] = "the labels are classes, not objects"
        reasons["scale"] = "classes have no size that could be too large"
        classes = 1 + max(int(each.ids.max(initial=1)) for each in taught)
        if classes > 2:
            options["target_arguments.classes"] = classes
            reasons["target_arguments.classes"] = "the highest class, and background"
    else:
        touching = sum(each.touching for each in taught)
        options |= {"target": default.target, "scale": _scale(taught)}
        reasons["target"] = (
            f"{touching / max(1, len(areas)):.0%} of the objects touch another, and"
            " this target keeps them apart"
            if touching
            else "it counts objects, and keeps apart those that will touch"
        )
    scale = options["scale"]
    diameters = scale * 2 * np.sqrt(areas / np.pi)
    middle = float(np.median(diameters)) if objects else 0.0
    large = float(np.percentile(diameters, 95)) if objects else 0.0
    if objects:
        reasons["scale"] = (
            f"the median object is {middle / scale:.0f} pixels across, the network"
            f" sees it with {middle:.0f}: at most 80 fit well into its view of 140"
        )
    reasons.setdefault("scale", "there are no objects to measure")
    side = int(scale * min(min(each.size) for each in taught))

    # === Depth, patch and batch ===
    depth = int(default.model_arguments["depth"])
    reasons["depth"] = "the default: a view of 140 pixels"
    if side < 4 * 2**depth:
        depth -= 1
        reasons["depth"] = (
            f"the smallest image has {side} pixels, too few to halve more"
        )
    elif objects and large < _SMALL:
        depth -= 1
        reasons["depth"] = (
            f"objects of {large:.0f} pixels and less need no wider view, and the"
            " network is four times smaller"
        )
    patch = default.patch
    reasons["patch"] = "the default: it holds several objects"
    if side < patch:
        patch = max(4 * 2**depth, side // 2**depth * 2**depth)
        reasons["patch"] = (
            f"the smallest image has {side} pixels, and patches are multiples of"
            f" {2**depth}"
        )
    elif large > _LARGE and side >= 384:
        patch = 384
        reasons["patch"] = f"it holds objects of {large:.0f} pixels as a whole"
    batch = int(np.clip(round(default.batch * (default.patch / patch) ** 2), 2, 16))
    options |= {"patch": patch, "batch": batch, "depth": depth}
    reasons["batch"] = (
        "the default"
        if batch == default.batch
        else f"as many pixels a step as {default.batch} patches of {default.patch}"
    )

    # === Rare objects ===
    share = float(np.mean([each.foreground for each in taught]))
    if objects and share < _RARE and side >= 2 * patch:
        options["foreground_crops"] = 0.5
        reasons["foreground_crops"] = (
            f"objects cover {share:.1%} of the images: every other patch is brought to"
            " one"
        )
    return Suggestion(options, reasons, _command(options, dataset))


def _scale(taught: Sequence[Look]) -> float:
    # Here, since it brings tensorflow with it.
    from unet_zoo import pipeline

    return pipeline.choose_scale(
        np.repeat(np.arange(1, len(each.areas) + 1), each.areas) for each in taught
    )


def _command(options: dict[str, Any], dataset: str) -> str:
    words = ["unet-zoo", "train", "unet", "--dataset", dataset]
    for name, value in options.items():
        if name in ("target", "scale", "patch", "batch", "depth"):
            words += [f"--{name}", f"{value:g}" if name == "scale" else str(value)]
        else:
            words += ["--set", f"{name}={value}"]
    return shlex.join(words)
