"""Which files belong together in a user's own data, and which have no partner."""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from unet_zoo import images
from unet_zoo.catalog import challenge, drawings
from unet_zoo.catalog.masks import Pair
from unet_zoo.catalog.problems import Problem, problem_of
from unet_zoo.errors import InputError

LAYOUTS = (
    "Expected images/ and masks/ with files of the same names, or images and their"
    " *_masks side by side, or 01/ with 01_GT/SEG or 01_ST/SEG; all of them also within"
    " train/ and test/."
)
# What folders and CSV columns call the splits.
SPLITS: Mapping[str, tuple[str, ...]] = {
    "train": ("train", "training"),
    "validation": ("validation", "val", "valid"),
    "test": ("test", "testing"),
}


@dataclasses.dataclass
class Survey:
    """What was found at a path: pairs of files by split, and everything amiss."""

    path: Path
    pairs: dict[str, list[Pair]] = dataclasses.field(default_factory=dict)
    problems: list[Problem] = dataclasses.field(default_factory=list)
    remarks: list[str] = dataclasses.field(default_factory=list)


def in_folder(folder: Path) -> Survey:
    """Return the pairs in a folder, read from nothing but the names of the files."""
    survey = Survey(folder)
    for split, place in places(folder, survey.problems).items():
        survey.pairs[split] = _pairs(place, survey)
    return survey


def in_coco(path: Path) -> Survey:
    """Return the pairs that a COCO file names."""
    survey = Survey(path)
    survey.pairs["train"] = _coco(path, survey)
    return survey


def places(folder: Path, problems: list[Problem]) -> dict[str, Path]:
    """Return the folder of each split."""
    found: dict[str, Path] = {}
    for split, words in SPLITS.items():
        there = [folder / word for word in words if (folder / word).is_dir()]
        if len(there) > 1:
            names = " and ".join(each.name for each in there)
            what = f"{folder} has {names}, which mean the same."
            problems.append(Problem(there[1], what, "Join them."))
        if there:
            found[split] = there[0]
    if "train" in found and _has_pairs(folder):
        what = f"{folder} has pairs of its own beside those in train/:"
        way_out = "move them there, or train/ out of it."
        problems.append(Problem(folder, what, way_out))
    elif "train" not in found and (_has_pairs(folder) or not found):
        found = {"train": folder, **found}
    return found


def _has_pairs(folder: Path) -> bool:
    subfolders = (folder / "images", folder / "masks")
    return bool(
        challenge.sequences(folder)
        or any(each.is_dir() for each in subfolders)
        or any(each.suffix.lower() in images.SUFFIXES for each in folder.iterdir())
        or _coco_files(folder)
    )


def _pairs(folder: Path, survey: Survey) -> list[Pair]:
    """Return the image and the mask files that belong together, in natural order."""
    image_folder, mask_folder = folder / "images", folder / "masks"
    described = [] if mask_folder.is_dir() else _coco_files(folder)
    if len(described) > 1:
        names = ", ".join(each.name for each in described)
        what = f"{folder} has several files of COCO annotations: {names}."
        way_out = "Give the one to use instead of the folder."
        survey.problems.append(Problem(described[1], what, way_out))
        return []
    if described:
        return _coco(described[0], survey)
    apart = image_folder.is_dir() or mask_folder.is_dir()
    if apart:
        for here, missing in (
            (image_folder, mask_folder),
            (mask_folder, image_folder),
        ):
            if not missing.is_dir():
                what = f"{here} is there but {missing} is not."
                survey.problems.append(Problem(missing, what, LAYOUTS))
                return []
        pictures, masks = _listed(image_folder), _listed(mask_folder)
        drawn = _drawn(mask_folder)
        if not pictures:
            survey.problems.append(_nothing(image_folder))
        if not masks + drawn:
            problem = _nothing(mask_folder)
            if pickles := _pickles(mask_folder, image_folder):
                what, way_out = f"{mask_folder} has no masks.", seg_npy(pickles[0])
                problem = Problem(pickles[0], what, way_out)
            survey.problems.append(problem)
        if not pictures or not masks + drawn:
            return []
    else:
        files, drawn = _listed(folder), _drawn(folder)
        masks = [
            each for each in files if images.stem(each).endswith(images.MASK_SUFFIXES)
        ]
        pictures = [file for file in files if file not in set(masks)]
        if not files:
            what = f"{folder} has no pairs of images and masks."
            survey.problems.append(Problem(folder, what, LAYOUTS))
            return []
        if not (masks or drawn) or not pictures:
            have = "images but no masks" if pictures else "masks but no images"
            what, way_out = f"{folder} has {have}.", LAYOUTS
            pickles = _pickles(folder)
            if pictures and pickles:
                way_out = seg_npy(pickles[0])
            survey.problems.append(Problem((pickles or [folder])[0], what, way_out))
            return []
    return _matched(pictures, masks, drawn, survey, same_name=apart)


def _matched(
    pictures: list[Path],
    masks: list[Path],
    drawn: list[Path],
    survey: Survey,
    *,
    same_name: bool,
) -> list[Pair]:
    left: dict[str, Path] = {}
    for mask in masks:
        name = images.stem(mask)
        if name in left:
            what = f"{left[name].name} and {mask.name} are masks of the same name."
            way_out = f"Remove one from {mask.parent}."
            survey.problems.append(Problem(mask, what, way_out))
        left[name] = mask
    left |= {each.name: each for each in drawn}  # with suffix: no mask has such a key
    where = (masks + drawn)[0].parent
    pairs = []
    for picture in pictures:
        name = images.stem(picture)
        # Cellpose names an image 001_img and its mask 001_masks; `segment` names what
        # it makes of a.ome.tif a.ome_masks.tif.
        bases = [name, name.removesuffix("_img"), picture.stem]
        expected = [name] if same_name else []
        expected += [base + suffix for base in bases for suffix in images.MASK_SUFFIXES]
        outlined = [
            base + ending + suffix
            for base in bases
            for ending in drawings.ENDINGS
            for suffix in drawings.SUFFIXES
        ]
        keys = dict.fromkeys(expected + outlined)
        found = [left.pop(key) for key in keys if key in left]
        if len(found) == 1:
            pairs.append(pair_of(name, picture, found[0]))
            continue
        has = " and ".join(mask.name for mask in found)
        has = f"has two masks, {has}" if found else "has no mask"
        likely = f"{name} or {name}_masks" if same_name else f"{name}_masks"
        way_out = (
            f"Expected one in {where}, named {likely} with the suffix of an image (PNG,"
            " TIFF). Add it, or take the image away; an image without objects has a"
            " mask that is 0 throughout."
        )
        pickles = [
            folder / f"{base}_seg.npy"
            for folder in (picture.parent, where)
            for base in bases
        ]
        pickles = [each for each in pickles if each.exists()]
        if pickles and not found:
            way_out = seg_npy(pickles[0])
        what = f"The image {picture} {has}."
        survey.problems.append(Problem(picture, what, way_out))
    for mask in left.values():
        # Beside the images, archives of other things may lie as well.
        other = mask.suffix == ".zip" and not mask.stem.endswith(drawings.ENDINGS[1:])
        if same_name or not other:
            what = f"The mask {mask} has no image."
            way_out = "Add the image of that name, or take the mask away."
            survey.problems.append(Problem(mask, what, way_out))
    return pairs


def pair_of(name: str, image: Path, mask: Path) -> Pair:
    """Return the pair of two files, whatever kind of file the mask is."""
    if mask.suffix.lower() in drawings.SUFFIXES:
        return Pair(name, image, mask, functools.partial(drawings.read, mask))
    return Pair(name, image, mask)


def seg_npy(file: Path) -> str:
    """Return what to do about a file that Cellpose wrote for itself."""
    return (
        f"{file} is Cellpose's own format, a pickle, which can run any program while"
        " it is read, so it is not read. In Cellpose: File > Save masks as PNG/tif; or"
        " run cellpose with --save_png or --save_tif: that writes *_cp_masks, which"
        " are understood."
    )


def _listed(folder: Path) -> list[Path]:
    try:
        return images.find(folder, masks=True, suffixes=images.SUFFIXES)
    except InputError:  # nothing in it, which is told in other words here
        return []


def _drawn(folder: Path) -> list[Path]:
    return sorted(
        each
        for each in folder.iterdir()
        if each.suffix.lower() in drawings.SUFFIXES and each.name[0] != "."
    )


def _pickles(*folders: Path) -> list[Path]:
    return sorted(each for folder in folders for each in folder.glob("*_seg.npy"))


def _nothing(folder: Path) -> Problem:
    try:
        images.find(folder, masks=True, suffixes=images.SUFFIXES)
    except InputError as error:
        return problem_of(folder, error)
    return Problem(folder, f"There are no images in {folder}.")


# === COCO ===


def _coco_files(folder: Path) -> list[Path]:
    candidates: Iterable[Path] = [
        *folder.glob("*.json"),
        *(folder / "annotations").glob("*.json"),
    ]
    return sorted(
        each for each in candidates if each.name[0] != "." and drawings.is_coco(each)
    )


def _coco(path: Path, survey: Survey) -> list[Pair]:
    try:
        pictured, classes = drawings.coco(path)
    except Problem as problem:
        survey.problems.append(problem)
        return []
    base = path.parent
    homes = [base, base / "images", base.parent, base.parent / "images"]
    pairs: list[Pair] = []
    names: dict[Path, str] = {}
    for each in pictured:
        tried = [home / each.name for home in homes]
        tried += [home / Path(each.name).name for home in homes]
        # Unlike Path.is_file, false for what cannot be the name of a file.
        found = next((file for file in tried if os.path.isfile(file)), None)
        if found is None:
            what = f"{path} names the image {each.name}, which is not there."
            way_out = f"Put it into {homes[0]} or {homes[1]}, or take it out."
            survey.problems.append(Problem(tried[0], what, way_out))
            continue
        # By its file: day1/a.png and day2/a.png may both be found as images/a.png.
        file = found.resolve()
        if file in names:
            what = f"{path} names the image {each.name} twice."
            way_out = "Take one of them out."
            if each.name != names[file]:
                what = (
                    f"{path} names the image {found} twice, as {names[file]} and as"
                    f" {each.name}."
                )
                way_out = f"Put each at its place below {homes[0]}, or take one out."
            survey.problems.append(Problem(found, what, way_out))
            continue
        names[file] = each.name
        pairs.append(Pair(images.stem(found), found, path, each.read, each.shape))
    # Two folders may have an image of the same name: as the file calls them, then.
    stems = Counter(pair.name for pair in pairs)
    pairs = [
        pair if stems[pair.name] == 1 else dataclasses.replace(pair, name=name)
        for pair, name in zip(pairs, names.values(), strict=True)
    ]
    empty = sum(not each.annotations for each in pictured)
    if empty:
        survey.remarks.append(
            f"{empty} of its {len(pictured)} images have no annotation and are taken"
            " to hold no object"
        )
    if classes > 1:
        survey.remarks.append(f"its {classes} classes are not told apart")
    return pairs
