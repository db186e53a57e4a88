"""Ten dishes on set tables, in Food-101's own layout.

What tells the classes apart is in the pixels alone: sizes, quality, plate, table, light and
garnish have one distribution for all, and colours overlap from dish to dish.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample._foods import (
    BROWNS,
    DISHES,
    GREENS,
    PALES,
    REDS,
    blank,
    ellipse,
    lay,
    pick,
    pieces,
    segment,
    shade,
)
from raysearch.data.sample._texture import clouds, noise, stripes

Array = NDArray[Any]
Random = np.random.Generator

VERSION = 1
CLASSES = tuple(DISHES)
SHAPES = ((1.0, 1.0), (1.0, 1.33), (1.33, 1.0), (1.0, 1.0), (0.8, 1.2), (1.15, 1.15))
TABLES = (
    (148, 106, 70),
    (92, 66, 48),
    (206, 198, 186),
    (70, 74, 80),
    (160, 60, 56),
    (196, 176, 140),
)
PLATES = ((236, 234, 228), (222, 226, 232), (52, 54, 58), (150, 112, 76), (120, 150, 170))


def write(folder: Path, seed: int, *, train: int = 40, test: int = 16, side: int = 128) -> None:
    """Write the whole set; the same seed gives the same bytes.

    Args:
        train, test: pictures of each class.
        side: of a square picture; others have about as many pixels.
    """
    (folder / "meta").mkdir(parents=True)
    random = np.random.default_rng(seed)
    names = {
        dish: [f"{dish}/{number}" for number in random.permutation(10**6)[: train + test]]
        for dish in CLASSES
    }
    _write_lines(folder / "meta" / "classes.txt", list(CLASSES))
    _write_lines(
        folder / "meta" / "labels.txt", [n.replace("_", " ").capitalize() for n in CLASSES]
    )
    for split, part in (("train", slice(train)), ("test", slice(train, None))):
        listed = [name for dish in CLASSES for name in sorted(names[dish][part])]
        _write_lines(folder / "meta" / f"{split}.txt", listed)
    tasks = [(dish, number) for dish in CLASSES for number in range(train + test)]
    for dish in CLASSES:
        (folder / "images" / dish).mkdir(parents=True)

    def photograph(task: tuple[str, int]) -> None:
        dish, number = task
        own = np.random.default_rng([seed, CLASSES.index(dish), number])
        _save(folder / "images" / f"{names[dish][number]}.jpg", scene(dish, side, own), own)

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # list() takes the results, and with them what a thread raised.
        list(pool.map(photograph, tasks))


def _write_lines(path: Path, lines: list[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def _save(path: Path, picture: NDArray[np.uint8], random: Random) -> None:
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(70, 96))]
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1]), quality):
        raise OSError(f"{path}: cannot be written")


def scene(dish: str, side: int, random: Random) -> NDArray[np.uint8]:
    """Return a photograph (H, W, 3) of a dish on its plate."""
    shape = SHAPES[int(random.integers(len(SHAPES)))]
    height, width = (round(side * share) for share in shape)
    canvas = _table((height, width), random)
    radius = min(height, width) * random.uniform(0.3, 0.55)
    middle = np.array([width, height]) / 2
    centre = middle + random.normal(0, 0.07, 2) * (width, height)
    _clutter(canvas, centre, radius, random)
    _plate(canvas, centre, radius, random)
    DISHES[dish](canvas, centre, radius * random.uniform(0.68, 0.85), random)
    _garnish(canvas, centre, radius, random)
    return _photograph(_tilted(canvas, random), random)


def _table(shape: tuple[int, int], random: Random) -> Array:
    colour = pick(TABLES, random)
    rough = 1 + 0.1 * clouds(shape, shape[1] / 3, random) + 0.04 * noise(shape, 1.5, random)
    canvas = np.asarray(colour * rough[..., None], dtype=np.float32)
    kind = int(random.integers(3))
    if kind:
        angle, period = random.uniform(0, np.pi), shape[1] * random.uniform(0.06, 0.25)
        y, x = np.mgrid[: shape[0], : shape[1]].astype(np.float32)
        warp = 0.15 * noise(shape, shape[1] / 2, random)
        for turn in (angle, angle + np.pi / 2)[:kind]:
            bars = stripes(
                x * np.cos(turn) + y * np.sin(turn), warp, period, random.uniform(0.1, 0.5)
            )
            canvas *= 1 - random.uniform(0.1, 0.3) * bars[..., None]
    return canvas


def _clutter(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    """Draw cutlery and cups beside the plate, whatever is on it."""
    for _ in range(int(random.integers(0, 4))):
        angle = random.uniform(0, 2 * np.pi)
        at = centre + 1.35 * radius * np.array([np.cos(angle), np.sin(angle)])
        cover = blank(canvas)
        if random.random() < 0.5:
            way = random.normal(0, 0.5, 2) * radius
            segment(cover, at, way, 255, max(1, round(0.06 * radius)))
        else:
            ellipse(cover, at, radius * random.uniform(0.15, 0.4, 2), random.uniform(0, 180))
        lay(canvas, cover, pick((*PLATES, *REDS[:1], *GREENS[:1]), random), 0.08, random)


def _plate(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    cover = blank(canvas)
    ellipse(cover, centre + radius * random.uniform(-0.08, 0.12, 2), (1.06 * radius,) * 2, 0)
    lay(canvas, cover, canvas.mean((0, 1)) * 0.45, 0.05, random)
    colour = pick(PLATES, random, 8)
    inner = random.uniform(0.72, 0.9)
    for scale, tone in ((1.0, 1.0), (inner, 0.88), (inner - 0.03, 0.97)):
        cover = blank(canvas)
        ellipse(cover, centre, (radius * scale,) * 2, 0)
        lay(canvas, cover, colour * tone, 0.02, random)
    shade(canvas, centre, np.array([radius, radius]), random, 0.15)


def _garnish(canvas: Array, centre: Array, radius: float, random: Random) -> None:
    """Strew herbs, crumbs or drops of sauce, on any dish."""
    for colours in (GREENS, REDS, PALES, BROWNS):
        if random.random() < 0.25:
            size, count = radius * random.uniform(0.02, 0.07), int(random.integers(2, 9))
            pieces(canvas, centre, 0.8 * radius, size, count, colours, random, random.uniform(1, 2))


def _tilted(canvas: Array, random: Random) -> Array:
    """Return the table as a camera sees it that is turned and does not stand right above."""
    height, width = canvas.shape[:2]
    corners = np.array([[0, 0], [width, 0], [width, height], [0, height]], dtype=np.float32)
    middle = corners.mean(axis=0)
    angle = random.normal(0, 0.25)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    squeeze = np.array([1.0, random.uniform(0.72, 1.0)])
    moved = ((corners - middle) @ turn.T) * squeeze * random.uniform(1.0, 1.5) + middle
    moved += random.normal(0, 0.03, (4, 2)) * (width, height)
    matrix = cv2.getPerspectiveTransform(corners, moved.astype(np.float32))
    border = {"flags": cv2.INTER_LINEAR, "borderMode": cv2.BORDER_REFLECT_101}
    return np.asarray(cv2.warpPerspective(canvas, matrix, (width, height), **border))


def _photograph(canvas: Array, random: Random) -> NDArray[np.uint8]:
    """Apply the room's light, its colour, exposure, softness and grain of a camera."""
    height, width = canvas.shape[:2]
    slope = random.normal(0, 0.25, 2)
    x = np.linspace(-1, 1, width, dtype=np.float32)
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    light = np.clip(1 + slope[0] * x + slope[1] * y, 0.4, 1.6)[..., None]
    warmth = random.normal(0, 0.09)
    white = random.uniform(0.6, 1.15) * np.array([1 + warmth, 1.0, 1 - 1.6 * warmth])
    exposed = np.clip(canvas * light * (white / 255), 0, 1) ** random.uniform(0.8, 1.3)
    soft = cv2.GaussianBlur(255 * exposed, (0, 0), random.uniform(0.3, 1.1))
    grain = random.standard_normal(canvas.shape, dtype=np.float32) * random.uniform(2, 10)
    return (soft + grain).clip(0, 255).astype(np.uint8)
