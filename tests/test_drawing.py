"""A drawing shows what the network is: its stages, their levels, every skip."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import keras
import pytest

from unet_zoo import drawing, errors, registry

SVG = "{http://www.w3.org/2000/svg}"


@pytest.mark.parametrize(
    ("name", "arguments"),
    [("unet", {"padding": "same"}), ("unet", {}), ("resunet", {})],
)
def test_a_u_net_is_drawn_as_a_u(name: str, arguments: dict[str, str]) -> None:
    model = registry.build_near(name, (128, 160), filters=4, depth=3, **arguments)
    found = {stage.name: stage for stage in drawing.stages(model)}
    assert list(found) == [
        *("image", "encoder0", "encoder1", "encoder2", "bottom"),
        *("decoder2", "decoder1", "decoder0", "logits"),
    ]
    assert [stage.level for stage in found.values()] == [0, 0, 1, 2, 3, 2, 1, 0, 0]
    for level in range(3):
        below = "bottom" if level == 2 else f"decoder{level + 1}"
        assert set(found[f"decoder{level}"].parents) == {below, f"encoder{level}"}
    assert sum(stage.parameters for stage in found.values()) == model.count_params()


def test_the_picture_has_every_box_and_every_arrow() -> None:
    model = registry.build("unet", input_shape=(64, 64, 1), padding="same", filters=2)
    stages = drawing.stages(model)
    root = ElementTree.fromstring(drawing.draw(model))
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert all(stage.name in texts for stage in stages)
    arrows = [each for each in root.iter(f"{SVG}path") if each.get("class") == "arrow"]
    assert len(arrows) == sum(len(stage.parents) for stage in stages)
    boxes = [
        (float(each.get("x", "")), float(each.get("y", "")))
        for each in root.iter(f"{SVG}rect")
    ]
    assert len(set(boxes)) == len(stages)
    assert all(0 <= x < float(root.get("width", "")) - 92 for x, _ in boxes)


def test_a_layer_used_twice_is_drawn_once() -> None:
    inputs = keras.Input((8, 8, 1), name="image")
    shared = keras.layers.Conv2D(1, 3, padding="same", name="again_conv")
    outputs = keras.layers.Conv2D(2, 1, name="logits")(shared(shared(inputs)))
    found = drawing.stages(keras.Model(inputs, outputs))
    assert [(each.name, each.parameters) for each in found] == [
        ("image", 0),
        ("again", 10),
        ("logits", 4),
    ]
    assert found[1].parents == ["image"]


def test_free_sizes_are_refused_with_the_way_out() -> None:
    model = registry.build("resunet", filters=2, depth=1)
    with pytest.raises(errors.InputError, match=r"such as \(256, 256, 1\)"):
        drawing.draw(model)


def test_the_file_holds_the_drawing(tmp_path: Path) -> None:
    model = registry.build("resunet", input_shape=(16, 16, 1), filters=2, depth=1)
    drawing.write(tmp_path / "a.svg", model)
    text = (tmp_path / "a.svg").read_text(encoding="utf-8")
    assert text == drawing.draw(model)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a.svg"]
