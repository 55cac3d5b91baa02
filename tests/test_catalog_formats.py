"""Own data as tables, as stacks and from Cellpose, and data larger than the memory."""

from __future__ import annotations

import numpy as np
import pytest
import tifffile

from unet_zoo import catalog
from unet_zoo.catalog import folders
from unet_zoo.errors import InputError

SHAPE = (24, 32)


def picture(seed: int = 0, frames: int = 0) -> np.ndarray:
    shape = (frames, *SHAPE) if frames else SHAPE
    return np.random.default_rng(seed).integers(0, 255, shape).astype("uint8")


def cells(*ids: int) -> np.ndarray:
    """Return a mask with one square of 5 x 5 pixels for each id."""
    mask = np.zeros(SHAPE, "uint8")
    for place, number in enumerate(ids):
        mask[3:8, 2 + 6 * place : 7 + 6 * place] = number
    return mask


def write(path, array, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(path, array, **options)


def examples(path, split: str = "all") -> list[catalog.Example]:
    return catalog.open_dataset(path).examples(split)


def refused(path, match: str) -> None:
    with pytest.raises(InputError, match=match):
        catalog.open_dataset(path)


# === CSV ===


def write_table(folder, text: str):
    for number in range(4):
        write(folder / "pictures" / f"a{number}.tif", picture(number))
        write(folder / "drawn" / f"m{number}.tif", cells(number + 1, number + 2))
    path = folder / "pairs.csv"
    path.write_text(text, encoding="utf-8")
    return path


ROWS = [f"pictures/a{n}.tif,drawn/m{n}.tif" for n in range(4)]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_table_says_which_mask_is_whose(tmp_path, separator):
    rows = [
        "\ufeffImage,note,MASK",
        *(row.replace(",", ",seen,") for row in reversed(ROWS)),
    ]
    text = "\r\n".join(rows).replace(",", separator) + "\r\n\r\n"
    dataset = catalog.open_dataset(write_table(tmp_path, text))
    assert dataset.name == "pairs"
    assert dataset.size_of == {"train": 3, "validation": 1}
    assert [e.name for e in dataset.examples("all")] == [
        f"pictures/a{n}" for n in (3, 2, 1, 0)
    ]
    for each in dataset.examples("all"):
        number = int(each.name[-1])
        np.testing.assert_array_equal(each.image[..., 0], picture(number))
        np.testing.assert_array_equal(each.labels, cells(number + 1, number + 2))


def test_a_table_may_say_the_splits(tmp_path):
    words = ["train", "Val", "test", ""]
    rows = [f"{row},{word}" for row, word in zip(ROWS, words, strict=True)]
    path = write_table(tmp_path, "\n".join(["image,mask,split", *rows]))
    dataset = catalog.open_dataset(path)
    assert dataset.size_of == {"train": 2, "validation": 1, "test": 1}
    assert [e.name[-1] for e in dataset.examples("train")] == ["0", "3"]
    assert [e.name[-1] for e in dataset.examples("validation")] == ["1"]


@pytest.mark.parametrize(
    ("rows", "match"),
    [
        (["image,masks", *ROWS], r"no column 'mask'.*Did you mean 'masks'"),
        (["image,mask", "pictures/a0.tif,"], r"Line 2 of .*pairs\.csv has no mask"),
        (["image,mask", ROWS[0], "b.tif,c.tif"], r"Line 3 .*image .*b\.tif, which is"),
        (["image,mask", f"{'b' * 300}.tif,c.tif"], r"Line 2 .*b\.tif, which is not"),
        (
            ["image,mask", ROWS[0], f'"{"b" * 2**18}'],
            r"pairs\.csv from line 3 on: field",
        ),
        (["image,mask", ROWS[0], ROWS[0]], r"a0\.tif again, as line 2 did"),
        (["image,mask,split", f"{ROWS[0]},tset"], r"Line 2 .* the split 'tset'"),
        (["image,mask"], r"pairs\.csv names no pairs"),
        ([], r"no column 'image'; its columns are none"),
    ],
)
def test_what_is_wrong_with_a_table(tmp_path, rows, match):
    refused(write_table(tmp_path, "\n".join(rows)), match)


def test_a_table_that_is_no_text(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_bytes(b"\xff\xfe\x00image")
    refused(path, r"Cannot read .*pairs\.csv: it is not text in UTF-8")


# === Stacks ===


def test_pages_of_a_stack_are_examples(tmp_path):
    stack = np.stack([cells(1, 2), cells(3), cells()])
    write(tmp_path / "images" / "film.tif", picture(0, 3))
    write(tmp_path / "masks" / "film.tif", stack)
    write(tmp_path / "images" / "one.tif", picture(1))
    write(tmp_path / "masks" / "one.tif", cells(4))
    found = examples(tmp_path)
    assert [e.name for e in found] == ["film[0]", "film[1]", "film[2]", "one"]
    for number in range(3):
        np.testing.assert_array_equal(
            found[number].image[..., 0], picture(0, 3)[number]
        )
        np.testing.assert_array_equal(found[number].labels, stack[number])
    assert "each page of 1 stacks is an example" in catalog.open_dataset(tmp_path).note


def test_a_stack_with_a_page_too_few(tmp_path):
    write(tmp_path / "film.tif", picture(0, 3))
    write(tmp_path / "film_masks.tif", np.stack([cells(1, 2)] * 2))
    refused(tmp_path, r"film\.tif has 3 pages, its mask .*film_masks\.tif has 2")


@pytest.mark.parametrize(
    "mask", ["a.ome.tif", "a.tif", "a_masks.tif", "a_masks.ome.tif"]
)
def test_ome_tiffs(tmp_path, mask):
    image = np.stack([picture(0), picture(1)])
    options = {"metadata": {"axes": "CYX"}, "ome": True}
    write(tmp_path / "images" / "a.ome.tif", image, **options)
    ome = {"ome": True, "metadata": {"axes": "YX"}} if ".ome" in mask else {}
    write(tmp_path / "masks" / mask, cells(1, 2), **ome)
    (found,) = examples(tmp_path)
    assert found.name == "a"
    np.testing.assert_array_equal(found.image, np.moveaxis(image, 0, -1))
    np.testing.assert_array_equal(found.labels, cells(1, 2))


# === Cellpose ===


@pytest.mark.parametrize("others", [0, 1])
def test_the_pickle_of_cellpose_is_refused_with_the_way_out(tmp_path, others):
    for number in range(1 + others):
        write(tmp_path / f"a{number}.tif", picture())
    for number in range(others):
        write(tmp_path / f"a{number + 1}_cp_masks.tif", cells(1, 2))
    np.save(tmp_path / "a0_seg.npy", {"masks": cells(1)}, allow_pickle=True)
    refused(tmp_path, r"a0_seg\.npy is Cellpose's own format, a pickle.*--save_tif")


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("place", ["images", "masks"])
def test_so_is_the_pickle_where_images_and_masks_lie_apart(tmp_path, place, others):
    (tmp_path / "masks").mkdir()
    for number in range(1 + others):
        write(tmp_path / "images" / f"a{number}.tif", picture())
    for number in range(others):
        write(tmp_path / "masks" / f"a{number + 1}.tif", cells(1, 2))
    file = tmp_path / place / "a0_seg.npy"
    np.save(file, {"masks": cells(1)}, allow_pickle=True)
    refused(tmp_path, r"a0_seg\.npy is Cellpose's own format, a pickle.*--save_tif")


def test_the_pickle_of_cellpose_does_not_disturb_beside_masks(tmp_path):
    write(tmp_path / "a.tif", picture())
    write(tmp_path / "a_cp_masks.tif", cells(1, 2))
    np.save(tmp_path / "a_seg.npy", {"masks": cells(1)}, allow_pickle=True)
    np.testing.assert_array_equal(examples(tmp_path)[0].labels, cells(1, 2))


# === Larger than the memory ===


def test_what_is_too_large_is_read_again_and_the_same(tmp_path, monkeypatch):
    for number in range(5):
        write(tmp_path / "images" / f"a{number}.tif", picture(number, 2))
        write(tmp_path / "masks" / f"a{number}.tif", np.stack([cells(255)] * 2))
    kept = catalog.open_dataset(tmp_path, validation=0.3)
    monkeypatch.setattr(folders, "KEPT", 0)
    again = catalog.open_dataset(tmp_path, validation=0.3)
    assert isinstance(again.sequence("train"), catalog.Lazy)
    assert isinstance(kept.sequence("train"), list)
    assert (kept.note, kept.size_of, kept.version) == (
        again.note,
        again.size_of,
        again.version,
    )
    for split in ("train", "validation", "all"):
        pairs = zip(kept.sequence(split), again.sequence(split), strict=True)
        for one, other in pairs:
            assert one.name == other.name
            np.testing.assert_array_equal(one.image, other.image)
            np.testing.assert_array_equal(one.labels, other.labels)
