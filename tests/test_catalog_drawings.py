"""Outlines drawn in ImageJ and QuPath: each gives the labels that it means."""

from __future__ import annotations

import json
import sys
import zipfile

import numpy as np
import pytest
from test_catalog_formats import SHAPE, cells, examples, picture, refused, write

from unet_zoo import catalog, outputs
from unet_zoo.catalog import drawings, outlines

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


# === Written here ===


@pytest.mark.parametrize("kind", ["geojson", "rois"])
def test_an_image_in_which_nothing_was_found(tmp_path, kind):
    for name, square in (("a", 0), ("b", 1)):
        image = picture()
        labels = np.zeros(image.shape[:2], "int32")
        labels[4:9, 5:12] = square
        write(tmp_path / f"{name}.tif", image)
        outputs.Result(labels, image, name=name).save(tmp_path, write=kind)
    assert [each.labels.max() for each in examples(tmp_path)] == [0, 1]
