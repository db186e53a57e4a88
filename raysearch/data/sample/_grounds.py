"""Cluttered grounds: grass, savannah, snow, forest, rock and mud, whatever animal stands there."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._texture import clouds, grid, noise, spots, stripes

Array = NDArray[Any]
Colour = tuple[int, int, int]

# Two colours of the ground, two of what is behind it (RGB).
GROUNDS: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "grass": ((96, 120, 58), (140, 150, 80), (70, 92, 52), (150, 175, 190)),
    "savannah": ((176, 150, 96), (206, 180, 120), (150, 130, 84), (190, 200, 205)),
    "snow": ((205, 210, 216), (232, 234, 238), (120, 128, 132), (205, 212, 220)),
    "forest": ((84, 74, 48), (120, 98, 60), (46, 58, 36), (92, 100, 70)),
    "rock": ((126, 120, 112), (160, 150, 138), (104, 98, 92), (168, 170, 172)),
    "mud": ((120, 88, 60), (152, 118, 84), (110, 96, 70), (170, 160, 140)),
}
CLUTTER: list[Colour] = [
    (196, 160, 100),
    (150, 84, 44),
    (110, 108, 104),
    (70, 88, 48),
    (58, 48, 38),
    (200, 120, 60),
    (214, 208, 196),
]


def paint(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Return a ground with clutter, (H, W, 3) in 0..255."""
    near, far, back, sky = (
        np.array(colour, dtype=np.float32) + random.normal(0, 9, 3).astype(np.float32)
        for colour in GROUNDS[str(random.choice(list(GROUNDS)))]
    )
    height, width = shape
    ground = _blend(near, far, clouds(shape, width / 4, random), noise(shape, 2, random))
    behind = _blend(back, sky, clouds(shape, width / 3, random), noise(shape, 4, random) / 2)
    horizon = random.uniform(0.05, 0.5) * height + 6 * noise((1, width), width / 5, random)
    below = (np.arange(height, dtype=np.float32)[:, None] - horizon) / 3
    picture = behind + (ground - behind) * np.clip(below, 0, 1)[..., None]
    for _ in range(int(random.integers(3, 9))):
        clutter = (_trunk, _stone, _bush, _bush)[int(random.integers(4))]
        picture = clutter(picture, random)
    return np.asarray(picture, dtype=np.float32)


def blades(shape: tuple[int, int], random: np.random.Generator) -> tuple[Array, Array]:
    """Return tufts of grass for the foreground: colour (H, W, 3) and cover (H, W) in 0..1."""
    height, width = shape
    cover = np.zeros(shape, dtype=np.uint8)
    for _ in range(int(random.integers(0, 6))):
        foot = random.uniform((0, 0.55 * height), (width, height))
        for _ in range(int(random.integers(4, 12))):
            begin = foot + random.normal(0, (0.03 * width, 2))
            end = begin + random.normal((0, -0.12 * height), (0.03 * width, 0.04 * height))
            points = np.stack([begin, end]).astype(np.int32)
            cv2.line(cover, points[0].tolist(), points[1].tolist(), 255, 1, cv2.LINE_AA)
    colour = np.array(CLUTTER[int(random.choice([0, 3, 4]))], dtype=np.float32)
    shade = 1 + 0.15 * noise(shape, 3, random)[..., None]
    return colour * shade, np.asarray(cover / 255, dtype=np.float32)


def _blend(one: Array, two: Array, mixture: Array, grain: Array) -> Array:
    share = np.clip(0.5 + 0.35 * mixture, 0, 1)[..., None]
    return np.asarray(one + (two - one) * share + 7 * grain[..., None], dtype=np.float32)


def _lay(picture: Array, cover: NDArray[np.uint8], colour: Array) -> Array:
    """Lay a colour (H, W, 3) over the picture, in place, where cover is not 0."""
    left, top, width, height = cv2.boundingRect(cover)
    part = slice(top, top + height), slice(left, left + width)
    share = cv2.GaussianBlur(cover[part], (3, 3), 0).astype(np.float32)[..., None] / 255
    picture[part] += (colour[part] - picture[part]) * share
    return picture


def _colour(random: np.random.Generator) -> Array:
    shift = random.normal(0, 14) + random.normal(0, 6, 3)
    return np.asarray(random.choice(CLUTTER) + shift, dtype=np.float32)


def _trunk(picture: Array, random: np.random.Generator) -> Array:
    height, width = picture.shape[:2]
    cover = np.zeros((height, width), dtype=np.uint8)
    foot = random.uniform((0, 0.3 * height), (width, 0.8 * height))
    top = foot + random.normal((0, -0.6 * height), (0.08 * width, 0.15 * height))
    thick = random.uniform(0.01, 0.045) * width
    side = np.array([thick, 0])
    corners = np.stack([foot - side, foot + side, top + side * 0.6, top - side * 0.6])
    cv2.fillPoly(cover, [corners.astype(np.int32)], 255, cv2.LINE_AA)
    bark = noise((height, width), 3, random)[..., None]
    return _lay(picture, cover, _colour(random) * (0.8 + 0.12 * bark))


def _stone(picture: Array, random: np.random.Generator) -> Array:
    height, width = picture.shape[:2]
    cover = np.zeros((height, width), dtype=np.uint8)
    centre = random.uniform((0, 0.3 * height), (width, height))
    axes = random.uniform(0.03, 0.16, 2) * width * (1, 0.7)
    angle = random.uniform(-25, 25)
    cv2.ellipse(cover, (centre.astype(int).tolist(), (2 * axes).tolist(), angle), 255, -1)
    rows = np.arange(height, dtype=np.float32)[:, None]
    light = np.clip(1.1 - 0.45 * (rows - centre[1]) / axes[1], 0.5, 1.3)[..., None]
    grain = 1 + 0.12 * clouds((height, width), 12, random)[..., None]
    return _lay(picture, cover, _colour(random) * light * grain)


def _bush(picture: Array, random: np.random.Generator) -> Array:
    """A bush or a heap of leaves, with spots or stripes of its own: texture alone tells nothing."""
    height, width = picture.shape[:2]
    cover = np.zeros((height, width), dtype=np.uint8)
    centre = random.uniform((0, 0.15 * height), (width, height))
    for _ in range(int(random.integers(5, 14))):
        at = centre + random.normal(0, (0.08 * width, 0.05 * height))
        cv2.circle(cover, at.astype(int).tolist(), int(random.uniform(0.02, 0.07) * width), 255, -1)
    leaf = _leaves((height, width), random)[..., None]
    colour = _colour(random) * (1 + 0.12 * noise((height, width), 3, random)[..., None])
    return _lay(picture, cover, colour * (1 - 0.4 * leaf))


def _leaves(shape: tuple[int, int], random: np.random.Generator) -> Array:
    height, width = shape
    kind = random.integers(3)
    if kind == 0:
        corners = np.zeros(2, dtype=np.float32), np.array([width, height], dtype=np.float32)
        points = grid(*corners, 0.04 * width, random)
        return spots(shape, points, 0.011 * width, 0.5, random)
    if kind == 1:
        return np.zeros(shape, dtype=np.float32)
    angle = random.uniform(0, np.pi)
    columns = np.arange(width, dtype=np.float32) * np.float32(np.cos(angle))
    rows = np.arange(height, dtype=np.float32)[:, None] * np.float32(np.sin(angle))
    return stripes(columns + rows, 0.5 * noise(shape, width / 6, random), 0.06 * width, 0.4)
