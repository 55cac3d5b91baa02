"""Weights: the file a network is kept in, and the zoo of named ones.

`write`, `rewrite`, `read_facts` and `assign` are the file, `write_ensemble` and
`members` several of them to be averaged; `names`, `entry`, `locate` and `find` the zoo;
`write_entry` and `index` make what the zoo and a server of weights consist of.
Importing this imports neither keras nor h5py.
"""

from __future__ import annotations

from unet_zoo.files import sha256
from unet_zoo.weights._ensemble import members, read_facts, write_ensemble
from unet_zoo.weights._entries import Entry, entry, index, names, write_entry
from unet_zoo.weights._fetch import cache_folder, find, locate
from unet_zoo.weights._file import assign, rewrite, variables, write

__all__ = [
    "Entry",
    "assign",
    "cache_folder",
    "entry",
    "find",
    "index",
    "locate",
    "members",
    "names",
    "read_facts",
    "rewrite",
    "sha256",
    "variables",
    "write",
    "write_ensemble",
    "write_entry",
]
