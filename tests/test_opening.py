"""Images opened lazily: every format, every region, what the metadata say."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile

from unet_zoo import images
from unet_zoo.errors import InputError

# (T, Z, C, Y, X), and as it must be read.
STACK = np.random.default_rng(0).integers(0, 60000, (3, 2, 4, 70, 90), np.uint16)
FRAMES = np.moveaxis(STACK, 2, -1).reshape(6, 70, 90, 4)
COLOURS = np.random.default_rng(1).integers(0, 256, (2, 70, 90, 3), np.uint8)
NAMES = ("DAPI", "GFP", "RFP", "BF")
REGIONS = (
    (slice(None), slice(None)),
    (slice(5, 30), slice(3, -7)),
    (slice(33, 34), slice(0, 1)),
    (slice(64, None), slice(80, 999)),
)


def same(path: Path, expected: np.ndarray, **options: Any) -> images.Image:
    """Open a file and compare all of it, and parts of every frame."""
    with images.open_image(path, **options) as image:
        assert image.shape == expected.shape
        assert image.dtype == expected.dtype
        for frame in range(len(expected)):
            for rows, columns in REGIONS:
                found = image.read(frame, rows, columns)
                assert found.dtype == expected.dtype
                np.testing.assert_array_equal(found, expected[frame, rows, columns])
        assert image.read(0, slice(9, 9)).shape == (0, *expected.shape[2:])
    return image


# === TIFF ===

STORED = [
    {},
    {"compression": "lzw"},
    {"compression": "zlib", "predictor": True, "tile": (32, 48)},
    {"tile": (64, 32)},
    {"compression": "zstd", "rowsperstrip": 9},
    {"bigtiff": True, "byteorder": ">", "rowsperstrip": 9},
]


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize("kind", ["ome", "shaped"])
def test_tiff(tmp_path, kind, stored):
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZCYX", "Channel": {"Name": NAMES}}
    options = {"photometric": "minisblack", "metadata": metadata, **stored}
    tifffile.imwrite(path, STACK, ome=kind == "ome", **options)
    image = same(path, FRAMES)
    assert image.note == "3 time points x 2 planes are segmented as 6 frames"
    assert not image.guessed
    assert image.channels == (NAMES if kind == "ome" else None)
    same(path, FRAMES[..., 2:3], channel=2)


def test_imagej_hyperstack(tmp_path):
    path = tmp_path / "a.tif"
    metadata = {"axes": "TZCYX", "unit": "\\u00B5m"}
    tifffile.imwrite(path, STACK, imagej=True, resolution=(2, 4), metadata=metadata)
    assert same(path, FRAMES).pixel_size == (0.25, 0.5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (32, 32), "compression": "lzw"},
        {"compression": "zlib", "ome": True},
    ],
)
def test_colours(tmp_path, options):
    path = tmp_path / "a.tif"
    metadata = {"axes": "TYXS"}
    tifffile.imwrite(path, COLOURS, photometric="rgb", metadata=metadata, **options)
    assert same(path, COLOURS).note == ""
    same(path, COLOURS[..., 1:2], channel=1)
    options = {k: v for k, v in options.items() if k != "ome"}
    planes, metadata = np.moveaxis(COLOURS, -1, 1), {"axes": "TSYX"}
    tifffile.imwrite(
        path, planes, photometric="rgb", planarconfig="separate", metadata=metadata,
        **options,
    )  # fmt: skip
    same(path, COLOURS)


def test_jpeg_in_tiff(tmp_path):
    path = tmp_path / "a.tif"
    smooth = np.linspace(0, 255, 70 * 90).reshape(70, 90).astype(np.uint8)
    tifffile.imwrite(path, smooth, compression="jpeg", tile=(32, 32))
    whole = tifffile.imread(path)
    assert abs(whole.astype(int) - smooth).max() < 30
    same(path, whole[None, ..., None])


def test_pyramids_give_the_full_resolution(tmp_path):
    options = {"tile": (32, 32), "photometric": "minisblack"}
    plane = STACK[0, 0, 0]
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", bigtiff=True) as writer:
        writer.write(plane, subifds=1, metadata={"axes": "YX"}, **options)
        writer.write(plane[::2, ::2], subfiletype=1, **options)
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(plane, metadata=None, **options)
        writer.write(plane[::2, ::2], subfiletype=1, metadata=None, **options)
    for name in ("a.ome.tif", "b.tif"):
        same(tmp_path / name, plane[None, ..., None])


def test_several_images_in_one_file_are_refused(tmp_path):
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for plane in STACK[:2, 0, 0]:
            writer.write(plane, metadata={"axes": "YX"})
    with pytest.raises(InputError, match=r"2 images \(\(70, 90\), \(70, 90\)\); save"):
        images.open_image(tmp_path / "a.ome.tif")


@pytest.mark.parametrize("stored", [{}, {"compression": "zlib", "tile": (32, 32)}])
def test_an_ome_tiff_in_several_files_is_whole_in_each(tmp_path, stored):
    """As Micro-Manager writes it, a file for each time point."""
    places = [
        f'<TiffData IFD="{z}" FirstT="{t}" FirstZ="{z}" PlaneCount="1">'
        f'<UUID FileName="{t}.ome.tif">urn:uuid:{t}</UUID></TiffData>'
        for t in range(3)
        for z in range(2)
    ]
    for t, planes in enumerate(STACK[:, :, 0]):
        told = (
            '<?xml version="1.0" encoding="UTF-8"?><OME xmlns='
            '"http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{t}"><Image ID="Image:0"><Pixels ID="Pixels:0" '
            'DimensionOrder="XYCZT" Type="uint16" SizeX="90" SizeY="70" SizeC="1" '
            f'SizeZ="2" SizeT="3">{"".join(places)}</Pixels></Image></OME>'
        )
        path = tmp_path / f"{t}.ome.tif"
        tifffile.imwrite(path, planes, description=told, metadata=None, **stored)
    for t in range(3):
        note = same(tmp_path / f"{t}.ome.tif", FRAMES[..., :1]).note
        assert note.endswith("it is one of 3 files that each stand for all of them")
    (tmp_path / "2.ome.tif").unlink()
    with pytest.raises(InputError, match="pages that its OME metadata name are miss"):
        images.open_image(tmp_path / "0.ome.tif")


def test_only_what_a_region_touches_is_decoded(tmp_path):
    """Of 16 million pixels, a tile and the rows of a mapped file are little memory."""
    plane = np.zeros((4096, 4096), np.uint16)
    options = {"photometric": "minisblack"}
    tifffile.imwrite(tmp_path / "a.tif", plane, **options)
    tifffile.imwrite(
        tmp_path / "b.tif", plane, tile=(256, 256), compression="zlib", **options
    )
    np.save(tmp_path / "c.npy", plane)
    for name in ("a.tif", "b.tif", "c.npy"):
        with images.open_image(tmp_path / name) as image:
            image.read(0, slice(0, 9), slice(0, 9))  # what is imported once
            tracemalloc.start()
            image.read(0, slice(1000, 1200), slice(3000, 3200))
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
        assert peak < 2**20, name


def test_axes_that_nothing_names_are_guessed_and_told(tmp_path):
    path = tmp_path / "a.tif"
    last = np.moveaxis(STACK[0, 0], 0, -1)
    tifffile.imwrite(path, last, photometric="minisblack", compression="lzw")
    image = same(path, last[None])
    assert image.guessed
    assert "(70, 90, 4) is taken for YXC; --axes says otherwise" in image.note
    with pytest.raises(InputError, match="leaves open"):
        images.read(path)
    pages = STACK[0, 0]
    tifffile.imwrite(path, pages, photometric="minisblack", metadata=None)
    assert "pages have no names" in same(path, pages[..., None]).note
    image = same(path, last[None], axes="cyx")
    assert not image.guessed
    assert image.note == ""
    with pytest.raises(InputError, match=r"'TCYX' names 4 axes; .*a\.tif has 3"):
        images.open_image(path, axes="TCYX")
    for wrong in ("TYY", "CZT", "Y X", ""):
        with pytest.raises(InputError, match="a letter of its own"):
            images.open_image(path, axes=wrong)


@pytest.mark.parametrize(
    "shape", [(9, 3), (9, 1), (1, 1), (5, 9, 4, 3), (2, 5, 9, 4, 3)]
)
def test_narrow_images_are_not_taken_for_colours(tmp_path, shape):
    path = tmp_path / "a.tif"
    data = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    colours = {"photometric": "rgb"} if len(shape) > 2 else {}
    tifffile.imwrite(path, data, **colours)
    expected = data.reshape(-1, 9, 4, 3) if colours else data[None, ..., None]
    np.testing.assert_array_equal(images.read(path), expected)


def test_axes_of_one_value_may_be_left_out_or_named(tmp_path):
    path = tmp_path / "a.ome.tif"
    options = {"photometric": "minisblack", "compression": "zlib"}
    tifffile.imwrite(path, STACK[:1, :1], metadata={"axes": "TZCYX"}, **options)
    for axes in ("CYX", "TZCYX", "TCYX"):
        same(path, FRAMES[:1], axes=axes)
    same(path, np.moveaxis(FRAMES[0], -1, 0)[..., None], axes="ZYX")


def test_channels_by_name(tmp_path):
    path = tmp_path / "a.ome.tif"
    metadata = {"axes": "TZCYX", "Channel": {"Name": NAMES}}
    tifffile.imwrite(path, STACK, photometric="minisblack", metadata=metadata)
    assert same(path, FRAMES[..., 1:2], channel="gfp").channels == ("GFP",)
    same(path, FRAMES[..., 3:4], channel="3")
    with pytest.raises(InputError, match="Did you mean 'DAPI'"):
        images.open_image(path, channel="DAPPI")
    alike = {"axes": "TZCYX", "Channel": {"Name": ("GFP", "gfp", "RFP", "RFP")}}
    tifffile.imwrite(tmp_path / "c.tif", STACK, ome=True, metadata=alike)
    same(tmp_path / "c.tif", FRAMES[..., 1:2], channel="gfp")
    for name in ("Gfp", "RFP"):
        with pytest.raises(InputError, match=f"several channels '{name}'; give the n"):
            images.open_image(tmp_path / "c.tif", channel=name)
    with pytest.raises(InputError, match=r"has 4 channel\(s\), counted from 0"):
        images.open_image(path, channel=4)
    np.save(tmp_path / "b.npy", COLOURS)
    with pytest.raises(InputError, match=r"without names; .*'DAPI' is not there"):
        images.open_image(tmp_path / "b.npy", channel="DAPI")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"resolution": (20000, 10000), "resolutionunit": "CENTIMETER"}, (1.0, 0.5)),
        ({"resolution": (50800, 50800), "resolutionunit": "INCH"}, (0.5, 0.5)),
        ({"resolution": (72, 72), "resolutionunit": "INCH"}, None),
        ({"resolution": (300, 300), "resolutionunit": "INCH"}, None),
        ({"resolution": (1, 1), "resolutionunit": "CENTIMETER"}, None),
        ({"resolution": (2, 2)}, None),
        (  # a TIFF of 72 dpi that was opened in ImageJ and saved
            {"resolution": (72, 72), "imagej": True, "metadata": {"unit": "inch"}},
            None,
        ),
        (
            {"resolution": (50800, 50800), "imagej": True, "metadata": {"unit": "in"}},
            (0.5, 0.5),
        ),
        (
            {"resolution": (2, 4), "imagej": True, "metadata": {"unit": "cm"}},
            (2500.0, 5000.0),
        ),
        (
            {"ome": True, "metadata": {"PhysicalSizeX": 0.5, "PhysicalSizeY": 1}},
            (1, 0.5),
        ),
        (
            {
                "ome": True,
                "metadata": {
                    "PhysicalSizeX": 650, "PhysicalSizeXUnit": "nm",
                    "PhysicalSizeY": 0.001, "PhysicalSizeYUnit": "mm",
                },
            },
            (1.0, 0.65),
        ),
        (
            {
                "ome": True,
                "metadata": {"PhysicalSizeX": 2, "PhysicalSizeXUnit": "pixel"},
            },
            None,
        ),
    ],
)  # fmt: skip
def test_pixel_sizes(tmp_path, options, expected):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, COLOURS[0, ..., 0], **options)
    with images.open_image(path) as image:
        assert image.pixel_size == expected
    with images.open_image(path, pixel_size=0.3) as image:
        assert image.pixel_size == (0.3, 0.3)
    for wrong in (0, -1, float("nan"), (1, 2, 3)):
        with pytest.raises(InputError, match="`pixel_size`"):
            images.open_image(path, pixel_size=wrong)


def test_regions_that_are_not_there(tmp_path):
    np.save(tmp_path / "a.npy", COLOURS)
    image = images.open_image(tmp_path / "a.npy")
    for frame in (-1, 2):
        with pytest.raises(InputError, match="`frame` must be 0 to 1"):
            image.read(frame)
    with pytest.raises(InputError, match="`columns` must be a slice without a step"):
        image.read(0, columns=slice(None, None, 2))


# === NPY and pictures ===


def test_npy(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, STACK)
    same(path, FRAMES, axes="TZCYX")
    np.save(path, np.asfortranarray(COLOURS[0]))
    assert "YXC" in same(path, COLOURS[:1]).note
    np.save(path, COLOURS[0, ..., 0].astype(">f8"))
    same(path, COLOURS[:1, ..., :1].astype(np.float32))
    np.save(path, np.array([[{"a": 1}]]), allow_pickle=True)
    with pytest.raises(InputError, match="objects"):
        images.open_image(path)
    for wrong in (np.zeros(5), np.zeros((2, 2), "c8"), np.zeros((0, 3))):
        np.save(path, wrong)
        with pytest.raises(InputError, match=r"a\.npy: "):
            images.open_image(path)


def test_pictures(tmp_path):
    for name, encode in (("a.png", imagecodecs.png_encode),):
        (tmp_path / name).write_bytes(encode(COLOURS[0]))
        assert same(tmp_path / name, COLOURS[:1]).note == ""


# === Zarr ===


def write_zarr(path: Path, array: np.ndarray, **options: Any) -> None:
    import zarr

    made = zarr.create_array(
        store=str(path), shape=array.shape, dtype=array.dtype, **options
    )
    made[...] = array


@pytest.mark.parametrize("chunks", [(1, 1, 1, 32, 32), (1, 1, 4, 70, 90)])
@pytest.mark.parametrize(
    "codec", [None, "Blosc", "Zstd", "GZip", "Zlib", "LZ4", "BZ2", "LZMA"]
)
def test_zarr_of_version_2(tmp_path, chunks, codec):
    import numcodecs

    path = tmp_path / "a.zarr"
    write_zarr(
        path, STACK.astype(">u2"), chunks=chunks, zarr_format=2, order="F",
        compressors=codec and getattr(numcodecs, codec)(),
    )  # fmt: skip
    same(path, FRAMES, axes="TZCYX")


@pytest.mark.parametrize("shards", [None, (1, 2, 4, 96, 64)])
@pytest.mark.parametrize("codec", [None, "BloscCodec", "ZstdCodec", "GzipCodec"])
def test_zarr_of_version_3(tmp_path, shards, codec):
    import zarr.codecs

    path = tmp_path / "a.zarr"
    codecs = None
    if codec is not None:
        codecs = (getattr(zarr.codecs, codec)(), zarr.codecs.Crc32cCodec())
    write_zarr(
        path, STACK, chunks=(1, 1, 1, 32, 32), shards=shards, compressors=codecs,
        dimension_names=["t", "z", "c", "y", "x"], fill_value=7,
    )  # fmt: skip
    assert not same(path, FRAMES).guessed
    chunk = next(each for each in path.rglob("c/*/*/*/*/*") if each.is_file())
    chunk.unlink()  # what was never written has the fill value
    with images.open_image(path) as image:
        assert (image.read_all() == 7).sum() > 100


def ome(path: Path, version: str) -> None:
    """Write an OME-Zarr image of two resolutions."""
    import zarr

    group = zarr.create_group(str(path), zarr_format=2 if version == "0.4" else 3)
    names = {"t": "time", "c": "channel", "z": "space", "y": "space", "x": "space"}
    axes: list[dict[str, str]] = [{"name": n, "type": t} for n, t in names.items()]
    for axis in axes[2:]:
        axis["unit"] = "nanometer"
    stored = STACK.transpose(0, 2, 1, 3, 4)
    levels = []
    for number, step in enumerate((1, 2)):
        array = stored[..., ::step, ::step]
        made = group.create_array(
            str(number), shape=array.shape, dtype="u2", chunks=(1, 1, 1, 32, 32)
        )
        made[...] = array
        scale = [1, 1, 500, 250.0 * step, 500 * step]
        transform = {"type": "scale", "scale": scale}
        levels.append({"path": str(number), "coordinateTransformations": [transform]})
    said = {
        "multiscales": [{"version": version, "axes": axes, "datasets": levels}],
        "omero": {"channels": [{"label": name} for name in NAMES]},
    }
    group.attrs.update(
        said if version == "0.4" else {"ome": {"version": "0.5", **said}}
    )


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr(tmp_path, version):
    path = tmp_path / "a.zarr"
    ome(path, version)
    image = same(path, FRAMES)
    assert image.pixel_size == (0.25, 0.5)
    assert image.channels == NAMES
    assert not image.guessed
    same(path, FRAMES[..., 1:2], channel="GFP")
    assert images.find(tmp_path) == [path]
    assert images.find(path) == [path]
    path.rename(tmp_path / "no-suffix")
    assert images.find(tmp_path / "no-suffix") == [tmp_path / "no-suffix"]
    outer = tmp_path / "outer.zarr"
    outer.mkdir()
    (tmp_path / "no-suffix").rename(outer / "0")  # as bioformats2raw lays it
    same(outer, FRAMES)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"shape": [-1, 5]}, "make no sense"),
        ({"chunks": [0, 5]}, "make no sense"),
        ({"chunks": [5]}, "make no sense"),
        ({"dtype": "|O"}, "object"),
        ({"dtype": "nonsense"}, "make no sense"),
        ({"filters": [{"id": "delta"}]}, "encoded by 'delta'"),
        ({"shape": [70, 10**12], "chunks": [70, 10**11]}, "the limit is"),
        ({"chunks": [70, 91]}, "damaged"),
        ({"fill_value": {}}, "make no sense"),
    ],
)
def test_zarr_that_makes_no_sense(tmp_path, change, words):
    path = tmp_path / "a.zarr"
    write_zarr(path, STACK[0, 0, 0], chunks=(70, 90), zarr_format=2)
    meta = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps(meta | change))
    with pytest.raises(InputError, match=rf"a\.zarr: .*{words}"):
        images.open_image(path).read(0, slice(0, 70), slice(0, 90))


def test_zarr_groups_that_are_no_image(tmp_path):
    path = tmp_path / "a.zarr"
    path.mkdir()
    for told, words in (
        ({}, "no Zarr array"),
        ({"plate": {"wells": [{"path": "B/2"}]}}, r"plate.*a\.zarr/B/2"),
        ({"multiscales": [{"datasets": [{"path": "../b"}]}]}, "lies at '../b'"),
        ({"multiscales": [{"datasets": [{"path": "0"}]}]}, "no array '0'"),
    ):
        (path / ".zattrs").write_text(json.dumps(told))
        with pytest.raises(InputError, match=words):
            images.open_image(path)
    (path / ".zattrs").write_text("{")
    with pytest.raises(InputError, match="damaged"):
        images.open_image(path)


def test_find_takes_what_can_be_read(tmp_path):
    for name in ("a.npy", "a_seg.npy", "b.czi", "c.txt", "d.ND2"):
        (tmp_path / name).touch()
    (tmp_path / "e.zarr").mkdir()
    (tmp_path / "f.tif").mkdir()
    names = [path.name for path in images.find(tmp_path)]
    assert names == ["a.npy", "b.czi", "d.ND2", "e.zarr"]
    with pytest.raises(InputError, match="No images"):
        images.find(tmp_path, suffixes=images.SUFFIXES)
