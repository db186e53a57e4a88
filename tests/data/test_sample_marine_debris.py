"""The generated patches of sea: MARIDA's layout, rare debris, and no single band that tells it."""

from pathlib import Path

import numpy as np
import pytest
import rasterio

from raysearch.config import DataConfig
from raysearch.data import Data, open_data
from raysearch.data.formats.marida import WAVELENGTHS, Format
from raysearch.data.sample import marine_debris
from raysearch.data.sample._sea import CLOUD, DEBRIS, FOAM, SPECTRA, WATER

DATA = DataConfig(format="marida", classes=("other", "debris"), bands=11)
SIZES = {"train": 72, "val": 8, "test": 8}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("sample") / "sea"
    marine_debris.write(place, 0, **SIZES, side=64)
    return place


@pytest.fixture(scope="module")
def data(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Data:
    return open_data(DATA, root, tmp_path_factory.mktemp("cache"), seed=0)


def ids(root: Path, ending: str) -> np.ndarray:
    """Return one raster of labels of every patch, (N, H, W)."""
    found = []
    for sample in Format(root, DATA).samples():
        with rasterio.open(sample.image.with_name(f"{sample.image.stem}_{ending}.tif")) as raster:
            found.append(raster.read(1))
    return np.stack(found)


def labelled(data: Data) -> tuple[np.ndarray, np.ndarray]:
    """Return bands (N, 11) and class (N,) of every labelled pixel."""
    cache = data.cache
    masks = [cache.mask(number) for number in range(len(cache))]
    pixels = [cache.image(number)[mask != 255] for number, mask in enumerate(masks)]
    return np.concatenate(pixels), np.concatenate([mask[mask != 255] for mask in masks])


def best_f1(score: np.ndarray, debris: np.ndarray) -> float:
    """Return F1 at the best of all thresholds."""
    hits = np.cumsum(debris[np.argsort(-score)])
    return float((2 * hits / (np.arange(1, len(hits) + 1) + debris.sum())).max())


def test_is_a_data_set_of_the_study(data: Data) -> None:
    splits = data.splits
    assert {part: len(getattr(splits, part)) for part in SIZES} == SIZES
    assert splits.dropped == ()
    assert data.cache.shape(0) == (64, 64)
    assert data.cache.weighted


def test_files_are_as_marida_s(root: Path) -> None:
    sample = Format(root, DATA).samples()[0]
    with rasterio.open(sample.image) as raster:
        assert (raster.count, raster.dtypes[0], raster.res) == (11, "float32", (10.0, 10.0))
        assert raster.crs.is_projected
    assert sample.image.parent.name == f"S2_{sample.group}"
    assert sample.image.name == f"S2_{sample.name}.tif"


def test_scenes_stay_in_one_split(root: Path) -> None:
    scenes: dict[str, set[str | None]] = {}
    for sample in Format(root, DATA).samples():
        scenes.setdefault(sample.group, set()).add(sample.split)
    assert len(scenes) == 11
    assert all(len(splits) == 1 for splits in scenes.values())


def test_debris_is_rare_and_labels_are_sparse(data: Data) -> None:
    other, debris = data.cache.class_pixels.sum(axis=0)
    assert 8 < other / debris < 20
    assert debris / (len(data.cache) * 64 * 64) < 0.02
    assert (other + debris) / (len(data.cache) * 64 * 64) < 0.25


def test_confidence_says_how_much_of_a_pixel_is_filled(root: Path) -> None:
    classes, confidence = ids(root, "cl"), ids(root, "conf")
    assert {DEBRIS, FOAM, CLOUD, WATER} <= set(np.unique(classes).tolist())
    np.testing.assert_array_equal(confidence > 0, classes > 0)
    assert set(np.unique(confidence[classes == DEBRIS]).tolist()) == {1, 2, 3}


def test_no_single_band_tells_debris(data: Data) -> None:
    bands, debris = labelled(data)
    scores = [best_f1(sign * bands[:, n], debris) for n in range(11) for sign in (1, -1)]
    assert max(scores) < 0.5


def test_all_bands_together_tell_it_better(data: Data) -> None:
    """A plain linear discriminant: what can be learnt is in the spectra."""
    bands, debris = labelled(data)
    values = np.log(np.maximum(bands, 1e-3))
    centred = values - values[debris == 0].mean(axis=0)
    spread = np.cov(centred[debris == 0].T) + np.cov(centred[debris == 1].T)
    direction = np.linalg.solve(spread, centred[debris == 1].mean(axis=0))
    single = max(best_f1(bands[:, n], debris) for n in range(11))
    assert best_f1(centred @ direction, debris) > single + 0.1


def test_debris_reflects_more_near_infrared_than_its_neighbours_would_say() -> None:
    """What the floating debris index looks for; foam falls with the wavelength."""
    red, infrared, short = (WAVELENGTHS.index(nm) for nm in (665, 842, 1600))
    assert SPECTRA[DEBRIS][infrared] > 1.3 * SPECTRA[DEBRIS][red]
    assert SPECTRA[FOAM][infrared] < SPECTRA[FOAM][red]
    assert SPECTRA[FOAM][short] < 0.5 * SPECTRA[FOAM][infrared]


def test_some_patches_have_no_data_and_no_labels_there(root: Path) -> None:
    reader = Format(root, DATA)
    gaps = 0
    for sample in reader.samples():
        missing = np.isnan(reader.image(sample))
        assert (missing.all(axis=2) == missing.any(axis=2)).all()
        assert (reader.target(sample)[missing.all(axis=2)] == 255).all()
        gaps += bool(missing.any())
    assert 0 < gaps < len(reader.samples()) / 3


def test_seed_decides_every_byte(root: Path, tmp_path: Path) -> None:
    def written(seed: int) -> dict[str, bytes]:
        place = tmp_path / f"{seed}-{len(list(tmp_path.iterdir()))}"
        marine_debris.write(place, seed, train=3, val=1, test=1, side=32)
        return {p.relative_to(place).as_posix(): p.read_bytes() for p in place.rglob("*.tif")}

    first = written(0)
    assert len(first) == 15
    assert written(0) == first
    assert written(1).keys() != first.keys()


def test_large_patches_have_more_of_everything(tmp_path: Path) -> None:
    marine_debris.write(tmp_path / "sea", 0, train=2, val=1, test=1, side=256)
    classes = ids(tmp_path / "sea", "cl")
    assert classes.shape == (4, 256, 256)
    assert 0.04 < (classes > 0).mean() < 0.25
    assert (classes == DEBRIS).any(axis=(1, 2)).all()


def test_more_patches_than_eight_to_a_scene(tmp_path: Path) -> None:
    marine_debris.write(tmp_path / "sea", 0, train=330, val=1, test=1, side=32)
    samples = Format(tmp_path / "sea", DATA).samples()
    assert len({sample.name for sample in samples}) == 332
    assert len({sample.group for sample in samples}) <= 42
