"""Entries on the hub: what its own client uploads, `load` finds again."""

from __future__ import annotations

import base64
import http.server
import json
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import write_weights

from unet_zoo import errors, weights


class Hub(http.server.ThreadingHTTPServer):
    """As much of the hub as an upload of small files and a download need."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.token = "hf_right"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments: Any) -> None:
        pass

    def answer(
        self, content: Any, status: int = 200, headers: dict[str, str] | None = None
    ) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("X-Repo-Commit", "0" * 40)
        self.send_header("ETag", '"0"')
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        match = re.fullmatch(r"/([^/]+/[^/]+)/resolve/main/(.+)", self.path)
        files = self.server.repositories.get(match[1], {}) if match else {}
        if match and match[2] in files:
            self.answer(files[match[2]])
        elif self.path.removeprefix("/api/models/") in self.server.repositories:
            name = self.path.removeprefix("/api/models/")
            self.answer({"id": name, "sha": "0" * 40, "siblings": []})
        else:
            what = "EntryNotFound" if match else "RepoNotFound"
            self.answer({"error": what}, 404, {"X-Error-Code": what})

    def do_POST(self) -> None:
        text = self.rfile.read(int(self.headers["Content-Length"])).decode()
        if self.headers["Authorization"] != f"Bearer {self.server.token}":
            self.answer({"error": "not you"}, 401)
            return
        name = "/".join(self.path.split("/")[3:5])
        if self.path == "/api/repos/create":
            asked = json.loads(text)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            there = self.server.repositories
            status = 409 if name in there else 200
            self.answer({"url": f"{self.server.url}/{name}"}, status)
            there.setdefault(name, {})
        elif self.path.endswith("/preupload/main"):
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(text)["files"]
            ]
            self.answer({"files": files})
        elif self.path.endswith("/commit/main"):
            for line in map(json.loads, text.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.repositories[name][line["value"]["path"]] = content
            url = f"{self.server.url}/{name}/commit/{'0' * 40}"
            self.answer({"commitUrl": url, "commitOid": "0" * 40, "success": True})
        else:
            self.answer({}, 200)


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    pytest.importorskip("huggingface_hub")
    with Hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.setenv("HF_TOKEN", server.token)
        monkeypatch.setenv("UNET_ZOO_CACHE", str(tmp_path / "cache"))
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def entry(tmp_path: Path) -> weights.Entry:
    folder = tmp_path / "tiny-blobs"
    write_weights(folder / "weights.h5")
    (folder / "README.md").write_text(
        '# tiny-blobs\n\nunet_zoo.load("tiny-blobs")\n\n'
        "    unet-zoo evaluate tiny-blobs --tta 1\n    --from tiny-blobs\n"
    )
    (folder / ".hidden").write_text("stays here")
    weights.write_entry(folder, licence="MIT")
    return weights.read_entry(folder)


def test_what_is_uploaded_can_be_loaded(hub: Hub, entry: weights.Entry) -> None:
    said = weights.upload(entry, "hf://me/mine")
    assert said.startswith(f"{hub.url}/me/mine/commit/")
    there = hub.repositories["me/mine"]
    assert set(there) == {"README.md", "entry.toml", "weights.h5"}
    assert weights.sha256(weights.find("hf://me/mine")) == entry.sha256
    # Nobody finds it by its name there, and somebody else's may be called the same.
    assert there["README.md"].decode() == (
        '# tiny-blobs\n\nunet_zoo.load("hf://me/mine")\n\n'
        "    unet-zoo evaluate hf://me/mine --tta 1\n    --from hf://me/mine\n"
    )
    assert 'load("tiny-blobs")' in (entry.folder / "README.md").read_text()


def test_an_entry_on_the_hub_is_not_overwritten_silently(
    hub: Hub, entry: weights.Entry
) -> None:
    hub.repositories["me/mine"] = {"entry.toml": b"of somebody"}
    with pytest.raises(errors.InputError, match="holds an entry already"):
        weights.upload(entry, "hf://me/mine")
    assert hub.repositories["me/mine"] == {"entry.toml": b"of somebody"}
    weights.upload(entry, "hf://me/mine", overwrite=True)
    assert weights.sha256(weights.find("hf://me/mine")) == entry.sha256


def test_without_the_right_to_write_nothing_is_uploaded(
    hub: Hub, entry: weights.Entry
) -> None:
    hub.token = "hf_other"
    with pytest.raises(errors.InputError, match=r"(?s)could not be written.*logged in"):
        weights.upload(entry, "hf://me/mine")
    assert hub.repositories == {}


def test_what_is_wrong_is_said_before_the_network_is_used(
    entry: weights.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(errors.InputError, match="Upload to hf://owner/name"):
        weights.upload(entry, "hf://me")
    with monkeypatch.context() as patch:
        # As where it is not installed: nothing of that name is found.
        patch.setattr(sys, "path", [])
        patch.delitem(sys.modules, "huggingface_hub", raising=False)
        with pytest.raises(errors.InputError, match=r"pip install 'unet-zoo\[hub\]'"):
            weights.upload(entry, "hf://me/mine")
    entry.path.write_bytes(b"other")
    with pytest.raises(errors.InputError, match="is not the file of 'tiny-blobs'"):
        weights.upload(entry, "hf://me/mine")
