"""A real web server of weights that misbehaves when it is told to."""

from __future__ import annotations

import contextlib
import http.server
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import pytest

from unet_zoo import weights

SIZE = 400_000


class Server(http.server.ThreadingHTTPServer):
    """Serves a folder; each request for a *.h5 uses up one of `faults`."""

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.folder = folder
        self.faults: list[str] = []
        self.ranges: list[str | None] = []  # of each request for a *.h5
        self.sent = 0  # bytes of *.h5 handed to the network
        self.length = ""  # announced instead of the right one

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay quiet about clients that went away: tests make them."""


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def log_message(self, *arguments: Any) -> None:
        pass

    def do_GET(self) -> None:
        path = self.server.folder / self.path.lstrip("/").partition("?")[0]
        if not path.is_file():
            self.send_error(404)
            return
        content = path.read_bytes()
        if path.suffix != ".h5":
            self.answer(200, content)
            return
        fault = self.server.faults.pop(0) if self.server.faults else ""
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        if fault.isdecimal():
            self.send_error(int(fault))
        elif fault == "redirect":
            self.send_response(302)
            self.send_header("Location", "file:///etc/hostname")
            self.end_headers()
        elif fault == "silent":
            time.sleep(1)
        elif fault == "wrong bytes":
            self.answer(200, bytes(len(content)))
        elif fault == "short":
            self.answer(200, content[:1000])
        elif fault == "long, unannounced":
            self.answer(200, content + b"more", announce=False)
        elif fault == "short, unannounced":
            self.answer(200, content[:-1000], announce=False)
        elif fault == "other range":
            self.answer(206, content[5:], headers={"Content-Range": "bytes 5-9/10"})
        elif asked and fault != "ignore range":
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            span = f"bytes {start}-{len(content) - 1}/{len(content)}"
            self.answer(206, content[start:], fault, {"Content-Range": span})
        else:
            self.answer(200, content, fault)

    def answer(
        self,
        status: int,
        content: bytes,
        fault: str = "",
        headers: dict[str, str] | None = None,
        announce: bool = True,
    ) -> None:
        self.send_response(status)
        if announce:
            length = self.server.length or str(len(content))
            self.send_header("Content-Length", length)
        for key, value in (headers or {}).items():
            self.send_header(key, value)
        self.end_headers()
        limit = SIZE // 4 if fault == "drop" else len(content)
        for start in range(0, limit, 10_000):
            piece = content[start : min(start + 10_000, limit)]
            if self.path.endswith(".h5"):
                self.server.sent += len(piece)
            self.wfile.write(piece)
            if fault == "slow":
                time.sleep(0.03)
        self.close_connection = True


@contextlib.contextmanager
def running(server: Server) -> Iterator[Server]:
    with server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


def write_weights(path: Path, seed: int = 0) -> None:
    """Write a real weights file of about SIZE bytes that does not compress."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((250,))
    outputs = keras.layers.Dense(400, name="logits")(inputs)
    facts = {
        "model": "tiny",
        "model_arguments": {},
        "channels": 1,
        "target": "semantic",
        "target_arguments": {},
        "normalization": "zscore",
        "scale": 1.0,
        "tta": 1,
        "dataset": {"name": "blobs", "version": "1.0.0"},
        "summary": 'Finds "blobs"\n',
        "metrics": {"SEG": 0.75, "AP": {"0.5": 1e-5, "all": [1, 0.5]}},
        "citation": "Ünet 🔬 \x7f \\ '",
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    weights.write(path, keras.Model(inputs, outputs, name="tiny"), facts)


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a key and a certificate of this computer that nobody vouches for."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, made = folder / "key.pem", folder / "certificate.pem"
    words = "req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    names = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    files = ["-keyout", str(key), "-out", str(made)]
    command = ["openssl", *words.split(), *names, *files]
    subprocess.run(command, check=True, capture_output=True)
    return key, made


def encrypted(server: Server, key: Path, made: Path) -> str:
    """Let a server speak TLS; return its address."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return server.url.replace("http:", "https:")
