"""One page to look through results: images, outlines and tables, in any browser."""

from __future__ import annotations

import base64
import hashlib
import html
import os
import webbrowser
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from unet_zoo import documents, files, outputs
from unet_zoo.errors import InputError
from unet_zoo.viewing import gathering, packing

__all__ = ["NAME", "view"]

NAME = "view.html"
LIMIT = 64 * 2**20  # bytes of pictures and labels in a page; beyond, they are shrunk
_PAGE = Path(__file__).parent / "page"
_SCRIPTS = ("labels.js", "stage.js", "table.js", "list.js", "main.js")
_MARK = '<meta name="generator" content="unet-zoo view">'


def view(
    result_folder: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    images: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    max_side: int = 2048,
    open: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write one HTML page that shows every image of a folder of results.

    The page holds everything: pictures, outlines of the objects, tables. It needs no
    server, no network and no other file, and may be sent to anyone. Outlines follow
    the very pixels of the label images.

    The picture below the outlines is the image that was segmented, found by the
    folder's `segmentation.json` or in `images`; where it is gone, the overlay, and
    without that nothing, and the page says so.

    Pictures and labels larger than `max_side` are shown smaller, and where all
    together would take more than 64 MB, each is shrunk until it keeps its share of
    that, down to 256 pixels: then a page can grow beyond. The page says at which size
    an image is shown. Tables keep every number.

    Args:
        result_folder: what `unet-zoo segment` wrote.
        output: the page; None: `view.html` in the folder. A page of this kind that is
            there is replaced, any other file refused.
        images: files or folders with the images, known by the names of the results.
        max_side: pixels that height and width are shown with at most, 256 or more.
        open: show the page in the browser, too.
        progress: called with the number of images done and of all.

    Returns:
        The path of the page.

    Raises:
        InputError: for a folder without results, a file that cannot be read, and an
            `output` that is something else.

    Example:
        >>> import pathlib, tempfile, numpy as np, unet_zoo.images
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> labels = np.zeros((32, 32), np.uint16)
        >>> labels[8:20, 8:20] = 1
        >>> unet_zoo.images.write_labels(folder / "a_masks.tif", labels)
        >>> view(folder).name
        'view.html'
    """
    folder = Path(result_folder)
    if max_side < packing.SMALLEST:
        message = f"`max_side` must be at least {packing.SMALLEST}, got {max_side}."
        raise InputError(message)
    results = gathering.gather(folder, images)
    path = Path(output) if output is not None else folder / NAME
    _check_ours(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    title = folder.resolve().name or "results"
    room = LIMIT / sum(result.frames() for result in results)
    with (
        files.replacing(path) as part,
        part.open("w", encoding="utf-8", newline="\n") as file,
    ):
        _write(file, title, results, max_side, room, progress)
    if open:
        webbrowser.open(path.resolve().as_uri())
    return path


def _check_ours(path: Path) -> None:
    """Refuse to replace what is not a page of this kind."""
    if path.is_dir():
        message = f"{path} is a folder where the page would go; name a file."
        raise InputError(message)
    if path.exists():
        with path.open("rb") as file:
            ours = _MARK.encode() in file.read(4096)
        if not ours:
            message = f"{path} is there and not such a page; name another --output."
            raise InputError(message)


def _write(
    file: TextIO,
    title: str,
    results: Sequence[gathering.Result],
    side: int,
    room: float,
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the page image by image; only one is in memory at a time."""
    script = "\n".join(_text(name) for name in _SCRIPTS)
    script = f'"use strict";\n(() => {{\n{script}\n}})();\n'
    style = _text("page.css")
    # Nothing can be loaded from anywhere, and no other script can run, whatever the
    # names of files and columns may hold.
    policy = (
        f"default-src 'none'; img-src data:; script-src {_digest(script)}; "
        f"style-src {_digest(documents.COLOURS + style)}; base-uri 'none'; "
        "form-action 'none'"
    )
    head = f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n{_MARK}\n'
    file.write(documents.opening(title, style=style, head=head))
    file.write(_text("page.html").replace("{title}", html.escape(title)))
    listed = []
    for number, result in enumerate(results):
        about, parts = _packed(number, result, side, room)
        listed.append(about)
        for name, value in parts:
            file.write(_data(name, value))
        if progress is not None:
            progress(number + 1, len(results))
    runs: list[dict[str, str]] = []
    for about, result in zip(listed, results, strict=True):
        told = gathering.facts(result.past.run if result.past else None)
        if told not in runs:
            runs.append(told)
        about["run"] = runs.index(told)
    colours = outputs.COLOURS.tolist()
    manifest = {"title": title, "images": listed, "runs": runs, "colours": colours}
    file.write(_data("manifest", manifest))
    file.write(f"<script>{script}</script>\n{documents.CLOSING}")


def _packed(
    number: int, result: gathering.Result, side: int, room: float
) -> tuple[dict[str, Any], Iterator[tuple[str, Any]]]:
    """Return what the list says of an image, and its parts by their names.

    The thumbnail is known once the parts are made.
    """
    labels = result.labels()
    pictures, remark = result.pictures(labels.shape)
    found = result.table(labels)
    about: dict[str, Any] = {
        "name": result.name,
        "objects": len(found),
        "frames": len(labels),
        "height": labels.shape[1],
        "width": labels.shape[2],
        "remark": remark,
    }

    def parts() -> Iterator[tuple[str, Any]]:
        yield f"table-{number}", packing.table(found)
        for time, (picture, plane) in enumerate(zip(pictures, labels, strict=True)):
            frame, thumbnail = packing.frame(picture, plane, side, room)
            about.setdefault("thumbnail", thumbnail)  # of the first
            yield f"frame-{number}-{time}", frame

    return about, parts()


def _data(name: str, value: Any) -> str:
    kind = 'type="application/json"'
    return f'<script {kind} id="{name}">{documents.embedded(value)}</script>\n'


def _digest(text: str) -> str:
    found = hashlib.sha256(text.encode()).digest()
    return f"'sha256-{base64.b64encode(found).decode()}'"


def _text(name: str) -> str:
    return (_PAGE / name).read_text(encoding="utf-8")
