"""Policies: how much examples are changed at random, as plain values."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace

from unet_zoo.errors import InputError, unknown


@dataclass(frozen=True)
class Augmentation:
    """Ranges of the random changes; 0 or False switches one off.

    Lengths are in pixels of the network's input, grey values in standard
    deviations of the image (the network sees z-scored images).

    Example:
        >>> Augmentation.named("light").elastic
        0.0
        >>> Augmentation.named("default") == Augmentation()
        True
    """

    rotation: float = 180.0
    """Largest rotation in degrees, either way, uniform; of a volume, of its planes."""
    quarter_turns: bool = False
    """Turn by a multiple of 90 degrees first, each as likely: nothing is interpolated.
    Of a volume, its planes."""
    tilt: float = 0.0
    """Largest rotation of a volume out of its planes, about each of the two axes."""
    flip: bool = True
    """Mirror each axis with probability one half, independently."""
    scale: float = 0.3
    """Magnification is exp(u), u uniform within plus or minus this."""
    shear: float = 0.0
    """Largest shift of a row along itself, per row of distance, either way, uniform."""
    shift: float = 0.1
    """Largest shift as a fraction of the patch, uniform."""
    elastic: float = 10.0
    """Standard deviation of the control points' displacement in pixels."""
    elastic_points: int = 3
    """Control points per axis; 3 in Ronneberger et al. 2015."""
    border: str = "mirror"
    """What lies beyond the source: "mirror" mirrors it; "constant" is grey value 0, of
    no class and of weight 0; "crop" magnifies and shifts back until nothing beyond it
    is needed."""
    interpolation: str = "linear"
    """Of the image between its pixels: "linear" or "cubic"."""
    gamma: float = 0.35
    """Exponent is exp(u), u uniform within plus or minus this."""
    contrast: float = 0.45
    """Factor is exp(u), u uniform within plus or minus this."""
    brightness: float = 0.3
    """Largest offset, uniform."""
    light: float = 0.3
    """Standard deviation of a smooth 3x3 field of light added to the image."""
    blur: float = 1.2
    """Largest standard deviation of a Gaussian blur in pixels, uniform."""
    poisson: float = 0.0
    """Largest standard deviation of shot noise at the image's brightest pixel, uniform;
    its variance falls in proportion to the grey value, to 0 at the darkest."""
    noise: float = 0.2
    """Largest standard deviation of Gaussian noise, uniform."""
    clahe: float = 0.0
    """Probability of a contrast-limited adaptive histogram equalisation."""
    inversion: float = 0.0
    """Probability that bright and dark change places within the image's range."""

    def __post_init__(self) -> None:
        for name, highest in _HIGHEST.items():
            value = getattr(self, name)
            if not 0 <= value <= highest:
                limits = f"in 0..{highest:g}" if highest < math.inf else "at least 0"
                message = f"`augmentation.{name}` must be {limits}. Received: {value}"
                raise InputError(message)
        if not 2 <= self.elastic_points <= 64:
            message = (
                "`augmentation.elastic_points` must be in 2..64. "
                f"Received: {self.elastic_points}"
            )
            raise InputError(message)
        for name, options in {
            "border": ("mirror", "constant", "crop"),
            "interpolation": ("linear", "cubic"),
        }.items():
            if getattr(self, name) not in options:
                kind = f"augmentation.{name}"
                raise unknown(kind, getattr(self, name), options)

    @staticmethod
    def named(name: str) -> Augmentation:
        """Return the policy `name`.

        "none" changes nothing. "light" is for images that always lie and look alike:
        flips, small turns, little else. "default" is what recipes have. "paper" is
        Ronneberger et al. 2015: shift, rotation, elastic deformation of 3x3 points
        and 10 pixels, and grey values. "strong" is for few images, or for images
        that will come from elsewhere.

        Raises:
            InputError: for an unknown name.
        """
        if name not in AUGMENTATIONS:
            raise unknown(kind="augmentation", word=name, options=AUGMENTATIONS)
        return AUGMENTATIONS[name]


# Larger shears and magnifications leave nothing to see, and would overflow integers.
_HIGHEST = {
    **dict.fromkeys(("rotation", "tilt"), 180.0),
    **dict.fromkeys(("scale", "shear", "shift", "clahe", "inversion"), 1.0),
    **dict.fromkeys(("gamma", "contrast", "brightness", "light"), math.inf),
    **dict.fromkeys(("poisson", "noise"), math.inf),
    "elastic": 512.0,
    "blur": 32.0,
}

_NOTHING = Augmentation(
    rotation=0.0,
    flip=False,
    scale=0.0,
    shift=0.0,
    elastic=0.0,
    gamma=0.0,
    contrast=0.0,
    brightness=0.0,
    light=0.0,
    blur=0.0,
    noise=0.0,
)

AUGMENTATIONS: Mapping[str, Augmentation] = types.MappingProxyType(
    {
        "none": _NOTHING,
        "light": replace(
            _NOTHING,
            flip=True,
            rotation=15.0,
            scale=0.1,
            shift=0.05,
            gamma=0.1,
            contrast=0.1,
            brightness=0.1,
            noise=0.05,
        ),
        "default": Augmentation(),
        "paper": replace(
            _NOTHING,
            flip=True,
            rotation=180.0,
            shift=0.1,
            elastic=10.0,
            gamma=0.2,
            contrast=0.2,
            brightness=0.2,
        ),
        "strong": Augmentation(
            scale=0.4,
            shear=0.15,
            shift=0.15,
            elastic=12.0,
            elastic_points=4,
            gamma=0.5,
            contrast=0.6,
            brightness=0.5,
            light=0.5,
            blur=2.0,
            poisson=0.3,
            noise=0.3,
            clahe=0.1,
            inversion=0.05,
        ),
    }
)
