"""What is wrong with a file of a user's own data, and the way out."""

from __future__ import annotations

from pathlib import Path

from unet_zoo.errors import InputError


class Problem(InputError):
    """One thing that keeps a file from being used.

    Opening a dataset raises the first; `unet_zoo.checking` lists them all in the same
    words.

    Args:
        file: which one.
        what: a sentence that names the file, what was expected and what is there.
        way_out: sentences that say what to do, "" where `what` says so.

    >>> problem = Problem(Path("a.png"), "The mask a.png is no mask.", "Draw it.")
    >>> str(problem), problem.way_out
    ('The mask a.png is no mask. Draw it.', 'Draw it.')
    """

    def __init__(self, file: Path, what: str, way_out: str = "") -> None:
        super().__init__(f"{what} {way_out}".rstrip())
        self.file, self.what, self.way_out = file, what, way_out


def problem_of(file: Path, error: InputError) -> Problem:
    """Return any error about a file as a problem, in its own words."""
    return error if isinstance(error, Problem) else Problem(file, str(error))
