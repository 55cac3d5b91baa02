"""An image that several processes segment has the labels that one process gives it."""

from __future__ import annotations

import itertools
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile
from test_streaming import Filter, disc, noise

from unet_zoo import streaming
from unet_zoo.errors import InputError
from unet_zoo.streaming import planning, shares
from unet_zoo.streaming.planning import Plan


def shared(segmenter, image, output: Path, threads: int, **asked):
    """Segment an image as a cluster does, everything sent from process to process."""
    folder = output.with_suffix(".part")
    folder.mkdir()

    def sent(value):
        return pickle.loads(pickle.dumps(value))

    survey = sent(shares.survey(segmenter, image, asked, 64 * 10**9, 1))
    parts = survey.parts(threads)
    found = {}
    for number in np.random.default_rng(0).permutation(len(parts)):
        part = parts[number]
        scalings = sent(shares.measured(segmenter, image, part.frame))
        found[number] = sent(
            shares.find(
                segmenter, image, asked, survey.plan, sent(part), scalings, folder
            )
        )
    ordered = [found[number] for number in range(len(parts))]
    return shares.join(segmenter, image, output, asked, survey.plan, ordered, 10**10)


def crowd(shape):
    """Return a stack of discs, many of which touch; one is larger than a block."""
    generator = np.random.default_rng(1)
    stack = np.zeros((2, *shape, 1), "float32")
    for frame, y, x in generator.uniform(0, (2, *shape), (150, 3)):
        stack[int(frame), disc(shape, y, x, generator.uniform(5, 10))] = 1
    stack[1, disc(shape, 120, 150, 60)] = 1
    return stack


@pytest.mark.parametrize(
    ("target", "scale", "tta", "swath", "threads"),
    [
        ("semantic", 1.0, 1, 400, 2),
        ("distance", 1.0, 4, 96, 16),
        ("border", 0.7, 1, 144, 4),
        ("distance", 1.7, 1, 400, 7),
    ],
)
def test_parts_give_the_files_of_the_whole(
    tmp_path, monkeypatch, target, scale, tta, swath, threads
):
    monkeypatch.setattr(planning, "_BLOCKS", (48,))
    monkeypatch.setattr(planning._Sizes, "_swath", lambda *_: swath)
    model, stack = Filter(target, blur=1, scale=scale, min_size=20), crowd((210, 330))
    options = {"overlap": 24, "tta": tta}
    one, several = tmp_path / "one.tif", tmp_path / "several.tif"
    expected = streaming.stream(model, stack, one, max_memory="64GB", **options)
    found = shared(model, stack, several, threads, **options)
    assert min(expected.objects) > 20
    assert found.objects == expected.objects
    assert found.joined == expected.joined > 0
    assert found.table.equals(expected.table)
    assert several.read_bytes() == one.read_bytes()
    assert found.overhead >= expected.overhead


def test_an_image_with_no_objects_and_one_of_classes(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "_BLOCKS", (48,))
    for number, (model, image) in enumerate(
        [(Filter(), np.zeros((100, 140))), (classes(), noise((100, 140)))]
    ):
        one, several = tmp_path / f"{number}.tif", tmp_path / f"{number}s.tif"
        streaming.stream(model, image, one, max_memory="64GB")
        shared(model, image, several, 3)
        assert several.read_bytes() == one.read_bytes()
    assert tifffile.imread(one).max() == 2


def classes():
    """Return a model of three classes: dark, between, bright."""
    model = Filter()
    model.target = type(model.target)(classes=3)
    model.run = lambda batch: np.stack(
        [0.5 - batch[0, ..., 0], 0 * batch[0, ..., 0], batch[0, ..., 0] - 0.5], axis=-1
    )[None]
    return model


@pytest.mark.parametrize("frames", [1, 7])
@pytest.mark.parametrize("threads", [1, 2, 7, 100])
@pytest.mark.parametrize("shape", [(30000, 30000), (5000, 700), (1000, 9000)])
def test_every_pixel_is_in_one_part(frames, threads, shape):
    plan = Plan(block=512, overlap=128, swath=4096, rows=256)
    survey = shares.Survey((frames, *shape), plan, around=220)
    parts = survey.parts(threads)
    covered = np.zeros((frames, -(-shape[0] // 512), -(-shape[1] // 512)), int)
    for part in parts:
        cuts = (part.rows, shape[0]), (part.columns, shape[1])
        for each, size in cuts:
            assert each.start % 512 == 0
            assert each.stop % 512 == 0 or each.stop == size
        assert part.columns.stop - part.columns.start <= 4096
        rows, columns = (
            slice(each.start // 512, -(-each.stop // 512)) for each, _ in cuts
        )
        covered[part.frame, rows, columns] += 1
    assert (covered == 1).all()
    # Hardly anybody is idle where there are blocks enough for all.
    assert len(parts) >= 0.8 * min(threads, covered.size // 4)
    for one, other in itertools.pairwise(parts):
        assert (one.frame, one.rows.start, one.columns.start) < (
            other.frame,
            other.rows.start,
            other.columns.start,
        )


def test_who_segments_a_part_for_nobody_gives_up(tmp_path, monkeypatch):
    monkeypatch.setattr(planning, "_BLOCKS", (48,))
    model, image, folder = Filter(), noise((200, 90)), tmp_path / "gone"
    survey = shares.survey(model, image, {}, 64 * 10**9, 1)
    [part] = survey.parts(1)
    scalings = shares.measured(model, image, 0)
    folder.mkdir()
    blocks = []

    def decode(*arguments, **options):
        blocks.append(1)
        shutil.rmtree(folder, ignore_errors=True)
        return Filter.decode(model, *arguments, **options)

    monkeypatch.setattr(model, "decode", decode, raising=False)
    with pytest.raises(InputError, match="is gone"):
        shares.find(model, image, {}, survey.plan, part, scalings, folder)
    assert len(blocks) == 2  # a row of them, of five


def test_memory_is_for_all_threads_of_a_process():
    given = planning.resident() + 10**9
    image = np.zeros((20000, 20000, 1), "uint8")
    one, two = (shares.survey(Filter(), image, {}, given, n).plan for n in (1, 2))
    assert 0 < two.swath * two.rows < one.swath * one.rows
    message = (
        r"too little for this network. Give at least \d+MB, or fewer threads than 500"
    )
    with pytest.raises(InputError, match=message):
        shares.survey(Filter(), image, {}, given, 500)
