"""The generated animals: the true layout, the same pixels from a seed, and no shortcut."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.config import DataConfig
from raysearch.data import open_data
from raysearch.data.formats.voc import Format
from raysearch.data.sample import animals, generate, generators
from raysearch.errors import DataError

DATA = DataConfig(format="voc", classes=animals.CLASSES)


@pytest.fixture(scope="module")
def small() -> pytest.MonkeyPatch:
    """Fewer images of each class."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(animals, "COUNTS", {"train": 3, "val": 1, "test": 1})
        yield patch


@pytest.fixture(scope="module")
def root(small: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate("animals", tmp_path_factory.mktemp("sample"), seed=0)


def test_is_a_data_set_of_the_study(root: Path, tmp_path: Path) -> None:
    data = open_data(DATA, root, tmp_path, seed=0)
    splits = data.splits
    assert [len(part) for part in (splits.train, splits.val, splits.test)] == [18, 6, 6]
    assert splits.dropped == ()
    assert 0.7 < data.class_frequency[0] < 0.95
    assert (data.class_frequency > 0).all()


def test_each_image_shows_the_class_of_its_folder(root: Path) -> None:
    reader = Format(root, DATA)
    for sample in reader.samples():
        wanted = animals.CLASSES.index(sample.name.split("/")[0])
        mask = reader.target(sample)
        assert set(np.unique(mask).tolist()) == {0, wanted}
        assert 0.01 < (mask == wanted).mean() < 0.6


def test_second_call_leaves_it_as_it_is(root: Path) -> None:
    before = (root / "labelmap.txt").stat().st_mtime_ns
    assert generate("animals", root.parent, seed=0) == root
    assert (root / "labelmap.txt").stat().st_mtime_ns == before


def test_seed_decides(root: Path, small: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def pixels(place: Path) -> bytes:
        return (place / "fox/JPEGImages/00000001.png").read_bytes()

    assert pixels(generate("animals", tmp_path, seed=0)) == pixels(root)
    assert pixels(generate("animals", tmp_path, seed=1)) != pixels(root)


def test_size_does_not_tell_the_class() -> None:
    """Sizes are drawn first, from the same list for each species."""
    shapes = {
        species: {animals.scene(species, np.random.default_rng(seed))[0].shape for seed in range(4)}
        for species in ("cheetah", "wolf")
    }
    assert shapes["cheetah"] == shapes["wolf"]


def test_unknown_sample(tmp_path: Path) -> None:
    assert "animals" in generators()
    with pytest.raises(DataError, match=r"no sample data is called 'animal'\. Did you mean"):
        generate("animal", tmp_path)


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="sample data cannot be written"):
        generate("animals", tmp_path / "file")
