"""A dataset looked at before it is trained on: facts, findings and a recipe.

>>> from pathlib import Path
>>> import tempfile
>>> folder = Path(tempfile.mkdtemp())
>>> report = check(folder)
>>> report.refused, report.findings[0].what.replace(str(folder), "FOLDER")
(True, 'FOLDER has no pairs of images and masks.')
"""

from __future__ import annotations

import dataclasses
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from unet_zoo import catalog, images
from unet_zoo.catalog import folders, masks, outlines
from unet_zoo.catalog.problems import Problem, problem_of
from unet_zoo.checking import advice, comparing, findings
from unet_zoo.checking.advice import Suggestion
from unet_zoo.checking.findings import Finding
from unet_zoo.checking.looks import Frame, Look, frame_of, look
from unet_zoo.errors import InputError

__all__ = ["Finding", "Report", "Suggestion", "check"]

# Comparing the edges of image and mask takes the most time; of more frames than this,
# as many are compared, evenly spread.
REGISTERED = 500


@dataclasses.dataclass(frozen=True, eq=False)
class Report:
    """What `check` found.

    Attributes:
        name: of the dataset, as it was given.
        facts: plain values: "images", "splits", "sizes", "channels", "depths",
            "values", "kind" of the masks, "objects", "foreground", "unannotated".
            Lengths and areas are in pixels, shares from 0 to 1.
        findings: the worst first.
        suggestion: a recipe with its reasons, None where nothing can be trained on.
    """

    name: str
    facts: dict[str, Any]
    findings: tuple[Finding, ...]
    suggestion: Suggestion | None
    _frames: Callable[[], Iterator[Frame]] = dataclasses.field(repr=False)

    @property
    def refused(self) -> bool:
        """Return whether training would refuse this dataset."""
        return any(each.severity == "error" for each in self.findings)

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        suggestion = self.suggestion and dataclasses.asdict(self.suggestion)
        return {
            "name": self.name,
            "refused": self.refused,
            "facts": self.facts,
            "findings": [each.as_dict() for each in self.findings],
            "suggestion": suggestion,
        }

    def picture(self, path: str | os.PathLike[str], *, most: int = 12) -> None:
        """Write the worst offenders as one PNG: images with their masks' outlines.

        Each panel is titled with what was found; a file that training would refuse is
        shown as it is, where it can be read. Where nothing was found, the first images
        are shown, which is worth a look all the same.

        Args:
            path: ends in .png.
            most: number of panels.
        """
        panels = _unusable(self.findings)[:most]
        most -= len(panels)
        wanted: dict[int, list[str]] = {}
        for each in self.findings:
            if each.frame is not None and (each.frame in wanted or len(wanted) < most):
                wanted.setdefault(each.frame, []).append(each.kind)
        title = f"{self.name}: the images with the worst findings"
        if not wanted and not panels:
            wanted = {number: [] for number in range(most)}
            title = f"{self.name}: the first images"
        drawn = {}
        for number, frame in enumerate(self._frames() if wanted else ()):
            if number in wanted:
                drawn[number] = (frame, wanted[number])
            if number >= max(wanted):
                break
        panels += [drawn[number] for number in wanted if number in drawn]
        if not panels:
            message = f"There is no image of {self.name} that could be drawn."
            raise InputError(message)
        _draw(path, title, panels)


def check(
    name_or_path: str | os.PathLike[str],
    *,
    config: str | None = None,
    manual_dir: str | os.PathLike[str] | None = None,
    data_dir: str | os.PathLike[str] | None = None,
    validation: float = 0.12,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Look at every image and mask of a dataset and report all that is amiss.

    Unlike `catalog.open_dataset`, which raises the first error, this lists them all,
    in the same words, and what is suspicious besides: masks that are shifted, turned,
    inverted or resampled, images that are empty, saturated, or there twice, objects in
    fragments, specks, classes where objects are expected. It suggests a recipe.

    A mask counts as shifted where its edges agree with the image's gradient at another
    place: 7 robust standard deviations above chance there, and 1.25 times as far as
    where it is, drawn a little wider or tighter if need be (`checking.registering`).

    Args:
        name_or_path: as for `catalog.open_dataset`, and so are the others.
        config: of a named dataset.
        manual_dir: files that cannot be downloaded.
        data_dir: where named datasets are kept.
        validation: part of the training images to hold back.
        progress: called with the number of frames looked at, and of all.

    Raises:
        InputError: for a name or path that does not exist, or a named dataset that
            cannot be prepared.

    >>> report = check("blobs")  # doctest: +SKIP
    >>> report.suggestion.command  # doctest: +SKIP
    'unet-zoo train unet --dataset blobs --target distance --scale 1 --patch 256 ...'
    """
    if config is not None and catalog.is_own(name_or_path):
        catalog.open_dataset(name_or_path, config=config)  # says why not
    problems: list[Problem] = []
    note, remarks = "", Counter[str]()
    path = Path(name_or_path).expanduser()
    if catalog.is_own(name_or_path) and not folders.is_challenge(path):
        survey = folders.survey(path)
        problems += survey.problems
        meaning = masks.Meaning(path)
        good = _readable(survey, meaning, problems)
        problems += meaning.problems()
        count, kind = meaning.pages, meaning.kind
        remarks = meaning.told
        if not problems and "train" not in survey.pairs:
            problems += _without_training(path)
        if count:
            note = "; ".join([meaning.note().rstrip("."), *survey.remarks]) + "."
        held = {} if survey.pairs.get("validation") else {"train": validation}

        def frames() -> Iterator[Frame]:
            return _of_pairs(good, meaning, count_of, held)

        count_of = {split: sum(n for _, n in each) for split, each in good.items()}
    else:
        try:
            dataset = catalog.open_dataset(
                name_or_path,
                config=config,
                manual_dir=manual_dir,
                data_dir=data_dir,
                validation=validation,
            )
        except InputError as error:
            if not catalog.is_own(name_or_path):
                raise
            problems.append(problem_of(path, error))
            dataset = catalog.Dataset(str(path), "", None, "instances", "", {}, {})
        count, kind, note = sum(dataset.size_of.values()), dataset.kind, dataset.note

        def frames() -> Iterator[Frame]:
            return _of_dataset(dataset)

    looks = []
    step = max(1, -(-count // REGISTERED))
    for number, frame in enumerate(frames()):
        looks.append(look(frame, register=number % step == 0))
        if progress is not None:
            progress(number + 1, count)
    found = [findings.of_problem(each) for each in problems]
    found += _of_outlines(path, remarks)
    found += comparing.find(looks, kind, str(name_or_path))
    found.sort(key=lambda each: findings.SEVERITIES.index(each.severity))
    if any(each.kind == "classes" for each in found):
        kind = "semantic"
    return Report(
        name=str(name_or_path),
        facts=_facts(looks, kind, note),
        findings=tuple(found),
        suggestion=advice.suggest(looks, kind, str(name_or_path)),
        _frames=frames,
    )


# === Where frames come from ===

_Good = dict[str, list[tuple[masks.Pair, int]]]


def _readable(
    survey: folders.Survey, meaning: masks.Meaning, problems: list[Problem]
) -> _Good:
    """Return the pairs that can be read, with their pages; append what is wrong."""
    good: _Good = {split: [] for split in survey.pairs}
    for split, each in survey.pairs.items():
        for pair in each:
            try:
                pages = masks.read(pair)
            except Problem as problem:
                problems.append(problem)
                continue
            meaning.add(pair, pages)
            good[split].append((pair, len(pages)))
    return good


def _without_training(path: Path) -> list[Problem]:
    """Return what training says to data that are there for testing only."""
    try:
        catalog.open_dataset(path).sequence("train")
    except InputError as error:
        return [problem_of(path, error)]
    return []


def _of_pairs(
    good: _Good,
    meaning: masks.Meaning,
    count_of: dict[str, int],
    held: dict[str, float],
) -> Iterator[Frame]:
    for split, each in good.items():
        kept = count_of[split]
        kept -= catalog.held_back(kept, held.get(split, 0.0))
        number = 0
        for pair, _ in each:
            for page in masks.read(pair):
                where = split if number < kept else "validation"
                labels = meaning.labels(page)
                yield Frame(page.name, where, pair.image, pair.mask, page.image, labels)
                number += 1


def _of_dataset(dataset: catalog.Dataset) -> Iterator[Frame]:
    for split in dataset.size_of:
        for example in dataset.sequence(split):
            yield frame_of(example, split)


def _of_outlines(path: Path, told: Counter[str]) -> list[Finding]:
    """Return the findings about what happened to outlines."""
    harmless = (outlines.IGNORED,)
    return [
        Finding(
            "note" if what in harmless else "warning",
            "outlines",
            str(path),
            f"{count} {what}.",
            "" if what in harmless else "Look at them where they were drawn.",
        )
        for what, count in told.items()
    ]


# === Facts ===


def _facts(looks: Sequence[Look], kind: str, note: str) -> dict[str, Any]:
    facts: dict[str, Any] = {
        "images": len(looks),
        "splits": dict(Counter(each.split for each in looks)),
        "kind": kind,
        "note": note,
    }
    if not looks:
        return facts
    sizes = Counter(each.size for each in looks)
    facts |= {
        "sizes": {f"{y} x {x}": count for (y, x), count in sizes.most_common(10)},
        "different_sizes": len(sizes),
        "channels": sorted({each.channels for each in looks}),
        "depths": dict(Counter(each.dtype for each in looks)),
        "values": [min(e.low for e in looks), max(e.high for e in looks)],
        "foreground": float(np.mean([each.foreground for each in looks])),
        "unannotated": float(np.mean([each.unknown for each in looks])),
        "registered": sum(each.fit is not None for each in looks),
    }
    if kind == "semantic":
        pixels: Counter[int] = Counter()
        for each in looks:
            ids = zip(each.ids.tolist(), each.areas.tolist(), strict=True)
            pixels.update(dict(ids))
        whole = sum(each.size[0] * each.size[1] for each in looks)
        facts["classes"] = {str(k): pixels[k] / whole for k in sorted(pixels)}
        return facts
    areas = np.concatenate([each.areas for each in looks])
    counts = [len(each.ids) for each in looks]
    facts["objects"] = {
        "total": len(areas),
        "per_image": [min(counts), float(np.median(counts)), max(counts)],
        "touching": sum(e.touching for e in looks) / max(1, len(areas)),
        "at_edge": sum(e.at_edge for e in looks) / max(1, len(areas)),
    }
    if len(areas):
        spread = np.percentile(areas, (0, 5, 50, 95, 100))
        facts["objects"]["area"] = [float(each) for each in spread]
        facts["objects"]["diameter"] = [
            round(float(each), 1) for each in 2 * np.sqrt(spread / np.pi)
        ]
    return facts


# === Picture ===


_Panel = tuple[Frame, Sequence[str]]


def _unusable(found: Sequence[Finding]) -> list[_Panel]:
    """Return panels of the files that errors name, without outlines."""
    panels: list[_Panel] = []
    for each in found:
        file = Path(each.file)
        if each.severity != "error" or file.suffix.lower() not in images.SUFFIXES:
            continue
        try:
            image = images.read(file)[0]
        except InputError:
            continue
        nothing = np.zeros(image.shape[:2], np.int32)
        frame = Frame(file.name, "", file, file, image, nothing)
        panels.append((frame, ["error"]))
    return panels


def _draw(
    path: str | os.PathLike[str],
    title: str,
    panels: Sequence[_Panel],
) -> None:
    from matplotlib.figure import Figure

    from unet_zoo import outputs

    if Path(path).suffix.lower() != ".png":
        message = f"The picture is a PNG file: name {path} with the suffix .png"
        raise InputError(message)
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    size = (3.4 * columns, 3.8 * rows + 0.5)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for place in axes:
        place.set_axis_off()
    for place, (frame, kinds) in zip(axes, panels, strict=False):
        place.imshow(outputs.overlay(frame.image, frame.labels))
        name = frame.name if len(frame.name) < 36 else f"...{frame.name[-32:]}"
        place.set_title("\n".join([name, ", ".join(kinds)]), fontsize=8)
    with images.replacing(path) as part:
        figure.savefig(part, format="png")
