"""What compressed pictures inside other files say of their own size."""

from __future__ import annotations

import struct

_JPEG = (6, 7, 33007, 34892)
_JPEG2000 = (33003, 33004, 33005, 34712, 34934)


# What a byte can become at most: of LZW, deflate (two numbers) and PackBits.
_DENSEST = {5: 2048, 8: 1040, 32946: 1040, 32773: 128}


def check(data: bytes, compression: int, size: tuple[int, int], room: int) -> None:
    """Refuse a segment that cannot be what fills a tile of `size`, `room` bytes.

    The decoders of JPEG and JPEG 2000 make room for what the segment says of itself,
    be it terabytes. Others make room for the tile, which a few bytes cannot fill.

    Raises:
        ValueError: which size it has, and should have.
    """
    if room > _DENSEST.get(compression, room) * len(data) + 2**16:
        message = f"{len(data)} bytes cannot hold the {room} of a segment"
        raise ValueError(message)
    claimed = None
    if compression in _JPEG:
        claimed = jpeg_size(data)
    elif compression in _JPEG2000:
        claimed = jpeg2000_size(data)
    if claimed is not None and claimed[0] * claimed[1] > 2 * size[0] * size[1] + 2**16:
        message = f"a segment of {size} pixels says that it has {claimed}"
        raise ValueError(message)


def jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) of a JPEG stream, None where it has no header.

    >>> jpeg_size(bytes.fromhex("ffd8 ffc0 0011 08 0010 0020 03"))
    (16, 32)
    """
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker, length = data[place + 1], int.from_bytes(data[place + 2 : place + 4])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 5 : place + 9])
            return height, width
        place += 1 if marker == 0xFF else 2 + max(length, 2)
    return None


def jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    """Return (height, width) of a JPEG 2000 stream, None where it has no header."""
    place = data.find(b"\xff\x4f\xff\x51", 0, 4096)
    if place < 0 or len(data) < place + 24:
        return None
    width, height, left, top = struct.unpack(">IIII", data[place + 8 : place + 24])
    return max(height - top, 0), max(width - left, 0)
