"""The reader of Food-101: what the lists say, oddities that it reads, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from raysearch.data.formats.food101 import Format
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError
from tests.data.food101_miniature import (
    CLASSES,
    SHAPES,
    config,
    pixels,
    write_food101,
    write_list,
    write_odd_food101,
)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_food101(tmp_path / "food")


def change(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


class TestLists:
    def test_every_line_is_a_sample(self, root: Path) -> None:
        samples = Format(root, config()).samples()
        assert len(samples) == 18
        assert samples[0] == Sample(
            "apple_pie/1005649",
            root / "images" / "apple_pie" / "1005649.jpg",
            0,
            "apple_pie/1005649",
            "train",
        )
        splits = [sample.split for sample in samples]
        assert (splits.count("train"), splits.count("test")) == (12, 6)

    def test_ids_follow_the_study(self, root: Path) -> None:
        reader = Format(root, config(classes=("sushi", "apple_pie", "baklava")))
        targets = {sample.name.split("/")[0]: sample.target for sample in reader.samples()}
        assert targets == {"sushi": 0, "apple_pie": 1, "baklava": 2}

    def test_a_class_that_no_list_names(self, root: Path) -> None:
        samples = Format(root, config(classes=("ramen", *CLASSES))).samples()
        assert {sample.target for sample in samples} == {1, 2, 3}

    def test_a_training_list_alone(self, root: Path) -> None:
        (root / "meta" / "test.txt").unlink()
        assert {sample.split for sample in Format(root, config()).samples()} == {"train"}

    def test_other_folders(self, root: Path) -> None:
        (root / "images").rename(root / "pictures")
        options = {"images": "pictures", "lists": "meta"}
        assert len(Format(root, config(options=options)).samples()) == 18


class TestOddities:
    @pytest.fixture
    def reader(self, tmp_path: Path) -> Format:
        return Format(write_odd_food101(tmp_path / "food"), config())

    def difference(self, reader: Format, position: int, expected: np.ndarray) -> float:
        sample = reader.samples()[position]
        image = reader.image(sample)
        assert image.shape == (*reader.shape(sample), 3) == expected.shape
        return float(np.abs(image.astype(int) - expected).mean())

    def test_unlisted_pictures_are_no_samples(self, reader: Format) -> None:
        assert len(reader.samples()) == 18
        assert "sushi/999" not in {sample.name for sample in reader.samples()}

    def test_grey(self, reader: Format) -> None:
        grey = pixels(0) @ [0.299, 0.587, 0.114]
        assert self.difference(reader, 0, np.repeat(grey[..., None], 3, axis=2)) < 4

    def test_cmyk(self, reader: Format) -> None:
        assert self.difference(reader, 1, pixels(1)) < 6

    def test_turned_by_exif(self, reader: Format) -> None:
        assert self.difference(reader, 2, pixels(2)) < 6

    def test_palette_png_named_jpg(self, reader: Format) -> None:
        assert self.difference(reader, 3, pixels(3)) < 12

    def test_rgba_with_another_ending(self, reader: Format) -> None:
        assert self.difference(reader, 6, pixels(100)) == 0

    def test_one_band(self, reader: Format) -> None:
        grey = Format(reader.root, config(bands=1))
        assert grey.image(grey.samples()[1]).shape == (*SHAPES[0], 1)


class TestRefused:
    def test_class_that_the_study_lacks(self, root: Path) -> None:
        message = r"meta has the class 'sushi', which data\.classes lacks\. Did you mean 'sushy'"
        with pytest.raises(DataError, match=message):
            Format(root, config(classes=("apple_pie", "baklava", "sushy"))).samples()

    def test_missing_pictures_are_listed(self, root: Path) -> None:
        for name in ("baklava/1006649", "sushi/1007649"):
            (root / "images" / f"{name}.jpg").unlink()
        with pytest.raises(
            DataError, match=r"2 of 18 listed images(.|\n)*1006649.jpg(.|\n)*1007649"
        ):
            Format(root, config()).samples()

    def test_missing_class_folder(self, root: Path) -> None:
        (root / "images" / "sushi").rename(root / "images" / "sashimi")
        with pytest.raises(DataError, match=r"6 of 18 listed images"):
            Format(root, config()).samples()

    @pytest.mark.parametrize("line", ["sushi", "sushi/a/b", "/1", "sushi/"])
    def test_line_that_is_no_class_and_id(self, root: Path, line: str) -> None:
        write_list(root / "meta" / "test.txt", [line])
        with pytest.raises(DataError, match=rf"test\.txt: '{line}' is not class/id"):
            Format(root, config()).samples()

    def test_picture_in_both_lists(self, root: Path) -> None:
        change(root / "meta" / "test.txt", "sushi/1007717", "sushi/1007649")
        with pytest.raises(DataError, match=r"'sushi/1007649' stands in train\.txt as well"):
            Format(root, config()).samples()

    def test_no_lists(self, root: Path) -> None:
        for split in ("train", "test"):
            (root / "meta" / f"{split}.txt").unlink()
        with pytest.raises(DataError, match="Food-101's lists belong there"):
            Format(root, config()).samples()

    def test_empty_lists(self, root: Path) -> None:
        write_list(root / "meta" / "train.txt", [])
        write_list(root / "meta" / "test.txt", [])
        with pytest.raises(DataError, match="name no image"):
            Format(root, config()).samples()

    def test_no_pictures(self, root: Path) -> None:
        (root / "images").rename(root / "image")
        with pytest.raises(DataError, match=r"images: no such folder"):
            Format(root, config()).samples()

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "the file is empty"), (b"GIF", "not a picture"), (None, "damaged or truncated")],
    )
    def test_damaged_picture(self, root: Path, content: bytes | None, message: str) -> None:
        reader = Format(root, config())
        sample = reader.samples()[0]
        whole = sample.image.read_bytes()
        sample.image.write_bytes(whole[:-100] if content is None else content)
        with pytest.raises(DataError, match=message):
            reader.image(sample)

    def test_bands_that_pictures_do_not_have(self, root: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.bands: 4"):
            Format(root, config(bands=4))


class TestRecognise:
    def test_what_a_first_study_says(self, root: Path) -> None:
        found = Format.recognise(root)
        assert found is not None
        assert found["task"] == "classification"
        assert (found["classes"], found["bands"]) == (list(CLASSES), 3)
        assert len(Format(root, config(classes=found["classes"])).samples()) == 18

    def test_order_of_classes_txt(self, root: Path) -> None:
        write_list(root / "meta" / "classes.txt", ["sushi", "ramen", "apple_pie"])
        found = Format.recognise(root)
        assert found is not None
        assert found["classes"] == ["sushi", "apple_pie", "baklava"]

    def test_other_folders_are_not_this_format(self, root: Path, tmp_path: Path) -> None:
        assert Format.recognise(tmp_path / "nowhere") is None
        assert Format.recognise(root / "images") is None
        (root / "meta" / "train.txt").write_bytes(b"\xff\xfe\xff")
        assert Format.recognise(root) is None
