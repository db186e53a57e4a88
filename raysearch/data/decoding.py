"""Decode every sample of a data set into the arrays of a cache."""

import json
import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raysearch.data.formats import Reader
from raysearch.data.moments import Moments, moments
from raysearch.data.resize import resize_image
from raysearch.data.samples import Sample, damaged
from raysearch.errors import DataError

THREADS = min(8, os.cpu_count() or 1)
Shape = tuple[int, int]


@dataclass(frozen=True)
class Decoded:
    """One sample.

    Attributes:
        image: (H, W, C) without gaps.
        mask, weight: (H, W) or None.
        counts: pixels of each class, (K,); of a classified image whether it is of the class.
        no_data: share of the values that are missing.
        moments: of the values that are not, (3, C).
    """

    image: NDArray[Any]
    mask: NDArray[np.uint8] | None
    weight: NDArray[np.uint8] | None
    counts: NDArray[Any]
    no_data: float
    moments: Moments


def build(
    reader: Reader,
    samples: Sequence[Sample],
    path: Path,
    digest: str,
    image_digests: Sequence[str],
) -> None:
    """Decode all samples into path; the caller holds the lock.

    Raises:
        DataError: damaged samples, all of them listed; nothing is left behind.
    """
    if not samples:
        raise DataError(f"{reader.root}: the lists name no image")
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        index = {
            "digest": digest,
            "bands": reader.data.bands,
            "classes": len(reader.data.classes),
            "ignore_index": reader.data.ignore_index,
            "names": [sample.name for sample in samples],
            "labels": [s.target if isinstance(s.target, int) else None for s in samples],
            "weighted": reader.weighted,
            "file_digests": list(image_digests),
            **_decode_all(reader, samples, partial),
        }
        (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _decode_all(reader: Reader, samples: Sequence[Sample], folder: Path) -> dict[str, Any]:
    """Write the arrays; return what the index says of them and of each sample."""
    segments = not isinstance(samples[0].target, int)
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(lambda sample: _try(_stored_shape, reader, sample), samples))
        shapes: list[Shape] = [(0, 0) if isinstance(found, str) else found for found in headers]
        ends = np.cumsum([height * width for height, width in shapes], dtype=np.int64)
        arrays = _create(reader, folder, int(ends[-1]), segments)

        def write(position: int) -> str | Decoded:
            if isinstance(header := headers[position], str):
                return header
            decoded = _try(decode, reader, samples[position], header)
            if isinstance(decoded, Decoded):
                _write(arrays, decoded, int(ends[position]), reader.data.bands)
                return replace(decoded, image=_NOTHING, mask=None, weight=None)
            return str(decoded)

        results = list(pool.map(write, range(len(samples))))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise damaged(faults, len(samples))
    for array in arrays.values():
        array.flush()
    whole = [result for result in results if isinstance(result, Decoded)]
    tables = {"moments": np.stack([result.moments for result in whole])}
    if segments:
        tables["class_pixels"] = np.stack([result.counts for result in whole])
    for name, table in tables.items():
        np.save(folder / f"{name}.npy", table)
    return {
        "arrays": [*arrays, *tables],
        "shapes": shapes,
        "no_data": [result.no_data for result in whole],
    }


_NOTHING: NDArray[Any] = np.empty(0, dtype=np.uint8)


def _try(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, or the message of its DataError."""
    try:
        return function(*arguments)
    except DataError as error:
        return str(error)


def _stored_shape(reader: Reader, sample: Sample) -> Shape:
    """Return (height, width) in the cache: a classified image is reduced to data.cache_side."""
    height, width = reader.shape(sample)
    side = reader.data.cache_side if isinstance(sample.target, int) else None
    return reduced((height, width), side)


def reduced(shape: Shape, side: int | None) -> Shape:
    """Return (height, width) with the shorter one no longer than a side; None keeps both."""
    height, width = shape
    if side is None or min(height, width) <= side:
        return height, width
    scale = side / min(height, width)
    return round(height * scale), round(width * scale)


def decode(reader: Reader, sample: Sample, shape: Shape) -> Decoded:
    """Read one sample as the cache keeps it.

    No data (NaN) becomes the mean of the image's band, and where every band lacks it the mask is
    the ignore index.

    Raises:
        DataError: a damaged file, or a mask of another size.
    """
    image = reader.image(sample)
    gaps = np.isnan(image) if image.dtype.kind == "f" else None
    no_data = float(gaps.mean()) if gaps is not None else 0.0
    if not no_data:
        gaps = None
    if gaps is not None:
        image = filled(image, gaps)
    classes = len(reader.data.classes)
    if isinstance(sample.target, int):
        image = resize_image(image, shape)
        if gaps is not None:
            gaps = resize_image(gaps.astype(np.float32), shape) > 0
        held = np.arange(classes) == sample.target
        return Decoded(image, None, None, held, no_data, moments(image, gaps))
    mask = reader.target(sample)
    if image.shape[:2] != mask.shape or mask.shape != shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], mask.shape)]
        raise DataError(f"{sample.image}: {sizes[0]} pixels, but its mask has {sizes[1]}")
    if gaps is not None:
        mask = np.where(gaps.all(axis=2), np.uint8(reader.data.ignore_index), mask)
    pixels = np.bincount(mask.ravel(), minlength=256)
    pixels[reader.data.ignore_index] = 0
    weight = reader.weight(sample) if reader.weighted else None
    return Decoded(image, mask, weight, pixels[:classes], no_data, moments(image, gaps))


def filled(image: NDArray[Any], gaps: NDArray[np.bool_]) -> NDArray[Any]:
    """Put the mean of the image's band into its gaps, and 0 where a band has nothing else."""
    _, means, _ = moments(image, gaps)
    return np.where(gaps, means.astype(image.dtype), image)


def _create(reader: Reader, folder: Path, pixels: int, segments: bool) -> dict[str, Any]:
    """Return the empty arrays of a cache by name, after asking for the room that they take."""
    values = pixels * reader.data.bands
    wanted = {"images": (reader.dtype, values)}
    if segments:
        wanted["masks"] = (np.dtype(np.uint8), pixels)
    if segments and reader.weighted:
        wanted["weights"] = (np.dtype(np.uint8), pixels)
    _check_space(folder, sum(dtype.itemsize * size for dtype, size in wanted.values()))
    return {
        name: np.lib.format.open_memmap(
            folder / f"{name}.npy", mode="w+", dtype=dtype, shape=(max(size, 1),)
        )
        for name, (dtype, size) in wanted.items()
    }


def _write(arrays: dict[str, Any], decoded: Decoded, end: int, bands: int) -> None:
    pixels = decoded.image.shape[0] * decoded.image.shape[1]
    arrays["images"][(end - pixels) * bands : end * bands] = decoded.image.ravel()
    if decoded.mask is not None:
        arrays["masks"][end - pixels : end] = decoded.mask.ravel()
    if decoded.weight is not None:
        arrays["weights"][end - pixels : end] = decoded.weight.ravel()


def _check_space(folder: Path, needed: int) -> None:
    """A full disk under a memory map kills the process, so it is asked before."""
    free = shutil.disk_usage(folder).free
    if free < needed * 1.02:
        raise DataError(
            f"{folder.parent}: the cache needs {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are "
            "free; make room, or name another folder in resources.cache"
        )
