"""The makers' own formats, through the packages that read them."""

from __future__ import annotations

import struct

import makers
import numpy as np
import pytest

from unet_zoo import images
from unet_zoo.errors import InputError

STACK = np.random.default_rng(0).integers(0, 60000, (3, 2, 50, 70), np.uint16)
FRAMES = np.moveaxis(STACK, 1, -1)


def same(path, expected, **options):
    with images.open_image(path, **options) as image:
        assert image.shape == expected.shape
        for frame in range(len(expected)):
            np.testing.assert_array_equal(image.read(frame), expected[frame])
            part = image.read(frame, slice(13, 41), slice(20, 66))
            np.testing.assert_array_equal(part, expected[frame, 13:41, 20:66])
    return image


@pytest.mark.parametrize("compression", [0, 5, 6])
def test_czi(tmp_path, compression):
    """A mosaic is put together; the levels of its pyramid are left out."""
    pytest.importorskip("czifile")
    makers.write_czi(tmp_path / "a.czi", STACK, (32, 48), compression)
    image = same(tmp_path / "a.czi", FRAMES)
    assert image.pixel_size == (0.25, 0.5)
    assert image.channels == ("DAPI", "GFP")
    same(tmp_path / "a.czi", FRAMES[..., 1:], channel="gfp")
    content = (tmp_path / "a.czi").read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9):
        (tmp_path / "b.czi").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"b\.czi"):
            same(tmp_path / "b.czi", FRAMES)


def test_lif(tmp_path):
    pytest.importorskip("liffile")
    makers.write_lif(tmp_path / "a.lif", STACK)
    assert same(tmp_path / "a.lif", FRAMES).pixel_size == pytest.approx((0.25, 0.5))
    same(tmp_path / "a.lif", FRAMES[..., 1:], channel=1)
    content = (tmp_path / "a.lif").read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9):
        (tmp_path / "b.lif").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"b\.lif"):
            same(tmp_path / "b.lif", FRAMES)
    makers.write_lif(tmp_path / "c.lif", STACK, STACK)
    with pytest.raises(InputError, match=r"holds 2 images \('image 0', 'image 1'\)"):
        images.open_image(tmp_path / "c.lif")


def test_nd2(tmp_path):
    pytest.importorskip("nd2")
    makers.write_nd2(tmp_path / "a.nd2", STACK)
    image = same(tmp_path / "a.nd2", FRAMES)
    assert image.pixel_size == (0.5, 0.5)
    assert image.channels == ("A", "B")
    same(tmp_path / "a.nd2", FRAMES[..., 1:], channel="B")
    content = (tmp_path / "a.nd2").read_bytes()
    for share in (0.01, 0.3, 0.6, 0.9):
        (tmp_path / "b.nd2").write_bytes(content[: int(share * len(content))])
        with pytest.raises(InputError, match=r"b\.nd2"):
            same(tmp_path / "b.nd2", FRAMES)


@pytest.mark.parametrize(
    ("package", "start"),
    [
        ("czifile", b"ZISRAWFILE"),
        ("liffile", b"\x70\0\0\0"),
        ("nd2", b"\xda\xce\xbe\x0a"),
    ],
)
def test_without_its_reader(tmp_path, monkeypatch, package, start):
    """The command that installs it is named, for what the content says it is."""
    monkeypatch.setitem(__import__("sys").modules, package, None)
    path = tmp_path / "a.czi"
    path.write_bytes(start + struct.pack("<50x"))
    kind = {"czifile": "czi", "liffile": "lif", "nd2": "nd2"}[package]
    with pytest.raises(InputError, match=rf"pip install 'unet-zoo\[{kind}\]'"):
        images.open_image(path)
