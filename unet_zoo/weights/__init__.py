"""Weights: the file a network is kept in, and the zoo of named ones.

`write`, `rewrite`, `read_facts` and `assign` are the file, `write_ensemble` and
`members` several of them to be averaged; `names`, `entry`, `locate` and `find` the zoo;
`write_entry` and `index` make what the zoo and a server of weights consist of;
`export_cache` and `import_cache` carry them to where there is no network.
Importing this imports neither keras nor h5py.
"""

from __future__ import annotations

from unet_zoo.files import sha256
from unet_zoo.weights._comparison import Comparison, Way
from unet_zoo.weights._ensemble import members, models, read_facts, write_ensemble
from unet_zoo.weights._entries import (
    Entry,
    Evaluation,
    amend,
    check_entry,
    check_new,
    current,
    entry,
    names,
    renamed,
    write_entry,
)
from unet_zoo.weights._entries import read as read_entry
from unet_zoo.weights._fetch import cache_folder, find, locate
from unet_zoo.weights._file import assign, rewrite, variables, write
from unet_zoo.weights._index import index
from unet_zoo.weights._packs import export_cache, import_cache
from unet_zoo.weights._upload import check_upload, upload

__all__ = [
    "Comparison",
    "Entry",
    "Evaluation",
    "Way",
    "amend",
    "assign",
    "cache_folder",
    "check_entry",
    "check_new",
    "check_upload",
    "current",
    "entry",
    "export_cache",
    "find",
    "import_cache",
    "index",
    "locate",
    "members",
    "models",
    "names",
    "read_entry",
    "read_facts",
    "renamed",
    "rewrite",
    "sha256",
    "upload",
    "variables",
    "write",
    "write_ensemble",
    "write_entry",
]
