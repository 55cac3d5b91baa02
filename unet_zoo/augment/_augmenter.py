"""The layer for anyone's model or `tf.data` pipeline: it draws by itself."""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from unet_zoo import recipe
from unet_zoo.augment import _compile, _field, _grey
from unet_zoo.augment._draws import draws
from unet_zoo.augment._warp import joined, planes
from unet_zoo.errors import InputError, unknown

Tensor = Any

# How maps are read between pixels, and what they are beyond a constant border.
_MAPS = {
    "labels": ("nearest", -1),
    "masks": ("nearest", 0),
    "weights": ("nearest", 0),
    "targets": ("linear", 0),
}
_ORDER = ("images", "labels", "weights")


@keras.saving.register_keras_serializable(package="unet_zoo")
class Augmenter(keras.layers.Layer):
    """Change images and everything that belongs to them by one random field each.

    Works alone in any Keras model, called on arrays, and in `tf.data.Dataset.map`,
    whatever the backend of Keras. Example n of a seed looks the same on every backend,
    in any batch.

    Args:
        augmentation: `Augmentation`, its name ("none", "light", "default", "paper",
            "strong") or a dictionary of its fields.
        size: (rows, columns) of what comes out, read around the middle of what comes
            in; None for the same size. Taking less than comes in leaves a margin, so
            that rotations need not mirror what lies beyond the edge.
        seed: 0 to 2**32 - 1; examples are functions of it and of their index.
        maps: further names of maps and how each is read, "nearest" or "linear".
        rank: 2 for images, 3 for volumes.

    Call arguments:
        inputs: images (batch, Y, X, channels), or without batch (Y, X, channels); or a
            dictionary that holds them as "images", and any of "labels" (integers, -1
            where not annotated), "masks", "weights" (all three read as "nearest"),
            "targets" ("linear") and `maps`; or a tuple (images, labels) or (images,
            labels, weights). Maps may lack the axis of channels.
        index: integers (batch,), the examples' places in the stream; None to count
            the examples that the layer has seen. In a parallel `tf.data` map the count
            follows the order of the threads: there, give the index.
        training: False returns the middle of everything, of `size`, unchanged.

    Returns:
        As `inputs`: images as float32, maps of their own type. Beyond a "constant"
        border images are 0, labels -1 (0 where unsigned), everything else 0.

    Grey values change in standard deviations of each image, about its mean, so their
    unit does not matter.

    Raises:
        InputError: for a name or a shape that is not one of these.

    Example:
        >>> layer = Augmenter("paper", seed=1)
        >>> image = np.random.default_rng(0).random((2, 32, 32, 1), dtype="float32")
        >>> labels = (image[..., 0] > 0.5).astype("int32")
        >>> images, moved = layer((image, labels), index=np.array([6, 7]))
        >>> images.shape, moved.shape == labels.shape
        (TensorShape([2, 32, 32, 1]), True)

    Paper: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597, section 3.1.
    """

    def __init__(
        self,
        augmentation: recipe.Augmentation | str | Mapping[str, Any] = "default",
        size: Sequence[int] | None = None,
        *,
        seed: int = 0,
        maps: Mapping[str, str] | None = None,
        rank: int = 2,
        **kwargs: Any,
    ) -> None:
        # Labels must not become floats, nor images bfloat16.
        super().__init__(**{**kwargs, "dtype": "float32", "autocast": False})
        if isinstance(augmentation, str):
            augmentation = recipe.Augmentation.named(augmentation)
        elif isinstance(augmentation, Mapping):
            given = {"augmentation": dict(augmentation)}
            augmentation = recipe.from_dict(given).augmentation
        if rank not in (2, 3):
            message = f"`rank` must be 2 or 3. Received: {rank}"
            raise InputError(message)
        if size is not None and len(size) != rank:
            message = f"`size` must have {rank} numbers. Received: {tuple(size)}"
            raise InputError(message)
        if not 0 <= seed < 2**32:
            message = f"`seed` must lie in 0..4294967295. Received: {seed}"
            raise InputError(message)
        for name, kind in (maps or {}).items():
            if kind not in ("nearest", "linear"):
                what = f"interpolation of {name!r}"
                raise unknown(what, kind, ("nearest", "linear"))
        self.augmentation = augmentation
        self.size = None if size is None else tuple(int(side) for side in size)
        self.seed = seed
        self.rank = rank
        self.maps = dict(maps or {})
        self._ways = _MAPS | {name: (kind, 0) for name, kind in self.maps.items()}
        self._counting = threading.Lock()
        self.seen = self.add_weight(
            shape=(), dtype="int32", initializer="zeros", trainable=False, name="seen"
        )

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "augmentation": dataclasses.asdict(self.augmentation),
            "size": self.size,
            "seed": self.seed,
            "maps": dict(self.maps),
            "rank": self.rank,
        }

    def build(self, input_shape: Any = None) -> None:
        """Nothing to build: the count of examples is there from the start."""
        self.built = True

    def __call__(
        self, inputs: Any, index: Any = None, training: bool | None = None
    ) -> Any:
        leaves = keras.tree.flatten(inputs)
        if any(_in_tensorflow_graph(leaf) for leaf in leaves):
            static = all(None not in leaf.shape for leaf in leaves)
            if keras.backend.backend() != "tensorflow" or not (
                static or _building(leaves)
            ):
                return self._through_numpy(inputs, index, training)
        if index is not None and not hasattr(index, "shape"):
            index = np.asarray(index)
        if isinstance(index, np.ndarray):
            # The backends without 64 bits wrap, or warn.
            index = index.astype("int32")
        if training is None:
            return super().__call__(inputs, index=index)
        return super().__call__(inputs, index=index, training=training)

    def call(self, inputs: Any, index: Any = None, training: bool = True) -> Any:
        given = self._named(inputs)
        single = len(given["images"].shape) == self.rank + 1
        parts = {name: self._whole(name, part, single) for name, part in given.items()}
        whole = tuple(parts["images"].shape[:-1])
        for name, part in parts.items():
            if tuple(part.shape[:-1]) != whole:
                message = (
                    f"{name!r} must be as large as the images. Received: shape "
                    f"{tuple(given[name].shape)} with images of shape "
                    f"{tuple(given['images'].shape)}"
                )
                raise InputError(message)
        source = whole[1:]
        size = self.size or source
        if None in size + source:
            message = (
                "`inputs` must have a known height and width when a model is built. "
                f"Received: images of shape {tuple(given['images'].shape)}. Give the "
                "input its shape."
            )
            raise InputError(message)
        kinds = tuple((name, *self._ways[name]) for name in parts if name != "images")
        ranges = self.augmentation if training else recipe.Augmentation.named("none")
        batch = ops.shape(parts["images"])[0]
        if index is None:
            # Only what was changed counts.
            index = self.seen + ops.arange(batch, dtype="int32")
            if training:
                self.seen.assign_add(ops.cast(batch, "int32"))
        index = ops.reshape(ops.cast(index, "int32"), (-1,))
        if None not in (index.shape[0], whole[0]) and index.shape[0] != whole[0]:
            message = (
                f"`index` must have one number for each of the {whole[0]} images. "
                f"Received: {index.shape[0]}"
            )
            raise InputError(message)
        changed = _changing(ranges, size, kinds, self.seed)(parts, index)
        out = {}
        for name, part in changed.items():
            if len(given[name].shape) == self.rank + (not single):
                part = ops.squeeze(part, axis=-1)
            out[name] = part[0] if single else part
        return _like(inputs, out)

    def _named(self, inputs: Any) -> dict[str, Tensor]:
        """Return the parts of `inputs` by name, images first."""
        if isinstance(inputs, Mapping):
            for name in inputs:
                if name != "images" and name not in self._ways:
                    raise unknown(
                        kind="part of the inputs",
                        word=name,
                        options=("images", *self._ways),
                    )
            if "images" not in inputs:
                message = (
                    "`inputs` must hold the images as 'images'. "
                    f"Received: {', '.join(map(repr, inputs)) or 'nothing'}"
                )
                raise InputError(message)
            return {"images": inputs["images"], **inputs}
        if isinstance(inputs, tuple | list):
            if not 1 <= len(inputs) <= len(_ORDER):
                message = (
                    "`inputs` must be (images, labels) or (images, labels, weights). "
                    f"Received: {len(inputs)} parts. Name them in a dictionary."
                )
                raise InputError(message)
            return dict(zip(_ORDER, inputs, strict=False))
        return {"images": inputs}

    def _whole(self, name: str, part: Tensor, single: bool) -> Tensor:
        """Return (batch, *size, channels) of what may lack its first or last axis."""
        part = ops.convert_to_tensor(part)
        axes = len(part.shape) + single
        if axes == self.rank + 1 and name != "images":
            part = ops.expand_dims(part, -1)
        elif axes != self.rank + 2:
            axes_of = ("batch", *"ZYX"[-self.rank :], "channels")
            message = (
                f"{name!r} must have the axes ({', '.join(axes_of)}); the batch, and "
                "the channels of a map, may be missing. "
                f"Received: shape {tuple(part.shape)}"
            )
            raise InputError(message)
        if name == "images":
            part = ops.cast(part, "float32")
        return ops.expand_dims(part, 0) if single else part

    def _through_numpy(self, inputs: Any, index: Any, training: bool | None) -> Any:
        """Call the layer on arrays from a TensorFlow graph of someone else's.

        In a `tf.data` pipeline the other backends see no tensors, and TensorFlow may
        see no sizes. Both do as the elements pass.
        """
        import tensorflow as tf

        given = self._named(inputs)
        parts = list(given.values())
        counted = index is None

        def change(*arrays: np.ndarray) -> list[np.ndarray]:
            *images, place = arrays
            named = dict(zip(given, images, strict=True))
            # One at a time: the count is read and written.
            with self._counting:
                out = self(named, None if counted else place, training)
            return [
                keras.ops.convert_to_numpy(out[name]).astype(kind.as_numpy_dtype)
                for name, kind in zip(given, types, strict=True)
            ]

        linear = [
            name for name in given if self._ways.get(name, ("", 0))[0] == "linear"
        ]
        types = [
            tf.float32 if name in ("images", *linear) else part.dtype
            for name, part in given.items()
        ]
        place = tf.zeros([], tf.int32) if counted else tf.cast(index, tf.int32)
        changed = tf.numpy_function(change, [*parts, place], types)
        out = {}
        for (name, part), array in zip(given.items(), changed, strict=True):
            shape = part.shape.as_list()
            if self.size is not None:
                first = len(shape) - self.rank - 1
                if len(shape) == len(given["images"].shape) - 1:
                    first += 1
                shape[first : first + self.rank] = self.size
            array.set_shape(shape)
            out[name] = array
        return _like(inputs, out)


def _like(inputs: Any, parts: dict[str, Tensor]) -> Any:
    """Return `parts` in the structure of `inputs`."""
    if isinstance(inputs, Mapping):
        return {name: parts[name] for name in inputs}
    if isinstance(inputs, tuple | list):
        return type(inputs)(parts.values())
    return parts["images"]


def _in_tensorflow_graph(leaf: Any) -> bool:
    """Return whether `leaf` is a tensor of a TensorFlow graph, without importing it."""
    return type(leaf).__module__.startswith("tensorflow.") and not hasattr(
        leaf, "numpy"
    )


def _building(leaves: Sequence[Any]) -> bool:
    """Return whether only the number of examples is unknown."""
    return all(None not in leaf.shape[1:] for leaf in leaves)


def _change(
    augmentation: recipe.Augmentation,
    size: tuple[int, ...],
    kinds: tuple[tuple[str, str, int], ...],
    seed: int,
) -> Callable[..., dict[str, Tensor]]:
    """Return the function of (parts, index) that the layer computes."""

    def move(
        parts: dict[str, Tensor], index: Tensor
    ) -> tuple[list[Tensor], dict[str, list[Tensor]], Tensor, Tensor]:
        uniform, normal = draws(augmentation, seed, index, len(size))
        image = parts["images"]
        source = tuple(image.shape[1:-1])
        places = _field.places(augmentation, uniform, normal, size, source)
        border = augmentation.border
        image = planes(
            image, places, (augmentation.interpolation,) * image.shape[-1], border
        )
        out = {}
        for name, kind, outside in kinds:
            part = parts[name]
            own = keras.backend.standardize_dtype(part.dtype)
            if kind == "linear":
                part, own = ops.cast(part, "float32"), "float32"
            elif own == "uint16":
                # Not every backend reads single numbers of this type.
                part = ops.cast(part, "int32")
            if own.startswith("u") or own == "bool":
                outside = 0
            channels = part.shape[-1]
            moved = planes(
                part, places, (kind,) * channels, border, (outside,) * channels
            )
            out[name] = [ops.cast(plane, own) for plane in moved]
        return image, out, uniform, normal

    def standard(image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        axes = tuple(range(1, len(size) + 2))
        mean = ops.mean(image, axis=axes, keepdims=True)
        deviation = ops.std(image, axis=axes, keepdims=True) + 1e-6
        return (image - mean) / deviation, mean, deviation

    def back(image: Tensor, mean: Tensor, deviation: Tensor) -> Tensor:
        return image * deviation + mean

    moved, standardized, restored, together = (
        _compile.kernel(function, size) for function in (move, standard, back, joined)
    )
    grey = _grey.changing(augmentation, size)

    def stored(channels: list[Tensor]) -> Tensor:
        # A single one is there already.
        return together(channels) if len(channels) > 1 else joined(channels)

    def change(parts: dict[str, Tensor], index: Tensor) -> dict[str, Tensor]:
        image, others, uniform, normal = moved(parts, index)
        image = stored(image)
        if grey is not None:
            image, mean, deviation = standardized(image)
            image = restored(grey(image, uniform, normal), mean, deviation)
        return {"images": image} | {
            name: stored(channels) for name, channels in others.items()
        }

    return _compile.whole(change)


_changing = _compile.once(_change)
