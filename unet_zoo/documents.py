"""HTML pages that need no other file and no network: what all of ours share."""

from __future__ import annotations

import base64
import html
import io
import json
from typing import Any

import numpy as np

# Named colours of light and dark pages; every rule of ours asks for them by name.
COLOURS = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5a6675; --paper: #fbfbfa;
  --card: #ffffff; --line: #dfe3e8; --mark: #00838f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --soft: #a5afbb;
  --paper: #14181d; --card: #1d232a; --line: #333c46; --mark: #4dd0e1; } }
"""
_STYLE = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
main { max-width: 1180px; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 0 0 .4rem; }
p { margin: 0 0 .8rem; max-width: 46rem; }
.lead { color: var(--soft); }
nav { display: flex; flex-wrap: wrap; gap: .5rem; margin: 1.2rem 0; }
nav a { border: 1px solid var(--line); border-radius: 999px; padding: .2rem .8rem;
  background: var(--card); }
a { color: var(--mark); text-decoration: none; }
a:hover { text-decoration: underline; }
table { border-collapse: collapse; margin: 0 0 1.4rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .9rem .25rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); white-space: nowrap; }
section { background: var(--card); border: 1px solid var(--line); border-radius: 10px;
  padding: 1.1rem 1.2rem; margin: 0 0 1.6rem; }
figure { margin: .6rem 0 0; }
img { display: block; width: 100%; height: auto; background: white;
  border-radius: 6px; }
footer { color: var(--soft); font-size: .9rem; }
"""
CLOSING = "</body>\n</html>\n"


def document(title: str, body: str, *, style: str = "", refresh: int = 0) -> str:
    """Return a page of text and pictures, whole.

    Args:
        title: its heading too.
        body: HTML of what stands below the heading.
        style: CSS added to the house's.
        refresh: seconds after which a browser reads the page again; 0: never.

    >>> document("A & B", "<p>text</p>").count("A &amp; B")
    2
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return f"""{opening(title, style=_STYLE + style, head=again)}<main>
<h1>{html.escape(title)}</h1>
{body}
</main>
{CLOSING}"""


def opening(title: str, *, style: str, head: str = "") -> str:
    """Return a page up to the beginning of its body; `CLOSING` ends it.

    Args:
        title: of the window.
        style: CSS after `COLOURS`.
        head: more elements of the head, before the style.

    >>> opening("A < B", style="").endswith("<body>\\n")
    True
    """
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{head}<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{COLOURS}{style}</style>
</head>
<body>
"""


def data_url(content: bytes, kind: str) -> str:
    """Return a file of media type `kind` as the address of itself.

    >>> data_url(b"png", "image/png")
    'data:image/png;base64,cG5n'
    """
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def jpeg(picture: np.ndarray, *, quality: int = 88, subsampling: int = 0) -> str:
    """Return a uint8 picture (Y, X, 3) or (Y, X) as the address of a JPEG.

    Args:
        picture: what to show.
        quality: 1 to 95.
        subsampling: 0 keeps the colours of thin lines; 2 makes files smaller.

    >>> jpeg(np.zeros((8, 8), np.uint8))[:23]
    'data:image/jpeg;base64,'
    >>> noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    >>> len(jpeg(noise)) > noise[..., 0].size
    True
    """
    import PIL.Image

    memory = io.BytesIO()
    # Not optimized: Pillow gives that a buffer of a byte a pixel, and noise needs more.
    PIL.Image.fromarray(picture).save(
        memory, "JPEG", quality=quality, subsampling=subsampling
    )
    return data_url(memory.getvalue(), "image/jpeg")


def embedded(value: Any) -> str:
    """Return plain values as JSON that no text in them can end or escape from.

    Within a `<script>`, only `<` can begin what the browser takes for the end of it;
    it is written as JSON's own escape, so a reader of the JSON sees no difference.

    >>> text = embedded({"name": "</script><img>"})
    >>> "<" in text, json.loads(text)
    (False, {'name': '</script><img>'})
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
