"""Which models exist: the files of `unet_zoo/models`, nothing else to keep in step.

Listing and describing read the files as text, so that neither costs the import of
keras; only `get` and `build` import a model.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from unet_zoo import errors

FOLDER = Path(__file__).parent / "models"
# Written by benchmarks/rank_models.py, so that a list costs no import of keras.
_MEASURED = FOLDER / "_measured.json"


@dataclasses.dataclass(frozen=True)
class ModelInfo:
    """What a model's file says about it.

    Attributes:
        name: of the file and its function.
        title: what the paper calls it.
        paper: where to read it.
        year: of its first publication.
        summary: first line of the function's docstring.
        ranks: how many spatial axes its images may have.
        recipe: arguments that it is trained with unless a user says otherwise, where
            those of the default recipe (16 filters, depth 4) do not suit it.
        engines: what its weights can be run by (see `unet_zoo.engines`).
    """

    name: str
    title: str
    paper: str
    year: int
    summary: str
    ranks: tuple[int, ...] = (2,)
    recipe: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    engines: tuple[str, ...] = ("keras", "openvino", "onnx")


def names() -> list[str]:
    """Return the names of all models, sorted.

    >>> "unet" in names()
    True
    """
    files = FOLDER.glob("*.py")
    return sorted(file.stem for file in files if not file.stem.startswith("_"))


def info(name: str) -> ModelInfo:
    """Return what the file of `name` says about itself, without importing it.

    Raises `InputError` for an unknown name, near matches named, and for a file that
    does not hold exactly one function of its name with a docstring, and `INFO`, a
    literal dictionary of `title`, `paper` and `year`, and where they differ from
    what most have, `ranks` (2,), `recipe` {} and `engines` all.

    >>> info("unet").year
    2015
    """
    file = _file(name)
    try:
        body = ast.parse(file.read_text(encoding="utf-8")).body
    except SyntaxError as error:
        message = f"{_shown(file)} is not Python: {error.msg}, line {error.lineno}."
        raise errors.InputError(message) from error
    function = _only_function(body, file)
    summary = (ast.get_docstring(function) or "").partition("\n")[0]
    if not summary:
        message = f"{_shown(file)}: the function {name!r} needs a docstring."
        raise errors.InputError(message)
    return ModelInfo(name=name, summary=summary, **_facts(body, file))


def arguments(name: str) -> dict[str, str]:
    """Return the arguments of a model with their defaults, as its file spells them.

    Read as text: importing the file would import keras.

    >>> arguments("resunet")["filters"]
    '16'
    """
    source = _file(name).read_text(encoding="utf-8")
    function = next(
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == name
    )
    free = [*function.args.posonlyargs, *function.args.args]
    named = [*free, *function.args.kwonlyargs]
    values: list[ast.expr | None] = [None] * (len(free) - len(function.args.defaults))
    values += [*function.args.defaults, *function.args.kw_defaults]
    return {
        argument.arg: "(required)" if value is None else ast.unparse(value)
        for argument, value in zip(named, values, strict=True)
    }


def measured(name: str) -> dict[str, Any]:
    """Return what `benchmarks/rank_models.py` measured of a model, {} if nothing yet.

    The default model at `size` x `size` pixels: "parameters", "gmac" (10**9
    multiply-accumulates), "seconds_per_image" and "seconds_per_step" of training,
    batch 1, and "size": 512, but for a model that needs too much memory there.

    >>> registry.measured("unet")["parameters"]  # doctest: +SKIP
    31030658
    """
    _file(name)
    found: dict[str, Any] = _measurements()["models"].get(name, {})
    return found


def measured_cells(name: str) -> tuple[str, str, str, str]:
    """Return what `measured` says, for people; empty where nothing is measured."""
    found = measured(name)
    if not found:
        return "", "", "", ""
    at = "" if found["size"] == 512 else f" ({found['size']} px)"
    return (
        f"{found['parameters'] / 1e6:.2f} M",
        f"{found['gmac']:.0f}{at}",
        f"{found['seconds_per_image']:.2f}{at}",
        f"{found['seconds_per_step']:.2f}{at}",
    )


def measured_on() -> str:
    """Return the machine and the versions that `measured` is about."""
    return str(_measurements()["on"])


def _measurements() -> dict[str, Any]:
    if not _MEASURED.exists():
        return {"on": "nothing is measured yet", "models": {}}
    found: dict[str, Any] = json.loads(_MEASURED.read_text(encoding="utf-8"))
    return found


def get(name: str) -> Callable[..., Any]:
    """Import the model `name` and return its function.

    Raises `InputError` for an unknown name, near matches named, and for a file
    without a function of its name.
    """
    file = _file(name)
    module = importlib.import_module(f"unet_zoo.models.{name}")
    function = getattr(module, name, None)
    if not inspect.isfunction(function):
        message = f"{_shown(file)} must define a function called {name!r}."
        raise errors.InputError(message)
    return function


def build(name: str, **arguments: Any) -> Any:
    """Build the model `name` with its `arguments` and return the `keras.Model`.

    Raises `InputError` for an unknown name or argument, near matches named, and for
    values the model refuses. The word "none" stands for None.

    >>> build("unet", input_shape=(64, 64, 1), depth=1, filters=4).output_shape
    (None, 48, 48, 2)
    """
    function = get(name)
    accepted = list(inspect.signature(function).parameters)
    for word in arguments:
        if word not in accepted:
            near = difflib.get_close_matches(word, accepted, n=1)
            hint = f" Did you mean {near[0]!r}?" if near else ""
            message = (
                f"Model {name!r} has no argument {word!r}.{hint} "
                f"It accepts: {', '.join(accepted)}."
            )
            raise errors.InputError(message)
    # "none" is how a recipe, which has no None, spells it.
    given = {
        word: None if value == "none" else value for word, value in arguments.items()
    }
    return function(**given)


def build_near(name: str, size: Sequence[int], **arguments: Any) -> Any:
    """Build the model `name` at `size` or, where that does not fit, the next that does.

    Args:
        name: of the model.
        size: of the spatial axes.
        arguments: of the model; `channels`, by default the model's own, in place of
            `input_shape`.

    >>> build_near("unet", (64, 64), depth=1, filters=4, padding="valid").input_shape
    (None, 64, 64, 1)
    >>> build_near("unet", (63, 65), depth=1, filters=4, padding="valid").input_shape
    (None, 64, 66, 1)
    """
    channels = arguments.pop("channels", None) or _channels(name)
    try:
        return build(name, input_shape=(*size, channels), **arguments)
    except errors.SizeError as error:
        return build(name, input_shape=(*error.fitting, channels), **arguments)


def _channels(name: str) -> int:
    """Return how many channels the images of a model have by default."""
    return int(ast.literal_eval(arguments(name)["input_shape"])[-1])


def step(name: str, **arguments: Any) -> int:
    """Return the number of pixels that the heights and widths of a model count in.

    Of a padded network these are the multiples of this number; where any size fits, it
    is 1.

    Args:
        name: of the model.
        arguments: as for `build_near`.

    >>> step("unet", padding="same"), step("resunet", depth=3)
    (16, 8)
    """
    channels = arguments.pop("channels", None) or _channels(name)
    try:
        build(name, input_shape=(1, 1, channels), **arguments)
    except errors.SizeError as error:
        return max(size or 1 for size in error.fitting)
    return 1


def _file(name: str) -> Path:
    known = names()
    if name not in known:
        error = errors.unknown("model", str(name), known)
        raise error
    return FOLDER / f"{name}.py"


def _shown(file: Path) -> str:
    return f"unet_zoo/models/{file.name}"


def _only_function(body: list[ast.stmt], file: Path) -> ast.FunctionDef:
    found = [
        node
        for node in body
        if isinstance(node, ast.FunctionDef) and node.name == file.stem
    ]
    if len(found) != 1:
        number = "none" if not found else f"{len(found)}"
        message = (
            f"{_shown(file)} must define exactly one function called {file.stem!r}. "
            f"Found: {number}."
        )
        raise errors.InputError(message)
    return found[0]


def _facts(body: list[ast.stmt], file: Path) -> dict[str, Any]:
    needed = {"title": str, "paper": str, "year": int}
    accepted = needed | {"ranks": tuple, "recipe": dict, "engines": tuple}
    for node in body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "INFO":
            try:
                facts = ast.literal_eval(node.value)
            except ValueError:
                break
            if (
                isinstance(facts, dict)
                and needed.keys() <= facts.keys() <= accepted.keys()
                and all(isinstance(facts[key], accepted[key]) for key in facts)
            ):
                return facts
            break
    message = (
        f"{_shown(file)} must define INFO, a literal dictionary of `title` (text), "
        "`paper` (text) and `year` (whole number), and if need be `ranks` (tuple), "
        "`recipe` (dictionary of arguments) and `engines` (tuple)."
    )
    raise errors.InputError(message)
