"""What is drawn of a training is what the training gets."""

from __future__ import annotations

import base64
import dataclasses
import io
import re

import keras
import numpy as np
import PIL.Image
import pytest

from unet_zoo import augment, catalog, images, pipeline, recipe, targets, visualizing
from unet_zoo.errors import InputError
from unet_zoo.visualizing import gathering, pages

# Below the size from which augmentations are compiled.
PATCH = 48
PLAN = recipe.named("default").replace(patch=PATCH, scale=1.0)
PAGES = {"deformation", "elastic-field", "tiles", "patches", "weights", "targets"}


def cells(seed: int, height: int, width: int) -> np.ndarray:
    """Return discs that touch, with a corner that is not annotated."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    labels = np.zeros((height, width), "int32")
    for number in range(1, 9):
        top, left = random.integers(0, (height, width))
        labels[(y - top) ** 2 + (x - left) ** 2 < 60] = number
    labels[-9:, -9:] = -1
    return labels


def made(
    count: int = 4, *, channels: int = 1, kind: str = "instances", size=(64, 80)
) -> catalog.Dataset:
    random = np.random.default_rng(0)
    examples = []
    for number in range(count):
        height, width = size[0] + 3 * number, size[1] - 2 * number  # mixed sizes
        labels = cells(number, height, width)
        if kind == "semantic":
            labels = np.minimum(labels, 1)
        noise = random.integers(0, 60, (height, width, channels))
        image = ((labels > 0)[..., None] * 120 + noise).astype("uint8")
        examples.append(catalog.Example(f"t{number}", image, labels, labels))
    readers = {"train": lambda: list(examples), "test": list}
    sizes = {"train": count, "test": 0}
    return catalog.Dataset("made", "1", None, kind, "Made.", sizes, readers)


def gathered(plan: recipe.Recipe, count: int = 3, **options) -> list[gathering.Patch]:
    target = targets.get(plan.target, **plan.target_arguments)
    return gathering.gather(made(**options).examples("train"), plan, target, count)


def geometry(**changes) -> recipe.Recipe:
    """Return a recipe that leaves grey values alone."""
    nothing = recipe.Augmentation.named("none")
    changed = dataclasses.replace(nothing, **changes)
    return PLAN.replace(augmentation=changed)


# === What is gathered ===


@pytest.mark.parametrize("target", ["semantic", "border", "distance"])
def test_patches_are_the_first_ones_of_the_training(target):
    plan = PLAN.replace(target=target, seed=5, batch=2, steps=2)
    known = targets.get(target)
    with pipeline.prepare(made().examples("train"), plan, known) as stacks:
        layer = augment.Augment(
            plan.augmentation, (PATCH, PATCH), 1, known.interpolation
        )
        expected = [
            example
            for batch in pipeline.batches(stacks, plan)
            for example in keras.ops.convert_to_numpy(
                layer(
                    *(
                        keras.ops.convert_to_tensor(np.asarray(batch[key]))
                        for key in ("stack", "uniform", "normal")
                    )
                )
            )
        ]
    for patch, example in zip(gathered(plan, 4), expected, strict=True):
        np.testing.assert_allclose(patch.image, example[..., :1], atol=1e-5)
        np.testing.assert_allclose(patch.target, example[..., 1:], atol=1e-5)


def test_a_place_is_where_the_grey_value_was_read():
    """An image of its own coordinates, moved, is a map of where its pixels were."""
    size = (70, 90)
    image = np.stack(np.indices(size), axis=-1).astype("float32")
    labels = cells(0, *size)
    example = catalog.Example("a", image, labels, labels)
    plan = geometry(
        rotation=180.0, flip=True, scale=0.3, shift=0.1, shear=0.2, elastic=4.0
    ).replace(normalization="none")
    for patch in gathering.gather([example], plan, targets.get("distance"), 6):
        np.testing.assert_allclose(
            np.moveaxis(patch.image, -1, 0), patch.traced, atol=2e-3
        )
        inside = ~patch.beyond
        assert inside.mean() > 0.3
        np.testing.assert_allclose(
            patch.place[:, inside], patch.traced[:, inside], atol=0.05
        )
        # Of pixels that are not halfway between two.
        clear = np.abs(patch.traced % 1 - 0.5).min(axis=0) > 0.01
        y, x = patch.traced.round().astype(int)
        np.testing.assert_array_equal(patch.labels[clear], labels[y, x][clear])


def test_beyond_is_what_the_image_does_not_have():
    for patch in gathered(geometry(rotation=180.0, shift=0.5), 6):
        height, width = patch.source_labels.shape
        y, x = patch.place
        outside = (y < -0.1) | (x < -0.1) | (y > height - 0.9) | (x > width - 0.9)
        # The margin around a patch may end before the image does.
        assert patch.beyond[outside].all()
        assert not gathered(geometry(), 1)[0].beyond.any()


def test_beyond_a_constant_border_nothing_was_read():
    # The pipeline mirrors an image's edge within its window; beyond that, all is 0.
    plan = geometry(shift=0.9, border="constant").replace(normalization="none")
    patches = gathered(plan, 4)
    nothing = [patch.beyond & ~patch.traced.any(axis=0) for patch in patches]
    assert any(each.any() for each in nothing)
    for patch, each in zip(patches, nothing, strict=True):
        assert not patch.image[each].any()
        assert not patch.target[each].any()


def test_the_elastic_field_is_that_of_the_training():
    plan = geometry(elastic=6.0, elastic_points=4)
    rest = np.indices((PATCH, PATCH))
    for patch in gathered(plan):
        # Nothing else moves anything, but for where the patch begins.
        moved = patch.place - rest
        begin = (moved - patch.elastic).reshape(2, -1)
        np.testing.assert_allclose(begin, begin[:, :1] * np.ones_like(begin), atol=1e-3)
        assert 1 < np.abs(patch.elastic).max() < 40
        inside = ~patch.beyond
        np.testing.assert_allclose(patch.bent[inside], patch.image[inside], atol=1e-3)
        np.testing.assert_allclose(
            patch.before[0, 0], patch.source[tuple(begin[:, 0].round().astype(int))]
        )
    still = gathered(geometry(rotation=90.0))[0]
    np.testing.assert_allclose(still.elastic, 0, atol=1e-6)


@pytest.mark.parametrize("size", [1, 2, 5, 30, 64])
def test_where_a_window_begins_is_found_from_mirrored_places(size):
    # A patch of 10 pixels and a margin of 15; a smaller image lies in its middle.
    begins = range(-15, size - 10 - 15 + 1) if size >= 10 else [-15 - (10 - size) // 2]
    for begin in begins:
        places = np.arange(begin, begin + 40)
        last = max(1, size - 1)
        mirrored = np.minimum(last - np.abs(places % (2 * last) - last), size - 1)
        assert gathering._begin(mirrored, size) == begin


# === What is drawn ===


def test_labels_are_painted_and_what_is_not_annotated_is_striped():
    labels = cells(0, 40, 50)
    grey = np.full((40, 50, 3), 0.2)
    drawn = pages.painted(grey, labels)
    np.testing.assert_array_equal(drawn[labels == 0], 0.2)
    assert (np.ptp(drawn[labels > 0], axis=-1) > 0.05).all()
    corner = drawn[labels < 0]
    assert set(np.unique(corner)) == {0.2, 0.55}


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_patch_and_image_are_drawn_with_one_range(channels):
    image = np.random.default_rng(0).normal(size=(30, 40, channels))
    shown = pages.Range.of(image)
    drawn = shown.shown(image)
    assert drawn.shape == (30, 40, 3)
    assert (drawn.min(), drawn.max()) == (0, 1)
    # Darker is darker: a patch is not stretched by itself.
    assert (shown.shown(image - 0.5) <= drawn).all()
    assert shown.shown(np.zeros((3, 3, channels))).shape == (3, 3, 3)


def test_a_flat_image_is_grey():
    flat = np.full((5, 6, 1), 7.0)
    np.testing.assert_allclose(pages.Range.of(flat).shown(flat), 0.5)


def test_tiles_are_those_of_the_network():
    valid = recipe.named("paper")
    own = visualizing._tiles(valid, (600, 700, 1), None)
    assert (own.margin, own.valid, own.large) == (92, True, False)
    assert len(own.plan) == 4
    padded = visualizing._tiles(recipe.named("default"), (1300, 1400, 1), None)
    assert (padded.margin, padded.valid, padded.large) == (184, False, True)
    assert min(tile.source[0].start for tile in padded.plan) == 0
    assert max(t.target[0].stop - t.target[0].start for t in padded.plan) <= 512
    small = visualizing._tiles(recipe.named("default"), (100, 90, 1), None)
    assert (small.margin, small.large) == (92, False)
    assert len(visualizing._tiles(valid, (600, 700, 1), 300).plan) == 9


# === The whole ===


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """Return the folder of a run, and what it told of its progress."""
    output = tmp_path_factory.mktemp("pages") / "new" / "pages"
    told = []
    page = visualizing.visualize(
        made(), PLAN, output, number=2, progress=lambda *counts: told.append(counts)
    )
    assert page == output / "index.html"
    return output, told


def test_every_page_is_a_picture_and_in_the_html(written):
    output, told = written
    assert told == [(n, 6) for n in range(1, 7)]
    names = {each.name for each in output.iterdir()}
    assert names == {f"{name}.png" for name in PAGES} | {"index.html"}
    text = (output / "index.html").read_text(encoding="utf-8")
    embedded = [
        base64.b64decode(data)
        for data in re.findall(r'src="data:image/png;base64,([^"]+)"', text)
    ]
    for name in PAGES:
        data = (output / f"{name}.png").read_bytes()
        assert data in embedded
        with PIL.Image.open(io.BytesIO(data)) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        assert min(pixels.shape[:2]) > 300
        assert pixels.std() > 10  # not one empty sheet
        assert f'<section id="{name}">' in text
        assert f'href="#{name}"' in text
    # Self-contained: nothing is fetched, nothing runs.
    assert not re.search(r'(src|href)="(?!data:|#)', text)
    assert "<script" not in text
    assert images.read_one(output / "tiles.png").shape[-1] == 3


def test_the_same_seed_draws_the_same_pages(written, tmp_path):
    output, _ = written
    visualizing.visualize(made(), PLAN, tmp_path / "again", number=2)
    visualizing.visualize(made(), PLAN.replace(seed=1), tmp_path / "other", number=2)
    for name in PAGES:
        one, again, other = (
            (folder / f"{name}.png").read_bytes()
            for folder in (output, tmp_path / "again", tmp_path / "other")
        )
        assert one == again
        if name != "tiles":
            assert one != other


def test_what_does_not_apply_has_no_page(tmp_path):
    plan = geometry().replace(target="semantic")
    page = visualizing.visualize(
        made(kind="semantic", channels=3), plan, tmp_path / "pages", number=1
    )
    names = {each.stem for each in page.parent.glob("*.png")}
    assert names == PAGES - {"elastic-field", "weights"}
    text = page.read_text(encoding="utf-8")
    assert "no elastic deformation" in text
    assert "classes, not objects" in text


def test_a_valid_network_and_a_patch_larger_than_the_image(tmp_path):
    plan = recipe.named("paper").replace(
        patch=76, model_arguments={"depth": 1, "padding": "valid"}
    )
    page = visualizing.visualize(
        made(channels=2, size=(40, 50)), plan, tmp_path / "pages", number=1
    )
    assert "dashed frame" in page.read_text(encoding="utf-8")


def test_the_scale_is_chosen_as_a_training_chooses_it(tmp_path):
    labels = np.zeros((300, 300), "int32")
    labels[20:280, 20:150], labels[20:280, 150:280] = 1, 2
    image = (labels * 50).astype("uint8")[..., None]
    example = catalog.Example("a", image, labels, labels)
    data = dataclasses.replace(made(), readers={"train": lambda: [example]})
    page = visualizing.visualize(
        data, PLAN.replace(scale=None), tmp_path / "pages", number=1
    )
    assert "0.25 of the image" in page.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"number": 0}, r"`number` must lie in 1\.\.20"),
        ({"number": 21}, r"`number` must lie in 1\.\.20"),
        ({"split": "test"}, "has no images"),
        ({"split": "validation"}, "no split 'validation'"),
        ({"tile": 3}, "smallest tile is 16"),
    ],
)
def test_what_cannot_be_drawn_is_refused_and_nothing_written(tmp_path, options, match):
    with pytest.raises(InputError, match=match):
        visualizing.visualize(made(), PLAN, tmp_path / "pages", **options)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_anything_in_it_is_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        visualizing.visualize(made(), PLAN, tmp_path)
    assert [each.name for each in tmp_path.iterdir()] == ["mine.txt"]
