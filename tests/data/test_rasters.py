"""Rasters of any depth: exact values, missing ones, damage, and reading in threads."""

import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from raysearch.data import rasters
from raysearch.errors import DataError
from tests.data.pairs_miniature import SHAPE, random_bands, write_tif


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_types_are_kept(tmp_path: Path, dtype: str) -> None:
    pixels = random_bands(5, 0, dtype)
    write_tif(tmp_path / "a.tif", pixels)
    read = rasters.read(tmp_path / "a.tif")
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, pixels)


@pytest.mark.parametrize(
    ("stored", "given"), [("float64", "float32"), ("int32", "float32"), ("int8", "int16")]
)
def test_other_types_become_the_nearest(tmp_path: Path, stored: str, given: str) -> None:
    pixels = np.arange(24).reshape(2, 3, 4).astype(stored)
    write_tif(tmp_path / "a.tif", pixels)
    read = rasters.read(tmp_path / "a.tif")
    assert read.dtype == rasters.header(tmp_path / "a.tif").dtype == given
    np.testing.assert_array_equal(read, pixels)


def test_16_bit_png_keeps_its_bits(tmp_path: Path) -> None:
    pixels = random_bands(1, 3, "uint16")
    Image.fromarray(pixels[..., 0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(rasters.read(tmp_path / "a.png"), pixels)


def test_header(tmp_path: Path) -> None:
    write_tif(tmp_path / "a.tif", random_bands(5, 0), nodata=-1)
    assert rasters.shape(tmp_path / "a.tif") == SHAPE
    assert rasters.count(tmp_path / "a.tif") == 5
    assert rasters.header(tmp_path / "a.tif").no_data == -1


def test_bands_are_picked_in_order(tmp_path: Path) -> None:
    pixels = random_bands(4, 1)
    write_tif(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(rasters.read(tmp_path / "a.tif", [3, 1]), pixels[..., [2, 0]])


@pytest.mark.parametrize("band", [0, 5])
def test_band_that_does_not_exist(tmp_path: Path, band: int) -> None:
    write_tif(tmp_path / "a.tif", random_bands(4, 1))
    with pytest.raises(DataError, match=rf"a\.tif: no band {band}, it has 4"):
        rasters.read(tmp_path / "a.tif", [band])


class TestNoData:
    def test_value_becomes_nan_in_its_band(self, tmp_path: Path) -> None:
        pixels = random_bands(2, 1)
        pixels[3, 4, 1] = -9999
        write_tif(tmp_path / "a.tif", pixels)
        read = rasters.read(tmp_path / "a.tif", no_data=[-9999])
        assert read.dtype == np.float32
        assert np.argwhere(np.isnan(read)).tolist() == [[3, 4, 1]]
        np.testing.assert_array_equal(read[~np.isnan(read)], pixels[pixels != -9999])

    def test_value_that_the_file_declares(self, tmp_path: Path) -> None:
        pixels = random_bands(1, 1)
        pixels[0, 0] = 7777
        write_tif(tmp_path / "a.tif", pixels, nodata=7777)
        assert np.isnan(rasters.read(tmp_path / "a.tif")[0, 0, 0])
        read = rasters.read(tmp_path / "a.tif", declared=False)
        np.testing.assert_array_equal(read, pixels)

    def test_transparent_colour_of_a_png_is_no_missing_value(self, tmp_path: Path) -> None:
        pixels = random_bands(1, 0, "uint8")
        path = tmp_path / "a.png"
        Image.fromarray(pixels[..., 0]).save(path, transparency=int(pixels[0, 0, 0]))
        assert rasters.header(path).no_data is None
        np.testing.assert_array_equal(rasters.read(path), pixels)

    def test_value_in_float32(self, tmp_path: Path) -> None:
        pixels = random_bands(1, 1, "float32")
        pixels[0, 0] = -1e-5
        write_tif(tmp_path / "a.tif", pixels)
        assert np.isnan(rasters.read(tmp_path / "a.tif", no_data=[-1e-5])[0, 0, 0])

    def test_infinite_values(self, tmp_path: Path) -> None:
        pixels = random_bands(1, 1, "float32")
        pixels[0, :3] = np.inf
        write_tif(tmp_path / "a.tif", pixels)
        with pytest.raises(DataError, match=r"a\.tif: 3 infinite values"):
            rasters.read(tmp_path / "a.tif")
        assert np.isnan(rasters.read(tmp_path / "a.tif", no_data=[np.inf])).sum() == 3


class TestDamage:
    @pytest.mark.parametrize("ending", ["tif", "png", "jpg"])
    def test_truncated(self, tmp_path: Path, ending: str) -> None:
        path = tmp_path / f"a.{ending}"
        Image.fromarray(random_bands(3, 0, "uint8")).save(path)
        path.write_bytes(path.read_bytes()[:-200])
        with pytest.raises(DataError, match=rf"a\.{ending}: damaged"):
            rasters.read(path)

    def test_missing_empty_and_no_raster(self, tmp_path: Path) -> None:
        (tmp_path / "empty.tif").write_bytes(b"")
        (tmp_path / "text.tif").write_bytes(b"not a raster")
        for name, words in (("none", "no such file"), ("empty", "is empty"), ("text", "damaged")):
            with pytest.raises(DataError, match=rf"{name}\.tif: .*{words}"):
                rasters.read(tmp_path / f"{name}.tif")

    def test_complex_numbers(self, tmp_path: Path) -> None:
        write_tif(tmp_path / "a.tif", np.ones((4, 4, 1), dtype=np.complex64))
        with pytest.raises(DataError, match="complex64 pixels are not read"):
            rasters.read(tmp_path / "a.tif")

    def test_too_many_pixels(self, tmp_path: Path) -> None:
        write_tif(tmp_path / "a.tif", random_bands(1, 0))
        with pytest.raises(DataError, match=r"24x20 pixels are more than data\.max_pixels"):
            rasters.shape(tmp_path / "a.tif", 479)


def test_threads_warn_of_nothing(tmp_path: Path) -> None:
    """Also where another thread swaps the process's filters meanwhile."""
    write_tif(tmp_path / "a.tif", random_bands(2, 0))
    done = threading.Event()

    def meddle() -> None:
        while not done.is_set():
            warnings.filterwarnings("ignore", "one more filter")

    meddler = threading.Thread(target=meddle)
    meddler.start()
    try:
        with ThreadPoolExecutor(8) as pool:
            read = list(pool.map(lambda _: rasters.read(tmp_path / "a.tif"), range(100)))
    finally:
        done.set()
        meddler.join()
    assert len(read) == 100
