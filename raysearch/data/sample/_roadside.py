"""What stands and moves in a street: trees, cars, signs and people, and what resembles them."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._view import NEAR, Canvas

Array = NDArray[Any]

BACKGROUND, ROAD, BUILDING, CAR, VEGETATION, SKY, SIGN, PEDESTRIAN = range(8)


@dataclass(frozen=True)
class Thing:
    """Something in the street. seed: of its own details, the same in every frame.

    speed: metres a frame, along and across the street.
    """

    draw: Callable[[Canvas, "Thing"], None]
    x: float
    z: float
    seed: int
    speed: tuple[float, float] = (0.0, 0.0)

    def at(self, frame: int) -> "Thing":
        z, x = self.z + frame * self.speed[0], self.x + frame * self.speed[1]
        return replace(self, x=x, z=z)


def paint(random: np.random.Generator, vivid: float = 1.0) -> Array:
    """Return a colour of things that men paint, of any hue."""
    hue, value = random.uniform(0, 180), random.uniform(60, 235)
    saturation = min(255.0, vivid * 200 * random.uniform() ** 2)
    hsv = np.array([[[hue, saturation, value]]], dtype=np.uint8)
    return cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)[0, 0].astype(np.float32)


def _upright(canvas: Canvas, thing: Thing) -> tuple[Array, float, float] | None:
    """Return the foot in pixels, pixels a metre and the depth; None where it is not in sight."""
    depth = float(canvas.depth(thing.x, thing.z))
    if depth < 2 * NEAR:
        return None
    foot = canvas.project(np.array([[thing.x, 0.0, thing.z]]))[0]
    return foot, canvas.focal / depth, depth


def _shadow(canvas: Canvas, foot: Array, wide: float, scale: float) -> None:
    """Darken the ground under a thing; its class stays the ground's."""
    axes = np.array([wide * scale, max(1.0, 0.16 * wide * scale)])
    window = canvas.window(np.array([foot - axes, foot + axes]))
    if window is not None:
        cover = np.zeros(canvas.labels[window].shape, np.uint8)
        middle = (int(foot[0]) - window[1].start, int(foot[1]) - window[0].start)
        cv2.ellipse(cover, middle, (int(axes[0]), int(axes[1])), 0, 0, 360, 1, -1)
        canvas.colour[window][cover.astype(bool)] *= 0.62


def _pole(
    canvas: Canvas, foot: Array, scale: float, high: float, colour: Array, depth: float
) -> None:
    half = max(0.6, 0.035 * scale)
    canvas.pillar(foot, half, high * scale, colour, BACKGROUND, depth)


def _crown(
    canvas: Canvas, centre: Array, size: Array, depth: float, random: np.random.Generator
) -> None:
    """Lay a heap of leaves: circles of one green, lit from above, with gaps of dark."""
    base = np.array([random.uniform(50, 130), random.uniform(80, 135), random.uniform(30, 60)])
    for number in range(26):
        angle, out = random.uniform(0, 2 * np.pi), np.sqrt(random.uniform(0, 1))
        at = np.array([np.cos(angle), np.sin(angle)]) * out
        shade = (0.72 - 0.3 * at[1] + 0.014 * number) * random.uniform(0.75, 1.2)
        leaf = size.min() * random.uniform(0.2, 0.42)
        canvas.ellipse(
            centre + at * size * 0.75,
            np.array([leaf, leaf * 0.85]),
            (base * shade).astype(np.float32),
            VEGETATION,
            depth,
        )


def tree(canvas: Canvas, thing: Thing) -> None:
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    high, wide = random.uniform(2.4, 5.5), random.uniform(1.0, 2.1)
    _shadow(canvas, foot, wide, scale)
    half, top = max(0.8, random.uniform(0.1, 0.22) * scale), foot - [0, high * scale]
    bark = np.array([84, 64, 48], np.float32)
    canvas.pillar(foot, half, high * scale, bark, VEGETATION, depth)
    size = np.array([wide, random.uniform(0.7, 1.3) * wide]) * scale
    _crown(canvas, top, size, depth, random)


def bush(canvas: Canvas, thing: Thing) -> None:
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    high = random.uniform(0.4, 0.9)
    size = np.array([random.uniform(0.8, 1.8), high]) * scale
    _shadow(canvas, foot, 0.9, scale)
    _crown(canvas, foot - [0, high * scale * 0.8], size, depth, random)


def car(canvas: Canvas, thing: Thing) -> None:
    """A body and a cabin as boxes, with wheels, lamps and panes."""
    length, wide = 4.2, 1.75
    if canvas.depth(thing.x, thing.z) < length / 2 + 2 * NEAR:
        return
    random = np.random.default_rng(thing.seed)
    colour = paint(random, float(random.choice([0.15, 0.6, 1.3])))
    high = random.uniform(0.75, 0.95)
    centre = canvas.project(np.array([[thing.x, 0.0, thing.z]]))[0]
    depth = float(canvas.depth(thing.x, thing.z))
    _shadow(canvas, centre, 1.5, canvas.focal / depth)
    _box(canvas, thing, (wide, 0.28, high, length), 0.0, colour)
    roof = (
        wide * 0.84,
        high,
        high + random.uniform(0.5, 0.75),
        length * random.uniform(0.45, 0.65),
    )
    _box(canvas, thing, roof, random.uniform(-0.3, 0.3), np.array([44, 52, 62], np.float32), colour)
    _car_details(canvas, thing, (wide, length, high), random)


def _box(
    canvas: Canvas,
    thing: Thing,
    size: tuple[float, float, float, float],
    shift: float,
    colour: Array,
    top: Array | None = None,
) -> None:
    """Draw the side, top and rear that the camera sees. size: width, bottom, top, length."""
    wide, low, high, length = size
    x0, x1 = thing.x - wide / 2, thing.x + wide / 2
    z0, z1 = thing.z + shift - length / 2, thing.z + shift + length / 2
    depth, light = float(canvas.depth(thing.x, thing.z)), canvas.light
    beside = x0 if canvas.camera.x < x0 else x1
    bright = light.left if canvas.camera.x < x0 else light.right
    side = [(beside, high, z0), (beside, high, z1), (beside, low, z1), (beside, low, z0)]
    cover = [(x0, high, z0), (x1, high, z0), (x1, high, z1), (x0, high, z1)]
    rear = [(x0, high, z0), (x1, high, z0), (x1, low, z0), (x0, low, z0)]
    lid = colour if top is None else top
    canvas.polygon(canvas.project(np.array(side)), colour * np.float32(0.8 * bright), CAR, depth)
    canvas.polygon(canvas.project(np.array(cover)), lid * np.float32(1.1), CAR, depth)
    shade = np.float32(0.9 * light.front)
    canvas.polygon(canvas.project(np.array(rear)), colour * shade, CAR, depth)


def _car_details(
    canvas: Canvas, thing: Thing, size: tuple[float, float, float], random: np.random.Generator
) -> None:
    wide, length, high = size
    rear, depth = thing.z - length / 2, float(canvas.depth(thing.x, thing.z))
    scale = canvas.focal / max(NEAR, float(canvas.depth(thing.x, rear)))
    black, red = np.array([26, 26, 28], np.float32), np.array([190, 40, 34], np.float32)
    lamp = red if random.random() < 0.7 else np.array([235, 230, 200], np.float32)
    inner = thing.x - wide / 2 if canvas.camera.x < thing.x - wide / 2 else thing.x + wide / 2
    wheels = [(inner, 0.3, thing.z + along * length) for along in (0.3, -0.3)]
    for place, grow in zip(wheels, (0.2, 0.2), strict=True):
        near = canvas.focal / max(NEAR, float(canvas.depth(place[0], place[2])))
        centre = canvas.project(np.array([place]))[0]
        canvas.ellipse(centre, np.array([grow, 0.32]) * near, black, CAR, depth)
    for across in (-0.4, 0.4):
        tyre = canvas.project(np.array([[thing.x + across * wide, 0.2, rear]]))[0]
        canvas.ellipse(tyre, np.array([0.12, 0.22]) * scale, black, CAR, depth)
        light = canvas.project(np.array([[thing.x + across * wide, high * 0.8, rear]]))[0]
        canvas.ellipse(light, np.array([0.13, 0.07]) * scale, lamp, CAR, depth)


def sign(canvas: Canvas, thing: Thing) -> None:
    """A plate on a pole: red ring, warning triangle, blue disc, stop or yield. The plate counts."""
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    high, half = random.uniform(1.9, 2.7), random.uniform(0.38, 0.55)
    _pole(canvas, foot, scale, high, np.array([150, 150, 152], np.float32), depth)
    centre = foot - [0, high * scale]
    red, white = np.array([196, 36, 40], np.float32), np.array([232, 232, 228], np.float32)
    blue = np.array([36, 84, 176], np.float32)
    corners, outer, inner = (
        (0, red, white),
        (3, red, white),
        (0, blue, blue),
        (8, red, red),
        (4, np.array([230, 190, 40], np.float32), white),
    )[int(random.integers(5))]
    worn = np.float32(random.uniform(0.7, 1.05))
    for size, colour in ((half * scale, outer), (0.66 * half * scale, inner)):
        _plate(canvas, centre, size, corners, colour * worn, depth)
    glyph = (np.zeros(3, np.float32) + 30) if inner is white else white
    bar = np.array([0.42, 0.12]) if random.random() < 0.5 else np.array([0.12, 0.42])
    canvas.ellipse(centre, bar * half * scale, glyph, SIGN, depth)


def _plate(
    canvas: Canvas, centre: Array, size: float, corners: int, colour: Array, depth: float
) -> None:
    if corners == 0:
        canvas.ellipse(centre, np.array([size, size]), colour, SIGN, depth)
        return
    turn = np.pi / corners if corners == 8 else np.pi / 2
    angles = np.arange(corners) * 2 * np.pi / corners + turn
    around = np.stack([np.cos(angles), -np.sin(angles)], axis=1)
    canvas.polygon(centre + around * size * 1.1, colour, SIGN, depth)


def person(canvas: Canvas, thing: Thing) -> None:
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    skin = np.array([224, 180, 150], np.float32) * np.float32(random.uniform(0.35, 1.05))
    coat, trousers = paint(random), paint(random, 0.6) * np.float32(0.7)
    _shadow(canvas, foot, 0.4, scale)
    stride = 0.26 * np.sin(2 * thing.z + thing.seed % 7)
    _figure(canvas, foot, scale, random.uniform(1.3, 1.9), stride, (skin, coat, trousers), depth)


def _figure(
    canvas: Canvas,
    foot: Array,
    scale: float,
    tall: float,
    stride: float,
    colours: tuple[Array, Array, Array],
    depth: float,
    label: int = PEDESTRIAN,
) -> None:
    """Draw head, trunk, arms and legs; tall in metres."""
    skin, coat, trousers = colours
    unit = tall * scale
    hip, neck = foot - [0, 0.48 * unit], foot - [0, 0.84 * unit]
    for turn in (-1, 1):
        toe = foot + turn * np.array([(0.05 + stride / 2) * unit * 0.5, 0])
        thick = np.array([max(0.7, 0.05 * unit), 0])
        shade = np.float32(1.0 if turn > 0 else 0.8)
        legs = np.array([hip - thick * 1.3, hip + thick * 1.3, toe + thick, toe - thick])
        canvas.polygon(legs, trousers * shade, label, depth)
        hand = hip + np.array([turn * (0.1 + abs(stride) / 4), -0.02]) * unit
        shoulder = neck + np.array([turn * 0.1, 0.03]) * unit
        sleeve = np.array([shoulder - thick, shoulder + thick, hand + thick, hand - thick])
        canvas.polygon(sleeve, coat * np.float32(0.85), label, depth)
    trunk = (hip + neck) / 2
    canvas.ellipse(trunk, np.array([0.115, 0.2]) * unit, coat, label, depth)
    canvas.ellipse(foot - [0, 0.92 * unit], np.array([0.06, 0.075]) * unit, skin, label, depth)


def statue(canvas: Canvas, thing: Thing) -> None:
    """A figure of stone on a plinth: no pedestrian."""
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    stone = np.array([150, 148, 140], np.float32) * np.float32(random.uniform(0.6, 1.2))
    half, high = 0.35 * scale, 0.6 * scale
    top = foot - [0, high]
    _shadow(canvas, foot, 0.5, scale)
    canvas.pillar(foot, half, high, stone * np.float32(0.8), BACKGROUND, depth)
    greys = (stone * np.float32(1.1), stone, stone * np.float32(0.9))
    _figure(canvas, top, scale, random.uniform(1.2, 1.7), 0.1, greys, depth, BACKGROUND)


def post(canvas: Canvas, thing: Thing) -> None:
    """A lamp with a globe, as high as a sign: nothing of any class."""
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    high = random.uniform(2.2, 4.0)
    _pole(canvas, foot, scale, high, np.array([60, 62, 66], np.float32), depth)
    globe = np.array([238, 230, 205], np.float32) * np.float32(random.uniform(0.7, 1.0))
    axes = np.array([0.2, 0.24]) * scale
    canvas.ellipse(foot - [0, high * scale], axes, globe, BACKGROUND, depth)


def board(canvas: Canvas, thing: Thing) -> None:
    """An upright advertisement of any colour on two feet: no traffic sign."""
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    low, high = random.uniform(0.2, 1.2), random.uniform(1.7, 2.6)
    half = random.uniform(0.3, 0.8) * scale
    _pole(canvas, foot, scale, low, np.array([70, 70, 70], np.float32), depth)
    for share, colour in ((1.0, paint(random, 1.4)), (0.8, paint(random, 1.4))):
        middle = (low + high) / 2
        tall = (high - low) / 2 * share * scale
        centre, size = foot - [0, middle * scale], np.array([half * share, tall])
        corners = centre + size * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        canvas.polygon(corners, colour, BACKGROUND, depth)


def litter_bin(canvas: Canvas, thing: Thing) -> None:
    if (seen := _upright(canvas, thing)) is None:
        return
    foot, scale, depth = seen
    random = np.random.default_rng(thing.seed)
    half, high = 0.25 * scale, random.uniform(0.8, 1.2) * scale
    _shadow(canvas, foot, 0.4, scale)
    canvas.pillar(foot, half, high, paint(random), BACKGROUND, depth)
    canvas.ellipse(
        foot - [0, high], np.array([half, 0.1 * scale]), paint(random), BACKGROUND, depth
    )
