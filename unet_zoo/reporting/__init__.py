"""What a training has to tell, as one HTML page that needs no other file."""

from __future__ import annotations

import html
import math
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unet_zoo import documents, files
from unet_zoo.metrics import ObjectErrors
from unet_zoo.reporting import charts
from unet_zoo.reporting.evidence import Evidence, Shown, gather
from unet_zoo.toml import to_toml

__all__ = ["Evidence", "gather", "write"]

_REFRESH = 30  # seconds
_BINS = 10
_STYLE = """
svg { width: 100%; height: auto; max-width: 34rem; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .grid { stroke: var(--line); }
svg .line { fill: none; stroke: var(--mark); stroke-width: 2; }
svg .dot, svg .bar { fill: var(--mark); }
svg .best { fill: #e65100; }
.side { display: grid; grid-template-columns: repeat(auto-fit, minmax(20rem, 1fr));
  gap: 1rem; }
.wide { grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); }
.pair { display: grid; grid-template-columns: 1fr 1fr; gap: .4rem; }
figcaption { color: var(--soft); font-size: .9rem; padding: .3rem 0 .8rem; }
pre { overflow-x: auto; font-size: .85rem; margin: 0; }
details { margin-top: .6rem; }
.state { font-weight: 600; color: var(--mark); }
"""


def write(
    path: str | os.PathLike[str],
    *,
    name: str,
    history: Sequence[Mapping[str, float]],
    metric: str,
    facts: Mapping[str, Any],
    evidence: Evidence | None,
    how: str = "",
    rate: float = math.nan,
    steps: int = 0,
    state: str = "finished",
) -> None:
    """Write the page: curves, images, errors, recipe, dataset, versions, time.

    Everything is in the one file, also the pictures. While the state is "training", a
    browser that shows the page reads it again every 30 seconds.

    Args:
        path: of the page; the one that is there is replaced, whole.
        name: heading of the page.
        history: a row for each validation, with "step", "loss", "seconds" and perhaps
            `metric` and other measures.
        metric: the one that decides which weights are the best.
        facts: of the weights; "recipe", "dataset" and "versions" are shown.
        evidence: what `gather` returned, None where nothing is validated.
        how: a sentence on how the images of `evidence` were segmented.
        rate: images a second that the training took in, nan if not known.
        steps: of the whole training.
        state: of the training: "training", "stopped" or "finished".

    Example:
        >>> import pathlib, tempfile
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "report.html"
        >>> row = {"step": 5, "loss": 0.5, "SEG": 0.25, "seconds": 2.0}
        >>> write(path, name="a", history=[row], metric="SEG", facts={}, evidence=None)
        >>> "0.2500 at step 5" in path.read_text()
        True
    """
    body = [_lead(history, metric, rate, steps, state), _curves(history, metric)]
    if evidence is not None and evidence.images:
        body += _seen(evidence, how)
    body += _made_of(facts, history)
    body.append(
        "<footer><p>Best weights: weights.h5 beside this page. "
        "Made by unet-zoo.</p></footer>"
    )
    text = documents.document(
        name,
        "\n".join(body),
        style=_STYLE,
        refresh=_REFRESH if state == "training" else 0,
    )
    with files.replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _lead(
    history: Sequence[Mapping[str, float]],
    metric: str,
    rate: float,
    steps: int,
    state: str,
) -> str:
    last = history[-1]
    step, seconds = int(last["step"]), float(last["seconds"])
    of = f" of {steps}" if steps else ""
    rows = {"state": state, "step": f"{step}{of}"}
    best = _best(history, metric)
    if best is not None:
        rows[f"best {metric}"] = f"{best[metric]:.4f} at step {int(best['step'])}"
    if "loss" in last:  # not before the first step
        rows["loss"] = f"{last['loss']:.4f}"
    rows["time"] = clock(seconds)
    if state == "training" and 0 < step < steps:
        rows["time left"] = f"about {clock(seconds / step * (steps - step))}"
    if math.isfinite(rate):
        rows["images a second"] = f"{rate:.3g}"
    return _table(rows)


def clock(seconds: float) -> str:
    """Return a time as people say it.

    >>> clock(8), clock(312), clock(7512)
    ('8 s', '5 min 12 s', '2 h 5 min')
    """
    whole = round(seconds)
    minutes, rest = divmod(whole, 60)
    if not minutes:
        return f"{rest} s"
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _best(
    history: Sequence[Mapping[str, float]], metric: str
) -> Mapping[str, float] | None:
    measured = [row for row in history if math.isfinite(row.get(metric, math.nan))]
    # Of equals the later: that is the one whose weights are kept.
    return max(measured, key=lambda row: (row[metric], row["step"]), default=None)


def _curves(history: Sequence[Mapping[str, float]], metric: str) -> str:
    drawn = []
    for key, title, best in (
        ("loss", "Loss in training", ""),
        (metric, f"{metric} in validation", "highest"),
    ):
        points = [(row["step"], row[key]) for row in history if key in row]
        chart = charts.curve(points, title, "step", best=best)
        if chart:
            drawn.append(
                f"<figure>{chart}<figcaption>{_say(title)}</figcaption></figure>"
            )
    inside = "\n".join(drawn)
    head = '<section id="curves"><h2>Curves</h2>'
    return f'{head}<div class="side">{inside}</div></section>'


def _seen(evidence: Evidence, how: str) -> list[str]:
    sections = []
    if evidence.errors is not None and evidence.errors.objects:
        sections.append(_objects(evidence.errors, evidence.images))
    for name, title, words, shown in (
        (
            "samples",
            "Validation images",
            "Left as annotated, right as found. Colours only tell neighbours apart.",
            evidence.samples,
        ),
        (
            "worst",
            "The worst images",
            f"Those with the lowest {evidence.metric}, the worst first. Look whether "
            "the network is wrong here, or the annotation.",
            evidence.worst,
        ),
    ):
        if shown:
            inside = "\n".join(_pair(each, evidence.metric) for each in shown)
            sections.append(
                f'<section id="{name}"><h2>{title}</h2><p>{_say(words)} {_say(how)}</p>'
                f'<div class="side wide">{inside}</div></section>'
            )
    return sections


def _pair(shown: Shown, metric: str) -> str:
    words = f"{shown.name}: {metric} {shown.value:.3f}"
    if shown.errors is not None:
        words += f"; {_counted(shown.errors)}"
    pictures = "".join(
        f'<img alt="{_say(shown.name)}, {kind}" src="{documents.jpeg(picture)}">'
        for kind, picture in (("annotated", shown.annotated), ("found", shown.found))
    )
    return (
        f'<figure><div class="pair">{pictures}</div>'
        f"<figcaption>{_say(words)}</figcaption></figure>"
    )


def _counted(errors: ObjectErrors) -> str:
    wrong = [
        f"{getattr(errors, name)} {name}"
        for name in ("missed", "merged", "split", "extra")
        if getattr(errors, name)
    ]
    return f"{errors.found} of {errors.objects} objects found" + "".join(
        f", {each}" for each in wrong
    )


def _objects(errors: ObjectErrors, count: int) -> str:
    share = 100 / errors.objects
    rows = {
        "found": f"{errors.found} ({share * errors.found:.1f} %): one found object "
        "covers more than half of it, and it alone",
        "missed": f"{errors.missed} ({share * errors.missed:.1f} %): none does",
        "merged": f"{errors.merged} ({share * errors.merged:.1f} %): the same found "
        "object covers another one too",
        "split": f"{errors.split} ({share * errors.split:.1f} %): two or more found "
        "objects lie in it",
        "extra": f"{errors.extra} found where nothing is annotated",
    }
    counts, _ = np.histogram(errors.jaccard, _BINS, (0, 1))
    chart = charts.histogram(
        counts.tolist(), "Overlap of objects", "intersection over union"
    )
    return (
        f'<section id="objects"><h2>Objects</h2><p>What became of the {errors.objects} '
        f'annotated objects of {count} validation images.</p><div class="side">'
        f"<div>{_table(rows)}</div><figure>{chart}<figcaption>Annotated objects by "
        "their overlap with what was found; 0: not found.</figcaption></figure></div>"
        "</section>"
    )


def _made_of(
    facts: Mapping[str, Any], history: Sequence[Mapping[str, float]]
) -> list[str]:
    sections = []
    for key, title in (("dataset", "Dataset"), ("versions", "Versions")):
        if facts.get(key):
            rows = {
                name: str(value)
                for name, value in facts[key].items()
                if value is not None
            }
            sections.append(
                f'<section id="{key}"><h2>{title}</h2>{_table(rows)}</section>'
            )
    if facts.get("recipe"):
        text = _say(to_toml(facts["recipe"]).rstrip())
        sections.insert(
            0,
            '<section id="recipe"><h2>Recipe</h2><p>Complete, as recipe.toml has it.'
            f"</p><details><summary>Every field</summary><pre>{text}</pre></details>"
            "</section>",
        )
    names = list({name: None for row in history for name in row})
    head = "".join(f"<th>{_say(name)}</th>" for name in names)
    lines = "".join(
        "<tr>" + "".join(f"<td>{_number(row.get(n))}</td>" for n in names) + "</tr>"
        for row in history
    )
    sections.append(
        '<section id="history"><h2>History</h2><details><summary>Every validation'
        f"</summary><table><tr>{head}</tr>{lines}</table></details></section>"
    )
    return sections


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:g}" if float(value).is_integer() else f"{value:.4f}"


def _table(rows: Mapping[str, str]) -> str:
    inside = "".join(
        f"<tr><th>{_say(name)}</th><td>{_say(value)}</td></tr>"
        for name, value in rows.items()
    )
    return f"<table>{inside}</table>"


def _say(text: str) -> str:
    return html.escape(text)
