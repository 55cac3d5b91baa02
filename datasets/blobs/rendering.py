"""What objects look like: texture, light, lens, camera. Labels are not touched."""

from __future__ import annotations

import dataclasses

import numpy as np

from unet_zoo.datasets.blobs import exact, placing


@dataclasses.dataclass(frozen=True)
class Scene:
    """All choices for one image.

    Strengths are in units of the contrast between object and ground, so that they
    say how hard the image is whatever its brightness. `contrast` is in grey levels.
    """

    layout: placing.Layout
    contrast: float
    polarity: str = "bright"
    base: str = "flat"
    textures: tuple[str, ...] = ()
    texture: float = 0.0
    jitter: float = 0.0
    softness: float = 1.0
    seam: float = 0.0
    shadow: float = 0.0
    halo: float = 0.0
    ground: float = 0.0
    light: float = 0.0
    veil: float = 0.0
    ghosts: int = 0
    lines: int = 0
    dust: int = 0
    frame: bool = False
    blur: float = 0.5
    noise: float = 0.03
    shot: float = 0.0
    clouds: float = 0.0


def render(
    dice: exact.Dice, scene: Scene, blobs: list[placing.Blob], size: tuple[int, int]
) -> np.ndarray:
    """Return the image, uint8 (H, W), of objects given from back to front."""
    light = dice.direction()
    canvas = _ground(dice, scene, size)
    sign = -1.0 if scene.polarity == "dark" else 1.0
    for blob in blobs:
        if scene.polarity == "mixed":
            sign = dice.choice((-1.0, 1.0))
        view = canvas[blob.window]
        if scene.shadow:
            view -= _shadow(blob, light) * scene.shadow
        if scene.halo:
            outside = np.clip((placing.REACH - blob.distance) * 2, 0, 1)
            view -= sign * scene.halo * outside * outside * (blob.distance > 1)
        strength = sign * dice.uniform(1 - scene.jitter, 1 + scene.jitter)
        value = strength * _surface(dice, scene, blob, light)
        inward = (1 - blob.distance) * blob.radius
        if scene.seam:
            # Neighbours of one brightness could not be told apart without it.
            dark = np.clip(1.5 - np.abs(inward) / scene.softness, 0, 1)
            view *= 1 - scene.seam * np.minimum(dark, 1) * (inward < 0)
            value = value * (1 - 0.5 * scene.seam * dark)
        cover = np.clip(inward / scene.softness + 0.5, 0, 1)
        view += (value - view) * cover
    return _expose(dice, scene, _illuminate(dice, scene, canvas))


def _ground(dice: exact.Dice, scene: Scene, size: tuple[int, int]) -> np.ndarray:
    """Return what lies behind the objects, about 0, with what is no object in it."""
    canvas = np.zeros(size)
    if scene.ground:
        cell = dice.octave(3, 40)
        # Small objects would drown: at their size the ground is as much a blob.
        strength = 0.8 * scene.ground * min(1.0, scene.layout.radius / 16)
        for _ in range(3):
            canvas += exact.value_noise(dice, size, cell) * strength
            cell = max(2.0, cell / 2.1)
    y, x = np.arange(size[0])[:, None], np.arange(size[1])[None, :]
    for _ in range(scene.ghosts):
        # Out of focus: so soft that it has no outline.
        reach = dice.uniform(12, 50)
        far = (y - dice.uniform(0, size[0])) ** 2 + (x - dice.uniform(0, size[1])) ** 2
        fade = np.maximum(1 - far / (reach * reach), 0)
        canvas += fade * fade * dice.uniform(-0.5, 0.5)
    for _ in range(scene.lines):
        # A parabola in turned axes: a straight scratch or a bent hair.
        cos, sin = dice.direction()
        right, down = x - dice.uniform(0, size[1]), y - dice.uniform(0, size[0])
        u, v = cos * right + sin * down, cos * down - sin * right
        off = np.abs(v - u * u * dice.uniform(-0.004, 0.004))
        inside = np.clip(dice.uniform(0.8, 2.0) - off, 0, 1)
        inside *= np.abs(u) < dice.uniform(20, 200)
        canvas += inside * dice.choice((-1.0, 1.0)) * dice.uniform(0.3, 1.0)
    for _ in range(scene.dust):
        top, left = dice.integer(0, size[0] - 1), dice.integer(0, size[1] - 1)
        canvas[top : top + dice.integer(1, 2), left : left + dice.integer(1, 2)] += (
            dice.uniform(-1.0, 1.0)
        )
    return canvas


def _shadow(blob: placing.Blob, light: tuple[float, float]) -> np.ndarray:
    """Return the soft shadow, 0..1, of a blob lit from `light` (x, y)."""
    reach = int(blob.radius * 0.25) + 1
    down, right = int(-light[1] * reach), int(-light[0] * reach)
    padded = np.pad(blob.distance, reach, mode="edge")
    height, width = blob.distance.shape
    top, left = reach - down, reach - right
    moved = padded[top : top + height, left : left + width]
    return np.clip((1.25 - moved) * 2, 0, 1)


def _surface(
    dice: exact.Dice, scene: Scene, blob: placing.Blob, light: tuple[float, float]
) -> np.ndarray:
    """Return the brightness over a blob's window, about 1 and never far below 0."""
    q = np.minimum(blob.distance, 1)
    if scene.base == "dome":
        value = 1.25 - 0.7 * q * q
    elif scene.base == "bowl":
        value = 0.45 + 0.7 * q * q
    elif scene.base == "rim":
        value = 0.65 + 0.6 * _ridge(q, 0.88, 0.14)
    elif scene.base == "ring":
        value = 0.15 + 1.0 * _ridge(q, 0.85, 0.22)
    elif scene.base == "ball":
        up = np.sqrt(1 - q * q)
        lit = light[0] * blob.across + light[1] * blob.down
        value = 0.35 + 0.75 * np.maximum(0.6 * lit + 0.8 * up, 0)
    elif scene.base == "tilt":
        value = 0.9 + 0.5 * (light[0] * blob.across + light[1] * blob.down)
    elif scene.base == "nucleus":
        aside, below = dice.direction()
        dx, dy = blob.across - 0.25 * aside, blob.down - 0.25 * below
        value = 0.6 + 0.7 * np.clip((0.45 - np.sqrt(dx * dx + dy * dy)) * 8, 0, 1)
    else:
        value = np.ones_like(q)
    for name in scene.textures:
        value = value + scene.texture * _texture(dice, name, blob, light)
    return np.maximum(value, -0.2)


def _ridge(q: np.ndarray, at: float, width: float) -> np.ndarray:
    """Return a bump of height 1 at distance `at`, 0 beyond `width` from it."""
    near = np.maximum(1 - np.abs(q - at) / width, 0)
    return near * near * (3 - 2 * near)


def _texture(
    dice: exact.Dice, name: str, blob: placing.Blob, light: tuple[float, float]
) -> np.ndarray:
    """Return one texture over a blob's window, about -1..1."""
    shape, radius = blob.distance.shape, blob.radius
    if name == "mottled":
        coarse = exact.value_noise(dice, shape, max(2.5, radius * 0.6))
        return coarse + 0.6 * exact.value_noise(dice, shape, max(1.5, radius * 0.2))
    if name == "speckle":
        return 1.2 * exact.value_noise(dice, shape, dice.uniform(1.2, 2.5))
    if name == "spots":
        bumps = exact.value_noise(dice, shape, max(2.0, radius * 0.3))
        return 1.5 * np.clip(bumps * 4 - 1.6, 0, 1)
    # Relief: a height seen in slanting light, so its slope along the light counts.
    big = exact.value_noise(dice, shape, max(3.0, radius * dice.uniform(0.3, 0.7)))
    fine = exact.value_noise(dice, shape, max(2.0, radius * dice.uniform(0.1, 0.25)))
    height = np.clip(big * dice.uniform(2, 6), -1, 1) + 0.5 * fine
    height += 0.8 * _ridge(blob.distance, 0.9, 0.12)
    if name == "letters":
        height += 1.2 * np.clip(fine * 5, -1, 1) * _ridge(blob.distance, 0.7, 0.2)
    slope = np.zeros(shape)
    slope[:, 1:-1] += light[0] * (height[:, :-2] - height[:, 2:])
    slope[1:-1] += light[1] * (height[:-2] - height[2:])
    return np.clip(slope * 1.2, -1, 1) + 0.25 * big


def _illuminate(dice: exact.Dice, scene: Scene, canvas: np.ndarray) -> np.ndarray:
    """Return the canvas under uneven light: a factor, and a veil of stray light."""
    size = canvas.shape
    longest = max(size)

    def slow() -> np.ndarray:
        # A slope, a few broad waves and one spot, together about -1..1.
        x, y = dice.direction()
        across = (np.arange(size[1]) / size[1] - 0.5)[None, :]
        down = (np.arange(size[0]) / size[0] - 0.5)[:, None]
        field = dice.uniform(0, 1.4) * (x * across + y * down)
        wave = exact.value_noise(dice, size, longest * dice.uniform(0.3, 0.9))
        field = field + dice.uniform(0, 0.6) * wave
        dx, dy = across - dice.uniform(-0.6, 0.6), down - dice.uniform(-0.6, 0.6)
        spot = 1 / (1 + (dx * dx + dy * dy) * dice.uniform(4, 30))
        return field + dice.uniform(-0.3, 1.0) * spot

    if scene.light:
        canvas = canvas * np.maximum(1 + scene.light * slow(), 0.35)
    if scene.veil:
        canvas = canvas + scene.veil * slow()
    if scene.frame:
        # The dark, rounded corners of a mount or an eyepiece.
        down = (np.arange(size[0]) / size[0] - 0.5)[:, None] * 2
        across = (np.arange(size[1]) / size[1] - 0.5)[None, :] * 2
        y2, x2 = down * down, across * across
        corner = np.sqrt(y2 * y2 * y2 + x2 * x2 * x2)
        canvas = canvas - np.clip((corner - dice.uniform(0.9, 1.1)) * 8, 0, 1) * 1.2
    return canvas


def _expose(dice: exact.Dice, scene: Scene, canvas: np.ndarray) -> np.ndarray:
    """Return the canvas through lens and camera: blur, grey levels, noise."""
    size = canvas.shape
    if scene.clouds:
        canvas = canvas + scene.clouds * exact.blur(2.5 * dice.bells(*size), 1.2)
    canvas = exact.blur(canvas, scene.blur)
    low, high = float(canvas.min()), float(canvas.max())
    gain = min(scene.contrast, 235 / max(high - low, 1e-6))
    grey = (canvas - low) * gain
    room = 250 - (high - low) * gain
    grey = grey + dice.uniform(5, max(6.0, room))
    sigma = gain * (scene.noise + scene.shot * np.sqrt(np.maximum(grey, 0) / 128))
    grey = grey + dice.bells(*size) * np.maximum(sigma, 0.4)
    return np.clip(np.rint(grey), 0, 255).astype(np.uint8)
