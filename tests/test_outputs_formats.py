"""Every file is opened by its own reader, and holds the objects that went in."""

from __future__ import annotations

import importlib.util
import json
import uuid

import numpy as np
import pandas
import pytest
import shapely
import shapely.geometry
import tifffile

from unet_zoo import catalog, files, images, outputs
from unet_zoo.errors import InputError
from unet_zoo.outputs import writers

SHAPE = (60, 83)


def objects(seed: int = 0) -> np.ndarray:
    """Return objects of every kind; all ids differ from their places in the order."""
    labels = np.zeros(SHAPE, int)
    labels[0:8, 0:9], labels[0:8, 9:20] = 3, 4  # touching, at the edge
    labels[12:30, 5:30] = 10
    labels[16:22, 10:20], labels[18:20, 13:15] = 0, 11  # a hole, an object in it
    labels[40, 40] = 12  # one pixel
    labels[45:50, 50:60] = labels[45:50, 70:80] = 20  # two pieces
    labels[33:36, 3:6] = [[21, 21, 21], [21, 0, 21], [21, 21, 0]]
    labels[52:60, 75:83] = 1
    random = np.random.default_rng(seed)
    labels[50:58, 5:25] = random.choice((0, 30), (8, 20))
    return labels


def many() -> np.ndarray:
    """Return 70,000 objects of two pixels."""
    ids = np.arange(1, 70_001).reshape(250, 280)
    return np.repeat(ids, 2, axis=1)


def film() -> np.ndarray:
    return np.stack([objects(seed) for seed in range(3)])


CASES = {
    "objects": objects(),
    "none": np.zeros(SHAPE, int),
    "film": film(),
    "film with an empty frame": np.stack([objects(), np.zeros(SHAPE, int)]),
    "large ids": np.where(objects() > 0, objects() + 69_970, 0),
    "many": many(),
}
FEW = [name for name in CASES if name != "many"]


def result(name: str, **options: object) -> outputs.Result:
    labels = CASES[name]
    values = np.random.default_rng(0).random((*labels.shape, 2), "float32")
    options = {
        "prediction": values,
        "foreground": lambda each: each[..., 1],
        "name": "a.tif",
        **options,
    }
    return outputs.Result(labels, labels.astype("uint16") * 3, **options)


def saved(tmp_path, kind: str, found: outputs.Result) -> list:
    return found.save(tmp_path / "out", kind, stem="a")


def drawn(polygons: list, shape: tuple[int, int]) -> np.ndarray:
    """Return labels of (label, geometry) pairs, by the pixels' centres."""
    y, x = np.mgrid[: shape[0], : shape[1]] + 0.5
    labels = np.zeros(shape, int)
    for label, geometry in polygons:
        assert geometry.is_valid, shapely.is_valid_reason(geometry)
        inside = shapely.contains_xy(geometry, x, y)
        assert not labels[inside].any(), "two objects overlap"
        labels[inside] = label
    return labels


# --- TIFF and PNG ------------------------------------------------------------


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size", [None, (0.5, 0.25)])
def test_labels(tmp_path, name, size):
    found = result(name, pixel_size=size)
    (path,) = saved(tmp_path, "labels", found)
    assert path == tmp_path / "out" / "a_masks.tif"
    with tifffile.TiffFile(path) as file:
        np.testing.assert_array_equal(file.asarray(), found.labels)
        assert file.series[0].axes == "TYX"[-found.ndim :]
        wide = found.labels.max() > 65535
        assert file.series[0].dtype == ("uint32" if wide else "uint16")
        assert file.is_ome == (size is not None)
        if size is not None:
            pixels = tifffile.xml2dict(file.ome_metadata)["OME"]["Image"]["Pixels"]
            assert (pixels["PhysicalSizeY"], pixels["PhysicalSizeX"]) == size
            assert pixels["PhysicalSizeXUnit"] == pixels["PhysicalSizeYUnit"] == "µm"
            tags = file.pages[0].tags
            numerator, denominator = tags["XResolution"].value
            assert numerator / denominator == pytest.approx(1e4 / 0.25)
    if found.labels.max() > 0:
        again = images.read(path)[..., 0]
        np.testing.assert_array_equal(again.reshape(found.shape), found.labels)


@pytest.mark.parametrize("name", FEW)
def test_mask_and_overlay(tmp_path, name):
    found = result(name)
    masks, overlays = saved(tmp_path, "mask", found), saved(tmp_path, "overlay", found)
    for number, (mask, overlay) in enumerate(zip(masks, overlays, strict=True)):
        end = f"_t{number:03d}" if found.ndim > 2 else ""
        assert mask == tmp_path / "out" / "foreground" / f"a{end}.png"
        assert overlay == tmp_path / "out" / "overlays" / f"a{end}.png"
        one = found.frames[number]
        seen = images.read_one(mask)[..., 0]
        np.testing.assert_array_equal(seen, np.where(one.labels > 0, 255, 0))
        shown = images.read_one(overlay)
        np.testing.assert_array_equal(shown, one.overlay())


@pytest.mark.parametrize("name", ["objects", "film"])
def test_probability(tmp_path, name):
    found = result(name, pixel_size=2)
    (path,) = saved(tmp_path, "probability", found)
    with tifffile.TiffFile(path) as file:
        assert file.is_ome
        assert file.series[0].axes == "TYX"[-found.ndim :]
        assert file.series[0].dtype == "float32"
        np.testing.assert_array_equal(file.asarray(), found.prediction[..., 1])
    classes = result(name, classes=True)
    (path,) = classes.save(tmp_path / "classes", "probability")
    with tifffile.TiffFile(path) as file:
        assert file.series[0].axes == "TCYX"[3 - found.ndim :].replace("TY", "CY")
        back = np.moveaxis(file.asarray(), -3, -1)
        np.testing.assert_array_equal(back, found.prediction)
        assert "background" in file.ome_metadata
        assert "class 1" in file.ome_metadata
    found.forget()
    with pytest.raises(InputError, match="segment again to write probabilities"):
        found.save(tmp_path / "again", "probability")
    assert not (tmp_path / "again").exists()


# --- Outlines ----------------------------------------------------------------


@pytest.mark.parametrize("name", FEW)
def test_geojson(tmp_path, name):
    found = result(name, pixel_size=0.5)
    (path,) = saved(tmp_path, "geojson", found)
    content = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert content["type"] == "FeatureCollection"
    rows = found.table()
    frames: list[list] = [[] for _ in found.frames]
    for feature in content["features"]:
        assert feature["type"] == "Feature"
        uuid.UUID(feature["id"])
        about = feature["properties"]
        label = int(about["name"])
        assert about["objectType"] == "detection"
        assert about["classification"]["name"] == "object"
        geometry = feature["geometry"]
        number = geometry["plane"]["t"] if found.ndim > 2 else 0
        each = geometry["coordinates"]
        each = [each] if geometry["type"] == "Polygon" else each
        assert all(ring[0] == ring[-1] for rings in each for ring in rings)
        frames[number].append((label, shapely.geometry.shape(geometry)))
        own = rows["label"] == label
        if found.ndim > 2:
            own &= rows["frame"] == number
        (row,) = rows[own].to_dict("records")
        for measured in ("area", "area_um2", "mean_intensity", "mean_confidence"):
            assert about["measurements"][measured] == pytest.approx(row[measured])
    for polygons, one in zip(frames, found.frames, strict=True):
        np.testing.assert_array_equal(drawn(polygons, SHAPE), one.labels)
        assert len(polygons) == len({label for label, _ in polygons}) == one.count
    ids = [feature["id"] for feature in content["features"]]
    assert len(set(ids)) == len(ids) == found.count


def test_geojson_of_classes(tmp_path):
    found = result("objects", classes=True)
    (path,) = saved(tmp_path, "geojson", found)
    for feature in json.loads(path.read_text())["features"]:
        about = feature["properties"]
        assert about["classification"]["name"] == f"class {about['name']}"


@pytest.mark.parametrize("name", FEW)
def test_rois(tmp_path, name):
    roifile = pytest.importorskip("roifile")
    found = result(name)
    (path,) = saved(tmp_path, "rois", found)
    rois = roifile.roiread(path) if found.count else []
    assert len(rois) == found.count
    frames: list[list] = [[] for _ in found.frames]
    for roi in rois:
        number, _, label = roi.name.rpartition("-")
        assert roi.position == (int(number[1:]) + 1 if found.ndim > 2 else 0)
        rings = [shapely.Polygon(each) for each in roi.coordinates(multi=True)]
        shape = rings[0]
        for ring in rings[1:]:  # ImageJ counts a pixel in where rings are odd
            shape = shape.symmetric_difference(ring)
        frames[max(0, roi.position - 1)].append((int(label), shape))
    for polygons, one in zip(frames, found.frames, strict=True):
        np.testing.assert_array_equal(drawn(polygons, SHAPE), one.labels)


@pytest.mark.parametrize("kind", ["geojson", "rois", "coco"])
def test_what_is_written_can_be_trained_on(tmp_path, kind):
    """Correct the outlines in QuPath or Fiji, and teach them."""
    labels = objects()
    found = outputs.Result(labels, labels.astype("uint8"), name="a.tif")
    images.write_tiff(tmp_path / "a.tif", labels.astype("uint8"), "YX")
    (path,) = found.save(tmp_path, kind, stem="a")
    if kind == "coco":
        path.rename(tmp_path / "annotations.json")
    (example,) = catalog.open_dataset(tmp_path).examples("all")
    _, expected = np.unique(labels, return_inverse=True)
    np.testing.assert_array_equal(example.labels, expected.reshape(SHAPE))


@pytest.mark.parametrize("apart", [False, True])
@pytest.mark.parametrize("kind", ["labels", "geojson", "rois"])
def test_results_of_an_ome_tiff_pair_with_it(tmp_path, kind, apart):
    labels = objects()
    found = outputs.Result(labels, labels.astype("uint8"), name="a.ome.tif")
    place, there = (
        tmp_path / name if apart else tmp_path for name in ("images", "masks")
    )
    place.mkdir(exist_ok=True)
    images.write_tiff(place / found.name, found.image, "YX", ome=True)
    found.save(there, kind)
    (example,) = catalog.open_dataset(tmp_path).examples("all")
    np.testing.assert_array_equal(example.labels > 0, labels > 0)


# Axes and their sizes, and of which axis a frame's number, from 0, are z and t.
STACKS = {
    "TYX": ((3,), lambda t: (0, t)),
    "ZYX": ((4,), lambda z: (z, 0)),
    "TZYX": ((3, 2), lambda t, z: (z, t)),
    "ZTYX": ((2, 3), lambda z, t: (z, t)),
    "TCYX": ((3, 2), lambda t: (0, t)),
    "TZCYX": ((2, 3, 2), lambda t, z: (z, t)),
}


def segmented(tmp_path, axes: str) -> tuple[outputs.Result, list]:
    """Return the result of a file with these axes, and (z, t) of its frames."""
    sizes, place = STACKS[axes]
    frames = sizes[: len(axes.rstrip("CYX"))]
    array = np.zeros((*sizes, *SHAPE), "uint8")
    tifffile.imwrite(
        tmp_path / "a.tif", array, ome=True, metadata={"axes": axes},
        photometric="minisblack",
    )  # fmt: skip
    labels = np.zeros((np.prod(frames), *SHAPE), int)
    for number in range(len(labels)):  # an object each that is nowhere else, and more
        labels[number, 2 + 4 * number : 5 + 4 * number, 3:20] = 1
        labels[number, 30:40, 30:60] = objects()[10:20, 5:35]
    with images.open_image(tmp_path / "a.tif", channel=0) as image:
        found = outputs.Result(labels, labels, name="a.tif", planes=image.planes)
    return found, [place(*each) for each in np.ndindex(*frames)]


@pytest.mark.parametrize("axes", STACKS)
@pytest.mark.parametrize("kind", ["labels", "geojson", "rois"])
def test_objects_of_a_stack_are_read_on_the_page_they_were_found_on(
    tmp_path, kind, axes
):
    found, _ = segmented(tmp_path, axes)
    found.save(tmp_path, kind, stem="a")
    examples = catalog.open_dataset(tmp_path).examples("all")
    for example, frame in zip(examples, found.labels, strict=True):
        read, expected = (
            np.unique(each, return_inverse=True)[1].reshape(SHAPE)
            for each in (example.labels, frame)
        )
        np.testing.assert_array_equal(read, expected)


@pytest.mark.parametrize("axes", STACKS)
def test_outlines_say_their_z_and_t_as_qupath_and_imagej_count_them(tmp_path, axes):
    roifile = pytest.importorskip("roifile")
    found, places = segmented(tmp_path, axes)
    plain, zipped = found.save(tmp_path, ("geojson", "rois"), stem="a")
    planes = [
        each["geometry"]["plane"] for each in json.loads(plain.read_text())["features"]
    ]
    assert {each["c"] for each in planes} == {-1}
    assert list(dict.fromkeys((each["z"], each["t"]) for each in planes)) == places
    for roi in roifile.roiread(zipped):
        number = int(roi.name[1:4])
        z, t = places[number]
        hyperstack = len(axes) > 3  # of several axes ImageJ makes one
        seen = (roi.position, roi.c_position, roi.z_position, roi.t_position)
        assert seen == ((0, 0, z + 1, t + 1) if hyperstack else (number + 1, 0, 0, 0))


@pytest.mark.parametrize("axes", STACKS)
@pytest.mark.parametrize("pixel_size", [None, 0.5])
def test_z_of_a_stack_stays_z(tmp_path, axes, pixel_size):
    zarr = pytest.importorskip("zarr")
    found, places = segmented(tmp_path, axes)
    found.pixel_size = pixel_size
    found.forget(lambda: found.labels[..., None] > 0)
    found._foreground = lambda prediction: prediction[..., 0]
    masks, chances, folder = found.save(
        tmp_path, ("labels", "probability", "ome-zarr"), stem="b"
    )
    letters = axes.replace("C", "")
    for path, expected in ((masks, found.labels), (chances, found.labels > 0)):
        with tifffile.TiffFile(path) as file:
            assert file.series[0].axes == letters
            stored = file.asarray()
        assert stored.shape[:-2] == STACKS[axes][0][: len(letters) - 2]
        np.testing.assert_array_equal(stored.reshape(found.shape), expected)
    group = zarr.open_group(str(folder), mode="r")
    for layer, names in ((group["labels/objects"], "tzyx"), (group, "tczyx")):
        (scales,) = layer.attrs["multiscales"]
        there = [name for name in names if name.upper() in f"C{letters}"]
        assert [each["name"] for each in scales["axes"]] == there
        assert all(
            "unit" not in each for each in scales["axes"] if each["name"] in "zt"
        )
        for frame, (z, t) in zip(found.labels, places, strict=True):
            index = tuple({"z": z, "t": t}.get(name, slice(None)) for name in there)
            np.testing.assert_array_equal(np.squeeze(layer["0"][index]), frame)


# --- Lists -------------------------------------------------------------------


@pytest.mark.filterwarnings(
    "ignore:__array__ implementation:DeprecationWarning"  # in pycocotools
)
@pytest.mark.parametrize("name", FEW)
def test_coco(tmp_path, name, capsys):
    tools = pytest.importorskip("pycocotools.coco")
    found = result(name)
    (path,) = saved(tmp_path, "coco", found)
    read = tools.COCO(str(path))
    capsys.readouterr()  # it prints
    assert len(read.imgs) == len(found.frames)
    for number, one in zip(sorted(read.imgs), found.frames, strict=True):
        page = f"[{number - 1}]" if found.ndim > 2 else ""
        assert read.imgs[number]["file_name"] == f"a.tif{page}"
        annotations = read.imgToAnns[number]
        assert len(annotations) == one.count
        again = np.zeros(one.shape, int)
        for annotation in annotations:
            again[read.annToMask(annotation) > 0] = annotation["label"]
        np.testing.assert_array_equal(again, one.labels)


@pytest.mark.parametrize("name", FEW)
def test_csv_and_parquet(tmp_path, name):
    found = result(name, pixel_size=0.5)
    csv, parquet = saved(tmp_path, ("csv", "parquet"), found)
    frame = pandas.read_csv(csv)
    assert frame.columns[:3].tolist() == ["image", "frame", "label"]
    assert len(frame) == found.count
    expected = [
        (number, label)
        for number, one in enumerate(found.frames)
        for label in np.unique(one.labels[one.labels > 0]).tolist()
    ]
    assert list(zip(frame["frame"], frame["label"], strict=True)) == expected
    assert set(frame["image"]) <= {"a.tif"}
    stored = pandas.read_parquet(parquet)
    if found.count:
        pandas.testing.assert_frame_equal(stored, frame, check_dtype=False)
    assert stored.columns.tolist() == frame.columns.tolist()
    assert frame["area"].sum() == np.count_nonzero(found.labels)


# --- OME-Zarr ----------------------------------------------------------------


@pytest.mark.parametrize("name", ["objects", "none", "film", "many"])
@pytest.mark.parametrize("size", [None, (0.5, 0.25)])
def test_ome_zarr(tmp_path, name, size):
    zarr = pytest.importorskip("zarr")
    models = pytest.importorskip("ome_zarr_models.v04")
    found = result(name, pixel_size=size)
    (path,) = saved(tmp_path, "ome-zarr", found)
    assert path.name == "a.ome.zarr"
    root = zarr.open_group(str(path), mode="r")
    # The format's own rules, for the image and for the labels.
    image = models.Image.from_zarr(root).attributes.multiscales[0]
    layer = models.ImageLabel.from_zarr(root["labels/objects"]).attributes
    assert models.Labels.from_zarr(root["labels"]).attributes.labels == ["objects"]
    assert layer.image_label.source.image == "../../"
    stack = found.ndim > 2
    for scales, names in ((image, "tcyx"), (layer.multiscales[0], "tyx")):
        names = names if stack else names[1:]
        assert "".join(axis.name for axis in scales.axes) == names
        scale = dict(
            zip(
                names,
                scales.datasets[0].coordinateTransformations[0].scale,
                strict=True,
            )
        )
        assert (scale["y"], scale["x"]) == (size or (1, 1))
        units = {axis.unit for axis in scales.axes if axis.type == "space"}
        assert units == ({None} if size is None else {"micrometer"})
    labels = root["labels/objects/0"]
    assert labels.dtype == ("uint32" if found.labels.max() > 65535 else "uint16")
    np.testing.assert_array_equal(labels[:], found.labels)
    pixels = np.moveaxis(root["0"][:], -3, -1)[..., 0]
    np.testing.assert_array_equal(pixels, found.image)
    assert root["0"].dtype == found.image.dtype


@pytest.mark.parametrize("name", ["objects", "none", "film"])
def test_ome_zarr_is_read_by_the_consortiums_reader(tmp_path, name):
    # It brings clients of cloud storage, so it is no requirement of the tests; with
    # `pip install ome-zarr` this runs.
    reader = pytest.importorskip("ome_zarr.reader")
    from ome_zarr.io import parse_url

    found = result(name, pixel_size=(0.5, 0.25))
    (path,) = saved(tmp_path, "ome-zarr", found)
    nodes = list(reader.Reader(parse_url(str(path)))())
    image, labels = nodes[0], nodes[-1]
    assert [type(each).__name__ for each in labels.specs] == ["Label", "Multiscales"]
    np.testing.assert_array_equal(np.asarray(labels.data[0]), found.labels)
    pixels = np.moveaxis(np.asarray(image.data[0]), -3, -1)[..., 0]
    np.testing.assert_array_equal(pixels, found.image)
    (scale,) = image.metadata["coordinateTransformations"][0]
    assert scale["scale"][-2:] == [0.5, 0.25]


def test_ome_zarr_has_levels_of_detail_and_channels(tmp_path):
    zarr = pytest.importorskip("zarr")
    random = np.random.default_rng(0)
    labels = np.zeros((1501, 2100), int)
    labels[100:900, 200:1700] = 5
    image = random.integers(0, 200, (1501, 2100, 2)).astype("uint8")
    found = outputs.Result(labels, image, pixel_size=0.5)
    (path,) = found.save(tmp_path / "a.ome.zarr")
    root = zarr.open_group(str(path), mode="r")
    assert root["0"].shape == (2, 1501, 2100)
    assert root["1"].shape == (2, 751, 1050)
    assert root["2"].shape == (2, 376, 525)
    levels = root["labels/objects"]
    for level in range(3):
        np.testing.assert_array_equal(
            levels[str(level)][:], labels[:: 2**level, :: 2**level]
        )
    expected = image[:1500].reshape(750, 2, 1050, 2, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(
        np.moveaxis(root["1"][:, :750], 0, -1), expected, atol=0.51
    )
    second = root.attrs["multiscales"][0]["datasets"][2]["coordinateTransformations"]
    assert second[0]["scale"] == [1, 2.0, 2.0]
    assert second[1]["translation"] == [0, 0.75, 0.75]


# --- The Cell Tracking Challenge ---------------------------------------------


def moving(frames: int = 6) -> np.ndarray:
    """Return a film: one object wanders, one divides, one leaves, one comes."""
    labels = np.zeros((frames, 40, 60), int)
    for t in range(frames):
        labels[t, 2:10, 2 + 3 * t : 12 + 3 * t] = 90 - t
        if t < 3:
            labels[t, 15:25, 20:40] = 7
            labels[t, 30:38, 0:8] = 1 + t
        else:
            labels[t, 15:25, 20:29], labels[t, 15:25, 31:40] = 3, 4
            labels[t, 30:38, 50:58] = 9
    return labels


def test_objects_are_linked_by_overlap():
    labels = moving()
    tracked, tracks = outputs.link(labels)
    assert tracks.tolist() == [
        [1, 0, 2, 0],  # leaves
        [2, 0, 2, 0],  # divides
        [3, 0, 5, 0],  # wanders
        [4, 3, 5, 2],
        [5, 3, 5, 2],
        [6, 3, 5, 0],  # comes
    ]
    for frame, numbers in zip(labels, tracked, strict=True):
        pairs = np.unique(np.stack([frame.ravel(), numbers.ravel()]), axis=1)
        assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1]))
        assert (pairs[:, 0] == 0).all()


def test_fragments_are_no_daughters_and_overlap_must_be_enough():
    film = np.zeros((2, 20, 20), int)
    film[0, 2:12, 2:12] = 1
    film[1, 2:12, 2:10], film[1, 2:4, 11] = 1, 2
    assert outputs.link(film)[1].tolist() == [[1, 0, 1, 0], [2, 1, 1, 0]]
    film[1] = 0
    film[1, 2:12, 10:20] = 1
    assert outputs.link(film)[1].tolist() == [[1, 0, 0, 0], [2, 1, 1, 0]]


@pytest.mark.parametrize("name", ["moving", "gap", "objects", "film"])
def test_ctc_is_valid_to_the_checker(tmp_path, name, capsys):
    validate = pytest.importorskip("ctc_metrics.scripts.validate")
    labels = {
        "moving": moving(),
        "gap": np.stack([*moving(4), np.zeros((40, 60), int), *moving(3)]),
        **CASES,
    }[name]
    found = outputs.Result(labels, np.zeros(labels.shape), name="a")
    (folder,) = found.save(tmp_path, "ctc", stem="01")
    assert folder.name == "01_RES"
    names = [f"mask{n:03d}.tif" for n in range(len(found.frames))]
    assert sorted(path.name for path in folder.iterdir()) == [*names, "res_track.txt"]
    for mask, one in zip(names, found.frames, strict=True):
        pixels = tifffile.imread(folder / mask)
        assert pixels.dtype == np.uint16
        # The same objects under other numbers.
        pairs = np.unique(np.stack([pixels.ravel(), one.labels.ravel()]), axis=1)
        assert len(pairs[0]) == len(set(pairs[0])) == len(set(pairs[1])) >= 1
    if name == "gap":
        with pytest.warns(UserWarning, match=r"Empty frame 4\."):
            valid = validate.validate_sequence(str(folder), threads=1)
    else:
        valid = validate.validate_sequence(str(folder), threads=1)
    assert valid == {"Valid": 1}


def test_films_that_cannot_be_written(tmp_path):
    folder = tmp_path / "01_RES"
    frames = [np.zeros((4, 5), int), np.zeros((4, 6), int)]
    with pytest.raises(InputError, match=r"Frame 1 is of \(4, 6\)"):
        outputs.write_ctc(folder, frames, 2)
    with pytest.raises(InputError, match="more than 65535 tracks"):
        outputs.write_ctc(folder, [many()], 1)
    assert not list(tmp_path.iterdir())
    assert outputs.write_ctc(folder, [np.zeros((4, 5), int)] * 2, 1001) == 0
    assert {path.name for path in folder.iterdir()} == {
        "mask0000.tif",
        "mask0001.tif",
        "res_track.txt",
    }


# --- The table of writers ----------------------------------------------------


def test_every_writer_keeps_to_the_table(tmp_path):
    found = result("film")
    for name, writer in outputs.WRITERS.items():
        paths = found.save(tmp_path / name, name, stem="a")
        assert paths == writer.paths(tmp_path / name, "a", 3)
        assert all(path.is_dir() == writer.folder for path in paths)
        files = {path for path in (tmp_path / name).rglob("*") if path.is_file()}
        if not writer.folder:
            assert files == set(paths)
        with pytest.raises(InputError, match="is there already"):
            found.save(tmp_path / name, name, stem="a")
        before = sorted(files)
        found.save(tmp_path / name, name, stem="a", overwrite=True)
        again = {path for path in (tmp_path / name).rglob("*") if path.is_file()}
        assert sorted(again) == before
        assert writer.what
        assert len(f"{name} {writer.pattern} {writer.what}") < 110


@pytest.mark.parametrize("name", outputs.WRITERS)
def test_results_of_nothing_can_be_written(tmp_path, name):
    found = result("none")
    (path,) = found.save(tmp_path, name)
    assert path.exists()


def test_unknown_names_and_missing_packages(tmp_path, monkeypatch):
    found = result("objects")
    with pytest.raises(InputError, match="Did you mean 'geojson'"):
        found.save(tmp_path / "out", ("labels", "geojsn"))
    there = importlib.util.find_spec

    def without(name: str, *more: object) -> object:
        return None if name in ("zarr", "roifile", "pyarrow") else there(name, *more)

    monkeypatch.setattr(writers.importlib.util, "find_spec", without)
    for name, extra in (("ome-zarr", "zarr"), ("rois", "imagej")):
        with pytest.raises(InputError, match=rf"pip install 'unet-zoo\[{extra}\]'"):
            found.save(tmp_path / "out", ("labels", name))
    assert not (tmp_path / "out").exists()


def test_all_or_nothing(tmp_path):
    found = result("objects")
    found.forget()  # so that probabilities cannot be written
    (tmp_path / "out" / "overlays").mkdir(parents=True)
    with pytest.raises(InputError, match="segment again"):
        found.save(tmp_path / "out", tuple(outputs.WRITERS), stem="deep")
    assert [path.name for path in (tmp_path / "out").rglob("*")] == ["overlays"]


def test_what_was_not_come_to_stays(tmp_path):
    old, new, later = (tmp_path / f"{n}.txt" for n in range(3))
    old.write_text("old")
    later.write_text("old")

    def write() -> None:
        with writers.all_or_none([old, new, later, tmp_path / "deep" / "a.txt"]):
            for path in (old, new):
                with files.replacing(path) as part:
                    part.write_text("new")
            message = "in the middle"
            raise ValueError(message)

    with pytest.raises(ValueError, match="in the middle"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["2.txt"]
    assert later.read_text() == "old"
