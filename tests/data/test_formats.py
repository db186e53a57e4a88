"""Every reader meets the same contract, on a miniature in its true format."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raysearch.config import DataConfig
from raysearch.data.formats import Reader, names, reader
from raysearch.errors import ConfigError, DataError
from tests.data import (
    food101_miniature,
    marida_miniature,
    pairs_miniature,
    unity_miniature,
    voc_miniature,
)

MINIATURES: dict[str, tuple[Callable[[Path], Path], DataConfig]] = {
    "class_folders": (
        food101_miniature.write_odd_class_folders,
        food101_miniature.folders_config(),
    ),
    "food101": (food101_miniature.write_odd_food101, food101_miniature.config()),
    "marida": (marida_miniature.write_odd, marida_miniature.config()),
    "pairs": (pairs_miniature.write_odd, pairs_miniature.config()),
    "unity": (unity_miniature.write_odd, unity_miniature.config()),
    "voc": (voc_miniature.write_odd, voc_miniature.config()),
}


def test_every_format_has_a_miniature() -> None:
    assert set(names()) == set(MINIATURES)


@pytest.mark.parametrize("name", names())
class TestReader:
    @pytest.fixture
    def opened(self, name: str, tmp_path: Path) -> Reader:
        write, data = MINIATURES[name]
        return reader(name)(write(tmp_path / "set"), data)

    def test_samples_are_sorted_and_unique(self, opened: Reader) -> None:
        found = [sample.name for sample in opened.samples()]
        assert found == sorted(set(found))
        assert found

    def test_arrays_match_the_header_and_the_classes(self, opened: Reader) -> None:
        classes = range(len(opened.data.classes))
        for sample in opened.samples():
            image = opened.image(sample)
            assert image.dtype == opened.dtype
            assert image.shape == (*opened.shape(sample), opened.data.bands)
            if isinstance(sample.target, int):
                assert sample.target in classes
                continue
            target = opened.target(sample)
            assert target.dtype == np.uint8
            assert target.shape == opened.shape(sample)
            assert set(np.unique(target).tolist()) <= {*classes, opened.data.ignore_index}
            if opened.weighted:
                assert opened.weight(sample).shape == target.shape

    def test_recognised(self, opened: Reader, name: str) -> None:
        found = reader(name).recognise(opened.root)
        assert found is not None
        assert found["bands"] >= 1
        assert len(found["classes"]) >= 2
        assert reader(name).recognise(opened.root / "nowhere") is None

    def test_lists_are_cheap(self, opened: Reader) -> None:
        for sample in opened.samples():
            sample.image.write_bytes(b"")
        assert opened.samples()

    def test_unknown_option(self, opened: Reader, name: str) -> None:
        data = opened.data.model_copy(update={"options": {"no_such_option": 1}})
        with pytest.raises(ConfigError, match=r"data\.options: unknown key 'no_such_option'\."):
            reader(name)(opened.root, data)

    def test_missing_folder(self, opened: Reader, name: str) -> None:
        with pytest.raises(DataError, match="no such folder"):
            reader(name)(opened.root / "nowhere", opened.data)


def test_unknown_format() -> None:
    with pytest.raises(DataError, match=r"no format is called 'vok'\. Did you mean 'voc'\?"):
        reader("vok")
