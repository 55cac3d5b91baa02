"""What came of running one network in several ways: backends, engines, precisions."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from unet_zoo import errors
from unet_zoo.weights import _listing

EXACT = "float32"
# How far ways that compute the same in float32 may be from each other.
OUTPUTS = 1e-3  # of an output after its activation, which is from 0 to 1
METRIC = 0.002


@dataclasses.dataclass(frozen=True)
class Way:
    """One way to run a network, and what came of it.

    Attributes:
        name: of the way; in a comparison each once.
        engine: "keras", "openvino" or "onnx".
        backend: of Keras; "" of the other engines.
        precision: "float32", "bfloat16" or "int8".
        value: of the metric, all images together.
        difference: the largest of an activated output from the first way's, every
            image looked at once.
        mean: of all these differences.
        seconds: that all images took, of the wall's clock.
        processor: the same, of all threads together.
        others: share of the machine's cores that other programs had meanwhile.
        memory: the most bytes that its process held.
        disk: bytes of the files that it reads the network from.
    """

    name: str
    engine: str
    backend: str
    precision: str
    value: float
    difference: float
    mean: float
    seconds: float
    processor: float
    others: float
    memory: int
    disk: int


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What was measured of one network, on the same images, in several ways.

    Attributes:
        dataset: its name in the catalog, with `config` ("": none) and `version`.
        split: of the dataset.
        tta: turned copies that were averaged, for the metric and while it was timed.
        metric: what `value` of the ways is of.
        frames: the images that have a reference, with so many `objects` and `pixels`.
        machine: what it was measured on, in words.
        rounds: of each image the fastest of so many turns counts.
        calibration: images that int8 was calibrated on, of the split "train".
        versions: {package: version} of what computed.
        ways: the first is what the others are compared with.
    """

    dataset: str
    config: str
    version: str
    split: str
    tta: int
    metric: str
    frames: int
    objects: int
    pixels: int
    machine: str
    rounds: int
    calibration: int
    versions: Mapping[str, str]
    ways: tuple[Way, ...]

    def over(self) -> list[str]:
        """Return what is wrong with ways that should agree with the first, in words.

        All in float32: their outputs are within 0.001 of the first's, and the metric
        within 0.002 of its own.
        """
        found = []
        first = self.ways[0]
        for way in self.ways:
            if way.precision != EXACT:
                continue
            if not way.difference <= OUTPUTS:
                found.append(
                    f"{way.name}: an output differs from {first.name}'s by "
                    f"{way.difference:.2g}, more than {OUTPUTS:g}"
                )
            if not abs(way.value - first.value) <= METRIC:
                found.append(
                    f"{way.name}: {self.metric} is {way.value:.4f}, that of "
                    f"{first.name} {first.value:.4f}; more than {METRIC:g} apart"
                )
        return found

    def agreement(self) -> str:
        """Return the sentence of a comparison where `over` finds nothing."""
        return (
            f"In float32 every output is within {OUTPUTS:g} of the first's, and "
            f"{self.metric} within {METRIC:g} of its own."
        )

    def plain(self) -> dict[str, Any]:
        """Return plain values, the ways by their names, as `parse` takes them."""
        content = dataclasses.asdict(self)
        content["ways"] = {way.pop("name"): way for way in content["ways"]}
        return content


def parse(content: Mapping[str, Any], where: str) -> Comparison:
    """Return the comparison of a table that was read somewhere, checked."""
    where = f"{where}, `comparison`"
    _listing.check_kinds(content, _kinds(Comparison), where)
    ways = []
    for name, row in content["ways"].items():
        place = f"{where}, {name!r}"
        if not isinstance(row, Mapping):
            message = f"{place}: expected a table, got {row!r}."
            raise errors.InputError(message)
        _listing.check_kinds({"name": name, **row}, _kinds(Way), place)
        ways.append(Way(name=name, **row))
    if not ways or min(content["frames"], content["pixels"], content["rounds"]) < 1:
        message = f"{where}: nothing was compared: no `ways`, frames, pixels or rounds."
        raise errors.InputError(message)
    return Comparison(**{**content, "ways": tuple(ways)})


def _kinds(of: type) -> dict[str, type]:
    """Return {field: type of what a file holds of it}."""
    plain: dict[str, type] = {"str": str, "int": int, "float": float}
    return {
        field.name: plain.get(str(field.type), dict) for field in dataclasses.fields(of)
    }
