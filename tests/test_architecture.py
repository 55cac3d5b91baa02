"""The order of imports is the one that docs/architecture.md gives.

The levels are read from the page's own table, so page and test cannot differ.
Imports inside functions count as well: they are dependencies too.
"""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
PACKAGE = ROOT / "unet_zoo"
FILES = sorted(
    {
        file
        for folder in (PACKAGE, PACKAGE / "cli", PACKAGE / "datasets", PACKAGE / "zoo")
        for file in folder.rglob("*.py")
        if not file.name.endswith("_test.py")
    }
)
# The front door may name every room, and the zoo holds no code.
WITHOUT_LEVEL = {"__init__", "_version", "zoo"}


class Import(NamedTuple):
    module: str
    line: int


def levels() -> dict[str, int]:
    """Return {"errors": 0, ..., "cli": 8} from the table of the page."""
    found: dict[str, int] = {}
    for level, cell in re.findall(r"^\| (\d+) \| ([^|]+) \|", PAGE, flags=re.M):
        for name in re.findall(r"`(\w+)(?:/\*)?`", cell):
            assert name not in found, f"the table lists {name} twice"
            found[name] = int(level)
    return found


LEVELS = levels()


def dotted(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    """Return the row of the table that a dotted module belongs to.

    A module that outgrew one file is a folder of the same name.
    """
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports(tree: ast.AST, package: str) -> list[Import]:
    """Return every module that is imported anywhere in `tree`, dotted and absolute."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [Import(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*up, base] if base else up)
            # `from unet_zoo import files` imports unet_zoo.files
            found += [
                Import(f"{base}.{alias.name}", node.lineno) for alias in node.names
            ]
    return sorted(found, key=lambda item: item.line)


def package_of(file: Path) -> str:
    return ".".join(file.relative_to(ROOT).parent.parts)


def parsed(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def where(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def named(file: Path) -> str:
    return str(file.relative_to(PACKAGE))


def upward(source: str, package: str, own: str) -> list[Import]:
    """Return the imports in `source` that reach the same level or a higher one."""
    wrong = []
    for found in imports(ast.parse(source), package):
        if found.module.split(".")[0] != "unet_zoo":
            continue
        other = room(found.module)
        if other in {own, "_version", "__version__"}:
            continue
        beside = LEVELS[own] == 0 and other in {"errors", "files"}
        if other not in LEVELS or (LEVELS[other] >= LEVELS[own] and not beside):
            wrong.append(found)
    return wrong


def test_modules_import_only_levels_above() -> None:
    wrong = []
    for file in FILES:
        own = room(dotted(file))
        if own in WITHOUT_LEVEL:
            continue
        assert own in LEVELS, f"{named(file)} has no row in docs/architecture.md"
        source = file.read_text(encoding="utf-8")
        for module, line in upward(source, package_of(file), own):
            wrong.append(f"{where(file, line)} imports {module}")
    assert not wrong


@pytest.mark.parametrize(
    ("source", "package", "own", "expected"),
    [
        ("from unet_zoo import targets", "unet_zoo", "losses", ["unet_zoo.targets"]),
        (
            "def f():\n    import unet_zoo.cli",
            "unet_zoo",
            "segmenter",
            ["unet_zoo.cli"],
        ),
        ("from . import training", "unet_zoo", "segmenter", ["unet_zoo.training"]),
        ("from ..metrics import x", "unet_zoo.models", "models", []),
        ("from .. import targets", "unet_zoo.models", "models", ["unet_zoo.targets"]),
        ("from unet_zoo.models import _blocks", "unet_zoo.models", "models", []),
        ("from unet_zoo import errors", "unet_zoo", "registry", []),
        ("from unet_zoo import recipe", "unet_zoo", "registry", ["unet_zoo.recipe"]),
        ("from unet_zoo import load", "unet_zoo", "training", ["unet_zoo.load"]),
    ],
)
def test_the_rule_itself(
    source: str, package: str, own: str, expected: list[str]
) -> None:
    found = [item.module.rsplit(".x", 1)[0] for item in upward(source, package, own)]
    assert found == expected


def test_every_row_of_the_table_exists() -> None:
    there = {room(dotted(file)) for file in FILES}
    assert LEVELS.keys() - there == set()


def test_the_lowest_level_needs_only_the_standard_library() -> None:
    allowed = sys.stdlib_module_names | {"unet_zoo"}
    wrong = [
        f"{where(file, line)} imports {module}"
        for file in FILES
        if LEVELS.get(room(dotted(file))) == 0
        for module, line in imports(parsed(file), package_of(file))
        if module.split(".")[0] not in allowed
    ]
    assert not wrong


def test_tensorflow_stays_in_its_rooms_and_comes_after_keras() -> None:
    sentence = re.search(r"^`tensorflow` is imported in (.+?) only", PAGE, flags=re.M)
    assert sentence is not None
    rooms = set(re.findall(r"`(\w+)`", sentence[1]))
    wrong = []
    for file in FILES:
        found = imports(parsed(file), package_of(file))
        line_of = {module.split(".")[0]: line for module, line in reversed(found)}
        if "tensorflow" not in line_of:
            continue
        line = line_of["tensorflow"]
        if room(dotted(file)) not in rooms:
            wrong.append(f"{where(file, line)} imports tensorflow")
        elif line_of.get("keras", line) >= line:
            wrong.append(f"{where(file, line)} must import keras first")
    assert not wrong


def test_only_the_command_line_prints_or_exits() -> None:
    speaking = {"print", "click.echo", "sys.stdout.write"}
    leaving = {"exit", "quit", "sys.exit", "os._exit", "SystemExit"}
    wrong = [
        f"{where(file, node.lineno)} calls {ast.unparse(node.func)}"
        for file in FILES
        if room(dotted(file)) != "cli"
        for node in ast.walk(parsed(file))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in speaking | leaving
    ]
    assert not wrong


def test_models_know_nothing_of_each_other() -> None:
    """What two variants share stands in a file that begins with an underscore."""
    for file in sorted((PACKAGE / "models").glob("*.py")):
        for module, line in imports(parsed(file), package_of(file)):
            parts = module.split(".")
            if parts[:2] == ["unet_zoo", "models"] and len(parts) > 2:
                assert parts[2].startswith("_"), where(file, line)
