"""The pages in one HTML file, which needs no other file and no network."""

from __future__ import annotations

import base64
import dataclasses
import html
from collections.abc import Mapping, Sequence

_STYLE = """
:root { color-scheme: light dark; --ink: #1b2330; --soft: #5a6675; --paper: #fbfbfa;
  --card: #ffffff; --line: #dfe3e8; --mark: #00838f; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8ebef; --soft: #a5afbb;
  --paper: #14181d; --card: #1d232a; --line: #333c46; --mark: #4dd0e1; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.55 system-ui, sans-serif; }
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


@dataclasses.dataclass(frozen=True)
class Page:
    """One page: its file's name without suffix, its title and what is seen on it."""

    name: str
    title: str
    words: Sequence[str]  # paragraphs


def write(
    title: str,
    lead: str,
    facts: Mapping[str, str],
    pages: Sequence[Page],
    pictures: Mapping[str, bytes],
    left_out: Sequence[str],
) -> str:
    """Return the HTML file.

    Args:
        title: heading of the file.
        lead: a paragraph below it.
        facts: what was drawn, by name.
        pages: in order.
        pictures: the PNG file of each page, by its name.
        left_out: a sentence for each page that there is not.

    >>> page = Page("a", "First", ["What is seen."])
    >>> text = write("Blobs", "Seen.", {"patch": "64"}, [page], {"a": b"png"}, [])
    >>> 'src="data:image/png;base64,cG5n"' in text
    True
    """
    say = html.escape
    rows = "\n".join(
        f"<tr><th>{say(name)}</th><td>{say(value)}</td></tr>"
        for name, value in facts.items()
    )
    links = "\n".join(f'<a href="#{page.name}">{say(page.title)}</a>' for page in pages)
    sections = []
    for page in pages:
        data = base64.b64encode(pictures[page.name]).decode()
        words = "\n".join(f"<p>{say(paragraph)}</p>" for paragraph in page.words)
        sections.append(
            f'<section id="{page.name}">\n<h2>{say(page.title)}</h2>\n{words}\n'
            f'<figure><img alt="{say(page.title)}: {say(page.words[0])}" '
            f'src="data:image/png;base64,{data}"></figure>\n</section>'
        )
    missing = "\n".join(f"<p>{say(sentence)}</p>" for sentence in left_out)
    body = f"""<p class="lead">{say(lead)}</p>
<nav>
{links}
</nav>
<table>
{rows}
</table>
{chr(10).join(sections)}
<footer>
{missing}
<p>Each picture is a PNG file beside this page as well. Made by unet-zoo.</p>
</footer>"""
    return document(title, body)


def document(title: str, body: str, *, style: str = "", refresh: int = 0) -> str:
    """Return an HTML page that needs no other file and no network.

    Args:
        title: its heading too.
        body: HTML of what stands below the heading.
        style: CSS added to the house's.
        refresh: seconds after which a browser reads the page again; 0: never.

    >>> document("A & B", "<p>text</p>").count("A &amp; B")
    2
    """
    again = f'<meta http-equiv="refresh" content="{refresh}">\n' if refresh else ""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{again}<title>{html.escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}{style}</style>
</head>
<body>
<main>
<h1>{html.escape(title)}</h1>
{body}
</main>
</body>
</html>
"""
