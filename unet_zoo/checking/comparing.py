"""What frames say about each other, and all of them together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

from unet_zoo.checking.findings import (
    SEVERITIES,
    Finding,
    of_fit,
    of_image,
    of_mask,
)
from unet_zoo.checking.looks import Look

_SPECK = 0.002  # of the median area
_LARGEST_SPECK = 50
_ALIKE = 0.97  # correlation of two thumbnails
_CLASSES = 20  # more values than this are ids
_FEW = 5
_WHOLLY_WRONG = ("resampled", "inverted", "one value")


def find(looks: Sequence[Look], kind: str, place: str) -> list[Finding]:
    """Return everything suspicious in frames; `kind` is that of the masks.

    `place` stands for the file where a finding is about all of them.
    The worst first, and of equals in the order of the frames.
    """
    found: list[Finding] = []
    usual = _usual_fit(looks)
    for number, look in enumerate(looks):
        found += of_image(number, look)
        found += of_mask(number, look)
        found += of_fit(number, look, usual)
    found += _inverted(looks)
    if kind != "semantic":
        # Of a mask that is wrong as a whole, its objects say nothing more.
        wrong = {each.frame for each in found if each.kind in _WHOLLY_WRONG}
        found += (each for each in _objects(looks, kind) if each.frame not in wrong)
    found += _twins(looks)
    found += _of_all(looks, place)
    return sorted(found, key=lambda each: SEVERITIES.index(each.severity))


def _usual_fit(looks: Sequence[Look]) -> float:
    heights = [each.fit.here for each in looks if each.fit is not None]
    return float(np.median(heights)) if len(heights) >= _FEW else 0.0


def _inverted(looks: Sequence[Look]) -> Iterator[Finding]:
    usable = [each for each in looks if len(each.ids) and each.one_value is None]
    share = float(np.median([each.foreground for each in usable] or [0.5]))
    # Which way objects differ from the ground, where nearly all of them do it so.
    ways = [
        _common_sign([getattr(each, name) for each in usable])
        for name in ("contrast", "texture")
    ]
    for number, look in enumerate(looks):
        way = (_sign(look.contrast, 0.1), _sign(look.texture, 0.1))
        if look.encloses:
            what = (
                f"One object of {look.name} is the ground that the others are holes in."
            )
        elif (
            look.one_value is None
            and (look.foreground - 0.5) * (share - 0.5) < 0
            and abs(look.foreground - 1 + share) < 0.5 * abs(look.foreground - share)
            and any(a * b < 0 for a, b in zip(way, ways, strict=True))
        ):
            what = (
                f"{look.foreground:.0%} of {look.name} are objects, of the median image"
                f" {share:.0%}, and they differ from the ground the other way round."
            )
        else:
            continue
        way_out = "The mask looks inverted: objects must be 1 and more, background 0."
        yield Finding("warning", "inverted", str(look.mask_file), what, way_out, number)


def _sign(value: float, least: float) -> int:
    return 0 if abs(value) < least else 1 if value > 0 else -1


def _common_sign(values: Sequence[float]) -> int:
    """Return the sign that four of five values have, 0 where there is none."""
    signs = [_sign(value, 0.1) for value in values]
    if len(signs) < _FEW:
        return 0
    return next((s for s in (1, -1) if signs.count(s) >= 0.8 * len(signs)), 0)


def _objects(looks: Sequence[Look], kind: str) -> Iterator[Finding]:
    areas = np.concatenate([each.areas for each in looks] or [np.zeros(0)])
    if not len(areas):
        return
    values = {int(value) for look in looks for value in look.ids}
    parts, ids = sum(each.scattered for each in looks), len(areas)
    several = ids > 1 or parts > 1
    if kind == "instances" and several and len(values) <= _CLASSES and 2 * parts > ids:
        first = max(range(len(looks)), key=lambda n: looks[n].scattered)
        yield Finding(
            "warning",
            "classes",
            str(looks[first].mask_file),
            f"The masks look like classes: {len(values)} values in all, and"
            f" {parts} of {ids} times a value has several separate parts.",
            "If they are classes, train with --target semantic --set"
            f" target_arguments.classes={max(values) + 1}. If they are objects, give"
            " each a number of its own.",
            first,
        )
    else:
        for number, look in enumerate(looks):
            if look.parted:
                yield _fragments(number, look)
    median = float(np.median(areas))
    limit = min(_LARGEST_SPECK, _SPECK * median)
    limit = max(limit, 1.0 if median < 50 else 3.0)
    for number, look in enumerate(looks):
        tiny = int(np.count_nonzero(look.areas <= limit))
        if tiny and median > 10:
            yield Finding(
                "warning",
                "specks",
                str(look.mask_file),
                f"{tiny} of the {len(look.ids)} objects of {look.name} have at most"
                f" {int(limit)} pixels, the median object has {median:.0f}.",
                "Remove them unless they are objects: each counts like a whole one.",
                number,
            )


def _fragments(number: int, look: Look) -> Finding:
    which = ", ".join(map(str, list(look.parted)[:5]))
    more = "" if len(look.parted) <= _FEW else f" and {len(look.parted) - _FEW} others"
    return Finding(
        "warning",
        "fragments",
        str(look.mask_file),
        f"{_plural(len(look.parted), 'object')} of {look.name} consist of parts far"
        f" from each other (ids {which}{more}).",
        "Give each part an id of its own, unless something lies across the object.",
        number,
    )


def _twins(looks: Sequence[Look]) -> Iterator[Finding]:
    """Yield images that are there twice, exactly or nearly."""
    first: dict[bytes, int] = {}
    for number, look in enumerate(looks):
        if look.low == look.high:
            continue
        other = first.setdefault(look.digest, number)
        if other == number:
            continue
        twin = looks[other]
        what = f"The image {look.name} ({look.split}) is the same as {twin.name}"
        what += f" ({twin.split})"
        way_out = "Take one of them away."
        severity, kind = "note", "duplicate"
        if look.split != twin.split:
            severity, kind = "warning", "duplicate across splits"
            what += ": what is measured on it flatters"
        if look.labels_digest != twin.labels_digest:
            severity = "warning"
            what += ", but their masks differ"
        yield Finding(severity, kind, str(look.image_file), what + ".", way_out, number)
    yield from _nearly_twins(looks)


def _nearly_twins(looks: Sequence[Look]) -> Iterator[Finding]:
    taught = [n for n, each in enumerate(looks) if each.split == "train"]
    judged = [n for n, each in enumerate(looks) if each.split == "test"]
    if not taught or not judged:
        return
    known = np.stack([looks[n].thumbnail for n in taught])
    for number in judged:
        look = looks[number]
        alike = known @ look.thumbnail
        nearest = int(alike.argmax())
        twin = looks[taught[nearest]]
        if alike[nearest] >= _ALIKE and twin.digest != look.digest:
            yield Finding(
                "warning",
                "near duplicate across splits",
                str(look.image_file),
                f"The image {look.name} (test) is nearly the same as {twin.name}"
                f" (train): their thumbnails correlate by {alike[nearest]:.3f}, so what"
                " is measured on it flatters.",
                "Test on other recordings, not on copies or neighbours of a film.",
                number,
            )


# === All frames ===


def _of_all(looks: Sequence[Look], place: str) -> Iterator[Finding]:
    if not looks:
        return
    counts = Counter(each.split for each in looks)

    def tell(severity: str, kind: str, what: str, way_out: str = "") -> Finding:
        return Finding(severity, kind, place, what, way_out)

    if not counts["validation"] and counts["train"] == 1:
        yield tell(
            "warning",
            "no validation",
            "There is one image to train on and none to validate.",
            "Annotate a second one: only that shows when to stop, and which weights are"
            " best.",
        )
    if 1 < counts["train"] + counts["validation"] < _FEW:
        yield tell(
            "note",
            "few images",
            f"There are {counts['train'] + counts['validation']} images to learn from.",
            "Five to ten that differ from each other are a good beginning.",
        )
    if not counts["test"]:
        yield tell(
            "note",
            "no test",
            "No images are held back for testing.",
            "Put pairs that were not trained on into test/ to measure honestly.",
        )
    without = [each for each in looks if each.one_value == 0]
    if without:
        names = ", ".join(each.name for each in without[:3])
        more = "" if len(without) <= 3 else f" and {len(without) - 3} others"
        severity = "warning" if 2 * len(without) > len(looks) else "note"
        yield tell(
            severity,
            "empty masks",
            f"{_plural(len(without), 'image')} of {len(looks)} hold no object: {names}"
            f"{more}.",
            "That is right where there is none; what is only not yet annotated must be"
            " -1.",
        )
    unknown = float(np.mean([each.unknown for each in looks]))
    if unknown:
        partly = sum(each.unknown > 0 for each in looks)
        yield tell(
            "note",
            "partly annotated",
            f"{unknown:.1%} of the pixels, in {partly} of {len(looks)} images, are not"
            " annotated (-1): they are neither taught nor measured.",
        )
    judged = [each for each in looks if each.split == "test"] or looks
    measured = sum(each.measured for each in judged)
    if measured < len(judged):
        yield tell(
            "note",
            "partly measured",
            f"{measured} of {len(judged)} images to test on have a reference good"
            " enough to measure against; the others only teach.",
        )
    depths = Counter(each.dtype for each in looks)
    if len(depths) > 1:
        told = ", ".join(f"{name} in {count}" for name, count in depths.items())
        yield tell(
            "note",
            "depths differ",
            f"Bit depths differ: {told}.",
            "Each image is normalised by itself, so they may be mixed.",
        )
    if sum(each.grey_as_colour for each in looks) == len(looks):
        yield tell(
            "note",
            "grey as colour",
            "Every image has three equal channels: grey stored as colour.",
            "Saved as grey they need a third of the memory, and grey images can be"
            " segmented with the result.",
        )
    if {each.image_file.suffix.lower() for each in looks} & {".jpg", ".jpeg"}:
        yield tell(
            "note",
            "jpeg",
            "Images are JPEG, whose blocks a network can see.",
            "Prefer PNG or TIFF, exported from the original recording.",
        )


def _plural(count: int, word: str) -> str:
    return f"{count} {word}" if count == 1 else f"{count} {word}s"
