"""What the pages show, in words for whoever took the images."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING

from unet_zoo import catalog, targets
from unet_zoo.recipe import Recipe
from unet_zoo.targets import Target
from unet_zoo.visualizing.report import Page

if TYPE_CHECKING:
    from unet_zoo.visualizing import Tiling

_TARGETS = {
    "semantic": (
        "The network is taught the class of every pixel: 0 is background. The weight "
        "says how much a pixel counts in the loss; it is 0 where nothing is annotated."
    ),
    "border": (
        "The network is taught what is foreground, with touching objects set apart by "
        "a line of background, as in Ronneberger et al. 2015. The weight is large on "
        "these lines, so that they are learned although they are thin, and 0 where "
        "nothing is annotated."
    ),
    "distance": (
        "The network is taught three maps: what is foreground; how deep each pixel "
        "lies in its object, 1 at the deepest place of every object, large or small; "
        "and where two objects touch. From the three, objects are told apart by a "
        "watershed. The weight is 0 where nothing is annotated: there the network may "
        "predict anything."
    ),
}


def lead(split: str) -> str:
    """Return the paragraph below the title."""
    other = "" if split == "train" else f", were it a training on the split {split}"
    return (
        "The patches on this page are the very first ones that the training gets"
        f"{other}: same images, same places, same random changes. If your objects are "
        "still recognisable to you here, the network can learn them; if they are not, "
        "weaken the augmentation or change the scale."
    )


def facts(
    dataset: catalog.Dataset, recipe: Recipe, split: str, count: int
) -> dict[str, str]:
    """Return what was drawn, by name."""
    plain = dataclasses.asdict(recipe.augmentation)
    changes = [
        f"{name.replace('_', ' ')} {value:g}" if value is not True else name
        for name, value in plain.items()
        if isinstance(value, int | float) and value and name != "elastic_points"
    ]
    scale = recipe.scale or 1.0
    images = f"{count} image{'s' * (count != 1)}"
    return {
        "dataset": f"{dataset.name} {dataset.version}, {split}: {images}",
        "understood as": dataset.note,
        "scale": "that of the image"
        if scale == 1
        else f"{scale:g} of the image's, in both directions",
        "patch": f"{recipe.patch} x {recipe.patch} pixels",
        "target": recipe.target,
        "augmentation": ", ".join(changes) or "none",
        "border": recipe.augmentation.border,
        "seed": str(recipe.seed),
    }


def pages(
    recipe: Recipe, target: Target, tiled: Tiling, margin: int, names: Sequence[str]
) -> list[Page]:
    """Return the pages called `names`, in this order."""
    inside = (
        "The network predicts only inside the dashed frame: its convolutions are not "
        "padded, and what lies around it is context."
    )
    every = {
        "deformation": Page(
            "deformation",
            "From the image to the patch",
            [
                "Left, an image at the size that the network sees; the blue outline is "
                "where the patch is taken from, its dot the patch's top left corner. "
                "Right, the patch. The yellow grid is painted on the image: it is "
                "turned, scaled and bent with it.",
                "Image and labels are read through one field, each pixel once, so they "
                "cannot shift against each other. Both are drawn with one range of "
                "grey values: light, contrast, sharpness and noise of the patch differ "
                "because the augmentation changed them." + _beyond(recipe),
            ],
        ),
        "elastic-field": Page(
            "elastic-field",
            "The elastic field",
            [
                f"In the middle, how far each pixel is moved: "
                f"{recipe.augmentation.elastic_points} x "
                f"{recipe.augmentation.elastic_points} control points (red) get random "
                f"displacements with a standard deviation of "
                f"{recipe.augmentation.elastic:g} pixels, and a cubic spline runs "
                "through them. An arrow begins at a pixel of the patch and ends where "
                "its grey value is taken from.",
                "Left, the patch's place in the image before anything is done; right, "
                "after this field alone. The training composes it with rotation, "
                "scale and flips.",
            ],
        ),
        "tiles": Page("tiles", "Overlap tiles", _of_tiles(tiled)),
        "patches": Page(
            "patches",
            "What the network gets",
            [
                "The first patches of the training, and their labels: every object has "
                "a colour of its own. Grey stripes are not annotated; they count "
                "neither as object nor as background."
                + (f" {inside}" if margin else ""),
                "Look whether outlines lie on your objects, also where objects touch. "
                "An outline that is shifted, or an object without one, is taught as it "
                "is.",
            ],
        ),
        "weights": Page("weights", "The weight map", _of_weights(target)),
        "targets": Page(
            "targets",
            "What the network is taught",
            [
                _TARGETS[recipe.target],
                "The maps went through the same field as the "
                "patch." + (f" {inside}" if margin else ""),
            ],
        ),
    }
    return [every[name] for name in names]


def _beyond(recipe: Recipe) -> str:
    border = recipe.augmentation.border
    if border == "mirror":
        return " Under blue stripes there was no image left, and it is mirrored."
    if border == "constant":
        return (
            " Under blue stripes there was no image left: it is mirrored, or without "
            "anything, and then does not count."
        )
    return ""


def _of_tiles(tiled: Tiling) -> list[str]:
    words = [
        "An image that is too large for the memory is segmented tile by tile. Each "
        "yellow tile is predicted from more than itself: for the filled one, the "
        "network sees everything within the blue frame, which is shown on the right. "
        "Tiles do not overlap, and together they are the image (white, dashed)."
    ]
    if tiled.valid or not tiled.large:
        words.append(
            "Beyond the edge of the image, drawn pale, it is mirrored, so that objects "
            "at the edge have surroundings too: the overlap-tile strategy of "
            "Ronneberger et al. 2015, figure 2. Because every tile sees "
            f"{tiled.margin} pixels of context on each side, there are no seams."
        )
    else:
        words.append(
            "This network pads by itself, so what it sees stays within the image, "
            f"{tiled.margin} pixels or more around the tile where there are as many."
        )
    if not tiled.valid and not tiled.large:
        words.append(
            "This recipe's network pads by itself and takes images of up to a million "
            "pixels at once, this one too; the tiles are those of a network of the "
            "same depth without padding."
        )
    return words


def _of_weights(target: Target) -> list[str]:
    border = target if isinstance(target, targets.Border) else targets.Border()
    w0, sigma = border.w0, border.sigma
    words = [
        "The weight of each pixel in the loss, as Ronneberger et al. 2015 have it: "
        "classes balance each other, and background between two objects weighs the "
        f"more the closer they are, up to {w0:g} more where they touch, fading over "
        f"{2 * sigma:g} pixels or so (w0 = {w0:g}, sigma = {sigma:g}).",
        "In the middle, touching objects are set apart by a line of background one "
        "pixel wide: that is the line which must be learned.",
    ]
    if border is not target:
        words.append(
            "This recipe's target does without the map; --target border trains with it."
        )
    return words
