"""The layer of a training: one tensor holds image, target and weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from unet_zoo.augment import _compile, _field, _grey
from unet_zoo.augment._warp import joined, planes
from unet_zoo.recipe import Augmentation

Tensor = Any


class Augment(keras.layers.Layer):
    """Change image and target of a batch by one random field per example.

    The ranges are uniform unless they say otherwise; draws come with the batch (see
    `draws` and `draw_size`), so the layer is a pure function of what it is given. For
    a layer that draws by itself and takes images and labels apart, see `Augmenter`.

    Args:
        augmentation: the ranges.
        size: (rows, columns) or (planes, rows, columns) of what comes out; the middle
            of the input, for the identity.
        image_channels: how many of the leading channels are the image.
        interpolation: "linear" or "nearest" for each channel after the image. Beyond a
            "constant" border every channel is 0, and so is the weight.

    Call arguments:
        stack: float (batch, Y, X, channels), image first, then target and weights;
            volumes (batch, Z, Y, X, channels).
        uniform: float (batch, u) within [0, 1).
        normal: float (batch, n) standard normal (see `draw_size`).

    Returns:
        float (batch, *size, channels).

    Paper: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, section 3.1.
    """

    def __init__(
        self,
        augmentation: Augmentation,
        size: Sequence[int],
        image_channels: int,
        interpolation: Sequence[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(dtype="float32", **kwargs)
        self.augmentation = augmentation
        self.size = tuple(size)
        self.image_channels = image_channels
        self.interpolation = (augmentation.interpolation,) * image_channels + tuple(
            interpolation
        )

    def call(self, stack: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        change = _changing(
            self.augmentation, self.size, self.image_channels, self.interpolation
        )
        return change(stack, uniform, normal)

    def field(
        self, uniform: Tensor, normal: Tensor, source: Sequence[int]
    ) -> tuple[Tensor, ...]:
        """Return the source coordinates of every output pixel, in pixels.

        Args:
            uniform, normal: as the layer is called with.
            source: (rows, columns) or (planes, rows, columns) of what is read.

        Returns:
            float (batch, *size) for each axis: (y, x) or (z, y, x).
        """
        places = _field.places(self.augmentation, uniform, normal, self.size, source)
        shape = (ops.shape(uniform)[0], *self.size)
        return tuple(
            ops.broadcast_to(ops.cast(whole, "float32") + part, shape)
            for whole, part in zip(*places, strict=True)
        )


def _change(
    augmentation: Augmentation,
    size: tuple[int, ...],
    image_channels: int,
    interpolation: tuple[str, ...],
) -> Callable[..., Tensor]:
    """Return the function of (stack, uniform, normal) that the layer computes."""

    def move(stack: Tensor, uniform: Tensor, normal: Tensor) -> list[Tensor]:
        source = tuple(stack.shape[1:-1])
        places = _field.places(augmentation, uniform, normal, size, source)
        return planes(stack, places, interpolation, augmentation.border)

    def put_together(image: Tensor | None, others: list[Tensor]) -> Tensor:
        channels = [] if image is None else ops.unstack(image, axis=-1)
        return joined([*channels, *others])

    moved, together = (
        _compile.kernel(function, size) for function in (move, put_together)
    )
    grey = _grey.changing(augmentation, size)

    def change(stack: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        channels = list(moved(stack, uniform, normal))
        if grey is None or not image_channels:
            return together(None, channels)
        image = joined(channels[:image_channels])
        image = grey(image, uniform, normal)
        others = channels[image_channels:]
        return together(image, others) if others else image

    return _compile.whole(change)


_changing = _compile.once(_change)
