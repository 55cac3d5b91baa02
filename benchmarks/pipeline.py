"""Measure what feeding a training costs, in time and in memory.

    python benchmarks/pipeline.py speed          # on the backend of KERAS_BACKEND
    python benchmarks/pipeline.py speed --precision mixed_bfloat16 --filters 32
    python benchmarks/pipeline.py memory

`speed` times the same compiled training step fed by the pipeline, from memory and from
disk, and fed with one fixed batch, in turns, so that whatever else the machine does
hits all alike. A share of 100 % means that the pipeline costs nothing. Then the step
without augmentation, for the share that augmentation takes; the pipeline on its own,
for how many batches it could feed; and, on TensorFlow, what the profiler says of the
time that steps wait for their batch.

`memory` trains on images that take ten times the memory given to the pipeline, written
once and read lazily, and prints the resident size along the way; then the same with all
of the images in memory, to show what would have been seen.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import tensorflow as tf

from unet_zoo import augment, devices, learner, pipeline, recipe, registry, targets
from unet_zoo import training as trainings
from unet_zoo.catalog import Dataset
from unet_zoo.catalog.dataset import Example, Lazy


def blobs(number: int, side: int, count: int) -> Example:
    """Return discs of random size and brightness on noise, some touching."""
    generator = np.random.default_rng(number)
    labels = np.zeros((side, side), "int32")
    image = generator.normal(90, 12, (side, side))
    for each in range(1, count + 1):
        radius = int(generator.integers(8, 22))
        cy, cx = generator.integers(0, side, 2)
        top, left = max(0, cy - radius), max(0, cx - radius)
        box = (slice(top, cy + radius), slice(left, cx + radius))
        y, x = np.ogrid[top : min(side, cy + radius), left : min(side, cx + radius)]
        inside = (y - cy) ** 2 + (x - cx) ** 2 < radius**2
        inside &= labels[box] == 0
        labels[box][inside] = each
        image[box] += generator.uniform(20, 90) * inside
    return Example(f"b{number}", image.clip(0, 255).astype("uint8")[..., None], labels)


# === Speed ===


class Centre(keras.layers.Layer):
    """Stands where `Augment` does, and only takes the middle of the window."""

    def __init__(self, size: int) -> None:
        super().__init__(dtype="float32")
        self.side, self.image_channels = size, 1

    def call(self, stack: Any, uniform: Any, normal: Any) -> Any:
        edge = (stack.shape[1] - self.side) // 2
        return stack[:, edge : edge + self.side, edge : edge + self.side]


def taught(plan: recipe.Recipe, target: targets.Target, layer: Any) -> learner.Learner:
    """Return a compiled learner, made as `training.train` makes it."""
    keras.utils.set_random_seed(0)
    with devices.precision(plan.precision):
        network = registry.build(
            plan.model,
            input_shape=(None, None, 1),
            classes=target.channels,
            **plan.model_arguments,
        )
    made = learner.Learner(network, target, layer, plan.optimizer.average)
    made.compile(
        trainings.make_optimizer(plan.optimizer, plan.steps),
        jit_compile=devices.compile_xla(),
    )
    return made


class Clock(keras.callbacks.Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        super().__init__()
        self.ends: list[float] = []

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        float(logs["loss"])  # waits for the device
        self.ends.append(time.perf_counter())


def seconds(model: learner.Learner, data: tf.data.Dataset) -> list[float]:
    """Return the time of each step, without the first two, which fill the queues."""
    clock = Clock()
    model.fit(data, callbacks=[clock], shuffle=False, verbose=0)
    return np.diff(clock.ends)[1:].tolist()


def speed(given: argparse.Namespace) -> None:
    """Print the table of steps and the shares."""
    plan = recipe.named("default").replace(
        scale=1.0,
        patch=given.patch,
        batch=given.batch,
        steps=10**6,
        precision=given.precision,
    )
    arguments = {**plan.model_arguments, "filters": given.filters}
    plan = plan.replace(model_arguments=arguments)
    target = targets.get(plan.target)
    images = [blobs(number, given.side, given.side // 6) for number in range(24)]
    size = (plan.patch, plan.patch)
    layer = augment.Augment(plan.augmentation, size, 1, target.interpolation)
    full = taught(plan, target, layer)
    bare = taught(plan, target, Centre(plan.patch))
    with (
        tempfile.TemporaryDirectory() as folder,
        pipeline.prepare(images, plan, target) as kept,
        pipeline.prepare(images, plan, target, folder=folder) as stored,
    ):
        batch = next(iter(pipeline.batches(kept, plan)))
        # Copied: the pipeline's own memory is reused by whoever comes next.
        batch = {name: tf.constant(value.numpy()) for name, value in batch.items()}
        fixed = tf.data.Dataset.from_tensors(batch).repeat()
        count = given.steps + 2
        window = batch["stack"].shape[1]
        ways: dict[str, Callable[[int], list[float]]] = {
            "one fixed batch": lambda at: seconds(full, fixed.take(count)),
            "pipeline, memory": lambda at: seconds(full, part(kept, plan, at, count)),
            "pipeline, disk": lambda at: seconds(full, part(stored, plan, at, count)),
            "fixed, not augmented": lambda at: seconds(bare, fixed.take(count)),
        }
        found: dict[str, list[float]] = {name: [] for name in ways}
        for way in ways.values():
            way(0)  # compiles
        for turn in range(given.turns):
            # Forwards, then backwards: a machine that slows down is fair to all.
            for name in list(ways)[:: 1 if turn % 2 else -1]:
                found[name] += ways[name](turn * count)
        reference = statistics.median(found["one fixed batch"])
        print(
            f"{keras.backend.backend()}, {plan.precision}, {given.filters} filters, "
            f"{plan.batch} patches of {plan.patch} from windows of {window}, images "
            f"of {given.side}, {given.turns} x {given.steps} steps\n"
        )
        print("| fed by | median step | steps/s | speed |\n|---|---|---|---|")
        for name, each in found.items():
            middle = statistics.median(each)
            print(
                f"| {name} | {middle * 1e3:.1f} ms | {1 / middle:.2f} | "
                f"{reference / middle:.1%} |"
            )
        plain = statistics.median(found["fixed, not augmented"])
        print(f"\nAugmentation takes {1 - plain / reference:.1%} of a step.")
        for name, stacks in (("memory", kept), ("disk", stored)):
            alone = drained(part(stacks, plan, 0, 60))
            print(
                f"The pipeline alone, from {name}: {alone * 1e3:.1f} ms a batch, "
                f"{alone / reference:.1%} of a step; it could feed "
                f"{1 / alone:.1f} steps/s."
            )
        if keras.backend.backend() == "tensorflow":
            profile(full, part(kept, plan, 0, 12))


def part(
    stacks: pipeline.Stacks, plan: recipe.Recipe, start: int, count: int
) -> tf.data.Dataset:
    """Return `count` batches from step `start` on."""
    return pipeline.batches(stacks, plan.replace(steps=start + count), start)


def drained(data: tf.data.Dataset) -> float:
    """Return the seconds a batch takes where nothing is done with it."""
    ends = []
    for _ in data:
        ends.append(time.perf_counter())
    return (ends[-1] - ends[9]) / (len(ends) - 10)


def profile(model: learner.Learner, data: tf.data.Dataset) -> None:
    """Print what TensorFlow's profiler saw during some steps."""
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(
            host_tracer_level=2, python_tracer_level=0
        )
        begin = time.perf_counter()
        with tf.profiler.experimental.Profile(folder, options):
            model.fit(data, shuffle=False, verbose=0)
        whole = time.perf_counter() - begin
        totals = dict.fromkeys(("waiting for a batch", "reading windows"), 0.0)
        kinds: dict[str, float] = {}
        for name, duration in events(Path(folder)):
            if name.startswith("IteratorGetNext"):
                totals["waiting for a batch"] += duration
            elif name.startswith("PyFunc") or name.startswith("NumpyFunction"):
                totals["reading windows"] += duration
            kind = name.split(":")[-1].split("#")[0]
            kinds[kind] = kinds.get(kind, 0.0) + duration
    print(f"\nProfile of a training of {whole:.2f} s:\n")
    print("| what | seconds | of the time |\n|---|---|---|")
    for name, total in totals.items():
        print(f"| {name} | {total:.3f} | {total / whole:.2%} |")
    print("\nThe longest operations, of all threads together:\n")
    print("| operation | seconds |\n|---|---|")
    for name in sorted(kinds, key=lambda each: -kinds[each])[:12]:
        print(f"| {name} | {kinds[name]:.2f} |")


def events(folder: Path) -> Iterator[tuple[str, float]]:
    """Yield name and seconds of every event on the host that a profile holds."""
    from tensorflow.tsl.profiler.protobuf import xplane_pb2

    for path in folder.rglob("*.xplane.pb"):
        space = xplane_pb2.XSpace()
        space.ParseFromString(path.read_bytes())
        for plane in space.planes:
            if not plane.name.startswith("/host:CPU"):
                continue
            for line in plane.lines:
                for event in line.events:
                    name = plane.event_metadata[event.metadata_id].name
                    yield name, event.duration_ps * 1e-12


# === Memory ===


class Watch:
    """Notes the resident size of this process along a training."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.before = self.resident()
        self.sizes: list[float] = []

    def resident(self) -> float:
        """Return what this process has in memory, in MB."""
        return float(self.process.memory_info().rss / 1e6)

    def __call__(self, now: trainings.Progress) -> None:
        self.sizes.append(self.resident())


def written(folder: Path, count: int, side: int) -> Dataset:
    """Return a dataset that reads its examples from files, one after the other."""
    for number in range(count):
        one = blobs(number, side, side // 6)
        np.savez(folder / f"{number}.npz", image=one.image, labels=one.labels)

    def read(first: int, last: int) -> Iterator[Example]:
        for number in range(first, last):
            with np.load(folder / f"{number}.npz") as file:
                yield Example(f"b{number}", file["image"], file["labels"])

    sizes = {"train": count - 2, "validation": 2}
    readers = {
        "train": lambda: Lazy(count - 2, lambda: read(0, count - 2)),
        "validation": lambda: Lazy(2, lambda: read(count - 2, count)),
    }
    return Dataset("blobs", "1", None, "instances", "Blobs.", sizes, readers)


def memory(given: argparse.Namespace) -> None:
    """Print the resident size along two trainings."""
    plan = recipe.named("default").replace(
        model_arguments={"padding": "same", "filters": 4, "depth": 2},
        scale=1.0,
        patch=128,
        batch=4,
        steps=given.steps,
        validate_every=given.steps,
        tta=1,
    )
    one = blobs(0, given.side, given.side // 6)
    target = targets.get(plan.target)
    with pipeline.prepare([one], plan, target) as single:
        each = single.nbytes
    amount = given.megabytes * 10**6
    count = 10 * amount // each + 3
    print(
        f"{count - 2} images of {given.side} x {given.side}, {each / 1e6:.1f} MB each "
        f"once encoded: {(count - 2) * each / 1e6:.0f} MB, "
        f"{(count - 2) * each / amount:.1f} times the memory given, "
        f"{given.megabytes} MB. Raw they are {count * 5 * given.side**2 / 1e6:.0f} MB."
    )
    print(
        "\n| | before | first step | a quarter | half | last | range since a quarter |"
    )
    print("|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        data = written(folder, int(count), given.side)
        for name, cache in (("on disk", amount), ("in memory", 2**40)):
            watch = Watch()
            trainings.train(
                plan,
                data,
                folder / name.replace(" ", "-"),
                progress=watch,
                cache_memory=cache,
            )
            sizes = watch.sizes
            late = sizes[len(sizes) // 4 :]
            row = [watch.before, sizes[0], late[0], sizes[len(sizes) // 2], sizes[-1]]
            cells = " | ".join(f"{size:.0f} MB" for size in row)
            spread = (max(late) - min(late)) / late[0]
            print(f"| {name} | {cells} | {spread:.1%} |", flush=True)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("what", choices=("speed", "memory"))
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--filters", type=int, default=32)
    parser.add_argument("--patch", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--side", type=int, default=1024, help="of the images")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--megabytes", type=int, default=64, help="for the pipeline")
    given = parser.parse_args()
    if given.steps is None:
        given.steps = 10 if given.what == "speed" else 400
    speed(given) if given.what == "speed" else memory(given)


if __name__ == "__main__":
    main()
