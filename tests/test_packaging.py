"""What is built is what is needed, and nothing else is installed by accident."""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path, PurePosixPath

import pytest

import unet_zoo

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LINKS = ("datasets", "zoo", "cli")
# Fewer tests than this means that some stopped being found, not that all is well.
FEWEST_TESTS = 900
SHIPPED = {
    "datasets": {".py", ".md", ".bib", ".txt", ".tsv"},
    "zoo": {".py", ".md", ".toml", ".png"},
    "cli": {".py"},
}


def python(code: str, folder: Path, *path: Path) -> str:
    """Run `code` in a fresh interpreter in `folder` and return what it prints."""
    found = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, path))}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=found,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Build a wheel from the checkout, and one from the source archive.

    In a copy, since setuptools leaves folders behind where it builds.
    """
    folder = tmp_path_factory.mktemp("wheels")
    source = folder / "source"
    wanted = ("unet_zoo", *LINKS, "pyproject.toml", "README.md", "LICENSE")
    source.mkdir()
    for name in wanted:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, symlinks=True, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source / name)
    found = {}
    for kind, arguments in {"checkout": ["--wheel"], "archive": []}.items():
        command = [sys.executable, "-m", "build", "--no-isolation", *arguments]
        command += ["--outdir", str(folder / kind), str(source)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        (found[kind],) = (folder / kind).glob("*.whl")
    return found


def contents(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def test_checkout_and_source_archive_give_the_same_wheel(
    wheels: dict[str, Path],
) -> None:
    assert contents(wheels["checkout"]) == contents(wheels["archive"])


def test_wheel_installs_nothing_but_unet_zoo(wheels: dict[str, Path]) -> None:
    tops = {name.split("/")[0] for name in contents(wheels["checkout"])}
    version = unet_zoo.__version__
    assert tops == {"unet_zoo", f"unet_zoo-{version}.dist-info"}


@pytest.mark.parametrize("link", LINKS)
def test_wheel_holds_what_stands_behind_the_links(
    wheels: dict[str, Path], link: str
) -> None:
    assert (ROOT / "unet_zoo" / link).is_symlink()
    expected = {
        str(PurePosixPath("unet_zoo", *file.relative_to(ROOT).parts))
        for file in (ROOT / link).rglob("*")
        if file.suffix in SHIPPED[link]
        and not {"__pycache__", "dummy_data", "fakes"} & set(file.parts)
    }
    shipped = contents(wheels["checkout"])
    assert f"unet_zoo/{link}/__init__.py" in shipped
    assert expected - shipped == set()


def test_wheel_is_small_and_leaves_out_what_only_a_figure_rests_on(
    wheels: dict[str, Path],
) -> None:
    wheel = wheels["checkout"]
    assert wheel.stat().st_size < 90e6
    weights = {name for name in contents(wheel) if name.endswith(".h5")}
    assert weights == {
        f"unet_zoo/{path.relative_to(ROOT)}"
        for path in (ROOT / "zoo").glob("*/weights.h5")
    }


def test_wheel_holds_the_marker_of_types_and_the_licence(
    wheels: dict[str, Path],
) -> None:
    shipped = contents(wheels["checkout"])
    assert "unet_zoo/py.typed" in shipped
    page = {path.name for path in (ROOT / "unet_zoo/viewing/page").iterdir()}
    assert {f"unet_zoo/viewing/page/{name}" for name in page} <= shipped
    assert any(name.endswith("licenses/LICENSE") for name in shipped)


def test_wheel_runs_away_from_the_checkout(
    wheels: dict[str, Path], tmp_path: Path
) -> None:
    inside = tmp_path / "site"
    with zipfile.ZipFile(wheels["archive"]) as archive:
        archive.extractall(inside)
    code = (
        "import unet_zoo, unet_zoo.datasets, unet_zoo.zoo, unet_zoo.cli, json;"
        "from unet_zoo import registry;"
        "modules = [unet_zoo, unet_zoo.datasets, unet_zoo.zoo, unet_zoo.cli];"
        "print(json.dumps([[m.__file__ for m in modules], registry.names()]))"
    )
    files, models = json.loads(python(code, tmp_path, inside))
    assert all(Path(file).is_relative_to(inside) for file in files)
    assert models == unet_zoo.list_models()


def test_the_script_exists() -> None:
    scripts = PROJECT["project"]["scripts"]
    assert scripts == {"unet-zoo": "unet_zoo.cli:main"}
    from unet_zoo import cli

    assert callable(cli.main)


@pytest.mark.parametrize("name", LINKS)
def test_bare_names_are_refused(name: str) -> None:
    """Somebody else's `datasets` must never be shadowed by ours unnoticed."""
    spec = importlib.util.spec_from_file_location(name, ROOT / name / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with pytest.raises(ImportError, match=f"imported as unet_zoo.{name}"):
        spec.loader.exec_module(module)


def test_import_is_free(tmp_path: Path) -> None:
    """`import unet_zoo` brings in the standard library and itself, nothing else."""
    code = (
        "import sys, json; before = set(sys.modules); import unet_zoo; dir(unet_zoo);"
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    brought = {name for name in json.loads(python(code, tmp_path, ROOT))}
    foreign = {
        name for name in brought if name.split(".")[0] not in sys.stdlib_module_names
    }
    assert foreign == {"unet_zoo", "unet_zoo._version"}


def test_every_public_name_resolves() -> None:
    for name in unet_zoo.__all__:
        assert getattr(unet_zoo, name) is not None
        assert name in dir(unet_zoo)


def test_type_checkers_see_the_names_that_exist() -> None:
    tree = ast.parse((ROOT / "unet_zoo" / "__init__.py").read_text(encoding="utf-8"))
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    told = {
        alias.asname or alias.name: (str(node.module).split(".")[1], alias.name)
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert told == unet_zoo._HOMES
    assert {*told, "__version__"} == set(unet_zoo.__all__)


def test_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = unet_zoo.lod


def test_lock_pins_every_dependency_and_names_no_place() -> None:
    text = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = PROJECT["project"]
    extras = project["optional-dependencies"]
    needed = {
        re.split(r"[<>=\[]", wanted)[0].lower().replace("_", "-")
        for wanted in sum(extras.values(), project["dependencies"])
    }
    assert needed - {"unet-zoo"} - pinned == set()


def test_generated_tables_of_the_readme_are_current() -> None:
    command = [sys.executable, "docs/generate.py", "--check", "README.md"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_whole_suite_is_collected(request: pytest.FixtureRequest) -> None:
    config = request.config
    whole = config.args_source is pytest.Config.ArgsSource.TESTPATHS
    if not whole or config.option.keyword or config.option.markexpr:
        pytest.skip("only part of the suite was asked for")
    files = {item.path for item in request.session.items}
    expected = {*ROOT.glob("tests/**/test_*.py")}
    expected |= {*(ROOT / "unet_zoo" / "datasets").glob("*/*_test.py")}
    assert expected - files == set()
    assert len(request.session.items) >= FEWEST_TESTS
