"""Every format in, one layout out, and an error with a way out for the rest."""

from __future__ import annotations

import io
import os
import pathlib
import struct
import subprocess
import sys
import zipfile
import zlib

import imagecodecs
import numpy as np
import PIL.Image
import pytest
import tifffile

from unet_zoo import images
from unet_zoo.errors import InputError
from unet_zoo.images import reading

ROOT = pathlib.Path(__file__).resolve().parent.parent


def noise(*shape: int, dtype: str = "uint8", high: int = 256) -> np.ndarray:
    return np.random.default_rng(0).integers(0, high, shape).astype(dtype)


def read_or_message(path: pathlib.Path) -> np.ndarray | str:
    """Return the image, or what `InputError` says; nothing else may escape."""
    try:
        return images.read(path)
    except InputError as error:
        return str(error)


# --- reading -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "options", "shape"),
    [
        (noise(9, 7), {}, (1, 9, 7, 1)),
        (noise(9, 7), {"compression": "lzw"}, (1, 9, 7, 1)),
        (noise(9, 7), {"compression": "zlib", "predictor": True}, (1, 9, 7, 1)),
        (noise(9, 7, dtype="uint16"), {"byteorder": ">"}, (1, 9, 7, 1)),
        (noise(9, 7, dtype="float32"), {}, (1, 9, 7, 1)),
        (noise(9, 7, dtype="int16"), {}, (1, 9, 7, 1)),
        (noise(9, 7, dtype="uint32"), {"bigtiff": True}, (1, 9, 7, 1)),
        (noise(9, 7, 3), {"photometric": "rgb"}, (1, 9, 7, 3)),
        (noise(4, 9, 7, 3), {"photometric": "rgb"}, (4, 9, 7, 3)),
        (noise(6, 9, 7), {"metadata": None, "photometric": "minisblack"}, (6, 9, 7, 1)),
        (noise(1, 1), {}, (1, 1, 1, 1)),
        (
            noise(9, 7, 5),
            {"metadata": {"axes": "YXC"}, "photometric": "minisblack"},
            (1, 9, 7, 5),
        ),
    ],
)
def test_tiff(tmp_path, data, options, shape):
    path = tmp_path / "image.tif"
    tifffile.imwrite(path, data, **options)
    image = images.read(path)
    assert image.shape == shape
    assert image.dtype == data.dtype.newbyteorder("=")
    np.testing.assert_array_equal(image, data.reshape(shape))


@pytest.mark.parametrize("kind", ["imagej", "ome"])
@pytest.mark.parametrize(
    ("axes", "shape"),
    [("TYX", (5, 1)), ("ZYX", (5, 1)), ("CYX", (1, 5)), ("TCYX", (3, 2)),
     ("TZCYX", (6, 3)), ("TZYX", (6, 1))],
)  # fmt: skip
def test_tiff_axes_come_from_metadata(tmp_path, kind, axes, shape):
    lengths = {"T": 3, "Z": 2, "C": 2, "Y": 9, "X": 7}
    if len(axes) == 3:
        lengths[axes[0]] = 5
    elif axes == "TZCYX":
        lengths["C"] = 3
    data = noise(*[lengths[axis] for axis in axes], dtype="uint16", high=60000)
    path = tmp_path / ("a.ome.tif" if kind == "ome" else "a.tif")
    options = {"photometric": "minisblack", "metadata": {"axes": axes}, kind: True}
    tifffile.imwrite(path, data, **options)
    frames, channels = shape
    expected = data if "C" in axes else data[..., None, :, :]
    expected = np.moveaxis(expected.reshape(frames, channels, 9, 7), 1, -1)
    np.testing.assert_array_equal(images.read(path), expected)


def test_tiff_planar_colours(tmp_path):
    data = noise(3, 9, 7)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, data, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(images.read_one(path), np.moveaxis(data, 0, -1))


def test_tiff_dtypes_that_change(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.array([[True, False]]))
    assert images.read_one(path)[..., 0].tolist() == [[1, 0]]
    assert images.read_one(path).dtype == np.uint8
    for dtype in (np.float16, np.float64):
        tifffile.imwrite(path, np.array([[0.5, -3]], dtype))
        assert images.read_one(path)[..., 0].tolist() == [[0.5, -3]]
        assert images.read_one(path).dtype == np.float32


def test_tiff_without_names_of_axes_is_not_guessed(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise(9, 7, 3, dtype="uint16"), photometric="minisblack")
    with pytest.raises(InputError, match=r"leaves open.*'axes': 'YXC'"):
        images.read(path)


def test_tiff_of_different_images(tmp_path):
    path = tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as writer:
        writer.write(noise(9, 7), metadata=None)
        writer.write(noise(4, 5), metadata=None)
    with pytest.raises(InputError, match=r"a\.tif: it holds 2 images"):
        images.read(path)


@pytest.mark.parametrize(
    "second",
    [
        '<TiffData FirstT="1" IFD="0" PlaneCount="1">'
        '<UUID FileName="b.ome.tif">urn:uuid:2</UUID></TiffData>',
        "",
    ],
)
def test_ome_pages_that_are_missing(tmp_path, second):
    """tifffile fills what is absent with zeros; that must not pass for an image."""
    xml = tifffile.OmeXml()
    xml.addimage("uint8", (2, 9, 7), (2, 1, 1, 9, 7, 1), axes="TYX")
    whole = '<TiffData IFD="0" PlaneCount="2"/>'
    assert whole in xml.tostring()
    first = '<TiffData FirstT="0" IFD="0" PlaneCount="1"/>'
    text = xml.tostring().replace(whole, first + second)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, noise(9, 7), description=text, metadata=None)
    with pytest.raises(InputError, match=r"a\.ome\.tif: pages .* are missing"):
        images.read(path)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "1"])
@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_pictures_by_pillow(tmp_path, mode, suffix):
    if suffix == ".bmp" and mode == "I;16":
        pytest.skip("BMP holds 8 bits")
    path = tmp_path / f"a{suffix}"
    data = {
        "L": noise(9, 7),
        "RGB": noise(9, 7, 3),
        "I;16": noise(9, 7, dtype="uint16", high=65536),
        "1": noise(9, 7, high=2).astype(bool),
    }[mode]
    PIL.Image.fromarray(data).save(path)
    image = images.read(path)
    assert image.shape == (1, *data.shape[:2], 3 if mode == "RGB" else 1)
    assert image.dtype == (np.uint16 if mode == "I;16" else np.uint8)
    if mode == "1" and suffix == ".bmp":
        image = image > 0
    np.testing.assert_array_equal(image[0], data.reshape(image.shape[1:]))


@pytest.mark.parametrize("shape", [(9, 7), (9, 7, 3)])
def test_png_of_16_bits_keeps_them(tmp_path, shape):
    """Pillow alone would keep the high byte of colours."""
    data = noise(*shape, dtype="uint16", high=65536)
    path = tmp_path / "a.png"
    path.write_bytes(imagecodecs.png_encode(data))
    np.testing.assert_array_equal(images.read_one(path), data.reshape(9, 7, -1))


def test_palettes_become_colours_or_stay_indices(tmp_path):
    indices = noise(9, 7, high=4)
    colours = np.array([[0, 0, 0], [255, 0, 0], [0, 128, 0], [9, 8, 7]], np.uint8)
    picture = PIL.Image.fromarray(indices, mode=None).convert("P")
    picture.putdata(indices.ravel().tolist())
    picture.putpalette(colours.ravel().tolist())
    for name in ("a.png", "a.bmp", "a.tif"):
        picture.save(tmp_path / name)
        image = images.read_one(tmp_path / name)
        np.testing.assert_array_equal(image, colours[indices], name)
        stored = images.read_one(tmp_path / name, indices=True)
        np.testing.assert_array_equal(stored[..., 0], indices, name)


@pytest.mark.parametrize("depth", ["uint8", "uint16"])
@pytest.mark.parametrize("channels", [2, 4])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_alpha_is_dropped_only_when_opaque(tmp_path, depth, channels, suffix):
    data = noise(9, 7, channels, dtype=depth)
    data[..., -1] = np.iinfo(depth).max
    path = tmp_path / f"a{suffix}"

    def write() -> None:
        if suffix == ".png":
            path.write_bytes(imagecodecs.png_encode(data))
        else:
            kind = "rgb" if channels == 4 else "minisblack"
            options = {"photometric": kind, "planarconfig": "contig"}
            tifffile.imwrite(path, data, extrasamples=["unassalpha"], **options)

    write()
    np.testing.assert_array_equal(images.read_one(path), data[..., :-1])
    data[2:4, 3, -1] = 0
    write()
    with pytest.raises(InputError, match=r"a\.\w+: 2 of its 63 pixels are transparent"):
        images.read(path)


def test_transparent_palette(tmp_path):
    picture = PIL.Image.fromarray(noise(9, 7, high=2)).convert("P")
    picture.save(tmp_path / "a.png", transparency=0)
    with pytest.raises(InputError, match="transparent"):
        images.read(tmp_path / "a.png")


def test_jpeg(tmp_path):
    data = np.zeros((16, 8, 3), np.uint8)
    data[:8] = (200, 100, 50)
    PIL.Image.fromarray(data).save(tmp_path / "a.jpg", quality=95)
    image = images.read_one(tmp_path / "a.jpg").astype(int)
    assert abs(image - data).mean() < 3
    turned = PIL.Image.Exif()
    turned[0x0112] = 6
    PIL.Image.fromarray(data).save(tmp_path / "b.jpeg", exif=turned)
    upright = images.read_one(tmp_path / "b.jpeg")
    assert upright.shape == (8, 16, 3)
    assert upright[:, :7].max() < 30 < upright[:, 9:].max()
    PIL.Image.fromarray(data[..., 0]).save(tmp_path / "c.jpg")
    assert images.read_one(tmp_path / "c.jpg").shape == (16, 8, 1)
    PIL.Image.fromarray(data).convert("CMYK").save(tmp_path / "d.jpg")
    with pytest.raises(InputError, match="CMYK"):
        images.read(tmp_path / "d.jpg")


@pytest.mark.parametrize(
    ("mode", "name"), [("CMYK", "CMYK"), ("LAB", r"L\*a\*b\*"), ("YCbCr", "YCbCr")]
)
def test_colours_that_are_not_rgb_are_refused(tmp_path, mode, name):
    picture = PIL.Image.fromarray(noise(16, 8, 3)).convert(mode)
    picture.save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=f"its colours are {name}; convert it to RGB"):
        images.read(tmp_path / "a.tif")
    picture.convert("RGB").save(tmp_path / "b.tif", compression="jpeg")  # as YCbCr
    images.read(tmp_path / "b.tif")


def test_content_counts_not_suffix(tmp_path):
    PIL.Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    (tmp_path / "a.png").rename(tmp_path / "a.jpg")
    np.testing.assert_array_equal(
        images.read_one(tmp_path / "a.jpg")[..., 0], noise(9, 7)
    )


def test_animation(tmp_path):
    frames = [PIL.Image.fromarray(noise(9, 7) // n) for n in (1, 2)]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    with pytest.raises(InputError, match="animated"):
        images.read(tmp_path / "a.png")


def test_one_frame_is_not_a_stack(tmp_path):
    images.write_labels(tmp_path / "a.tif", noise(3, 9, 7))
    with pytest.raises(InputError, match=r"a\.tif: it holds 3 frames"):
        images.read_one(tmp_path / "a.tif")


# --- files that cannot be read -----------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.png", b"these are only words", "content is not TIFF, PNG, JPEG or BMP"),
        ("a.png", b"", "empty"),
        ("a.tif", b"", "empty"),
        ("a.tif", b"II*\0", "damaged or truncated"),
        ("a.tif", b"II*\0\x08\0\0\0", "damaged or truncated"),
        ("a.png", b"\x89PNG\r\n\x1a\n", "damaged or truncated"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "damaged or truncated"),
        ("a.bmp", b"BM", "damaged or truncated"),
        ("a.gif", b"GIF89a", r"suffix '\.gif' is not supported; supported: \.tif,"),
        ("a", b"", "names without one are not supported"),
    ],
)
def test_no_image(tmp_path, name, content, words):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=rf"{name}: .*{words}"):
        images.read(tmp_path / name)


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98])
@pytest.mark.parametrize("compression", [None, "lzw", "zlib"])
@pytest.mark.parametrize(
    "options", [{}, {"imagej": True}, {"ome": True}, {"metadata": None}]
)
def test_truncated_stack(tmp_path, share, compression, options):
    """No part of a stack ever passes for the whole: the truth, or an error."""
    data = noise(6, 33, 31)
    path = tmp_path / "a.tif"
    options = {"metadata": {"axes": "TYX"}, "photometric": "minisblack", **options}
    tifffile.imwrite(path, data, compression=compression, **options)
    assert images.read(path).shape == (6, 33, 31, 1)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    outcome = read_or_message(path)
    if isinstance(outcome, str):
        assert "a.tif" in outcome
    else:
        np.testing.assert_array_equal(outcome[..., 0], data)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp"])
@pytest.mark.parametrize("shape", [(33, 31), (33, 31, 3)])
def test_truncated_picture(tmp_path, share, suffix, shape):
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(noise(*shape)).save(path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match=rf"a\{suffix}: it is damaged or truncated"):
        images.read(path)


@pytest.mark.parametrize("suffix", [".tif", ".png", ".bmp", ".jpg"])
def test_any_flipped_byte_is_an_image_or_an_input_error(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    PIL.Image.fromarray(noise(9, 7)).save(path)
    content = path.read_bytes()
    outcomes = set()
    for place in range(0, min(len(content), 300)):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 0x5A]) + content[place + 1 :]
        )
        outcome = read_or_message(path)
        assert not isinstance(outcome, str) or path.name in outcome
        outcomes.add(type(outcome))
    assert outcomes == {np.ndarray, str}


def test_bomb(tmp_path):
    """A header that asks for a lot is refused before memory is."""
    header = struct.pack(">IIBBBBB", 10**6, 10**6, 8, 0, 0, 0, 0)
    chunk = b"IHDR" + header
    content = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", len(header))
        + chunk
        + struct.pack(">I", zlib.crc32(chunk))
        + struct.pack(">I", 0)
        + b"IDAT"
        + struct.pack(">I", zlib.crc32(b"IDAT"))
    )
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(InputError, match=r"1000000000000 values, more than its 45"):
        images.read(tmp_path / "a.png")
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, noise(16, 16), metadata=None)
    content = buffer.getvalue()
    for tag in (256, 257):  # width and height become a million
        old, new = (struct.pack("<HHII", tag, 4, 1, size) for size in (16, 10**6))
        assert content.count(old) == 1
        content = content.replace(old, new)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match=r"pixels end at byte 10000000\d{5}, the file"):
        images.read(tmp_path / "a.tif")
    header = zlib.compress(bytes(999))  # compressed, a terabyte would be possible
    content = content.replace(
        struct.pack("<HHII", 259, 3, 1, 1), struct.pack("<HHII", 259, 3, 1, 8)
    )
    (tmp_path / "a.tif").write_bytes(content + header)
    with pytest.raises(InputError, match=r"1000000000000 values.*raise .*MAX_VALUES"):
        images.read(tmp_path / "a.tif")


def test_limit_can_be_raised(tmp_path, monkeypatch):
    PIL.Image.fromarray(noise(9, 7)).save(tmp_path / "a.png")
    monkeypatch.setattr(reading, "MAX_VALUES", 62)
    with pytest.raises(InputError, match="the limit is 62"):
        images.read(tmp_path / "a.png")
    monkeypatch.setattr(reading, "MAX_VALUES", 63)
    assert images.read(tmp_path / "a.png").size == 63


def test_folder_and_missing_file(tmp_path):
    (tmp_path / "image_001.tif").touch()
    with pytest.raises(InputError, match="it is a folder"):
        images.read(tmp_path)
    with pytest.raises(InputError, match=r"Did you mean .*image_001\.tif"):
        images.read(tmp_path / "image_01.tif")
    with pytest.raises(InputError, match="nor does the folder"):
        images.read(tmp_path / "absent" / "image.tif")


def test_permission_denied(tmp_path):
    path = tmp_path / "a.png"
    PIL.Image.fromarray(noise(9, 7)).save(path)
    path.chmod(0)
    if os.geteuid() != 0:
        with pytest.raises(InputError, match=r"a\.png: permission denied"):
            images.read(path)
        return
    # The superuser may read everything: drop the rights in a process of its own.
    code = (
        "import os, sys\n"
        "from unet_zoo import images\n"
        "os.setuid(65534)\n"
        "try: images.read(sys.argv[1])\n"
        "except ValueError as error: sys.exit(str(error))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(path)],
        capture_output=True, text=True, cwd=ROOT, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stderr.strip() == f"Cannot read {path}: permission denied"


def test_real_frame(shared_data, tmp_path):
    """A frame of DIC-C2DH-HeLa is LZW-compressed, its gold truth uint16."""
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        names = [
            n
            for n in archive.namelist()
            if n.endswith(("01/t002.tif", "man_seg002.tif"))
        ]
        for name in names:
            (tmp_path / pathlib.Path(name).name).write_bytes(archive.read(name))
    image = images.read_one(tmp_path / "t002.tif")
    assert image.shape == (512, 512, 1)
    assert image.dtype == np.uint8
    assert 80 < image.mean() < 160
    labels = images.read_one(tmp_path / "man_seg002.tif", indices=True)
    assert labels.dtype == np.uint16
    assert 5 < len(np.unique(labels)) < 20


# --- finding -----------------------------------------------------------------


def test_find(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner.tif").mkdir(parents=True)
    for name in ("t10.tif", "t2.TIF", "T1.png", ".t3.tif", "readme.txt", "t02.tif"):
        (folder / name).touch()
    single = tmp_path / "z.png"
    single.touch()
    found = images.find([single, str(folder), single])
    expected = ["z.png", "T1.png", "t02.tif", "t2.TIF", "t10.tif", "z.png"]
    assert [path.name for path in found] == expected
    assert images.find(str(single)) == [single]


def test_find_nothing(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(InputError, match=r"No images in .*1 other entries.*\.tif"):
        images.find(tmp_path)
    with pytest.raises(InputError, match=r"Did you mean .*notes\.txt"):
        images.find([tmp_path / "note.txt"])
    with pytest.raises(InputError, match=r"'\.txt' is not supported"):
        images.find([tmp_path / "notes.txt"])


def test_masks_beside_their_images_are_no_images(tmp_path):
    for name in ("a.tif", "a_masks.tif", "b_mask.png", "c.png", "c_cp_masks.tif"):
        (tmp_path / name).touch()
    names = [path.name for path in images.find(tmp_path)]
    assert names == ["a.tif", "b_mask.png", "c.png"], "b_mask is no mask: there is no b"
    assert len(images.find(tmp_path, masks=True)) == 5
    asked = [tmp_path / "a_masks.tif"]
    assert images.find(asked) == asked, "a file that is named is taken"
