"""Files of predictions: masks, overlays, probabilities and tables; each is whole or not there."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rasterio.windows import Window

from raysearch.config import Task
from raysearch.data import rasters
from raysearch.data.display import class_colours
from raysearch.errors import DataError, RunError
from raysearch.inference.files import Picture
from raysearch.inference.scenes import displayed

OPACITY = 0.55
QUALITY = 92
COLOUR_COUNT = 256
WHITE = 255

Mask = NDArray[np.uint8]


@contextmanager
def aside(path: Path) -> Iterator[Path]:
    """Yield another name in the same folder; what was written there takes the path in the end.

    Raises:
        RunError: it cannot be written.
    """
    other = path.with_name(f".{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield other
        other.replace(path)
    except (OSError, DataError) as error:
        raise RunError(
            f"{path}: cannot be written ({error}); free the disk, change the folder's "
            "permissions, or choose another folder with --output"
        ) from error
    finally:
        if path.parent.is_dir():
            other.unlink(missing_ok=True)


def palette(task: Task) -> Mask:
    """Return the colour of each number in a mask, (256, 3); what does not count is white."""
    colours = np.zeros((COLOUR_COUNT, 3), np.uint8)
    colours[: task.num_classes] = np.rint(255 * class_colours(task.num_classes))
    colours[task.ignore_index] = WHITE
    return colours


def write_mask(folder: Path, picture: Picture, mask: Mask, task: Task, coloured: bool) -> Path:
    """Write class ids as PNG, or for a TIFF as GeoTIFF where it is, and return the file.

    Pixels without data have the ignore index.

    Args:
        mask: (H, W).
        coloured: whether the file has a palette; its numbers are class ids all the same.
    """
    if picture.raster:
        return _write_raster(folder, picture, mask, task, coloured)
    path = folder / f"{picture.image.name}.png"
    image = Image.fromarray(mask)
    if coloured:
        image.putpalette(palette(task).tobytes(), "RGB")
    with aside(path) as other:
        image.save(other, format="PNG")
    return path


def _write_raster(folder: Path, picture: Picture, mask: Mask, task: Task, coloured: bool) -> Path:
    path = folder / f"{picture.image.name}.tif"
    lacking = {"nodata": task.ignore_index} if picture.missing is not None else {}
    like = picture.image.path
    with (
        aside(path) as other,
        rasters.created(other, like, 1, mask.shape, "uint8", **lacking) as raster,
    ):
        if coloured:
            raster.write_colormap(1, dict(enumerate(map(tuple, palette(task).tolist()))))
        raster.write(mask, 1)
    return path


def write_overlay(folder: Path, picture: Picture, mask: Mask, task: Task) -> Path:
    """Write the image with the classes' colours laid over it, the background left as it is."""
    path = folder / f"{picture.image.name}_overlay.jpg"
    shown = np.ascontiguousarray(displayed(picture.pixels))
    painted = palette(task)[mask]
    cv2.addWeighted(painted, OPACITY, shown, 1 - OPACITY, 0, dst=painted)
    plain = mask == 0 if picture.missing is None else (mask == 0) & ~picture.missing
    np.copyto(painted, shown, where=plain[..., None])
    with aside(path) as other:
        Image.fromarray(painted).save(other, format="JPEG", quality=QUALITY)
    return path


@contextmanager
def probability_file(folder: Path, picture: Picture, task: Task) -> Iterator[Any]:
    """Yield what writes bands of rows into a GeoTIFF with a float32 band for each class.

    It takes the first row, and probabilities (K, rows, W).
    """
    path = folder / f"{picture.image.name}_probabilities.tif"
    like = picture.image.path if picture.raster else None
    size = picture.pixels.shape[:2]
    with (
        aside(path) as other,
        rasters.created(other, like, task.num_classes, size, "float32", predictor=3) as raster,
    ):
        for number, name in enumerate(task.classes, start=1):
            raster.set_band_description(number, name)

        def write(top: int, values: NDArray[np.float32]) -> None:
            raster.write(values, window=Window(0, top, values.shape[2], values.shape[1]))

        yield write


def class_rows(path: Path, mask: Mask, task: Task) -> list[dict[str, Any]]:
    """Return how many pixels of a mask each class has, and which share of those that count."""
    pixels = np.bincount(mask.ravel(), minlength=COLOUR_COUNT)
    pixels[task.ignore_index] = 0
    total = max(1, int(pixels.sum()))
    return [
        {"image": str(path), "class": name, "pixels": int(n), "share": f"{n / total:.6f}"}
        for name, n in zip(task.classes, pixels, strict=False)
    ]


def top_rows(
    path: Path, probabilities: NDArray[np.float32], task: Task, top_k: int
) -> list[dict[str, Any]]:
    """Return the likeliest classes of an image, the likeliest first, from probabilities (K,)."""
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    return [
        {
            "image": str(path),
            "rank": rank,
            "class": task.classes[number],
            "probability": f"{probabilities[number]:.6f}",
        }
        for rank, number in enumerate(best, start=1)
    ]


def probability_row(path: Path, probabilities: NDArray[np.float32], task: Task) -> dict[str, Any]:
    """Return the probability of each class, from probabilities (K,)."""
    told = (f"{value:.6f}" for value in probabilities)
    return {"image": str(path), **dict(zip(task.classes, told, strict=True))}


def write_table(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write rows with the same keys as CSV."""
    with aside(path) as other, other.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
