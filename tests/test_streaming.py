"""An image streamed through gives the labels of the whole image, within its memory."""

from __future__ import annotations

import contextlib
import functools
import re

import numpy as np
import pytest
import scipy.ndimage
import tifffile

from unet_zoo import images, outputs, segmenter, streaming, targets, tiling, turning
from unet_zoo.errors import InputError
from unet_zoo.streaming import grids, looks, planning, statistics
from unet_zoo.streaming.sources import Array, regions


class Filter:
    """What a segmenter is to streaming, with a local filter for a network."""

    step, padding, graph = 4, "same", None
    pixel_size_of = segmenter.Segmenter.pixel_size_of

    def __init__(self, target="semantic", blur=0, scale=1.0, tta=1, **decode):
        self.target, self._blur = targets.get(target), blur
        self.margin = 4 * blur + 1
        self.facts = {
            "channels": 1,
            "target": target,
            "scale": scale,
            "normalization": "unit",
            "tta": tta,
            "decode": decode,
        }
        self.calls = 0

    def scales(self, pixel_size):
        return (float(self.facts["scale"]),) * 2

    def run(self, batch):
        self.calls += 1
        value = batch[0, ..., 0]
        if self._blur:
            value = scipy.ndimage.gaussian_filter(value, self._blur, mode="constant")
        logits = 20 * (value - 0.5)
        if self.target.channels == 2:
            return np.stack([-logits, logits], axis=-1)[None]
        distance = scipy.ndimage.gaussian_filter(value, 2, mode="constant") - 0.5
        return np.stack([logits, 8 * distance, 0 * value - 9], axis=-1)[None]

    def decode(self, prediction, *, pixel_size=None, **options):
        chosen = {**self.facts["decode"], **options}
        return self.target.decode(prediction, scale=self.facts["scale"], **chosen)

    def whole(self, image, **options):
        """Return the labels of an image predicted and decoded at once."""
        size, tta = image.shape[:2], options.pop("tta", 1)
        image = images.normalize(image[..., None], self.facts["normalization"])
        image = images.rescale(image, self.facts["scale"])
        total = 0.0
        for index in range(tta):
            logits = tiling.predict(
                self.run,
                turning.turn(image, index, tta),
                margin=self.margin,
                step=self.step,
                padding=self.padding,
            )
            one = self.target.activate(logits)
            total = total + turning.turn_back(one, index, tta, image.shape[:2])
        prediction = images.rescale(total / np.float32(tta), shape=size)
        return raster(self.decode(prediction, **options))


def raster(labels):
    """Return labels numbered by their first pixels, row by row."""
    ids, first = np.unique(labels, return_index=True)
    order = ids[np.argsort(first)]
    order = order[order > 0]
    new = np.zeros(labels.max() + 1, int)
    new[order] = np.arange(1, len(order) + 1)
    return new[labels]


def streamed(segmenter, image, **arguments):
    output = np.zeros(image.shape[:2], "uint32")
    summary = streaming.stream(segmenter, image, output, max_memory="64GB", **arguments)
    return output, summary


@pytest.fixture
def small(monkeypatch):
    """Cut small images into many blocks and tiles."""

    def cut(block, side=64):
        monkeypatch.setattr(planning, "_BLOCKS", (block,))
        monkeypatch.setattr(planning, "_SIDES", (side, 4))

    return cut


def noise(shape, size=3.0, seed=0, share=0.5):
    """Return a mask of random parts, some large, some tiny, with holes."""
    generator = np.random.default_rng(seed)
    field = scipy.ndimage.gaussian_filter(generator.normal(size=shape), size)
    return (field > np.quantile(field, 1 - share)).astype("float32")


# === Objects over seams ===


@pytest.mark.parametrize("share", [0.2, 0.45, 0.6])
@pytest.mark.parametrize("block", [32, 37, 50])
@pytest.mark.parametrize("target", ["semantic", "border"])
def test_parts_of_a_mask_are_those_of_the_whole(small, target, block, share):
    """However large: at 0.6 one part fills half of the image."""
    small(block)
    model = Filter(target)
    image = noise((141, 203), share=share, seed=block)
    options = {"fill_holes": False}
    found, summary = streamed(model, image, overlap=12, **options)
    expected = model.whole(image, **options)
    assert summary.objects == (expected.max(),)
    assert share < 0.4 or summary.joined > 0
    if target == "semantic":
        np.testing.assert_array_equal(found, expected)
    else:  # what looks like two in a block gets the line between them as well
        assert np.count_nonzero(found != expected) < 1e-3 * found.size


@pytest.mark.parametrize("options", [{}, {"min_size": 12}, {"closing": 2}])
@pytest.mark.parametrize("target", ["semantic", "border"])
def test_what_is_tidied_is_tidied_over_seams_too(small, target, options):
    small(40)
    model = Filter(target)
    image = noise((150, 170), size=2.0, share=0.3)
    found, _ = streamed(model, image, overlap=24, **options)
    np.testing.assert_array_equal(found, model.whole(image, **options))


def disc(shape, y, x, radius):
    rows, columns = np.indices(shape)
    return np.hypot(rows - y, columns - x) <= radius


@pytest.mark.parametrize(
    ("y", "x"), [(64, 64), (64, 40), (30, 64), (63, 65), (64, 128), (128, 128)]
)
@pytest.mark.parametrize("target", ["semantic", "border", "distance"])
def test_objects_on_two_three_and_four_blocks(small, target, y, x):
    small(64)
    shape = (190, 200)
    image = disc(shape, y, x, 14).astype("float32")
    image[disc(shape, y - 22, x - 22, 10)] = 1
    image[disc(shape, y + 3, x + 30, 9)] = 1
    model = Filter(target)
    found, summary = streamed(model, image, overlap=40)
    expected = model.whole(image)
    assert expected.max() == 3
    np.testing.assert_array_equal(found, expected)
    assert summary.joined == 0


@pytest.mark.parametrize("target", ["semantic", "border", "distance"])
def test_an_object_larger_than_a_block_is_one(small, target):
    small(32)
    image = disc((200, 200), 97, 101, 70).astype("float32")
    image[disc((200, 200), 20, 20, 8)] = 1
    found, summary = streamed(Filter(target), image, overlap=16)
    assert summary.objects == (2,)
    assert summary.joined == 1
    assert "1 of them joined" in str(summary)
    np.testing.assert_array_equal(found > 0, image > 0)


def test_rings_around_others(small):
    small(48)
    shape = (200, 200)
    image = np.zeros(shape, "float32")
    for y, x in ((48, 48), (96, 120), (150, 60)):
        ring = disc(shape, y, x, 20) & ~disc(shape, y, x, 15)
        image[ring | disc(shape, y, x, 9)] = 1
        image[disc(shape, y, x, 3)] = 0
    for options in ({}, {"fill_holes": False}):
        model = Filter("semantic")
        found, _ = streamed(model, image, overlap=48, **options)
        expected = model.whole(image, **options)
        assert expected.max() == 6
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("block", [48, 61, 100])
def test_a_crowd_parted_by_a_watershed(small, block):
    small(block)
    generator = np.random.default_rng(1)
    image = np.zeros((240, 260), "float32")
    for y, x in generator.uniform(0, 240, (90, 2)):
        image[disc(image.shape, y, x, generator.uniform(6, 11))] = 1
    model = Filter("distance")
    found, summary = streamed(model, image, overlap=48)
    expected = model.whole(image)
    assert summary.objects == (expected.max(),)
    for number in range(1, expected.max() + 1):
        mine = found == np.bincount(found[expected == number]).argmax()
        both = (mine & (expected == number)).sum()
        assert both / (mine | (expected == number)).sum() > 0.99


def test_numbers_do_not_depend_on_the_blocks(small):
    image, results = noise((130, 170)), []
    for block in (33, 64, 200):
        small(block)
        options = {"overlap": 16, "fill_holes": False}
        results.append(streamed(Filter("semantic"), image, **options)[0])
        assert np.array_equal(np.unique(results[-1]), range(results[-1].max() + 1))
    np.testing.assert_array_equal(results[0], raster(results[0]))
    for other in results[1:]:
        np.testing.assert_array_equal(results[0], other)


# === Predictions ===


@pytest.mark.parametrize("scale", [1.0, 0.5, 0.3, 1.7])
@pytest.mark.parametrize("tta", [1, 4, 8])
def test_tiles_turns_and_scales_cannot_be_seen(small, scale, tta):
    small(40, side=24)
    image = noise((122, 151)).astype("float32")
    image += np.random.default_rng(3).uniform(0, 0.3, image.shape).astype("float32")
    model = Filter("semantic", blur=1, scale=scale)
    found, summary = streamed(model, image, overlap=20, tta=tta, fill_holes=False)
    expected = model.whole(image, tta=tta, fill_holes=False)
    np.testing.assert_array_equal(found, expected)
    assert summary.overhead > 1


def test_empty_tiles_are_computed_once(small):
    small(64, side=16)
    image = np.zeros((256, 256), "float32")
    image[100:120, 90:130] = 1
    model = Filter("semantic", blur=1)
    found, summary = streamed(model, image, overlap=16)
    np.testing.assert_array_equal(found, model.whole(image))
    assert summary.reused > 100


def test_an_empty_image_has_no_objects(small, tmp_path):
    small(64)
    path = tmp_path / "labels.tif"
    image = np.zeros((90, 70), "uint16")
    summary = streaming.stream(Filter(), image, path, max_memory="64GB")
    assert summary.objects == (0,)
    assert len(summary.table) == 0
    assert not tifffile.imread(path).any()


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [1, 3])
def test_stacks_become_tiled_files_and_tables(small, tmp_path, frames, channels):
    small(64)
    path = tmp_path / "labels.tif"
    stack = np.stack([noise((150, 600), seed=n) for n in range(frames)])[..., None]
    stack = np.concatenate([stack, stack / 3], axis=-1)[..., :channels]
    model = Filter()
    model.facts["channels"] = channels
    done = []
    summary = streaming.stream(
        model,
        stack,
        path,
        max_memory="64GB",
        overlap=16,
        progress=lambda *of: done.append(of),
    )
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff
        assert file.series[0].axes == ("TYX" if frames > 1 else "YX")
        assert file.pages[0].is_tiled
        found = file.asarray().reshape(frames, 150, 600)
    assert found.dtype == np.uint16
    assert [len(np.unique(each)) - 1 for each in found] == list(summary.objects)
    assert done[-1] == (len(done), len(done))
    for number, (labels, image) in enumerate(zip(found, stack, strict=True)):
        rows = summary.table[summary.table["frame"] == number].drop(columns="frame")
        expected = outputs.table(labels, image)
        assert {"area", "centroid_x", "max_y", "touches_edge"} < set(rows)
        expected = expected[list(rows)]  # those that can be summed block by block
        np.testing.assert_allclose(rows.astype(float), expected.astype(float))
    assert [file.name for file in tmp_path.iterdir()] == ["labels.tif"]


def test_lengths_of_an_image_that_says_its_pixel_size(small, tmp_path):
    small(64)
    path = tmp_path / "a.tif"
    pixels = noise((150, 200), seed=1)
    images.write_tiff(path, pixels, "YX", (0.5, 0.25))
    sized = Filter()
    sized.facts["pixel_size"] = (1.0, 1.0)
    sized.scales = lambda size: (0.5, 0.25) if size == (0.5, 0.25) else (1.0, 1.0)
    with images.open_image(path) as image:
        _, one = streamed(Filter(), pixels)
        _, told = streamed(Filter(), pixels, pixel_size=(0.5, 0.25))
        summary = streaming.stream(
            Filter(), image, tmp_path / "labels.tif", max_memory="64GB"
        )
        # Weights that know theirs see the image at it, as they do in `segment`.
        seen = np.zeros(pixels.shape, "uint16")
        streaming.stream(sized, image, seen, max_memory="64GB")
    labels = tifffile.imread(tmp_path / "labels.tif")
    expected = outputs.table(labels, pixels, pixel_size=(0.5, 0.25))
    assert "area_um2" not in one.table
    for name in ("area_um2", "centroid_y_um", "centroid_x_um"):
        np.testing.assert_allclose(summary.table[name], expected[name])
    assert told.table.equals(summary.table)
    assert seen.max() != labels.max()


def test_z_and_t_of_an_image_are_those_of_its_labels(small, tmp_path):
    small(64)
    stack = np.stack([noise((90, 70), seed=n) for n in range(6)])
    images.write_tiff(tmp_path / "a.tif", stack.reshape(2, 3, 90, 70), "TZYX")
    with images.open_image(tmp_path / "a.tif") as image:
        streaming.stream(Filter(), image, tmp_path / "b.tif", max_memory="64GB")
    expected = np.zeros(stack.shape, "uint16")
    streaming.stream(Filter(), stack[..., None], expected, max_memory="64GB")
    with tifffile.TiffFile(tmp_path / "b.tif") as file:
        assert file.series[0].axes == "TZYX"
        found = file.asarray()
    np.testing.assert_array_equal(found, expected.reshape(2, 3, 90, 70))


def test_classes_that_are_nowhere_are_in_no_table(small, tmp_path):
    small(64)
    model = Filter()
    model.target = targets.get("semantic", classes=4)
    model.run = lambda batch: np.stack(
        [0.5 - batch[0, ..., 0], *2 * [0 * batch[0, ..., 0] - 9], batch[0, ..., 0]], -1
    )[None]
    image, picture = np.zeros((100, 140), "float32"), tmp_path / "a.png"
    image[60:80, 50:90] = 1
    found, summary = streamed(model, image, overlays=[picture])
    assert np.unique(found).tolist() == [0, 3]
    assert summary.objects == (1,)
    assert summary.table["label"].tolist() == [3]
    expected = outputs.overlay(image, found)
    np.testing.assert_array_equal(images.read_one(picture), expected)


def crowd(shape, seed=0):
    """Return labels of which some are large, some small, and some touch."""
    generator = np.random.default_rng(seed)
    labels = np.zeros(shape, int)
    for number in range(1, 61):
        y, x, side = (int(each) for each in generator.integers((*shape, 24)))
        labels[y : y + side + 1, x : x + side + 1] = number
    return np.unique(labels, return_inverse=True)[1].reshape(shape)


def looked_at(image, labels, *looks_of, rows=40, columns=33):
    """Show a frame to looks as `labels.tiles` does, under names of no order."""
    count = int(labels.max())
    names = np.append(0, 1 + np.random.default_rng(1).permutation(count))
    ids = np.argsort(names)
    frame = looks.Frame(labels.shape, image.shape[2], image.dtype, ids, count)
    with contextlib.ExitStack() as stack:
        opened = [stack.enter_context(each(frame)) for each in looks_of]
        for down, across in regions(labels.shape, rows, columns):
            for each in opened:
                if across.start == 0:
                    each.rows(names[labels[down]])
                each.part(image[down, across], down.start, across.start)
    return opened


@pytest.mark.parametrize("times", [1, 2, 7, 20, 50])
def test_an_overlay_is_made_smaller_block_by_block(times, tmp_path):
    """Whatever the parts are: means, the most frequent label, and none forgotten."""
    labels = crowd((151, 203))
    image = np.random.default_rng(2).integers(0, 2**16, (151, 203, 2), "uint16")
    path = tmp_path / "a.png"
    [picture] = looked_at(image, labels, functools.partial(looks.overlay, path, times))
    found = picture.labels()
    assert found.shape == (-(-151 // times), -(-203 // times))
    means = np.zeros((*found.shape, 2))
    kept, alone = 0, 0
    for y, x in np.ndindex(found.shape):
        place = np.s_[y * times : (y + 1) * times, x * times : (x + 1) * times]
        means[y, x] = image[place].mean(axis=(0, 1))
        counts = np.bincount(labels[place].ravel())
        most = counts[found[y, x]] == counts.max()
        kept += most
        # Otherwise it is the only pixel of an object.
        alone += not most and np.count_nonzero(found == found[y, x]) == 1
        assert counts[found[y, x]] > 0
    edge = sum(found.shape)  # where a block is not whole, a part of it counts
    assert kept + alone >= found.size - edge
    if times <= 2:
        assert set(np.unique(found)) == set(range(labels.max() + 1))
    else:  # one that is not seen lies where another has its pixel
        sizes = np.bincount(found.ravel(), minlength=labels.max() + 1)
        for lost in np.flatnonzero(sizes == 0):
            y, x = np.nonzero(labels == lost)
            counts = np.zeros(found.shape, int)
            np.add.at(counts, (y // times, x // times), 1)
            assert found[counts == counts.max()].any()
    drawn = images.read_one(path)
    shown = means.round().astype("uint16")
    thick = 1 if times > 1 else None
    expected = outputs.overlay(shown, found, thickness=thick)
    assert abs(drawn.astype(int) - expected).max() <= 1
    assert not np.array_equal(drawn, images.to_uint8(shown))


def test_an_object_smaller_than_a_pixel_is_seen(tmp_path):
    labels = np.zeros((400, 300), int)
    labels[17, 211] = 1
    labels[100:300, 100:300] = 2
    labels[200, 200] = 3  # within another
    [picture] = looked_at(
        np.zeros((400, 300, 1)),
        labels,
        functools.partial(looks.overlay, tmp_path / "a.png", 10),
    )
    found = picture.labels()
    assert (found[1, 21], found[20, 20], found[15, 15]) == (1, 3, 2)
    assert np.count_nonzero(found == 2) == 20 * 20 - 1


def test_a_mask_is_written_row_by_row(tmp_path):
    labels = crowd((151, 203))
    path = tmp_path / "a.png"
    looked_at(np.zeros((151, 203, 1)), labels, functools.partial(looks.mask, path))
    expected = np.where(labels > 0, 255, 0)
    np.testing.assert_array_equal(images.read_one(path)[..., 0], expected)
    assert path.stat().st_size < 8000


def test_an_overlay_of_a_large_image_is_2048_pixels_at_most():
    for size in (2048, 2049, 4096, 5000, 100_000):
        for shape in ((size, size // 3), (size // 3, size)):
            times = looks.factor(shape, 1, 10**10)
            assert -(-size // times) <= looks.SIDE
            assert times == 1 or -(-size // (times - 1)) > looks.SIDE
    assert looks.factor((4000, 4000), 1, -(10**6)) == 7  # whatever there is


def test_pictures_of_every_frame(small, tmp_path, monkeypatch):
    monkeypatch.setattr(looks, "SIDE", 300)
    small(64)
    stack = np.stack([noise((150, 600), seed=n) for n in range(2)])[..., None]
    overlays = [tmp_path / f"{n}.png" for n in range(2)]
    masks = [tmp_path / f"mask{n}.png" for n in range(2)]
    output = np.zeros((2, 150, 600), "uint16")
    given = {"max_memory": "64GB", "overlap": 16, "overlays": overlays, "masks": masks}
    summary = streaming.stream(Filter(), stack, output, **given)
    assert "; overlays are 2 times smaller, 75 x 300 pixels" in str(summary)
    for labels, drawn, mask in zip(output, overlays, masks, strict=True):
        assert images.read_one(drawn).shape == (75, 300, 3)
        np.testing.assert_array_equal(images.read_one(mask)[..., 0] > 0, labels > 0)
    with pytest.raises(InputError, match=r"2 path\(s\), one for each frame"):
        streaming.stream(Filter(), stack, output, overlays=overlays[:1])


def test_a_failure_leaves_nothing(small, tmp_path):
    small(64)
    path = tmp_path / "labels.tif"
    path.write_bytes(b"old")
    image = np.zeros((90, 70), "float32")
    image[80, 3] = np.nan
    with pytest.raises(InputError, match=r"1 values.*y=80, x=3, channel=0"):
        streaming.stream(Filter(), image, path, max_memory="64GB")
    assert path.read_bytes() == b"old"
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"treshold": 1}, "Did you mean 'threshold'"),
        ({"tta": 7}, "sevenths turn the whole image"),
        ({"tta": 3}, "must be 1, 4, 7 or 8"),
        ({"max_memory": "10MB"}, "too little for this network"),
        ({"max_memory": "much"}, "such as '2GB'"),
        ({"output": np.zeros((3, 3))}, r"array of shape \(1, 9, 9\)"),
        ({"output": "nowhere/labels.tif"}, "make the folder nowhere first"),
        ({"image": np.zeros((9, 9, 3))}, r"must have 1 channel\(s\).*Received: 3"),
        ({"image": np.zeros(9)}, "must be .Y, X"),
    ],
)
def test_impossible_wishes_are_refused(arguments, message):
    given = {"image": np.zeros((9, 9)), "output": np.zeros((9, 9)), **arguments}
    with pytest.raises(InputError, match=message):
        streaming.stream(Filter(), **given)


@pytest.mark.parametrize("held", [0, 300, 2000])
def test_a_refusal_says_how_much_memory_is_enough(held, monkeypatch):
    """And hardly more than that."""
    monkeypatch.setattr(planning, "resident", lambda: held * 10**6)
    image = np.zeros((900, 700), "float32")

    def stream(given):
        output = np.zeros(image.shape, "uint16")
        return streaming.stream(Filter(), image, output, max_memory=given)

    with pytest.raises(InputError, match=r"Give at least \d+MB$") as refused:
        stream("10MB")
    enough = int(re.search(r"least (\d+)MB", str(refused.value))[1])
    assert stream(f"{enough}MB").shape == (1, 900, 700)
    with pytest.raises(InputError, match=f"Give at least {enough}MB$"):
        stream(f"{enough / 1.05 - 51:.0f}MB")


# === Values ===


@pytest.mark.parametrize("method", ["zscore", "percentile", "unit"])
@pytest.mark.parametrize(
    "dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"]
)
def test_values_are_those_of_the_whole(method, dtype, monkeypatch):
    if method == "unit" and dtype in ("int16", "int32", "uint32"):
        pytest.skip("has no range of its own")
    generator = np.random.default_rng(4)
    image = generator.gamma(2.0, 20.0, (61, 83, 3))
    image[..., 1] = 7
    image[..., 2] = 0
    image[5, 6, 2] = 90  # nearly all alike
    if np.dtype(dtype).kind != "u":
        image -= 30
    image = np.clip(image, *(-200, 255)).astype(dtype)
    parts = [(slice(0, 40), slice(0, 83)), (slice(40, 61), slice(0, 83))]
    monkeypatch.setattr(statistics, "regions", lambda shape: iter(parts))
    scaling = statistics.measure(Array(image[None]), 0, method)
    expected = images.normalize(image, method)
    np.testing.assert_allclose(scaling.apply(image), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("new", [(61, 40), (20, 133), (7, 9), (300, 301)])
def test_parts_of_a_rescaled_image_are_parts_of_the_whole(new):
    image = np.random.default_rng(5).normal(size=(61, 83, 2)).astype("float32")
    whole = images.rescale(image, shape=new)
    for rows, columns in (
        (slice(0, new[0]), slice(0, new[1])),
        (slice(3, 6), slice(2, 9)),
        (slice(new[0] - 1, new[0]), slice(new[1] - 4, new[1])),
    ):
        part = grids.resized(lambda y, x: image[y, x], (61, 83), new, rows, columns)
        np.testing.assert_allclose(part, whole[rows, columns], atol=2e-6)


# === Real networks ===


def network(model="unet", padding=None, normalization="batch", depth=2, **facts):
    import keras

    from unet_zoo import registry, segmenter

    keras.utils.set_random_seed(0)
    arguments = {"filters": 4, "depth": depth, "normalization": normalization}
    if padding:
        arguments["padding"] = padding
    classes = targets.get(facts.get("target", "distance")).channels
    built = registry.build(
        model, input_shape=(None, None, 1), classes=classes, **arguments
    )
    generator = np.random.default_rng(5)
    built.set_weights(
        [w + generator.normal(0, 0.05, w.shape) for w in built.get_weights()]
    )
    described = segmenter.describe(model, arguments, channels=1, **facts)
    return segmenter.Segmenter(built, described)


def picture(shape):
    generator = np.random.default_rng(shape)
    field = scipy.ndimage.gaussian_filter(generator.normal(size=shape), 4)
    return np.round(9000 * (1 + field)).astype("uint16")


@pytest.mark.parametrize(("model", "tta"), [("unet", 8), ("resunet", 4)])
def test_strips_give_what_the_whole_image_gives(model, tta, monkeypatch):
    from unet_zoo.graphs import strips
    from unet_zoo.streaming import predictors

    monkeypatch.setattr(strips, "_AT_ONCE", 16)
    segments = network(model, "same" if model == "unet" else None)
    [member] = predictors.members(segments, tta)
    assert member.graph is not None
    image = picture((107, 171))
    source = Array(image)
    grid = grids.Grid(source, 0, statistics.measure(source, 0), (1.0, 1.0))
    expected = segments.predict(image, tta=tta, tile=2000)
    assert expected.std() > 1e-3
    for part in np.s_[0:107, 60:110], np.s_[41:83, 60:110], np.s_[70:107, 0:171]:
        rows = predictors.by_strips(member, grid, part, 32, predictors.Work())
        found = np.concatenate(list(rows))
        np.testing.assert_allclose(found, expected[part], atol=1e-5)
    if model == "unet":  # what the network loses without padding, and not twice that
        assert member.halo == tiling.valid_unet(2).margin + 2


def test_what_looks_at_the_whole_image_is_not_cut_into_strips():
    from unet_zoo.graphs import stock

    for normalization, local in (("batch", True), ("group", False)):
        model = network("unet", "same", normalization=normalization, depth=1)
        assert (stock.read(model.network) is not None) == local


def test_a_valid_network_gives_exactly_the_labels_of_the_whole(small):
    small(100, side=64)
    model = network("unet", "valid", target="semantic")
    image = picture((210, 330))
    values = model.predict(image, tile=2000)[..., 1]
    # No value lies so near the threshold that rounding decides.
    ordered = np.sort(values[(values > 0.2) & (values < 0.8)])
    widest = np.diff(ordered[len(ordered) // 3 : -len(ordered) // 3]).argmax()
    threshold = float(ordered[len(ordered) // 3 + widest :][:2].mean())
    options = {"threshold": threshold, "fill_holes": False}
    found, summary = streamed(model, image, overlap=32, **options)
    expected = raster(model.segment(image, tile=2000, **options).labels)
    assert expected.max() > 5
    assert not summary.plan.strips
    np.testing.assert_array_equal(found, expected)


def test_weights_of_the_zoo_find_what_they_find_in_the_whole(tmp_path):
    from unet_zoo import segmenter

    model = segmenter.load("unet-blobs", offline=True)
    generator = np.random.default_rng(2)
    image = np.zeros((700, 200))
    for y, x in generator.uniform(0, (700, 200), (70, 2)):
        image[disc(image.shape, y, x, generator.uniform(8, 16))] = 1
    image = scipy.ndimage.gaussian_filter(image, 2) + 0.1
    image = generator.poisson(900 * image).astype("uint16")
    path = tmp_path / "labels.tif"
    summary = streaming.stream(model, image, path, max_memory="64GB", tta=1)
    assert summary.plan.strips
    found, expected = tifffile.imread(path), model.segment(image, tta=1).labels
    assert expected.max() > 30
    assert summary.objects == (expected.max(),)
    for number in range(1, expected.max() + 1):
        mine = found == np.bincount(found[expected == number]).argmax()
        both = (mine & (expected == number)).sum()
        assert both / (mine | (expected == number)).sum() > 0.99
