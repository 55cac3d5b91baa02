"""What `fit` trains: network, augmentation and loss as one model."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from unet_zoo import augment, devices, losses, schedules, supervision, targets
from unet_zoo.recipe import Recipe


class Learner(keras.Model):
    """Network, augmentation and loss as one model, so that every backend trains it.

    Its call receives the dictionary of the pipeline and gives back logits and truth;
    no backend needs a training step of its own.

    Args:
        network: what is trained. Of several outputs, each is taught.
        target: what it is taught.
        layer: the augmentation.
        momentum: of the moving average of the weights; 0: none.
        loss: by its name (see `unet_zoo.losses`).
        loss_arguments: of that loss.
        equal_from: average equally instead (SWA: Izmailov et al. 2018,
            https://arxiv.org/abs/1803.05407). For each part of the training, the step
            where it starts, and that from whose weights on they are averaged; before,
            the averages are the weights. The statistics of batch normalisation are
            those of the last step in either case.
    """

    def __init__(
        self,
        network: keras.Model,
        target: targets.Target,
        layer: augment.Augment,
        momentum: float,
        *,
        loss: str = "cross_entropy",
        loss_arguments: Mapping[str, Any] | None = None,
        equal_from: Sequence[tuple[int, int]] = (),
    ) -> None:
        super().__init__(name="learner", dtype="float32")
        devices.fuse(network)
        self.network = network
        self.target = target
        self.augment = layer
        self.momentum = momentum
        self.criterion = losses.Loss(loss, loss_arguments or {})
        self.equal_from = tuple(equal_from)
        self.averages = []
        if self.averaging:
            self.calls = self.add_weight(
                shape=(), initializer="zeros", trainable=False, name="calls"
            )
            for variable in network.trainable_variables:
                average = self.add_weight(
                    shape=variable.shape,
                    dtype=variable.dtype,
                    trainable=False,
                    name=variable.path.replace("/", "_") + "_average",
                )
                # A copy: JAX refuses a step in which two variables share memory.
                average.assign(variable.numpy())
                self.averages.append(average)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_jax_state":
            # Where Keras' trainer on JAX leaves its arrays after every step. To look
            # into each of them for layers takes it a third of the host's time.
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    @property
    def averaging(self) -> bool:
        return bool(self.momentum or self.equal_from)

    def build(self, input_shape: Any) -> None:
        """Nothing to build: the network came with its variables."""

    def _maybe_symbolic_build(
        self, iterator: Any = None, data_batch: Any = None
    ) -> None:
        """Nothing to build; Keras' own fails on dictionaries in several processes."""

    def call(self, batch: dict[str, Any], training: bool = False) -> dict[str, Any]:
        if training:
            self._average()
        stack = self.augment(batch["stack"], batch["uniform"], batch["normal"])
        channels = self.augment.image_channels
        logits = self.network(stack[..., :channels], training=training)
        truth = stack[..., channels:]
        # A network of valid convolutions predicts the middle of its patch.
        whole = supervision.first(logits).shape
        lost = [a - b for a, b in zip(truth.shape[1:3], whole[1:3], strict=True)]
        y, x = (amount // 2 for amount in lost)
        truth = truth[:, y : y + whole[1], x : x + whole[2]]
        return {"logits": logits, "truth": truth}

    def _average(self) -> None:
        """Move the averages towards the weights.

        Keras' own averaging writes the averages over the weights whenever `fit` ends,
        which here is at each validation.
        """
        if not self.averaging:
            return
        self.calls.assign_add(1.0)
        if self.equal_from:
            # This is the call before a step: of weights that `calls - 1` steps made.
            count = ops.convert_to_tensor(self.calls)
            for start, begin in self.equal_from:
                count = ops.where(self.calls > start, self.calls - begin, count)
            momentum = 1.0 - 1.0 / ops.maximum(count, 1.0)
        else:
            # Young averages follow faster, so that the random start is soon forgotten.
            momentum = ops.minimum(self.momentum, self.calls / (self.calls + 9.0))
        for average, variable in zip(
            self.averages, self.network.trainable_variables, strict=True
        ):
            value = ops.stop_gradient(ops.convert_to_tensor(variable))
            average.assign(value + momentum * (average - value))

    @contextlib.contextmanager
    def averaged(self, network: keras.Model | None = None) -> Iterator[None]:
        """Give the network its averaged weights within the block.

        Another `network` of the same layers keeps them.
        """
        pairs = list(zip(self.network.trainable_variables, self.averages, strict=False))
        if network is not None and network is not self.network:
            means = {id(variable): average for variable, average in pairs}
            present = (means.get(id(each), each) for each in self.network.weights)
            network.set_weights([variable.numpy() for variable in present])
            yield
            return
        # A copy: what numpy() returns may share the memory.
        own = [np.array(variable.numpy()) for variable, _ in pairs]
        for variable, average in pairs:
            variable.assign(average.numpy())
        try:
            yield
        finally:
            for (variable, _), value in zip(pairs, own, strict=True):
                variable.assign(value)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        compare = functools.partial(self.target.loss, loss=self.criterion)
        each = supervision.loss(compare, y_pred["truth"], y_pred["logits"])
        return devices.share(ops.mean(each))


def of_recipe(
    recipe: Recipe, network: keras.Model, target: targets.Target, channels: int
) -> Learner:
    """Return what teaches `network` as the recipe has it, not yet compiled."""
    patch = (recipe.patch, recipe.patch)
    layer = augment.Augment(recipe.augmentation, patch, channels, target.interpolation)
    return Learner(
        network,
        target,
        layer,
        recipe.optimizer.average,
        loss=recipe.loss,
        loss_arguments=recipe.loss_arguments,
        equal_from=schedules.equal_from(recipe),
    )
