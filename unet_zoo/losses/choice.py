"""The loss that a recipe names, applied to what a target teaches."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from keras import ops

from unet_zoo import choices
from unet_zoo.losses import pixels, regions, shapes

Tensor = Any

# Of a truth and the predicted probability of a mask.
_REGIONS: dict[str, Callable[..., Tensor]] = {
    "dice": regions.dice,
    "tversky": regions.tversky,
    "focal_tversky": regions.focal_tversky,
    "boundary": shapes.boundary,
    "cldice": shapes.cldice,
}
# Of classes or a mask and their logits.
_OF_CLASSES: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": pixels.cross_entropy,
    "focal": pixels.focal,
    "lovasz": regions.lovasz_softmax,
}
_OF_MASK: dict[str, Callable[..., Tensor]] = {
    "cross_entropy": pixels.binary_cross_entropy,
    "focal": pixels.binary_focal,
    "lovasz": regions.lovasz_hinge,
}


@dataclasses.dataclass(frozen=True)
class Loss:
    """A loss by its name, for classes and for masks.

    Of classes, losses of regions (`dice`, `tversky`, `focal_tversky`, `boundary`,
    `cldice`) are the mean over all classes but the background, each as a mask of its
    softmax probability; of a mask the probability is the sigmoid.

    Args:
        name: see `unet_zoo.choices.LOSSES`.
        arguments: of that loss; those not named have their defaults.

    Raises:
        InputError: for an unknown name or argument, or a value out of range.

    Example:
        >>> import numpy as np
        >>> one = np.ones((1, 2, 2), "float32")
        >>> float(Loss("dice").of_mask(one, 30 * one, one)[0])
        0.0
    """

    name: str = "cross_entropy"
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        whole = choices.loss_arguments(self.name, self.arguments)
        object.__setattr__(self, "arguments", whole)

    def of_classes(self, classes: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        """Return float (batch,).

        Args:
            classes: float or int (batch, Y, X), the class of each pixel.
            logits: float (batch, Y, X, classes).
            weights: float (batch, Y, X), 0 where nothing is annotated.
        """
        if self.name == "dice_cross_entropy":
            share = self.arguments["alpha"]
            dice = Loss("dice").of_classes(classes, logits, weights)
            return pixels.cross_entropy(classes, logits, weights) + share * dice
        if self.name in _OF_CLASSES:
            return self._given(_OF_CLASSES)(classes, logits, weights)
        chances = ops.softmax(logits, axis=-1)
        function, number = self._given(_REGIONS), logits.shape[-1]
        total = 0.0
        for each in range(1, number):
            truth = ops.cast(ops.equal(classes, each), chances.dtype)
            total = total + function(truth, chances[..., each], weights)
        return total / (number - 1)

    def of_mask(self, truth: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
        """Return float (batch,).

        Args:
            truth: float (batch, Y, X), 0 or 1.
            logits: float (batch, Y, X).
            weights: float (batch, Y, X), 0 where nothing is annotated.
        """
        if self.name == "dice_cross_entropy":
            share = self.arguments["alpha"]
            dice = Loss("dice").of_mask(truth, logits, weights)
            return pixels.binary_cross_entropy(truth, logits, weights) + share * dice
        if self.name in _OF_MASK:
            return self._given(_OF_MASK)(truth, logits, weights)
        return self._given(_REGIONS)(truth, ops.sigmoid(logits), weights)

    def _given(self, table: Mapping[str, Callable[..., Tensor]]) -> Any:
        return functools.partial(table[self.name], **self.arguments)


CROSS_ENTROPY = Loss()
