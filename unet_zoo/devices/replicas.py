"""One device or several that share every batch, and processes that do so together."""

from __future__ import annotations

import contextlib
import functools
import json
import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from unet_zoo.devices import normalizing
from unet_zoo.errors import InputError

if TYPE_CHECKING:
    import keras


class Devices:
    """What a training runs on: here, one device. `distribute` chooses.

    Attributes:
        replicas: copies of the network; each takes an equal part of every batch.
        processes: how many programs train together, usually one on each host.
        chief: whether this is the process that validates and writes.
        words: the same for people.
    """

    replicas, processes, chief, words = 1, 1, True, "one device"

    def check_batch(self, batch: int) -> None:
        """Raise `InputError` unless every replica gets an equal part of a batch.

        >>> Devices().check_batch(3)
        """
        if batch % self.replicas:
            fitting = math.ceil(batch / self.replicas) * self.replicas
            message = (
                f"`batch` is {batch}, which {self.replicas} replicas cannot share "
                f"equally. Take batch={fitting}, or a number of devices that divides "
                f"{batch}."
            )
            raise InputError(message)

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        """Return the context in which variables are made and `fit` is called."""
        return contextlib.nullcontext()

    def synchronize(self, network: keras.Model) -> None:
        """Let batch normalisation see the batch of all replicas."""

    def adapt(self, learner: keras.Model) -> None:
        """Let a compiled model take its steps from the gradient of all replicas."""

    def fed(self, batches: Any) -> Any:
        """Return the batches as `fit` should get them, none of them divided yet."""
        return batches

    def any(self, flag: bool) -> bool:
        """Return whether `flag` is true in any process; all of them must ask."""
        return flag if self.processes == 1 else self._total([float(flag)])[0] > 0

    def once(self, function: Callable[[], Any]) -> Any:
        """Call a function in the chief alone; its result goes to every process.

        All processes must ask, and wait for it. The result is of plain JSON values. An
        `InputError` is raised in all of them.

        >>> Devices().once(lambda: 7)
        7
        """
        if self.processes == 1:
            return function()
        content = b""
        if self.chief:
            try:
                content = json.dumps({"result": function()}).encode()
            except InputError as error:
                content = json.dumps({"error": str(error)}).encode()
        # Bytes as a sum to which the chief alone contributes, and before it how many.
        size = int(self._total([float(len(content))])[0])
        values = list(map(float, content)) or [0.0] * size
        told = json.loads(bytes(int(value) for value in self._total(values)))
        if "error" in told:
            raise InputError(told["error"])
        return told["result"]

    def _total(self, values: list[float]) -> Any:
        """Return the float32 sum over the processes."""
        raise NotImplementedError


class Mirrored(Devices):
    """Replicas of a TensorFlow strategy, on one host or on several."""

    def __init__(
        self, strategy: Any, words: str, cluster: tuple[int, int] = (1, 0)
    ) -> None:
        self.strategy, self.words = strategy, words
        self.replicas = strategy.num_replicas_in_sync
        self.processes, number = cluster
        self.chief = number == 0

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        return self.strategy.scope()

    def synchronize(self, network: keras.Model) -> None:
        import tensorflow as tf

        def total(values: Any) -> Any:
            context = tf.distribute.get_replica_context()
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        normalizing.precisely(network, total, self.replicas)

    def adapt(self, learner: keras.Model) -> None:
        # Keras sums gradients after it has clipped them, each replica its own, and the
        # scaler of float16 asks one replica alone whether they are finite.
        optimizer = learner.optimizer
        apply, step = optimizer.apply, learner.train_step

        def apply_sum(gradients: Any, variables: Any = None) -> Any:
            return apply(_summed(list(gradients)), variables)

        optimizer.apply = apply_sum
        inner = getattr(optimizer, "inner_optimizer", optimizer)
        inner._all_reduce_sum_gradients = lambda pairs: pairs
        if self.processes > 1:
            # Between processes, Keras takes the mean of logs over their first axis.
            learner.train_step = lambda data: {
                name: value[None] for name, value in step(data).items()
            }

    def fed(self, batches: Any) -> Any:
        if self.processes == 1:
            return batches
        import tensorflow as tf

        # Of every batch, each process keeps its part; left alone, it warns.
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = (
            tf.data.experimental.AutoShardPolicy.DATA
        )
        return batches.with_options(options)

    @functools.cached_property
    def _sum(self) -> Any:
        import tensorflow as tf

        def share(values: Any) -> Any:
            context = tf.distribute.get_replica_context()
            local = self.replicas // self.processes
            first = context.replica_id_in_sync_group % local == 0
            # Of the replicas of a process, one speaks.
            values = tf.where(first, values, tf.zeros_like(values))
            return context.all_reduce(tf.distribute.ReduceOp.SUM, values)

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)])
        def total(values: Any) -> Any:
            found = self.strategy.run(share, args=(values,))
            return self.strategy.experimental_local_results(found)[0]

        return total

    def _total(self, values: list[float]) -> Any:
        import numpy as np

        return self._sum(np.asarray(values, np.float32)).numpy()


class DataParallel(Devices):
    """Devices of JAX: it computes as on one, whatever their number."""

    def __init__(self, distribution: Any, words: str) -> None:
        self.distribution, self.words = distribution, words
        self.replicas = distribution.num_model_replicas
        self.processes = distribution.num_processes
        if self.processes > 1:
            import jax

            self.chief = jax.process_index() == 0

    def scope(self) -> contextlib.AbstractContextManager[Any]:
        return self.distribution.scope()

    def _total(self, values: list[float]) -> Any:
        import numpy as np
        from jax.experimental import multihost_utils

        one = np.asarray(values, np.float32)
        return np.asarray(multihost_utils.process_allgather(one)).sum(axis=0)


def several_hosts() -> bool:
    """Return whether the environment makes this process one of several."""
    processes = os.environ.get("KERAS_DISTRIBUTION_NUM_PROCESSES", "1")
    return workers() is not None or processes != "1"


def workers() -> tuple[int, int] | None:
    """Return how many workers TF_CONFIG lists and which this is; None for one."""
    text = os.environ.get("TF_CONFIG", "")
    try:
        given = json.loads(text or "{}")
        cluster, task = given.get("cluster", {}), given.get("task", {})
        chiefs, workers = (len(cluster.get(word, ())) for word in ("chief", "worker"))
        number = int(task.get("index", 0))
    except (ValueError, AttributeError, TypeError) as error:
        message = f"The environment variable TF_CONFIG cannot be read: {text!r}"
        raise InputError(message) from error
    if chiefs + workers < 2:
        return None
    return chiefs + workers, number + (chiefs if task.get("type") == "worker" else 0)


def _summed(gradients: list[Any]) -> list[Any]:
    """Return gradients summed over all replicas, None where there is none."""
    import keras  # noqa: F401  before tensorflow
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    present = [each for each in gradients if each is not None]
    total = iter(context.all_reduce(tf.distribute.ReduceOp.SUM, present))
    return [None if each is None else next(total) for each in gradients]


def share(loss: Any) -> Any:
    """Return a replica's part of the loss, given the mean over its own examples.

    TensorFlow adds up the gradients of the replicas; JAX has the whole batch.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    replicas = tf.distribute.get_strategy().num_replicas_in_sync
    return loss / replicas if replicas > 1 else loss
