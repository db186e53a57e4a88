"""The generated dishes: Food-101's layout, the same bytes from a seed, and no shortcut."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.config import DataConfig
from raysearch.data import open_data
from raysearch.data.formats.food101 import Format
from raysearch.data.sample import food101, generators

DATA = DataConfig(format="food101", classes=food101.CLASSES)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sample") / "food101"
    food101.write(place, 0, train=4, test=2, side=48)
    return place


def content(root: Path) -> dict[str, bytes]:
    files = [path for path in root.rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in files}


def test_is_a_data_set_of_the_study(root: Path, tmp_path: Path) -> None:
    found = Format.recognise(root)
    assert found is not None
    assert tuple(found["classes"]) == food101.CLASSES
    splits = open_data(DATA, root, tmp_path, seed=0).splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [30, 10, 20]
    assert splits.dropped == ()


def test_dishes_are_those_of_food101(root: Path) -> None:
    labels = (root / "meta" / "labels.txt").read_text(encoding="utf-8").splitlines()
    assert labels[3] == "Ice cream"
    assert len(labels) == len(food101.CLASSES) == 10
    assert list(food101.CLASSES) == sorted(food101.CLASSES)
    assert "food101" in generators()


def test_seed_decides(root: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        food101.write(tmp_path / str(seed), seed, train=4, test=2, side=48)
    assert content(tmp_path / "0") == content(root)
    assert not content(tmp_path / "1").keys() >= content(root).keys()


def test_more_pictures_leave_the_others_as_they_are(root: Path, tmp_path: Path) -> None:
    food101.write(tmp_path / "more", 0, train=5, test=2, side=48)
    before, after = content(root / "images"), content(tmp_path / "more" / "images")
    assert len(after) == len(before) + 10
    assert set(before.values()) <= set(after.values())


def test_every_picture_is_another(root: Path) -> None:
    pictures = content(root / "images")
    assert len(set(pictures.values())) == len(pictures)


def test_nothing_but_the_pixels_tells_the_class() -> None:
    """Sizes are drawn first, from the same list for each dish."""
    shapes = [
        [food101.scene(dish, 32, np.random.default_rng(seed)).shape for seed in range(8)]
        for dish in food101.CLASSES
    ]
    assert len(set(shapes[0])) > 2
    assert all(other == shapes[0] for other in shapes)


def test_form_and_mode_are_the_same(root: Path) -> None:
    kinds = set()
    for path in (root / "images").rglob("*.jpg"):
        with Image.open(path) as picture:
            kinds.add((picture.format, picture.mode))
    assert kinds == {("JPEG", "RGB")}


def test_mean_colour_alone_does_not_tell_the_class() -> None:
    """The nearest mean colour finds few of the dishes; a guess finds one in ten."""
    colours = {
        dish: np.array(
            [
                food101.scene(dish, 32, np.random.default_rng([number, seed])).mean((0, 1))
                for seed in range(16)
            ]
        )
        for number, dish in enumerate(food101.CLASSES)
    }
    means = np.array([values[:8].mean(axis=0) for values in colours.values()])
    right = [
        np.linalg.norm(means - colour, axis=1).argmin() == number
        for number, values in enumerate(colours.values())
        for colour in values[8:]
    ]
    assert np.mean(right) < 0.45
