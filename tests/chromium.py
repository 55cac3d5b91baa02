"""A headless Chromium, driven through a pipe by the protocol of its developer tools.

The protocol is JSON, a message ends with a zero byte; nothing is needed but Chromium.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
# Chromium reads from the file descriptor 3 and writes to 4.
_START = """
import fcntl, os, sys
ends = [fcntl.fcntl(int(each), fcntl.F_DUPFD, 100) for each in sys.argv[1:3]]
for end, number in zip(ends, (3, 4)):
    os.dup2(end, number)
    os.close(end)
os.execvp(sys.argv[3], sys.argv[3:])
"""


def find() -> str | None:
    """Return the path of a Chromium, None where there is none."""
    return next((path for path in map(shutil.which, NAMES) if path), None)


class Chromium:
    """A browser with one page; what it requests, logs and throws is kept."""

    def __init__(self, path: str, size: tuple[int, int] = (1280, 800)) -> None:
        self.requested: list[str] = []
        self.errors: list[str] = []
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        read, self._commands = os.pipe()
        self._answers, write = os.pipe()
        options = (
            *("--headless", "--remote-debugging-pipe", "--disable-gpu"),
            *("--no-first-run", "--disable-extensions", "--disable-dev-shm-usage"),
            *("--disable-background-networking", "--disable-component-update"),
            *("--hide-scrollbars", f"--user-data-dir={self._folder.name}"),
            "--no-sandbox",  # which root and many containers cannot have
        )
        self._process = subprocess.Popen(
            [sys.executable, "-c", _START, str(read), str(write), path, *options],
            pass_fds=(read, write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(read)
        os.close(write)
        self._held = b""
        self._number = 0
        self._session: str | None = None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.resize(*size)

    def close(self) -> None:
        try:
            self._session = None
            self.call("Browser.close")
            self._process.wait(10)
        except (OSError, TimeoutError, subprocess.TimeoutExpired):
            self._process.kill()
            self._process.wait()
        os.close(self._commands)
        os.close(self._answers)
        self._folder.cleanup()

    # === The protocol ===

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Send a command and return its result; events on the way are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                if "error" in answer:
                    message = f"{method}: {answer['error']}"
                    raise RuntimeError(message)
                return answer["result"]
            self._keep(answer)

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._held:
            part = os.read(self._answers, 2**20)
            if not part:
                message = "Chromium ended."
                raise OSError(message)
            self._held += part
        first, _, self._held = self._held.partition(b"\0")
        return json.loads(first)

    def _keep(self, event: dict[str, Any]) -> None:
        about = event.get("params", {})
        match event.get("method"):
            case "Network.requestWillBeSent":
                self.requested.append(about["request"]["url"])
            case "Runtime.exceptionThrown":
                self.errors.append(json.dumps(about["exceptionDetails"]))
            case "Log.entryAdded":
                self.errors.append(about["entry"]["text"])
            case "Runtime.consoleAPICalled" if about["type"] in ("error", "warning"):
                self.errors.append(json.dumps(about["args"]))

    # === What a person does ===

    def resize(self, width: int, height: int, dark: bool = False) -> None:
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def open(self, path: Path, fragment: str = "") -> None:
        self.call("Page.navigate", url="about:blank")
        self.call("Page.navigate", url=path.resolve().as_uri() + fragment)
        self.wait("document.body && document.body.dataset.followed !== undefined")

    def ask(self, script: str) -> Any:
        """Return the value of a JavaScript expression."""
        found = self.call(
            "Runtime.evaluate",
            expression=script,
            returnByValue=True,
            awaitPromise=True,
        )
        if "exceptionDetails" in found:
            raise RuntimeError(json.dumps(found["exceptionDetails"]))
        return found["result"].get("value")

    def wait(self, script: str, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not self.ask(script):
            if time.monotonic() > end:
                message = f"{script}; {self.errors}"
                raise TimeoutError(message)
            time.sleep(0.02)

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        frame = "new Promise(done => requestAnimationFrame(() => done(true)))"
        for _ in range(2):
            self.ask(frame)

    def mouse(self, kind: str, x: float, y: float, **more: Any) -> None:
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, **more)

    def click(self, x: float, y: float, *, modifiers: int = 0, count: int = 1) -> None:
        self.mouse("mouseMoved", x, y)
        for each in range(1, count + 1):
            for kind in ("mousePressed", "mouseReleased"):
                more = {"button": "left", "clickCount": each, "modifiers": modifiers}
                self.mouse(kind, x, y, **more)
        self.settle()

    def click_on(self, selector: str, *, modifiers: int = 0) -> None:
        """Click in the middle of the element of a selector."""
        x, y = self.ask(
            "(e => { e.scrollIntoView({block: 'nearest', inline: 'nearest'});"
            "const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2] })"
            f"(document.querySelector({json.dumps(selector)}))"
        )
        self.click(x, y, modifiers=modifiers)

    def key(self, name: str) -> None:
        text = {"text": name} if len(name) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", key=name, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", key=name)
        self.settle()

    def screenshot(self, clip: Sequence[float] | None = None) -> bytes:
        """Return a PNG of the window, or of a part (x, y, width, height)."""
        self.settle()
        more = {}
        if clip is not None:
            box = dict(zip(("x", "y", "width", "height"), clip, strict=True))
            more["clip"] = box | {"scale": 1}
        shot = self.call("Page.captureScreenshot", format="png", **more)
        return base64.b64decode(shot["data"])
