"""Tiny folders of images and masks, with the depths, bands and oddities that real ones have."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from PIL import Image
from rasterio.errors import NotGeoreferencedWarning

from raysearch.config import DataConfig

CLASSES = ("background", "water")
NO_DATA = -9999
SHAPE = (20, 24)


def config(**values: Any) -> DataConfig:
    """What a study says of `write_odd`."""
    options = {"nodata": [NO_DATA], **values.pop("options", {})}
    return DataConfig(
        format="pairs", **{"classes": CLASSES, "bands": 4, "options": options, **values}
    )


def plain(**values: Any) -> DataConfig:
    """What a study says of `write_plain`."""
    return DataConfig(format="pairs", **{"classes": CLASSES, **values})


def random_bands(count: int, seed: int, dtype: str = "int16") -> np.ndarray:
    """Return (H, W, count) of a type that is spread over most of its range, but for its ends."""
    random = np.random.default_rng(seed)
    if dtype == "float32":
        return random.normal(size=(*SHAPE, count)).astype(np.float32)
    limits = np.iinfo(dtype)
    return random.integers(max(limits.min, -9000), limits.max - 1, (*SHAPE, count)).astype(dtype)


def random_mask(seed: int, value: int = 1) -> np.ndarray:
    """Background with a block of a value whose place depends on the seed."""
    mask = np.zeros(SHAPE, dtype=np.uint8)
    top = seed % 8
    mask[top : top + 9, 4:15] = value
    return mask


def write_tif(path: Path, pixels: np.ndarray, **profile: Any) -> None:
    """Write (H, W, C) as a GeoTIFF; without a transform it has no georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = pixels.shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(
            path,
            "w",
            driver="GTiff",
            height=height,
            width=width,
            count=count,
            dtype=str(pixels.dtype),
            **profile,
        ) as raster:
            raster.write(pixels.transpose(2, 0, 1))


def write_mask(path: Path, mask: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(mask).save(path)


def write_plain(root: Path, count: int = 12) -> Path:
    """Photographs and masks of 0 and 255, without lists."""
    (root / "images").mkdir(parents=True)
    for number in range(count):
        name = f"{number:03d}"
        Image.fromarray(random_bands(3, number, "uint8")).save(root / "images" / f"{name}.png")
        write_mask(root / "masks" / f"{name}.png", random_mask(number, 255))
    return root


def odd_image(number: int) -> np.ndarray:
    """Image of `write_odd`, with a missing value in one band and a pixel that misses all."""
    pixels = random_bands(4, number)
    pixels[0, 0, 3] = NO_DATA
    pixels[1, 1] = NO_DATA
    return pixels


def write_odd(root: Path) -> Path:
    """Four bands of int16 with missing values; masks in every form; files of other kinds between.

    Folders have other names; train/, val/ and test/ are above them; one file lies a folder deeper.
    """
    for split, numbers in (("train", range(6)), ("val", range(6, 8)), ("test", range(8, 10))):
        place = root / split
        for number in numbers:
            name = f"deep/{number}" if number == 5 else str(number)
            write_tif(place / "imgs" / f"{name}.TIF", odd_image(number))
            write_mask(place / "labels" / f"{name}.png", random_mask(number))
        (place / "imgs" / "Thumbs.db").write_bytes(b"no picture")
        (place / "imgs" / ".hidden.png").write_bytes(b"")
    masks = root / "train" / "labels"
    for number in (0, 1):
        (masks / f"{number}.png").unlink()
    # Background is declared as missing, as many tools do.
    write_tif(masks / "0.tif", random_mask(0)[..., None], nodata=0)
    mask = random_mask(1)
    mask[0, :5] = 255
    write_tif(masks / "1.tif", mask[..., None].astype(np.int16))
    Image.fromarray(random_mask(2).astype(bool)).save(masks / "2.png")
    Image.fromarray(np.repeat(random_mask(3)[..., None], 3, axis=2)).save(masks / "3.png")
    return root
