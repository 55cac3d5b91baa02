"""Datasets as plain files: what is written reads back as what it was."""

from __future__ import annotations

import json
import re
import zipfile

import numpy as np
import pytest
import tifffile

from unet_zoo import catalog, coco, images, preparing
from unet_zoo.errors import InputError

SHAPE = (23, 31)  # odd and different: a swapped axis shows


def picture(seed: int, dtype: str = "uint8", channels: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    shape = (*SHAPE, channels)
    if np.dtype(dtype).kind == "f":
        return random.normal(size=shape).astype(dtype)
    limits = np.iinfo(dtype)
    return random.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def cells(seed: int, *, missing: bool = False, most: int = 900) -> np.ndarray:
    """Return touching, scattered and cut objects with gaps between their ids."""
    random = np.random.default_rng(seed)
    ids = np.sort(random.choice(np.arange(1, most), 5, replace=False))
    labels = np.zeros(SHAPE, "int32")
    labels[0:6, 0:9], labels[6:12, 0:5] = ids[0], ids[1]
    labels[10:20, 12:20] = ids[2]
    labels[13:16, 14:17] = 0  # a hole
    labels[15:23, 25:31] = ids[3]
    labels[2, 20], labels[4, 22] = ids[4], ids[4]  # an object in two pieces
    if missing:
        labels[8:14, 22:28] = -1
    return labels


def made(
    sizes: dict[str, int], *, kind: str = "instances", **options
) -> catalog.Dataset:
    """Return a dataset of random pictures."""
    names = [f"t{number}" for number in range(sum(sizes.values()))]
    examples = []
    for number, name in enumerate(names):
        labels = cells(number, missing=options.get("missing", False))
        if kind == "semantic":
            labels = np.sign(labels) * (1 + (labels > 300)).astype("int32")
        image = picture(
            number, options.get("dtype", "uint8"), options.get("channels", 1)
        )
        examples.append(catalog.Example(name, image, labels, labels))
    return of(examples, sizes, kind)


def of(examples, sizes: dict[str, int], kind: str = "instances") -> catalog.Dataset:
    left = list(examples)
    parts = {}
    for split, count in sizes.items():
        parts[split], left = left[:count], left[count:]
    readers = {split: (lambda part=part: list(part)) for split, part in parts.items()}
    return catalog.Dataset("made", "1", None, kind, "Made.", sizes, readers)


def same(one: list[catalog.Example], other: list[catalog.Example]) -> None:
    assert [each.name for each in one] == [each.name for each in other]
    for first, second in zip(one, other, strict=True):
        assert first.image.dtype == second.image.dtype
        np.testing.assert_array_equal(first.image, second.image)
        np.testing.assert_array_equal(first.labels, second.labels)


@pytest.mark.parametrize(
    ("file_format", "dtype", "channels", "missing"),
    [
        ("png", "uint8", 1, False),
        ("png", "uint8", 3, False),
        ("png", "uint16", 1, False),
        ("png", "uint16", 3, False),
        ("tiff", "uint8", 1, True),
        ("tiff", "uint8", 3, True),
        ("tiff", "uint16", 2, False),
        ("tiff", "float32", 1, True),
        ("tiff", "float32", 3, False),
        ("tiff", "int16", 5, True),
    ],
)
def test_what_is_written_is_the_same_dataset_again(
    tmp_path, file_format, dtype, channels, missing
):
    sizes = {"train": 5, "validation": 3, "test": 2}
    data = made(sizes, dtype=dtype, channels=channels, missing=missing)
    folder = preparing.prepare(data, tmp_path / "plain", format=file_format)
    again = catalog.open_dataset(folder)
    assert again.size_of == sizes
    for split in sizes:
        same(data.examples(split), again.examples(split))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("channels", [1, 2])
def test_npy_keeps_everything(tmp_path, channels, missing):
    data = made({"train": 2}, dtype="float32", channels=channels, missing=missing)
    folder = preparing.prepare(data, tmp_path / "plain", format="npy")
    for example in data.examples("train"):
        image = np.load(folder / "train" / "images" / f"{example.name}.npy")
        labels = np.load(folder / "train" / "masks" / f"{example.name}.npy")
        assert image.ndim == (2 if channels == 1 else 3)
        np.testing.assert_array_equal(image.reshape(example.image.shape), example.image)
        np.testing.assert_array_equal(labels, example.labels)
        assert labels.dtype == (np.int32 if missing else np.uint16)


def test_ids_up_to_65535_are_kept_in_16_bits(tmp_path):
    labels = np.arange(65536, dtype="int32").reshape(256, 256)
    image = np.zeros((256, 256, 1), "uint8")
    for file_format in ("png", "tiff", "npy"):
        data = of([catalog.Example("a", image, labels, labels)], {"train": 1})
        folder = preparing.prepare(data, tmp_path / file_format, format=file_format)
        (file,) = (folder / "train" / "masks").iterdir()
        read = np.load(file) if file.suffix == ".npy" else images.read_one(file)
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read.reshape(256, 256), labels)


@pytest.mark.parametrize("file_format", ["png", "tiff", "npy"])
def test_more_objects_than_16_bits_hold_are_refused(tmp_path, file_format):
    labels = 1 + np.arange(65536, dtype="int32").reshape(256, 256)
    data = of(
        [catalog.Example("a", np.zeros((256, 256, 1), "uint8"), labels, labels)],
        {"train": 1},
    )
    with pytest.raises(InputError, match=r"65536 objects with ids up to 65536; .*coco"):
        preparing.prepare(data, tmp_path / "plain", format=file_format)
    assert list(tmp_path.iterdir()) == []


def test_a_large_id_of_few_objects_may_be_numbered_anew(tmp_path):
    labels = cells(0)
    labels[labels > 0] += 70000
    data = of([catalog.Example("a", picture(0), labels, labels)], {"train": 1})
    with pytest.raises(InputError, match="relabel_sequential"):
        preparing.prepare(data, tmp_path / "plain")


# === What is not annotated ===


def test_png_refuses_minus_one_and_names_what_keeps_it(tmp_path):
    data = made({"train": 1}, missing=True)
    with pytest.raises(InputError, match=r"36 pixels of t0 .*tiff, npy or coco"):
        preparing.prepare(data, tmp_path / "plain", format="png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", [0, 65535])
def test_another_number_for_what_is_not_annotated(tmp_path, value):
    data = made({"train": 1}, missing=True)
    folder = preparing.prepare(
        data, tmp_path / "plain", format="png", unannotated=value
    )
    labels = data.examples("train")[0].labels
    mask = images.read_one(folder / "train" / "masks" / "t0.png")[..., 0]
    np.testing.assert_array_equal(mask[labels >= 0], labels[labels >= 0])
    assert (mask[labels < 0] == value).all()
    assert f"they are {value} in masks/" in (folder / "README.txt").read_text()


def test_the_number_must_not_be_that_of_an_object(tmp_path):
    data = made({"train": 1}, missing=True)
    taken = int(data.examples("train")[0].labels.max())
    with pytest.raises(InputError, match=f"`unannotated` is {taken}, .* t0"):
        preparing.prepare(data, tmp_path / "a", format="png", unannotated=taken)
    with pytest.raises(InputError, match=r"0\.\.65535"):
        preparing.prepare(data, tmp_path / "a", format="png", unannotated=-1)
    with pytest.raises(InputError, match="iscrowd"):
        preparing.prepare(data, tmp_path / "a", format="coco", unannotated=9)


# === COCO ===


def decoded(annotation) -> np.ndarray:
    """Decode the text of COCO's run lengths, written from its description."""
    text, numbers, at = annotation["segmentation"]["counts"], [], 0
    while at < len(text):
        value, shift, more = 0, 0, True
        while more:
            group = ord(text[at]) - 48
            value |= (group & 0x1F) << shift
            more, at, shift = bool(group & 0x20), at + 1, shift + 5
        if group & 0x10:
            value -= 1 << shift
        numbers.append(value + (numbers[-2] if len(numbers) > 2 else 0))
    height, width = annotation["segmentation"]["size"]
    flat = np.repeat(np.arange(len(numbers)) % 2, numbers)
    return flat.reshape(width, height).T.astype(bool)


def labels_of(content, number: int) -> np.ndarray:
    image = next(each for each in content["images"] if each["id"] == number)
    labels = np.zeros((image["height"], image["width"]), "int32")
    for annotation in content["annotations"]:
        if annotation["image_id"] == number:
            mask = decoded(annotation)
            assert not labels[mask].any()
            labels[mask] = annotation["label"]
            assert annotation["area"] == mask.sum()
            y, x = np.nonzero(mask)
            box = [x.min(), y.min(), np.ptp(x) + 1, np.ptp(y) + 1]
            assert annotation["bbox"] == box
            assert annotation["iscrowd"] == (annotation["label"] == -1)
    return labels


@pytest.mark.parametrize("kind", ["instances", "semantic"])
def test_coco_holds_every_pixel_of_every_object(tmp_path, kind):
    data = made({"train": 3, "test": 2}, missing=True, kind=kind)
    folder = preparing.prepare(data, tmp_path / "plain", format="coco")
    for split in ("train", "test"):
        content = json.loads((folder / split / "annotations.json").read_text())
        for number, example in enumerate(data.examples(split), start=1):
            image = images.read_one(
                folder / split / content["images"][number - 1]["file_name"]
            )
            np.testing.assert_array_equal(image, example.image)
            np.testing.assert_array_equal(labels_of(content, number), example.labels)
        names = [each["name"] for each in content["categories"]]
        assert names == (["object"] if kind == "instances" else ["class 1", "class 2"])


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_coco_is_what_its_own_tools_read(tmp_path, capsys):
    tools = pytest.importorskip("pycocotools.coco")
    data = made({"train": 3}, missing=True)
    folder = preparing.prepare(data, tmp_path / "plain", format="coco")
    tool = tools.COCO(folder / "train" / "annotations.json")
    capsys.readouterr()  # it prints
    for number, example in enumerate(data.examples("train"), start=1):
        found = tool.loadAnns(tool.getAnnIds(imgIds=[number]))
        assert len(found) == len(np.unique(example.labels)) - 1
        for annotation in found:
            mask = tool.annToMask(annotation).astype(bool)
            np.testing.assert_array_equal(mask, example.labels == annotation["label"])


def test_coco_is_the_same_dataset_again(tmp_path):
    """Ids are those of the annotations' order, so dense ones stay."""
    random = np.random.default_rng(0)
    examples = []
    for number in range(3):
        labels = np.zeros(SHAPE, "int32")
        for value in range(1, 9):
            y, x = random.integers(0, 18, 2)
            labels[y : y + 6, x : x + 9] = value
        labels[12:15, 20:24] = -1
        values = np.unique(labels[labels > 0])
        dense = np.searchsorted(values, labels) + 1
        labels = np.where(labels > 0, dense, labels).astype("int32")
        examples.append(catalog.Example(f"t{number}", picture(number), labels, labels))
    data = of(examples, {"train": 2, "test": 1})
    folder = preparing.prepare(data, tmp_path / "plain", format="coco")
    again = catalog.open_dataset(folder, validation=0)
    for split in ("train", "test"):
        same(data.examples(split), again.examples(split))


def test_gold_truth_in_coco_is_a_file_that_can_be_measured_against(tmp_path):
    gold = np.minimum(cells(1), 1)
    one = catalog.Example("t0", picture(0), cells(0), gold)
    folder = preparing.prepare(
        of([one], {"test": 1}), tmp_path / "plain", format="coco"
    )
    assert len(catalog.open_dataset(folder).examples("test")) == 1
    file = folder / "test" / "reference" / "annotations.json"
    (found,) = catalog.open_dataset(file).examples("all")
    np.testing.assert_array_equal(found.labels, gold)


def test_run_lengths_are_those_of_cocos_tools():
    tools = pytest.importorskip("pycocotools.mask")
    random = np.random.default_rng(0)
    for size in ((1, 1), (1, 700), (70, 90)):
        for share in (0.002, 0.5, 0.998):
            mask = random.random(size) < share
            expected = tools.encode(np.asfortranarray(mask.astype("uint8")))
            lengths = coco.run_lengths(mask.astype("int32")).get(1, [mask.size])
            assert coco.compressed(lengths) == expected["counts"].decode()


def test_ids_beyond_16_bits_fit_into_coco(tmp_path):
    labels = cells(0)
    labels[labels > 0] += 70000
    data = of([catalog.Example("a", picture(0), labels, labels)], {"train": 1})
    folder = preparing.prepare(data, tmp_path / "plain", format="coco")
    content = json.loads((folder / "train" / "annotations.json").read_text())
    np.testing.assert_array_equal(labels_of(content, 1), labels)


# === Folders and names ===


def test_gold_truth_and_markers_have_folders_of_their_own(tmp_path):
    examples = [
        catalog.Example("t0", picture(0), cells(0), cells(1), cells(2)),
        catalog.Example("t1", picture(1), cells(1), None, None),
        catalog.Example("t2", picture(2), cells(2), cells(2), None),
    ]
    folder = preparing.prepare(of(examples, {"train": 3}), tmp_path / "plain")
    for kind, expected in (
        ("reference", {"t0.tif": cells(1), "t2.tif": cells(2)}),
        ("markers", {"t0.tif": cells(2)}),
    ):
        written = {file.name: file for file in (folder / "train" / kind).iterdir()}
        assert written.keys() == expected.keys()
        for name, labels in expected.items():
            np.testing.assert_array_equal(tifffile.imread(written[name]), labels)
    # They are no pairs of their own to whoever reads the folder.
    again = catalog.open_dataset(folder)
    np.testing.assert_array_equal(again.examples("all")[0].labels, cells(0))


def test_a_reference_equal_to_the_labels_is_not_written_twice(tmp_path):
    folder = preparing.prepare(made({"train": 1}), tmp_path / "plain")
    assert sorted(each.name for each in (folder / "train").iterdir()) == [
        "images",
        "masks",
    ]


def test_splits_can_be_chosen(tmp_path):
    data = made({"train": 3, "validation": 2, "test": 1})
    alone = preparing.prepare(data, tmp_path / "a", splits=["validation"])
    assert len(list(alone.rglob("*.tif"))) == 4
    same(
        catalog.open_dataset(alone / "validation").examples("all"),
        data.examples("validation"),
    )
    two = preparing.prepare(data, tmp_path / "b", splits=["test", "train"])
    assert sorted(each.name for each in two.iterdir()) == [
        "README.txt",
        "test",
        "train",
    ]
    assert len(list((two / "train" / "images").iterdir())) == 3
    with pytest.raises(InputError, match="Did you mean 'train'"):
        preparing.prepare(data, tmp_path / "c", splits=["trian"])


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["a", "B", "c"], ["a", "B", "c"]),
        (["frame 2", "frame 10"], ["frame 2", "frame 10"]),
        (["t10", "t2"], ["0_t10", "1_t2"]),
        (["a", "A"], ["0_a", "1_A"]),
        (["a", "a"], ["0_a", "1_a"]),
        (["../up", ".hidden"], ["0__up", "1_hidden"]),
        (["a:b?"], ["0_a_b_"]),
        ([""], ["0_"]),
        (["Aux"], ["0_Aux"]),
    ],
)
def test_names_of_files(names, expected):
    assert preparing.file_names(names) == expected


def test_names_that_cannot_be_files_keep_their_order(tmp_path):
    names = [f"x/{number}" for number in range(12, 0, -1)]
    examples = [
        catalog.Example(name, picture(number), cells(number), None)
        for number, name in enumerate(names)
    ]
    folder = preparing.prepare(of(examples, {"train": 12}), tmp_path / "plain")
    again = catalog.open_dataset(folder, validation=0).examples("train")
    for number, example in enumerate(again):
        np.testing.assert_array_equal(example.image, picture(number))


# === All or nothing ===


def test_nothing_is_left_of_what_failed(tmp_path):
    data = made({"train": 5})

    def interrupted(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preparing.prepare(data, tmp_path / "new" / "plain", progress=interrupted)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "plain").mkdir()
    (tmp_path / "plain" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        preparing.prepare(made({"train": 1}), tmp_path / "plain")
    assert (tmp_path / "plain" / "mine.txt").read_text() == "mine"
    assert [each.name for each in tmp_path.iterdir()] == ["plain"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "plain").mkdir()
    seen = []
    preparing.prepare(
        made({"train": 2, "test": 1}),
        tmp_path / "plain",
        progress=lambda *counts: seen.append(counts),
    )
    assert (tmp_path / "plain" / "README.txt").exists()
    assert seen == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("dtype", "channels"), [("float32", 1), ("uint8", 2), ("uint8", 4), ("int32", 1)]
)
@pytest.mark.parametrize("file_format", ["png", "coco"])
def test_what_a_png_cannot_hold_is_refused(tmp_path, file_format, dtype, channels):
    data = made({"train": 1}, dtype=dtype, channels=channels)
    with pytest.raises(InputError, match=rf"t0 holds {dtype} in {channels} .*tiff"):
        preparing.prepare(data, tmp_path / "plain", format=file_format)


def test_an_unknown_format_is_refused(tmp_path):
    with pytest.raises(InputError, match="Did you mean 'tiff'"):
        preparing.prepare(made({"train": 1}), tmp_path / "plain", format="tif")


# === Named datasets ===


def test_blobs_make_the_whole_way(tmp_path):
    from unet_zoo.datasets.blobs import blobs_dataset_builder

    config = blobs_dataset_builder.BlobsConfig(size=(48, 64), number=(6, 2))
    data = catalog.open_dataset("blobs", config=config, data_dir=tmp_path / "tfds")
    folder = preparing.prepare(data, tmp_path / "plain", format="png")
    again = catalog.open_dataset(folder)
    for split in ("train", "validation", "test"):
        same(data.examples(split), again.examples(split))
    text = (folder / "README.txt").read_text()
    assert "train/ holds 5 images" in text
    assert catalog.info("blobs").description.split("\n")[0] in text


def test_hela_keeps_gold_truth_beside_what_it_is_taught(tmp_path, shared_data):
    """Five real frames as the Cell Tracking Challenge lays them out."""
    wanted = re.compile(
        r"(02/t|02_ST/SEG/man_seg|02_GT/SEG/man_seg|02_GT/TRA/man_track)"
        r"0(06|07|08|14|15)\.tif$"
    )
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        for name in archive.namelist():
            if found := wanted.search(name):
                file = tmp_path / "hela" / "test" / found[0]
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(archive.read(name))
    data = catalog.open_dataset(tmp_path / "hela")
    known = data.examples("test")
    gold = {each.name: each.reference for each in known if each.reference is not None}
    assert (len(known), len(gold)) == (5, 3)
    assert any((each.labels < 0).any() for each in known)
    folder = preparing.prepare(data, tmp_path / "plain")
    again = catalog.open_dataset(folder)
    same(known, again.examples("test"))
    for kind, expected in (
        ("reference", gold),
        ("markers", {each.name: each.markers for each in known}),
    ):
        written = {file.stem: file for file in (folder / "test" / kind).iterdir()}
        assert written.keys() == expected.keys()
        for name, file in written.items():
            np.testing.assert_array_equal(tifffile.imread(file), expected[name])


def test_membrane_keeps_its_classes(tmp_path, shared_data):
    data = catalog.open_dataset(
        "membrane", manual_dir=shared_data, data_dir=tmp_path / "tfds"
    )
    folder = preparing.prepare(data, tmp_path / "plain", format="png", splits=["test"])
    for example in data.examples("test"):
        mask = images.read_one(folder / "test" / "masks" / f"{example.name}.png")
        np.testing.assert_array_equal(mask[..., 0], example.labels)
    text = (folder / "README.txt").read_text()
    assert "one number per class" in text
    assert "--target semantic" in text
    assert catalog.info("membrane").citation.strip() in text
