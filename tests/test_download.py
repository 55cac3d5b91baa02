"""Weights by name: entries, indexes, and a real server that misbehaves."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import SIZE, Server, certificate, encrypted, running, write_weights

from unet_zoo import errors, weights
from unet_zoo.weights import _entries, _http

NAME = "tiny-blobs"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    write_weights(folder / NAME / "weights.h5")
    weights.write_entry(folder / NAME, licence="MIT")
    weights.index(folder)
    return folder


@pytest.fixture
def served(made: Path, tmp_path: Path) -> Path:
    """Return a folder with one entry and its weights, under an index."""
    return Path(shutil.copytree(made, tmp_path / "served"))


@pytest.fixture
def server(served: Path) -> Iterator[Server]:
    with running(Server(served)) as server:
        yield server


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's settings and home out, and do not wait long."""
    for name in ("UNET_ZOO_URL", "UNET_ZOO_OFFLINE", "UNET_ZOO_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(_http, "PAUSES", (0.01, 0.01, 0.01))
    monkeypatch.setattr(_http, "TIMEOUT", (1.0, 0.3))


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, served: Path) -> Path:
    """Return a zoo that knows the facts of the entry, its weights not shipped."""
    folder = tmp_path / "zoo"
    (folder / NAME).mkdir(parents=True)
    shutil.copy(served / NAME / "entry.toml", folder / NAME)
    monkeypatch.setattr(_entries, "FOLDER", folder)
    return folder


def fetch(server: Server, cache: Path, **arguments: Any) -> Path:
    return weights.locate(NAME, base_url=server.url, cache=cache, **arguments)


def assert_only(cache: Path, path: Path, served: Path) -> None:
    """Assert that `path` is the file served, and the only weights in the cache."""
    assert path.read_bytes() == (served / NAME / "weights.h5").read_bytes()
    left = {item for item in cache.iterdir() if item.suffix in (".h5", ".part")}
    assert left == {path}


# Entries and indexes


def test_an_entry_holds_the_facts_of_its_file(zoo: Path, served: Path) -> None:
    """Quotes, line ends and symbols come back through TOML as they were."""
    file = served / NAME / "weights.h5"
    facts = weights.read_facts(file)
    entry = weights.entry(NAME)
    assert weights.names() == [NAME]
    assert (entry.name, entry.model, entry.dataset) == (NAME, "tiny", "blobs")
    assert (entry.sha256, entry.bytes) == (weights.sha256(file), file.stat().st_size)
    assert entry.citation == facts["citation"]
    assert entry.summary == facts["summary"]
    assert entry.metrics == facts["metrics"]
    assert entry.licence == "MIT"
    with pytest.raises(dataclasses.FrozenInstanceError):
        entry.name = "other"  # type: ignore[misc]


def test_writing_an_entry_wants_what_the_facts_lack(served: Path) -> None:
    with pytest.raises(errors.InputError, match=r"has no licence in its facts; give"):
        weights.write_entry(served / NAME)


def test_an_unknown_name_is_met_with_near_ones(zoo: Path) -> None:
    with pytest.raises(errors.InputError, match="Did you mean 'tiny-blobs'"):
        weights.entry("tiny-blubs")
    message = r"Did you mean 'tiny-blobs'\?.*give `base_url` or set UNET_ZOO_URL"
    with pytest.raises(errors.InputError, match=message):
        weights.locate("tiny-blubs")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('file = "', 'file = "../', r"`file` must lie|letters, digits"),
        ('file = "', 'file = "/', "letters, digits"),
        ('sha256 = "', 'sha256 = "xx', "must be 64 hexadecimal digits"),
        ("bytes = ", "bytes = -", "`bytes` positive"),
        ("bytes = ", "bytes = 1.", "`bytes` must be of type int"),
        ('model = "', 'modell = "', "lacks `model`"),
        ('model = "', 'colour = ""\nmodel = "', "Unknown key in .*'colour'"),
        ("urls = []", 'urls = ["file:///etc/passwd"]', r"http\(s\) addresses"),
        (f'name = "{NAME}"', 'name = "else"', "is of 'else', but lies in 'tiny-b"),
        ("[metrics]", "[metrics", "is not TOML"),
    ],
)
def test_a_wrong_entry_is_refused(zoo: Path, old: str, new: str, message: str) -> None:
    path = zoo / NAME / "entry.toml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(errors.InputError, match=message) as caught:
        weights.entry(NAME)
    assert str(path) in str(caught.value)


def test_the_index_lists_entries_and_plain_files(served: Path) -> None:
    write_weights(served / "mine.h5", seed=1)
    rows = json.loads(weights.index(served).read_text(encoding="utf-8"))
    assert list(rows) == ["mine", NAME]
    for row in rows.values():
        assert row["sha256"] == weights.sha256(served / row["file"])
        assert row["bytes"] == (served / row["file"]).stat().st_size
        assert row["summary"] == 'Finds "blobs"\n'


def test_the_index_refuses_a_folder_that_is_not_in_order(
    served: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.InputError, match="holds no weights"):
        weights.index(tmp_path / "cache")
    shutil.copy(served / NAME / "weights.h5", served / f"{NAME}.h5")
    with pytest.raises(errors.InputError, match="'tiny-blobs' twice"):
        weights.index(served)
    (served / f"{NAME}.h5").rename(served / "a name.h5")
    with pytest.raises(errors.InputError, match="may hold letters, digits"):
        weights.index(served)
    (served / "a name.h5").unlink()
    write_weights(served / NAME / "weights.h5", seed=1)
    with pytest.raises(errors.InputError, match="is not the file of 'tiny-blobs'"):
        weights.index(served)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("<html>", "is not an index of weights"),
        ("[]", "expected a JSON object"),
        ('{"tiny-blobs": 3}', "expected an object, got 3"),
        ('{"tiny-blobs": {"file": "a.h5"}}', "lacks `sha256`"),
        ("ROW ../../etc/passwd", "may hold letters, digits"),
        ("ROW a/../b.h5", "may hold letters, digits"),
        ("ROW /etc/passwd", "may hold letters, digits"),
        ("ROW a\\\\b.h5", "may hold letters, digits"),
        ("ROW http://elsewhere/a.h5", "may hold letters, digits"),
        ("NAME ../evil", "may hold letters, digits"),
        ("\xff", "is not text"),
    ],
)
def test_a_wrong_index_is_refused(
    server: Server, served: Path, cache: Path, text: str, message: str
) -> None:
    """What an index says becomes paths and addresses: it is checked first."""
    kind, _, word = text.partition(" ")
    if kind in ("ROW", "NAME"):
        row = {"file": "a.h5", "sha256": "0" * 64, "bytes": 1, "summary": ""}
        rows = {word if kind == "NAME" else NAME: row}
        if kind == "ROW":
            row["file"] = word
        text = json.dumps(rows)
    (served / "index.json").write_text(text, encoding="latin-1")
    with pytest.raises(errors.InputError, match=message):
        fetch(server, cache)
    assert server.ranges == []


# Where the file is looked for


def test_the_shipped_file_comes_first_and_is_verified(zoo: Path, served: Path) -> None:
    shutil.copy(served / NAME / "weights.h5", zoo / NAME)
    assert weights.locate(NAME, offline=True) == zoo / NAME / "weights.h5"
    write_weights(zoo / NAME / "weights.h5", seed=1)
    with pytest.raises(errors.InputError, match=r"expected sha256 .* has not been us"):
        weights.locate(NAME, base_url="http://127.0.0.1:9")
    (zoo / NAME / "weights.h5").write_bytes(b"short")
    with pytest.raises(errors.InputError, match="got 5 bytes"):
        weights.locate(NAME)


def test_nothing_is_fetched_twice(server: Server, served: Path, cache: Path) -> None:
    seen: list[tuple[int, int]] = []
    path = fetch(server, cache, progress=lambda *state: seen.append(state))
    size = path.stat().st_size
    assert seen[-1] == (size, size)
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert fetch(server, cache) == path
    assert server.ranges == [None]
    assert_only(cache, path, served)


def test_a_damaged_file_in_the_cache_is_fetched_again(
    server: Server, served: Path, cache: Path
) -> None:
    path = fetch(server, cache)
    path.write_bytes(bytes(path.stat().st_size))
    assert_only(cache, fetch(server, cache), served)


def test_an_entry_that_is_not_shipped_names_the_way_out(zoo: Path) -> None:
    with pytest.raises(errors.InputError, match="not shipped: give `base_url` or set"):
        weights.locate(NAME)


def test_environment_variables_stand_in_for_arguments(
    server: Server, served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNET_ZOO_URL", server.url + "/")
    monkeypatch.setenv("UNET_ZOO_CACHE", str(cache))
    path = weights.locate(NAME)
    assert_only(cache, path, served)
    monkeypatch.setenv("UNET_ZOO_OFFLINE", "1")
    server.shutdown()
    assert weights.locate(NAME) == path
    monkeypatch.setenv("UNET_ZOO_OFFLINE", "0")
    monkeypatch.delenv("UNET_ZOO_CACHE")
    with pytest.raises(errors.InputError, match="did not answer in time"):
        weights.locate(NAME)


def test_offline_never_touches_the_network(
    zoo: Path, server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_network(*arguments: Any) -> None:
        message = "the network was used"
        raise RuntimeError(message)

    with monkeypatch.context() as patch:
        patch.setattr(socket.socket, "connect", no_network)
        with pytest.raises(errors.InputError, match=r"is offline. .* copy the file to"):
            fetch(server, cache, offline=True)
        with pytest.raises(errors.InputError, match=r"is offline and has never seen"):
            weights.locate("other", base_url=server.url, cache=cache, offline=True)
    assert not cache.exists()
    path = fetch(server, cache)
    monkeypatch.setattr(socket.socket, "connect", no_network)
    assert fetch(server, cache, offline=True) == path


def test_the_addresses_of_the_entry_are_tried_in_order(
    zoo: Path, server: Server, served: Path, cache: Path
) -> None:
    shutil.copy(served / NAME / "weights.h5", zoo / NAME)
    urls = [f"{server.url}/gone.h5", f"{server.url}/{NAME}/weights.h5"]
    weights.write_entry(zoo / NAME, licence="MIT", urls=urls)
    (zoo / NAME / "weights.h5").unlink()
    assert_only(cache, weights.locate(NAME, cache=cache), served)


def test_other_weights_under_a_known_name_are_refused(
    zoo: Path, server: Server, served: Path, cache: Path
) -> None:
    write_weights(served / NAME / "weights.h5", seed=1)
    weights.write_entry(served / NAME, licence="MIT")
    weights.index(served)
    with pytest.raises(errors.InputError, match="offers other weights as 'tiny-blobs'"):
        fetch(server, cache)
    assert server.ranges == []


def test_a_name_that_the_server_lacks(server: Server, cache: Path) -> None:
    with pytest.raises(errors.InputError, match="Did you mean 'tiny-blobs'"):
        weights.locate("tiny-blubs", base_url=server.url, cache=cache)


@pytest.mark.parametrize("url", ["file:///tmp", "ftp://x", "server", "http://"])
def test_only_http_addresses(url: str, cache: Path) -> None:
    with pytest.raises(errors.InputError, match="must start with http:// or https://"):
        weights.locate(NAME, base_url=url, cache=cache)


def test_a_cache_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(errors.InputError, match=r"cannot be written .*UNET_ZOO_CACHE"):
        fetch(server, tmp_path / "file" / "cache")


# What goes wrong on the way


@pytest.mark.parametrize(
    ("faults", "requests"),
    [
        (["drop"], 2),
        (["drop", "drop", "drop"], 4),
        (["500", "503"], 3),
        (["429"], 2),
        (["silent"], 2),
        (["drop", "ignore range"], 2),
        (["drop", "other range"], 3),
        (["drop", "416"], 3),
        (["short, unannounced"], 2),
    ],
)
def test_what_passes_is_got_over(
    server: Server, served: Path, cache: Path, faults: list[str], requests: int
) -> None:
    server.faults = list(faults)
    assert_only(cache, fetch(server, cache), served)
    assert len(server.ranges) == requests


def test_a_dropped_connection_goes_on_where_it_broke(
    server: Server, served: Path, cache: Path
) -> None:
    server.faults = ["drop"]
    path = fetch(server, cache)
    first, second = server.ranges
    assert first is None
    assert second is not None
    lost = SIZE // 4 - int(second.removeprefix("bytes=").rstrip("-"))
    assert 0 <= lost < 2**16  # what had not filled a piece yet
    assert server.sent == path.stat().st_size + lost


def test_a_fetch_cut_at_any_byte_goes_on_there(
    server: Server, served: Path, cache: Path
) -> None:
    path = fetch(server, cache)
    whole = path.read_bytes()
    part = path.with_name(f".{path.name}.part")
    chosen = random.Random(0).sample(range(2, len(whole) - 1), 20)
    for cut in (0, 1, *chosen, 2**16 - 1, 2**16, len(whole) - 1, len(whole)):
        path.unlink()
        part.write_bytes(whole[:cut])
        server.ranges.clear()
        assert_only(cache, fetch(server, cache), served)
        expected = [f"bytes={cut}-" if cut else None]
        assert server.ranges == (expected if cut < len(whole) else [])


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        (["403"], r"refused access \(403\)"),
        (["404"], r"does not exist there \(404\)"),
        (["410"], r"HTTP 410"),
        (["500"] * 4, r"HTTP 500 \(4 tries\). Try again later"),
        (["silent"] * 4, r"did not answer in time \(4 tries\)"),
        (["drop", "drop", "drop", "500"], "HTTP 500"),
        (["wrong bytes"], r"sent other bytes .* expected sha256 \w+, got \w+"),
        (["short"], r"wrong length .* expected \d+ bytes, got 1000"),
        (["long, unannounced"], r"wrong length .* got over \d+"),
        (["redirect"], "cannot be fetched"),
    ],
)
def test_what_lasts_is_said_and_nothing_is_kept(
    server: Server, cache: Path, faults: list[str], message: str
) -> None:
    server.faults = list(faults)
    with pytest.raises(errors.InputError, match=message) as caught:
        fetch(server, cache)
    assert server.url in str(caught.value)
    assert not list(cache.glob("*.h5"))
    assert server.faults == []


def test_no_network_is_said(cache: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(errors.InputError, match=r"could not be fetched \(4 tries\)"):
        weights.locate(NAME, base_url=url, cache=cache)


@pytest.mark.parametrize("kind", ["other bytes", "too long", "full of other bytes"])
def test_a_bad_part_file_does_not_stay(
    server: Server, served: Path, cache: Path, kind: str
) -> None:
    """Whatever an earlier attempt left, the end is one good file."""
    path = fetch(server, cache)
    size = path.stat().st_size
    path.unlink()
    length = {"other bytes": 1000, "too long": size + 9, "full of other bytes": size}
    part = path.with_name(f".{path.name}.part")
    part.write_bytes(random.Random(0).randbytes(length[kind]))
    assert_only(cache, fetch(server, cache), served)


def test_a_certificate_that_nobody_vouches_for_is_refused(
    served: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = certificate(tmp_path)
    server = Server(served)
    url = encrypted(server, key, made)
    with running(server):
        with pytest.raises(
            errors.InputError, match="certificate could not be verified"
        ):
            weights.locate(NAME, base_url=url, cache=cache)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made))
        assert_only(cache, weights.locate(NAME, base_url=url, cache=cache), served)


# Several processes


def start(server: Server, cache: Path) -> subprocess.Popen[str]:
    """Fetch in a process of its own."""
    code = (
        "import sys; from unet_zoo import weights; "
        f"print(weights.locate({NAME!r}, base_url=sys.argv[1], cache=sys.argv[2]))"
    )
    command = [sys.executable, "-c", code, server.url, str(cache)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_processes_at_once_fetch_once(
    server: Server, served: Path, cache: Path
) -> None:
    server.faults = ["slow"]
    processes = [start(server, cache) for _ in range(3)]
    found = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert len(found) == 1
    assert_only(cache, Path(found.pop()), served)
    assert server.ranges == [None]


def test_a_killed_fetch_goes_on(server: Server, served: Path, cache: Path) -> None:
    """The second process asks only for what the first did not write."""
    server.faults = ["slow"]
    process = start(server, cache)
    deadline = time.monotonic() + 30
    while not (kept := sum(p.stat().st_size for p in cache.glob(".*.part"))):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    assert process.returncode == -signal.SIGKILL
    kept = sum(part.stat().st_size for part in cache.glob(".*.part"))
    size = (served / NAME / "weights.h5").stat().st_size
    assert 0 < kept < size
    path = fetch(server, cache)
    assert server.ranges == [None, f"bytes={kept}-"]
    assert_only(cache, path, served)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert weights.read_facts(path)["model"] == "tiny"
    assert path.name == f"{NAME}-{digest[:16]}.h5"
