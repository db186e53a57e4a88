"""Patches of sea with floating debris, in MARIDA's layout.

Debris is one of several things that float, of the same shapes and mostly thinner than a pixel, on
water of any colour, under glint, haze and clouds: no single band tells it. Few pixels are labelled,
and of these about one of 14 is debris. What tells debris is in the pixels alone: every scene has
it, and sizes, format and folders are the same for all.
"""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.crs import CRS
from rasterio.transform import Affine

from raysearch.data.sample._sea import DEBRIS, Patch, Scene, scene

VERSION = 1
TILES = ("16PCC", "16PDC", "16QED", "18QYF", "19QDA", "36JUN", "48MXU", "48PZC", "50LLR", "51RVQ")
SOUTH = "CDEFGHJKLM"
SPLITS = ("train", "val", "test")
SCENES = 40
# Reflectance comes in steps that are short in binary, so that deflate halves the files.
STEP = np.float32(2.0**-13)

Array = NDArray[Any]


@dataclass(frozen=True)
class _Job:
    """One patch to write: its scene's folder and nature, its name, and its own random numbers."""

    folder: Path
    place: Scene
    name: str
    side: int
    seed: tuple[int, ...]


def write(
    folder: Path, seed: int, *, train: int = 160, val: int = 50, test: int = 50, side: int = 64
) -> None:
    """Write so many patches of side x side pixels; the same seed gives the same bytes."""
    (folder / "splits").mkdir(parents=True)
    random = np.random.default_rng(seed)
    names = _scene_names(random)
    jobs: list[_Job] = []
    for number, (split, count) in enumerate(zip(SPLITS, (train, val, test), strict=True)):
        mine = [
            _job(folder, names, seed, number, position, count, side) for position in range(count)
        ]
        lists = folder / "splits" / f"{split}_X.txt"
        lists.write_text("".join(f"{job.name}\n" for job in mine), encoding="utf-8")
        jobs += mine
    for place in {job.folder for job in jobs}:
        place.mkdir(parents=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        # list() takes the results, and with them what a thread raised.
        list(pool.map(_write_patch, jobs))


def _scene_names(random: np.random.Generator) -> list[str]:
    """Return names of scenes, <date>_<tile>, enough for every split."""
    chosen = random.choice(28 * 12 * 6, len(SPLITS) * SCENES, replace=False)
    return [
        f"{1 + n % 28}-{1 + n // 28 % 12}-{15 + n // 336}_{TILES[position % len(TILES)]}"
        for position, n in enumerate(chosen.tolist())
    ]


def _job(
    folder: Path, names: list[str], seed: int, split: int, position: int, count: int, side: int
) -> _Job:
    """Return the patch at a position of a split; eight or more make a scene."""
    each = max(8, -(-count // SCENES))
    number = split * SCENES + position // each
    place = scene(np.random.default_rng([seed, number]))
    patches = folder / "patches" / f"S2_{names[number]}"
    name = f"{names[number]}_{position % each}"
    return _Job(patches, place, name, side, (seed, number, position))


def _write_patch(job: _Job) -> None:
    random = np.random.default_rng(job.seed)
    pixels, classes, confidence = patch(job.place, job.side, random)
    tile = job.folder.name.rpartition("_")[2]
    zone = (32700 if tile[2] in SOUTH else 32600) + int(tile[:2])
    west, north = random.integers(30_000, 70_000, 2).tolist()
    where = {"crs": CRS.from_epsg(zone), "transform": Affine(10, 0, 10 * west, 0, -10, 10 * north)}
    for ending, raster in (("", pixels), ("_cl", classes), ("_conf", confidence)):
        _save(job.folder / f"S2_{job.name}{ending}.tif", raster, where)


def _save(path: Path, raster: Array, where: dict[str, Any]) -> None:
    """Write (bands, H, W) as a GeoTIFF."""
    count, height, width = raster.shape
    floating = raster.dtype == np.float32
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        count=count,
        height=height,
        width=width,
        dtype=raster.dtype,
        compress="deflate",
        zlevel=1,
        predictor=3 if floating else 1,
        interleave="band",
        **where,
    ) as target:
        target.write(raster)


def patch(place: Scene, side: int, random: np.random.Generator) -> tuple[Array, Array, Array]:
    """Return reflectance (11, H, W) float32, class ids and confidence (1, H, W) uint8."""
    sea = Patch(place, side, random)
    pixels = np.round(sea.photograph() / STEP) * STEP
    classes = np.where(_annotated(sea, random), sea.ids, 0)
    missing = _outside(sea.shape, random)
    pixels[missing] = random.choice([np.nan, 0.0])
    classes[missing] = 0
    confidence = np.select([sea.cover > 0.4, sea.cover > 0.22], [1, 2], 3) * (classes > 0)
    planes = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    return planes, classes[None].astype(np.uint8), confidence[None].astype(np.uint8)


def _annotated(sea: Patch, random: np.random.Generator) -> Array:
    """Return which pixels somebody labelled: most debris, and a few regions of all the rest.

    Half of the regions lie on what is not plain water, as far as there is any.
    """
    regions = np.zeros(sea.shape, dtype=np.uint8)
    strange = np.argwhere((sea.ids != sea.ids[0, 0]) & (sea.ids != DEBRIS))
    for number in range(int(random.poisson(3.8 * sea.size)) + 1):
        centre = random.uniform(0, sea.shape[0], 2)
        if number % 2 and len(strange):
            centre = strange[int(random.integers(len(strange)))][::-1].astype(float)
        axes = random.uniform(5, 18, 2).tolist()
        cv2.ellipse(regions, (centre.tolist(), axes, float(random.uniform(0, 180))), 1, -1)
    debris = (sea.ids == DEBRIS).astype(np.uint8)
    count, pieces = cv2.connectedComponents(debris, connectivity=8)
    seen = np.concatenate([[False], random.random(count - 1) < 0.85])
    return (regions.astype(bool) | seen[pieces]) & (sea.cover > 0.125)


def _outside(shape: tuple[int, int], random: np.random.Generator) -> Array:
    """Return where the satellite's strip has ended: a slanting border in one of ten patches."""
    if random.random() > 0.1:
        return np.zeros(shape, dtype=bool)
    rows, columns = np.indices(shape) / shape[0] - 0.5
    angle = random.uniform(0, 2 * np.pi)
    return np.asarray(columns * np.cos(angle) + rows * np.sin(angle) > random.uniform(0.2, 0.6))
