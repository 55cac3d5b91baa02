"""Code in the documentation compiles, and runs where it needs no files."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import click
import numpy as np
import pytest

from unet_zoo import cli

ROOT = Path(__file__).parents[1]
# What the architecture has is an outline of the code.
PAGES = sorted({ROOT / "README.md", *(ROOT / "docs").glob("*.md")})
PAGES.remove(ROOT / "docs" / "architecture.md")


def blocks(page: Path) -> list[str]:
    """Return the blocks of Python on a page."""
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_python_compiles(page: Path) -> None:
    for block in blocks(page):
        compile(block, str(page), "exec")


def commands(page: Path) -> list[list[str]]:
    """Return the words of every command of ours on a page."""
    text = page.read_text().replace("\\\n", " ")
    lines = re.findall(r"^ *(unet-zoo [a-z].*)$", text, flags=re.M)
    lines += re.findall(r"`(unet-zoo [a-z][^`]*)`", text)
    words = (shlex.split(line.partition(" > ")[0], comments=True) for line in lines)
    return [line[1:] for line in words]


@pytest.mark.parametrize(
    "page",
    [*PAGES, ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("zoo/*/README.md"))],
    ids=lambda page: str(page.relative_to(ROOT)),
)
def test_every_command_and_option_is_there(page: Path) -> None:
    for words in commands(page):
        command: click.Command = cli.main
        # A command keeps the option of help that its first context gave it: -h too.
        context = click.Context(command, **command.context_settings)
        while isinstance(command, click.Group) and words:
            _, command, words = command.resolve_command(context, words)
            context = click.Context(command, parent=context)
        given, left, _ = command.make_parser(context).parse_args(list(words))
        assert not left, words
        for option in command.params:
            # Paths are examples, of files that are not there.
            if isinstance(option.type, click.Choice) and option.name in given:
                option.type_cast_value(context, given[option.name])


def run(page: str, word: str, **given: Any) -> dict[str, Any]:
    """Run the one block of a page that holds a word; return the names it gives."""
    (block,) = [each for each in blocks(ROOT / "docs" / page) if word in each]
    names = dict(given)
    exec(block, names)
    return names


def test_a_network_is_built_as_the_page_says() -> None:
    network = run("models.md", "registry.build")["network"]
    assert network.output_shape == (None, 256, 256, 3)


def test_a_pipeline_is_augmented_as_the_page_says() -> None:
    tf = pytest.importorskip("tensorflow")
    images = np.random.default_rng(0).random((4, 300, 280, 1)).astype("float32")
    labels = np.zeros((4, 300, 280), "int32")
    labels[:, 40:90, 60:120] = 1
    data = tf.data.Dataset.from_tensor_slices((images, labels))
    given = run("training.md", "data.enumerate()", data=data, tf=tf)
    image, maps = next(iter(given["data"]))
    assert image.shape == (4, 256, 256, 1)
    assert maps.shape[:3] == (4, 256, 256)
