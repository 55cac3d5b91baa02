"""`checking`: every broken folder is explained, and whole ones are left in peace."""

from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import PIL.Image
import pytest
import tifffile

from unet_zoo import catalog, checking, images
from unet_zoo.checking.looks import Frame, look
from unet_zoo.datasets.blobs import generate
from unet_zoo.errors import InputError

SIZE = (96, 112)


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image uint8 (Y, X) of blobs, and its labels."""
    image, labels = generate.generate("medium", SIZE, seed=300 + seed, count=8)
    return image[..., 0], labels.astype("uint16")


def write(path: Path, array: np.ndarray, **options: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in (".tif", ".tiff"):
        options.setdefault("photometric", "rgb" if array.ndim == 3 else "minisblack")
        tifffile.imwrite(path, array, **options)
    else:
        PIL.Image.fromarray(array).save(path)


def write_pairs(folder: Path, count: int = 6, first: int = 0) -> Path:
    for number in range(first, first + count):
        image, labels = draw(number)
        write(folder / "images" / f"a{number}.tif", image)
        write(folder / "masks" / f"a{number}.tif", labels)
    return folder


def whole(folder: Path) -> Path:
    """Write a folder with nothing to complain of."""
    write_pairs(folder / "train", 6)
    write_pairs(folder / "test", 2, first=6)
    return folder


def kinds(report: checking.Report) -> list[str]:
    return [each.kind for each in report.findings]


def of_kind(report: checking.Report, kind: str) -> list[checking.Finding]:
    return [each for each in report.findings if each.kind == kind]


# === Whole data ===


def test_a_whole_folder_has_no_findings(tmp_path):
    report = checking.check(whole(tmp_path))
    assert report.findings == ()
    assert not report.refused
    assert report.facts["splits"] == {"train": 5, "validation": 1, "test": 2}
    assert report.facts["sizes"] == {"96 x 112": 8}
    assert report.facts["depths"] == {"uint8": 8}
    assert report.facts["kind"] == "instances"
    every = catalog.open_dataset(tmp_path).examples("all")
    areas = [np.unique(e.labels[e.labels > 0], return_counts=True)[1] for e in every]
    areas = np.concatenate(areas)
    assert report.facts["objects"]["total"] == len(areas)
    assert report.facts["objects"]["area"][2] == np.median(areas)
    foreground = np.mean([(each.labels > 0).mean() for each in every])
    assert report.facts["foreground"] == pytest.approx(foreground)


def test_the_report_is_json_and_its_splits_are_those_of_training(tmp_path):
    write_pairs(tmp_path, 6)
    report = checking.check(tmp_path)
    plain = json.loads(json.dumps(report.as_dict()))
    assert plain["refused"] is False
    assert [each["kind"] for each in plain["findings"]] == ["no test"]
    assert plain["facts"]["splits"] == catalog.open_dataset(tmp_path).size_of
    assert plain["suggestion"]["options"]["target"] == "distance"


@pytest.mark.parametrize("difficulty", generate.DIFFICULTIES)
def test_blobs_are_clean(difficulty, tmp_path):
    for seed in range(12):
        image, labels = generate.generate(difficulty, (160, 192), seed=seed)
        write(tmp_path / "images" / f"a{seed}.tif", image[..., 0])
        write(tmp_path / "masks" / f"a{seed}.tif", labels.astype("uint16"))
    assert kinds(checking.check(tmp_path)) == ["no test"]


def test_hela_is_clean_but_for_what_is_true(shared_data, tmp_path):
    """Every sixth frame of the real cells, and those with gold truth."""
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        names = archive.namelist()
        gold = {name[-7:-4] for name in names if "_GT/SEG/" in name}
        chosen = [
            name
            for name in names
            if name[-7:-4] in gold
            or (name[-7:-4].isdigit() and int(name[-7:-4]) % 6 == 0)
        ]
        archive.extractall(tmp_path, chosen)
    report = checking.check("hela", manual_dir=tmp_path, data_dir=tmp_path / "tfds")
    count = report.facts["images"] // 2
    assert kinds(report) == ["partly annotated", "partly measured"]
    assert "not annotated (-1)" in report.findings[0].what
    assert f"9 of {count} images to test on have" in report.findings[1].what
    assert count >= 14 + 7
    assert report.facts["splits"]["test"] == count
    assert report.facts["registered"] == 2 * count
    assert report.facts["objects"]["touching"] > 0.5
    options = report.suggestion.options
    assert options["scale"] == 0.5
    assert (options["target"], options["patch"]) == ("distance", 256)


# === Twelve broken folders, and some more: what train refuses ===

Break = Callable[[Path], Path]


def no_mask(folder: Path) -> Path:
    (folder / "masks" / "a2.tif").unlink()
    return folder / "images" / "a2.tif"


def no_image(folder: Path) -> Path:
    (folder / "images" / "a2.tif").unlink()
    return folder / "masks" / "a2.tif"


def two_masks(folder: Path) -> Path:
    write(folder / "masks" / "a2_mask.png", draw(2)[1].astype("uint8"))
    return folder / "images" / "a2.tif"


def other_size(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", draw(2)[1][:, 3:])
    return folder / "masks" / "a2.tif"


def float_mask(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", draw(2)[1].astype("float32"))
    return folder / "masks" / "a2.tif"


def colour_mask(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", np.stack([draw(2)[1]] * 3, axis=-1))
    return folder / "masks" / "a2.tif"


def jpeg_mask(folder: Path) -> Path:
    (folder / "masks" / "a2.tif").unlink()
    write(folder / "masks" / "a2.jpg", draw(2)[1].astype("uint8"))
    return folder / "masks" / "a2.jpg"


def negative_mask(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", draw(2)[1].astype("int16") - 2)
    return folder / "masks" / "a2.tif"


def truncated(folder: Path) -> Path:
    file = folder / "images" / "a2.tif"
    file.write_bytes(file.read_bytes()[:500])
    return file


def not_finite(folder: Path) -> Path:
    image = draw(2)[0].astype("float32")
    image[5, 6] = np.nan
    write(folder / "images" / "a2.tif", image)
    return folder / "images" / "a2.tif"


def colour_image(folder: Path) -> Path:
    write(folder / "images" / "a2.tif", np.stack([draw(2)[0]] * 3, axis=-1))
    return folder / "images" / "a2.tif"


def pickle(folder: Path) -> Path:
    (folder / "masks" / "a2.tif").unlink()
    np.save(folder / "images" / "a2_seg.npy", draw(2)[1])
    return folder / "images" / "a2.tif"


def pages(folder: Path) -> Path:
    stack = np.stack([draw(2)[0]] * 3)
    write(folder / "images" / "a2.tif", stack, photometric="minisblack")
    return folder / "masks" / "a2.tif"


def constant_masks(folder: Path) -> Path:
    for file in (folder / "masks").iterdir():
        write(file, np.full(SIZE, 7, "uint8"))
    return folder


REFUSED: dict[Break, list[str]] = {
    no_mask: ["a2.tif has no mask", "Add it"],
    no_image: ["a2.tif has no image", "Add the image"],
    two_masks: ["two masks, a2.tif and a2_mask.png"],
    other_size: ["96 x 112 pixels", "96 x 109", "must be equal"],
    float_mask: ["holds float32", "whole numbers", "8- or 16-bit"],
    colour_mask: ["has 3 channels", "one channel of whole numbers"],
    jpeg_mask: ["is a JPEG", "Save masks as PNG or TIFF"],
    negative_mask: ["values from -2 to", "-1 (not annotated)"],
    truncated: ["Cannot read", "a2.tif", "truncated"],
    not_finite: ["1 values that are NaN", "nan_to_num"],
    colour_image: ["same number of channels", "a0 has 1, a2 has 3", "Convert them"],
    pickle: ["a2.tif has no mask", "a pickle", "--save_tif"],
    pages: ["has 3 pages, its mask", "Every page needs its mask"],
    constant_masks: ["hold the value 7 and nothing else", "Background must be 0"],
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda each: each.__name__)
def test_what_train_refuses_is_explained_in_the_same_words(tmp_path, spoil):
    file = spoil(write_pairs(tmp_path))
    report = checking.check(tmp_path)
    assert report.refused
    errors = [each for each in report.findings if each.severity == "error"]
    assert [each.file for each in errors] == [str(file)]
    told = f"{errors[0].what} {errors[0].way_out}".rstrip()
    for fragment in REFUSED[spoil]:
        assert fragment in told
    with pytest.raises(InputError) as refusal:
        catalog.open_dataset(tmp_path)
    assert str(refusal.value) == told


def test_data_to_test_on_cannot_be_trained_on(tmp_path):
    write_pairs(tmp_path / "test", 3)
    report = checking.check(tmp_path)
    (error,) = [each for each in report.findings if each.severity == "error"]
    with pytest.raises(InputError) as refusal:
        catalog.open_dataset(tmp_path).examples("train")
    assert error.what == str(refusal.value)
    assert report.suggestion is None
    assert report.facts["images"] == 3


def test_every_error_of_a_folder_is_listed(tmp_path):
    """Not only the first, which is what opening raises."""
    spoilt = [no_mask, float_mask, truncated]
    for number, spoil in enumerate(spoilt):
        place = write_pairs(tmp_path / spoil.__name__)
        spoil(place)
        for kind in ("images", "masks"):
            for file in (place / kind).iterdir():
                (tmp_path / kind).mkdir(exist_ok=True)
                file.rename(tmp_path / kind / f"{number}{file.name}")
    report = checking.check(tmp_path)
    errors = [each for each in report.findings if each.severity == "error"]
    files = [Path(each.file).name for each in errors]
    assert files == ["0a2.tif", "1a2.tif", "2a2.tif"]
    # What can be read is looked at all the same.
    assert report.facts["images"] == 18 - 3
    assert report.suggestion is not None


# === What train takes, and should not ===


def shifted(folder: Path) -> Path:
    labels = draw(2)[1]
    moved = np.zeros_like(labels)
    moved[7:, :-9] = labels[:-7, 9:]
    write(folder / "masks" / "a2.tif", moved)
    return folder / "masks" / "a2.tif"


def mirrored(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", draw(2)[1][:, ::-1].copy())
    return folder / "masks" / "a2.tif"


def strange(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", draw(77)[1])
    return folder / "masks" / "a2.tif"


def inverted(folder: Path) -> Path:
    for number in range(6):
        mask = (draw(number)[1] > 0).astype("uint8")
        write(folder / "masks" / f"a{number}.tif", 1 - mask if number == 2 else mask)
    return folder / "masks" / "a2.tif"


def one_value(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", np.ones(SIZE, "uint16"))
    return folder / "masks" / "a2.tif"


def unannotated(folder: Path) -> Path:
    write(folder / "masks" / "a2.tif", np.full(SIZE, -1, "int16"))
    return folder / "masks" / "a2.tif"


def empty_image(folder: Path) -> Path:
    write(folder / "images" / "a2.tif", np.full(SIZE, 3, "uint8"))
    return folder / "images" / "a2.tif"


def saturated(folder: Path) -> Path:
    image, labels = draw(2)
    write(
        folder / "images" / "a2.tif", np.where(labels > 4, 255, image).astype("uint8")
    )
    return folder / "images" / "a2.tif"


def exchanged(folder: Path) -> Path:
    write(folder / "images" / "a2.tif", (draw(2)[1] > 0).astype("uint8"))
    return folder / "images" / "a2.tif"


def fragments(folder: Path) -> Path:
    labels = draw(2)[1]
    ids, areas = np.unique(labels[labels > 0], return_counts=True)
    first, *_, last = ids[np.argsort(-areas)][:2]
    labels[labels == last] = first
    write(folder / "masks" / "a2.tif", labels)
    return folder / "masks" / "a2.tif"


def specks(folder: Path) -> Path:
    labels = draw(2)[1]
    y, x = np.argwhere(labels == 0)[40]
    labels[y, x] = 999
    write(folder / "masks" / "a2.tif", labels)
    return folder / "masks" / "a2.tif"


def resampled(folder: Path) -> Path:
    mask = PIL.Image.fromarray((draw(2)[1] > 0).astype("uint8") * 255)
    small = mask.resize((SIZE[1] // 3, SIZE[0] // 3), PIL.Image.Resampling.BILINEAR)
    back = small.resize(SIZE[::-1], PIL.Image.Resampling.BILINEAR)
    write(folder / "masks" / "a2.tif", np.asarray(back))
    return folder / "masks" / "a2.tif"


def copy(folder: Path) -> Path:
    write(folder / "test" / "images" / "b.tif", draw(2)[0])
    write(folder / "test" / "masks" / "b.tif", draw(2)[1])
    return folder / "test" / "images" / "b.tif"


def near_copy(folder: Path) -> Path:
    noise = np.random.default_rng(0).normal(0, 2, SIZE)
    image = np.clip(draw(2)[0] * 0.9 + noise, 0, 255).astype("uint8")
    write(folder / "test" / "images" / "b.tif", image)
    write(folder / "test" / "masks" / "b.tif", draw(2)[1])
    return folder / "test" / "images" / "b.tif"


def other_mask(folder: Path) -> Path:
    write(folder / "images" / "a1b.tif", draw(2)[0])
    write(folder / "masks" / "a1b.tif", draw(2)[1] * (draw(2)[1] > 1))
    return folder / "images" / "a2.tif"


SUSPICIOUS: dict[Break, tuple[str, str]] = {
    shifted: ("shifted", "better 7 pixels up and 9 pixels right"),
    mirrored: ("turned", "only when mirrored left to right"),
    strange: ("mismatch", "Does it belong to another image?"),
    inverted: ("inverted", "objects must be 1 and more"),
    one_value: ("one value", "the value 1 and nothing else"),
    unannotated: ("not annotated", "-1 throughout"),
    empty_image: ("empty image", "holds 3 and nothing else"),
    saturated: ("saturated", "in the objects of the image a2 are 255, the highest"),
    exchanged: ("two values", "exchanged"),
    fragments: ("fragments", "1 object of a2 consist of parts far from each other"),
    specks: ("specks", "at most 3 pixels"),
    resampled: ("resampled", "Resize masks with the nearest neighbour"),
    copy: ("duplicate across splits", "b (test) is the same as a2 (train): "),
    near_copy: ("near duplicate across splits", "b (test) is nearly the same as a2"),
    other_mask: ("duplicate", "but their masks differ"),
}


@pytest.mark.parametrize("spoil", SUSPICIOUS, ids=lambda each: each.__name__)
def test_what_is_suspicious_is_told_with_its_file(tmp_path, spoil):
    file = spoil(write_pairs(tmp_path))
    kind, fragment = SUSPICIOUS[spoil]
    report = checking.check(tmp_path)
    assert not report.refused
    warnings = [each for each in report.findings if each.severity == "warning"]
    assert [(each.kind, each.file) for each in warnings] == [(kind, str(file))]
    assert fragment in f"{warnings[0].what} {warnings[0].way_out}"


def test_masks_of_classes_are_recognised(tmp_path):
    write_pairs(tmp_path)
    for number in range(6):
        labels = draw(number)[1]
        write(tmp_path / "masks" / f"a{number}.tif", (labels > 0) + (labels > 4) * 1)
    report = checking.check(tmp_path)
    assert [each.kind for each in report.findings if each.severity == "warning"] == [
        "classes"
    ]
    assert "target_arguments.classes=3" in report.findings[0].way_out
    assert report.suggestion.options["target"] == "semantic"
    assert report.suggestion.options["target_arguments.classes"] == 3


def test_channels_depths_and_empty_masks_are_told(tmp_path):
    for number in range(6):
        image, labels = draw(number)
        planes = np.stack([image, image.T.reshape(SIZE), image * 0], axis=-1)
        wide = planes.astype("uint16") * 100 if number == 3 else planes
        write(tmp_path / "images" / f"a{number}.tif", wide)
        write(tmp_path / "masks" / f"a{number}.tif", labels * (number != 2))
    report = checking.check(tmp_path)
    assert len(of_kind(report, "empty channel")) == 6
    assert "Channel 2 of the image a0" in of_kind(report, "empty channel")[0].what
    assert of_kind(report, "depths differ")[0].what == (
        "Bit depths differ: uint8 in 5, uint16 in 1."
    )
    assert "1 image of 6 hold no object: a2" in of_kind(report, "empty masks")[0].what


def test_one_image_and_grey_stored_as_colour(tmp_path):
    write(tmp_path / "images" / "a.tif", np.stack([draw(0)[0]] * 3, axis=-1))
    write(tmp_path / "masks" / "a.tif", draw(0)[1])
    found = kinds(checking.check(tmp_path))
    assert found == ["no validation", "no test", "grey as colour"]


def test_overlapping_outlines_are_a_warning(tmp_path):
    ring = [[[2, 2], [30, 2], [30, 30], [2, 30], [2, 2]]]
    inner = [[[20, 20], [50, 20], [50, 40], [20, 40], [20, 20]]]
    features = [
        {
            "type": "Feature",
            "properties": {},
            "geometry": {"type": "Polygon", "coordinates": each},
        }
        for each in (ring, inner)
    ]
    for name in "ab":
        write(tmp_path / f"{name}.tif", draw(ord(name))[0])
        (tmp_path / f"{name}.geojson").write_text(json.dumps(features))
    report = checking.check(tmp_path)
    (found,) = of_kind(report, "outlines")
    assert found.severity == "warning"
    assert found.what == (
        "200 pixels lie in more than one outline and went to the smaller object."
    )
    assert report.facts["kind"] == "outlines"


def test_the_challenge_layout_is_checked_too(tmp_path):
    from unet_zoo.datasets.hela.hela_dataset_builder_test import write_sequence

    write_sequence(tmp_path, "01", frames=4)
    folder = tmp_path / "DIC-C2DH-HeLa"
    assert checking.check(folder).facts["images"] == 4
    file = folder / "01_ST" / "SEG" / "man_seg001.tif"
    tifffile.imwrite(file, tifffile.imread(file)[:-1])
    report = checking.check(folder)
    assert report.refused
    with pytest.raises(InputError) as refusal:
        catalog.open_dataset(folder)
    assert report.findings[0].what == str(refusal.value)


@pytest.mark.parametrize("name", ["hella", "no/such/folder"])
def test_what_is_not_there_is_refused(name):
    with pytest.raises(InputError):
        checking.check(name)


# === Picture and looks ===


def test_the_picture_shows_the_worst_and_else_the_first(tmp_path):
    for name in ("one", "two"):
        shifted(write_pairs(tmp_path / name))
    write(tmp_path / "two" / "masks" / "a4.tif", draw(4)[1].astype("float32"))
    write_pairs(tmp_path / "good")
    widths = []
    for name in ("one", "two", "good"):
        report = checking.check(tmp_path / name)
        report.picture(tmp_path / f"{name}.png", most=4)
        widths.append(images.read_one(tmp_path / f"{name}.png").shape[1])
    # One panel; the same beside a mask that cannot be used; four that are good.
    assert widths == sorted(set(widths))
    with pytest.raises(InputError, match=r"name .*bad\.jpg with the suffix \.png"):
        report.picture(tmp_path / "bad.jpg")


def test_a_report_without_images_has_no_picture(tmp_path):
    report = checking.check(tmp_path)
    assert report.refused
    assert report.suggestion is None
    with pytest.raises(InputError, match=r"no image of .* that could be drawn"):
        report.picture(tmp_path / "a.png")


def test_what_is_seen_does_not_change_what_is_looked_at():
    image, labels = draw(5)
    before = image.copy(), labels.copy()
    labels.flags.writeable = image.flags.writeable = False
    frame = Frame("a", "train", Path("a"), Path("m"), image[..., None], labels)
    seen = look(frame)
    np.testing.assert_array_equal(image, before[0])
    np.testing.assert_array_equal(labels, before[1])
    assert dataclasses.asdict(seen)["size"] == SIZE
