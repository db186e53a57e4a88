"""GeoTIFFs that are read by bands of rows are answered as those that are read at once."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from PIL import Image
from rasterio.transform import Affine

from raysearch.config import DataConfig, Recipe, Task
from raysearch.data import rasters
from raysearch.data.decoding import filled
from raysearch.data.formats import reader
from raysearch.data.resize import resize_image
from raysearch.errors import DataError
from raysearch.inference import scenes
from raysearch.inference.files import NewImage, read_picture
from raysearch.inference.models import Model
from raysearch.inference.prediction import Wanted, predict
from raysearch.inference.scenes import Scene
from raysearch.inference.tiling import by_rows, segment
from raysearch.models import build
from raysearch.training.normalisation import Normalisation
from raysearch.training.trained import Trained
from tests.data.pairs_miniature import NO_DATA, write_tif
from tests.inference.test_tiling import joined

HEIGHT, WIDTH = 300, 210


def bands(count: int, dtype: str, seed: int = 0) -> np.ndarray:
    """Smooth bands (H, W, count), as those of an image are."""
    random = np.random.default_rng(seed)
    most = 200 if dtype == "uint8" else 8000
    coarse = random.integers(0, most, (HEIGHT // 20, WIDTH // 20, count)).astype(np.float32)
    return resize_image(coarse, (HEIGHT, WIDTH)).astype(dtype)


def with_gaps(pixels: np.ndarray, value: float) -> np.ndarray:
    """A corner without any data, and a stripe in the last rows without that of one band."""
    pixels[:70, :90] = value
    pixels[-40:, :, 1] = value
    return pixels


def config(format_: str, count: int, **options: Any) -> DataConfig:
    return DataConfig(format=format_, classes=("other", "debris"), bands=count, options=options)


CASES = {
    "pairs of int16, no data": (config("pairs", 4, nodata=[NO_DATA]), "int16", NO_DATA),
    "pairs of uint16": (config("pairs", 5), "uint16", None),
    "pairs of float32, NaN": (config("pairs", 3), "float32", np.nan),
    "pairs, chosen bands": (config("pairs", 2, bands=[3, 1]), "uint16", None),
    "marida": (config("marida", 11), "float32", 0),
    "marida, chosen bands": (config("marida", 3, bands=[8, 4, 2]), "float32", np.nan),
    "a picture": (config("voc", 3), "uint8", None),
}


@pytest.fixture(params=CASES)
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, DataConfig]:
    """A GeoTIFF and how it is read; anything is too large to be read at once."""
    data, dtype, missing = CASES[request.param]
    stored = {"marida": 11}.get(data.format, 3 if "bands" in data.options else data.bands)
    pixels = bands(stored, dtype)
    if missing is not None:
        pixels = with_gaps(pixels, missing)
    colours = {"photometric": "rgb"} if data.format == "voc" else {}
    write_tif(tmp_path / "scene.tif", pixels, **colours)
    monkeypatch.setattr(scenes, "WHOLE", 0)
    monkeypatch.setattr(scenes, "AT_ONCE", 1)
    monkeypatch.setattr(scenes, "BLOCK", 32)
    return tmp_path / "scene.tif", data


def both(path: Path, data: DataConfig) -> tuple[Scene, np.ndarray, np.ndarray | None]:
    """A scene, and its pixels and where there are none as they are read at once."""
    task = Task("segmentation", data.bands, data.classes)
    found = read_picture(NewImage(path, "scene"), data, task)
    assert isinstance(found.pixels, Scene)
    assert found.raster
    pixels = reader(data.format).picture(path, data)
    gaps = np.isnan(pixels)
    if gaps.any():
        return found.pixels, filled(pixels, gaps), gaps.all(axis=2)
    return found.pixels, pixels, None


def test_a_scene_is_the_whole_raster(scene: tuple[Path, DataConfig]) -> None:
    found, pixels, missing = both(*scene)
    assert (found.shape, found.dtype) == (pixels.shape, pixels.dtype)
    assert np.allclose(found[:], pixels, rtol=1e-6)
    assert np.allclose(found[90:130], pixels[90:130], rtol=1e-6)
    assert (found.missing is None) == (missing is None or not missing.any())
    if found.missing is not None:
        assert np.array_equal(found.missing, missing)


def test_a_reduced_scene_is_the_reduced_raster(scene: tuple[Path, DataConfig]) -> None:
    found, pixels, _ = both(*scene)
    for size in ((100, 70), (77, 54), (600, 420)):
        step = 1.001 if pixels.dtype.kind != "f" else 0.01
        expected = resize_image(pixels, size).astype(np.float32)
        assert np.abs(found.resized(size) - expected).max() <= step
        assert found.resized(size).dtype == pixels.dtype


def asked(data: DataConfig, size: int | None, like: np.ndarray) -> Model:
    """A network with random weights, for images of this mean and spread."""
    task = Task("segmentation", data.bands, data.classes)
    torch.manual_seed(0)
    network = build({"type": "unet", "width": 4, "depth": 2}, task).eval()
    recipe = Recipe(architecture="x", epochs=1, image_size=size)
    mean, spread = (torch.full((data.bands,), float(v)) for v in (like.mean(), like.std() + 1))
    normalise = Normalisation(mean, spread)
    return Model((Trained(network, normalise, task, recipe, None, {}, Path("0")),), (1.0,))


@pytest.mark.parametrize("size", [None, 96])
def test_masks_are_those_of_the_whole_raster(
    scene: tuple[Path, DataConfig], size: int | None
) -> None:
    found, pixels, _ = both(*scene)
    network = asked(scene[1], size, pixels)
    tile = 128 if size is None else None
    told = joined(list(by_rows(network, [found], tile)))
    expected = joined(list(by_rows(network, [pixels], tile)))
    mask = segment(network, [pixels], tile)
    assert len(np.unique(mask)) == 2
    assert (told - expected).abs().max() < (1e-4 if size is None else 0.02)
    differs = segment(network, [found], tile) != mask
    assert differs.mean() < (1e-4 if size is None else 0.002)


def test_files_of_a_scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = config("pairs", 4)
    place = {"crs": "EPSG:32648", "transform": Affine(10, 0, 500_000, 0, -10, 10_000)}
    pixels = bands(4, "int16")
    write_tif(tmp_path / "cut.tif", pixels)
    network = asked(data, None, pixels)
    write_tif(tmp_path / "scene.tif", with_gaps(pixels, NO_DATA), nodata=NO_DATA, **place)
    whole = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * 2 // 3])
    images = [NewImage(tmp_path / f"{name}.tif", name) for name in ("cut", "scene")]
    wanted = Wanted(overlay=True, probabilities=True, tile=128)
    for name, limit in (("whole", scenes.WHOLE), ("windowed", 0)):
        monkeypatch.setattr(scenes, "WHOLE", limit)
        outcome = predict(network, images, data, tmp_path / name, wanted)
        assert outcome.written == len(outcome.faults) == 1
        assert "cut.tif" in outcome.faults[0]
    for file in ("scene.tif", "scene_probabilities.tif"):
        paths = (tmp_path / name / file for name in ("whole", "windowed"))
        with rasterio.open(next(paths)) as one, rasterio.open(next(paths)) as other:
            assert (one.transform, one.crs) == (other.transform, other.crs)
            assert np.allclose(one.read(), other.read(), atol=1e-4)
    with rasterio.open(tmp_path / "windowed" / "scene.tif") as raster:
        assert (raster.read(1)[:70, :90] == 255).all()
    shown = []
    for name in ("whole", "windowed"):
        with Image.open(tmp_path / name / "scene_overlay.jpg") as overlay:
            shown.append(np.asarray(overlay, int))
    assert np.abs(shown[0] - shown[1]).mean() < 3


@pytest.mark.parametrize("size", [None, 96])
def test_no_more_rows_are_read_than_a_row_of_tiles(
    size: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenes, "AT_ONCE", 1)
    read = []

    def rows(place: slice) -> np.ndarray:
        read.append(place.stop - place.start)
        return np.zeros((read[-1], 300, 3), np.uint8)

    scene = Scene("a", rasters.Rows((2000, 300, 3), np.dtype(np.uint8), rows))
    mask = segment(
        asked(config("voc", 3), size, np.zeros(1)), [scene], 128 if size is None else None
    )
    assert mask.shape == (1, 2000, 300)
    assert sum(read) >= 2 * 2000
    assert max(read) <= 256


def test_what_does_not_fit_is_said() -> None:
    rows = rasters.Rows((2**24, 2**24, 3), np.dtype(np.uint8), lambda _: np.zeros((1, 1, 3)))
    with pytest.raises(DataError, match="cut the image into parts"):
        Scene("a.tif", rows)


def test_a_png_is_read_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scenes, "WHOLE", 0)
    Image.fromarray(bands(3, "uint8")).save(tmp_path / "a.png")
    task = Task("segmentation", 3, ("other", "debris"))
    found = read_picture(NewImage(tmp_path / "a.png", "a"), config("pairs", 3), task)
    assert isinstance(found.pixels, np.ndarray)
