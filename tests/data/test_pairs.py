"""The pairs reader: layouts, depths, bands, masks in every form, and bad input."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from raysearch.config import DataConfig
from raysearch.data import open_data, settled
from raysearch.data.cache import data_digest
from raysearch.data.formats.pairs import Format
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError
from tests.data.pairs_miniature import (
    NO_DATA,
    SHAPE,
    config,
    odd_image,
    plain,
    random_bands,
    random_mask,
    write_mask,
    write_odd,
    write_plain,
    write_tif,
)


def named(reader: Format, name: str) -> Sample:
    return next(sample for sample in reader.samples() if sample.name == name)


class TestOddities:
    @pytest.fixture
    def reader(self, tmp_path: Path) -> Format:
        return Format(write_odd(tmp_path / "r"), config())

    def test_splits_are_the_folders(self, reader: Format) -> None:
        splits = [sample.split for sample in reader.samples()]
        assert [splits.count(name) for name in ("train", "val", "test")] == [6, 2, 2]
        assert {"train/0", "train/deep/5", "val/6"} <= {sample.name for sample in reader.samples()}

    def test_missing_values_are_nan(self, reader: Format) -> None:
        image = reader.image(named(reader, "train/deep/5"))
        stored = odd_image(5)
        assert image.dtype == reader.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(image), stored == NO_DATA)
        np.testing.assert_array_equal(image[stored != NO_DATA], stored[stored != NO_DATA])

    @pytest.mark.parametrize("number", [0, 2, 3, 4])
    def test_masks(self, reader: Format, number: int) -> None:
        """As GeoTIFF that declares its background missing, of one bit, grey in colour, plain."""
        mask = reader.target(named(reader, f"train/{number}"))
        np.testing.assert_array_equal(mask, random_mask(number))

    def test_mask_of_16_bits_with_ignored_pixels(self, reader: Format) -> None:
        wanted = random_mask(1)
        wanted[0, :5] = 255
        np.testing.assert_array_equal(reader.target(named(reader, "train/1")), wanted)

    def test_through_the_cache(self, tmp_path: Path) -> None:
        data = open_data(config(), write_odd(tmp_path / "r"), tmp_path / "cache", seed=0)
        cache = data.cache
        at = cache.names.index("val/6")
        assert not np.isnan(cache.image(at)).any()
        assert cache.mask(at)[1, 1] == 255
        assert cache.no_data[at] == pytest.approx(5 / (4 * SHAPE[0] * SHAPE[1]))


class TestImages:
    """The same pixels in the depths and endings that sets use."""

    def read(
        self, root: Path, pixels: np.ndarray, options: dict[str, Any] | None = None, **values: Any
    ) -> np.ndarray:
        write_tif(root / "images" / "a.tif", pixels)
        write_mask(root / "masks" / "a.png", random_mask(0))
        data = plain(**{"bands": pixels.shape[2], "options": options or {}, **values})
        reader = Format(root, data)
        image = reader.image(reader.samples()[0])
        assert image.dtype == reader.dtype
        return image

    @pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
    def test_depths(self, tmp_path: Path, dtype: str) -> None:
        pixels = random_bands(6, 0, dtype)
        read = self.read(tmp_path / "r", pixels)
        assert read.dtype == dtype
        np.testing.assert_array_equal(read, pixels)

    def test_bands_are_picked(self, tmp_path: Path) -> None:
        pixels = random_bands(6, 0)
        read = self.read(tmp_path / "r", pixels, {"bands": [4, 1]}, bands=2)
        np.testing.assert_array_equal(read, pixels[..., [3, 0]])

    def test_one_grey_band_may_be_repeated(self, tmp_path: Path) -> None:
        pixels = random_bands(1, 0, "uint16")
        read = self.read(tmp_path / "r", pixels, {"bands": [1, 1, 1]}, bands=3)
        np.testing.assert_array_equal(read, np.repeat(pixels, 3, axis=2))

    def test_four_bands_of_8_bits(self, tmp_path: Path) -> None:
        pixels = random_bands(4, 0, "uint8")
        np.testing.assert_array_equal(self.read(tmp_path / "r", pixels), pixels)

    def test_photographs_of_every_mode(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 4)
        pixels = random_bands(3, 9, "uint8")
        alpha = np.dstack([pixels, pixels[..., 0]])
        Image.fromarray(alpha).save(root / "images/000.png")
        Image.fromarray(pixels[..., 0]).save(root / "images/001.png")
        (root / "images/002.png").unlink()
        exif = Image.Exif()
        exif[0x0112] = 6
        turned = Image.fromarray(np.rot90(pixels).copy())
        turned.save(root / "images/002.jpg", exif=exif, quality=100, subsampling=0)
        reader = Format(root, plain())
        images = [reader.image(sample) for sample in reader.samples()]
        np.testing.assert_array_equal(images[0], pixels)
        np.testing.assert_array_equal(images[1], np.repeat(pixels[..., :1], 3, axis=2))
        assert images[2].shape == (*reader.shape(reader.samples()[2]), 3) == (*SHAPE, 3)
        assert np.abs(images[2].astype(int) - pixels).mean() < 25

    @pytest.mark.parametrize(("count", "dtype"), [(2, "int16"), (3, "uint8"), (1, "uint8")])
    def test_declared_missing_values(self, tmp_path: Path, count: int, dtype: str) -> None:
        root = tmp_path / "r"
        pixels = random_bands(count, 0, dtype)
        pixels[0, 0] = 7
        write_tif(root / "images" / "a.tif", pixels, nodata=7)
        write_mask(root / "masks" / "a.png", random_mask(0))
        reader = Format(root, plain(bands=count))
        assert reader.dtype == np.float32
        assert np.isnan(reader.image(reader.samples()[0])[0, 0]).all()

    def test_one_number_is_a_list_of_missing_values(self, tmp_path: Path) -> None:
        pixels = random_bands(2, 0)
        pixels[0, 0, 0] = -5
        read = self.read(tmp_path / "r", pixels, {"nodata": -5})
        assert np.isnan(read).sum() == (pixels == -5).sum()


class TestMasks:
    def read(self, root: Path, masks: list[np.ndarray], **values: Any) -> np.ndarray:
        """Return the first of the masks as it is read."""
        for number, mask in enumerate(masks):
            write_tif(root / "images" / f"{number}.tif", random_bands(3, number, "uint8"))
            write_mask(root / "masks" / f"{number}.png", mask)
        reader = Format(root, plain(**values))
        return reader.target(reader.samples()[0])

    def test_black_and_white(self, tmp_path: Path) -> None:
        read = self.read(tmp_path / "r", [random_mask(0, 255), random_mask(1, 0)])
        np.testing.assert_array_equal(read, random_mask(0))

    def test_white_is_ignored_where_other_masks_have_a_one(self, tmp_path: Path) -> None:
        read = self.read(tmp_path / "r", [random_mask(0, 255), random_mask(1)])
        np.testing.assert_array_equal(read, random_mask(0, 255))

    def test_ids_of_several_classes(self, tmp_path: Path) -> None:
        classes = ("background", "tree", "house")
        read = self.read(tmp_path / "r", [random_mask(0, 2)], classes=classes)
        np.testing.assert_array_equal(read, random_mask(0, 2))

    def test_named_values(self, tmp_path: Path) -> None:
        mask = random_mask(0, 77)
        mask[0] = 9
        options = {"mask_values": {0: "background", 77: "water", 9: None}}
        read = self.read(tmp_path / "r", [mask], options=options)
        wanted = random_mask(0)
        wanted[0] = 255
        np.testing.assert_array_equal(read, wanted)

    def test_colours(self, tmp_path: Path) -> None:
        table = np.zeros((3, 3), dtype=np.uint8)
        table[1:] = (0, 0, 200), (9, 9, 9)
        mask = random_mask(0)
        mask[0] = 2
        colours = {"background": [0, 0, 0], "water": [0, 0, 200], None: [9, 9, 9]}
        read = self.read(tmp_path / "r", [table[mask]], options={"colours": colours})
        np.testing.assert_array_equal(read, np.where(mask == 2, 255, mask))

    def test_another_ignore_index(self, tmp_path: Path) -> None:
        mask = random_mask(0)
        mask[0] = 255
        read = self.read(tmp_path / "r", [mask], ignore_index=100)
        np.testing.assert_array_equal(read[0], 100)

    def test_colours_without_names(self, tmp_path: Path) -> None:
        mask = np.dstack([random_mask(0), random_mask(1), random_mask(2)])
        with pytest.raises(DataError, match=r"0\.png: a coloured mask; name the classes' colours"):
            self.read(tmp_path / "r", [mask])

    def test_unknown_colour(self, tmp_path: Path) -> None:
        mask = np.dstack([random_mask(0), random_mask(0, 2), random_mask(0, 3)])
        colours = {"background": [0, 0, 0], "water": [0, 0, 200]}
        with pytest.raises(DataError, match=r"no class has the value \(1, 2, 3\) on 99 pixels"):
            self.read(tmp_path / "r", [mask], options={"colours": colours})


class TestWhite:
    """Whether 255 is the second class of two is decided by all masks, and once for a study."""

    def write(self, root: Path, *values: int) -> Path:
        for number, value in enumerate(values):
            write_tif(root / "images" / f"{number:03d}.tif", random_bands(3, number, "uint8"))
            write_mask(root / "masks" / f"{number:03d}.png", random_mask(number, value))
        return root

    def first(self, root: Path, data: DataConfig) -> np.ndarray:
        reader = Format(root, data)
        return reader.target(reader.samples()[0])

    def test_one_mask_of_many_has_a_one(self, tmp_path: Path) -> None:
        values = [255] * 130
        for place in range(130):
            root = tmp_path / "r"
            if place not in (1, 127):
                continue
            self.write(root, *values[:place], 1, *values[place + 1 :])
            np.testing.assert_array_equal(self.first(root, plain()), random_mask(0, 255))

    def test_a_study_settles_it_for_other_folders(self, tmp_path: Path) -> None:
        ids, white = self.write(tmp_path / "a", 255, 1), self.write(tmp_path / "b", 255, 255)
        assert settled(plain(), white).options["mask_values"] == {0: "background", 255: "water"}
        study = settled(plain(options={"group": "(.*)"}), ids)
        assert study.options == {"group": "(.*)", "mask_values": {0: "background", 1: "water"}}
        np.testing.assert_array_equal(self.first(white, plain()), random_mask(0))
        np.testing.assert_array_equal(self.first(white, study), random_mask(0, 255))
        np.testing.assert_array_equal(self.first(ids, settled(plain(), white)), random_mask(0))

    def test_what_is_settled_names_the_same_cache(self, tmp_path: Path) -> None:
        root = self.write(tmp_path / "r", 255, 0)
        readers = [Format(root, data) for data in (plain(), settled(plain(), root))]
        assert len({data_digest(reader, reader.samples()) for reader in readers}) == 1

    def test_what_masks_do_not_tell_stays(self, tmp_path: Path) -> None:
        root = self.write(tmp_path / "r", 1, 2)
        for data in (
            plain(classes=("background", "tree", "house")),
            plain(options={"mask_values": {0: "water", 1: None}}),
            plain(options={"colours": {"background": [0, 0, 0], "water": [9, 9, 9]}}),
        ):
            assert settled(data, root) == data

    def test_damaged_masks_are_told_of_later(self, tmp_path: Path) -> None:
        root = self.write(tmp_path / "r", 255, 255)
        (root / "masks" / "001.png").write_bytes(b"")
        np.testing.assert_array_equal(self.first(root, plain()), random_mask(0))


class TestLayout:
    @pytest.mark.parametrize("names", [("imgs", "labels"), ("Image", "GT")])
    def test_usual_names(self, tmp_path: Path, names: tuple[str, str]) -> None:
        root = write_plain(tmp_path / "r")
        (root / "images").rename(root / names[0])
        (root / "masks").rename(root / names[1])
        assert len(Format(root, plain()).samples()) == 12

    def test_named_folders(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r")
        (root / "images").rename(root / "x")
        (root / "masks").rename(root / "y")
        (root / "labels").mkdir()
        options = {"images": "x", "masks": "y"}
        assert len(Format(root, plain(options=options)).samples()) == 12

    def test_lists_with_and_without_endings(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 4)
        (root / "lists").mkdir()
        (root / "lists/train.txt").write_text("000.png\n001\n\n", encoding="utf-8")
        (root / "lists/val.txt").write_text("003\n", encoding="utf-8")
        samples = Format(root, plain(options={"lists": "lists"})).samples()
        assert [(s.name, s.split) for s in samples] == [
            *(("000", "train"), ("001", "train"), ("003", "val"))
        ]

    def test_split_folders_below_the_images(self, tmp_path: Path) -> None:
        root = tmp_path / "r"
        for number, split in enumerate(("train", "valid")):
            write_tif(root / "images" / split / "a.tif", random_bands(3, number, "uint8"))
            write_mask(root / "masks" / split / "a.png", random_mask(0))
        samples = Format(root, plain()).samples()
        assert [(s.name, s.split) for s in samples] == [("train/a", "train"), ("valid/a", "val")]

    def test_groups(self, tmp_path: Path) -> None:
        root = tmp_path / "r"
        for name in ("lake_1", "lake_2", "sea_1"):
            write_tif(root / "images" / f"{name}.tif", random_bands(3, 0, "uint8"))
            write_mask(root / "masks" / f"{name}.png", random_mask(0))
        samples = Format(root, plain(options={"group": "^([a-z]+)_"})).samples()
        assert [sample.group for sample in samples] == ["lake", "lake", "sea"]
        with pytest.raises(DataError, match=r"'lake_1' does not match data\.options\.group"):
            Format(root, plain(options={"group": "^(x)"})).samples()


class TestBadInput:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        return write_plain(tmp_path / "r")

    def refused(self, root: Path, match: str, **values: Any) -> str:
        with pytest.raises(DataError, match=match) as caught:
            open_data(plain(**values), root, root.parent / "cache", seed=0)
        return str(caught.value)

    def test_no_folders(self, root: Path) -> None:
        (root / "masks").rename(root / "other")
        self.refused(root, r"no folder of images beside a folder of masks.*data\.options\.masks")

    def test_two_folders_that_may_be_meant(self, root: Path) -> None:
        (root / "labels").mkdir()
        self.refused(root, r"labels and masks may both be meant; choose with data\.options\.masks")

    def test_names_that_do_not_match(self, root: Path) -> None:
        for path in (root / "masks").iterdir():
            path.rename(path.with_name(f"{path.stem}_mask.png"))
        message = self.refused(root, "12 of 12 images cannot be used")
        assert "masks/000: no such file" in message
        assert "are called such as 000_mask" in message

    def test_one_name_twice(self, root: Path) -> None:
        (root / "images/000.jpg").write_bytes((root / "images/000.png").read_bytes())
        self.refused(root, r"000\.png and 000\.jpg have one name; remove one")

    def test_lists_that_are_missing(self, root: Path) -> None:
        self.refused(root, r"nowhere: no train\.txt in it", options={"lists": "nowhere"})

    def test_other_number_of_bands(self, root: Path) -> None:
        write_tif(root / "images/100.tif", random_bands(5, 0, "uint8"))
        write_mask(root / "masks/100.png", random_mask(0, 255))
        message = self.refused(root, "1 of 13 images")
        assert "100.tif: 5 bands, but data.bands is 3; set data.bands: 5, or pick 3" in message
        assert "data.options.bands, such as [1, 2, 3]" in message

    def test_all_damaged_files_are_listed(self, root: Path) -> None:
        images, masks = root / "images", root / "masks"
        (images / "000.png").write_bytes(b"")
        whole = (images / "001.png").read_bytes()
        (images / "001.png").write_bytes(whole[: len(whole) // 2])
        (images / "002.png").unlink()
        write_tif(images / "002.tif", random_bands(3, 2, "uint16"))
        write_mask(masks / "003.png", random_mask(3, 7))
        Image.fromarray(random_mask(4, 255)).save(masks / "004.jpg", quality=20)
        (masks / "004.png").unlink()
        write_mask(masks / "005.png", random_mask(5, 255)[:9])
        message = self.refused(root, "6 of 12 images cannot be used")
        for part in (
            "000.png: the file is empty",
            "001.png: damaged or truncated",
            "002.tif: uint16 pixels, but 001.png has uint8; save all images in one type",
            "003.png: no class has the value 7 on 99 pixels",
            "JPEG changes values, so save masks as PNG",
            "005.png: 24x20 pixels, but its mask has 24x9",
        ):
            assert part in message

    def test_one_file_declares_missing_values(self, tmp_path: Path) -> None:
        root = tmp_path / "s"
        for number, profile in enumerate(({}, {"nodata": 7})):
            pixels = random_bands(2, number)
            pixels[0, 0] = 7
            write_tif(root / "images" / f"{number}.tif", pixels, **profile)
            write_mask(root / "masks" / f"{number}.png", random_mask(number))
        message = self.refused(root, "1 of 2 images", bands=2)
        assert "1.tif: 7 means no data in this image alone" in message


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bands": [1, 2]}, r"data\.bands: 3, but data\.options\.bands names 2"),
        ({"bands": [0, 1, 2]}, "bands count from 1"),
        ({"group": "lake"}, "has no group; put the part"),
        ({"group": "("}, r"data\.options\.group"),
        ({"mask_values": {0: "watr"}}, r"no class is called 'watr'\. Did you mean 'water'"),
        ({"colours": {"watr": [0, 0, 1]}}, r"no class is called 'watr'\. Did you mean 'water'"),
        ({"colours": {"water": [0, 0, 256]}}, "is not within 0 to 255"),
        ({"colours": {"water": [0, 0, 1], "background": [0, 0, 1]}}, "two classes have one colour"),
        ({"colours": {"water": [0, 0, 1]}, "mask_values": {0: "water"}}, "leave out one"),
    ],
)
def test_wrong_options(tmp_path: Path, options: dict[str, Any], words: str) -> None:
    root = write_plain(tmp_path / "r", 1)
    with pytest.raises(ConfigError, match=words):
        Format(root, plain(options=options))


class TestRecognise:
    def found(self, root: Path) -> DataConfig:
        said = Format.recognise(root)
        assert said is not None
        data = DataConfig(format="pairs", **said)
        reader = Format(root, data)
        for sample in reader.samples():
            known = {*range(len(data.classes)), data.ignore_index}
            assert set(np.unique(reader.target(sample)).tolist()) <= known
            assert reader.image(sample).shape == (*SHAPE, data.bands)
        return data

    def test_odd(self, tmp_path: Path) -> None:
        data = self.found(write_odd(tmp_path / "r"))
        assert (data.bands, data.options) == (4, {"nodata": [NO_DATA]})
        assert len(data.classes) == 2

    def test_plain(self, tmp_path: Path) -> None:
        data = self.found(write_plain(tmp_path / "r"))
        assert (data.bands, data.options, len(data.classes)) == (3, {}, 2)

    def test_lists(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 2)
        (root / "splits").mkdir()
        (root / "splits/train.txt").write_text("000\n001\n", encoding="utf-8")
        assert self.found(root).options == {"lists": "splits"}

    def test_grey(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 2)
        for path in (root / "images").iterdir():
            Image.open(path).convert("L").save(path)
        assert self.found(root).bands == 1

    def test_classes(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 3)
        for number, value in enumerate((1, 3, 255)):
            write_mask(root / f"masks/00{number}.png", random_mask(number, value))
        assert len(self.found(root).classes) == 4

    def test_other_numbers_are_named(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 2)
        write_mask(root / "masks/000.png", random_mask(0, 128))
        assert self.found(root).options["mask_values"] == {
            0: "background",
            128: "class_1",
            255: "class_2",
        }

    def test_colours(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 2)
        for path in (root / "masks").iterdir():
            mask = random_mask(0)
            write_mask(path, np.dstack([mask * 0, mask * 20, mask * 200]))
        assert self.found(root).options["colours"] == {
            "background": [0, 0, 0],
            "foreground": [0, 20, 200],
        }

    def test_other_folders(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 2)
        (root / "masks").rename(root / "SegmentationClass")
        assert Format.recognise(root) is None
        assert Format.recognise(root / "images") is None
        assert Format.recognise(root / "nowhere") is None
        assert Format.recognise(root / "images/000.png") is None

    def test_names_that_do_not_match(self, tmp_path: Path) -> None:
        root = write_plain(tmp_path / "r", 1)
        (root / "masks/000.png").rename(root / "masks/x.png")
        assert Format.recognise(root) is None
