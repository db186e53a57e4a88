"""A tiny random MARIDA in the true layout, with the oddities that the real one has."""

from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from rasterio.crs import CRS
from rasterio.transform import Affine

from raysearch.config import DataConfig
from raysearch.data.formats.marida import BANDS

SHAPE = (12, 10)
SPLITS = {
    "train": ["1-12-19_48MYU_0", "1-12-19_48MYU_1", "1-12-19_48MYU_10", "21-2-17_16PCC_0"],
    "val": ["18-9-20_16PCC_0", "18-9-20_16PCC_1"],
    "test": ["18-9-20_16PDC_0", "18-9-20_16PDC_1"],
}
NAMES = sorted(name for names in SPLITS.values() for name in names)
WHERE = {"crs": CRS.from_epsg(32748), "transform": Affine(10, 0, 600_000, 0, -10, 9_300_000)}


def config(**values: Any) -> DataConfig:
    settings = {"format": "marida", "classes": ("other", "debris"), "bands": BANDS}
    return DataConfig(**{**settings, **values})


def random_patch(name: str) -> np.ndarray:
    """Return reflectance, (11, H, W) float32."""
    random = np.random.default_rng(NAMES.index(name))
    return random.uniform(0.01, 0.3, (BANDS, *SHAPE)).astype(np.float32)


def random_classes(name: str) -> np.ndarray:
    """Return class ids, (H, W): every one of MARIDA's, and more than half of it unlabelled."""
    random = np.random.default_rng([1, NAMES.index(name)])
    ids = random.integers(1, 16, SHAPE) * (random.random(SHAPE) < 0.4)
    ids.flat[:16] = np.arange(16)
    return ids.astype(np.uint8)


def random_confidence(name: str) -> np.ndarray:
    random = np.random.default_rng([2, NAMES.index(name)])
    levels = random.integers(1, 4, SHAPE) * (random_classes(name) > 0)
    return levels.astype(np.uint8)


def place(root: Path, name: str, ending: str = "") -> Path:
    folder = root / "patches" / f"S2_{name.rpartition('_')[0]}"
    return folder / f"S2_{name}{ending}.tif"


def save(path: Path, raster: np.ndarray, **profile: Any) -> None:
    """Write (H, W) or (bands, H, W), in the tile's projection."""
    planes = raster if raster.ndim == 3 else raster[None]
    count, height, width = planes.shape
    size = {"count": count, "height": height, "width": width, "dtype": planes.dtype}
    path.parent.mkdir(parents=True, exist_ok=True)
    with rasterio.open(path, "w", driver="GTiff", **size, **{**WHERE, **profile}) as target:
        target.write(planes)


def write_lists(root: Path, splits: dict[str, list[str]] = SPLITS) -> None:
    """Lists without the S2_ of the files' names."""
    (root / "splits").mkdir(parents=True, exist_ok=True)
    for split, names in splits.items():
        (root / "splits" / f"{split}_X.txt").write_text("\n".join(names) + "\n", encoding="utf-8")


def write_plain(root: Path) -> Path:
    """Every patch with its classes and confidence, and the lists."""
    for name in NAMES:
        save(place(root, name), random_patch(name))
        save(place(root, name, "_cl"), random_classes(name))
        save(place(root, name, "_conf"), random_confidence(name))
    write_lists(root)
    (root / "labels_mapping.txt").write_text("{}", encoding="utf-8")
    return root


def write_odd(root: Path) -> Path:
    """Patches with no data of every kind, labels in another number type, and a desktop's files."""
    write_plain(root)
    pixels = random_patch("1-12-19_48MYU_0")
    pixels[:, :3] = np.nan  # Outside of the satellite's strip.
    pixels[4, 5, 5] = np.nan  # One band alone.
    save(place(root, "1-12-19_48MYU_0"), pixels)
    pixels = random_patch("1-12-19_48MYU_1")
    pixels[:, :, :2] = 0
    pixels[:5, 8, 8] = 0  # Dark in some bands is dark, not missing.
    save(place(root, "1-12-19_48MYU_1"), pixels)
    pixels = random_patch("1-12-19_48MYU_10")
    pixels[:, 6:8] = -9999
    save(place(root, "1-12-19_48MYU_10"), pixels, nodata=-9999)
    save(place(root, "21-2-17_16PCC_0"), np.full((BANDS, *SHAPE), np.nan, np.float32))
    name = "18-9-20_16PCC_0"
    save(place(root, name, "_cl"), random_classes(name).astype(np.float32), nodata=0)
    save(place(root, name, "_conf"), random_confidence(name).astype(np.int16))
    (root / "splits" / "train_X.txt").write_text("\r\n".join([*SPLITS["train"], "", ""]))
    place(root, "1-12-19_48MYU_0", "_cl").with_suffix(".tif.aux.xml").write_text("<PAMDataset/>")
    (root / "patches" / ".DS_Store").write_bytes(b"\0")
    return root
