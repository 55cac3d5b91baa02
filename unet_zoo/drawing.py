"""Drawings of architectures, made from the graph of the network itself.

Layers called `encoder0_conv1`, `encoder0_relu1` and so on are one box, `encoder0`.
Boxes stand on the level of their resolution and in the order of computation, so that a
U-Net is drawn as a U, and every arrow is a tensor that the network really passes on.
"""

from __future__ import annotations

import dataclasses
import html
import math
import os
from pathlib import Path
from typing import Any

import keras

from unet_zoo import files
from unet_zoo.errors import InputError

_WIDTH, _HEIGHT = 92, 34  # of a box
_ACROSS, _DOWN = 116, 62  # from one box to the next
_EDGE = 24
_RISE = 18  # of an arrow over other boxes; half of the way from a level to the next
_STYLE = """\
text { font: 11px sans-serif; text-anchor: middle; fill: #123 }
.box { fill: #cfe8e6; stroke: #00796b } .end { fill: #ffe3b8; stroke: #b26a00 }
.arrow { fill: none; stroke: #789; stroke-width: 1.4; marker-end: url(#tip) }
.level { text-anchor: start; fill: #789 }"""


@dataclasses.dataclass
class Stage:
    """A box: layers of one name, what they end in, and where their input comes from.

    Attributes:
        name: what the names of its layers have in common.
        level: how often the resolution was halved on the way to its output.
        channels: of its output.
        parameters: of all its layers.
        parents: names of the stages it reads from.
    """

    name: str
    level: int
    channels: int
    parameters: int = 0
    parents: list[str] = dataclasses.field(default_factory=list)


def stages(model: keras.Model) -> list[Stage]:
    """Return the stages of a model in the order of computation.

    A single layer between two stages (a pooling, a concatenation) is part of the
    second.

    Args:
        model: functional, built for images of a known size.

    Raises:
        InputError: when a spatial axis of the model is None.

    Example:
        >>> from unet_zoo import registry
        >>> model = registry.build("resunet", input_shape=(32, 32, 1), depth=1)
        >>> [(stage.name, stage.level) for stage in stages(model)]
        [('image', 0), ('encoder0', 0), ('bottom', 1), ('decoder0', 0), ('logits', 0)]
    """
    sizes = model.input_shape[1:-1]
    if None in sizes:
        message = (
            "A model is drawn at a known size. Build it with numbers in `input_shape`, "
            f"such as (256, 256, 1). Received: {model.input_shape[1:]}."
        )
        raise InputError(message)
    nodes = [
        node
        for depth in sorted(model._nodes_by_depth, reverse=True)
        for node in model._nodes_by_depth[depth]
    ]
    levels = _levels(nodes, sizes)
    names = _names(nodes)
    found: dict[str, Stage] = {}
    counted: set[Any] = set()
    for node in nodes:
        operation, name = node.operation, names[node.operation]
        channels = node.output_tensors[0].shape[-1]
        stage = found.setdefault(name, Stage(name, levels[node], channels))
        stage.level, stage.channels = levels[node], channels
        if operation not in counted and hasattr(operation, "count_params"):
            counted.add(operation)
            stage.parameters += operation.count_params()
        for parent in node.parent_nodes:
            source = names[parent.operation]
            if source != name and source not in stage.parents:
                stage.parents.append(source)
    return list(found.values())


def draw(model: keras.Model) -> str:
    """Return the drawing of a model as SVG text.

    Args:
        model: functional, built for images of a known size.

    Raises:
        InputError: when a spatial axis of the model is None.
    """
    boxes = stages(model)
    column: dict[str, int] = {}
    for box in boxes:
        # A loop back to an earlier box (a block used twice) has no column yet.
        known = [column[parent] for parent in box.parents if parent in column]
        column[box.name] = max(known, default=-1) + 1
    cells: dict[tuple[int, int], list[str]] = {}
    for box in boxes:
        cells.setdefault((box.level, column[box.name]), []).append(box.name)
    low, high = min(box.level for box in boxes), max(box.level for box in boxes)
    lanes = {
        level: max((len(names) for (at, _), names in cells.items() if at == level))
        for level in {box.level for box in boxes}
    }
    top = {low: _EDGE + _DOWN // 2}
    for level in range(low, high):
        top[level + 1] = top[level] + _DOWN * lanes.get(level, 1)
    place = {
        name: (_EDGE + 40 + col * _ACROSS, top[level] + lane * (_HEIGHT + 12))
        for (level, col), names in cells.items()
        for lane, name in enumerate(names)
    }
    width = max(x for x, _ in place.values()) + _WIDTH + _EDGE
    height = max(y for _, y in place.values()) + _HEIGHT + _EDGE
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" role="img">',
        f"<title>{html.escape(model.name)}</title><style>{_STYLE}</style>",
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" '
        'markerHeight="7" orient="auto"><path d="M0 0L8 4L0 8z" fill="#789"/>'
        "</marker></defs>",
    ]
    for level, y in top.items():
        size = "1" if level == 0 else f"1/{2**level}" if level > 0 else f"{2**-level}x"
        lines.append(f'<text class="level" x="4" y="{y + 21}">{size}</text>')
    for box in boxes:
        for parent in box.parents:
            between = any(
                at == box.level and column[parent] < col < column[box.name]
                for at, col in cells
            )
            lines.append(_arrow(place[parent], place[box.name], between))
    for box in boxes:
        x, y = place[box.name]
        kind = "end" if box.name == "image" or box.name.startswith("logits") else "box"
        middle = x + _WIDTH // 2
        lines += [
            f'<rect class="{kind}" x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" '
            'rx="4"/>',
            f'<text x="{middle}" y="{y + 14}">{html.escape(box.name)}</text>',
            f'<text x="{middle}" y="{y + 28}">{box.channels} ch</text>',
        ]
    return "\n".join([*lines, "</svg>", ""])


def write(path: str | os.PathLike[str], model: keras.Model) -> None:
    """Write the drawing of a model as an SVG file."""
    with files.replacing(Path(path)) as part:
        part.write_text(draw(model), encoding="utf-8")


def _arrow(start: tuple[int, int], end: tuple[int, int], between: bool) -> str:
    """Return a curve from the right of one box to the left of another."""
    x1, y1 = start[0] + _WIDTH, start[1] + _HEIGHT // 2
    x2, y2 = end[0], end[1] + _HEIGHT // 2
    bend = max(18, min(60, (x2 - x1) // 2))
    # Over the boxes that stand between the two.
    rise = _RISE if between and y1 == y2 else 0
    return (
        f'<path class="arrow" d="M{x1} {y1} C{x1 + bend} {y1 - 2 * rise} '
        f'{x2 - bend} {y2 - 2 * rise} {x2} {y2}"/>'
    )


def _levels(nodes: list[Any], sizes: tuple[int, ...]) -> dict[Any, int]:
    """Return how often the resolution was halved before each node's output."""
    levels: dict[Any, int] = {}
    for node in nodes:
        shape = node.output_tensors[0].shape
        parents = [parent for parent in node.parent_nodes if parent in levels]
        level = max((levels[parent] for parent in parents), default=0)
        inputs = [parent.output_tensors[0].shape for parent in parents]
        # Tokens have no size; they stay where they are until they are pixels again.
        if len(shape) == len(sizes) + 2:
            if isinstance(node.operation, keras.layers.Cropping2D):
                pass  # a border lost is not a resolution lost
            elif inputs and all(len(each) == len(shape) for each in inputs):
                # So of convolutions without padding: only a step of two counts.
                steps = math.log2(inputs[0][1] / shape[1])
                level += int(math.copysign(abs(steps) + 0.2, steps))
            elif inputs:
                level = round(math.log2(sizes[0] / shape[1]))
        levels[node] = level
    return levels


def _names(nodes: list[Any]) -> dict[Any, str]:
    """Return the stage that each layer belongs to."""
    names = {node.operation: node.operation.name.split("_")[0] for node in nodes}
    sizes: dict[str, int] = {}
    for name in names.values():
        sizes[name] = sizes.get(name, 0) + 1
    children: dict[Any, set[Any]] = {}
    for node in nodes:
        for parent in node.parent_nodes:
            children.setdefault(parent.operation, set()).add(node.operation)
    # From the end, so that a chain of single layers becomes part of one stage.
    for node in reversed(nodes):
        operation = node.operation
        name = names[operation]
        if sizes[name] > 1 or name == "image" or name.startswith("logits"):
            continue
        heirs = {names[child] for child in children.get(operation, ())}
        if len(heirs) == 1:
            names[operation] = heirs.pop()
    return names
