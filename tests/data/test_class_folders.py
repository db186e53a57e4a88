"""The reader of class folders: layouts that it reads, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data.formats.class_folders import Format
from raysearch.errors import ConfigError, DataError
from tests.data.food101_miniature import (
    CLASSES,
    folders_config,
    pixels,
    save,
    write_class_folders,
    write_food101,
    write_odd_class_folders,
)
from tests.data.voc_miniature import write_odd as write_voc


def names(root: Path, **values: object) -> list[str]:
    return [sample.name for sample in Format(root, folders_config(**values)).samples()]


class TestLayouts:
    def test_a_folder_for_each_class(self, tmp_path: Path) -> None:
        samples = Format(write_class_folders(tmp_path / "set"), folders_config()).samples()
        assert [sample.target for sample in samples] == [0] * 6 + [1] * 6 + [2] * 6
        assert {sample.split for sample in samples} == {None}
        assert samples[0].image == tmp_path / "set" / "apple_pie" / "000.jpg"

    @pytest.mark.parametrize("validation", ["val", "valid", "Validation"])
    def test_split_folders_above(self, tmp_path: Path, validation: str) -> None:
        for split in ("train", validation, "test"):
            write_class_folders(tmp_path / "set", split, count=2)
        samples = Format(tmp_path / "set", folders_config()).samples()
        for split in ("train", "val", "test"):
            assert [s.target for s in samples if s.split == split] == [0, 0, 1, 1, 2, 2]

    def test_a_class_that_is_called_train(self, tmp_path: Path) -> None:
        root = write_class_folders(tmp_path / "set")
        (root / "sushi").rename(root / "train")
        assert "train/000.jpg" in names(root, classes=("apple_pie", "baklava", "train"))

    def test_ids_follow_the_study(self, tmp_path: Path) -> None:
        root = write_class_folders(tmp_path / "set")
        reader = Format(root, folders_config(classes=("sushi", "baklava", "apple_pie")))
        assert reader.samples()[0].target == 2

    def test_a_class_without_a_picture(self, tmp_path: Path) -> None:
        """A study's classes keep their ids where a later folder lacks one of them."""
        root = write_class_folders(tmp_path / "set")
        (root / "baklava" / "ramen").mkdir()
        reader = Format(root, folders_config(classes=("ramen", *CLASSES)))
        assert {sample.target for sample in reader.samples()} == {1, 2, 3}


class TestOddities:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_odd_class_folders(tmp_path / "set")

    def test_folders_below_and_one_name_with_two_endings(self, root: Path) -> None:
        found = names(root)
        assert len(found) == 22
        assert {"sushi/evening/000.jpg", "sushi/000.jpg", "sushi/000.png"} <= set(found)

    def test_alpha_and_grey(self, root: Path) -> None:
        reader = Format(root, folders_config())
        samples = {sample.name: sample for sample in reader.samples()}
        np.testing.assert_array_equal(reader.image(samples["baklava/alpha.png"]), pixels(53))
        grey = reader.image(samples["sushi/000.png"])
        np.testing.assert_array_equal(grey[..., 0], grey[..., 2])

    def test_folders_below_as_groups(self, root: Path) -> None:
        reader = Format(root, folders_config(options={"groups": "folder"}))
        groups = {sample.name: sample.group for sample in reader.samples()}
        assert groups["sushi/evening/000.jpg"] == groups["sushi/evening/001.jpg"] == "sushi/evening"
        assert groups["sushi/000.jpg"] == "sushi/000.jpg"

    def test_every_picture_by_itself_otherwise(self, root: Path) -> None:
        samples = Format(root, folders_config()).samples()
        assert len({sample.group for sample in samples}) == len(samples)


class TestRefused:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_class_folders(tmp_path / "set")

    def test_folder_that_the_study_lacks(self, root: Path) -> None:
        message = r"has the class 'baklava', which data\.classes lacks\. Did you mean 'baklawa'"
        with pytest.raises(DataError, match=message):
            names(root, classes=("apple_pie", "baklawa", "sushi"))

    def test_folders_that_are_all_of_other_classes(self, root: Path) -> None:
        with pytest.raises(
            DataError, match=r"has the class 'apple_pie', which data\.classes lacks"
        ):
            names(root, classes=("cat", "dog"))

    def test_class_folder_beside_split_folders(self, root: Path) -> None:
        write_class_folders(root, "train")
        with pytest.raises(DataError, match="either split folders or class folders"):
            names(root)

    def test_picture_outside_of_the_class_folders(self, root: Path) -> None:
        save(root / "lost.png", Image.fromarray(pixels(1)))
        with pytest.raises(DataError, match=r"lost\.png: a picture outside of every class folder"):
            names(root)

    def test_picture_outside_of_the_class_folders_of_a_split(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, "train")
        save(tmp_path / "train" / "lost.png", Image.fromarray(pixels(1)))
        with pytest.raises(DataError, match=r"lost\.png: a picture outside of every class folder"):
            names(tmp_path)

    def test_no_training_folder(self, tmp_path: Path) -> None:
        write_class_folders(tmp_path, "test")
        with pytest.raises(DataError, match="train: no such folder, but test is there"):
            names(tmp_path)

    def test_two_names_of_one_split(self, tmp_path: Path) -> None:
        for split in ("train", "val", "valid"):
            write_class_folders(tmp_path, split, count=1)
        with pytest.raises(DataError, match="valid and val are both val"):
            names(tmp_path)

    def test_no_pictures(self, tmp_path: Path) -> None:
        (tmp_path / "a").mkdir()
        with pytest.raises(DataError, match="no folder with pictures"):
            names(tmp_path)

    def test_bands_that_pictures_do_not_have(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.bands: 12"):
            names(root, bands=12)


class TestRecognise:
    def test_class_folders(self, tmp_path: Path) -> None:
        found = Format.recognise(write_odd_class_folders(tmp_path / "set"))
        assert found == {
            "classes": list(CLASSES), "bands": 3, "options": {}, "task": "classification"
        }  # fmt: skip

    def test_split_folders_and_grey(self, tmp_path: Path) -> None:
        for split in ("train", "test"):
            for class_ in ("cat", "dog"):
                picture = Image.fromarray(pixels(1)).convert("L")
                save(tmp_path / split / class_ / "1.png", picture)
        found = Format.recognise(tmp_path)
        assert found is not None
        assert (found["classes"], found["bands"]) == (["cat", "dog"], 1)

    def test_sets_of_other_formats(self, tmp_path: Path) -> None:
        for part in ("images", "labels"):
            save(tmp_path / "pairs" / part / "1.png", Image.fromarray(pixels(1)))
        for number in range(2):
            save(tmp_path / "solo" / f"sequence.{number}" / "a.png", Image.fromarray(pixels(1)))
            (tmp_path / "solo" / f"sequence.{number}" / "step0.frame_data.json").write_text("{}")
        others = [
            write_food101(tmp_path / "food"),
            write_voc(tmp_path / "voc"),
            tmp_path / "pairs",
            tmp_path / "solo",
            tmp_path / "nowhere",
        ]
        assert [Format.recognise(folder) for folder in others] == [None] * 5
