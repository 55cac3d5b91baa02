"""Small real files of every format, and every way in which files go wrong.

Run as a program it reads mutated files one after another, within a limit of memory and
of time for each, and prints what came of them as JSON:

    python tests/fuzzing.py FOLDER SEED COUNT
"""

from __future__ import annotations

import collections
import io
import json
import random
import resource
import shutil
import signal
import struct
import sys
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import makers
import numpy as np
import PIL.Image
import tifffile

ROOM = 2**30  # bytes that reading a broken file may ask for
PATIENCE = 20.0  # seconds after which one file counts as a hang
EXTREMES = (0, 1, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 20)

SMALL = np.random.default_rng(0).integers(0, 4000, (2, 3, 37, 41), np.uint16)
COLOURS = (SMALL[0].transpose(1, 2, 0) // 16).astype(np.uint8)


# === Whole files ===


def samples(folder: Path) -> list[Path]:
    """Write one small file of every kind."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = {"photometric": "minisblack", "metadata": {"axes": "TCYX"}}
    tiffs: dict[str, tuple[np.ndarray, dict[str, Any]]] = {
        "plain": (SMALL[0], {"photometric": "minisblack", "metadata": None}),
        "shaped": (SMALL, {**grey, "compression": "lzw", "rowsperstrip": 10}),
        "ome": (SMALL, {**grey, "ome": True, "tile": (16, 32), "compression": "zlib"}),
        "imagej": (SMALL, {"imagej": True, "metadata": {"axes": "TCYX"}}),
        "big": (SMALL, {**grey, "bigtiff": True, "compression": "zstd"}),
        "rgb": (COLOURS, {"photometric": "rgb", "compression": "packbits"}),
        "jpeg": (COLOURS, {"photometric": "rgb", "compression": "jpeg"}),
        "float": (SMALL[0, 0] / np.float32(7), {"byteorder": ">", "predictor": True,
                                                "compression": "zlib"}),
        "bits": (SMALL[0, 0] > 2000, {"compression": "zlib"}),
        "pixel": (SMALL[0, 0, :1, :1], {}),
    }  # fmt: skip
    for name, (array, options) in tiffs.items():
        tifffile.imwrite(folder / f"{name}.tif", array, **options)
    tifffile.imwrite(folder / "j2k.tif", COLOURS, compression="jpeg2000", tile=(32, 32))
    with tifffile.TiffWriter(folder / "pyramid.ome.tif") as writer:
        writer.write(SMALL[0, 0], subifds=1, tile=(16, 16), photometric="minisblack")
        writer.write(SMALL[0, 0, ::2, ::2], subfiletype=1, photometric="minisblack")
    picture = PIL.Image.fromarray(COLOURS)
    modes = {
        "a.png": "RGB", "p.png": "P", "la.png": "RGBA", "a.bmp": "RGB", "l.bmp": "L",
        "a.jpg": "RGB", "l.jpg": "L",
    }  # fmt: skip
    for name, mode in modes.items():
        picture.convert(mode).save(folder / name)
    PIL.Image.fromarray(SMALL[0, 0]).save(folder / "deep.png")
    picture.save(folder / "progressive.jpg", progressive=True)
    np.save(folder / "a.npy", SMALL)
    np.save(folder / "f.npy", np.asfortranarray(SMALL[0, 0] / 7))
    for name, options in (
        ("v2", {"zarr_format": 2, "chunks": (1, 1, 16, 41)}),
        ("v3", {"chunks": (1, 1, 16, 16), "shards": (1, 1, 48, 48)}),
        ("gzip", {"zarr_format": 2, "chunks": (2, 3, 37, 41)}),
    ):
        _zarr(folder / f"{name}.zarr", **options)
    _ome_zarr(folder / "ome.zarr")
    makers.write_czi(folder / "a.czi", SMALL, (32, 48), 5)
    makers.write_lif(folder / "a.lif", SMALL)
    makers.write_nd2(folder / "a.nd2", SMALL)
    return sorted(each for each in folder.iterdir() if not each.name.startswith("."))


def _zarr(path: Path, **options: Any) -> None:
    import numcodecs
    import zarr

    if path.stem == "gzip":
        options["compressors"] = numcodecs.GZip()
    made = zarr.create_array(
        store=str(path), shape=SMALL.shape, dtype=SMALL.dtype, **options
    )
    made[...] = SMALL


def _ome_zarr(path: Path) -> None:
    import zarr

    group = zarr.create_group(str(path))
    made = group.create_array("0", shape=SMALL.shape, dtype="u2", chunks=(1, 3, 37, 41))
    made[...] = SMALL
    scale = [{"type": "scale", "scale": [1, 1, 0.5, 0.5]}]
    axes = [{"name": name, "unit": "micrometer"} for name in "tcyx"]
    level = {"path": "0", "coordinateTransformations": scale}
    group.attrs["ome"] = {"multiscales": [{"axes": axes, "datasets": [level]}]}


# === Broken files ===


def mutate(path: Path, draw: random.Random) -> str:
    """Break a file, or a file of a folder, in one way; say in which."""
    if path.is_dir():
        inside = sorted(each for each in path.rglob("*") if each.is_file())
        path = draw.choice(inside)
        said = path.suffix == ".json" or path.name.startswith(".z")
        if said and draw.random() < 0.7:
            return _other_value(path, draw)
        if draw.random() < 0.1:
            path.unlink()
            return "removed"
    content = bytearray(path.read_bytes())
    if path.suffix == ".tif" and draw.random() < 0.5:
        how = _other_tag(content, draw)
    else:
        how = draw.choice((_truncate, _flip, _extreme, _swap, _double))(content, draw)
    path.write_bytes(content)
    return how


def _truncate(content: bytearray, draw: random.Random) -> str:
    del content[int(len(content) * draw.random()) :]
    return "truncated"


def _flip(content: bytearray, draw: random.Random) -> str:
    for _ in range(draw.choice((1, 1, 3, 30))):
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    return "bits flipped"


def _extreme(content: bytearray, draw: random.Random) -> str:
    """An absurd number, more likely in what looks like a header."""
    place = draw.randrange(min(len(content), draw.choice((64, 512, len(content)))))
    value = struct.pack(draw.choice(("<I", ">I")), draw.choice(EXTREMES))
    content[place : place + 4] = value
    return "absurd number"


def _swap(content: bytearray, draw: random.Random) -> str:
    a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    content[:] = content[b:] + content[a:b] + content[:a]
    return "parts swapped"


def _double(content: bytearray, draw: random.Random) -> str:
    a, b = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    content[a:a] = content[a:b]
    return "part doubled"


def _other_tag(content: bytearray, draw: random.Random) -> str:
    """Another type, count or value for one tag of the first page of a TIFF."""
    order = "<" if content[:2] == b"II" else ">"
    if struct.unpack(order + "H", content[2:4])[0] != 42:
        return _extreme(content, draw)
    (place,) = struct.unpack(order + "I", content[4:8])
    (count,) = struct.unpack(order + "H", content[place : place + 2])
    entry = place + 2 + 12 * draw.randrange(count)
    tag, kind, number, _ = struct.unpack(order + "HHII", content[entry : entry + 12])
    which = draw.randrange(4)
    if which == 0:
        content[entry : entry + 2] = struct.pack(order + "H", draw.randrange(254, 340))
    elif which == 1:
        content[entry + 2 : entry + 4] = struct.pack(order + "H", draw.randrange(20))
    elif which == 2:
        number = draw.choice((0, 1, 2, 3, 2**16, 2**31, 2**32 - 1))
        content[entry + 4 : entry + 8] = struct.pack(order + "I", number)
    else:
        short = kind == 3 and number == 1
        most = 2**16 - 1 if short else 2**32 - 1
        value = draw.choice((0, 1, 2, 3, 5, 7, 8, 64, 5000, 10**6, most))
        packed = struct.pack(order + ("H" if short else "I"), min(value, most))
        content[entry + 8 : entry + 8 + len(packed)] = packed
    return f"tag {tag} changed"


_VALUES = (
    None, -1, 0, 1, 1.5, 10**6, 10**18, "", "x", "<f8", "|O", [], {}, [0], [10**9] * 4,
)  # fmt: skip


def _other_value(path: Path, draw: random.Random) -> str:
    """Another value somewhere in a JSON file."""
    found = json.loads(path.read_text())
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        for key in node if isinstance(node, dict) else range(len(node)):
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(found)
    if not places:
        path.write_text("{")
        return "not JSON"
    owner, key = draw.choice(places)
    owner[key] = draw.choice(_VALUES)
    path.write_text(json.dumps(found))
    return f"other {key}"


# === Bombs ===


def bombs(folder: Path) -> Iterator[Path]:
    """Write files whose contents decode to far more than their headers say."""
    folder.mkdir(parents=True, exist_ok=True)
    packer = zlib.compressobj(9)
    zeros = bytes(2**22)
    stream = b"".join(packer.compress(zeros) for _ in range(64)) + packer.flush()
    yield _png(folder / "pixels.png", [(b"IDAT", stream)])
    plain = zlib.compress(bytes(16 * 17))
    yield _png(folder / "text.png", [(b"zTXt", b"a\0\0" + stream), (b"IDAT", plain)])
    yield _png(folder / "icc.png", [(b"iCCP", b"a\0\0" + stream), (b"IDAT", plain)])
    yield _png(folder / "large.png", [(b"IDAT", plain)], 30000)
    for name, tag in (("deflate.tif", 8), ("lzw.tif", 5)):
        path = folder / name
        tifffile.imwrite(path, np.zeros((16, 16), np.uint8), compression=tag)
        with tifffile.TiffFile(path) as file:
            place = file.pages[0].tags[279].valueoffset  # type: ignore[union-attr]
            start = file.pages[0].tags[273].valueoffset  # type: ignore[union-attr]
        content = bytearray(path.read_bytes())
        content[place : place + 4] = struct.pack("<I", len(stream))
        content[start : start + 4] = struct.pack("<I", len(content))
        path.write_bytes(content + stream)
        yield path
    data = io.BytesIO()
    PIL.Image.fromarray(COLOURS).save(data, "jpeg")
    claim = bytearray(data.getvalue())
    frame = claim.find(b"\xff\xc0")
    claim[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    (folder / "claim.jpg").write_bytes(claim)
    yield folder / "claim.jpg"
    tifffile.imwrite(folder / "claim.tif", COLOURS, compression="jpeg")
    content = bytearray((folder / "claim.tif").read_bytes())
    frame = content.find(b"\xff\xc0")
    content[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65500)
    (folder / "claim.tif").write_bytes(content)
    yield folder / "claim.tif"
    yield from _zarr_bombs(folder, stream)
    np.save(folder / "shape.npy", np.zeros((9, 9)))
    content = (folder / "shape.npy").read_bytes()
    absurd = content.replace(b"(9, 9), }    ", b"(10**9, 9), }").replace(
        b"10**9", b"10000"
    )
    (folder / "shape.npy").write_bytes(absurd)
    yield folder / "shape.npy"


def _zarr_bombs(folder: Path, stream: bytes) -> Iterator[Path]:
    import imagecodecs

    large = bytes(2**28)
    for name, chunk in (
        ("zlib", stream),
        ("zstd", imagecodecs.zstd_encode(large)),
        ("blosc", imagecodecs.blosc_encode(large)),
        ("lz4", struct.pack("<I", 2**28) + imagecodecs.lz4_encode(large)),
        ("bz2", imagecodecs.bz2_encode(bytes(2**24))),
    ):
        path = folder / f"{name}.zarr"
        path.mkdir()
        meta = {
            "zarr_format": 2, "shape": [16, 16], "chunks": [16, 16], "dtype": "|u1",
            "compressor": {"id": name}, "fill_value": 0, "filters": None, "order": "C",
        }  # fmt: skip
        (path / ".zarray").write_text(json.dumps(meta))
        (path / "0.0").write_bytes(chunk)
        yield path
    path = folder / "nested.zarr"
    path.mkdir()
    (path / "zarr.json").write_text("[" * 10**5)
    yield path


def _png(path: Path, chunks: list[tuple[bytes, bytes]], side: int = 16) -> Path:
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    content = b"\x89PNG\r\n\x1a\n"
    for name, data in [(b"IHDR", header), *chunks, (b"IEND", b"")]:
        content += struct.pack(">I", len(data)) + name + data
        content += struct.pack(">I", zlib.crc32(name + data))
    path.write_bytes(content)
    return path


# === Reading them ===


def outcome(path: Path) -> str:
    """Read a file whole, and a part: "array", or the message of the refusal."""
    from unet_zoo import images
    from unet_zoo.errors import InputError

    try:
        with images.open_image(path) as image:
            image.read(image.shape[0] - 1, slice(3, 20), slice(2, 30))
            image.read_all()
    except InputError as error:
        return str(error)
    return "array"


def watched(path: Path, read: Callable[[Path], str] = outcome) -> dict[str, Any]:
    """Return how reading went: what came of it, seconds, and growth in bytes."""

    def stop(*_: object) -> None:
        message = f"no answer after {PATIENCE} seconds"
        raise TimeoutError(message)

    signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, PATIENCE)
    before, begun = _peak(reset=True), time.perf_counter()
    try:
        found = read(path)
        wrong = "" if found == "array" or "\n" not in found else f"lines: {found!r}"
    except Exception as error:
        found, wrong = "exception", f"{type(error).__name__}: {error}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    seconds = time.perf_counter() - begun
    if "no answer after" in found:
        wrong = found
    if path.name not in found and found not in ("array", "exception"):
        wrong = f"does not name the file: {found}"
    return {
        "said": found, "wrong": wrong, "seconds": seconds, "grown": _peak() - before,
    }  # fmt: skip


def _peak(*, reset: bool = False) -> int:
    """Return the most memory in use so far, or since it was reset."""
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
    said = Path("/proc/self/status").read_text()
    return int(said.partition("VmHWM:")[2].split()[0]) * 1024


def main(folder: Path, seed: int, count: int) -> dict[str, Any]:
    """Read bombs, then `count` mutated files, within `ROOM` more than there is now."""
    warnings.simplefilter("error")
    whole = samples(folder / "whole")
    first = [outcome(path) for path in whole]
    names = [path.name for path in whole]
    blown = list(bombs(folder / "bombs"))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ROOM, resource.RLIM_INFINITY))
    results = {path.name: watched(path) for path in blown}
    # What the watch must see, or it sees nothing.
    hog = watched(whole[0], lambda path: str(np.ones(2**24).sum())[:0] + "array")
    sleeper = watched(whole[0], lambda path: time.sleep(0.2) or "array")
    draw = random.Random(seed)
    kinds: dict[str, collections.Counter[str]] = collections.defaultdict(
        collections.Counter
    )
    wrong: list[str] = []
    costly: list[str] = []
    slowest = grown = 0.0
    for number in range(count):
        source = whole[number % len(whole)]
        path = folder / "broken" / f"{number}-{source.name}"
        path.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, path)
        how = mutate(path, draw)
        result = watched(path)
        slowest, grown = max(slowest, result["seconds"]), max(grown, result["grown"])
        if result["grown"] > 2**26 or result["seconds"] > 2:
            costly.append(f"{path.name} ({how}): {result}")
        kinds[source.name]["array" if result["said"] == "array" else "refused"] += 1
        if result["wrong"]:
            wrong.append(f"{path.name} ({how}): {result['wrong']}")
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return {
        "whole": dict(zip(names, first, strict=True)), "bombs": results,
        "kinds": kinds, "wrong": wrong, "costly": costly,
        "slowest": slowest, "grown": grown,
        "control": [hog["grown"], sleeper["seconds"]],
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))))  # noqa: T201
