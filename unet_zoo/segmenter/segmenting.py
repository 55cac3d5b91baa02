"""Segmenters: a network with all it takes to turn an image into labels."""

from __future__ import annotations

import copy
import functools
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from unet_zoo import (
    devices,
    engines,
    graphs,
    images,
    outputs,
    registry,
    targets,
    tiling,
    turning,
    weights,
)
from unet_zoo.errors import InputError, unknown
from unet_zoo.graphs import strips

if TYPE_CHECKING:
    import keras

    from unet_zoo import catalog, metrics

TTA = turning.TTA
# What else `segment` may be told, for the target to decode by.
OPTIONS = ("threshold", "min_size", "fill_holes", "closing")
_WHOLE = 1024 * 1024  # pixels of the network's image that are predicted in one go
_TILE = 512
# Bytes of a prediction that a result keeps; larger ones are predicted anew when asked.
_KEPT = 2**30
_COARSER = 32  # times the pixel size of the training; beyond, the metadata are wrong


class Segmenter:
    """Network, normalisation and target together: from an image to labels.

    Made by `load` and by `train`.

    Args:
        network: a `keras.Model` that maps (batch, Y, X, C) to logits, or a function
            that makes it when it is asked for.
        facts: plain values that say how to use the network and where it comes from;
            they are what a weights file holds (see `describe`).
        engine: what runs the network; None: Keras.

    Attributes:
        network: the `keras.Model`, also as `model`.
        target: what turns its output into labels.
        facts: as given.

    Example:
        >>> from unet_zoo import segmenter
        >>> small = {"filters": 2, "padding": "same"}
        >>> network = registry.build("unet", classes=3, **small)
        >>> facts = segmenter.describe("unet", small, channels=1)
        >>> Segmenter(network, facts).segment(np.zeros((30, 41), "uint8")).shape
        (30, 41)
    """

    def __init__(
        self,
        network: keras.Model | Callable[[], keras.Model],
        facts: Mapping[str, Any],
        *,
        engine: engines.Engine | None = None,
    ) -> None:
        self._given = network
        self._engine = engine
        if engine is None:
            self._given = self.network
        self.facts = dict(facts)
        self.target = targets.get(facts["target"], **facts["target_arguments"])

    @functools.cached_property
    def network(self) -> keras.Model:
        """Return the `keras.Model`; with another engine it is made now."""
        import keras

        network = self._given
        if not isinstance(network, keras.Model):
            network = network()
        devices.fuse(network)
        if devices.compile_xla() is False:
            network.jit_compile = False
        return network

    @property
    def model(self) -> keras.Model:
        """Return the network."""
        return self.network

    @property
    def name(self) -> str:
        """Return the name of the zoo entry, or of the architecture."""
        return str(self.facts.get("name", self.facts["model"]))

    @property
    def engine(self) -> engines.Engine | None:
        """Return what runs the network; None: Keras."""
        return self._engine

    @property
    def lanes(self) -> int:
        """Return how many threads should call `predict` at once."""
        return 1 if self._engine is None else self._engine.lanes

    def for_many(self) -> Segmenter:
        """Return a segmenter of the same network for many images, some at once."""
        widened = getattr(self._engine, "for_many", None)
        if widened is None:
            return self
        many = copy.copy(self)
        many._engine = widened()
        return many

    def segment(
        self,
        image: np.ndarray | str | os.PathLike[str] | images.Image,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        tta: int | None = None,
        tile: int | None = None,
        progress: Callable[[int, int], None] | None = None,
        **options: Any,
    ) -> outputs.Result:
        """Return the objects of an image, or of each frame of a stack.

        Args:
            image: (Y, X), (Y, X, C) or (T, Y, X, C), any number type, any size; or the
                path of a file, or what `images.open_image` gave. Of a dask array one
                frame at a time is computed, and none is kept.
            pixel_size: of the image in micrometres, one or (y, x), for a model that
                says at which it was trained (`facts["pixel_size"]`): the image is
                scaled to that. None: that of the file; of an array, that of training.
            tta: flips and rotations averaged, 1, 4, 7 or 8 (see `TTA`); None: what
                the weights were published with.
            tile: side of the tiles in pixels of the network's image; None: the whole
                image up to a million pixels. Larger ones are fed to the network a few
                rows at a time where all its layers are local, as those of a padded
                U-Net are; else in tiles of 512. Rows and tiles differ from the
                whole by rounding only: below 1e-5 without padding, 1e-4 with it.
                Normalisation over the image ("group", "instance") sees its tile alone.
            progress: called with (tiles done, tiles in all) of each turned copy.
            options: of the decoder: `threshold` (how sure of an object's pixel, 0 to
                1; by default what the weights were tuned to), `min_size` (0 pixels),
                `fill_holes` (True), `closing` (radius, 0 pixels).

        Returns:
            A result, which arrays can be made of; its `labels` are int32 (Y, X), or
            (T, Y, X) for a stack: 0 background, 1..N the objects. Its `table()`,
            `overlay()`, `save()` and `probability` are made when asked for.

        Raises:
            InputError: for another number of channels, NaN, or impossible options.
        """
        for word in options:
            if word not in OPTIONS:
                raise unknown(kind="option of segment", word=word, options=OPTIONS)
        seeing: dict[str, Any] = {"pixel_size": pixel_size, "tta": tta, "tile": tile}
        told = {"tta": tta, "tile": tile, "progress": progress, **options}
        if isinstance(image, str | os.PathLike):
            with images.open_image(image) as opened:
                return self.segment(opened, pixel_size=pixel_size, **told)
        if isinstance(image, images.Image):
            size = image.pixel_size if pixel_size is None else pixel_size
            if pixel_size is None:
                pixel_size = self.pixel_size_of(image)
            frames = image.read_all()
            frames = frames[0] if len(frames) == 1 else frames
            result = self.segment(frames, pixel_size=pixel_size, **told)
            result.name, result.pixel_size = image.path.name, size
            result.planes = image.planes
            return result
        if not hasattr(image, "__dask_graph__"):  # whose frames are computed in turn
            image = np.asarray(image)
        if image.ndim == 4:
            large = image[..., 0].size * self.target.channels * 4 > _KEPT
            found = []
            for one in image:
                result = self.segment(one, pixel_size=pixel_size, **told)
                if large:
                    result.forget(functools.partial(self.predict, one, **seeing))
                found.append(result)
            return outputs.Result.stack(found, image)
        prediction = self.predict(image, progress=progress, **seeing)
        return self.result(image, prediction, **seeing, **options)

    def result(
        self,
        image: np.ndarray,
        prediction: np.ndarray,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        tta: int | None = None,
        tile: int | None = None,
        **options: Any,
    ) -> outputs.Result:
        """Return the objects of one image that `predict` has been given.

        Args:
            image: (Y, X) or (Y, X, C).
            prediction: what `predict` returned.
            pixel_size: what `predict` was told, as `tta` and `tile`.
            options: of the decoder, see `segment`.
        """
        seeing: dict[str, Any] = {"pixel_size": pixel_size, "tta": tta, "tile": tile}
        again = functools.partial(self.predict, image, **seeing)
        return outputs.Result(
            self.decode(prediction, pixel_size=pixel_size, **options),
            image,
            prediction=prediction if prediction.nbytes <= _KEPT else again,
            foreground=self.target.foreground,
            pixel_size=pixel_size,
            classes=of_classes(self.target),
        )

    def decode(
        self,
        prediction: np.ndarray,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        **options: Any,
    ) -> np.ndarray:
        """Return int32 (Y, X) labels of what `predict` gave; options of `segment`."""
        chosen = {**self.facts.get("decode", {}), **options}
        y, x = self.scales(pixel_size)
        scale = y if y == x else math.sqrt(y * x)
        return self.target.decode(prediction, scale=scale, **chosen)

    def predict(
        self,
        image: np.ndarray,
        *,
        pixel_size: float | tuple[float, float] | None = None,
        tta: int | None = None,
        tile: int | None = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Return the activated output of the network at the image's size.

        Args:
            image: (Y, X) or (Y, X, C).
            pixel_size: see `segment`.
            tta: see `segment`.
            tile: see `segment`.
            progress: see `segment`.

        Returns:
            float32 (Y, X, channels of the target) within [0, 1].
        """
        image = self._channels_last(np.asarray(image))
        tta = self.facts["tta"] if tta is None else tta
        turning.check(tta)
        size = image.shape[:2]
        image = images.normalize(image, self.facts["normalization"])
        scales = self.scales(pixel_size)
        if scales != (1.0, 1.0):
            shape = [max(1, round(n * f)) for n, f in zip(size, scales, strict=True)]
            image = images.rescale(image, shape=(shape[0], shape[1]))
        total: Any = 0.0
        for index in range(tta):
            turned = turning.turn(image, index, tta)
            logits = self._logits(turned, tile, progress)
            one = self.target.activate(logits)
            total = total + turning.turn_back(one, index, tta, image.shape[:2])
        prediction = total / np.float32(tta)
        if prediction.shape[:2] != size:
            prediction = images.rescale(prediction, shape=size)
        return prediction

    def _logits(
        self,
        image: np.ndarray,
        tile: int | None,
        progress: Callable[[int, int], None] | None,
    ) -> np.ndarray:
        """Return what the network makes of an image, in one go, in rows or in tiles."""
        if tile is None and image.shape[0] * image.shape[1] > _WHOLE:
            if self.graph is not None:
                return strips.predict(self.graph, image, progress=progress)
            tile = _TILE
        return tiling.predict(
            self.run,
            image,
            tile=tile,
            margin=self.margin,
            step=self.step,
            padding=self.padding,
            progress=progress,
        )

    def scales(
        self, pixel_size: float | tuple[float, float] | None
    ) -> tuple[float, float]:
        """Return the size of the network's image relative to the one given, y and x.

        Args:
            pixel_size: of the image, see `segment`.
        """
        scale, trained = float(self.facts["scale"]), self.facts.get("pixel_size")
        if pixel_size is None:
            return scale, scale
        if trained is None:
            message = (
                f"`pixel_size` cannot be used: {self.name!r} does not say at which it "
                f"was trained. Leave it out. Received: {pixel_size}"
            )
            raise InputError(message)
        y, x = (np.broadcast_to(pixel_size, 2) / np.broadcast_to(trained, 2)).tolist()
        if not all(1 / _COARSER <= factor <= _COARSER for factor in (y, x)):
            message = (
                f"`pixel_size` must be within {_COARSER} times that of the training, "
                f"{trained} micrometres. Received: {pixel_size}"
            )
            raise InputError(message)
        return scale * y, scale * x

    def pixel_size_of(
        self, source: catalog.Dataset | images.Image
    ) -> tuple[float, float] | None:
        """Return what `segment` is to be told of a dataset or image; None: nothing.

        Weights that do not say at which pixel size they were trained see all images as
        they are.
        """
        return None if self.facts.get("pixel_size") is None else source.pixel_size

    @property
    def padding(self) -> str:
        """Return "same", or "valid" of a network that loses its borders."""
        default = "valid" if self.facts["model"] == "unet" else "same"
        return str(self.facts["model_arguments"].get("padding", default))

    @property
    def margin(self) -> int:
        """Return the context in pixels that a tile needs on each side.

        Of a network whose layers are all known it is counted, unless it is so much that
        what is far away cannot be seen. Of another padded U-Net no pixel sees further
        than twice what the unpadded one loses: residual blocks and a bridge add
        convolutions at the lowest resolution. Where attention or pooling sees the
        whole image, tiles are an approximation.
        """
        margin = tiling.valid_unet(math.ceil(math.log2(self.step))).margin
        if self.padding == "valid":
            return margin
        halo = self.graph.halo if self.graph is not None else None
        if halo is None and self._engine is not None:
            halo = self._engine.halo
        return 2 * margin if halo is None else min(halo, 4 * margin)

    @functools.cached_property
    def graph(self) -> graphs.Graph | None:
        """Return what the network is made of, where all its layers are local."""
        return graphs.of(self)

    @functools.cached_property
    def step(self) -> int:
        """Return how many pixels the deepest level groups to one."""
        if self._engine is not None:
            return self._engine.step
        arguments = self.facts["model_arguments"]
        if self.padding == "valid":
            return 2 ** int(arguments.get("depth", 4))
        channels = self.facts["channels"]
        return registry.step(self.facts["model"], channels=channels, **arguments)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """Return the logits of a batch, both float32 (B, Y, X, C).

        Of images normalised, scaled, and of a size that the network takes.
        """
        if self._engine is not None:
            return self._engine(batch)
        import keras

        found = self.network.predict_on_batch(batch)
        # Of several outputs the first is the result; others supervised the training.
        found = found[0] if isinstance(found, list | tuple) else found
        return keras.ops.convert_to_numpy(found)

    def _channels_last(self, image: np.ndarray) -> np.ndarray:
        """Return the image as (Y, X, C) with the channels the network was made for."""
        wanted = self.facts["channels"]
        if image.ndim == 2:
            image = image[..., None]
        if image.ndim != 3 or image.shape[-1] != wanted:
            message = (
                f"`image` must be of shape (Y, X{', ' + str(wanted)}): {self.name!r} "
                f"takes {wanted} channel(s). Received: {image.shape}."
            )
            if image.ndim == 3 and wanted == 1:
                message += (
                    " Give one channel, such as image[..., 0]; of a stack (T, Y, X) "
                    "give image[..., None]."
                )
            raise InputError(message)
        return image

    def evaluate(
        self, dataset: catalog.Dataset, split: str = "test", **options: Any
    ) -> dict[str, metrics.Score]:
        """Return the scores on a split of a dataset; see `evaluation.evaluate`."""
        # Whoever segments does not wait for the import of what measures.
        from unet_zoo import evaluation

        examples = dataset.examples(split)
        options = {"pixel_size": self.pixel_size_of(dataset), **options}
        return evaluation.evaluate(self, examples, kind=dataset.kind, **options)

    def save(self, path: str | os.PathLike[str], *, dtype: str = "float32") -> None:
        """Write the weights file; "float16" halves its size."""
        weights.write(Path(path), self.network, self.facts, dtype=dtype)


def of_classes(target: targets.Target) -> bool:
    """Return whether labels are numbers of classes, not of objects."""
    return target.name == "semantic" and target.channels > 2
