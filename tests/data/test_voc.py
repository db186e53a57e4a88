"""The VOC reader: oddities that it reads, and bad input that it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data import open_data
from raysearch.data.formats.voc import Format, standard_palette
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError
from tests.data.voc_miniature import (
    CLASSES,
    COLOURS,
    SHAPES,
    VOID,
    coloured,
    config,
    random_image,
    random_mask,
    standard,
    with_palette,
    write_labelmap,
    write_lists,
    write_root,
)


def named(reader: Format, name: str) -> Sample:
    return next(sample for sample in reader.samples() if sample.name == name)


def opened(root: Path, tmp_path: Path, **values: object) -> None:
    open_data(config(**values), root, tmp_path / "cache", seed=0)


class TestOddities:
    @pytest.fixture
    def reader(self, odd_root: Path) -> Format:
        return Format(odd_root, config())

    def test_names_repeat_from_class_to_class(self, reader: Format) -> None:
        assert {"cat/000", "dog/000"} <= {sample.name for sample in reader.samples()}

    def test_blank_lines_in_lists(self, reader: Format) -> None:
        splits = [sample.split for sample in reader.samples()]
        assert (splits.count("train"), splits.count("val")) == (12, 4)

    def test_alpha_is_dropped(self, reader: Format) -> None:
        image = reader.image(named(reader, "cat/000"))
        np.testing.assert_array_equal(image, random_image(SHAPES[0], 0))

    def test_palette_image_with_transparency(self, reader: Format) -> None:
        assert reader.image(named(reader, "cat/001")).std() > 10

    def test_grey_jpeg(self, reader: Format) -> None:
        image = reader.image(named(reader, "cat/002"))
        np.testing.assert_array_equal(image[..., 0], image[..., 2])

    def test_photograph_is_turned_upright(self, reader: Format) -> None:
        image = reader.image(named(reader, "cat/003")).astype(int)
        assert np.abs(image - random_image(SHAPES[0], 3)).mean() < 10

    @pytest.mark.parametrize("name", ["cat/000", "cat/001", "dog/001", "dog/007"])
    def test_masks(self, reader: Format, name: str) -> None:
        mask = reader.target(named(reader, name))
        class_id = CLASSES.index(name.split("/")[0])
        np.testing.assert_array_equal(mask, random_mask(mask.shape, class_id))

    def test_one_band(self, odd_root: Path) -> None:
        reader = Format(odd_root, config(bands=1))
        assert reader.image(named(reader, "cat/000")).shape == (*SHAPES[0], 1)

    def test_bands_that_pictures_do_not_have(self, odd_root: Path) -> None:
        with pytest.raises(ConfigError, match=r"data\.bands: 12"):
            Format(odd_root, config(bands=12))


class TestMaskValues:
    """The same mask written in the ways that VOC sets use."""

    mask = random_mask(SHAPES[0], 2)

    def read(self, root: Path, picture: Image.Image, **values: object) -> np.ndarray:
        write_root(root, [2])
        write_lists(root, train=["000"])
        picture.save(root / "SegmentationClass" / "000.png")
        reader = Format(root, config(**values))
        return reader.target(reader.samples()[0])

    def test_standard_palette(self, tmp_path: Path) -> None:
        np.testing.assert_array_equal(self.read(tmp_path / "r", standard(self.mask)), self.mask)

    def test_standard_colours(self, tmp_path: Path) -> None:
        picture = standard(self.mask).convert("RGB")
        np.testing.assert_array_equal(self.read(tmp_path / "r", picture), self.mask)

    def test_grey_index(self, tmp_path: Path) -> None:
        picture = Image.fromarray(self.mask)
        np.testing.assert_array_equal(self.read(tmp_path / "r", picture), self.mask)

    def test_16_bit_index(self, tmp_path: Path) -> None:
        picture = Image.fromarray(self.mask.astype(np.uint16))
        np.testing.assert_array_equal(self.read(tmp_path / "r", picture), self.mask)

    def test_alpha(self, tmp_path: Path) -> None:
        picture = standard(self.mask).convert("RGBA")
        np.testing.assert_array_equal(self.read(tmp_path / "r", picture), self.mask)

    def test_another_ignore_index(self, tmp_path: Path) -> None:
        mask = self.read(tmp_path / "r", standard(self.mask), ignore_index=100)
        np.testing.assert_array_equal(mask, np.where(self.mask == 255, 100, self.mask))

    def test_index_in_spite_of_a_labelmap(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        write_labelmap(tmp_path / "r")
        picture = with_palette(self.mask, {})
        mask = self.read(tmp_path / "r", picture, options={"mask_values": "index"})
        np.testing.assert_array_equal(mask, self.mask)

    def test_palette_colours_of_no_class(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        write_labelmap(tmp_path / "r")
        colours = {0: COLOURS["background"], 2: (1, 2, 3), 255: VOID}
        with pytest.raises(DataError, match=r"no class has the colour \(1, 2, 3\) on 224 pixels"):
            self.read(tmp_path / "r", with_palette(self.mask, colours))


def test_standard_palette_is_voc_s() -> None:
    palette = standard_palette(21)
    assert palette[1] == (128, 0, 0)
    assert palette[15] == (192, 128, 128)
    assert palette[20] == (0, 64, 128)


def test_no_lists_names_every_image(tmp_path: Path) -> None:
    write_root(tmp_path / "r", [1, 2])
    write_labelmap(tmp_path / "r")
    samples = Format(tmp_path / "r", config()).samples()
    assert [(sample.name, sample.split) for sample in samples] == [("000", None), ("001", None)]


def test_other_folder_names(tmp_path: Path) -> None:
    root = tmp_path / "r"
    write_root(root, [1])
    write_labelmap(root)
    (root / "JPEGImages").rename(root / "photographs")
    reader = Format(root, config(options={"images": "photographs"}))
    assert reader.samples()[0].image.parent.name == "photographs"


class TestBadInput:
    """Each is one clear error, and no cache is left behind."""

    def refused(self, root: Path, tmp_path: Path, match: str, **values: object) -> str:
        with pytest.raises(DataError, match=match) as caught:
            opened(root, tmp_path, **values)
        left = tmp_path / "cache"
        assert [path for path in left.glob("*") if path.suffix != ".lock"] == []
        return str(caught.value)

    def test_no_root(self, tmp_path: Path) -> None:
        (tmp_path / "r").mkdir()
        self.refused(tmp_path / "r", tmp_path, "neither a VOC root nor a folder of VOC roots")

    def test_missing_masks_folder(self, plain_copy: Path, tmp_path: Path) -> None:
        (plain_copy / "SegmentationClass").rename(plain_copy / "masks")
        self.refused(plain_copy, tmp_path, "SegmentationClass: no such folder")

    def test_missing_list(self, plain_copy: Path, tmp_path: Path) -> None:
        (plain_copy / "ImageSets/Segmentation/train.txt").unlink()
        self.refused(plain_copy, tmp_path, r"train\.txt: no such list, but val\.txt exists")

    def test_list_that_one_class_lacks(self, tmp_path: Path) -> None:
        for name in ("cat", "dog"):
            names = write_root(tmp_path / "r" / name, [1, 1])
            write_lists(tmp_path / "r" / name, train=names)
        write_lists(tmp_path / "r" / "cat", val=["001"], train=["000"])
        write_labelmap(tmp_path / "r")
        message = r"dog/ImageSets/Segmentation/val\.txt: no such list"
        self.refused(tmp_path / "r", tmp_path, message)

    def test_name_in_two_lists(self, plain_copy: Path, tmp_path: Path) -> None:
        write_lists(plain_copy, val=["000"])
        self.refused(plain_copy, tmp_path, r"val\.txt: '000' stands in train\.txt as well")

    def test_empty_list(self, plain_copy: Path, tmp_path: Path) -> None:
        write_lists(plain_copy, test=[])
        open_data(config(), plain_copy, tmp_path / "cache", seed=0)
        write_lists(plain_copy, val=[], test=[])
        with pytest.raises(DataError, match="official splits need"):
            opened(plain_copy, tmp_path, splits="official")

    def test_listed_images_that_are_missing(self, plain_copy: Path, tmp_path: Path) -> None:
        (plain_copy / "JPEGImages/001.png").unlink()
        (plain_copy / "SegmentationClass/004.png").unlink()
        message = self.refused(plain_copy, tmp_path, "2 of 12 listed images cannot be used")
        assert "JPEGImages/001: no such file" in message
        assert "SegmentationClass/004: no such file" in message

    def test_all_damaged_files_are_listed(self, plain_copy: Path, tmp_path: Path) -> None:
        images = plain_copy / "JPEGImages"
        whole = (images / "000.png").read_bytes()
        (images / "000.png").write_bytes(whole[: len(whole) // 2])
        (images / "001.png").write_bytes(b"")
        (images / "002.png").write_bytes(b"not a picture")
        Image.new("RGB", (10, 10)).save(images / "003.png")
        mask = random_mask(SHAPES[1], 1)
        strange = coloured(mask)
        strange[0, :5] = (9, 8, 7)
        Image.fromarray(strange).save(plain_copy / "SegmentationClass/004.png")
        Image.fromarray(np.full(SHAPES[2], 77, np.uint8)).save(
            plain_copy / "SegmentationClass/005.png"
        )
        message = self.refused(plain_copy, tmp_path, "6 of 12 images cannot be used")
        for part in (
            "000.png: damaged or truncated",
            "001.png: the file is empty",
            "002.png: not a picture",
            "003.png: 10x10 pixels, but its mask has 48x40",
            "004.png: no class has the colour (9, 8, 7) on 5 pixels",
            "005.png: no class has the id 77 on 1296 pixels",
        ):
            assert part in message

    def test_long_lists_of_damage_are_cut(self, tmp_path: Path) -> None:
        root = tmp_path / "r"
        write_root(root, [1] * 25)
        for path in (root / "JPEGImages").iterdir():
            path.write_bytes(b"")
        message = self.refused(root, tmp_path, "25 of 25 images")
        assert message.count("the file is empty") == 20
        assert "and 5 more" in message

    def test_absurd_size_is_seen_in_the_header(self, plain_copy: Path, tmp_path: Path) -> None:
        Image.new("1", (20_000, 20_000)).save(plain_copy / "JPEGImages/000.png")
        message = r"000\.png: 20000x20000 pixels are more than data\.max_pixels \(100000000\)"
        self.refused(plain_copy, tmp_path, message)

    def test_labelmap_without_a_class(self, plain_copy: Path, tmp_path: Path) -> None:
        text = (plain_copy / "labelmap.txt").read_text().replace("dog", "dogs")
        (plain_copy / "labelmap.txt").write_text(text)
        self.refused(plain_copy, tmp_path, r"labelmap\.txt: no class is called 'dog'\. Did you")

    def test_labelmap_that_is_no_labelmap(self, plain_copy: Path, tmp_path: Path) -> None:
        (plain_copy / "labelmap.txt").write_text("background\n")
        self.refused(plain_copy, tmp_path, r"labelmap\.txt:1: 'background' is not name:red")

    def test_labelled_class_that_the_study_lacks(self, plain_copy: Path, tmp_path: Path) -> None:
        data = config().model_copy(update={"classes": ("background", "cat")})
        with pytest.raises(DataError, match=r"no class has the colour \(32, 128, 224\)"):
            open_data(data, plain_copy, tmp_path / "cache", seed=0)

    def test_two_images_of_one_name(self, plain_copy: Path, tmp_path: Path) -> None:
        Image.new("RGB", (10, 10)).save(plain_copy / "JPEGImages/000.jpg")
        self.refused(plain_copy, tmp_path, r"000\.png and 000\.jpg have one name")

    def test_cache_folder_that_cannot_be_written(self, plain_copy: Path, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(DataError, match=r"cannot be written .*resources\.cache"):
            open_data(config(), plain_copy, tmp_path / "file", seed=0)
