"""Ten dishes, painted on a canvas (H, W, 3) in 0..255 about a centre within a radius.

Colours overlap from dish to dish; what tells them apart is structure.
"""

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._texture import clouds, noise

Array = NDArray[Any]
Random = np.random.Generator

GREENS = ((92, 128, 52), (124, 158, 70), (160, 182, 100), (64, 98, 44))
BROWNS = ((150, 96, 52), (176, 120, 66), (122, 76, 46), (196, 144, 84))
PALES = ((232, 222, 196), (240, 234, 218), (226, 206, 160), (214, 190, 130))
REDS = ((176, 52, 36), (150, 44, 34), (198, 78, 44), (210, 110, 60))
BRIGHTS = ((222, 120, 150), (120, 74, 50), (238, 226, 200), (190, 210, 150), (240, 180, 90))


def pick(colours: Sequence[tuple[int, int, int]], random: Random, spread: float = 12) -> Array:
    """Return one of the colours, shifted and brightened at random."""
    chosen = np.array(colours[int(random.integers(len(colours)))], dtype=np.float32)
    shift = random.normal(0, spread, 3) / 2 + random.normal(0, spread)
    return np.asarray(chosen + shift, dtype=np.float32)


def lay(
    canvas: Array, cover: NDArray[np.uint8], colour: Array, grain: float, random: Random
) -> None:
    """Lay a colour (3,) with a grain over the canvas, in place, where cover is not 0."""
    left, top, width, height = cv2.boundingRect(cover)
    if not width:
        return
    part = slice(top, top + height), slice(left, left + width)
    rough = 1 + grain * clouds((height, width), max(width, height) / 5, random)[..., None]
    share = cv2.blur(cover[part], (2, 2)).astype(np.float32)[..., None] / 255
    canvas[part] += (colour * rough - canvas[part]) * share


def around(centre: Array, radius: float, random: Random) -> Array:
    """Return a point in the disc, evenly spread."""
    angle, distance = random.uniform(0, 2 * np.pi), radius * np.sqrt(random.random())
    return centre + distance * np.array([np.cos(angle), np.sin(angle)])


def blank(canvas: Array) -> NDArray[np.uint8]:
    return np.zeros(canvas.shape[:2], dtype=np.uint8)


def ellipse(
    cover: NDArray[np.uint8], centre: Array, axes: Any, angle: float, value: int = 255
) -> None:
    """Fill an ellipse of half axes `axes`, with an eighth of a pixel's precision."""
    at, half = (np.round(np.asarray(v) * 8).astype(int).tolist() for v in (centre, axes))
    cv2.ellipse(cover, at, half, angle, 0, 360, value, -1, cv2.LINE_AA, 3)


def blob(cover: NDArray[np.uint8], centre: Array, radius: float, rough: float, r: Random) -> None:
    """Fill a closed shape whose radius varies by `rough` around it."""
    angles = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    waves = sum(
        r.normal(0, rough / k) * np.cos(k * angles + r.uniform(0, 2 * np.pi)) for k in range(2, 7)
    )
    reach = radius * np.clip(1 + waves, 0.3, 1.6)[:, None]
    points = centre + reach * np.stack([np.cos(angles), np.sin(angles)], axis=1)
    cv2.fillPoly(cover, [np.round(points * 8).astype(np.int32)], 255, cv2.LINE_AA, 3)


def segment(canvas: Array, middle: Array, way: Array, colour: Any, thick: int = 1) -> None:
    """Draw a straight line from middle - way to middle + way."""
    begin, end = (
        np.round(point * 8).astype(int).tolist() for point in (middle - way, middle + way)
    )
    cv2.line(canvas, begin, end, colour, thick, cv2.LINE_AA, 3)


def shade(canvas: Array, centre: Array, axes: Array, random: Random, depth: float = 0.35) -> None:
    """Darken an ellipse towards one side, as a round thing in light from the other."""
    height, width = canvas.shape[:2]
    left, top = np.maximum(0, centre - axes.max() - 1).astype(int)
    right, bottom = np.minimum((width, height), centre + axes.max() + 2).astype(int)
    if right <= left or bottom <= top:
        return
    x = (np.arange(left, right, dtype=np.float32) - centre[0]) / axes[0]
    y = ((np.arange(top, bottom, dtype=np.float32) - centre[1]) / axes[1])[:, None]
    inside = np.clip((1 - x * x - y * y) * 6, 0, 1)
    light = 1 - depth * np.clip(0.5 * (x + y) + 0.6 * (x * x + y * y) - 0.1, -0.4, 1)
    canvas[top:bottom, left:right] *= (1 + (light - 1) * inside)[..., None]


def strands(
    canvas: Array, centre: Array, radius: float, colour: Array, count: int, r: Random
) -> None:
    """Draw curved strands in layers, the lower ones darker."""
    thick = max(1, round(radius * r.uniform(0.03, 0.055)))
    steps = np.linspace(0, 1, 14)
    for number in range(count):
        begin, turn = around(centre, radius, r), r.uniform(0, 2 * np.pi)
        bend = r.normal(0, 4.5)
        angles = turn + bend * steps + r.normal(0, 0.6) * np.sin(6 * steps)
        moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * radius * r.uniform(0.05, 0.11)
        points = begin + np.cumsum(moves, axis=0)
        out = np.linalg.norm(points - centre, axis=1) > radius
        points = points[: int(np.argmax(out))] if out.any() else points
        if len(points) < 3:
            continue
        line = [np.round(points * 8).astype(np.int32)]
        tone = colour * (0.55 + 0.45 * number / count) * r.uniform(0.9, 1.1)
        cv2.polylines(canvas, line, False, (0.6 * tone).tolist(), thick + 1, cv2.LINE_AA, 3)
        cv2.polylines(canvas, line, False, tone.tolist(), thick, cv2.LINE_AA, 3)


def pieces(
    canvas: Array,
    centre: Array,
    radius: float,
    size: float,
    count: int,
    colours: Sequence[tuple[int, int, int]],
    random: Random,
    long: float = 1.0,
) -> None:
    """Strew small shaded ellipses, `long` times as long as wide."""
    for _ in range(count):
        cover, at = blank(canvas), around(centre, radius, random)
        half = size * random.uniform(0.75, 1.25) * np.array([long, 1.0])
        angle = random.uniform(0, 180)
        dark = pick(colours, random)
        ellipse(cover, at + 0.25 * size, half, angle)
        canvas[cover > 127] *= 0.72
        cover[:] = 0
        ellipse(cover, at, half, angle)
        lay(canvas, cover, dark, 0.06, random)


def spaghetti(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    strands(canvas, centre, radius * 0.95, pick(PALES, random), 150, random)
    cover = blank(canvas)
    blob(
        cover, around(centre, radius * 0.3, random), radius * random.uniform(0.3, 0.5), 0.3, random
    )
    lay(canvas, cover, pick(REDS + BROWNS, random), 0.3, random)
    pieces(canvas, centre, radius * 0.5, radius * 0.05, 14, REDS + BROWNS, random, 1.2)


def ramen(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    cover = blank(canvas)
    ellipse(cover, centre, (radius, radius), 0)
    lay(canvas, cover, pick((*BROWNS, (206, 160, 96), (190, 110, 60)), random), 0.1, random)
    at = around(centre, radius * 0.35, random)
    strands(canvas, at, radius * 0.6, pick(PALES, random), 45, random)
    for _ in range(int(random.integers(1, 3))):
        at = around(centre, radius * 0.6, random)
        axes, angle = radius * np.array([0.26, 0.2]), random.uniform(0, 180)
        for scale, colours in ((1.0, PALES[1:2]), (0.55, ((236, 164, 50), (222, 130, 40)))):
            cover[:] = 0
            ellipse(cover, at, axes * scale, angle)
            lay(canvas, cover, pick(colours, random, 6), 0.04, random)
    pieces(canvas, centre, radius * 0.8, radius * 0.04, 12, GREENS, random)


def pizza(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    layers = ((1.0, BROWNS[1:]), (0.86, REDS), (0.8, (*PALES[2:], (226, 176, 96))))
    for scale, colours in layers:
        cover = blank(canvas)
        blob(cover, centre, radius * scale, 0.02 if scale > 0.8 else 0.06, random)
        if scale == 0.8:
            holes = clouds(canvas.shape[:2], radius * 0.4, random) > random.uniform(0.3, 0.9)
            cover[holes] = 0
        lay(canvas, cover, pick(colours, random), 0.14, random)
    count = int(random.integers(6, 13))
    topping = (REDS, REDS, GREENS, BROWNS)[int(random.integers(4))]
    pieces(
        canvas, centre, radius * 0.7, radius * random.uniform(0.09, 0.13), count, topping, random
    )
    if random.random() < 0.4:
        turn = random.uniform(0, np.pi, 3)
        for way in np.stack([np.cos(turn), np.sin(turn)], axis=1) * radius:
            segment(canvas, centre, way, (80, 50, 30))


def sushi(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    angle = random.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    across = np.array([-along[1], along[0]])
    size = radius * random.uniform(0.22, 0.3)
    filling = ((230, 120, 80), (120, 160, 80), (236, 190, 90), (196, 60, 60))
    for row in range(int(random.integers(1, 4))):
        for place in range(int(random.integers(2, 5))):
            offset = along * (place - 1.2) * 2.15 * size + across * (row - 0.8) * 2.15 * size
            at = centre + offset + random.normal(0, size * 0.12, 2)
            tall = size * np.array([1.0, random.uniform(0.85, 1.0)])
            shadow = blank(canvas)
            ellipse(shadow, at + 0.2 * size, tall, 0)
            canvas[shadow > 127] *= 0.6
            for scale, colours in ((1.0, ((34, 42, 34), (48, 52, 40))), (0.84, PALES[:2])):
                cover = blank(canvas)
                ellipse(cover, at, tall * scale, 0)
                lay(canvas, cover, pick(colours, random, 6), 0.05, random)
            pieces(canvas, at, size * 0.2, size * 0.28, 2, filling, random)


def pancakes(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    flat = random.uniform(0.55, 0.95)
    count = int(random.integers(2, 6))
    face = pick(BROWNS, random)
    for number in range(count):
        high = np.array([0, (count / 2 - number) * radius * 0.13])
        at = centre + high + random.normal(0, 0.03 * radius, 2)
        axes = radius * random.uniform(0.75, 0.85) * np.array([1.0, flat])
        for scale, tone in ((1.0, 0.7), (0.985, 1.45), (0.93, 1.0)):
            cover = blank(canvas)
            ellipse(cover, at - (0, radius * (1 - scale)), axes * scale, 0)
            lay(canvas, cover, face * tone, 0.1, random)
    cover = blank(canvas)
    blob(cover, at, radius * 0.35, 0.3, random)
    lay(canvas, cover, pick(BROWNS + REDS, random) * 0.75, 0.1, random)
    if random.random() < 0.6:
        corners = cv2.boxPoints((at.tolist(), (0.24 * radius, 0.2 * radius), random.uniform(0, 90)))
        cv2.fillPoly(canvas, [corners.astype(np.int32)], (244, 226, 150), cv2.LINE_AA)


def steak(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    cover = blank(canvas)
    blob(cover, centre, radius * 0.75, 0.16, random)
    colour = pick(BROWNS, random) * 0.8
    lay(canvas, cover, colour * 0.5, 0.1, random)
    inner = cv2.erode(cover, np.ones((3, 3), np.uint8))
    lay(canvas, inner, colour, 0.28, random)
    angle, spacing = random.uniform(0, np.pi), radius * random.uniform(0.2, 0.3)
    y, x = np.mgrid[: canvas.shape[0], : canvas.shape[1]].astype(np.float32)
    bent = x * np.cos(angle) + y * np.sin(angle) + noise(canvas.shape[:2], radius / 2, random)
    marks = np.cos(2 * np.pi * bent / spacing) > random.uniform(0.5, 0.8)
    lay(canvas, (inner * marks).astype(np.uint8), colour * 0.45, 0.1, random)
    beside = centre + random.choice([-1, 1]) * radius * np.array([0.75, random.uniform(-0.4, 0.4)])
    pieces(canvas, beside, radius * 0.2, radius * 0.08, 7, GREENS + PALES[2:], random, 2)


def ice_cream(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    for _ in range(int(random.integers(1, 4))):
        at = around(centre, radius * 0.4, random)
        axes = radius * random.uniform(0.36, 0.5) * np.array([1.0, random.uniform(0.9, 1.0)])
        cover = blank(canvas)
        blob(cover, at + 0.1 * radius * np.array([0, 1]), axes[0] * 1.08, 0.05, random)
        colour = pick(BRIGHTS, random)
        lay(canvas, cover, colour * 0.85, 0.08, random)
        cover[:] = 0
        ellipse(cover, at, axes, 0)
        lay(canvas, cover, colour, 0.1, random)
        shade(canvas, at, axes, random)
    if random.random() < 0.5:
        pieces(canvas, centre, radius * 0.4, radius * 0.04, 8, REDS + BROWNS, random)


def caesar_salad(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    for _ in range(int(random.integers(30, 45))):
        at, angle = around(centre, radius * 0.9, random), random.uniform(0, 180)
        size = radius * random.uniform(0.14, 0.28)
        cover = blank(canvas)
        blob(cover, at + 0.15 * size, size, 0.3, random)
        canvas[cover > 127] *= 0.8
        cover[:] = 0
        blob(cover, at, size, 0.3, random)
        lay(canvas, cover, pick(GREENS, random), 0.22, random)
        way = size * 0.7 * np.array([np.cos(angle), np.sin(angle)])
        segment(canvas, at, way, pick(PALES, random).tolist())
    pieces(canvas, centre, radius * 0.8, radius * 0.08, 7, BROWNS, random, 1.2)
    pieces(canvas, centre, radius * 0.8, radius * 0.05, 8, PALES[:2], random, 3)


def donuts(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    count = int(random.integers(1, 5))
    size = radius * (0.75, 0.5, 0.45, 0.42)[count - 1] * random.uniform(0.9, 1.1)
    turn = random.uniform(0, 2 * np.pi)
    for number in range(count):
        angle = turn + 2 * np.pi * number / count
        at = centre + (count > 1) * radius * 0.52 * np.array([np.cos(angle), np.sin(angle)])
        axes = size * np.array([1.0, random.uniform(0.8, 1.0)])
        hole = blank(canvas)
        ellipse(hole, at, axes * random.uniform(0.25, 0.38), 0)
        glaze = (BRIGHTS, BROWNS, REDS)[int(random.integers(3))]
        for scale, colour in ((1.0, pick(BROWNS[1:], random)), (0.87, pick(glaze, random))):
            cover = blank(canvas)
            blob(cover, at, axes[0] * scale, 0.015 if scale == 1 else 0.03, random)
            cover = np.where(hole > 0, np.uint8(0), cover)
            lay(canvas, cover, colour, 0.08, random)
        shade(canvas, at, axes, random, 0.3)


def fried_rice(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    cover = blank(canvas)
    blob(cover, centre, radius * 0.9, 0.06, random)
    base = pick((*PALES[1:], BROWNS[3]), random)
    lay(canvas, cover, base * 0.7, 0.1, random)
    size = radius * random.uniform(0.035, 0.05)
    for _ in range(260):
        at, angle = around(centre, radius * 0.88, random), random.uniform(0, np.pi)
        way = 1.3 * size * np.array([np.cos(angle), np.sin(angle)])
        tone = (base * random.uniform(0.75, 1.2)).tolist()
        segment(canvas, at, way, tone, max(1, round(size)))
    colours = (GREENS, (*REDS[2:], (236, 190, 70)))[int(random.integers(2))]
    pieces(canvas, centre, radius * 0.8, radius * 0.055, 16, colours, random)


DISHES: dict[str, Callable[[Array, Array, float, Random], None]] = {
    "caesar_salad": caesar_salad,
    "donuts": donuts,
    "fried_rice": fried_rice,
    "ice_cream": ice_cream,
    "pancakes": pancakes,
    "pizza": pizza,
    "ramen": ramen,
    "spaghetti_bolognese": spaghetti,
    "steak": steak,
    "sushi": sushi,
}
