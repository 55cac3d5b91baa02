"""What a recipe may name without importing keras: losses, optimizers, schedules.

Losses stand in a table here; their formulas are in `unet_zoo.losses`. Optimizers are
those of the installed keras, whose files are read as text.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.util
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from unet_zoo.errors import InputError, unknown

SCHEDULES = ("constant", "cosine", "one_cycle", "plateau", "polynomial")

# Files beside keras' optimizers that train nothing by themselves.
_MACHINERY = ("optimizer", "loss_scale_optimizer", "multi_optimizer")


@dataclasses.dataclass(frozen=True)
class Argument:
    """A number that a loss takes: its default, and the range it must lie in."""

    default: float
    low: float = 0.0
    high: float = 1.0
    whole: bool = False

    def check(self, name: str, value: Any) -> float:
        """Return `value`, or raise InputError where it is out of range."""
        wanted = (int,) if self.whole else (int, float)
        if type(value) not in wanted or not self.low <= value <= self.high:
            kind = "a whole number" if self.whole else "a number"
            span = f"in [{self.low:g}, {self.high:g}]"
            if math.isinf(self.high):
                span = f"of at least {self.low:g}"
            message = f"`{name}` must be {kind} {span}. Received: {value!r}"
            raise InputError(message)
        return value if self.whole else float(value)


def _table(**arguments: Argument) -> Mapping[str, Argument]:
    return types.MappingProxyType(arguments)


# gamma of focal losses: beyond 10 nothing but the very worst pixels would be taught.
_TVERSKY = {"alpha": Argument(0.3), "beta": Argument(0.7)}
LOSSES: Mapping[str, Mapping[str, Argument]] = types.MappingProxyType(
    {
        "cross_entropy": _table(),
        "focal": _table(gamma=Argument(2.0, high=10.0), alpha=Argument(0.25)),
        "dice": _table(),
        "dice_cross_entropy": _table(alpha=Argument(1.0, high=math.inf)),
        "tversky": _table(**_TVERSKY),
        "focal_tversky": _table(**_TVERSKY, gamma=Argument(4 / 3, 1.0, 10.0)),
        "lovasz": _table(),
        "boundary": _table(alpha=Argument(0.01, high=math.inf)),
        "cldice": _table(alpha=Argument(0.5), iterations=Argument(3, 0, 100, True)),
    }
)


def loss_arguments(name: str, given: Mapping[str, Any]) -> dict[str, float]:
    """Return all arguments of the loss `name`: its defaults, changed by `given`.

    Raises:
        InputError: for an unknown loss or argument, near matches named, and for a
            value out of its range.

    >>> loss_arguments("tversky", {"alpha": 0.5})
    {'alpha': 0.5, 'beta': 0.7}
    >>> loss_arguments("tversky", {"gama": 2})
    Traceback (most recent call last):
    unet_zoo.errors.InputError: Unknown argument of the loss 'tversky' 'gama'. \
Known: alpha, beta.
    """
    if name not in LOSSES:
        raise unknown(kind="loss", word=name, options=LOSSES)
    arguments = LOSSES[name]
    for word in given:
        if word not in arguments:
            kind = f"argument of the loss {name!r}"
            raise unknown(kind=kind, word=word, options=arguments)
    return {
        word: argument.check(f"loss_arguments.{word}", given[word])
        if word in given
        else argument.default
        for word, argument in arguments.items()
    }


def optimizers() -> list[str]:
    """Return the names of keras' optimizers, sorted.

    >>> [name for name in optimizers() if name.startswith("adamw")]
    ['adamw']
    """
    return sorted(_optimizers())


def optimizer_class(name: str) -> str:
    """Return what keras calls the optimizer `name`.

    >>> optimizer_class("rmsprop")
    'RMSprop'
    """
    return _optimizer(name)[0]


@functools.cache
def optimizer_arguments(name: str) -> Mapping[str, Any]:
    """Return the arguments of an optimizer that are its own, with keras' defaults.

    Left out are those that all optimizers share: a recipe has fields for what is
    needed of them.

    >>> optimizer_arguments("rmsprop")["rho"]
    0.9
    """
    kind, module = _optimizer(name)
    shared = _signature(_folder() / "src/optimizers/base_optimizer.py", "BaseOptimizer")
    own = _signature(_folder() / f"src/optimizers/{module}.py", kind)
    kept = {word: own[word] for word in own if word not in shared and word != "name"}
    return types.MappingProxyType(kept)


def check_optimizer(name: str, arguments: Mapping[str, Any]) -> None:
    """Refuse an unknown optimizer or argument; the near match is named."""
    _optimizer(name)
    if not arguments:
        return
    known = optimizer_arguments(name)
    for word in arguments:
        if word == "momentum" and word in known:
            message = (
                "The momentum stands in `optimizer.momentum`, not in "
                "`optimizer_arguments`."
            )
            raise InputError(message)
        if word not in known:
            kind = f"argument of the optimizer {name!r}"
            raise unknown(kind=kind, word=word, options=set(known) - {"momentum"})
        wanted = _kind(word, known[word])
        if wanted and type(arguments[word]) not in wanted:
            names = " or ".join(each.__name__ for each in wanted)
            message = (
                f"`optimizer_arguments.{word}` must be of type {names}. "
                f"Received: {arguments[word]!r}"
            )
            raise InputError(message)


def _kind(word: str, default: Any) -> tuple[type, ...]:
    """Return the types that an optimizer's argument may have; (): any."""
    if type(default) in (int, float) and not word.endswith("steps"):
        return (int, float)
    return () if default is None else (type(default),)


def _optimizer(name: str) -> tuple[str, str]:
    if name not in _optimizers():
        raise unknown(kind="optimizer.name", word=name, options=_optimizers())
    return _optimizers()[name]


@functools.cache
def _optimizers() -> dict[str, tuple[str, str]]:
    """Return {name: (class, module)} as keras exports them."""
    head = "keras.src.optimizers."
    found: dict[str, tuple[str, str]] = {}
    for node in ast.parse((_folder() / "optimizers/__init__.py").read_text()).body:
        module = getattr(node, "module", None) or ""
        if isinstance(node, ast.ImportFrom) and module.startswith(head):
            module = module.removeprefix(head)
            if module not in _MACHINERY:
                found |= {each.name.lower(): (each.name, module) for each in node.names}
    return found


@functools.cache
def _folder() -> Path:
    spec = importlib.util.find_spec("keras")
    if spec is None or spec.origin is None:
        message = "keras is not installed. Install it with: pip install keras"
        raise InputError(message)
    return Path(spec.origin).parent


def _signature(file: Path, name: str) -> dict[str, Any]:
    """Return the arguments that a class in `file` is made with, and their defaults."""
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if not (isinstance(node, ast.ClassDef) and node.name == name):
            continue
        for function in node.body:
            if isinstance(function, ast.FunctionDef) and function.name == "__init__":
                names = [each.arg for each in function.args.args]
                defaults = function.args.defaults
                with_one = names[len(names) - len(defaults) :]
                values = (ast.literal_eval(default) for default in defaults)
                required = dict.fromkeys(names[1 : len(names) - len(defaults)])
                return required | dict(zip(with_one, values, strict=True))
    message = f"{file} defines no class {name!r} with an __init__."
    raise RuntimeError(message)
