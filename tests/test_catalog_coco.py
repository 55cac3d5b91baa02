"""Annotations in COCO's format: each gives the labels that it means."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
from test_catalog_drawings import RING, feature, ring
from test_catalog_formats import SHAPE, cells, examples, picture, refused, write

from unet_zoo import catalog
from unet_zoo.catalog import drawings, outlines
from unet_zoo.errors import InputError


def coco(path, *annotated, names=("a.tif",), **changes) -> None:
    images = [
        {"id": n, "file_name": name, "height": SHAPE[0], "width": SHAPE[1], **changes}
        for n, name in enumerate(names)
    ]
    annotations = [
        {"id": n, "image_id": 0, "category_id": 1, "iscrowd": 0, **each}
        for n, each in enumerate(annotated)
    ]
    content = {"images": images, "annotations": annotations, "categories": []}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


BOX = {"segmentation": [[2, 3, 7, 3, 7, 8, 2, 8]]}


@pytest.mark.parametrize(
    ("json_file", "image"),
    [
        ("_annotations.coco.json", "a.tif"),
        ("annotations/instances.json", "a.tif"),
        ("annotations/instances.json", "images/a.tif"),
        ("labels.json", "images/a.tif"),
    ],
)
def test_coco_polygons_runs_and_crowds(tmp_path, json_file, image):
    write(tmp_path / image, picture())
    crowd = np.zeros(SHAPE, int)
    crowd[15:20, 3:30] = 1
    flat = crowd.ravel(order="F")
    changes = np.flatnonzero(np.diff(np.r_[0, flat, 0]))
    counts = np.diff(np.r_[0, changes, flat.size])
    coco(
        tmp_path / json_file,
        BOX,
        {"segmentation": [[8, 3, 13, 3, 13, 8, 8, 8], [20, 3, 25, 3, 25, 8, 20, 8]]},
        {"segmentation": {"size": SHAPE, "counts": counts.tolist()}, "iscrowd": 1},
        {"segmentation": [], "bbox": [1, 1, 3, 3]},
    )
    expected = cells(1, 2, 0, 2).astype(int)
    expected[crowd == 1] = -1
    for path in (tmp_path, tmp_path / json_file):
        (found,) = examples(path)
        assert found.name == "a"
        np.testing.assert_array_equal(found.labels, expected)
    assert "1 outlines without an area" in catalog.open_dataset(tmp_path).note


def test_coco_in_the_folders_of_the_splits(tmp_path):
    for split, count in (("train", 3), ("valid", 1), ("test", 2)):
        names = [f"{split}{n}.tif" for n in range(count)]
        for name in names:
            write(tmp_path / split / name, picture())
        coco(tmp_path / split / "_annotations.coco.json", BOX, names=names)
    dataset = catalog.open_dataset(tmp_path)
    assert dataset.size_of == {"train": 3, "validation": 1, "test": 2}
    assert "2 of its 3 images have no annotation" in dataset.note


@pytest.mark.parametrize(
    ("annotation", "changes", "match"),
    [
        (BOX, {"file_name": "b.tif"}, r"names the image b\.tif, which is not there"),
        (BOX, {"height": 25}, r"a is 24 x 32 pixels, its mask .*json is 25 x 32"),
        ({"image_id": 7}, {}, r"is not whole: 7 is missing"),
        ({"segmentation": [[1, 2, 3]]}, {}, r"segmentation of annotation 0 in .*json"),
        (
            {"segmentation": {"size": [24, 32], "counts": [5, 5]}},
            {},
            r"its runs make 10 pixels, its size 24 x 32",
        ),
        (  # a terabyte, if it were asked for
            {"segmentation": {"size": [10**6, 10**6], "counts": [10**12]}},
            {},
            r"a is 24 x 32 pixels, its mask .*json is 1000000 x 1000000",
        ),
        (BOX, {"height": "x"}, r"coco\.json has an image .* cannot be read .*'x'"),
        ({"category_id": [1]}, {}, r"coco\.json has an image or annotation that can"),
        (
            {"segmentation": [[2, 3, 7, float("nan"), 7, 8]]},
            {},
            r"segmentation of annotation 0 in .*a coordinate is not finite",
        ),
        (
            {"segmentation": [[2, 3, 7, None, 7, 8]]},
            {},
            r"segmentation of annotation 0 in .*a coordinate is not finite",
        ),
    ],
)
def test_a_broken_coco_file(tmp_path, annotation, changes, match):
    write(tmp_path / "a.tif", picture())
    coco(tmp_path / "coco.json", annotation, **changes)
    refused(tmp_path, match)


def test_two_records_of_coco_never_share_an_image(tmp_path):
    names = ("day1/a.tif", "day2/a.tif")
    write(tmp_path / "images" / "a.tif", picture())
    coco(tmp_path / "coco.json", BOX, {**BOX, "image_id": 1}, names=names)
    refused(tmp_path, r"the image .*a\.tif twice, as day1/a\.tif and as day2/a\.tif")
    for name in names:  # each at its own place, whatever is there besides
        write(tmp_path / "images" / name, picture())
    assert [each.name for each in examples(tmp_path)] == list(names)
    coco(tmp_path / "coco.json", BOX, names=("a.tif", "a.tif"))
    refused(tmp_path, r"names the image a\.tif twice\. Take one of them out")


def test_a_json_that_is_something_else(tmp_path):
    write(tmp_path / "a.tif", picture())
    write(tmp_path / "a_mask.tif", cells(1, 2))
    (tmp_path / "settings.json").write_text('{"images": 3}')
    assert len(examples(tmp_path)) == 1
    refused(tmp_path / "settings.json", r"no `images` and `annotations`")


# === Run lengths ===


@pytest.mark.parametrize("seed", range(5))
def test_run_lengths_as_numbers_and_as_text(seed):
    """Against a writer made from the format's description."""
    random = np.random.default_rng(seed)
    mask = random.random((37, 23)) < random.random()
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff(np.r_[0, edges, flat.size]).tolist()
    counts = [0, *counts] if flat[0] else counts
    text = ""
    for place, count in enumerate(counts):
        rest = count - (counts[place - 2] if place > 2 else 0)
        more = True
        while more:
            bits = rest & 31
            rest >>= 5
            more = rest != -1 if bits & 16 else rest != 0
            text += chr((bits | 32 if more else bits) + 48)
    for encoded in (counts, text):
        shape, runs = drawings.run_lengths({"size": mask.shape, "counts": encoded})
        decoded = outlines.bitmap(runs, shape)
        np.testing.assert_array_equal(decoded, mask)


# === Anything in place of a value ===


def places(node) -> Iterator[tuple]:
    """Yield every list or object of JSON with the key of each of its values."""
    for key in list(node) if isinstance(node, dict) else range(len(node)):
        yield node, key
        if isinstance(node[key], dict | list):
            yield from places(node[key])


VALUES = (None, True, -1, 1.5, 1e300, 10**400, float("nan"), "", "x" * 5000)


@pytest.mark.parametrize("value", [*VALUES, [], {}, [1], [[1, 2]], {"id": [1]}])
@pytest.mark.parametrize("kind", ["geojson", "coco"])
def test_whatever_stands_in_a_file_of_outlines_it_is_taken_or_refused(
    tmp_path, kind, value
):
    write(tmp_path / "a.tif", picture(0, 2 if kind == "geojson" else 0))
    path = tmp_path / ("a.geojson" if kind == "geojson" else "coco.json")
    if kind == "geojson":
        parts = [RING, [ring(2, 24, 6, 28)]]
        features = [
            feature(
                [*RING, ring(5, 5, 8, 8)], "Tumor", plane={"c": -1, "z": 0, "t": 1}
            ),
            feature(parts, kind="MultiPolygon"),
        ]
        content = {"type": "FeatureCollection", "features": features}
    else:
        runs = {"size": SHAPE, "counts": [100, 20, 648]}
        coco(path, BOX, {"segmentation": runs})
        content = json.loads(path.read_text())
    refusals = []
    for number in range(sum(1 for _ in places(content))):
        changed = copy.deepcopy(content)
        owner, key = list(places(changed))[number]
        owner[key] = value
        path.write_text(json.dumps(changed))
        with warnings.catch_warnings(action="error"):
            try:
                catalog.open_dataset(tmp_path)
            except InputError as error:
                refusals.append(str(error))
    assert len(refusals) > 5
    assert all(str(tmp_path) in each for each in refusals)
