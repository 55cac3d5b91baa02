"""Tiles are invisible in the result: that is the whole point of overlap-tile."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage

from unet_zoo import tiling
from unet_zoo.errors import InputError

SHAPES = [(1, 1), (1, 7), (2, 3), (5, 700), (33, 65), (64, 48), (97, 131), (160, 17)]


def convolve(image: np.ndarray, kernel: np.ndarray, padding: str) -> np.ndarray:
    """Convolve (h, w, C) with (3, 3), zeros outside, as a network does."""
    result = scipy.ndimage.correlate(image, kernel[..., None], mode="constant")
    return result if padding == "same" else result[1:-1, 1:-1]


def pool(image: np.ndarray) -> np.ndarray:
    height, width, channels = image.shape
    assert height % 2 == 0
    assert width % 2 == 0
    blocks = image.reshape(height // 2, 2, width // 2, 2, channels)
    return blocks.max(axis=(1, 3))


def network(depth: int, padding: str):
    """Return a U-Net in numpy: pooling makes it sensitive to where tiles begin."""
    kernels = np.random.default_rng(0).normal(size=(99, 3, 3)).astype(np.float32)
    calls = []

    def level(image: np.ndarray, left: int) -> np.ndarray:
        for number in (0, 1):
            image = np.tanh(convolve(image, kernels[2 * left + number], padding))
        if left == 0:
            return image
        deep = level(pool(image), left - 1).repeat(2, axis=0).repeat(2, axis=1)
        crop_y = (image.shape[0] - deep.shape[0]) // 2
        crop_x = (image.shape[1] - deep.shape[1]) // 2
        skip = image[crop_y : crop_y + deep.shape[0], crop_x : crop_x + deep.shape[1]]
        joined = deep - 0.7 * skip
        for number in (50, 51):
            joined = np.tanh(convolve(joined, kernels[2 * left + number], padding))
        return joined

    def function(batch: np.ndarray) -> np.ndarray:
        assert batch.dtype == np.float32
        calls.append(batch.shape)
        result = level(batch[0], depth)
        return np.concatenate([result, result**2], axis=-1)[None]

    function.calls = calls
    return function


def picture(shape: tuple[int, int], channels: int = 1) -> np.ndarray:
    generator = np.random.default_rng(shape)
    return generator.normal(size=(*shape, channels)).astype(np.float32)


def geometry(depth: int, padding: str) -> dict[str, int]:
    # The same-padding network sees as far as the valid one is cropped, and one more
    # group of pixels because the grid of pooling may begin anywhere.
    margin, step, _ = tiling.valid_unet(depth)
    return {"margin": margin + (step if padding == "same" else 0), "step": step}


@pytest.mark.parametrize("padding", ["same", "valid"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("depth", "tile"), [(1, 2), (2, 20), (2, (8, 64)), (3, 40)])
def test_tiled_equals_untiled(shape, depth, tile, padding):
    image, sizes = picture(shape), geometry(depth, padding)
    if tile == 2 and shape == (5, 700):
        tile = 6  # a thousand calls say no more than a hundred
    whole = tiling.predict(network(depth, padding), image, padding=padding, **sizes)
    function = network(depth, padding)
    tiled = tiling.predict(function, image, tile=tile, padding=padding, **sizes)
    assert whole.shape == tiled.shape == (*shape, 2)
    assert tiled.dtype == np.float32
    np.testing.assert_array_equal(tiled, whole)
    assert len(set(function.calls)) == 1, "one compiled graph"
    limit = tile if isinstance(tile, tuple) else (tile, tile)
    most = np.prod(
        [
            -(-size // (each // 2**depth * 2**depth))
            for size, each in zip(shape, limit, strict=True)
        ]
    )
    assert 1 <= len(function.calls) <= most


@pytest.mark.parametrize("shape", SHAPES)
def test_whole_equals_padding_by_hand(shape):
    """numpy's own mirror padding, one call and a crop give the same."""
    margin, step, remainder = tiling.valid_unet(2)
    image = picture(shape, channels=3)
    after = [
        next(
            n
            for n in range(9999)
            if (s + margin + n) % step == remainder and n >= margin
        )
        for s in shape
    ]
    padded = np.pad(image, [(margin, after[0]), (margin, after[1]), (0, 0)], "reflect")
    expected = network(2, "valid")(padded[None])[0, : shape[0], : shape[1]]
    result = tiling.predict(
        network(2, "valid"), image, margin=margin, step=step, padding="valid", tile=12
    )
    np.testing.assert_array_equal(result, expected)


def test_tiles_off_the_grid_would_show():
    """The network above does notice where a tile begins: shifting by one changes it."""
    image = picture((60, 60))
    first = network(2, "valid")(image[None, :56, :56])[0]
    second = network(2, "valid")(image[None, 1:57, 1:57])[0]
    assert not np.allclose(first[1:], second[:-1], atol=1e-3)
    aligned = network(2, "valid")(image[None, 4:, 4:])[0]
    np.testing.assert_array_equal(first[4:, 4:], aligned[:-4, :-4])


@pytest.mark.parametrize("shape", [*SHAPES, (512, 512), (1000, 31)])
@pytest.mark.parametrize("tile", [16, 100, (64, 33), None])
@pytest.mark.parametrize("remainder", [0, 12])
def test_plan_covers_every_pixel_once(shape, tile, remainder):
    tiles = tiling.plan(shape, tile=tile, margin=92, step=16, remainder=remainder)
    covered = np.zeros(shape, int)
    for source, target in tiles:
        covered[target] += 1
        for seen, kept in zip(source, target, strict=True):
            assert seen.start == kept.start - 92
            assert seen.stop >= kept.stop + 92
            assert (seen.stop - seen.start) % 16 == remainder
            assert kept.start % 16 == 0
    assert (covered == 1).all()
    assert len({(y.stop - y.start, x.stop - x.start) for (y, x), _ in tiles}) == 1


def test_plan_spreads_what_the_tile_allows():
    """520 pixels with tiles up to 512 are two of 272, not 512 and a sliver."""
    tiles = tiling.plan((520, 520), tile=512, margin=0, step=16)
    assert [tile.target[1] for tile in tiles[:2]] == [slice(0, 272), slice(272, 520)]
    assert len(tiles) == 4


def test_plan_uses_all_that_the_network_gives():
    """A tile of 16 gives 20 pixels at remainder 12: at the end, 4 without a call."""
    for size, calls in [(20, 1), (21, 2), (36, 2), (37, 3)]:
        tiles = tiling.plan((1, size), tile=16, margin=92, step=16, remainder=12)
        assert len(tiles) == calls


@pytest.mark.parametrize("depth", [0, 1, 2, 3, 4, 5])
def test_valid_unet_is_what_survives(depth):
    """Only the sizes given pass the poolings, and they lose twice the margin."""
    margin, step, remainder = tiling.valid_unet(depth)

    def shrink(size: int) -> int | None:
        for _ in range(depth):
            size -= 4
            if size % 2 or size <= 0:
                return None
            size //= 2
        size -= 4
        for _ in range(depth):
            size = 2 * size - 4
        return size if size > 0 else None

    for size in range(1, 700):
        fits = size % step == remainder and size > 2 * margin
        assert shrink(size) == (size - 2 * margin if fits else None)


def test_paper():
    assert tiling.valid_unet(4) == (92, 16, 12)
    [tile] = tiling.plan((388, 388), tile=None, margin=92, step=16, remainder=12)
    assert tile.source == (slice(-92, 480), slice(-92, 480))


def test_margin_too_small_is_seen_only_near_seams():
    """Same padding with too little context differs, and only at tile borders."""
    image = picture((64, 64))
    arguments = {"margin": 2, "step": 4, "padding": "same"}
    whole = tiling.predict(network(2, "same"), image, **arguments)
    tiled = tiling.predict(network(2, "same"), image, tile=32, **arguments)
    differs = np.argwhere((whole != tiled).any(axis=-1))
    assert len(differs)
    reach = tiling.valid_unet(2).margin + 4
    assert np.abs(differs - 31.5).min(axis=1).max() <= reach


def test_progress_counts_the_tiles():
    seen = []
    tiling.predict(
        network(1, "same"), picture((20, 40)), tile=16, margin=4, step=2,
        padding="same", progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert seen == [(number, 6) for number in range(1, 7)]


def test_real_network():
    """A valid U-Net of keras layers: tiled as untiled, up to float rounding."""
    import keras

    from unet_zoo.models import unet

    keras.utils.set_random_seed(0)
    model = unet.unet((None, None, 1), classes=2, filters=2, depth=2, padding="valid")
    margin, step, remainder = tiling.valid_unet(2)
    shapes = set()

    def function(batch):
        shapes.add(batch.shape)
        return keras.ops.convert_to_numpy(model(batch, training=False))

    arguments = {"margin": margin, "step": step, "padding": "valid"}
    image = picture((50, 33))
    whole = tiling.predict(function, image, **arguments)
    assert {size % step for shape in shapes for size in shape[1:3]} == {remainder}
    tiled = tiling.predict(function, image, tile=16, **arguments)
    assert whole.std() > 0.01
    np.testing.assert_allclose(tiled, whole, atol=1e-5)


@pytest.mark.parametrize("tile", [0, -16, 15, 16.5, "16", (16, 4)])
def test_tile_too_small(tile):
    with pytest.raises(
        InputError, match=r"`tile` .*at least 16.*the smallest tile is 16"
    ):
        tiling.predict(
            network(4, "same"), picture((40, 40)), tile=tile, margin=92, step=16,
            padding="same",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"padding": "reflect"}, "`padding`"),
        ({"margin": -1}, "`margin`"),
        ({"step": 0}, "`step`"),
        ({"image": np.zeros((4, 4))}, r"axes \(Y, X, C\)"),
        ({"image": np.zeros((0, 4, 1))}, r"axes \(Y, X, C\)"),
    ],
)
def test_wrong_arguments(change, word):
    arguments = {"image": picture((8, 8)), "margin": 2, "step": 2, "padding": "valid"}
    with pytest.raises(InputError, match=word):
        tiling.predict(network(1, "valid"), **{**arguments, **change})


def test_function_of_another_size_is_told():
    with pytest.raises(ValueError, match=r"must return \(1, 4, 4, 'K'\)"):
        tiling.predict(
            lambda batch: batch[:, 1:-1, 1:-1], picture((4, 4)), margin=2, step=4,
            padding="same",
        )  # fmt: skip
