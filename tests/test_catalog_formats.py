"""Formats of own data beyond image and mask: each gives the labels that it means."""

from __future__ import annotations

import copy
import json
import sys
import warnings
import zipfile
from collections.abc import Iterator

import numpy as np
import pytest
import tifffile

from unet_zoo import catalog, outputs
from unet_zoo.catalog import drawings, folders, outlines
from unet_zoo.errors import InputError

SHAPE = (24, 32)


def picture(seed: int = 0, frames: int = 0) -> np.ndarray:
    shape = (frames, *SHAPE) if frames else SHAPE
    return np.random.default_rng(seed).integers(0, 255, shape).astype("uint8")


def cells(*ids: int) -> np.ndarray:
    """Return a mask with one square of 5 x 5 pixels for each id."""
    mask = np.zeros(SHAPE, "uint8")
    for place, number in enumerate(ids):
        mask[3:8, 2 + 6 * place : 7 + 6 * place] = number
    return mask


def write(path, array, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, array, **options)


def examples(path, split: str = "all") -> list[catalog.Example]:
    return catalog.open_dataset(path).examples(split)


def refused(path, match: str) -> None:
    with pytest.raises(InputError, match=match):
        catalog.open_dataset(path)


# === CSV ===


def write_table(folder, text: str):
    for number in range(4):
        write(folder / "pictures" / f"a{number}.tif", picture(number))
        write(folder / "drawn" / f"m{number}.tif", cells(number + 1, number + 2))
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


ROWS = [f"pictures/a{n}.tif,drawn/m{n}.tif" for n in range(4)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_says_which_mask_is_whose(tmp_path, separator):
    rows = [
        "\ufeffImage,note,MASK",
        *(row.replace(",", ",seen,") for row in reversed(ROWS)),
    ]
    text = "\r\n".join(rows).replace(",", separator) + "\r\n\r\n"
    dataset = catalog.open_dataset(write_table(tmp_path, text))
    assert dataset.name == "pairs"
    assert dataset.size_of == {"train": 3, "validation": 1}
    assert [e.name for e in dataset.examples("all")] == [
        f"pictures/a{n}" for n in (3, 2, 1, 0)
    ]
    for each in dataset.examples("all"):
        number = int(each.name[-1])
        np.testing.assert_array_equal(each.image[..., 0], picture(number))
        np.testing.assert_array_equal(each.labels, cells(number + 1, number + 2))


def test_a_table_may_say_the_splits(tmp_path):
    words = ["train", "Val", "test", ""]
    rows = [f"{row},{word}" for row, word in zip(ROWS, words, strict=True)]
    path = write_table(tmp_path, "\n".join(["image,mask,split", *rows]))
    dataset = catalog.open_dataset(path)
    assert dataset.size_of == {"train": 2, "validation": 1, "test": 1}
    assert [e.name[-1] for e in dataset.examples("train")] == ["0", "3"]
    assert [e.name[-1] for e in dataset.examples("validation")] == ["1"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (["image,masks", *ROWS], r"no column 'mask'.*Did you mean 'masks'"),
        (["image,mask", "pictures/a0.tif,"], r"Line 2 of .*pairs\.csv has no mask"),
        (["image,mask", ROWS[0], "b.tif,c.tif"], r"Line 3 .*image .*b\.tif, which is"),
        (["image,mask", ROWS[0], ROWS[0]], r"a0\.tif again, as line 2 did"),
        (["image,mask,split", f"{ROWS[0]},tset"], r"Line 2 .* the split 'tset'"),
        (["image,mask"], r"pairs\.csv names no pairs"),
        ([], r"no column 'image'; its columns are none"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path, rows, match):
    refused(write_table(tmp_path, "\n".join(rows)), match)


def test_a_table_that_is_no_text(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xff\xfe\x00image")
    refused(path, r"Cannot read .*pairs\.csv: it is not text in UTF-8")


# === Stacks ===


def test_pages_of_a_stack_are_examples(tmp_path):
    stack = np.stack([cells(1, 2), cells(3), cells()])
    write(tmp_path / "images" / "film.tif", picture(0, 3))
    write(tmp_path / "masks" / "film.tif", stack)
    write(tmp_path / "images" / "one.tif", picture(1))
    write(tmp_path / "masks" / "one.tif", cells(4))
    found = examples(tmp_path)
    assert [e.name for e in found] == ["film[0]", "film[1]", "film[2]", "one"]
    for number in range(3):
        np.testing.assert_array_equal(
            found[number].image[..., 0], picture(0, 3)[number]
        )
        np.testing.assert_array_equal(found[number].labels, stack[number])
    assert "each page of 1 stacks is an example" in catalog.open_dataset(tmp_path).note


def test_a_stack_with_a_page_too_few(tmp_path):
    write(tmp_path / "film.tif", picture(0, 3))
    write(tmp_path / "film_masks.tif", np.stack([cells(1, 2)] * 2))
    refused(tmp_path, r"film\.tif has 3 pages, its mask .*film_masks\.tif has 2")


@pytest.mark.parametrize(
    "mask", ["a.ome.tif", "a.tif", "a_masks.tif", "a_masks.ome.tif"]
)
def test_ome_tiffs(tmp_path, mask):
    image = np.stack([picture(0), picture(1)])
    options = {"metadata": {"axes": "CYX"}, "ome": True}
    write(tmp_path / "images" / "a.ome.tif", image, **options)
    ome = {"ome": True, "metadata": {"axes": "YX"}} if ".ome" in mask else {}
    write(tmp_path / "masks" / mask, cells(1, 2), **ome)
    (found,) = examples(tmp_path)
    assert found.name == "a"
    np.testing.assert_array_equal(found.image, np.moveaxis(image, 0, -1))
    np.testing.assert_array_equal(found.labels, cells(1, 2))


# === ImageJ ===


def rois(path, *made) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for number, roi in enumerate(made):
            archive.writestr(f"{number:04d}.roi", roi.tobytes())
        archive.writestr("notes.txt", "not a ROI")


def roi(kind: str = "POLYGON", points=None, box=None, position: int = 0):
    import roifile

    if points is not None:
        made = roifile.ImagejRoi.frompoints(np.array(points))
    else:
        made = roifile.ImagejRoi()
        made.top, made.left, made.bottom, made.right = box
    made.roitype = roifile.ROI_TYPE[kind]
    made.position = position
    return made


SQUARE = [(2, 3), (7, 3), (7, 8), (2, 8)]  # x, y of the corners: cells(1)


@pytest.mark.parametrize("name", ["a.zip", "a_RoiSet.zip", "a_rois.zip"])
@pytest.mark.parametrize("place", ["masks", "."])
def test_rois_become_objects(tmp_path, name, place):
    write(tmp_path / ("images" if place == "masks" else ".") / "a.tif", picture())
    (tmp_path / place).mkdir(exist_ok=True)
    rois(
        tmp_path / place / name,
        roi("POLYGON", SQUARE),
        roi("RECT", box=(3, 8, 8, 13)),
        roi("FREEHAND", np.add(SQUARE, (12.0, 0.0))),
        roi("OVAL", box=(12, 4, 22, 24)),
        roi("POLYLINE", SQUARE),
    )
    (found,) = examples(tmp_path)
    rest = np.where(found.labels == 4, 0, found.labels)
    np.testing.assert_array_equal(rest, cells(1, 2, 3))
    # Pixels whose centre lies in the ellipse.
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]] + 0.5
    inside = ((y - 17) / 5) ** 2 + ((x - 14) / 10) ** 2 < 1
    np.testing.assert_array_equal(found.labels == 4, inside)
    note = catalog.open_dataset(tmp_path).note
    assert "each outline is an object" in note
    assert "1 outlines without an area" in note


@pytest.mark.parametrize("given", [".", "pairs.csv"])
def test_rois_do_not_change_what_a_mask_means(tmp_path, given):
    for name in "ab":
        write(tmp_path / f"{name}.tif", picture())
    write(tmp_path / "a_mask.tif", cells(255, 255, 255))
    rois(tmp_path / "b_RoiSet.zip", roi("POLYGON", SQUARE))
    rows = ("image,mask", "a.tif,a_mask.tif", "b.tif,b_RoiSet.zip")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    dataset = catalog.open_dataset(tmp_path / given)
    labels = [each.labels for each in dataset.examples("all")]
    np.testing.assert_array_equal(labels[0], cells(1, 2, 3))
    np.testing.assert_array_equal(labels[1], cells(1))
    assert "0 and 255 only: each connected region is taken" in dataset.note
    assert "1 are drawn from outlines" in dataset.note


def test_a_single_roi_and_an_image_without_any(tmp_path):
    write(tmp_path / "a.tif", picture())
    (tmp_path / "a.roi").write_bytes(roi("POLYGON", SQUARE).tobytes())
    np.testing.assert_array_equal(examples(tmp_path)[0].labels, cells(1))
    write(tmp_path / "b.tif", picture())
    refused(tmp_path, r"b\.tif has no mask")


def test_rois_know_their_page(tmp_path):
    write(tmp_path / "film.tif", picture(0, 3))
    rois(
        tmp_path / "film_RoiSet.zip",
        roi("POLYGON", SQUARE, position=2),
        roi("RECT", box=(3, 8, 8, 13)),
    )
    labels = [e.labels for e in examples(tmp_path)]
    assert [sorted(np.unique(each)) for each in labels] == [[0, 1], [0, 1, 2], [0, 1]]
    rois(tmp_path / "film_RoiSet.zip", roi("POLYGON", SQUARE, position=4))
    refused(tmp_path, r"outlines on page 4; the image .*film\.tif has 3 pages")


def test_rois_of_a_hyperstack_know_their_z_and_t(tmp_path):
    axes = {"metadata": {"axes": "TZYX"}, "ome": True}
    write(tmp_path / "film.tif", picture(0, 6).reshape(3, 2, *SHAPE), **axes)
    both, plane, time, every = (roi("POLYGON", SQUARE) for _ in range(4))
    both.z_position, both.t_position = 2, 3
    plane.z_position, time.t_position = 2, 1
    for made, pages in (
        (both, [5]),
        (plane, [1, 3, 5]),
        (time, [0, 1]),
        (every, [0, 1, 2, 3, 4, 5]),
    ):
        rois(tmp_path / "film_RoiSet.zip", made)
        found = [n for n, e in enumerate(examples(tmp_path)) if e.labels.any()]
        assert found == pages
    both.z_position = 3
    rois(tmp_path / "film_RoiSet.zip", both)
    refused(tmp_path, r"outlines on z 3 of t 3; the image .*film\.tif has 6 pages")


@pytest.mark.parametrize("axes", ["TYX", "ZYX"])
@pytest.mark.parametrize("named", ["position", "z_position", "t_position"])
def test_pages_of_a_film_may_be_counted_along_any_axis(tmp_path, axes, named):
    write(tmp_path / "a.tif", picture(0, 3), metadata={"axes": axes}, ome=True)
    made = roi("POLYGON", SQUARE)
    setattr(made, named, 2)
    rois(tmp_path / "a_RoiSet.zip", made)
    assert [e.labels.any() for e in examples(tmp_path)] == [False, True, False]


def test_an_archive_that_unpacks_to_too_much(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", picture())
    rois(tmp_path / "a.zip", roi("POLYGON", SQUARE))
    monkeypatch.setattr(drawings, "_LARGEST", 50)
    refused(tmp_path, r"a\.zip is damaged .*it unpacks to more than 50 bytes")


@pytest.mark.parametrize("content", [b"not a zip", None])
def test_an_archive_without_rois(tmp_path, content):
    write(tmp_path / "a.tif", picture())
    if content:
        (tmp_path / "a_RoiSet.zip").write_bytes(content)
    else:
        with zipfile.ZipFile(tmp_path / "a_RoiSet.zip", "w") as archive:
            archive.writestr("readme.txt", "nothing")
    refused(tmp_path, r"a_RoiSet\.zip (is damaged or )?holds no ROIs of ImageJ")


def test_without_the_package_the_way_out_is_told(tmp_path, monkeypatch):
    write(tmp_path / "a.tif", picture())
    rois(tmp_path / "a.zip", roi("POLYGON", SQUARE))
    monkeypatch.setitem(sys.modules, "roifile", None)
    refused(tmp_path, r"a\.zip needs the package 'roifile'.*unet-zoo\[imagej\]")


# === QuPath ===


def feature(points, name: str | None = None, kind: str = "Polygon", **more) -> dict:
    properties = {"objectType": "annotation"}
    if name:
        properties["classification"] = {"name": name, "color": [200, 0, 0]}
    geometry = {"type": kind, "coordinates": points, **more}
    return {"type": "Feature", "geometry": geometry, "properties": properties}


def ring(top: int, left: int, bottom: int, right: int) -> list:
    corners = [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]
    return [list(corner) for corner in corners]


RING = [ring(2, 2, 12, 12)]


def test_geojson_with_holes_parts_and_classes(tmp_path):
    write(tmp_path / "a.tif", picture())
    features = [
        feature([ring(2, 2, 12, 12), ring(5, 5, 8, 8)], "Tumor"),
        feature([[ring(2, 15, 6, 19)], [ring(2, 24, 6, 28)]], kind="MultiPolygon"),
        feature([ring(15, 2, 20, 10)], "Ignore*"),
        feature([3, 4], kind="Point"),
    ]
    collection = {"type": "FeatureCollection", "features": features}
    for content in (collection, features):
        (tmp_path / "a.geojson").write_text(json.dumps(content))
        (found,) = examples(tmp_path)
        expected = np.zeros(SHAPE, int)
        expected[2:12, 2:12], expected[5:8, 5:8] = 1, 0
        expected[2:6, 15:19] = expected[2:6, 24:28] = 2
        expected[15:20, 2:10] = -1
        np.testing.assert_array_equal(found.labels, expected)


@pytest.mark.parametrize("later", [{"z": 1}, {"t": 1}, {"c": -1, "z": 0, "t": 1}])
def test_geojson_without_a_plane_is_of_the_first_page(tmp_path, later):
    """As QuPath means it: it leaves out the plane of what lies on the first."""
    write(tmp_path / "a.tif", picture(0, 3))
    content = [feature(RING), feature([ring(2, 24, 6, 28)], plane=later)]
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    labels = [each.labels for each in examples(tmp_path)]
    assert [np.count_nonzero(each) for each in labels] == [100, 16, 0]
    (tmp_path / "a.geojson").write_text(json.dumps(content[:1]))
    labels = [each.labels for each in examples(tmp_path)]
    assert [np.count_nonzero(each) for each in labels] == [100, 0, 0]


def test_geojson_of_a_region_leaves_the_rest_open(tmp_path):
    write(tmp_path / "a.tif", picture())
    content = [feature([ring(2, 2, 20, 20)], "Region*"), feature([ring(4, 4, 9, 9)])]
    (tmp_path / "a.geojson").write_text(json.dumps(content))
    labels = examples(tmp_path)[0].labels
    expected = np.full(SHAPE, -1)
    expected[2:20, 2:20] = 0
    expected[4:9, 4:9] = 2
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ("{", r"a\.geojson is not JSON"),
        ("[]", r"a\.geojson holds no features of GeoJSON"),
        (
            json.dumps([feature([[["x", 1]]])]),
            r"Feature 1 in .*a\.geojson cannot be read \(could not convert",
        ),
        ('{"features": null}', r"a\.geojson holds no features of GeoJSON"),
        ('{"features": 3}', r"a\.geojson holds no features of GeoJSON"),
        ("[" * 10**5, r"a\.geojson is not JSON"),
        (json.dumps([feature([[1, 2]])]), r"Feature 1 in .* is not a list of points"),
        (
            json.dumps([feature(RING, plane={"z": None})]),
            r"Feature 1 in .*the z of its plane is None, not 0 or more",
        ),
        (
            json.dumps([feature(RING), feature(RING, plane={"t": "x"})]),
            r"Feature 2 in .*the t of its plane is 'x'",
        ),
        (
            json.dumps([{"type": "Feature", "geometry": [1]}]),
            r"Feature 1 in .*`geometry` is not an object but list",
        ),
        (
            json.dumps([{**feature(RING), "properties": [1]}]),
            r"Feature 1 in .*`properties` is not an object but list",
        ),
    ],
)
def test_a_broken_geojson(tmp_path, content, match):
    write(tmp_path / "a.tif", picture())
    (tmp_path / "a.geojson").write_text(content)
    refused(tmp_path, match)


# === Overlaps ===


@pytest.mark.parametrize("order", [1, -1])
def test_where_outlines_overlap_the_smaller_object_wins(order):
    corners = [(2, 2, 14, 14), (5, 5, 9, 9)][::order]
    made = [outlines.Outline([[np.array(ring(*each), float)]]) for each in corners]
    labels, told = outlines.draw(made, SHAPE)
    large, small = (1, 2) if order == 1 else (2, 1)
    assert (labels[5:9, 5:9] == small).all()
    assert np.count_nonzero(labels == large) == 12 * 12 - 16
    assert dict(told) == {outlines.OVERLAPS: 16}


def test_of_equal_outlines_the_later_wins_and_the_other_is_told():
    one = outlines.Outline([[np.array(ring(2, 2, 6, 6), float)]])
    outside = outlines.Outline([[np.array(ring(2, 40, 6, 44), float)]])
    far = outlines.Outline([[np.array(ring(2, 40, 6, 44), float) * 1e300]])
    labels, told = outlines.draw([one, one, outside, far], SHAPE)
    assert np.unique(labels).tolist() == [0, 2]
    assert dict(told) == {
        outlines.OVERLAPS: 16,
        outlines.HIDDEN: 1,
        outlines.TINY: 2,
    }


# === COCO ===


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
    assert len(examples(tmp_path)) == 2
    coco(tmp_path / "coco.json", BOX, names=("a.tif", "a.tif"))
    refused(tmp_path, r"names the image a\.tif twice\. Take one of them out")


def test_a_json_that_is_something_else(tmp_path):
    write(tmp_path / "a.tif", picture())
    write(tmp_path / "a_mask.tif", cells(1, 2))
    (tmp_path / "settings.json").write_text('{"images": 3}')
    assert len(examples(tmp_path)) == 1
    refused(tmp_path / "settings.json", r"no `images` and `annotations`")


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


# === Cellpose ===


@pytest.mark.parametrize("others", [0, 1])
def test_the_pickle_of_cellpose_is_refused_with_the_way_out(tmp_path, others):
    for number in range(1 + others):
        write(tmp_path / f"a{number}.tif", picture())
    for number in range(others):
        write(tmp_path / f"a{number + 1}_cp_masks.tif", cells(1, 2))
    np.save(tmp_path / "a0_seg.npy", {"masks": cells(1)}, allow_pickle=True)
    refused(tmp_path, r"a0_seg\.npy is Cellpose's own format, a pickle.*--save_tif")


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("place", ["images", "masks"])
def test_so_is_the_pickle_where_images_and_masks_lie_apart(tmp_path, place, others):
    (tmp_path / "masks").mkdir()
    for number in range(1 + others):
        write(tmp_path / "images" / f"a{number}.tif", picture())
    for number in range(others):
        write(tmp_path / "masks" / f"a{number + 1}.tif", cells(1, 2))
    file = tmp_path / place / "a0_seg.npy"
    np.save(file, {"masks": cells(1)}, allow_pickle=True)
    refused(tmp_path, r"a0_seg\.npy is Cellpose's own format, a pickle.*--save_tif")


def test_the_pickle_of_cellpose_does_not_disturb_beside_masks(tmp_path):
    write(tmp_path / "a.tif", picture())
    write(tmp_path / "a_cp_masks.tif", cells(1, 2))
    np.save(tmp_path / "a_seg.npy", {"masks": cells(1)}, allow_pickle=True)
    np.testing.assert_array_equal(examples(tmp_path)[0].labels, cells(1, 2))


# === Larger than the memory ===


def test_what_is_too_large_is_read_again_and_the_same(tmp_path, monkeypatch):
    for number in range(5):
        write(tmp_path / "images" / f"a{number}.tif", picture(number, 2))
        write(tmp_path / "masks" / f"a{number}.tif", np.stack([cells(255)] * 2))
    kept = catalog.open_dataset(tmp_path, validation=0.3)
    monkeypatch.setattr(folders, "KEPT", 0)
    again = catalog.open_dataset(tmp_path, validation=0.3)
    assert isinstance(again.sequence("train"), catalog.Lazy)
    assert isinstance(kept.sequence("train"), list)
    assert (kept.note, kept.size_of, kept.version) == (
        again.note,
        again.size_of,
        again.version,
    )
    for split in ("train", "validation", "all"):
        pairs = zip(kept.sequence(split), again.sequence(split), strict=True)
        for one, other in pairs:
            assert one.name == other.name
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)


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
        decoded = drawings.bitmap({"size": mask.shape, "counts": encoded})
        np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("kind", ["geojson", "rois"])
def test_an_image_in_which_nothing_was_found(tmp_path, kind):
    for name, square in (("a", 0), ("b", 1)):
        image = picture()
        labels = np.zeros(image.shape[:2], "int32")
        labels[4:9, 5:12] = square
        write(tmp_path / f"{name}.tif", image)
        outputs.Result(labels, image, name=name).save(tmp_path, write=kind)
    assert [each.labels.max() for each in examples(tmp_path)] == [0, 1]
