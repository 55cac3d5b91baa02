"""Train, ship and run U-Nets for microscopy and other images with few annotations.

The names below are found when they are first used, so `import unet_zoo` costs
nothing and the backend of Keras can still be chosen after it.

>>> import unet_zoo
>>> sorted(unet_zoo.__all__)[:3]
['Augmentation', 'Augmenter', 'InputError']
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from unet_zoo._version import __version__

if TYPE_CHECKING:
    from unet_zoo.augment import Augmenter
    from unet_zoo.catalog import open_dataset
    from unet_zoo.errors import InputError
    from unet_zoo.evaluation import evaluate
    from unet_zoo.outputs import Result
    from unet_zoo.policies import Augmentation
    from unet_zoo.recipe import Recipe
    from unet_zoo.registry import names as list_models
    from unet_zoo.segmenter import Segmenter, load
    from unet_zoo.training import train
    from unet_zoo.weights import names as list_pretrained

__all__ = [
    "Augmentation",
    "Augmenter",
    "InputError",
    "Recipe",
    "Result",
    "Segmenter",
    "__version__",
    "evaluate",
    "list_models",
    "list_pretrained",
    "load",
    "open_dataset",
    "train",
]

_HOMES = {
    "Augmentation": ("policies", "Augmentation"),
    "Augmenter": ("augment", "Augmenter"),
    "InputError": ("errors", "InputError"),
    "Recipe": ("recipe", "Recipe"),
    "Result": ("outputs", "Result"),
    "Segmenter": ("segmenter", "Segmenter"),
    "evaluate": ("evaluation", "evaluate"),
    "list_models": ("registry", "names"),
    "list_pretrained": ("weights", "names"),
    "load": ("segmenter", "load"),
    "open_dataset": ("catalog", "open_dataset"),
    "train": ("training", "train"),
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        message = f"module 'unet_zoo' has no attribute {name!r}"
        raise AttributeError(message)
    module, attribute = _HOMES[name]
    value = getattr(importlib.import_module(f"unet_zoo.{module}"), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
