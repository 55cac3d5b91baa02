"""What is kept is what was encoded; in memory or on disk, which is left clean."""

from __future__ import annotations

import errno
import gc
import os
import re
import weakref

import numpy as np
import pytest

from unet_zoo import memory, pipeline, targets
from unet_zoo.catalog.dataset import Example, Lazy
from unet_zoo.errors import InputError
from unet_zoo.pipeline import packing
from unet_zoo.recipe import Recipe

PLAN = Recipe(scale=1.0, patch=32)
TARGET = targets.get("distance")


def example(number: int, size=(60, 70), dtype="uint8", channels: int = 1) -> Example:
    generator = np.random.default_rng(number)
    image = generator.integers(0, 250, (*size, channels)).astype(dtype)
    labels = np.zeros(size, "int32")
    labels[4:20, 5:12], labels[20:40, 5:22], labels[-9:] = 1, 2, -1
    return Example(f"e{number}", image, labels)


EXAMPLES = [example(0), example(1, (90, 40)), example(2, (33, 64))]


def encoded(one: Example, target=TARGET) -> np.ndarray:
    image = one.image.astype(float)
    image = (image - image.mean(axis=(0, 1))) / image.std(axis=(0, 1))
    return np.concatenate([image, target.encode(one.labels)], -1).astype("float32")


def found(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


# === Packing ===


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("name", ["semantic", "border", "distance"])
def test_packed_is_exact_and_small(dtype, name):
    one, target = example(3, (64, 64), dtype, 2), targets.get(name)
    if dtype != "uint8":
        noise = np.random.default_rng(0).normal(900, 200, one.image.shape)
        one = Example("n", noise.astype(dtype), one.labels)
    stack = encoded(one, target)
    data = packing.pack(stack, one.labels)
    read = packing.Packed(data).window(slice(None), slice(None))
    assert read.dtype == np.float32
    np.testing.assert_array_equal(read, stack)
    assert data.nbytes < stack.nbytes
    # Classes and weights of "semantic" take a byte each, so do the channels of uint8.
    if (name, dtype) == ("semantic", "uint8"):
        assert data.nbytes < 4 * 64 * 64 + 4 * 4096 + 4096


def test_windows_of_packed_are_windows_of_the_stack():
    stack = encoded(EXAMPLES[0])
    packed = packing.Packed(packing.pack(stack))
    rows, columns = np.array([3, 2, 59, 0]), slice(5, 50)
    np.testing.assert_array_equal(packed.window(rows, columns), stack[rows][:, columns])
    for channel in range(stack.shape[-1]):
        part = packed.channel(channel, slice(1, 4), np.array([0, 69]))
        np.testing.assert_array_equal(part, stack[1:4, [0, 69], channel])
    assert packed.ids.size == 0


@pytest.mark.parametrize("count", [1, 40, 900])
def test_points_lie_in_their_objects_and_all_over_them(count):
    labels = np.zeros((120, 120), "int32")
    for number in range(count):
        y, x = 4 * (number // 30), 4 * (number % 30)
        labels[y : y + 1 + number % 3, x : x + 1 + number % 2] = 7 * number + 1
    labels[100:, :] = -1
    if count == 1:
        labels[:100] = 1
    packed = packing.Packed(packing.pack(np.zeros((120, 120, 1)), labels))
    ids = np.unique(labels[labels > 0])
    np.testing.assert_array_equal(packed.ids, ids)
    np.testing.assert_array_equal(
        labels.ravel()[packed.points],
        np.repeat(ids[:, None], packed.points.shape[1], 1),
    )
    for each, points in zip(ids[:5], packed.points, strict=False):
        sizes = (labels == each).sum(), len(np.unique(points))
        assert sizes[1] == min(sizes[0], len(points))
    if count == 1:
        y, x = np.divmod(packed.points[0], 120)
        assert abs(y.mean() - 49.5) < 1
        assert abs(x.mean() - 59.5) < 4


# === Memory and disk ===


def test_what_fits_is_kept_in_memory(tmp_path):
    with pipeline.prepare(EXAMPLES, PLAN, TARGET, beside=tmp_path / "run") as made:
        assert not made.on_disk
        assert found(tmp_path) == []
        assert made.shapes == [(60, 70), (90, 40), (33, 64)]
        for one, stack in zip(EXAMPLES, made, strict=True):
            np.testing.assert_array_equal(stack, encoded(one))


@pytest.mark.parametrize("kept", [0, 1, 2])
def test_what_does_not_fit_goes_to_disk_and_is_removed(tmp_path, kept):
    one = packing.pack(encoded(EXAMPLES[0]), EXAMPLES[0].labels).nbytes
    beside = tmp_path / "not" / "there" / "run"
    made = pipeline.prepare(
        EXAMPLES, PLAN, TARGET, memory=int(one * (kept + 0.5)), beside=beside
    )
    assert made.on_disk
    (folder,) = tmp_path.iterdir()
    assert folder.name.startswith(".run-cache-")
    assert len(list(folder.iterdir())) == 3
    for one, stack in zip(EXAMPLES, made, strict=True):
        np.testing.assert_array_equal(stack, encoded(one))
    made.close()
    assert found(tmp_path) == []
    made.close()


def test_nobody_needs_to_close(tmp_path):
    pipeline.prepare(EXAMPLES, PLAN, TARGET, memory=0, beside=tmp_path / "run")
    gc.collect()
    assert found(tmp_path) == []


def test_batches_from_disk_are_those_from_memory(tmp_path):
    plan = PLAN.replace(steps=6, foreground_crops=0.5)
    pairs = [
        pipeline.batches(
            pipeline.prepare(
                EXAMPLES, plan, TARGET, memory=size, beside=tmp_path / "r"
            ),
            plan,
        ).as_numpy_iterator()
        for size in ("1GB", 0)
    ]
    for first, second in zip(*pairs, strict=True):
        for key, value in first.items():
            np.testing.assert_array_equal(value, second[key])


class Counting(targets.Distance):
    """Counts how often it encodes."""

    calls = 0

    def encode(self, labels: np.ndarray) -> np.ndarray:
        Counting.calls += 1
        return super().encode(labels)


def encodings(folder, examples=EXAMPLES, plan=PLAN, **arguments) -> int:
    Counting.calls = 0
    with pipeline.prepare(examples, plan, Counting(**arguments), folder=folder) as made:
        for one, stack in zip(examples, made, strict=True):
            if plan == PLAN:
                np.testing.assert_array_equal(
                    stack, encoded(one, targets.get("distance", **arguments))
                )
    return Counting.calls


def test_a_named_folder_is_used_again(tmp_path):
    folder = tmp_path / "cache" / "mine"
    assert encodings(folder) == 3
    assert len(found(folder)) == 3
    assert encodings(folder) == 0
    # Whatever changes what is encoded is encoded anew; what does not, is not.
    assert encodings(folder, plan=PLAN.replace(steps=3, seed=9, patch=64)) == 0
    assert encodings(folder, [*EXAMPLES[::-1], example(4)]) == 1
    assert encodings(folder, plan=PLAN.replace(scale=0.5)) == 3
    assert encodings(folder, plan=PLAN.replace(normalization="percentile")) == 3
    assert encodings(folder, border=1) == 3
    other = EXAMPLES[0].labels.copy()
    other[0, 0] = 2
    assert encodings(folder, [Example("e0", EXAMPLES[0].image, other)]) == 1


def test_a_file_cut_short_is_made_again(tmp_path):
    encodings(tmp_path)
    for number, path in enumerate(sorted(tmp_path.iterdir())):
        os.truncate(path, 200 if number else 0)
    assert encodings(tmp_path) == 3


def test_interrupted_it_leaves_whole_files_only(tmp_path, monkeypatch):
    def interrupted():
        yield EXAMPLES[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare(interrupted(), PLAN, TARGET, memory=0, beside=tmp_path / "r")
    gc.collect()
    assert found(tmp_path) == []
    with pytest.raises(KeyboardInterrupt):
        pipeline.prepare(interrupted(), PLAN, TARGET, folder=tmp_path / "c")
    assert encodings(tmp_path / "c", EXAMPLES[:1]) == 0


@pytest.mark.parametrize("named", [True, False])
def test_a_full_disk_is_said_and_left_as_it_was(tmp_path, monkeypatch, named):
    save, calls = np.save, []

    def full(path, data, **options):
        calls.append(path)
        if len(calls) == 3:
            save(path, data[:100], **options)
            raise OSError(errno.ENOSPC, "No space left on device")
        save(path, data, **options)

    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "other.txt").write_text("kept")
    monkeypatch.setattr(np, "save", full)
    where = {"folder": mine} if named else {"memory": 0, "beside": mine / "run"}
    with pytest.raises(InputError) as caught:
        pipeline.prepare(EXAMPLES, PLAN, TARGET, **where)
    message = str(caught.value)
    assert re.search(r"The disk of .*mine.* is full: the first 3 training", message)
    assert "`cache_folder`" in message
    del caught
    gc.collect()
    assert found(mine) == ["other.txt"]


@pytest.mark.skipif(os.name == "nt", reason="a file in place of a folder")
def test_a_folder_that_cannot_be_written_is_said(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file"):
        pipeline.prepare(EXAMPLES, PLAN, TARGET, folder=tmp_path / "file")
    with pytest.raises(InputError, match=r"Cannot write encoded images to .*within"):
        pipeline.prepare(EXAMPLES, PLAN, TARGET, folder=tmp_path / "file" / "within")


def test_examples_are_read_one_after_the_other():
    seen: list[weakref.ref[np.ndarray]] = []

    def reading():
        for number in range(6):
            one = example(number)
            seen.append(weakref.ref(one.image))
            yield one
            del one
            gc.collect()
            # The one just used at most; those before are gone.
            assert [each() for each in seen[:-1]] == [None] * number

    with pipeline.prepare(reading(), PLAN, TARGET) as made:
        assert len(made) == 6


# === How much ===


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        (0, 0),
        ("12", 12),
        ("2GB", 2 * 10**9),
        ("2 gb", 2 * 10**9),
        ("1.5m", 1500000),
        ("1GiB", 2**30),
        ("3 TiB", 3 * 2**40),
        ("500MB", 5 * 10**8),
    ],
)
def test_amounts_of_memory(text, amount):
    assert pipeline.as_bytes(text) == amount


@pytest.mark.parametrize("text", ["", "GB", "-3", -3, "2 XB", "1ib", 2.5e300, True])
def test_what_is_no_amount_is_said(text):
    with pytest.raises(InputError, match=r"such as '2GB' or '500MB'. Received: "):
        pipeline.as_bytes(text)


def test_the_default_heeds_a_containers_limit(tmp_path, monkeypatch):
    free = pipeline.default_memory()
    assert free > 10**6
    monkeypatch.setattr(memory, "_CONTROL", tmp_path)
    whole = pipeline.default_memory()
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 1000000\ninactive_file 2000000\n")
    assert pipeline.default_memory() > 0.5 * whole
    (tmp_path / "memory.max").write_text("5000000\n")
    assert pipeline.default_memory() == 2000000


def test_examples_are_held_where_they_fit():
    reads = []

    def read():
        reads.append(1)
        return iter(EXAMPLES)

    lazy = Lazy(3, read)
    size = sum(one.image.nbytes + one.labels.nbytes for one in EXAMPLES)
    held, used = pipeline.hold(lazy, size)
    assert (list(held), used) == (EXAMPLES, size)
    assert len(reads) == 1
    assert pipeline.hold(lazy, size - 1) == (lazy, 0)


# === Lazy examples ===


def test_lazy_examples_are_a_sequence_that_is_read_each_time():
    reads = []

    def read():
        for number in range(5):
            reads.append(number)
            yield EXAMPLES[number % 3]

    lazy = Lazy(5, read)
    assert (len(lazy), reads) == (5, [])
    assert lazy[1] is EXAMPLES[1]
    assert lazy[-1] is EXAMPLES[1]
    assert reads == [0, 1, 0, 1, 2, 3, 4]
    reads.clear()
    assert lazy[3:0:-2] == [EXAMPLES[0], EXAMPLES[1]]
    assert reads == [0, 1, 2, 3]
    assert lazy[5:] == []
    assert list(lazy) == list(lazy) == [EXAMPLES[n % 3] for n in range(5)]
    with pytest.raises(IndexError):
        lazy[5]
