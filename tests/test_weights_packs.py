"""The cache as one file: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import gzip
import io
import json
import pickle
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from serving import write_weights

from unet_zoo import cli, errors, weights


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a cache with two weights, an index, and what is nobody else's."""
    folder = tmp_path_factory.mktemp("cache")
    for number in range(2):
        write_weights(folder / "new.h5", seed=number)
        digest = weights.sha256(folder / "new.h5")
        (folder / "new.h5").rename(folder / f"tiny-{number}-{digest[:16]}.h5")
    (folder / f"index-{'0' * 16}.json").write_text("{}")
    (folder / f".tiny-{'1' * 16}.h5.part").write_bytes(b"half")
    (folder / f"damaged-{'2' * 16}.h5").write_bytes(b"other bytes")
    (folder / "private.txt").write_text("not weights")
    (folder / "tfds").mkdir()
    return folder


@pytest.fixture(scope="module")
def pack(cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packs") / "weights.tar"
    weights.export_cache(path, cache=cache)
    return path


def rows_of(pack: Path) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    with tarfile.open(pack) as opened:
        return {
            member.name: (member, opened.extractfile(member).read())  # type: ignore[union-attr]
            for member in opened
        }


def write(path: Path, rows: dict[str, tuple[tarfile.TarInfo, bytes]]) -> Path:
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT) as opened:
        for member, content in rows.values():
            opened.addfile(member, io.BytesIO(content))
    return path


def listed(rows: dict[str, tuple[tarfile.TarInfo, bytes]], **changes: Any) -> None:
    """Change rows of the manifest; None takes one out."""
    member, text = rows["manifest.json"]
    content = json.loads(text)
    for name, row in changes.items():
        content["files"][name] = row
    text = json.dumps(content).encode()
    member.size = len(text)
    rows["manifest.json"] = (member, text)


def test_the_cache_goes_through_a_file(cache: Path, pack: Path, tmp_path: Path) -> None:
    names = weights.import_cache(pack, cache=tmp_path / "there")
    assert len(names) == 2
    there = {each.name for each in (tmp_path / "there").iterdir()}
    assert there == {*names, f"index-{'0' * 16}.json"}
    for name in there:
        assert (tmp_path / "there" / name).read_bytes() == (cache / name).read_bytes()
    weights.export_cache(tmp_path / "again.tar", cache=tmp_path / "there")
    assert (tmp_path / "again.tar").read_bytes() == pack.read_bytes()


def test_weights_that_come_along_are_said_not_to_be_packed(
    cache: Path, pack: Path, tmp_path: Path
) -> None:
    words = ["weights", "export-cache", str(tmp_path / "w.tar"), "unext-blobs"]
    done = CliRunner().invoke(cli.main, [*words, "--cache", str(cache)])
    assert done.exit_code == 0, done.output
    assert "Not packed: unext-blobs, which comes along with unet-zoo" in done.stdout
    assert (tmp_path / "w.tar").read_bytes() == pack.read_bytes()


def test_what_is_there_stays_unless_it_is_damaged(pack: Path, tmp_path: Path) -> None:
    names = weights.import_cache(pack, cache=tmp_path)
    index = tmp_path / f"index-{'0' * 16}.json"
    index.write_text('{ "newer": "" }')
    good = (tmp_path / names[0]).read_bytes()
    (tmp_path / names[0]).write_bytes(b"damaged")
    weights.import_cache(pack, sha256=weights.sha256(pack), cache=tmp_path)
    assert (tmp_path / names[0]).read_bytes() == good
    assert index.read_text() == '{ "newer": "" }'


def test_a_pack_is_not_overwritten_nor_made_of_nothing(
    cache: Path, pack: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.InputError, match="exists already"):
        weights.export_cache(pack, cache=cache)
    with pytest.raises(errors.InputError, match="holds no weights"):
        weights.export_cache(tmp_path / "a.tar", cache=tmp_path)
    assert not (tmp_path / "a.tar").exists()


Rows = dict[str, tuple[tarfile.TarInfo, bytes]]


def first(rows: Rows) -> str:
    return sorted(name for name in rows if name.endswith(".h5"))[0]


def renamed(name: str) -> Callable[[Rows], None]:
    """Return a change that gives a file another name, in the manifest too."""

    def change(rows: Rows) -> None:
        old = first(rows)
        member, content = rows.pop(old)
        member.name = name
        rows[name] = (member, content)
        digest = old.rpartition("-")[2].removesuffix(".h5")
        row = {"sha256": digest.ljust(64, "0"), "bytes": len(content)}
        listed(rows, **{name: row})

    return change


def stranger(rows: Rows) -> None:
    rows["../evil"] = (tarfile.TarInfo("../evil"), b"")


def kind(of: bytes) -> Callable[[Rows], None]:
    def change(rows: Rows) -> None:
        member = rows[first(rows)][0]
        member.type, member.linkname, member.size = of, "/etc/hostname", 0

    return change


def tampered(rows: Rows) -> None:
    name = first(rows)
    member, content = rows[name]
    rows[name] = (member, content[:-1] + bytes([content[-1] ^ 1]))


def shorter(rows: Rows) -> None:
    name = first(rows)
    member, content = rows[name]
    member.size -= 10
    rows[name] = (member, content[:-10])


def pickled(rows: Rows) -> None:
    """Rightly listed, but no weights: refused by what it is."""
    import hashlib

    content = pickle.dumps({"weights": [1.0]})
    digest = hashlib.sha256(content).hexdigest()
    name = f"evil-{digest[:16]}.h5"
    member = tarfile.TarInfo(name)
    member.size = len(content)
    rows[name] = (member, content)
    listed(rows, **{name: {"sha256": digest, "bytes": len(content)}})


def absurd(rows: Rows) -> None:
    listed(rows, **{first(rows): {"sha256": "0" * 64, "bytes": 2**60}})


def newer(rows: Rows) -> None:
    member, text = rows["manifest.json"]
    text = text.replace(b'"version": 1', b'"version": 2')
    rows["manifest.json"] = (member, text)


HOSTILE: dict[str, tuple[Callable[[Rows], Any], str]] = {
    "a path that leads out": (renamed("../../evil.h5"), "letters, digits"),
    "an absolute path": (renamed("/tmp/evil.h5"), "letters, digits"),
    "a hidden name": (renamed(".evil.h5"), "letters, digits"),
    "another file": (renamed("settings.toml"), "which no cache of weights holds"),
    "a file that is not listed": (stranger, "not a file of its manifest"),
    "a symbolic link": (kind(tarfile.SYMTYPE), "not a file of its manifest"),
    "a hard link": (kind(tarfile.LNKTYPE), "not a file of its manifest"),
    "a device": (kind(tarfile.CHRTYPE), "not a file of its manifest"),
    "a flipped bit": (tampered, "its SHA-256 is another"),
    "a shorter file": (shorter, "says other sizes than it has"),
    "an absurd size": (absurd, "which no cache|says other sizes"),
    "a pickle": (pickled, "is not HDF5"),
    "a newer format": (newer, r"of the format 'unet-zoo cache' 2; this"),
    "a missing file": (lambda rows: rows.pop(first(rows)), "is incomplete: it lacks"),
    "no manifest": (lambda rows: rows.pop("manifest.json"), "does not begin with man"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pack_is_refused_whole(pack: Path, tmp_path: Path, name: str) -> None:
    change, message = HOSTILE[name]
    rows = rows_of(pack)
    change(rows)
    bad = write(tmp_path / "bad.tar", rows)
    with pytest.raises(errors.InputError, match=message):
        weights.import_cache(bad, cache=tmp_path / "there" / "cache")
    # Nothing lies anywhere but the pack itself.
    assert [each for each in tmp_path.rglob("*") if each.is_file()] == [bad]


def test_a_bomb_is_refused(pack: Path, tmp_path: Path) -> None:
    """Neither compression nor a sparse file makes much of little."""
    squeezed = tmp_path / "bomb.tar"
    squeezed.write_bytes(gzip.compress(pack.read_bytes()))
    with pytest.raises(errors.InputError, match="is not a packed cache, or is damaged"):
        weights.import_cache(squeezed, cache=tmp_path / "there")
    rows = rows_of(pack)
    name = first(rows)
    member = tarfile.TarInfo(name)
    member.pax_headers = {
        "GNU.sparse.major": "0",
        "GNU.sparse.minor": "1",
        "GNU.sparse.map": "0,0",
        "GNU.sparse.size": str(2**50),
        "GNU.sparse.name": name,
    }
    rows[name] = (member, b"")
    with tarfile.open(tmp_path / "sparse.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        for each, content in rows.values():
            tar.addfile(each, io.BytesIO(content))
    with pytest.raises(errors.InputError, match="not a file of its manifest"):
        weights.import_cache(tmp_path / "sparse.tar", cache=tmp_path / "there")
    assert not list((tmp_path / "there").iterdir())


def test_a_pack_cut_anywhere_is_refused(pack: Path, tmp_path: Path) -> None:
    whole = pack.read_bytes()
    end = sum(
        512 + -(-len(content) // 512) * 512 for _, content in rows_of(pack).values()
    )
    for size in [0, 1, 511, 512, 600, *range(1000, end, end // 9), end - 600]:
        (tmp_path / "cut.tar").write_bytes(whole[:size])
        with pytest.raises(errors.InputError):
            weights.import_cache(tmp_path / "cut.tar", cache=tmp_path / "there")
        assert not list((tmp_path / "there").glob("*"))


def test_another_pack_than_the_one_meant_is_refused(pack: Path, tmp_path: Path) -> None:
    shutil.copy(pack, tmp_path / "copy.tar")
    with pytest.raises(errors.InputError, match="is not the file you asked for"):
        weights.import_cache(tmp_path / "copy.tar", sha256="0" * 64, cache=tmp_path)
    with pytest.raises(errors.InputError, match="There is no packed cache"):
        weights.import_cache(tmp_path / "nothing.tar", cache=tmp_path)
