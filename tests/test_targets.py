"""What is encoded comes back: objects apart, whole, and counted right."""

from __future__ import annotations

import io
import re
import zipfile

import numpy as np
import pytest
import scipy.ndimage
import tifffile

from unet_zoo import images, metrics, targets
from unet_zoo.datasets.blobs import generate
from unet_zoo.errors import InputError


def cells(rows: int = 4, size: int = 24, cut: bool = False) -> np.ndarray:
    """Return labels of round cells in a grid that all touch their neighbours."""
    side = rows * size
    y, x = np.mgrid[:side, :side]
    centre_y, centre_x = y // size, x // size
    # Rounded squares: neighbours meet along half of their sides.
    from_y, from_x = y % size - (size - 1) / 2, x % size - (size - 1) / 2
    inside = (np.abs(from_y) ** 4 + np.abs(from_x) ** 4) ** 0.25 <= size / 2
    labels = np.where(inside, centre_y * rows + centre_x + 1, 0).astype("int32")
    padded = np.pad(labels, 10)
    return padded[14:-13, 13:-14] if cut else padded


def perfect(target: targets.Target, labels: np.ndarray) -> np.ndarray:
    """Return the activated prediction of a network that makes no mistake."""
    maps = target.encode(labels)[..., :-1]
    if target.name == "distance":
        return maps
    # Softmax of two classes.
    return np.concatenate([1 - maps, maps], axis=-1)


def overlaps(reference: np.ndarray, found: np.ndarray) -> list[float]:
    """Return the best intersection over union of each object of the reference."""
    best = []
    for number in np.unique(reference[reference > 0]):
        mask = reference == number
        rivals = [found == other for other in np.unique(found[mask]) if other]
        best.append(max([(mask & r).sum() / (mask | r).sum() for r in rivals] or [0]))
    return best


@pytest.mark.parametrize("cut", [False, True])
@pytest.mark.parametrize("size", [12, 24, 61])
@pytest.mark.parametrize("name", ["border", "distance"])
def test_touching_cells_come_back_one_by_one(name, size, cut):
    target, labels = targets.get(name), cells(size=size, cut=cut)
    found = target.decode(perfect(target, labels))
    assert found.dtype == np.int32
    assert found.max() == len(np.unique(found[found > 0])) == labels.max()
    # Which of two cells a pixel of the line came from cannot be known.
    lost = 3 / size if name == "border" else 0.1
    assert min(overlaps(labels, found)) >= 1 - lost


def test_small_objects_in_a_crowd_come_back_one_by_one():
    """From maps as soft as those of a network; many objects are 10 pixels across."""
    target = targets.get("distance")
    crowd = [generate.generate("hard", seed=seed)[1] for seed in range(30)]
    found = [
        target.decode(scipy.ndimage.gaussian_filter(perfect(target, each), (1, 1, 0)))
        for each in crowd
    ]
    assert metrics.average_precision(crowd, found)[0.5].value > 0.97


def test_semantic_keeps_apart_only_what_does_not_touch():
    target, labels = targets.get("semantic"), cells()
    assert target.decode(perfect(target, labels)).max() == 1
    apart = np.where(targets.get("border").encode(labels)[..., 0], labels, 0)
    found = target.decode(perfect(target, apart))
    assert found.max() == labels.max()
    assert min(overlaps(apart, found)) == 1


@pytest.mark.parametrize("name", ["border", "distance"])
def test_lone_objects_come_back_pixel_by_pixel(name):
    labels = np.zeros((80, 90), "int32")
    labels[5:30, 8:40], labels[40:75, 50:62], labels[0:9, 70:90] = 3, 1, 9
    target = targets.get(name)
    found = target.decode(perfect(target, labels))
    assert found.max() == 3
    assert overlaps(labels, found) == [1, 1, 1]


@pytest.mark.parametrize(
    ("name", "scale"),
    # A line of one pixel does not survive being shrunk, so no border at 2.0.
    [
        *[("border", scale) for scale in (0.25, 0.5, 1.0)],
        *[("distance", scale) for scale in (0.25, 0.5, 1.0, 2.0)],
    ],
)
def test_lengths_follow_the_scale(name, scale):
    """The network sees a resized image; its result is decoded at full size."""
    target, labels = targets.get(name), cells(size=80)
    small = images.rescale_labels(labels, scale)
    prediction = images.rescale(perfect(target, small), shape=labels.shape)
    found = target.decode(prediction, scale=scale)
    assert found.max() == labels.max()
    assert min(overlaps(labels, found)) > 0.9


@pytest.mark.parametrize("name", targets.TARGETS)
def test_only_annotated_pixels_weigh(name):
    labels = cells()
    labels[:, 30:50] = -1
    maps = targets.get(name).encode(labels)
    assert maps.dtype == np.float32
    assert len(targets.get(name).interpolation) == maps.shape[-1]
    np.testing.assert_array_equal(maps[..., -1] > 0, labels >= 0)
    assert (maps[..., :-1] >= 0).all()
    assert (maps[..., :-1] <= 1).all()
    # Nothing is taught there, not even by accident.
    assert not maps[labels == -1].any()


@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize("name", targets.TARGETS)
def test_no_objects_in_none_out(name, value):
    target = targets.get(name)
    found = target.decode(perfect(target, np.full((17, 9), value, "int32")))
    assert found.shape == (17, 9)
    assert not found.any()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_one_object_may_fill_the_image(name):
    target = targets.get(name)
    labels = np.full((20, 30), 7, "int32")
    assert (target.decode(perfect(target, labels)) == 1).all()


@pytest.mark.parametrize("name", targets.TARGETS)
def test_activation_is_a_chance(name):
    target = targets.get(name)
    logits = np.random.default_rng(0).normal(0, 3, (8, 9, target.channels))
    logits[0, 0], logits[1, 1] = 1e4, -1e4
    chance = target.activate(logits.astype("float32"))
    assert chance.dtype == np.float32
    assert ((chance >= 0) & (chance <= 1)).all()
    logits = logits[2:]
    if name == "distance":
        expected = 1 / (1 + np.exp(-logits))
    else:
        expected = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(chance[2:], expected, atol=1e-6)


def test_more_than_two_classes_are_classes_not_objects():
    labels = np.array([[0, 1, 1, 2], [2, 2, -1, 0]], "int32")
    target = targets.get("semantic", classes=3)
    maps = target.encode(labels)
    prediction = np.eye(3)[maps[..., 0].astype(int)]
    np.testing.assert_array_equal(target.decode(prediction), np.maximum(labels, 0))
    with pytest.raises(InputError, match=r"holds? class 3. Train with classes=4"):
        target.encode(labels + (labels == 2))


# === Objects tidied ===


def test_small_objects_go_and_ids_stay_dense():
    labels = np.zeros((10, 10), "int32")
    labels[0, 0], labels[2:4, 2:4], labels[6:9, 6:9] = 2, 5, 9
    assert targets.clean(labels).max() == 3
    kept = targets.clean(labels, min_size=4)
    assert sorted(np.unique(kept)) == [0, 1, 2]
    assert kept[0, 0] == 0
    assert (targets.clean(labels, min_size=5) > 0).sum() == 9
    assert not targets.clean(labels, min_size=10).any()


def test_holes_are_filled_but_not_by_swallowing():
    labels = np.zeros((20, 20), "int32")
    labels[2:18, 2:18] = 1
    labels[5:15, 5:15] = 0
    labels[8:12, 8:12] = 2
    filled = targets.clean(labels)
    assert (filled[2:18, 2:18] > 0).all()
    np.testing.assert_array_equal(filled == 2, labels == 2)
    np.testing.assert_array_equal(targets.clean(labels, fill_holes=False), labels)
    # A bay is no hole.
    labels[5:15, 15:18] = 0
    np.testing.assert_array_equal(targets.clean(labels), labels)


def test_closing_takes_nothing_from_others():
    labels = np.zeros((30, 30), "int32")
    labels[10:20, 4:26] = 1
    labels[10:15, 14:16] = 0  # a slit ...
    labels[10:12, 14:16] = 2  # ... with somebody else in it
    closed = targets.clean(labels, closing=2, fill_holes=False)
    np.testing.assert_array_equal(closed == 2, labels == 2)
    assert (closed[12:15, 14:16] == 1).all()
    assert (closed[labels == 1] == 1).all()


def test_closing_at_the_image_border_loses_nothing():
    labels = np.zeros((9, 9), "int32")
    labels[0:3, 0:9] = 1
    closed = targets.clean(labels, closing=3)
    np.testing.assert_array_equal(closed, labels)


def test_what_is_given_is_not_changed():
    labels = cells()
    before = labels.copy()
    targets.clean(labels, min_size=3, closing=2)
    for name in targets.TARGETS:
        prediction = perfect(targets.get(name), labels)
        copy = prediction.copy()
        targets.get(name).decode(prediction, closing=1)
        np.testing.assert_array_equal(prediction, copy)
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("bordr", {}, "Unknown target 'bordr'. Did you mean 'border'?"),
        ("border", {"sigm": 1}, "Unknown argument of the target 'border' 'sigm'."),
        ("border", {"sigma": 0}, "`sigma` must be positive"),
        ("distance", {"seed": 1}, "`seed` must lie in (0, 1)"),
        ("semantic", {"classes": 1}, "`classes` must be at least 2"),
    ],
)
def test_mistakes_are_named(name, arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        targets.get(name, **arguments)


def test_negative_sizes_are_refused():
    with pytest.raises(InputError, match="must not be negative"):
        targets.clean(np.zeros((2, 2), int), min_size=-1)


# === Real cells ===


@pytest.mark.parametrize("frame", ["01_ST/SEG/man_seg010", "02_GT/SEG/man_seg006"])
@pytest.mark.parametrize(
    ("name", "scale"), [("distance", 1.0), ("distance", 0.5), ("border", 0.5)]
)
def test_real_cells_come_back(shared_data, frame, name, scale):
    with zipfile.ZipFile(shared_data / "DIC-C2DH-HeLa.zip") as archive:
        (path,) = [path for path in archive.namelist() if frame in path]
        labels = tifffile.imread(io.BytesIO(archive.read(path))).astype("int32")
    target = targets.get(name)
    small = images.rescale_labels(labels, scale)
    prediction = images.rescale(perfect(target, small), shape=labels.shape)
    # The line may cut splinters off cells that touch along a ragged border.
    found = target.decode(prediction, scale=scale, min_size=100)
    assert metrics.seg([labels], [found]).value > 0.95
    assert found.max() == len(np.unique(labels)) - 1
