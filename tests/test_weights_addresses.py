"""Weights at addresses, on mirrors and under old names: the right file or none."""

from __future__ import annotations

import shutil
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import Server, certificate, encrypted, running, write_weights

import unet_zoo
from unet_zoo import errors, segmenter, weights
from unet_zoo.weights import _entries, _http

NAME = "tiny-blobs"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an entry, as a server and as the hub offer it."""
    folder = tmp_path_factory.mktemp("made")
    write_weights(folder / NAME / "weights.h5")
    weights.write_entry(folder / NAME, licence="MIT")
    weights.index(folder)
    hub = folder / "me" / "other-name" / "resolve"
    for revision in ("main", "v1.0"):
        shutil.copytree(folder / NAME, hub / revision)
    return folder


@pytest.fixture
def served(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "served"))


@pytest.fixture
def server(served: Path) -> Iterator[Server]:
    with running(Server(served)) as server:
        yield server


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep the user's settings out, do not wait long, and return the cache."""
    for name in ("UNET_ZOO_URL", "UNET_ZOO_OFFLINE", "HF_ENDPOINT", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_http, "PAUSES", (0.01,))
    monkeypatch.setattr(_http, "TIMEOUT", (1.0, 0.5))
    return tmp_path / "cache"


def digest(served: Path) -> str:
    return weights.sha256(served / NAME / "weights.h5")


def nothing_kept(cache: Path) -> bool:
    return not list(cache.glob("*.h5"))


# The hub


def test_an_entry_on_the_hub(
    server: Server, served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fetched once, with a revision too, and there when the hub is not."""
    monkeypatch.setenv("HF_ENDPOINT", server.url + "/")
    path = weights.find("hf://me/other-name")
    assert path.parent == cache
    assert weights.sha256(path) == digest(served)
    assert weights.find("hf://me/other-name@v1.0", sha256=digest(served)) == path
    assert server.ranges == [None]
    server.shutdown()
    assert weights.find("hf://me/other-name", offline=True) == path
    with pytest.raises(errors.InputError, match=r"is offline. Fetch it once"):
        weights.find("hf://me/never-seen", offline=True)


def test_what_the_hub_sends_is_verified(
    server: Server, served: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    server.faults = ["wrong bytes"]
    with pytest.raises(errors.InputError, match="sent other bytes"):
        weights.find("hf://me/other-name")
    assert nothing_kept(cache)
    with pytest.raises(errors.InputError, match=r"holds other weights: expected sha2"):
        weights.find("hf://me/other-name", sha256="0" * 64)
    entry = served / "me" / "other-name" / "resolve" / "main" / "entry.toml"
    text = entry.read_text(encoding="utf-8")
    entry.write_text(text.replace('file = "', 'file = "../'), encoding="utf-8")
    with pytest.raises(errors.InputError, match="letters, digits"):
        weights.find("hf://me/other-name")
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("hf://me", "is hf://owner/name or"),
        ("hf://me/../x", "is hf://owner/name or"),
        ("hf://me/nothing", r"Nothing says which file .* \(404\)"),
        ("hf://me/other-name#md5=0", "may stand sha256="),
        ("hf://me/other-name#sha256=0", "64 hexadecimal digits"),
    ],
)
def test_addresses_on_the_hub_that_mean_nothing(
    server: Server, monkeypatch: pytest.MonkeyPatch, address: str, message: str
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(errors.InputError, match=message):
        weights.find(address)


# Any web server


def test_an_address_with_its_digest(server: Server, served: Path, cache: Path) -> None:
    url = f"{server.url}/{NAME}/weights.h5"
    with pytest.raises(errors.InputError, match="sent other bytes"):
        weights.find(url, sha256="0" * 64)
    assert nothing_kept(cache)
    path = weights.find(url, sha256=digest(served))
    assert path.name == f"weights-{digest(served)[:16]}.h5"
    assert weights.find(f"{url}#sha256={digest(served).upper()}") == path
    assert weights.find(f"{url}?download=1#sha256={digest(served)}") == path
    assert len(server.ranges) == 4  # twice the length was asked for, then the file
    with pytest.raises(errors.InputError, match="the one digest of the file"):
        weights.find(f"{url}#sha256={digest(served)}", sha256="0" * 64)


def test_an_address_without_anything_to_verify_is_refused(
    server: Server, cache: Path
) -> None:
    url = f"{server.url}/{NAME}/weights.h5"
    with pytest.raises(errors.InputError, match=r"not encrypted.*#sha256="):
        weights.find(url)
    with pytest.raises(errors.InputError, match="not encrypted"):
        segmenter.load(f"{server.url}/{NAME}")
    assert server.ranges == []
    assert nothing_kept(cache)


def test_over_https_the_entry_beside_a_file_vouches_for_it(
    served: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, made = certificate(tmp_path)
    server = Server(served)
    url = encrypted(server, key, made)
    with running(server):
        with pytest.raises(errors.InputError, match="certificate could not be verif"):
            weights.find(f"{url}/{NAME}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(made))
        for address in (f"{url}/{NAME}/weights.h5", f"{url}/{NAME}", f"{url}/{NAME}/"):
            assert weights.sha256(weights.find(address)) == digest(served)
        (served / NAME / "weights.h5").rename(served / NAME / "other.h5")
        with pytest.raises(errors.InputError, match=r"of another file, weights\.h5"):
            weights.find(f"{url}/{NAME}/other.h5")
        with pytest.raises(errors.InputError, match=r"Nothing says which .* \(404\)"):
            weights.find(f"{url}/weights.h5")


@pytest.mark.parametrize("length", ["0", str(2**50), "many"])
def test_an_absurd_length_is_refused(
    served: Path, cache: Path, length: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the server says how long a file is that is known by its digest alone."""
    with running(Server(served)) as server:
        server.length = length
        with pytest.raises(errors.InputError, match="must say a length of 1 to"):
            weights.find(f"{server.url}/{NAME}/weights.h5", sha256=digest(served))
    assert not cache.exists()


def test_a_path_is_held_to_its_digest_too(served: Path) -> None:
    path = served / NAME / "weights.h5"
    assert weights.find(path, sha256=digest(served)) == path
    with pytest.raises(errors.InputError, match="is not the file you asked for"):
        weights.find(path, sha256="0" * 64)


def test_the_folder_of_an_entry_is_held_to_its_entry(served: Path) -> None:
    """Wherever it lies; weights of another entry in it are refused."""
    folder = served / "moved"
    shutil.copytree(served / NAME, folder)
    assert weights.find(folder) == folder / "weights.h5"
    write_weights(folder / "weights.h5", seed=1)
    with pytest.raises(errors.InputError, match="is not the file of 'tiny-blobs'"):
        weights.find(folder)


# Mirrors


def test_mirrors_are_asked_in_order(
    server: Server, served: Path, cache: Path, tmp_path: Path
) -> None:
    """One is gone, one has other bytes, the third has the file."""
    shutil.copytree(served, tmp_path / "bad")
    write_weights(tmp_path / "bad" / NAME / "weights.h5", seed=1)
    with running(Server(tmp_path / "bad")) as bad:
        gone = f"{server.url}/nowhere"
        path = weights.locate(NAME, base_url=[gone, bad.url, server.url])
        assert len(bad.ranges) == 1
    assert weights.sha256(path) == digest(served)
    assert sorted(each.name for each in cache.glob("*.h5")) == [path.name]


def test_when_no_mirror_has_it_all_reasons_are_said(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNET_ZOO_URL", f"{server.url}/a {server.url}/b")
    with pytest.raises(errors.InputError) as caught:
        weights.locate(NAME)
    message = str(caught.value)
    assert message.startswith("No mirror gave the weights.")
    assert f"{server.url}/a/index.json does not exist" in message
    assert f"{server.url}/b/index.json does not exist" in message
    assert nothing_kept(cache)


def test_an_entry_may_name_the_hub_as_its_mirror(
    server: Server, served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    zoo = tmp_path / "zoo"
    shutil.copytree(served / NAME, zoo / NAME)
    urls = [f"{server.url}/gone.h5", "hf://me/other-name"]
    weights.write_entry(zoo / NAME, licence="MIT", urls=urls)
    (zoo / NAME / "weights.h5").unlink()
    monkeypatch.setattr(_entries, "FOLDER", zoo)
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    assert weights.sha256(weights.locate(NAME)) == digest(served)


# Names


@pytest.fixture
def zoo(served: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "zoo"
    shutil.copytree(served / NAME, folder / NAME)
    (folder / "renamed.toml").write_text('old-blobs = "tiny-blobs"\nlost = "gone"\n')
    monkeypatch.setattr(_entries, "FOLDER", folder)
    return folder


def test_an_old_name_is_kept_and_says_the_new_one(
    zoo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Even where a folder of the old name lies.
    (tmp_path / "old-blobs").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.warns(FutureWarning, match="'old-blobs' are called 'tiny-blobs' now"):
        assert weights.find("old-blobs") == zoo / NAME / "weights.h5"
    with pytest.warns(FutureWarning, match="called 'tiny-blobs' now"):
        assert weights.entry("old-blobs").name == NAME
    with pytest.raises(errors.InputError, match="are called 'gone' now, and that is"):
        weights.find("lost")


def test_the_zoo_says_what_old_names_mean_and_reuses_none() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        table = (_entries.FOLDER / "renamed.toml").read_text(encoding="utf-8")
        for old, new in tomllib.loads(table).items():
            assert old not in weights.names()
            assert weights.entry(old).name == new


def test_the_list_is_chosen_from(zoo: Path, served: Path) -> None:
    for name, dataset, seg in (("b-x", "x", 0.5), ("a-x", "x", 0.9), ("c-y", "y", 0.7)):
        shutil.copytree(served / NAME, zoo / name)
        scores = {"SEG": {"value": seg, "objects": 1, "frames": 1}}
        weights.write_entry(
            zoo / name, licence="MIT", dataset=dataset, metrics=scores, summary=name
        )
    shutil.rmtree(zoo / NAME)
    assert unet_zoo.list_pretrained() == ["a-x", "b-x", "c-y"]
    assert unet_zoo.list_pretrained(metric="SEG") == ["a-x", "c-y", "b-x"]
    assert unet_zoo.list_pretrained(dataset="x", metric="SEG") == ["a-x", "b-x"]
    assert unet_zoo.list_pretrained(model="tiny", dataset="y") == ["c-y"]
    with pytest.raises(errors.InputError, match="Unknown dataset of weights 'z'"):
        unet_zoo.list_pretrained(dataset="z")
    with pytest.raises(errors.InputError, match="metric of these weights 'SEGG'"):
        unet_zoo.list_pretrained(metric="SEGG")
