"""Targets: what a network is taught, and how its output becomes labels again.

Each class turns labels into maps (`encode`), says how wrong a network's logits are
(`loss`), makes logits readable (`activate`) and turns them into objects (`decode`).
The last channel of every encoded target is the weight, 0 where labels are -1.
"""

from __future__ import annotations

import abc
import inspect
import types
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.ndimage

from unet_zoo import watershed, weight_maps
from unet_zoo.errors import InputError, unknown

if TYPE_CHECKING:
    from unet_zoo import losses  # which needs keras; to segment does not

Tensor = Any
_THRESHOLDS: Mapping[str, Sequence[float]] = types.MappingProxyType(
    {"threshold": (0.4, 0.45, 0.5, 0.55, 0.6)}
)


class Target(abc.ABC):
    """What a network is taught; subclasses are final.

    Attributes:
        name: as recipes and weights files spell it.
        channels: channels of the network's output.
        interpolation: "nearest" or "linear" for every channel of `encode`.
        arguments: what `get(name, **arguments)` needs to make the same target again.
        tunable: values worth trying for those arguments that only `decode` uses.
    """

    name: str
    channels: int
    interpolation: tuple[str, ...]
    arguments: dict[str, Any]
    tunable: Mapping[str, Sequence[float]] = types.MappingProxyType({})

    @abc.abstractmethod
    def encode(self, labels: np.ndarray) -> np.ndarray:
        """Return float32 (Y, X, K) maps of int (Y, X) labels, the weight last."""

    @abc.abstractmethod
    def loss(
        self, truth: Tensor, logits: Tensor, loss: losses.Loss | None = None
    ) -> Tensor:
        """Return float (batch,): how far logits are from the encoded truth.

        Args:
            truth: float (batch, Y, X, K), what `encode` gave.
            logits: float (batch, Y, X, channels).
            loss: how it is measured; None: the cross-entropy. Every loss suits every
                target: what is a class or a mask is compared by it.
        """

    @abc.abstractmethod
    def activate(self, logits: np.ndarray) -> np.ndarray:
        """Return the prediction in [0, 1], of the shape of the logits."""

    @abc.abstractmethod
    def foreground(self, prediction: np.ndarray) -> np.ndarray:
        """Return (..., Y, X): how sure it is that a pixel is not background."""

    @abc.abstractmethod
    def decode(
        self, prediction: np.ndarray, *, scale: float = 1.0, **options: Any
    ) -> np.ndarray:
        """Return int32 (Y, X) labels of an activated prediction (Y, X, channels).

        Args:
            prediction: what `activate` returned, at the image's size.
            scale: size of the network's image relative to this one; lengths of the
                target's own arguments are in pixels of the network's image.
            options: `threshold`, `min_size`, `fill_holes`, `closing` (see `clean`).
        """


class Semantic(Target):
    """Each pixel has a class; objects are the connected parts of the foreground.

    For instance labels the classes are background and object. Softmax and
    cross-entropy as in Ronneberger et al. 2015, with even weights.

    Args:
        classes: number of classes, background included. With more than two, decoded
            labels are class ids instead of objects.
        threshold: of two classes, a pixel is foreground above this probability.

    Example:
        >>> target = Semantic()
        >>> target.encode(np.asarray([[0, 3], [-1, 0]]))[..., 0].tolist()
        [[0.0, 1.0], [0.0, 0.0]]
        >>> target.encode(np.asarray([[0, 3], [-1, 0]]))[..., 1].tolist()
        [[1.0, 1.0], [0.0, 1.0]]
    """

    name = "semantic"
    interpolation = ("nearest", "nearest")

    tunable = _THRESHOLDS

    def __init__(self, classes: int = 2, threshold: float = 0.5) -> None:
        if classes < 2:
            message = (
                "`classes` must be at least 2, background included. "
                f"Received: {classes}"
            )
            raise InputError(message)
        self.channels = classes
        self.threshold = _fraction("threshold", threshold)
        self.arguments = {"classes": classes, "threshold": threshold}

    def encode(self, labels: np.ndarray) -> np.ndarray:
        classes = np.clip(labels, 0, 1 if self.channels == 2 else None)
        if classes.max(initial=0) >= self.channels:
            message = (
                f"`classes` is {self.channels}, but the labels hold class "
                f"{classes.max()}. Train with classes={classes.max() + 1}."
            )
            raise InputError(message)
        return np.stack([classes, labels >= 0], axis=-1).astype("float32")

    def loss(
        self, truth: Tensor, logits: Tensor, loss: losses.Loss | None = None
    ) -> Tensor:
        return (loss or _cross_entropy()).of_classes(
            truth[..., 0], logits, truth[..., 1]
        )

    def activate(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits)

    def foreground(self, prediction: np.ndarray) -> np.ndarray:
        return 1 - prediction[..., 0] if self.channels > 2 else prediction[..., 1]

    def decode(
        self, prediction: np.ndarray, *, scale: float = 1.0, **options: Any
    ) -> np.ndarray:
        if self.channels > 2:
            return prediction.argmax(axis=-1).astype("int32")
        foreground = prediction[..., 1] > options.pop("threshold", self.threshold)
        return clean(connected(foreground), **options)


class Border(Target):
    """Objects kept apart by a border that weighs much: Ronneberger et al. 2015.

    Touching objects are separated by a line of background, and the loss of each pixel
    is weighted by w_c + w0 exp(-(d1 + d2)^2 / (2 sigma^2)).

    Args:
        w0: weight of the border between touching objects.
        sigma: width of that border in pixels of the network's image.
        threshold: a pixel is foreground above this probability.

    Paper: https://arxiv.org/abs/1505.04597, equations 1 and 2.
    """

    name = "border"
    channels = 2
    # Linear weights would give pixels beside unannotated ones, and those, a part.
    interpolation = ("nearest", "nearest")

    tunable = _THRESHOLDS

    def __init__(
        self, w0: float = 10.0, sigma: float = 5.0, threshold: float = 0.5
    ) -> None:
        if w0 < 0 or sigma <= 0:
            message = (
                "`w0` must not be negative and `sigma` must be positive. "
                f"Received: w0={w0}, sigma={sigma}"
            )
            raise InputError(message)
        self.w0, self.sigma = w0, sigma
        self.threshold = _fraction("threshold", threshold)
        self.arguments = {"w0": w0, "sigma": sigma, "threshold": threshold}

    def encode(self, labels: np.ndarray) -> np.ndarray:
        apart = weight_maps.separate(labels)
        weights = weight_maps.border_weights(apart, self.w0, self.sigma)
        return np.stack([apart > 0, weights], axis=-1).astype("float32")

    def loss(
        self, truth: Tensor, logits: Tensor, loss: losses.Loss | None = None
    ) -> Tensor:
        return (loss or _cross_entropy()).of_classes(
            truth[..., 0], logits, truth[..., 1]
        )

    def activate(self, logits: np.ndarray) -> np.ndarray:
        return softmax(logits)

    def foreground(self, prediction: np.ndarray) -> np.ndarray:
        return prediction[..., 1]

    def decode(
        self, prediction: np.ndarray, *, scale: float = 1.0, **options: Any
    ) -> np.ndarray:
        foreground = prediction[..., 1] > options.pop("threshold", self.threshold)
        labels = clean(connected(foreground), **options)
        # The line of background between touching objects belongs to them; it is a
        # pixel wide for the network. Elsewhere nothing was taken away.
        width = max(1, round(1.0 / scale))
        between = weight_maps.touching_border(labels, width=width)
        return grow(labels, between, width)


class Distance(Target):
    """Foreground, distance to the object's edge, and borders between touching objects.

    Every peak of the smoothed distance, less half of the touching border, floods its
    part of the foreground; parts with neither a dip nor a border between them are
    joined (see `unet_zoo.watershed`). The distance of every object is divided by its
    largest value, so that small and large objects are taught alike.

    Args:
        seed: an object has a peak above this, within (0, 1).
        dip: between two objects the height falls by this, within (0, 1).
        smoothing: standard deviation of the Gaussian applied to the height, in
            pixels of the network's image.
        border: half width of the touching border in pixels of the network's image.
        threshold: a pixel is foreground above this probability.

    Of a loss other than the cross-entropy, foreground and touching border are compared
    by it as masks; the distance, a number and no mask, keeps the cross-entropy.

    The idea of regressed distances with seeded watershed: Scherr et al. 2020,
    https://doi.org/10.1371/journal.pone.0243219.
    """

    name = "distance"
    channels = 3
    interpolation = ("nearest", "linear", "linear", "nearest")
    tunable = types.MappingProxyType(
        {"dip": (0.1, 0.15, 0.2, 0.25, 0.3, 0.4), **_THRESHOLDS}
    )

    def __init__(
        self,
        seed: float = 0.15,
        dip: float = 0.3,
        smoothing: float = 1.5,
        border: int = 2,
        threshold: float = 0.5,
    ) -> None:
        if smoothing < 0 or border < 1:
            message = (
                "`smoothing` must not be negative and `border` must be at least 1. "
                f"Received: smoothing={smoothing}, border={border}"
            )
            raise InputError(message)
        self.smoothing, self.border = smoothing, border
        self.seed = _fraction("seed", seed)
        self.dip = _fraction("dip", dip)
        self.threshold = _fraction("threshold", threshold)
        self.arguments = {
            "seed": seed,
            "dip": dip,
            "smoothing": smoothing,
            "border": border,
            "threshold": threshold,
        }

    def encode(self, labels: np.ndarray) -> np.ndarray:
        maps = (
            labels > 0,
            weight_maps.object_distance(labels),
            weight_maps.touching_border(labels, width=self.border),
            labels >= 0,
        )
        return np.stack(maps, axis=-1).astype("float32")

    def loss(
        self, truth: Tensor, logits: Tensor, loss: losses.Loss | None = None
    ) -> Tensor:
        # The distance is no mask: there the cross-entropy is a regression.
        loss = loss or _cross_entropy()
        kinds = (loss, _cross_entropy(), loss)
        return sum(
            kind.of_mask(truth[..., k], logits[..., k], truth[..., 3])
            for k, kind in enumerate(kinds)
        )

    def activate(self, logits: np.ndarray) -> np.ndarray:
        # tanh never overflows, unlike 1 / (1 + exp(-x)).
        return 0.5 + 0.5 * np.tanh(0.5 * logits.astype("float32"))

    def foreground(self, prediction: np.ndarray) -> np.ndarray:
        return prediction[..., 0]

    def decode(
        self, prediction: np.ndarray, *, scale: float = 1.0, **options: Any
    ) -> np.ndarray:
        foreground = prediction[..., 0] > options.pop("threshold", self.threshold)
        height = prediction[..., 1] - 0.5 * prediction[..., 2]
        height = scipy.ndimage.gaussian_filter(height, self.smoothing / scale)
        labels = watershed.basins(
            height, prediction[..., 2], foreground, lowest=self.seed, dip=self.dip
        )
        return clean(labels, **options)


def _cross_entropy() -> losses.Loss:
    from unet_zoo import losses

    return losses.CROSS_ENTROPY


def _fraction(name: str, value: float) -> float:
    if not 0 < value < 1:
        message = f"`{name}` must lie in (0, 1). Received: {value}"
        raise InputError(message)
    return value


def connected(mask: np.ndarray) -> np.ndarray:
    """Return int32 labels of the parts of `mask` connected by pixel edges."""
    return scipy.ndimage.label(mask)[0].astype("int32")


def grow(labels: np.ndarray, mask: np.ndarray, distance: float) -> np.ndarray:
    """Let objects grow into `mask` by up to `distance` pixels, never into another."""
    away, nearest = scipy.ndimage.distance_transform_edt(
        labels == 0, return_indices=True
    )
    reached = mask & (away <= distance + 0.5)
    return np.where(reached, labels[tuple(nearest)], labels).astype("int32")


def clean(
    labels: np.ndarray,
    *,
    min_size: int = 0,
    fill_holes: bool = True,
    closing: int = 0,
) -> np.ndarray:
    """Return labels tidied object by object, with dense ids from 1.

    Args:
        labels: int (Y, X).
        min_size: objects of fewer pixels are removed.
        fill_holes: background enclosed by one object becomes part of it.
        closing: radius in pixels of a morphological closing of each object; it never
            takes pixels of another object.

    Returns:
        int32 (Y, X).

    Example:
        >>> ring = np.ones((5, 5), int); ring[2, 2] = 0
        >>> int(clean(ring).sum()), int(clean(ring, min_size=30).max())
        (25, 0)
    """
    if min_size < 0 or closing < 0:
        message = (
            "`min_size` and `closing` must not be negative. "
            f"Received: min_size={min_size}, closing={closing}"
        )
        raise InputError(message)
    labels = np.asarray(labels)
    out = labels.astype("int32", copy=True)
    if closing or fill_holes:
        if closing:
            span = np.arange(-closing, closing + 1)
            disc = span[:, None] ** 2 + span[None] ** 2 <= closing**2
        for number, box in enumerate(scipy.ndimage.find_objects(out), start=1):
            if box is None:
                continue
            # The margin lets a closing reach past the object's own box.
            box = tuple(
                slice(max(0, part.start - closing - 1), part.stop + closing + 1)
                for part in box
            )
            here = out[box]
            mask = here == number
            if closing:
                padded = np.pad(mask, closing)
                closed = scipy.ndimage.binary_closing(padded, disc)
                mask = closed[closing:-closing, closing:-closing]
            if fill_holes:
                mask = scipy.ndimage.binary_fill_holes(mask)
            here[mask & (here == 0)] = number
    sizes = np.bincount(out.ravel())
    kept = np.flatnonzero(sizes[1:] >= max(1, min_size)) + 1
    if len(kept) == len(sizes) - 1:
        return out
    dense = np.zeros(len(sizes), "int32")
    dense[kept] = np.arange(1, len(kept) + 1)
    return dense[out]


def softmax(logits: np.ndarray) -> np.ndarray:
    """Return the softmax over the last axis, float32, without overflow."""
    shifted = logits.astype("float32") - logits.max(axis=-1, keepdims=True)
    powers = np.exp(shifted)
    return powers / powers.sum(axis=-1, keepdims=True)


TARGETS: Mapping[str, type[Target]] = {
    kind.name: kind for kind in (Semantic, Border, Distance)
}


def get(name: str, **arguments: Any) -> Target:
    """Return the target `name`; unknown names and arguments raise InputError.

    >>> get("distance", seed=0.5).arguments["seed"]
    0.5
    >>> get("distanse")
    Traceback (most recent call last):
    unet_zoo.errors.InputError: Unknown target 'distanse'. Did you mean 'distance'?
    """
    if name not in TARGETS:
        raise unknown(kind="target", word=name, options=TARGETS)
    accepted = inspect.signature(TARGETS[name]).parameters
    for argument in arguments:
        if argument not in accepted:
            raise unknown(
                kind=f"argument of the target {name!r}", word=argument, options=accepted
            )
    return TARGETS[name](**arguments)
