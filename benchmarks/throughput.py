"""Images a second in training: the trainer, its bare step, and plain PyTorch.

    python benchmarks/throughput.py
    python benchmarks/throughput.py --precision bfloat16 --filters 16 --rounds 9

Each is the U-Net of the default recipe with so many filters (convolution, batch
normalisation and ReLU twice a stage), taught by Adam with cross-entropy on the same
random patches:

- `plain PyTorch`: a loop as its tutorials have it, channels_last; bfloat16 by autocast.
- `train_on_batch`: Keras' step of the same network, on the backend of KERAS_BACKEND,
  with its normalisation fused as the trainer has it.
- `bare step`: Keras' step of what the trainer teaches, augmentation and loss and
  averaged weights included, on one fixed batch.
- `trainer`: `unet_zoo.training.train` whole, with pipeline, progress and checkpoints,
  validation aside.

All wait in processes of their own and take turns, so that whatever else the machine
does hits all alike; a figure is the median of the rounds. The parameters of each are
printed first: they must be as many. Where there is a GPU all use it; a step is short
there, so give more of them:

    KERAS_BACKEND=jax python benchmarks/throughput.py --steps 50 --warm 50
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

KINDS = ("plain PyTorch", "train_on_batch", "bare step", "trainer")


def pytorch(given: argparse.Namespace) -> tuple[int, Callable[[], Any]]:
    """Return the parameters and a step of PyTorch's own loop."""
    import torch
    from torch import nn
    from torch_unet import UNet

    torch.manual_seed(0)
    place = "cuda" if torch.cuda.is_available() else "cpu"
    torch.backends.cudnn.benchmark = True
    widest = given.filters * 2**given.depth
    network = UNet(given.filters, given.depth, widest, classes=2).to(place)
    network = network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    images = torch.randn(given.batch, 1, given.patch, given.patch, device=place)
    images = images.contiguous(memory_format=torch.channels_last)
    size = (given.batch, given.patch, given.patch)
    truth = torch.randint(0, 2, size, device=place)
    half = given.precision == "bfloat16"

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(place, torch.bfloat16, enabled=half):
            loss = nn.functional.cross_entropy(network(images), truth)
        loss.backward()
        optimizer.step()
        loss.item()

    return sum(each.numel() for each in network.parameters()), step


def plan_of(given: argparse.Namespace) -> Any:
    from unet_zoo import recipe

    return recipe.named("default", "unet").replace(
        target="semantic",
        target_arguments={},
        class_balance=0.0,
        model_arguments={
            "filters": given.filters,
            "depth": given.depth,
            "padding": "same",
            "normalization": "batch",
            "dropout": 0.0,
        },
        patch=given.patch,
        batch=given.batch,
        precision={"bfloat16": "mixed_bfloat16"}.get(given.precision, given.precision),
        scale=1.0,
        steps=10**6,
        validate_every=10**6,
        optimizer={"name": "adamw"},  # whose work is that of PyTorch's Adam
    )


def network_of(plan: Any, classes: int) -> Any:
    import keras

    from unet_zoo import devices, registry

    keras.utils.set_random_seed(0)
    with devices.precision(plan.precision):
        return registry.build(
            "unet",
            input_shape=(plan.patch, plan.patch, 1),
            classes=classes,
            **plan.model_arguments,
        )


def train_on_batch(given: argparse.Namespace) -> tuple[int, Callable[[], Any]]:
    """Return the trainable parameters and Keras' own step of the network."""
    import keras

    from unet_zoo import devices

    network = network_of(plan_of(given), 2)
    devices.fuse(network)
    network.compile(
        keras.optimizers.Adam(1e-3),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    generator = np.random.default_rng(0)
    shape = (given.batch, given.patch, given.patch)
    images = generator.normal(size=(*shape, 1)).astype("float32")
    truth = generator.integers(0, 2, shape).astype("int32")
    trainable = sum(int(np.prod(each.shape)) for each in network.trainable_variables)
    return trainable, lambda: network.train_on_batch(images, truth)


def dataset_of(given: argparse.Namespace) -> Any:
    from unet_zoo.catalog import Dataset
    from unet_zoo.catalog.dataset import Example

    generator = np.random.default_rng(0)
    side = 2 * given.patch
    examples = []
    for number in range(8):
        labels = generator.integers(0, 3, (side // 32, side // 32)).astype("int32")
        labels = labels.repeat(32, axis=0).repeat(32, axis=1)
        image = (60 * labels + generator.integers(0, 60, labels.shape)).astype("uint8")
        examples.append(Example(f"b{number}", image[..., None], labels))
    readers = {"train": lambda: examples, "validation": lambda: examples[:1]}
    return Dataset("noise", "1", None, "instances", "", {}, readers)


def bare_step(given: argparse.Namespace) -> tuple[int, Callable[[], Any]]:
    """Return Keras' step of the trainer's model on a fixed batch of its pipeline."""
    from unet_zoo import learner, pipeline, schedules, targets

    plan = plan_of(given)
    target = targets.get(plan.target, **plan.target_arguments)
    teaching = learner.of_recipe(plan, network_of(plan, target.channels), target, 1)
    teaching.compile(schedules.make_optimizer(plan.optimizer, plan.steps, {}))
    examples = dataset_of(given).sequence("train")
    with pipeline.prepare(examples, plan, target, memory=2**30) as stacks:
        batch = next(iter(pipeline.batches(stacks, plan)))
    batch = {name: np.asarray(part) for name, part in batch.items()}
    network = teaching.network
    trainable = sum(int(np.prod(each.shape)) for each in network.trainable_variables)
    return trainable, lambda: teaching.train_on_batch(batch)


def trainer(given: argparse.Namespace, turns: Iterator[None]) -> None:
    """Run `train` whole; between two turns it waits in its report of progress."""
    import keras

    from unet_zoo import training

    counted = {"steps": 0, "start": 0.0}

    def told(_: Any) -> None:
        counted["steps"] += 1
        past = counted["steps"] - given.warm
        if past < 0 or past % given.steps:
            return
        if keras.backend.backend() == "jax":
            # The newest step is under way: it would use the turns of the others.
            import jax

            jax.block_until_ready(jax.live_arrays())
        taken = time.perf_counter() - counted["start"]
        print(taken if past else "ready 0", flush=True)
        next(turns)
        counted["start"] = time.perf_counter()

    with tempfile.TemporaryDirectory() as scratch:
        training.train(
            plan_of(given), dataset_of(given), f"{scratch}/run", progress=told
        )


def work(given: argparse.Namespace) -> None:
    """Be one of the processes that take turns."""

    def turns() -> Iterator[None]:
        for _ in sys.stdin:
            yield
        os._exit(0)  # nobody waits any more; training goes on for ever

    if given.work == "trainer":
        trainer(given, turns())
    make = {"plain PyTorch": pytorch, "train_on_batch": train_on_batch}
    count, step = make.get(given.work, bare_step)(given)
    for _ in range(given.warm):
        step()
    print("ready", count, flush=True)
    for _ in turns():
        started = time.perf_counter()
        for _ in range(given.steps):
            step()
        print(time.perf_counter() - started, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--precision", choices=("float32", "bfloat16"))
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=4, help="of a turn")
    parser.add_argument("--warm", type=int, default=4, help="steps before the first")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--work", choices=KINDS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        return work(given)
    for precision in [given.precision] if given.precision else ["float32", "bfloat16"]:
        measure(precision, given)
    return None


def measure(precision: str, given: argparse.Namespace) -> None:
    workers = {}
    for kind in given.kinds:
        words = [sys.executable, __file__, "--work", kind, "--precision", precision]
        for name in ("filters", "depth", "patch", "batch", "steps", "warm"):
            words += [f"--{name}", str(getattr(given, name))]
        workers[kind] = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    for kind, worker in workers.items():
        count = answer(worker).split()[1]
        print(f"{kind:15} {int(count):>10,} parameters" if count != "0" else kind)
    seconds: dict[str, list[float]] = {kind: [] for kind in workers}
    for _ in range(given.rounds):
        for kind, worker in workers.items():
            assert worker.stdin is not None
            worker.stdin.write("\n")
            worker.stdin.flush()
            seconds[kind].append(float(answer(worker)))
    for worker in workers.values():
        worker.kill()
    images = given.steps * given.batch
    print(f"\n{precision}, {given.filters} filters, {given.batch} x {given.patch} px")
    first, *_ = seconds.values()
    for kind, times in seconds.items():
        # Of each round, so that what slows a round down hits both sides.
        ratio = statistics.median(a / b for a, b in zip(first, times, strict=True))
        speed = images / statistics.median(times)
        print(f"{kind:15} {speed:7.2f} images/s {ratio:6.2f} of {next(iter(seconds))}")
    if {"trainer", "bare step"} <= set(seconds):
        pairs = zip(seconds["trainer"], seconds["bare step"], strict=True)
        over = statistics.median(a / b - 1 for a, b in pairs)
        print(f"overhead of the trainer over its bare step: {100 * over:.1f} %")


def answer(worker: subprocess.Popen[str]) -> str:
    assert worker.stdout is not None
    while line := worker.stdout.readline():
        if line.startswith("ready") or line[:1].isdigit():
            return line
    sys.exit("A process ended before its time.")


if __name__ == "__main__":
    main()
