"""No image on two sides, the same split from the same seed, and lists where they are given."""

import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from raysearch.config import DataConfig
from raysearch.data.samples import Sample
from raysearch.data.splits import Splits, rarest_classes, read_splits, split
from raysearch.errors import DataError
from tests.data.voc_miniature import config


def make(count: int, part: str | None, folder: str = "a", group: str = "") -> list[Sample]:
    return [
        Sample(name, Path(folder) / name, Path("masks") / name, group or name, part)
        for name in (f"{folder}/{part}{number:03d}" for number in range(count))
    ]


def unique(samples: Sequence[Sample]) -> dict[str, str]:
    return {sample.name: sample.name for sample in samples}


def run(
    samples: list[Sample], same: Sequence[Sequence[str]] = (), seed: int = 0, **values: object
) -> Splits:
    digests = unique(samples)
    for names in same:
        digests |= dict.fromkeys(names, names[0])
    return split(samples, digests, config(**values), seed)


def names(samples: Sequence[Sample]) -> tuple[str, ...]:
    return tuple(sample.name for sample in samples)


class TestHonest:
    def test_validation_list_becomes_the_test_split(self) -> None:
        train, val = make(50, "train"), make(20, "val")
        parts = run([*train, *val])
        assert parts.test == names(val)
        assert len(parts.val) == 10
        assert sorted((*parts.train, *parts.val)) == list(names(train))
        assert parts.mode == "honest"

    def test_three_lists_stay(self) -> None:
        lists = [make(count, part) for count, part in ((9, "train"), (4, "val"), (5, "test"))]
        parts = run([sample for part in lists for sample in part])
        assert (parts.train, parts.val, parts.test) == tuple(map(names, lists))

    def test_test_list_alone(self) -> None:
        parts = run([*make(20, "train"), *make(5, "test")])
        assert (len(parts.train), len(parts.val), len(parts.test)) == (16, 4, 5)

    def test_no_lists(self) -> None:
        parts = run(make(100, None), validation_fraction=0.25, test_fraction=0.2)
        assert (len(parts.train), len(parts.val), len(parts.test)) == (60, 20, 20)

    def test_every_folder_gives_its_share(self) -> None:
        parts = run([*make(40, "train", "a"), *make(10, "train", "b"), *make(5, "val", "a")])
        assert sum(name.startswith("a") for name in parts.val) == 8
        assert sum(name.startswith("b") for name in parts.val) == 2

    def test_strata_come_before_folders(self) -> None:
        samples = make(40, None)
        strata = {sample.name: str(number % 4 == 0) for number, sample in enumerate(samples)}
        parts = split(samples, unique(samples), config(), 0, strata)
        for part, rare in ((parts.val, 2), (parts.test, 2)):
            assert sum(strata[name] == "True" for name in part) == rare

    def test_strata_are_the_rarest_classes(self) -> None:
        held = np.array([[1, 1, 0], [1, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 0]], dtype=bool)
        assert rarest_classes("abcde", held) == {"a": "1", "b": "0", "c": "2", "d": "0", "e": "1"}
        assert rarest_classes([], held[:0]) == {}

    def test_duplicate_of_a_test_image_leaves_the_training_list(self) -> None:
        train, val = make(10, "train"), make(4, "val")
        parts = run([*train, *val], same=[(train[3].name, val[1].name)])
        assert parts.dropped == (train[3].name,)
        assert val[1].name in parts.test
        assert train[3].name not in (*parts.train, *parts.val)

    @pytest.mark.parametrize("seed", range(5))
    def test_duplicates_and_groups_stay_together(self, seed: int) -> None:
        scenes = [make(4, None, "a", f"scene {n}") for n in range(10)]
        samples = [
            Sample(f"{s.group}/{s.name}", s.image, s.target, s.group, s.split)
            for scene in scenes
            for s in scene
        ]
        twins = (samples[0].name, samples[-1].name)
        parts = run(samples, same=[twins], seed=seed)
        side = {name: part for part in ("train", "val", "test") for name in getattr(parts, part)}
        assert len(side) == len(samples)
        for scene in range(10):
            assert len({side[s.name] for s in samples[4 * scene : 4 * scene + 4]}) == 1
        assert side[twins[0]] == side[twins[1]]

    def test_seed_decides_and_order_does_not(self) -> None:
        samples = make(50, None)
        shuffled = random.Random(1).sample(samples, len(samples))
        assert run(samples) == run(shuffled)
        assert run(samples).val != split(samples, unique(samples), config(), 1).val

    def test_too_few_images(self) -> None:
        with pytest.raises(DataError, match="the val split is empty"):
            run(make(2, None))


class TestOfficial:
    data: DataConfig = config(splits="official")

    def test_lists_as_they_are(self) -> None:
        train, val = make(10, "train"), make(4, "val")
        parts = run([*train, *val], same=[(train[3].name, val[1].name)], splits="official")
        assert (parts.train, parts.val, parts.test) == (names(train), names(val), ())
        assert parts.dropped == ()

    def test_without_lists(self) -> None:
        with pytest.raises(DataError, match="official splits need a training list"):
            run(make(10, None), splits="official")


def test_written_and_read_again(tmp_path: Path) -> None:
    parts = run(make(20, None))
    (tmp_path / "splits.json").write_text(parts.to_json())
    assert read_splits(tmp_path / "splits.json") == parts


@pytest.mark.parametrize("text", ["", "[]", '{"train": 3}', '{"trains": []}'])
def test_unreadable_splits(tmp_path: Path, text: str) -> None:
    (tmp_path / "splits.json").write_text(text)
    with pytest.raises(DataError, match="not readable as splits"):
        read_splits(tmp_path / "splits.json")
