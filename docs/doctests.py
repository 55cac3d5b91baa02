"""Show the doctests of our docstrings as code.

The parser of Google's style knows examples only under the heading "Examples:"; our
docstrings also write "Example:", or none at all when the text leads to the example.
Outside that heading Markdown takes `>>>` for a quotation.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

# A doctest with everything up to the next blank line, not indented: one under a heading
# is the parser's.
BARE = re.compile(r"^(>>> .*(?:\n.+)*)", flags=re.M)


class Doctests(griffe.Extension):
    """Fence every doctest that stands under no heading."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring as it is read."""
        if obj.docstring is not None:
            obj.docstring.value = fenced(obj.docstring.value)


def fenced(text: str) -> str:
    """Return the docstring with its examples where the parser looks for them."""
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.M)
    return BARE.sub(r"```pycon\n\1\n```", text)
