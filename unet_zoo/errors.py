"""The one exception for what a user gave and can put right."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Something given cannot be used; the message says what, and the way out.

    The command line shows the message and exits with code 2. Anything else that
    escapes is a bug and keeps its traceback.
    """


class SizeError(InputError):
    """An image of this size cannot be taken; `fitting` is the next one that can.

    Attributes:
        fitting: sizes of the spatial axes, None where any size fits.
    """

    def __init__(self, message: str, fitting: tuple[int | None, ...]) -> None:
        super().__init__(message)
        self.fitting = fitting


def unknown(kind: str, word: str, options: Iterable[str]) -> InputError:
    """Return the error for a name that is not among `options`, near matches named.

    >>> str(unknown("model", "unett", ["unet", "resunet"]))
    "Unknown model 'unett'. Did you mean 'unet' or 'resunet'?"
    """
    known = sorted(options)
    # Upper and lower case are no difference to whoever mistyped a name.
    spelled = {name.lower(): name for name in known}
    near = [spelled[each] for each in difflib.get_close_matches(word.lower(), spelled)]
    if near:
        hint = "Did you mean " + " or ".join(repr(name) for name in near) + "?"
    else:
        hint = f"Known: {', '.join(known) or 'none'}."
    return InputError(f"Unknown {kind} {word!r}. {hint}")
