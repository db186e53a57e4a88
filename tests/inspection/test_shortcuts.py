"""Shortcuts that are planted are found, and nothing is where there is none."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.config import Study
from raysearch.data import Sample
from raysearch.inspection import inspect
from raysearch.inspection.look import Look
from raysearch.inspection.shortcuts import fact_table, shortcuts
from tests.data.voc_miniature import write_labelmap, write_lists, write_root
from tests.inspection.conftest import COUNT, block, make_study, picture, save

Each = Callable[[Callable[[int, Path], None]], None]


def told(study: Study, root: Path) -> list[str]:
    return [f.words for f in inspect(study, root).findings if f.kind == "shortcut"]


def test_clean(study: Study, voc: Path) -> None:
    assert inspect(study, voc).findings == []


def test_mode(study: Study, voc: Path, each: Each) -> None:
    each(lambda number, path: Image.open(path).convert("RGBA").save(path))
    (words,) = told(study, voc)
    assert "mode gives the class away: RGB" in words
    assert "is always 'cat' (12 of its 12 images, 0 of the 12 others)" in words


def test_format_beside_ending(study: Study, voc: Path, each: Each) -> None:
    def as_jpeg(number: int, path: Path) -> None:
        Image.open(path).save(path.with_suffix(".jpg"))
        path.unlink()

    each(as_jpeg)
    (words,) = told(study, voc)
    assert "file format gives the class away" in words
    assert "JPEG is always 'cat'" in words


def test_size(study: Study, voc: Path) -> None:
    for number in range(1, COUNT, 2):
        save(voc, number, picture(number, 64), block(2, 64))
    (words,) = told(study, voc)
    assert "image size gives the class away" in words
    assert "64x64 is always 'dog'" in words


def test_folder(study: Study, voc: Path) -> None:
    names: list[str] = []
    for number in range(COUNT):
        place = "night" if number % 2 else "day"
        names.append(f"{place}/{number:03d}")
        for part in ("JPEGImages", "SegmentationClass"):
            path = voc / part / f"{number:03d}.png"
            (voc / part / place).mkdir(exist_ok=True)
            path.rename(voc / part / place / path.name)
    write_lists(voc, train=names[:12], val=names[12:18], test=names[18:])
    (words,) = told(study, voc)
    assert "folder gives the class away: JPEGImages/day is always 'cat'" in words


def test_folders_of_classes_are_no_shortcut(classified: Study, folders: Path) -> None:
    assert inspect(classified, folders).findings == []


def test_roots_of_classes_are_no_shortcut(tmp_path: Path) -> None:
    for number, name in enumerate(("first", "second")):
        names = write_root(tmp_path / "r" / name, [number + 1] * 9, seed=100 * number)
        write_lists(tmp_path / "r" / name, train=names[:6], val=names[6:])
    write_labelmap(tmp_path / "r")
    assert told(make_study(), tmp_path / "r") == []


def test_folder_below_the_class(classified: Study, folders: Path) -> None:
    for name, place in (("cat", "indoor"), ("dog", "outdoor")):
        (folders / name / place).mkdir()
        for path in list((folders / name).glob("*.jpg")):
            path.rename(path.parent / place / path.name)
    (words,) = told(classified, folders)
    assert "folder gives the class away: indoor is always 'cat'" in words


def test_camera(classified: Study, folders: Path) -> None:
    exif = Image.Exif()
    exif[0x0110] = "Snapper 3"
    for path in (folders / "dog").iterdir():
        Image.open(path).save(path, exif=exif, quality=90)
    (words,) = told(classified, folders)
    assert words.startswith("camera gives the class away")
    assert "Snapper 3 is always 'dog' (12 of its 12 images" in words


def test_jpeg_quality(classified: Study, folders: Path) -> None:
    for number in range(0, COUNT, 2):
        path = folders / "cat" / f"{number:03d}.jpg"
        Image.fromarray(picture(number)).save(path, quality=40)
    (words,) = told(classified, folders)
    assert "JPEG quantisation gives the class away" in words


def looks(
    labels: Iterator[int], shapes: Iterator[tuple[int, int]], **facts: list[str]
) -> list[Look]:
    """Looks at classified images with sizes and facts, and no files."""
    found = []
    for number, (label, shape) in enumerate(zip(labels, shapes, strict=True)):
        outside = {name: values[number] for name, values in facts.items()}
        sample = Sample(str(number), Path(f"{number}.png"), label, f"{number // 4}")
        counts = np.eye(2, dtype=np.int64)[label]
        found.append(Look(sample, shape=shape, outside=outside, classes=counts))
    return found


class TestStatistics:
    @pytest.mark.parametrize("seed", range(20))
    def test_chance_does_not_fire(self, classified: Study, seed: int) -> None:
        random = np.random.default_rng(seed)
        labels = iter(random.integers(0, 2, 60).tolist())
        shapes = iter([(int(a), int(b)) for a, b in random.integers(100, 130, (60, 2))])
        facts = {name: random.choice(list("abcdef"), 60).tolist() for name in ("mode", "camera")}
        found = looks(labels, shapes, **facts)
        assert shortcuts(Path(), classified, found) == []

    def test_sizes_that_never_repeat(self, classified: Study) -> None:
        """No two images have one size, and still the larger ones are dogs."""
        random = np.random.default_rng(0)
        sides = [int(n) for n in 100 + random.permutation(80)]
        labels = iter([int(side >= 140) for side in sides])
        found = looks(labels, iter([(side, side) for side in sides]))
        (finding,) = shortcuts(Path(), classified, found)
        assert "gives the class away" in finding.words

    def test_many_cameras_with_a_few_images_each(self, classified: Study) -> None:
        labels = [number // 3 % 2 for number in range(120)]
        cameras = [f"camera {number // 3}" for number in range(120)]
        spread = looks(iter(labels), iter([(32, 32)] * 120), camera=cameras)
        own = [
            Look(
                Sample(x.sample.name, x.sample.image, x.sample.target, x.sample.name),
                shape=x.shape, outside=x.outside, classes=x.classes,
            )
            for x in spread
        ]  # fmt: skip
        (finding,) = shortcuts(Path(), classified, own)
        assert "by a rule over its values (AUC" in finding.words

    def test_frames_of_a_video_are_one_witness(self, classified: Study) -> None:
        """Twelve frames of three videos are three coincidences, and no evidence."""
        labels = [0] * 12 + [1] * 12
        modes = ["RGB"] * 12 + ["L"] * 12
        found = looks(iter(labels), iter([(32, 32)] * 24), mode=modes)
        assert shortcuts(Path(), classified, found) == []

    def test_information(self, classified: Study) -> None:
        labels = [0, 1] * 20
        facts = {"mode": ["a", "b"] * 20, "camera": ["x", "x", "y", "y"] * 10}
        table = fact_table(classified, looks(iter(labels), iter([(32, 32)] * 40), **facts))
        assert [(fact.name, round(fact.information, 2)) for fact in table] == [
            ("mode", 1.0),
            ("camera", 0.0),
        ]
