"""Curves and histograms as SVG text, in the colours of the page around them."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence

_WIDTH, _HEIGHT = 520, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 14, 40


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers from `low` to `high`.

    >>> ticks(0, 1), ticks(0.13, 0.31)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [0.15, 0.2, 0.25, 0.3])
    """
    rough = (high - low) / (most - 1)
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * n for n in (1, 2, 2.5, 5, 10) if unit * n >= rough * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [float(f"{n * step:.10g}") for n in range(first, last + 1)]


class _Frame:
    """Axes around a drawing, from data to pixels."""

    def __init__(self, x: tuple[float, float], y: tuple[float, float]) -> None:
        self.x, self.y = x, y

    def at(self, x: float, y: float) -> tuple[float, float]:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return (
            round(_LEFT + across * (_WIDTH - _LEFT - _RIGHT), 1),
            round(_HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM), 1),
        )

    def draw(self, title: str, below: str, content: Sequence[str]) -> str:
        parts = []
        for value in ticks(*self.y):
            left, y = self.at(self.x[0], value)
            right, _ = self.at(self.x[1], value)
            parts.append(f'<path class="grid" d="M{left} {y}H{right}"/>')
            parts.append(
                f'<text x="{left - 6}" y="{y + 4}" text-anchor="end">{value:g}</text>'
            )
        for value in ticks(*self.x):
            x, y = self.at(value, self.y[0])
            parts.append(
                f'<text x="{x}" y="{y + 16}" text-anchor="middle">{value:g}</text>'
            )
        middle = (_LEFT + _WIDTH - _RIGHT) / 2
        parts.append(
            f'<text x="{middle}" y="{_HEIGHT - 6}" text-anchor="middle">'
            f"{html.escape(below)}</text>"
        )
        inside = "\n".join([*parts, *content])
        return (
            f'<svg role="img" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
            f'aria-label="{html.escape(title)}">\n{inside}\n</svg>'
        )


def curve(
    points: Sequence[tuple[float, float]], title: str, below: str, *, best: str = ""
) -> str:
    """Return a line through `points`, as SVG; "" where there are none.

    Args:
        points: (x, y) with finite numbers, x ascending.
        title: for those who do not see it.
        below: what the x axis is.
        best: "highest" or "lowest" marks that point.
    """
    points = [(x, y) for x, y in points if math.isfinite(x) and math.isfinite(y)]
    if not points:
        return ""
    values = [y for _, y in points]
    room = 0.06 * (max(values) - min(values)) or 0.1 * abs(values[0]) or 1.0
    low = min(values) - room
    if min(values) >= 0:
        low = max(0.0, low)
    last = max(points[-1][0], points[0][0] + 1)
    first = 0.0 if points[0][0] >= 0 else points[0][0]
    frame = _Frame((first, last), (low, max(values) + room))
    places = [frame.at(*point) for point in points]
    line = " ".join(f"{x},{y}" for x, y in places)
    content = [f'<polyline class="line" points="{line}"/>']
    chosen = None
    if best:
        pick = max if best == "highest" else min
        # Of equals the last, whose weights are those that a training keeps.
        chosen = len(values) - 1 - values[::-1].index(pick(values))
    for number, ((x, y), (across, up)) in enumerate(zip(points, places, strict=True)):
        kind = "best" if number == chosen else "dot"
        radius = 5 if kind == "best" else 2.5
        content.append(
            f'<circle class="{kind}" cx="{across}" cy="{up}" r="{radius}">'
            f"<title>{html.escape(below)} {x:g}: {y:.4g}</title></circle>"
        )
    return frame.draw(title, below, content)


def histogram(counts: Sequence[int], title: str, below: str) -> str:
    """Return bars of equal width between 0 and 1, as SVG; "" where all are 0."""
    if not sum(counts):
        return ""
    frame = _Frame((0.0, 1.0), (0.0, 1.08 * max(counts)))
    content = []
    for number, count in enumerate(counts):
        ends = number / len(counts), (number + 1) / len(counts)
        left, top = frame.at(ends[0], count)
        right, ground = frame.at(ends[1], 0)
        content.append(
            f'<rect class="bar" x="{left + 1}" y="{top}" width="{right - left - 2:.1f}"'
            f' height="{ground - top:.1f}"><title>{ends[0]:g} to {ends[1]:g}: {count}'
            "</title></rect>"
        )
    return frame.draw(title, below, content)
