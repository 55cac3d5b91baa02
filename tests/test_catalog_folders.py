"""A user's own folder: every layout that is understood, every mistake that is named."""

from __future__ import annotations

import numpy as np
import PIL.Image
import pytest
import tifffile

from unet_zoo import catalog, images
from unet_zoo.errors import InputError

SHAPE = (12, 16)


def picture(seed: int = 0, dtype: str = "uint8", channels: int = 0) -> np.ndarray:
    shape = (*SHAPE, channels) if channels else SHAPE
    return np.random.default_rng(seed).integers(0, 255, shape).astype(dtype)


def cells(*ids: int) -> np.ndarray:
    """Return a mask with one square for each id."""
    mask = np.zeros(SHAPE, "uint8")
    for place, number in enumerate(ids):
        mask[3:8, 1 + 5 * place : 5 + 5 * place] = number
    return mask


def write(path, array, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        tifffile.imwrite(path, array, **options)
    else:
        PIL.Image.fromarray(array).save(path)


def write_pairs(folder, count: int = 10) -> None:
    """Write pairs into images/ and masks/, numbered without leading zeros."""
    for number in range(count):
        write(folder / "images" / f"t{number}.png", picture(number))
        write(folder / "masks" / f"t{number}.png", cells(1, 2, 3))


def refused(folder, match: str) -> None:
    with pytest.raises(InputError, match=match):
        catalog.open_dataset(folder)


def test_images_and_masks_in_two_folders(tmp_path):
    write_pairs(tmp_path / "mine", 11)
    dataset = catalog.open_dataset(str(tmp_path / "mine"))
    assert (dataset.name, dataset.kind, dataset.config) == ("mine", "instances", None)
    assert dataset.note == "11 pairs; masks hold one id per object (instances)."
    assert dataset.size_of == {"train": 10, "validation": 1}
    # Natural order: the last block is t10, not t9.
    assert [each.name for each in dataset.examples("validation")] == ["t10"]
    assert [each.name for each in dataset.examples("all")] == [
        f"t{n}" for n in range(11)
    ]
    example = dataset.examples("train")[3]
    np.testing.assert_array_equal(example.image[..., 0], picture(3))
    np.testing.assert_array_equal(example.labels, cells(1, 2, 3))
    np.testing.assert_array_equal(example.reference, example.labels)
    assert example.labels.dtype == np.int32


@pytest.mark.parametrize("ending", ["_mask", "_masks", "_cp_masks"])
@pytest.mark.parametrize("place", ["masks", "."])
def test_masks_may_say_that_they_are_masks(tmp_path, place, ending):
    where = "images" if place == "masks" else "."
    for name in ("a", "b_1"):
        write(tmp_path / where / f"{name}.tif", picture(), compression="lzw")
        write(tmp_path / place / f"{name}{ending}.png", cells(4, 5))
    dataset = catalog.open_dataset(tmp_path)
    assert [each.name for each in dataset.examples("all")] == ["a", "b_1"]


def test_cellpose_names_its_images_img(tmp_path):
    for number in range(2):
        write(tmp_path / f"00{number}_img.png", picture(number))
        write(tmp_path / f"00{number}_masks.png", cells(number + 1))
    labels = [
        each.labels.max() for each in catalog.open_dataset(tmp_path).examples("all")
    ]
    assert labels == [1, 2]


@pytest.mark.parametrize(
    ("name", "dtype", "channels"),
    [
        ("a.jpg", "uint8", 3),
        ("a.tif", "uint16", 0),
        ("a.tiff", "float32", 0),
        ("a.png", "uint8", 3),
    ],
)
def test_images_keep_their_depth_and_colours(tmp_path, name, dtype, channels):
    write(tmp_path / "images" / name, picture(0, dtype, channels))
    write(tmp_path / "masks" / "a.tif", cells(300 % 256, 2).astype("uint16"))
    image = catalog.open_dataset(tmp_path).examples("all")[0].image
    assert image.dtype == dtype
    assert image.shape == (*SHAPE, channels or 1)


@pytest.mark.parametrize("white", [1, 255])
def test_binary_masks_become_objects(tmp_path, white):
    write_pairs(tmp_path, 1)
    mask = cells(white, white)
    mask[8, 5] = white  # touches the first square by a corner only
    write(tmp_path / "masks" / "t0.png", mask)
    dataset = catalog.open_dataset(tmp_path)
    assert f"0 and {white} only: each connected region" in dataset.note
    labels = dataset.examples("all")[0].labels
    np.testing.assert_array_equal(labels > 0, mask > 0)
    assert sorted(np.unique(labels, return_counts=True)[1][1:]) == [1, 20, 20]


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        (cells(255, 255), cells(1, 1), (2, 2)),
        (cells(255, 255), cells(), (2, 0)),
        (cells(255, 255).astype("uint16") * 257, cells(255, 255), (2, 2)),
        # Beside one id per object: white is no id, 1 is one.
        (cells(255, 255), cells(1, 2), (2, 2)),
        (cells(1, 1), cells(1, 2), (1, 2)),
        (cells(5, 5), cells(7, 7), (1, 1)),
        (cells(255, 255), cells(1, 255), (2, 2)),
    ],
)
def test_regions_are_objects_where_masks_do_not_say_which_is_which(
    tmp_path, first, second, counts
):
    for split, mask in (("train", first), ("test", second)):
        write(tmp_path / split / "images" / "a.png", picture())
        write(tmp_path / split / "masks" / "a.tif", mask)
    dataset = catalog.open_dataset(tmp_path)
    for split, count in zip(("train", "test"), counts, strict=True):
        (example,) = dataset.examples(split)
        assert len(np.unique(example.labels[example.labels > 0])) == count


def test_one_frame_may_be_empty(tmp_path):
    write_pairs(tmp_path, 3)
    write(tmp_path / "masks" / "t1.png", cells())
    empty = catalog.open_dataset(tmp_path).examples("all")[1]
    assert not empty.labels.any()


def test_what_is_not_annotated_stays_so(tmp_path):
    write_pairs(tmp_path, 2)
    (tmp_path / "masks" / "t1.png").unlink()
    mask = cells(1, 2).astype("int16")
    mask[:2] = -1
    write(tmp_path / "masks" / "t1.tif", mask)
    dataset = catalog.open_dataset(tmp_path)
    assert "-1 is not annotated" in dataset.note
    np.testing.assert_array_equal(dataset.examples("all")[1].labels, mask)


def test_train_and_test_folders_are_the_splits(tmp_path):
    write_pairs(tmp_path / "train", 5)
    write_pairs(tmp_path / "test", 2)
    dataset = catalog.open_dataset(tmp_path, validation=0.4)
    assert dataset.size_of == {"train": 3, "validation": 2, "test": 2}
    assert len(dataset.examples("all")) == 7


def test_a_test_folder_beside_the_pairs(tmp_path):
    write_pairs(tmp_path, 4)
    write_pairs(tmp_path / "test", 2)
    assert catalog.open_dataset(tmp_path).size_of["test"] == 2


def test_without_test_folder_the_way_out_is_told(tmp_path):
    write_pairs(tmp_path, 2)
    with pytest.raises(InputError, match=r"no split 'test'.*test/.*the split 'all'"):
        catalog.open_dataset(tmp_path).examples("test")


def test_pairs_beside_a_train_folder_are_refused(tmp_path):
    write_pairs(tmp_path, 2)
    write_pairs(tmp_path / "train", 2)
    refused(tmp_path, "pairs of its own beside those in train/")


def test_the_version_changes_with_a_pixel(tmp_path):
    write_pairs(tmp_path, 3)
    before = catalog.open_dataset(tmp_path).version
    assert catalog.open_dataset(tmp_path).version == before
    write(tmp_path / "masks" / "t2.png", cells(1, 2))
    assert catalog.open_dataset(tmp_path).version != before


def test_the_challenge_layout_is_read_as_hela_is(tmp_path):
    from unet_zoo.datasets.hela.hela_dataset_builder_test import write_sequence

    for sequence in ("01", "02"):
        write_sequence(tmp_path, sequence, frames=4)
    folder = tmp_path / "DIC-C2DH-HeLa"
    dataset = catalog.open_dataset(folder)
    hela = catalog.open_dataset("hela", manual_dir=tmp_path, data_dir=tmp_path / "data")
    assert "8 annotated frames" in dataset.note
    expected = [
        each for s in ("train", "validation", "test") for each in hela.examples(s)
    ]
    for mine, other in zip(dataset.examples("all"), expected, strict=True):
        assert mine.name == other.name
        np.testing.assert_array_equal(mine.image, other.image)
        np.testing.assert_array_equal(mine.labels, other.labels)
        np.testing.assert_array_equal(mine.markers, other.markers)
        assert (mine.reference is None) == (other.reference is None)
        if mine.reference is not None:
            np.testing.assert_array_equal(mine.reference, other.reference)


def test_the_challenge_layout_with_one_kind_of_truth(tmp_path):
    for number in range(3):
        write(tmp_path / f"01/t00{number}.tif", picture(number))
    write(tmp_path / "01_GT/SEG/man_seg001.tif", cells(1, 2))
    gold = catalog.open_dataset(tmp_path).examples("all")
    assert [each.name for each in gold] == ["01_t001"]
    np.testing.assert_array_equal(gold[0].reference, cells(1, 2))
    # With a marker that gold has no cell for, that place becomes unknown.
    markers = cells(1, 2, 3)
    write(tmp_path / "01_GT/TRA/man_track001.tif", markers)
    gold = catalog.open_dataset(tmp_path).examples("all")
    assert (gold[0].labels[markers == 3] == -1).all()


def test_the_challenge_layout_without_the_frame_of_a_mask(tmp_path):
    write(tmp_path / "01/t000.tif", picture())
    write(tmp_path / "01_ST/SEG/man_seg004.tif", cells(1, 2))
    refused(tmp_path, r"no frame t004\.tif, but a mask for it")


def test_a_path_that_does_not_exist(tmp_path):
    refused(tmp_path / "nowhere", "There is no folder .*nowhere")


def test_a_file_is_no_folder(tmp_path):
    write(tmp_path / "a.png", picture())
    refused(tmp_path / "a.png", r"a\.png is a file; give the folder")


def test_a_configuration_is_not_for_folders(tmp_path):
    with pytest.raises(InputError, match="`config` chooses within a named dataset"):
        catalog.open_dataset(tmp_path, config="standard")


def test_an_empty_folder(tmp_path):
    refused(tmp_path, r"has no pairs.*Expected images/ and masks/")


def test_images_without_any_masks(tmp_path):
    write(tmp_path / "a.png", picture())
    refused(tmp_path, r"images but no masks\. Expected images/ and masks/")


def test_images_without_the_folder_of_masks(tmp_path):
    write(tmp_path / "images" / "a.png", picture())
    refused(tmp_path, r"images is there but .*masks is not")


def test_an_image_without_its_mask(tmp_path):
    write_pairs(tmp_path, 3)
    (tmp_path / "masks" / "t1.png").unlink()
    refused(tmp_path, r"The image .*t1\.png has no mask\. Expected one in .*masks")


def test_names_that_a_mask_may_have_are_told_once_each(tmp_path):
    for name in ("a.png", "a_masks.png", "b.ome.tif"):
        write(tmp_path / name, cells(1, 2))
    refused(tmp_path, r"no mask\. Expected one in .*, named b_masks with the suffix")
    for name in ("a", "b"):
        write(tmp_path / "apart" / "images" / f"{name}.png", picture())
    write(tmp_path / "apart" / "masks" / "a.png", cells(1, 2))
    refused(tmp_path / "apart", r"named b or b_masks with the suffix")


def test_a_mask_without_its_image(tmp_path):
    write_pairs(tmp_path, 3)
    (tmp_path / "images" / "t1.png").unlink()
    refused(tmp_path, r"The mask .*t1\.png has no image\. Add the image of that name")


def test_an_image_with_two_masks(tmp_path):
    write_pairs(tmp_path, 2)
    write(tmp_path / "masks" / "t1_mask.png", cells(1))
    refused(tmp_path, r"t1\.png has two masks, t1\.png and t1_mask\.png")


def test_two_masks_of_one_name(tmp_path):
    write_pairs(tmp_path, 2)
    write(tmp_path / "masks" / "t1.tif", cells(1))
    refused(tmp_path, "are masks of the same name")


def test_sizes_that_differ(tmp_path):
    write_pairs(tmp_path, 2)
    write(tmp_path / "masks" / "t1.png", cells(1, 2)[:, 1:])
    refused(tmp_path, r"t1 is 12 x 16 pixels, its mask .*t1\.png is 12 x 15")


def test_a_mask_of_colours(tmp_path):
    write_pairs(tmp_path, 2)
    write(tmp_path / "masks" / "t1.png", picture(channels=3))
    refused(tmp_path, r"mask .*t1\.png has 3 channels")


def test_a_mask_with_a_palette_keeps_its_ids(tmp_path):
    write_pairs(tmp_path, 2)
    mask = PIL.Image.fromarray(cells(1, 2)).convert("P")
    mask.putpalette([0, 0, 0, 200, 0, 0, 0, 200, 0])
    mask.save(tmp_path / "masks" / "t1.png")
    labels = catalog.open_dataset(tmp_path).examples("all")[1].labels
    np.testing.assert_array_equal(labels, cells(1, 2))


@pytest.mark.parametrize(
    ("mask", "match"),
    [
        (cells(1, 2).astype("float32"), r"t1\.tif holds float32; whole numbers"),
        (cells(1, 2).astype("int16") - 2, r"t1\.tif holds values from -2 to 0"),
        (cells(1, 2).astype("uint32") * 2**31, r"holds values from 0 to 2147483648"),
    ],
)
def test_a_mask_of_impossible_values(tmp_path, mask, match):
    write_pairs(tmp_path, 2)
    (tmp_path / "masks" / "t1.png").unlink()
    write(tmp_path / "masks" / "t1.tif", mask)
    refused(tmp_path, match)


def test_a_jpeg_as_mask(tmp_path):
    write_pairs(tmp_path, 2)
    (tmp_path / "masks" / "t1.png").unlink()
    write(tmp_path / "masks" / "t1.jpg", cells(1, 2))
    refused(tmp_path, r"t1\.jpg is a JPEG.*Save masks as PNG or TIFF")


@pytest.mark.parametrize("value", [0, 7])
def test_masks_that_say_nothing(tmp_path, value):
    write_pairs(tmp_path, 3)
    for file in (tmp_path / "masks").iterdir():
        write(file, np.full(SHAPE, value, "uint8"))
    refused(tmp_path, f"All masks in .* hold the value {value} and nothing else")


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite(tmp_path, value):
    write_pairs(tmp_path, 2)
    (tmp_path / "images" / "t1.png").unlink()
    image = picture(dtype="float32")
    image[2, 3] = value
    write(tmp_path / "images" / "t1.tif", image)
    refused(tmp_path, r"t1\.tif has 1 values that are NaN or infinite")


@pytest.mark.parametrize("place", ["images", "masks"])
def test_a_truncated_tiff(tmp_path, place):
    write_pairs(tmp_path, 2)
    (tmp_path / place / "t1.png").unlink()
    file = tmp_path / place / "t1.tif"
    write(file, cells(1, 2), compression="zlib")
    file.write_bytes(file.read_bytes()[:-20])
    refused(tmp_path, r"Cannot read .*t1\.tif")


@pytest.mark.parametrize("place", ["images", "masks"])
def test_a_text_file_called_png(tmp_path, place):
    write_pairs(tmp_path, 2)
    (tmp_path / place / "t1.png").write_text("not an image")
    refused(tmp_path, r"Cannot read .*t1\.png")


def test_grey_and_colour_do_not_mix(tmp_path):
    write_pairs(tmp_path, 2)
    write(tmp_path / "images" / "t1.png", picture(channels=3))
    refused(tmp_path, "same number of channels; t0 has 1, t1 has 3")


def test_the_pixel_size_that_all_files_state(tmp_path):
    for number, size in enumerate([(0.65, 0.65), (0.65001, 0.65)]):
        name = f"{number}.ome.tif"
        (tmp_path / "images").mkdir(exist_ok=True)
        images.write_tiff(
            tmp_path / "images" / name, picture(number), "YX", size, ome=True
        )
        write(tmp_path / "masks" / f"{number}.png", cells(1, 2))
    found = catalog.open_dataset(tmp_path)
    assert found.pixel_size == (0.65, 0.65)
    assert "a pixel is 0.65 micrometres." in found.note
    other = tmp_path / "images" / "1.ome.tif"
    images.write_tiff(other, picture(1), "YX", (0.5, 0.65), ome=True)
    found = catalog.open_dataset(tmp_path)
    assert found.pixel_size is None
    assert "and 0.5 x 0.65 micrometres in 1.ome.tif, so none is noted" in found.note
    write(other, picture(1))
    assert catalog.open_dataset(tmp_path).pixel_size is None
    write(tmp_path / "images" / "2.png", picture(2))
    write(tmp_path / "masks" / "2.png", cells(1, 2))
    assert catalog.open_dataset(tmp_path).pixel_size is None
