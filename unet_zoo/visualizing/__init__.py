"""What a training is given, as pictures: look before you train."""

from __future__ import annotations

import dataclasses
import io
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from unet_zoo import catalog, files, pipeline, registry, targets, tiling
from unet_zoo.errors import InputError
from unet_zoo.recipe import Recipe
from unet_zoo.targets import Target
from unet_zoo.visualizing import captions, gathering, pages, report

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["visualize"]

MOST = 20  # images on a page
_WHOLE = 2**20  # pixels that a segmenter takes at once
_TILE = 512


def visualize(
    dataset: catalog.Dataset,
    recipe: Recipe,
    output: str | os.PathLike[str],
    *,
    split: str = "train",
    number: int = 3,
    tile: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Path:
    """Draw what a training by `recipe` is given; return the path of the HTML page.

    `output` then holds, complete or not at all, `index.html` with everything, which
    needs no other file, and one PNG file per page:

    - `deformation.png`: original and augmented patch with the same grid over both;
    - `elastic-field.png`: the elastic field by itself, as arrows and lengths;
    - `tiles.png`: the overlap-tiles of a large image, and what is mirrored at its edge;
    - `patches.png`: patches as the network gets them, with their labels;
    - `weights.png`: the weight map of the U-Net paper beside the labels;
    - `targets.png`: every channel that the network is taught.

    The patches are the first ones of a training with the recipe and its seed: the same
    images, places and random changes. What does not apply (no elastic deformation in
    the recipe, classes instead of objects) has no page, and `index.html` says so.

    Args:
        dataset: what `catalog.open_dataset` returned.
        recipe: of the training; `recipe.replace(seed=1)` shows other patches.
        output: a new or empty folder.
        split: "train", "validation", "test", and "all" of a dataset of your own.
        number: rows of a page, 1 to 20.
        tile: side of the tiles in pixels of the network's image. None: as a segmenter
            cuts large images; of small ones, half of the image.
        progress: called with the number of pages done and of all.

    Raises:
        InputError: when `output` holds anything, the split is not there, or the labels
            do not fit the recipe's target.

    The overlap-tile strategy, the elastic deformation and the weight map are those of
    Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597.
    """
    if not 1 <= number <= MOST:
        message = f"`number` must lie in 1..{MOST}. Received: {number}"
        raise InputError(message)
    output = Path(output).expanduser().resolve()
    files.check_unused(output)
    examples = dataset.sequence(split)
    if not examples:
        message = f"The split {split!r} of the dataset {dataset.name!r} has no images."
        raise InputError(message)
    recipe = pipeline.with_scale(recipe, dataset.kind, examples)
    target = targets.get(recipe.target, **recipe.target_arguments)
    margin = _margin_of_patches(recipe)
    found = gathering.gather(examples, recipe, target, 2 * number)
    first = found[:number]

    drawn: dict[str, Callable[[], Figure]] = {}
    left_out = []
    drawn["deformation"] = lambda: pages.deformation(first)
    if recipe.augmentation.elastic:
        points = recipe.augmentation.elastic_points
        drawn["elastic-field"] = lambda: pages.elastic_field(first, points)
    else:
        left_out.append("The recipe has no elastic deformation, so there is no field.")
    tiled = _tiles(recipe, found[0].source.shape, tile)
    drawn["tiles"] = lambda: pages.tiles(
        found[0].source, found[0].name, tiled.plan, tiled.margin
    )
    drawn["patches"] = lambda: pages.patches(found, margin)
    if dataset.kind == "instances" or recipe.target == "border":
        w0, sigma = _of_border(target)
        drawn["weights"] = lambda: pages.weights(_distinct(first), w0, sigma)
    else:
        left_out.append(
            "Labels are classes, not objects, so there are no borders between objects "
            "to weigh."
        )
    drawn["targets"] = lambda: pages.targets(first, recipe.target, margin)

    with files.whole_folder(output) as part:
        pictures = {}
        for done, (name, draw) in enumerate(drawn.items(), start=1):
            pictures[name] = _png(draw())
            (part / f"{name}.png").write_bytes(pictures[name])
            if progress is not None:
                progress(done, len(drawn))
        text = report.write(
            f"What a training on {dataset.name} is given",
            captions.lead(split),
            captions.facts(dataset, recipe, split, len(examples)),
            captions.pages(recipe, target, tiled, margin, list(drawn)),
            pictures,
            left_out,
        )
        (part / "index.html").write_text(text, encoding="utf-8")
    return output / "index.html"


def _of_border(target: Target) -> tuple[float, float]:
    """Return w0 and sigma of the target's weight map, those of the paper without."""
    border = target if isinstance(target, targets.Border) else targets.Border()
    return border.w0, border.sigma


def _distinct(patches: Sequence[gathering.Patch]) -> list[gathering.Patch]:
    """Return one patch of each image."""
    return list({patch.number: patch for patch in reversed(patches)}.values())[::-1]


def _padding(recipe: Recipe) -> str:
    default = "valid" if recipe.model == "unet" else "same"
    return str(recipe.model_arguments.get("padding", default))


def _margin_of_patches(recipe: Recipe) -> int:
    """Return what a network of valid convolutions loses at each side of a patch."""
    if _padding(recipe) != "valid":
        return 0
    return tiling.valid_unet(int(recipe.model_arguments.get("depth", 4))).margin


@dataclasses.dataclass(frozen=True)
class Tiling:
    """The tiles of an image and what is to be said about them."""

    plan: list[tiling.Tile]
    margin: int
    valid: bool  # of the recipe's own network, which does not pad
    large: bool  # a segmenter would cut this image


def _tiles(recipe: Recipe, shape: tuple[int, ...], tile: int | None) -> Tiling:
    """Return the tiles of an image: the recipe's where it cuts, else the paper's."""
    height, width = shape[:2]
    valid = _padding(recipe) == "valid"
    depth = int(recipe.model_arguments.get("depth", 4))
    geometry = tiling.valid_unet(depth)
    large = height * width > _WHOLE
    if tile is None:
        half = tiling.fitting(math.ceil(max(height, width) / 2), geometry.step)
        tile = _TILE if large else max(geometry.step, half)
    if valid or not large:
        plan = tiling.plan(
            (height, width),
            tile=tile,
            margin=geometry.margin,
            step=geometry.step,
            remainder=geometry.remainder,
        )
        return Tiling(plan, geometry.margin, valid, large)
    step = registry.step(recipe.model, **recipe.model_arguments)
    # As a segmenter has it: see `Segmenter`.
    margin = 2 * tiling.valid_unet(math.ceil(math.log2(step))).margin
    plan = tiling.plan(
        (height, width), tile=tile, margin=margin, step=step, inside=True
    )
    return Tiling(plan, margin, valid, large)


def _png(figure: Figure) -> bytes:
    """Return a figure as a PNG file, the same bytes for the same figure."""
    memory = io.BytesIO()
    figure.savefig(memory, format="png", dpi=100, metadata={"Software": None})
    return memory.getvalue()
