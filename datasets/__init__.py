"""TFDS builders, one folder each; importing this package makes `tfds.load` know them.

Every folder `<name>/` with a file `<name>_dataset_builder.py` is a dataset; no list
names them. This import loads TensorFlow; `unet_zoo` itself never does it.

>>> import unet_zoo.datasets
>>> import tensorflow_datasets as tfds
>>> tfds.builder_cls("hela").name
'hela'
"""

import importlib
import pathlib

if __name__ != "unet_zoo.datasets":
    _message = "This folder is imported as unet_zoo.datasets"
    raise ImportError(_message)

# Before tensorflow, which tensorflow_datasets loads: a process that imports torch (a
# backend of keras) after tensorflow crashes.
import keras  # noqa: F401

for _file in sorted(pathlib.Path(__file__).parent.glob("*/*_dataset_builder.py")):
    if _file.stem == f"{_file.parent.name}_dataset_builder":
        importlib.import_module(f"{__name__}.{_file.parent.name}.{_file.stem}")
