"""Six animals on cluttered grounds, in the folder layout of the animals study.

One VOC root per class with RGB masks named in labelmap.txt. What tells the classes apart is in
the pixels alone: sizes, format, mode, pose, ground and light have one distribution for all.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from raysearch.data.sample import _grounds
from raysearch.data.sample._animal import draw, pose
from raysearch.data.sample._species import SPECIES

VERSION = 1
CLASSES = ("background", "cheetah", "lion", "wolf", "tiger", "hyena", "fox")
COUNTS = {"train": 24, "val": 8, "test": 8}
SHAPES = ((160, 208), (192, 256), (208, 160), (224, 224), (192, 192), (256, 192))
COLOURS = {
    "background": (0, 0, 0),
    "cheetah": (224, 64, 64),
    "fox": (160, 96, 64),
    "hyena": (7, 73, 80),
    "lion": (32, 128, 224),
    "tiger": (112, 192, 192),
    "wolf": (102, 178, 138),
}


def write(folder: Path, seed: int) -> None:
    """Write the whole set; the same seed gives the same pixels."""
    folder.mkdir(parents=True)
    lines = [f"{name}:{','.join(map(str, colour))}::\n" for name, colour in COLOURS.items()]
    (folder / "labelmap.txt").write_text(
        "# label:color_rgb:parts:actions\n" + "".join(lines) + "\n", encoding="utf-8"
    )
    for species in SPECIES:
        _write_root(folder / species, species, seed)


def _write_root(root: Path, species: str, seed: int) -> None:
    for part in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / part).mkdir(parents=True)
    numbers = iter(range(sum(COUNTS.values())))
    for split, count in COUNTS.items():
        names = [f"{number:08d}" for number in islice(numbers, count)]
        lists = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        lists.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # list() takes the results, and with them what a thread raised.
        list(pool.map(partial(_write_scene, root, species, seed), range(sum(COUNTS.values()))))


def _write_scene(root: Path, species: str, seed: int, number: int) -> None:
    random = np.random.default_rng([seed, CLASSES.index(species), number])
    image, mask = scene(species, random)
    coloured = np.zeros_like(image)
    coloured[mask] = COLOURS[species]
    _save(root / "JPEGImages" / f"{number:08d}.png", image)
    _save(root / "SegmentationClass" / f"{number:08d}.png", coloured)


def _save(path: Path, picture: NDArray[np.uint8]) -> None:
    if not cv2.imwrite(str(path), np.ascontiguousarray(picture[..., ::-1])):
        raise OSError(f"{path}: cannot be written")


def scene(species: str, random: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Return a picture (H, W, 3) of one or two animals of a species, and where they are (H, W)."""
    shape = SHAPES[int(random.integers(len(SHAPES)))]
    picture = _grounds.paint(shape, random)
    label = np.zeros(shape, dtype=bool)
    for _ in range(1 + int(random.random() < 0.2)):
        colour, cover = draw(shape, SPECIES[species], pose(shape, random), random)
        picture = picture + (colour - picture) * cover[..., None]
        label |= cover > 0.5
    grass, cover = _grounds.blades(shape, random)
    picture = picture + (grass - picture) * cover[..., None]
    return _photograph(picture, random), label & (cover <= 0.5)


def _photograph(picture: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.uint8]:
    """Apply exposure, white balance, softness and grain of a camera."""
    light = random.uniform(0.75, 1.15) * random.normal(1, 0.03, 3)
    gamma = random.uniform(0.85, 1.2)
    exposed = np.clip(picture * (light / 255).astype(np.float32), 0, 1) ** np.float32(gamma)
    soft = cv2.GaussianBlur(255 * exposed, (0, 0), random.uniform(0.3, 0.7))
    grain = random.standard_normal(picture.shape, dtype=np.float32) * random.uniform(2, 6)
    return (soft + grain).clip(0, 255).astype(np.uint8)
