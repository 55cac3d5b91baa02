"""The folder is the list of models; what a file lacks is said by name."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import unet_zoo.models
from unet_zoo import errors, registry

GOOD = '''
INFO = {"title": "Tiny", "paper": "https://example.org/tiny", "year": 2020}

def tiny():
    """Build the tiny one.

    More about it.
    """
'''


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of models in place of the real one."""
    monkeypatch.setattr(registry, "FOLDER", tmp_path)
    monkeypatch.setattr(unet_zoo.models, "__path__", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "unet_zoo.models.tiny", raising=False)
    yield tmp_path
    sys.modules.pop("unet_zoo.models.tiny", None)


def test_a_file_is_a_model_and_underscored_files_are_not(folder: Path) -> None:
    assert registry.names() == []
    for name in ("tiny.py", "also.py", "_blocks.py", "__init__.py", "notes.md"):
        (folder / name).write_text(GOOD)
    assert registry.names() == ["also", "tiny"]


def test_info_reads_what_the_file_says(folder: Path) -> None:
    (folder / "tiny.py").write_text("import nothing_of_this_name\n" + GOOD)
    assert registry.info("tiny") == registry.ModelInfo(
        name="tiny",
        title="Tiny",
        paper="https://example.org/tiny",
        year=2020,
        summary="Build the tiny one.",
    )


def test_get_imports_and_build_passes_arguments(folder: Path) -> None:
    text = GOOD.replace("def tiny():", "def tiny(filters=1, *, depth=2):")
    (folder / "tiny.py").write_text(text + "    return filters, depth\n")
    assert registry.get("tiny").__name__ == "tiny"
    assert registry.build("tiny") == (1, 2)
    assert registry.build("tiny", depth=5, filters=4) == (4, 5)


@pytest.mark.parametrize("call", [registry.info, registry.get, registry.build])
@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unett", "Unknown model 'unett'. Did you mean 'unet'"),
        ("_blocks", "Unknown model '_blocks'."),
        ("../errors", "Unknown model '../errors'."),
        ("Unet", "Did you mean 'unet'"),
    ],
)
def test_unknown_names_get_near_matches(call, name: str, says: str) -> None:
    with pytest.raises(errors.InputError, match=re.escape(says)):
        call(name)


def test_an_unknown_argument_is_named_with_the_accepted_ones() -> None:
    says = "Model 'unet' has no argument 'filter'. Did you mean 'filters'? It accepts: "
    with pytest.raises(errors.InputError, match=re.escape(says)) as raised:
        registry.build("unet", filter=8)
    assert "input_shape, classes, filters, depth" in str(raised.value)
    with pytest.raises(errors.InputError, match=r"no argument 'zzz'\. It accepts: "):
        registry.build("unet", zzz=8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (GOOD.replace("def tiny", "def tinny"), "exactly one function called 'tiny'"),
        (GOOD + GOOD, "Found: 2"),
        (GOOD.replace("INFO", "FACTS"), "must define INFO"),
        (GOOD.replace("2020", "'2020'"), "must define INFO"),
        (GOOD.replace("2020", "int('2020')"), "must define INFO"),
        (GOOD.replace('"year": 2020', ""), "must define INFO"),
        (re.sub('"""(.|\n)*"""', "pass", GOOD), "needs a docstring"),
        ("def tiny(:", "is not Python"),
    ],
)
def test_info_says_what_a_file_lacks(folder: Path, text: str, says: str) -> None:
    (folder / "tiny.py").write_text(text)
    with pytest.raises(errors.InputError, match=re.escape(says)) as raised:
        registry.info("tiny")
    assert "tiny.py" in str(raised.value)


@pytest.mark.parametrize("text", ["", "tiny = 3"])
def test_get_refuses_a_file_without_its_function(folder: Path, text: str) -> None:
    (folder / "tiny.py").write_text(text)
    with pytest.raises(errors.InputError, match="must define a function called 'tiny'"):
        registry.get("tiny")


def test_listing_and_describing_import_no_framework() -> None:
    program = (
        "import sys; from unet_zoo import registry\n"
        "assert all(registry.info(name).summary for name in registry.names())\n"
        "heavy = {'keras', 'tensorflow', 'torch', 'jax', 'numpy'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_every_model_is_measured() -> None:
    """By `benchmarks/rank_models.py`, for the list and the page of models."""
    for name in registry.names():
        found = registry.measured(name)
        assert found["gmac"] > 0, name
        assert 0 < found["seconds_per_image"] < found["seconds_per_step"], name
        assert all(registry.measured_cells(name))
    assert registry.measured("unet")["parameters"] == 31_030_658
