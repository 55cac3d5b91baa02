"""The pages in one HTML file, which needs no other file and no network."""

from __future__ import annotations

import dataclasses
import html
from collections.abc import Mapping, Sequence

from unet_zoo import documents


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
        source = documents.data_url(pictures[page.name], "image/png")
        words = "\n".join(f"<p>{say(paragraph)}</p>" for paragraph in page.words)
        sections.append(
            f'<section id="{page.name}">\n<h2>{say(page.title)}</h2>\n{words}\n'
            f'<figure><img alt="{say(page.title)}: {say(page.words[0])}" '
            f'src="{source}"></figure>\n</section>'
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
    return documents.document(title, body)
