"""Small CZI, LIF and ND2 files, laid out as their makers publish the formats.

Nobody ships samples of a few kilobytes; these hold what a reader needs, no more.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np

# === Zeiss: ZISRAW segments, a directory, one block per tile of a mosaic ===

_CZI = """<ImageDocument><Metadata><Information><Image><Dimensions><Channels>
<Channel Id="Channel:0" Name="DAPI"/><Channel Id="Channel:1" Name="GFP"/>
</Channels></Dimensions></Image></Information><Scaling><Items>
<Distance Id="X"><Value>5e-07</Value></Distance>
<Distance Id="Y"><Value>2.5E-07</Value></Distance>
</Items></Scaling></Metadata></ImageDocument>"""


def write_czi(
    path: Path, stack: np.ndarray, tile: tuple[int, int], compression: int = 0
) -> None:
    """Write uint16 (T, C, Y, X) as a mosaic of tiles, and a coarser level of it."""
    content = bytearray(_segment("ZISRAWFILE", bytes(512)))
    entries = []
    blocks = [
        (t, c, y, x, stack[t, c, y : y + tile[0], x : x + tile[1]], 1)
        for t in range(stack.shape[0])
        for c in range(stack.shape[1])
        for y in range(0, stack.shape[2], tile[0])
        for x in range(0, stack.shape[3], tile[1])
    ]
    coarse = stack[0, 0, : tile[0] // 2 * 2 : 2, : tile[1] // 2 * 2 : 2]
    blocks.append((0, 0, 0, 0, coarse + 1, 2))  # of a pyramid: must not be seen
    for number, (t, c, y, x, pixels, step) in enumerate(blocks):
        height, width = pixels.shape
        sizes = (
            (b"X", x, width * step, width),
            (b"Y", y, height * step, height),
            (b"C", c, 1, 1),
            (b"T", t, 1, 1),
            (b"M", number, 1, 1),
        )
        place = len(content)
        entry = struct.pack(
            "<2siqiiBB4si", b"DV", 1, place, 0, compression, 0, 0, b"", len(sizes)
        )
        for name, start, size, stored in sizes:
            entry += struct.pack("<4siifi", name, start, size, 0.0, stored)
        entries.append(entry)
        data = _packed(pixels, compression)
        head = struct.pack("<iiq", 0, 0, len(data)) + entry
        head += bytes(max(0, 256 - len(head)))
        content += _segment("ZISRAWSUBBLOCK", head + data)
    directory = len(content)
    head = struct.pack("<i", len(entries)) + bytes(124)
    content += _segment("ZISRAWDIRECTORY", head + b"".join(entries))
    metadata = len(content)
    xml = _CZI.encode()
    head = struct.pack("<ii", len(xml), 0) + bytes(248)
    content += _segment("ZISRAWMETADATA", head + xml)
    header = struct.pack(
        "<iiii16s16siqqiq", 1, 0, 0, 0, b"", b"", 0, directory, metadata, 0, 0
    )
    content[32 : 32 + len(header)] = header
    path.write_bytes(content)


def _segment(name: str, data: bytes) -> bytes:
    data += bytes(-len(data) % 32)
    return struct.pack("<16sqq", name.encode(), len(data), len(data)) + data


def _packed(pixels: np.ndarray, compression: int) -> bytes:
    import imagecodecs

    data = np.ascontiguousarray(pixels, "<u2")
    if compression == 5:
        return bytes(imagecodecs.zstd_encode(data.tobytes()))
    if compression == 6:  # low and high bytes apart
        apart = data.reshape(-1, 1).view(np.uint8).T
        return b"\x03\x01\x01" + imagecodecs.zstd_encode(apart.tobytes())
    return data.tobytes()


# === Leica: XML in UTF-16, then blocks of memory ===


def write_lif(path: Path, *stacks: np.ndarray) -> None:
    """Write uint16 (T, C, Y, X), one image each; pixels of (0.25, 0.5) micrometres."""
    images, blocks = "", b""
    for number, stack in enumerate(stacks):
        images += _element(number, stack)
        name = f"MemBlock_{number}".encode("utf-16-le")
        data = np.ascontiguousarray(stack, "<u2").tobytes()
        head = struct.pack("<BQBI", 0x2A, len(data), 0x2A, len(name) // 2)
        blocks += struct.pack("<II", 0x70, len(head) + len(name)) + head + name + data
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="lif"><Children>'
        f"{images}</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    start = struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
    path.write_bytes(start + xml + blocks)


def _element(number: int, stack: np.ndarray) -> str:
    frames, channels, height, width = stack.shape
    plane = 2 * height * width
    described = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="16" '
        f'NameOfMeasuredQuantity="" Min="0" Max="65535" Unit="" LUTName="Gray" '
        f'IsLUTInverted="0" BytesInc="{plane * channel}" BitInc="0"/>'
        for channel in range(channels)
    )
    sizes = (
        (1, width, 0.5e-6 * (width - 1), "m", 2),
        (2, height, 0.25e-6 * (height - 1), "m", 2 * width),
        (4, frames, 1.0, "s", plane * channels),
    )
    axes = "".join(
        f'<DimensionDescription DimID="{axis}" NumberOfElements="{size}" Origin="0" '
        f'Length="{length}" Unit="{unit}" BytesInc="{step}" BitInc="0"/>'
        for axis, size, length, unit, step in sizes
    )
    return (
        f'<Element Name="image {number}"><Data><Image><ImageDescription>'
        f"<Channels>{described}</Channels><Dimensions>{axes}</Dimensions>"
        f"</ImageDescription></Image></Data>"
        f'<Memory Size="{stack.nbytes}" MemoryBlockID="MemBlock_{number}"/>'
        f"<Children/></Element>"
    )


# === Nikon: chunks of 4096 bytes and their map; metadata as XML ===


def write_nd2(path: Path, stack: np.ndarray) -> None:
    """Write uint16 (T, C, Y, X); pixels of 0.5 micrometres, channels A, B, ..."""
    frames, channels, height, width = stack.shape
    attributes = _variant(
        uiWidth=width, uiWidthBytes=2 * channels * width, uiHeight=height,
        uiComp=channels, uiBpcInMemory=16, uiBpcSignificant=16,
        uiSequenceCount=frames, eCompression=2,
    )  # fmt: skip
    probe = {"m_sName": "dye"}
    planes = {
        f"a{n}": {
            "sDescription": chr(65 + n), "uiCompCount": 1, "uiColor": 255,
            "pFluorescentProbe": probe,
        }
        for n in range(channels)
    }  # fmt: skip
    metadata = _variant(
        bCalibrated=True, dCalibration=0.5, dAspect=1.0,
        sPicturePlanes={"uiCount": channels, "sPlaneNew": planes},
    )  # fmt: skip
    loop = {"uiCount": frames, "dStart": 0.0, "dPeriod": 1.0, "dDuration": 1.0}
    experiment = _variant(eType=1, uiLevelCount=1, uLoopPars=loop)
    chunks = {
        b"ImageAttributesLV!": attributes,
        b"ImageMetadataSeqLV|0!": metadata,
        b"ImageMetadataLV!": experiment,
    }
    for n, frame in enumerate(stack):
        pixels = np.ascontiguousarray(np.moveaxis(frame, 0, -1), "<u2")
        chunks[f"ImageDataSeq|{n}!".encode()] = bytes(8) + pixels.tobytes()
    content = bytearray(_chunk(b"ND2 FILE SIGNATURE CHUNK NAME01!", b"Ver3.0", 32))
    index = b""
    for name, data in chunks.items():
        content += bytes(-len(content) % 4096)
        index += name + struct.pack("<QQ", len(content), len(data))
        content += _chunk(name, data, 4072)
    content += bytes(-len(content) % 4096)
    place = len(content)
    end = b"ND2 CHUNK MAP SIGNATURE 0000001!"
    index += end + struct.pack("<Q", place)
    content += _chunk(b"ND2 FILEMAP SIGNATURE NAME 0001!", index, 32)
    path.write_bytes(content)


def _chunk(name: bytes, data: bytes, length: int) -> bytes:
    data = data.ljust(64, b"\0") if data.startswith(b"Ver") else data
    return (
        struct.pack("<IIQ", 0x0ABECEDA, length, len(data))
        + name.ljust(length, b"\0")
        + data
    )


def _variant(**values: Any) -> bytes:
    """Return values as Nikon's XML; the first letters of a name say its type."""

    def element(name: str, value: Any) -> str:
        if isinstance(value, dict):
            inner = "".join(element(*item) for item in value.items())
            return f'<{name} runtype="CLxListVariant">{inner}</{name}>'
        kind = {bool: "bool", int: "lx_uint32", float: "double", str: "CLxStringW"}
        shown = str(value).lower() if isinstance(value, bool) else value
        return f'<{name} runtype="{kind[type(value)]}" value="{shown}"/>'

    inner = "".join(element(*item) for item in values.items())
    xml = f'<variant version="1.0"><no_name runtype="CLxListVariant">{inner}'
    return f"{xml}</no_name></variant>".encode()
