"""The MARIDA reader: its layout and oddities, what counts as debris, and what it refuses."""

import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from rasterio.errors import NotGeoreferencedWarning

from raysearch.data import open_data
from raysearch.data.formats.marida import Format
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError
from tests.data import marida_miniature as miniature
from tests.data.marida_miniature import (
    NAMES,
    SHAPE,
    SPLITS,
    config,
    place,
    random_classes,
    random_confidence,
    random_patch,
    save,
)


def named(reader: Format, name: str) -> Sample:
    return next(sample for sample in reader.samples() if sample.name == name)


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return miniature.write_odd(tmp_path_factory.mktemp("odd") / "marida")


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    return miniature.write_plain(tmp_path / "marida")


class TestLayout:
    def test_names_scenes_and_splits(self, odd: Path) -> None:
        samples = Format(odd, config()).samples()
        assert [sample.name for sample in samples] == NAMES
        assert {s.name: s.split for s in samples} == {
            name: split for split, names in SPLITS.items() for name in names
        }
        ten = next(sample for sample in samples if sample.name == "1-12-19_48MYU_10")
        assert (ten.group, dict(ten.facts)) == ("1-12-19_48MYU", {"tile": "48MYU"})

    def test_one_date_over_two_tiles_is_two_scenes(self, odd: Path) -> None:
        groups = {sample.group for sample in Format(odd, config()).samples()}
        assert {"18-9-20_16PCC", "18-9-20_16PDC"} <= groups

    def test_official_lists_are_kept(self, plain: Path, tmp_path: Path) -> None:
        splits = open_data(config(), plain, tmp_path / "cache", seed=0).splits
        assert {part: sorted(getattr(splits, part)) for part in SPLITS} == SPLITS

    def test_without_lists_a_scene_stays_together(self, plain: Path, tmp_path: Path) -> None:
        for path in (plain / "splits").iterdir():
            path.unlink()
        splits = open_data(config(), plain, tmp_path / "cache", seed=0).splits
        parts = {name: part for part in ("train", "val", "test") for name in getattr(splits, part)}
        assert sorted(parts) == NAMES
        assert len({parts[name] for name in NAMES if name.startswith("1-12-19_48MYU")}) == 1

    def test_recognised_by_its_folders(self, odd: Path, tmp_path: Path) -> None:
        assert Format.recognise(odd) == {"classes": ["other", "debris"], "bands": 11, "options": {}}
        assert Format.recognise(tmp_path) is None
        assert Format.recognise(tmp_path / "nowhere") is None
        assert Format.recognise(odd / "splits" / "train_X.txt") is None


class TestNoData:
    """What is missing is NaN; everything else is exactly what was written."""

    @pytest.mark.parametrize(
        ("name", "missing"),
        [
            ("1-12-19_48MYU_0", np.s_[:3]),
            ("1-12-19_48MYU_1", np.s_[:, :2]),
            ("1-12-19_48MYU_10", np.s_[6:8]),
            ("21-2-17_16PCC_0", np.s_[:]),
        ],
    )
    def test_nan_zero_and_the_file_s_own(self, odd: Path, name: str, missing: Any) -> None:
        reader = Format(odd, config())
        image = reader.image(named(reader, name))
        expected = random_patch(name).transpose(1, 2, 0)
        expected[missing] = np.nan
        if name == "1-12-19_48MYU_0":
            expected[5, 5, 4] = np.nan
        if name == "1-12-19_48MYU_1":
            expected[8, 8, :5] = 0
        assert image.dtype == np.float32
        np.testing.assert_array_equal(image, expected)

    def test_zero_in_the_bands_that_are_picked_is_no_gap(self, odd: Path) -> None:
        reader = Format(odd, config(bands=2, options={"bands": [1, 2]}))
        image = reader.image(named(reader, "1-12-19_48MYU_1"))
        np.testing.assert_array_equal(image[8, 8], [0, 0])
        assert np.isnan(image[:, :2]).all()

    def test_a_set_with_gaps_can_be_opened(self, odd: Path, tmp_path: Path) -> None:
        data = open_data(config(), odd, tmp_path / "cache", seed=0)
        assert np.isfinite(data.cache.image(data.cache.index("1-12-19_48MYU_0"))).all()
        gone = data.cache.mask(data.cache.index("21-2-17_16PCC_0"))
        assert (gone == config().ignore_index).all()


def test_bands_in_the_order_that_is_asked_for(plain: Path) -> None:
    reader = Format(plain, config(bands=3, options={"bands": [8, 4, 11]}))
    image = reader.image(named(reader, NAMES[0]))
    np.testing.assert_array_equal(image, random_patch(NAMES[0])[[7, 3, 10]].transpose(1, 2, 0))


class TestClasses:
    name = "18-9-20_16PCC_0"

    def read(self, root: Path, **values: Any) -> np.ndarray:
        reader = Format(root, config(**values))
        return reader.target(named(reader, self.name))

    @pytest.mark.parametrize("ignore_index", [255, 7])
    def test_debris_against_everything_else(self, odd: Path, ignore_index: int) -> None:
        """In the odd set these labels are float32, with 0 as their no-data value."""
        ids = random_classes(self.name)
        expected = np.select([ids == 0, ids == 1], [ignore_index, 1], 0)
        np.testing.assert_array_equal(self.read(odd, ignore_index=ignore_index), expected)

    def test_more_than_one_kind_of_debris_and_the_rest_ignored(self, odd: Path) -> None:
        ids = random_classes(self.name)
        mask = self.read(odd, options={"debris": [1, 4], "not_debris": [7, 10]})
        chosen = [np.isin(ids, [1, 4]), np.isin(ids, [7, 10])]
        np.testing.assert_array_equal(mask, np.select(chosen, [1, 0], 255))

    def test_other_classes_by_id(self, odd: Path) -> None:
        ids = random_classes(self.name)
        named = {1: "debris", 2: "algae", 3: "algae", 7: "water"}
        mask = self.read(odd, classes=("water", "algae", "debris"), options={"classes": named})
        chosen = [ids == 7, np.isin(ids, [2, 3]), ids == 1]
        np.testing.assert_array_equal(mask, np.select(chosen, [0, 1, 2], 255))

    @pytest.mark.parametrize(
        ("values", "message"),
        [
            ({"classes": ("a", "b", "c")}, r"data\.classes: 3 classes; two .*options\.classes"),
            ({"options": {"classes": {1: "debri"}}}, r"'debri'\. Did you mean 'debris'"),
            ({"options": {"classes": {16: "debris"}}}, r"data\.options\.classes"),
            ({"options": {"debris": [0]}}, r"data\.options\.debris\.0: 0"),
            ({"options": {"debris": []}}, r"data\.options\.debris"),
            ({"options": {"not_debris": [1, 7]}}, r"\[1\] are in debris and in not_debris"),
            ({"options": {"bands": [12]}, "bands": 1}, r"data\.options\.bands\.0: 12"),
            ({"options": {"bands": [8]}}, r"data\.bands: 11, but 1 come out; set data\.bands: 1"),
            ({"bands": 3}, r"data\.bands: 3, but 11 come out"),
            ({"options": {"confidence_weights": [1, 0.5]}}, r"data\.options\.confidence_weights"),
            ({"options": {"confidence_weights": [1, 1, 2]}}, r"confidence_weights\.2: 2"),
        ],
    )
    def test_what_a_study_cannot_ask_for(
        self, odd: Path, values: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            Format(odd, config(**values))


class TestConfidence:
    @pytest.mark.parametrize("name", ["18-9-20_16PCC_0", "18-9-20_16PCC_1"])
    def test_levels_become_weights(self, odd: Path, name: str) -> None:
        reader = Format(odd, config(options={"confidence_weights": [1.0, 0.6, 0.2]}))
        weight = reader.weight(named(reader, name))
        assert weight.dtype == np.uint8
        np.testing.assert_array_equal(weight, np.array([0, 255, 153, 51])[random_confidence(name)])

    def test_a_set_without_confidence_is_not_weighted(self, plain: Path, tmp_path: Path) -> None:
        assert Format(plain, config()).weighted
        for path in plain.glob("patches/*/*_conf.tif"):
            path.unlink()
        reader = Format(plain, config())
        assert not reader.weighted
        assert len(reader.samples()) == len(NAMES)

    def test_another_confidence_is_another_data_set(self, plain: Path) -> None:
        before = Format(plain, config()).meaning()
        save(place(plain, NAMES[0], "_conf"), np.ones(SHAPE, np.uint8))
        assert Format(plain, config()).meaning() != before


def halve(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def infinite(root: Path) -> None:
    pixels = random_patch(NAMES[0])
    pixels[2, 3, 3] = np.inf
    save(place(root, NAMES[0]), pixels)


FIRST, SECOND = NAMES[:2]
DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (
        lambda root: place(root, FIRST).write_bytes(b""),
        rf"1 of 8 .*S2_{FIRST}\.tif: the file is empty",
    ),
    "truncated": (lambda root: halve(place(root, FIRST)), rf"S2_{FIRST}\.tif: damaged"),
    "no raster": (
        lambda root: place(root, FIRST, "_cl").write_text("hello"),
        rf"S2_{FIRST}_cl\.tif: .*not a raster",
    ),
    "three bands": (
        lambda root: save(place(root, FIRST), random_patch(FIRST)[:3]),
        rf"S2_{FIRST}\.tif: 3 bands, but a MARIDA patch has 11",
    ),
    "labels of two bands": (
        lambda root: save(place(root, FIRST, "_cl"), np.stack([random_classes(FIRST)] * 2)),
        rf"S2_{FIRST}_cl\.tif: 2 bands; labels have one",
    ),
    "labels of another size": (
        lambda root: save(place(root, FIRST, "_cl"), random_classes(FIRST)[:5]),
        rf"S2_{FIRST}_cl\.tif: 10x5 pixels, but its image has 10x12",
    ),
    "confidence of another size": (
        lambda root: save(place(root, FIRST, "_conf"), random_confidence(FIRST)[:, :4]),
        rf"S2_{FIRST}_conf\.tif: 4x12 pixels, but its image has 10x12",
    ),
    "class 77": (
        lambda root: save(place(root, FIRST, "_cl"), np.full(SHAPE, 77, np.uint8)),
        rf"S2_{FIRST}_cl\.tif: class 77 on 120 pixels; MARIDA has 0 to 15",
    ),
    "class -1": (
        lambda root: save(place(root, FIRST, "_cl"), np.full(SHAPE, -1, np.int16)),
        r"class -1 on 120 pixels",
    ),
    "class 1.5": (
        lambda root: save(place(root, FIRST, "_cl"), np.full(SHAPE, 1.5, np.float32)),
        r"class 1\.5 on 120 pixels",
    ),
    "confidence 9": (
        lambda root: save(place(root, FIRST, "_conf"), np.full(SHAPE, 9, np.uint8)),
        rf"S2_{FIRST}_conf\.tif: confidence 9 on 120 pixels; MARIDA has 0 to 3",
    ),
    "infinite": (infinite, rf"S2_{FIRST}\.tif: 1 infinite values"),
    "no image": (
        lambda root: place(root, FIRST).unlink(),
        rf"1 of 8 patches .*S2_{FIRST}\.tif: no such file",
    ),
    "no classes": (
        lambda root: place(root, FIRST, "_cl").unlink(),
        rf"S2_{FIRST}_cl\.tif: no such file",
    ),
    "confidence of some": (
        lambda root: place(root, FIRST, "_conf").unlink(),
        rf"S2_{FIRST}_conf\.tif: no such file",
    ),
    "name in two lists": (
        lambda root: miniature.write_lists(root, {**SPLITS, "val": [SPLITS["test"][0]]}),
        r"test_X\.txt: '18-9-20_16PDC_0' stands in val_X\.txt as well",
    ),
    "no training list": (
        lambda root: (root / "splits" / "train_X.txt").unlink(),
        r"train_X\.txt: no such list, but val_X\.txt exists",
    ),
    "no patches": (
        lambda root: (root / "patches").rename(root / "pictures"),
        r"patches: no such folder; MARIDA's scenes lie in it",
    ),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_named(plain: Path, tmp_path: Path, what: str) -> None:
    damage, message = DAMAGE[what]
    damage(plain)
    with pytest.raises(DataError, match=f"(?s){message}"):
        open_data(config(), plain, tmp_path / "cache", seed=0)
    assert not list((tmp_path / "cache").glob("*/images.npy"))


def test_patches_without_a_georeference_are_read_in_silence_by_many_threads(plain: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        for name in NAMES:
            save(
                place(plain, name),
                random_patch(name),
                crs=None,
                transform=rasterio.Affine.identity(),
            )
    reader = Format(plain, config())
    samples = reader.samples() * 20
    with ThreadPoolExecutor(8) as pool:
        images = list(pool.map(reader.image, samples))
    for sample, image in zip(samples, images, strict=True):
        np.testing.assert_array_equal(image, random_patch(sample.name).transpose(1, 2, 0))
