"""Weights: the file a network is kept in, and the zoo of named ones.

`write`, `read_facts` and `assign` are the file; `names`, `entry`, `locate` and `find`
the zoo; `write_entry` and `index` make what the zoo and a server of weights consist of.
Importing this imports neither keras nor h5py.
"""

from __future__ import annotations

from unet_zoo.weights._entries import Entry, entry, index, names, write_entry
from unet_zoo.weights._fetch import find, locate
from unet_zoo.weights._file import assign, read_facts, sha256, write

__all__ = [
    "Entry",
    "assign",
    "entry",
    "find",
    "index",
    "locate",
    "names",
    "read_facts",
    "sha256",
    "write",
    "write_entry",
]
