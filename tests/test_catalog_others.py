"""`catalog.others`: anyone's datasets of TFDS."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from test_catalog_formats import SHAPE, cells, picture

from unet_zoo import catalog
from unet_zoo.errors import InputError


@pytest.fixture(scope="module")
def builders():
    """Return builders such as anyone may write; defining them makes them known."""
    import unet_zoo.datasets  # noqa: F401

    import tensorflow_datasets as tfds  # isort: skip

    def features(**more):
        return {"image": tfds.features.Image(shape=(None, None, 3)), **more}

    class Anyone(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.2.0")
        FEATURES: ClassVar[dict] = {}

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(self.FEATURES)
            )

        def _split_generators(self, dl_manager):
            return {
                "train": self._generate_examples(10),
                "test": self._generate_examples(3),
            }

        def _generate_examples(self, count):
            for number in range(count):
                values = {
                    "image": np.stack([picture(number)] * 3, axis=-1),
                    "segmentation_mask": cells(1, 2)[..., None],
                    "instance_mask": cells(7, 9)[..., None].astype("uint16"),
                    "depth_map": picture(number)[..., None],
                    "label": number % 2,
                }
                yield number, {key: values[key] for key in self.FEATURES}

    mask = tfds.features.LabeledImage(labels=4, shape=(None, None, 1))
    wide = tfds.features.Image(shape=(None, None, 1), dtype=np.uint16)

    class AnyonesPets(Anyone):
        FEATURES = features(
            segmentation_mask=mask, label=tfds.features.ClassLabel(num_classes=2)
        )

    class AnyonesCells(Anyone):
        FEATURES = features(segmentation_mask=mask, instance_mask=wide)

    class AnyonesDepths(Anyone):
        FEATURES = features(depth_map=tfds.features.Image(shape=(None, None, 1)))

    class AnyonesPhotographs(Anyone):
        FEATURES = features(label=tfds.features.ClassLabel(num_classes=2))

    return AnyonesPets, AnyonesCells, AnyonesDepths, AnyonesPhotographs


def test_anyones_classes(builders, tmp_path):
    dataset = catalog.open_dataset("tfds:anyones_pets", data_dir=tmp_path)
    assert dataset.size_of == {"train": 9, "validation": 1, "test": 3}
    assert (dataset.name, dataset.version, dataset.kind) == (
        "anyones_pets",
        "1.2.0",
        "semantic",
    )
    assert "'image' is the image and 'segmentation_mask' the labels" in dataset.note
    found = dataset.examples("test")
    assert [e.name for e in found] == ["test00000", "test00001", "test00002"]
    for each in found:
        assert each.image.shape == (*SHAPE, 3)
        np.testing.assert_array_equal(each.labels, cells(1, 2))
        assert each.labels.dtype == np.int32


def test_anyones_objects_and_what_to_take_of_them(builders, tmp_path):
    dataset = catalog.open_dataset("tfds:anyones_cells", data_dir=tmp_path)
    assert dataset.kind == "instances"
    np.testing.assert_array_equal(dataset.examples("train")[0].labels, cells(7, 9))
    name = "tfds:anyones_cells?labels=segmentation_mask"
    dataset = catalog.open_dataset(name, data_dir=tmp_path)
    assert dataset.kind == "semantic"
    np.testing.assert_array_equal(dataset.examples("train")[0].labels, cells(1, 2))


@pytest.mark.parametrize(
    ("name", "match"),
    [
        (
            "anyones_photographs",
            r"which feature is the segmentation.*label \(ClassLabel",
        ),
        ("anyones_cells?labels=masks", r"no feature 'masks'. It has image"),
        ("anyones_pets?labels=label", r"feature 'label' .* is no image"),
        ("anyones_pets?mask=label", r"image=FEATURE and labels=FEATURE.*'mask=label'"),
        ("anyones_pet", r"Unknown TFDS dataset 'anyones_pet'\. .*anyones_pets"),
        ("anyones_pets/small", r"Cannot open tfds:anyones_pets"),
        ("not a name", r"not a name of TFDS"),
    ],
)
def test_what_of_tfds_cannot_be_taken(builders, tmp_path, name, match):
    with pytest.raises(InputError, match=match):
        catalog.open_dataset(f"tfds:{name}", data_dir=tmp_path)


def test_the_only_other_plane_is_the_labels(builders, tmp_path):
    """Taken, and said so, since there is nothing else that it could be."""
    dataset = catalog.open_dataset("tfds:anyones_depths", data_dir=tmp_path)
    assert "'depth_map' the labels, taken as classes" in dataset.note
