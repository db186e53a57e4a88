"""Sets without any fault, that a test may plant one in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.config import Study
from tests.data.voc_miniature import CLASSES, coloured, write_labelmap, write_lists, write_odd

SIDE = 40
COUNT = 24


def picture(number: int, side: int = SIDE) -> np.ndarray:
    """Eight by eight fields of random colours: no two look alike."""
    random = np.random.default_rng(number)
    fields = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.kron(fields, np.ones((side // 8, side // 8, 1), dtype=np.uint8))


def block(class_id: int, side: int = SIDE) -> np.ndarray:
    mask = np.zeros((side, side), dtype=np.uint8)
    mask[8:24, 8:24] = class_id
    return mask


def class_of(number: int) -> int:
    """Cats are even, dogs odd."""
    return 1 + number % 2


def save(root: Path, number: int, image: np.ndarray, mask: np.ndarray) -> None:
    Image.fromarray(image).save(root / "JPEGImages" / f"{number:03d}.png")
    Image.fromarray(coloured(mask)).save(root / "SegmentationClass" / f"{number:03d}.png")


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    """One VOC root: 24 images of one size, 12 of cats and 12 of dogs."""
    root = tmp_path / "set"
    for part in ("JPEGImages", "SegmentationClass"):
        (root / part).mkdir(parents=True)
    for number in range(COUNT):
        save(root, number, picture(number), block(class_of(number)))
    names = [f"{number:03d}" for number in range(COUNT)]
    write_lists(root, train=names[:12], val=names[12:18], test=names[18:])
    write_labelmap(root)
    return root


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder for each of two classes, 12 JPEG photographs in each."""
    root = tmp_path / "classes"
    for number in range(COUNT):
        place = root / CLASSES[class_of(number)]
        place.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(number)).save(place / f"{number:03d}.jpg", quality=90)
    return root


def make_study(**data: Any) -> Study:
    whole = data.pop("task", "segmentation")
    crop = {"crop_size": 32} if whole == "segmentation" else {}
    return Study.model_validate(
        {
            "name": "tiny",
            "task": whole,
            "data": {"format": "voc", "classes": list(CLASSES), **data},
            "networks": {"narrow": {"type": "unet", "width": 4, "depth": 2}},
            "space": {"batch_size": {"low": 2, "high": 4}},
            "fixed": {"architecture": "narrow", "image_size": 32, **crop},
            "budget": {"trials": 1},
        }
    )


@pytest.fixture
def study() -> Study:
    return make_study()


@pytest.fixture
def classified() -> Study:
    return make_study(task="classification", format="class_folders", classes=["cat", "dog"])


@pytest.fixture
def each(voc: Path) -> Callable[[Callable[[int, Path], None]], None]:
    """Change every image of a class: cats by default."""

    def change(how: Callable[[int, Path], None]) -> None:
        for number in range(0, COUNT, 2):
            how(number, voc / "JPEGImages" / f"{number:03d}.png")

    return change


@pytest.fixture
def odd_root(tmp_path: Path) -> Path:
    """One root per class, with a dog that stands in train and, byte for byte the same, in val."""
    return write_odd(tmp_path / "odd")
