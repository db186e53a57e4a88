"""A VOC folder is known by its own files, and its lists may lie outside of it."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.formats.voc import Format
from tests.data.voc_miniature import (
    CLASSES,
    COLOURS,
    config,
    random_mask,
    standard,
    with_palette,
    write_root,
)


def test_one_root(plain_root: Path) -> None:
    found = Format.recognise(plain_root)
    assert found == {"classes": list(CLASSES), "bands": 3, "options": {}}


def test_a_root_for_each_class(odd_root: Path) -> None:
    found = Format.recognise(odd_root)
    assert found is not None
    assert found["classes"] == list(CLASSES)


@pytest.mark.parametrize("coloured", [False, True])
def test_classes_by_the_ids_in_masks(tmp_path: Path, coloured: bool) -> None:
    write_root(tmp_path, [1, 1])
    for number in range(2):
        mask = standard(random_mask((40, 48), 1 + number))
        place = tmp_path / "SegmentationClass" / f"{number:03d}.png"
        (mask.convert("RGB") if coloured else mask).save(place)
    found = Format.recognise(tmp_path)
    assert found is not None
    assert found["classes"] == ["background", "class_1", "class_2"]


def test_grey_images(tmp_path: Path) -> None:
    write_root(tmp_path, [1, 2])
    for path in (tmp_path / "JPEGImages").iterdir():
        Image.open(path).convert("L").save(path)
    found = Format.recognise(tmp_path)
    assert found is not None
    assert found["bands"] == 1


def test_background_comes_first(tmp_path: Path) -> None:
    write_root(tmp_path, [1])
    names = ["cat", "background", "dog"]
    lines = [f"{name}:{','.join(map(str, COLOURS[name]))}::" for name in names]
    (tmp_path / "labelmap.txt").write_text("\n".join(lines), encoding="utf-8")
    found = Format.recognise(tmp_path)
    assert found is not None
    assert found["classes"] == ["background", "cat", "dog"]


def test_strange_folders(tmp_path: Path) -> None:
    assert Format.recognise(tmp_path) is None
    assert Format.recognise(tmp_path / "nowhere") is None
    for part in ("JPEGImages", "SegmentationClass"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.png").write_bytes(b"no picture")
    (tmp_path / "labelmap.txt").write_bytes(b"\xff\xfe no labelmap")
    found = Format.recognise(tmp_path)
    assert found == {"classes": ["background", "class_1"], "bands": 3, "options": {}}


def test_palettes_that_mean_nothing(tmp_path: Path) -> None:
    write_root(tmp_path, [1])
    mask = with_palette(random_mask((40, 48), 2), {})
    mask.save(tmp_path / "SegmentationClass" / "000.png")
    found = Format.recognise(tmp_path)
    assert found is not None
    assert len(found["classes"]) == 3


class TestListsElsewhere:
    def write(self, folder: Path, **lists: list[str]) -> None:
        folder.mkdir(parents=True)
        for split, names in lists.items():
            (folder / f"{split}.txt").write_text("\n".join(names), encoding="utf-8")

    def splits(self, root: Path, lists: Path) -> dict[str, str | None]:
        reader = Format(root, config(options={"lists": str(lists)}))
        return {sample.name: sample.split for sample in reader.samples()}

    def test_one_root(self, plain_root: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "lists", train=["001", "003"], val=["000"])
        found = self.splits(plain_root, tmp_path / "lists")
        assert found == {"001": "train", "003": "train", "000": "val"}

    def test_a_root_for_each_class(self, odd_root: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "lists" / "cat", train=["001"], val=["000"])
        self.write(tmp_path / "lists" / "dog", train=["002"], val=[])
        found = self.splits(odd_root, tmp_path / "lists")
        assert found == {"cat/001": "train", "cat/000": "val", "dog/002": "train"}

    def test_pixels_are_the_same(self, plain_root: Path, tmp_path: Path) -> None:
        self.write(tmp_path / "lists", train=["001"], val=["000"])
        reader = Format(plain_root, config(options={"lists": str(tmp_path / "lists")}))
        own = Format(plain_root, config())
        (sample, *_) = (s for s in own.samples() if s.name == "000")
        np.testing.assert_array_equal(reader.target(sample), own.target(sample))
