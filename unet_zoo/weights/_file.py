"""The weights file: one HDF5 file with the variables and the facts of a network."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unet_zoo import errors, files
from unet_zoo.weights import _facts

if TYPE_CHECKING:
    import h5py
    import keras
    import numpy as np

FORMAT = "unet-zoo weights"
VERSION = 1
DTYPES = ("float32", "float16")
SIGNATURE = b"\x89HDF\r\n\x1a\n"


def write(
    path: str | os.PathLike[str],
    network: keras.Model,
    facts: Mapping[str, Any],
    dtype: str = "float32",
) -> None:
    """Write the variables of `network` and its `facts` to one HDF5 file.

    `facts` are plain JSON values; `model` (the name of the network),
    `model_arguments`, `channels`, `target`, `target_arguments`, `normalization`,
    `scale` and `tta` are required, the rest is the caller's. Tuples come back as
    lists, keys as text. Floating variables are stored as `dtype`, "float32" or
    "float16"; integers keep theirs. The state of random generators is left out. The
    file appears whole or not at all, and equal content gives equal bytes.

    Raises `InputError` for facts that are not JSON or incomplete, for variables that
    are not finite or do not fit into float16.

    >>> import keras, tempfile
    >>> inputs = keras.Input((None, None, 1))
    >>> outputs = keras.layers.Conv2D(2, 1, name="logits")(inputs)
    >>> network = keras.Model(inputs, outputs, name="tiny")
    >>> facts = {"model": "tiny", "model_arguments": {}, "channels": 1}
    >>> facts |= {"target": "semantic", "target_arguments": {}}
    >>> facts |= {"normalization": "zscore", "scale": 1.0, "tta": 1}
    >>> path = Path(tempfile.mkdtemp()) / "weights.h5"
    >>> write(path, network, facts)
    >>> read_facts(path) == facts
    True
    >>> assign(network, path)
    """
    import numpy as np

    if dtype not in DTYPES:
        error = errors.unknown("dtype of weights", str(dtype), DTYPES)
        raise error
    path = Path(path)
    if not path.parent.is_dir():
        message = f"{path} cannot be written: there is no folder {path.parent}."
        raise errors.InputError(message)
    text = _facts.encode(facts, network.name).encode()
    arrays = {}
    for key, variable in variables(network).items():
        array = np.asarray(variable)
        if "float" in variable.dtype:
            with np.errstate(over="ignore"):  # reported just below, with the name
                array = array.astype(dtype)
            if not np.isfinite(array).all():
                message = (
                    f"{key!r} of {network.name!r} is not finite as {dtype}; "
                    f"{path} was not written."
                )
                if dtype == "float16":
                    message += " Try dtype='float32'."
                raise errors.InputError(message)
        arrays[key] = array
    _store(path, arrays, text)


def rewrite(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    facts: Mapping[str, Any],
) -> None:
    """Write a copy of the weights file `source` that holds other `facts`.

    Its variables stay what they are, bit for bit, and no network is built. Raises
    `InputError` for facts that `write` would refuse, and a damaged `source`.
    """
    with _opened(Path(source)) as h5:
        text = _facts.encode(facts, _read_facts(h5)["model"]).encode()
        datasets = dict(_datasets(_hard(h5, "variables"), ""))
        arrays = {key: dataset[()] for key, dataset in datasets.items()}
        if _digest(arrays) != _text(h5, "variables_sha256"):
            message = f"{source} is damaged: its variables are not those once written."
            raise errors.InputError(message)
    _store(Path(path), arrays, text)


def _store(path: Path, arrays: Mapping[str, np.ndarray], text: bytes) -> None:
    import h5py
    import numpy as np

    # In memory first: on a full disk HDF5 does not fail, it crashes the process.
    content = io.BytesIO()
    with h5py.File(content, "w") as h5:
        # Everything has a fixed length: text of variable length lies on HDF5's global
        # heap, where a single damaged byte can keep the library busy for ever. And a
        # dataset, unlike an attribute, may be larger than 64 KiB.
        h5.attrs["format"] = np.bytes_(FORMAT)
        h5.attrs["format_version"] = VERSION
        h5.attrs["facts_sha256"] = np.bytes_(hashlib.sha256(text).hexdigest())
        h5.attrs["variables_sha256"] = np.bytes_(_digest(arrays))
        h5.create_dataset("facts", data=np.bytes_(text), track_times=False)
        group = h5.create_group("variables")
        for key, array in arrays.items():
            group.create_dataset(key, data=array, track_times=False)
    with files.replacing(path) as part:
        part.write_bytes(content.getbuffer())


def read_facts(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the facts of a weights file without reading its variables.

    Needs neither keras nor the model. Raises `InputError` for a file that is not
    one of ours, damaged, incomplete, or of a newer format.
    """
    with _opened(Path(path)) as h5:
        return _read_facts(h5)


def assign(network: keras.Model, path: str | os.PathLike[str]) -> None:
    """Give `network` the variables of the weights file at `path`.

    Strict: the file must be of the model `network.name`, hold exactly its variables,
    each of the same shape, all finite and as they were written. All of this is
    checked first; if anything is wrong `InputError` says what, and nothing is
    assigned. No code of the file is run.
    """
    path = Path(path)
    ours = variables(network)
    with _opened(path) as h5:
        facts = _read_facts(h5)
        if facts["model"] != network.name:
            message = (
                f"{path} holds weights of the model {facts['model']!r}; "
                f"expected weights of {network.name!r}."
            )
            raise errors.InputError(message)
        datasets = dict(_datasets(_hard(h5, "variables"), ""))
        problems = list(_differences(ours, datasets))
        if problems:
            message = (
                f"{path} does not fit the network {network.name!r}: "
                f"{_some(problems)}. "
                f"The network of the file was built with {facts['model_arguments']}."
            )
            raise errors.InputError(message)
        # Only now: the model, not the file, says how much is read.
        arrays = {key: dataset[()] for key, dataset in datasets.items()}
        if _digest(arrays) != _text(h5, "variables_sha256"):
            message = f"{path} is damaged: its variables are not those once written."
            raise errors.InputError(message)
    _refuse_nonfinite(path, arrays)
    for key, variable in ours.items():
        variable.assign(arrays[key])


def variables(network: keras.Model) -> dict[str, keras.Variable]:
    """Return the weights by the names of their layers, free of automatic numbers.

    A variable's own path leaves out the nested model that it belongs to and keeps
    the scopes that a layer was built in; the way from the network down does neither.
    """
    import keras

    found: dict[str, keras.Variable] = {}
    seen: set[int] = set()

    def add(key: str, variable: keras.Variable) -> None:
        if id(variable) in seen:
            return
        if key in found:
            message = f"{network.name!r} has two variables called {key!r}."
            raise errors.InputError(message)
        seen.add(id(variable))
        found[key] = variable

    def visit(model: keras.Model, prefix: str) -> None:
        for layer in model.layers:
            if isinstance(layer, keras.Model):
                visit(layer, f"{prefix}{layer.name}/")
            for variable in layer.weights:
                parts = variable.path.split("/")
                if layer.name in parts:
                    parts = parts[parts.index(layer.name) + 1 :]
                add(f"{prefix}{layer.name}/{'/'.join(parts)}", variable)

    visit(network, "")
    for variable in network.weights:  # made by the model itself, in no layer
        add(variable.path, variable)
    return found


def _read_facts(h5: h5py.File) -> dict[str, Any]:
    import h5py

    dataset = _hard(h5, "facts")
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind != "S":
        message = f"The facts in {h5.filename} are not text."
        raise errors.InputError(message)
    _check_plain(dataset, "facts")
    text = bytes(dataset[()])
    if hashlib.sha256(text).hexdigest() != _text(h5, "facts_sha256"):
        message = f"{h5.filename} is damaged: its facts are not those once written."
        raise errors.InputError(message)
    return _facts.decode(text.decode(), f"The facts in {h5.filename}")


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """Return a SHA-256 over names, dtypes, shapes and values, in the names' order."""
    import numpy as np

    digest = hashlib.sha256()
    for key in sorted(arrays):
        array = arrays[key]
        digest.update(f"{key} {array.dtype.str} {array.shape}\n".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    """Open a file of ours for reading; whatever is wrong with it is an InputError."""
    import h5py

    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError as error:
        message = f"Weights {path} cannot be opened: {error.strerror}."
        raise errors.InputError(message) from error
    if not start.startswith(SIGNATURE):
        message = f"{path} is not a weights file: it is not HDF5."
        if start.startswith(b"version https://git-lfs"):
            message += " It is a Git LFS pointer; `git lfs pull` brings the file."
        elif start.lstrip()[:1] == b"<":
            message += " It looks like a web page saved in its place."
        raise errors.InputError(message)
    try:
        # Best effort: a read-only or network file system may not offer locks.
        with h5py.File(path, "r", locking="best-effort") as h5:
            if "format" not in h5.attrs or _text(h5, "format") != FORMAT:
                message = f"{path} is HDF5, but not a weights file of unet-zoo."
                raise errors.InputError(message)
            _check_version(h5)
            yield h5
    except errors.InputError:
        raise
    except (OSError, RuntimeError, LookupError, TypeError, ValueError) as error:
        message = f"{path} is damaged or truncated and cannot be read: {error}."
        raise errors.InputError(message) from error


def _check_version(h5: h5py.File) -> None:
    attribute = h5.attrs.get_id("format_version")
    plain = attribute.dtype.kind in "iu" and attribute.shape == ()
    version = h5.attrs["format_version"] if plain else 0
    if version < 1:
        message = f"{h5.filename} has no valid format version."
        raise errors.InputError(message)
    if version > VERSION:
        message = (
            f"{h5.filename} has format version {version}; this unet-zoo reads up to "
            f"{VERSION}. Update unet-zoo to use it."
        )
        raise errors.InputError(message)


def _text(h5: h5py.File, name: str) -> str:
    """Return one root attribute that must be a single text of fixed length."""
    if name not in h5.attrs:
        message = f"{h5.filename} lacks the attribute {name!r}."
        raise errors.InputError(message)
    attribute = h5.attrs.get_id(name)
    if attribute.dtype.kind != "S" or attribute.shape != ():
        message = f"The attribute {name!r} of {h5.filename} is not text."
        raise errors.InputError(message)
    return h5.attrs[name].decode()


def _hard(group: h5py.Group, name: str) -> h5py.Group | h5py.Dataset:
    """Return a member that lies in this very file: links elsewhere are not followed."""
    import h5py

    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink):
        kind = "nothing" if link is None else type(link).__name__
        message = (
            f"{group.file.filename}: {group.name.rstrip('/')}/{name} must lie in the "
            f"file itself, found {kind}."
        )
        raise errors.InputError(message)
    return group[name]


def _datasets(
    group: h5py.Group, prefix: str, seen: set[Any] | None = None
) -> Iterator[tuple[str, h5py.Dataset]]:
    """Yield every dataset below `group`, having checked that it is plain."""
    import h5py

    where = group.file.filename
    seen = set() if seen is None else seen
    if not isinstance(group, h5py.Group):
        message = f"{where}: /variables{prefix and '/' + prefix} is not a group."
        raise errors.InputError(message)
    for name in group:
        member = _hard(group, name)
        key = f"{prefix}{name}"
        address = h5py.h5o.get_info(member.id).addr
        if address in seen:  # a loop would never end
            message = f"{where}: {key!r} is a second name of another member."
            raise errors.InputError(message)
        seen.add(address)
        if isinstance(member, h5py.Dataset):
            dtype = member.dtype
            if dtype.name not in DTYPES and dtype.kind not in "iub":
                message = (
                    f"{where}: {key!r} has dtype {dtype}; expected "
                    f"{', '.join(DTYPES)} or integers."
                )
                raise errors.InputError(message)
            _check_plain(member, key)
            yield key, member
        else:
            yield from _datasets(member, f"{key}/", seen)


def _check_plain(dataset: h5py.Dataset, key: str) -> None:
    """Refuse what would read other files or fill more memory than the file has."""
    where = f"{dataset.file.filename}: {key!r}"
    if dataset.is_virtual or dataset.external or dataset.chunks is not None:
        message = (
            f"{where} is virtual, external, chunked or compressed; "
            "a weights file stores plain contiguous arrays."
        )
        raise errors.InputError(message)
    if dataset.shape is None or dataset.id.get_storage_size() != dataset.nbytes:
        message = (
            f"{where} declares {dataset.shape} of {dataset.dtype}, "
            f"but the file holds {dataset.id.get_storage_size()} bytes of it."
        )
        raise errors.InputError(message)


def _differences(
    variables: Mapping[str, keras.Variable], datasets: Mapping[str, h5py.Dataset]
) -> Iterator[str]:
    for key, variable in variables.items():
        shape = tuple(variable.shape)
        if key not in datasets:
            yield f"{key!r} {shape} is missing in the file"
        elif datasets[key].shape != shape:
            yield (
                f"{key!r} is {shape} in the network and "
                f"{datasets[key].shape} in the file"
            )
        elif ("float" in variable.dtype) != (datasets[key].dtype.kind == "f"):
            yield (
                f"{key!r} is {variable.dtype} in the network and "
                f"{datasets[key].dtype} in the file"
            )
    for key in datasets.keys() - variables.keys():
        yield f"{key!r} {datasets[key].shape} is not in the network"


def _some(problems: Iterable[str], most: int = 8) -> str:
    problems = list(problems)
    more = len(problems) - most
    return "; ".join(problems[:most]) + (f"; and {more} more" if more > 0 else "")


def _refuse_nonfinite(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    import numpy as np

    for key, array in arrays.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            message = f"{path}: {key!r} holds values that are not finite."
            raise errors.InputError(message)
