"""The weights file: what goes in comes out, and nothing else gets in."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import pytest

from unet_zoo import errors, weights

FACTS: dict[str, Any] = {
    "model": "tiny",
    "model_arguments": {"filters": 4},
    "channels": 1,
    "target": "semantic",
    "target_arguments": {},
    "normalization": "zscore",
    "scale": 1.0,
    "tta": 1,
}


def tiny(
    filters: int = 4, name: str = "tiny", seed: int = 0, extra: int = 0
) -> keras.Model:
    """Return a network with a nested model, batch statistics and a random layer."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((None, None, 1))
    x = keras.layers.Conv2D(filters, 3, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="norm")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    block = [keras.Input((None, None, filters)), keras.layers.Conv2D(3, 3, name="conv")]
    x = keras.Sequential(block, name="inner")(x)
    for number in range(extra):
        x = keras.layers.Conv2D(3, 1, use_bias=False, name=f"extra{number}")(x)
    outputs = keras.layers.Conv2D(2, 1, name="logits")(x)
    model = keras.Model(inputs, outputs, name=name)
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        variable.assign(generator.uniform(0.1, 1, variable.shape).astype("float32"))
    return model


def values(network: keras.Model) -> list[np.ndarray]:
    return [np.asarray(variable) for variable in network.weights]


def rebuild(source: Path, target: Path, change: Callable[[h5py.File], None]) -> Path:
    """Copy a weights file, let `change` edit it, and make its digests right again."""
    shutil.copy(source, target)
    with h5py.File(target, "r+") as h5:
        change(h5)
        facts = h5.get("facts")
        if isinstance(facts, h5py.Dataset) and facts.dtype.kind == "S":
            digest = hashlib.sha256(facts[()]).hexdigest()
            h5.attrs["facts_sha256"] = np.bytes_(digest)
    return target


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return tiny()


@pytest.fixture
def file(network: keras.Model, tmp_path: Path) -> Path:
    path = tmp_path / "weights.h5"
    weights.write(path, network, FACTS)
    return path


def test_assign_brings_back_every_variable(network: keras.Model, file: Path) -> None:
    """Another network of the same model predicts the same after assigning."""
    other = tiny(seed=1)
    image = np.random.default_rng(0).normal(size=(1, 12, 12, 1)).astype("float32")
    expected_output = keras.ops.convert_to_numpy(network(image))
    assert not np.allclose(keras.ops.convert_to_numpy(other(image)), expected_output)
    weights.assign(other, file)
    for got, expected in zip(values(other), values(network), strict=True):
        np.testing.assert_array_equal(got, expected)
    output = keras.ops.convert_to_numpy(other(image))
    np.testing.assert_array_equal(output, expected_output)


def test_variables_lie_under_the_names_of_their_layers(file: Path) -> None:
    found: list[str] = []
    with h5py.File(file) as h5:
        h5["variables"].visititems(
            lambda key, item: (
                found.append(key) if isinstance(item, h5py.Dataset) else None
            )
        )
    assert sorted(found) == [
        "conv/bias",
        "conv/kernel",
        "inner/conv/bias",
        "inner/conv/kernel",
        "logits/bias",
        "logits/kernel",
        "norm/beta",
        "norm/gamma",
        "norm/moving_mean",
        "norm/moving_variance",
    ]


def test_equal_content_gives_equal_bytes(network: keras.Model, tmp_path: Path) -> None:
    """Neither the time nor the order of the facts is in the file."""
    weights.write(tmp_path / "a.h5", network, FACTS)
    time.sleep(1.1)  # HDF5 counts whole seconds
    weights.write(tmp_path / "b.h5", network, dict(reversed(FACTS.items())))
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_facts_may_be_larger_than_an_attribute_of_hdf5(
    network: keras.Model, tmp_path: Path
) -> None:
    facts = {**FACTS, "history": list(range(100_000)), "citation": "Ünet 🔬"}
    weights.write(tmp_path / "a.h5", network, facts)
    assert (tmp_path / "a.h5").stat().st_size > 2**16
    assert weights.read_facts(tmp_path / "a.h5") == facts
    weights.assign(tiny(), tmp_path / "a.h5")


def test_float16_halves_the_file_and_rounds_only(tmp_path: Path) -> None:
    network = tiny(filters=400)
    weights.write(tmp_path / "a.h5", network, FACTS)
    weights.write(tmp_path / "b.h5", network, FACTS, dtype="float16")
    sizes = [(tmp_path / name).stat().st_size for name in ("a.h5", "b.h5")]
    assert sizes[1] < 0.7 * sizes[0]
    other = tiny(filters=400, seed=1)
    weights.assign(other, tmp_path / "b.h5")
    for got, expected in zip(values(other), values(network), strict=True):
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got, expected.astype("float16").astype("float32"))


def test_integers_keep_their_values(tmp_path: Path) -> None:
    """A count beyond the precision of float16 and float32 survives both."""

    class Counter(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.count = self.add_weight(
                name="count",
                shape=(),
                dtype="int32",
                initializer="zeros",
                trainable=False,
            )

        def call(self, x: Any) -> Any:
            return x

    def counting() -> keras.Model:
        inputs = keras.Input((4,))
        return keras.Model(inputs, Counter(name="counter")(inputs), name="tiny")

    network, other = counting(), counting()
    network.weights[0].assign(2**24 + 1)
    weights.write(tmp_path / "a.h5", network, FACTS, dtype="float16")
    weights.assign(other, tmp_path / "a.h5")
    assert int(values(other)[0]) == 2**24 + 1


def test_reading_facts_imports_no_framework(file: Path) -> None:
    """Listing weights must not cost seconds of start-up."""
    code = (
        "import sys, unet_zoo.weights as w\n"
        "slow = {'keras', 'tensorflow', 'h5py', 'numpy', 'requests'} & {*sys.modules}\n"
        "assert not slow, slow\n"
        "assert w.read_facts(sys.argv[1])['model'] == 'tiny'\n"
        "assert not {'keras', 'tensorflow'} & {*sys.modules}\n"
    )
    subprocess.run([sys.executable, "-c", code, str(file)], check=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "other"}, "are of the model 'other', but the network is 'tiny'"),
        ({"metrics": float("nan")}, "must be plain JSON values"),
        ({"metrics": np.float32(1)}, "must be plain JSON values"),
        ({"channels": "1"}, "'channels' must be of type int, got '1'"),
        ({"tta": True}, "'tta' must be of type int, got True"),
    ],
)
def test_write_refuses_facts(
    network: keras.Model, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(errors.InputError, match=message):
        weights.write(tmp_path / "a.h5", network, {**FACTS, **change})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("key", FACTS)
def test_write_wants_every_required_fact(
    network: keras.Model, tmp_path: Path, key: str
) -> None:
    facts = {name: value for name, value in FACTS.items() if name != key}
    with pytest.raises(errors.InputError, match=f"`facts` lack {key}"):
        weights.write(tmp_path / "a.h5", network, facts)


@pytest.mark.parametrize(
    ("value", "dtype", "message"),
    [
        (np.nan, "float32", r"'logits/bias' of 'tiny' is not finite as float32"),
        (1e5, "float16", r"not finite as float16.*Try dtype='float32'"),
        (1, "float61", r"Unknown dtype of weights 'float61'. Did you mean 'float16'"),
    ],
)
def test_write_refuses_values_and_keeps_the_old_file(
    file: Path, value: float, dtype: str, message: str
) -> None:
    network = tiny()
    network.get_layer("logits").bias.assign([value, value])
    before = file.read_bytes()
    with pytest.raises(errors.InputError, match=message):
        weights.write(file, network, FACTS, dtype=dtype)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def refuse(path: Path, message: str, network: keras.Model | None = None) -> None:
    """Assert that `path` is refused with `message` and nothing of it is used."""
    network = network or tiny(seed=1)
    before = values(network)
    with pytest.raises(errors.InputError, match=message) as caught:
        weights.assign(network, path)
    assert str(path) in str(caught.value)
    for got, expected in zip(values(network), before, strict=True):
        np.testing.assert_array_equal(got, expected)


def test_another_model_is_named(file: Path) -> None:
    network = tiny(name="resunet")
    refuse(file, "of the model 'tiny'; expected weights of 'resunet'", network)


def test_other_shapes_are_named(file: Path) -> None:
    """Path, shape in the network, shape on disk, and what the file was built with."""
    message = (
        r"'conv/kernel' is \(3, 3, 1, 5\) in the network and \(3, 3, 1, 4\) in the "
        r"file.*; and 1 more\. The network of the file was built with {'filters': 4}"
    )
    refuse(file, message, tiny(filters=5, extra=2))


def test_missing_and_unexpected_variables_are_named(file: Path, tmp_path: Path) -> None:
    def rename(h5: h5py.File) -> None:
        h5.move("variables/norm/beta", "variables/norm/delta")

    path = rebuild(file, tmp_path / "b.h5", rename)
    refuse(path, r"'norm/beta' \(4,\) is missing in.*'norm/delta' \(4,\) is not in")


def replace(key: str, **arguments: Any) -> Callable[[h5py.File], None]:
    """Return a change that stores one variable in another way."""

    def change(h5: h5py.File) -> None:
        del h5[f"variables/{key}"]
        h5.create_dataset(f"variables/{key}", **arguments)

    return change


def link(to: h5py.SoftLink | h5py.ExternalLink) -> Callable[[h5py.File], None]:
    def change(h5: h5py.File) -> None:
        del h5["variables/norm/beta"]
        h5["variables/norm/beta"] = to

    return change


def link_all(h5: h5py.File) -> None:
    h5.move("variables", "elsewhere")
    h5["variables"] = h5py.SoftLink("/elsewhere")


def loop(h5: h5py.File) -> None:
    h5["variables/norm/again"] = h5["variables"]


def virtual(h5: h5py.File) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("/etc/hostname", "x", (4,))
    del h5["variables/norm/beta"]
    h5.create_virtual_dataset("variables/norm/beta", layout)


def attribute(name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(h5: h5py.File) -> None:
        del h5.attrs[name]
        if value is not None:
            h5.attrs[name] = value

    return change


def facts_of(value: Any) -> Callable[[h5py.File], None]:
    def change(h5: h5py.File) -> None:
        del h5["facts"]
        h5["facts"] = np.bytes_(value) if isinstance(value, bytes) else value

    return change


def not_finite(h5: h5py.File) -> None:
    h5["variables/norm/beta"][1] = np.inf


FORMAT = "unet-zoo weights"
TEXT = json.dumps(FACTS)
PLAIN = "virtual, external, chunked or compressed"
HOSTILE = {
    "soft link": (link(h5py.SoftLink("/variables/norm/gamma")), "found SoftLink"),
    "external link": (link(h5py.ExternalLink("/x.h5", "/")), "found ExternalLink"),
    "all behind a link": (link_all, "/variables must lie in the file itself"),
    "hard link in a circle": (loop, "is a second name of another member"),
    "virtual": (virtual, PLAIN),
    "external storage": (
        replace("norm/beta", shape=(4,), dtype="f4", external="/etc/hostname"),
        PLAIN,
    ),
    "compression bomb": (
        replace("norm/beta", shape=(2**40,), chunks=(2**20,), compression="gzip"),
        PLAIN,
    ),
    "declared, never stored": (
        replace("norm/beta", shape=(2**40,), dtype="f4"),
        "declares .* but the file holds 0 bytes",
    ),
    "no dataspace": (replace("norm/beta", data=h5py.Empty("f4")), "declares None"),
    "text": (replace("norm/beta", data=["a"] * 4, dtype=h5py.string_dtype()), "dtype"),
    "double": (replace("norm/beta", data=np.zeros(4)), "has dtype float64"),
    "reference": (replace("norm/beta", shape=(4,), dtype=h5py.ref_dtype), "dtype"),
    "integers": (replace("norm/beta", data=np.zeros(4, "i4")), "is float32 in the net"),
    "not finite": (not_finite, "its variables are not those once written"),
    "variables are a dataset": (
        lambda h5: (h5.pop("variables"), h5.create_dataset("variables", data=[1.0])),
        "is not a group",
    ),
    "no variables": (lambda h5: h5.pop("variables"), "must lie in .* found nothing"),
    "no format": (attribute("format", None), "not a weights file of unet-zoo"),
    "other format": (
        attribute("format", np.bytes_("x")),
        "not a weights file of unet-zoo",
    ),
    "newer": (attribute("format_version", 2), "version 2; this .* Update unet-zoo"),
    "odd version": (attribute("format_version", "1"), "no valid format version"),
    "version zero": (attribute("format_version", 0), "no valid format version"),
    "text of variable length": (attribute("format", FORMAT), "'format' of .* not text"),
    "no digest": (attribute("variables_sha256", None), "lacks the attribute 'var"),
    "no facts": (lambda h5: h5.pop("facts"), "facts must lie in .* found nothing"),
    "numeric facts": (facts_of([1, 2]), "are not text"),
    "facts of variable length": (facts_of("{}"), "are not text"),
    "facts elsewhere": (
        lambda h5: (h5.move("facts", "x"), h5.update(facts=h5py.SoftLink("/x"))),
        "found SoftLink",
    ),
    "facts never stored": (
        lambda h5: (h5.pop("facts"), h5.create_dataset("facts", (), "S1000000")),
        "but the file holds 0 bytes",
    ),
    "not text": (facts_of(b"\xff"), "damaged"),
    "not JSON": (facts_of(TEXT[:-1].encode()), "are not JSON"),
    "NaN": (facts_of(TEXT.replace("1.0", "NaN").encode()), "NaN is not a JSON value"),
    "deep JSON": (facts_of(b"[" * 100_000), "are not JSON"),
    "a list": (facts_of(b"[]"), "must be a JSON object, got list"),
    "incomplete": (facts_of(b'{"model": "tiny"}'), "lack model_arguments"),
    "wrong kind": (facts_of(TEXT.replace('"tiny"', "3").encode()), "type str, got 3"),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused(file: Path, tmp_path: Path, kind: str) -> None:
    """The digests are right in these files, where they can be: they prove nothing."""
    change, message = HOSTILE[kind]
    refuse(rebuild(file, tmp_path / "hostile.h5", change), message)


def test_values_that_are_not_finite_are_refused_in_spite_of_a_right_digest(
    file: Path, network: keras.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(np, "isfinite", np.ones_like)
        bad = tiny()
        bad.get_layer("norm").beta.assign([0, np.inf, 0, 0])
        weights.write(tmp_path / "bad.h5", bad, FACTS)
    refuse(tmp_path / "bad.h5", "'norm/beta' holds values that are not finite")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not HDF5"),
        (b"PK\x03\x04 a zip", "is not HDF5"),
        (b"\x80\x04\x95 a pickle", "is not HDF5"),
        (b"<!doctype html><title>Not found", "looks like a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
        (b"\x89HDF\r\n\x1a\n", "damaged or truncated"),
    ],
)
def test_what_is_not_hdf5_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / "weights.h5"
    path.write_bytes(content)
    refuse(path, message)
    with pytest.raises(errors.InputError, match=message):
        weights.read_facts(path)


def test_what_cannot_be_opened_is_refused(tmp_path: Path) -> None:
    refuse(tmp_path / "nothing.h5", "cannot be opened: No such file")
    refuse(tmp_path, "cannot be opened: Is a directory")


def test_a_truncated_file_is_refused(file: Path, tmp_path: Path) -> None:
    whole = file.read_bytes()
    path = tmp_path / "short.h5"
    network = tiny(seed=1)
    for size in range(100, len(whole), len(whole) // 12):
        path.write_bytes(whole[:size])
        refuse(path, "damaged or truncated", network)


def test_a_flipped_bit_is_refused_or_without_effect(
    file: Path, network: keras.Model, tmp_path: Path
) -> None:
    """Every part is under a digest but the structure, which HDF5 and we check."""
    whole = file.read_bytes()
    with h5py.File(file) as h5:
        start = h5["variables/conv/kernel"].id.get_offset()
    text = whole.index(b'"model_arguments"')
    for offset in (start, start + 50, text, text + 3):
        damaged = bytearray(whole)
        damaged[offset] ^= 1
        path = tmp_path / "flipped.h5"
        path.write_bytes(damaged)
        refuse(path, "is damaged: its (variables|facts) are not those once written")


def test_two_variables_of_one_name_are_refused(tmp_path: Path) -> None:
    class Twice(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.a = self.add_weight(name="same", shape=(1,))
            self.b = self.add_weight(name="same", shape=(1,))

        def call(self, x: Any) -> Any:
            return x * self.a + self.b

    inputs = keras.Input((4,))
    network = keras.Model(inputs, Twice(name="twice")(inputs), name="tiny")
    with pytest.raises(errors.InputError, match="two variables called 'twice/same'"):
        weights.write(tmp_path / "a.h5", network, FACTS)


def test_sha256_is_that_of_the_bytes(file: Path) -> None:
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    assert weights.sha256(file) == expected
    assert re.fullmatch("[0-9a-f]{64}", expected)


def test_write_names_the_folder_that_is_not_there(
    network: keras.Model, tmp_path: Path
) -> None:
    with pytest.raises(errors.InputError, match=r"there is no folder .*/nowhere\."):
        weights.write(tmp_path / "nowhere" / "a.h5", network, FACTS)
