"""Find new images by files, folders and patterns, and read them as a study's own are read."""

import glob
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from raysearch.config import DataConfig, Task
from raysearch.data import images, rasters
from raysearch.data.decoding import filled, reduced
from raysearch.data.formats import reader
from raysearch.data.images import ENDINGS
from raysearch.data.resize import resize_image
from raysearch.errors import DataError
from raysearch.inference.scenes import Scene, scene_of
from raysearch.study import load_study

# A study's data.max_pixels guards a training set; new images may well be larger.
MAX_PIXELS = 2_000_000_000
STUDY = "study.yaml"


@dataclass(frozen=True)
class NewImage:
    """A file to be asked about.

    Attributes:
        name: what its results are called: unique among all, with "/" below a folder, no ending.
    """

    path: Path
    name: str


@dataclass(frozen=True)
class Picture:
    """A new image as its network sees it.

    Attributes:
        pixels: (H, W, bands), without gaps; a scene where that would fill the memory.
        missing: (H, W), where every band lacks data; None where none does.
        raster: whether it is a TIFF, whose results are TIFFs with its georeference.
    """

    image: NewImage
    pixels: NDArray[Any] | Scene
    missing: NDArray[np.bool_] | None
    raster: bool


def find_images(arguments: Sequence[str], output: Path) -> list[NewImage]:
    """Return what files, folders (all that is below them) and patterns name, each file once.

    A file that does not exist is among them, so that reading it tells.

    Args:
        output: what lies in there is passed over where a folder or a pattern finds it.
    """
    files: dict[Path, tuple[Path, Path]] = {}
    for path, relative in _named(arguments, output.resolve()):
        files.setdefault(path.resolve(), (path, relative))
    stems = Counter(relative.with_suffix("").as_posix() for _, relative in files.values())
    taken: set[str] = set()
    found = []
    for path, relative in files.values():
        stem = relative.with_suffix("").as_posix()
        name = stem if stems[stem] == 1 else f"{stem}_{relative.suffix[1:]}"
        numbered = (f"{name}_{number}" for number in count(2))
        free = next(one for one in chain([name], numbered) if one.lower() not in taken)
        taken.add(free.lower())
        found.append(NewImage(path, free))
    return found


def _named(arguments: Iterable[str], output: Path) -> Iterator[tuple[Path, Path]]:
    """Each file, and its path as its results shall have it."""
    for argument in arguments:
        path = Path(argument)
        if path.is_dir():
            yield from ((p, p.relative_to(path)) for p in _pictures(path.rglob("*"), output))
        elif path.exists() or not glob.has_magic(argument):
            yield path, Path(path.name)
        else:
            matches = map(Path, sorted(glob.glob(argument, recursive=True)))
            some = [(p, Path(p.name)) for p in _pictures(matches, output)]
            yield from some or [(path, Path(path.name))]


def _pictures(paths: Iterable[Path], output: Path) -> list[Path]:
    """Those with the ending of a picture that are neither hidden nor results."""
    return sorted(
        path
        for path in paths
        if path.suffix.lower() in ENDINGS
        and path.name[0] != "."
        and path.is_file()
        and not path.resolve().is_relative_to(output)
    )


def data_of(folder: Path, task: Task) -> DataConfig:
    """Return how the study of a search, or of a trial in it, reads its images.

    A trial that was taken out of its search reads any picture or raster with as many bands.
    """
    for place in (folder, folder.parent.parent):
        if (place / STUDY).is_file():
            data = load_study(str(place / STUDY)).data
            break
    else:
        data = DataConfig(
            format="pairs", classes=task.classes, bands=task.bands, ignore_index=task.ignore_index
        )
    return data.model_copy(update={"max_pixels": max(data.max_pixels, MAX_PIXELS)})


def read_picture(image: NewImage, data: DataConfig, task: Task) -> Picture:
    """Read a new image as the study's cache holds its own: gaps filled, classified ones reduced.

    Raises:
        DataError: it is missing, damaged, or has other bands than the study's.
    """
    if image.path.is_dir() or not image.path.exists():
        raise DataError(f"{image.path}: no such file")
    format_ = reader(data.format)
    if task.segments:
        scene = scene_of(str(image.path), format_.rows(image.path, data))
        if scene is not None:
            return Picture(image, scene, scene.missing, raster=True)
    _check_room(image.path, data)
    pixels = format_.picture(image.path, data)
    missing = None
    gaps = np.isnan(pixels) if pixels.dtype.kind == "f" else None
    if gaps is not None and gaps.any():
        pixels, missing = filled(pixels, gaps), gaps.all(axis=2)
        missing = missing if missing.any() else None
    if not task.segments:
        height, width = pixels.shape[:2]
        pixels = resize_image(pixels, reduced((height, width), data.cache_side))
    return Picture(image, pixels, missing, rasters.is_tiff(image.path))


def _check_room(path: Path, data: DataConfig) -> None:
    """A picture is decoded as a whole, and changed in a copy; a header may claim any size."""
    shape = rasters.shape if rasters.is_tiff(path) else images.shape
    height, width = shape(path, data.max_pixels)
    needed, free = 2 * height * width * data.bands, psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{path}: {width}x{height} pixels take {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} are free; save it as a GeoTIFF, which is read in parts"
        )
