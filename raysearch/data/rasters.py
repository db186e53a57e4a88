"""Read GeoTIFF and other rasters of any number of bands and depth; every fault is a DataError.

Georeferences are not used, so a raster without one is as good as any other.
"""

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.enums import Interleaving
from rasterio.errors import NotGeoreferencedWarning, RasterioError
from rasterio.io import DatasetReader
from rasterio.windows import Window

from raysearch.data import images
from raysearch.errors import DataError

# What arrays are given as, by what files hold; float32 stands for every wider type.
DTYPES = {
    "bool": "uint8",
    "uint8": "uint8",
    "int8": "int16",
    "uint16": "uint16",
    "int16": "int16",
    "uint32": "float32",
    "int32": "float32",
    "uint64": "float32",
    "int64": "float32",
    "float16": "float32",
    "float32": "float32",
    "float64": "float32",
}
CACHE_MB = 64  # Of decoded blocks; GDAL's own choice is a twentieth of the machine's memory.
MOST_BANDS, BANDS_A_PIXEL = 1024, 16
MOST_BLOCK = 2**30  # Bytes that are decoded together.
DRIVERS = ("GTiff", "PNG", "JPEG", "BMP", "WEBP")
IGNORED = ("ignore", None, NotGeoreferencedWarning, None, 0)
_filters = threading.Lock()


@dataclass(frozen=True)
class Header:
    """What a raster says before its pixels are decoded.

    Attributes:
        shape: (height, width).
        count: of bands.
        dtype: of the array that `read` returns where no pixel is missing.
        no_data: the value that a GeoTIFF itself declares as missing. (A PNG's transparent colour,
            which GDAL calls by the same name, is a colour like any other.)
        colours: each band's role, such as "red", "alpha", "palette", "gray" or "undefined".
    """

    shape: tuple[int, int]
    count: int
    dtype: np.dtype[Any]
    no_data: float | None
    colours: tuple[str, ...]


@contextmanager
def opened(path: Path, max_pixels: int | None = None) -> Iterator[Any]:
    """Open a raster without decoding it.

    Raises:
        DataError: missing, empty, no raster, of complex numbers, or more than max_pixels; also
            when the file proves truncated while it is decoded inside the block.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        _ignore_missing_georeferences()
        options = {"GDAL_ERROR_ON_LIBJPEG_WARNING": True, "GDAL_CACHEMAX": CACHE_MB}
        with rasterio.Env(**options), _open(path) as raster:
            if raster.count == 0:
                raise DataError(f"{path}: no bands; a container of several rasters is not read")
            if max_pixels is not None and raster.width * raster.height > max_pixels:
                raise DataError(
                    f"{path}: {raster.width}x{raster.height} pixels are more than "
                    f"data.max_pixels ({max_pixels})"
                )
            _check_memory(path, raster, max_pixels)
            strange = [dtype for dtype in raster.dtypes if dtype not in DTYPES]
            if strange:
                raise DataError(f"{path}: {strange[0]} pixels are not read; save real numbers")
            yield raster
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except (OSError, RasterioError) as error:
        reason = error.__cause__ or error
        raise DataError(f"{path}: damaged, truncated or not a raster ({reason})") from error


def _check_memory(path: Path, raster: Any, max_pixels: int | None) -> None:
    """Few pixels may still be many bands, or lie in one huge block that is decoded as a whole."""
    block = max(height * width for height, width in raster.block_shapes)
    held = raster.count if raster.interleaving == Interleaving.pixel else 1
    size = (
        block * held * max(np.dtype(DTYPES.get(name, "float64")).itemsize for name in raster.dtypes)
    )
    if raster.count > MOST_BANDS or size > MOST_BLOCK:
        raise DataError(
            f"{path}: {raster.count} bands in blocks of {size / 2**20:.0f} MiB; save it anew with "
            f"at most {MOST_BANDS} bands, and blocks such as 256x256"
        )
    values = raster.width * raster.height * raster.count
    if max_pixels is not None and values > max_pixels * BANDS_A_PIXEL:
        raise DataError(
            f"{path}: {raster.width}x{raster.height} pixels of {raster.count} bands are more than "
            f"{BANDS_A_PIXEL} times data.max_pixels ({max_pixels})"
        )


def _open(path: Path) -> Any:
    return DatasetReader(str(path), driver=list(DRIVERS))


def header(path: Path, max_pixels: int | None = None) -> Header:
    """Return what a raster says of itself; decodes nothing."""
    with opened(path, max_pixels) as raster:
        dtype = np.result_type(*(DTYPES[name] for name in raster.dtypes))
        colours = tuple(colour.name for colour in raster.colorinterp)
        size = (int(raster.height), int(raster.width))
        return Header(size, int(raster.count), dtype, _declared(raster, 1), colours)


def _declared(raster: Any, band: int) -> float | None:
    value: float | None = raster.nodatavals[band - 1]
    return value if raster.driver == "GTiff" else None


def shape(path: Path, max_pixels: int | None = None) -> tuple[int, int]:
    """Return (height, width) from the header."""
    return header(path, max_pixels).shape


def count(path: Path) -> int:
    """Return the number of bands from the header."""
    return header(path).count


def read(
    path: Path,
    bands: Sequence[int] | None = None,
    no_data: Sequence[float] = (),
    max_pixels: int | None = None,
    declared: bool = True,
    rows: slice | None = None,
) -> NDArray[Any]:
    """Return a raster's bands as (H, W, C).

    Args:
        bands: which, counted from 1, in this order; None takes all.
        no_data: values that mean a missing pixel.
        declared: whether the value that the file itself declares means one too.
        rows: of a GeoTIFF, those that are wanted; no others are decoded.

    Returns:
        uint8, uint16, int16 or float32, the narrowest that holds the file's type; where a pixel is
        missing always float32, with NaN in its place.

    Raises:
        DataError: a band that the file does not have, infinite values, or a damaged file.
    """
    with opened(path, max_pixels) as raster:
        picked = list(bands) if bands is not None else list(range(1, raster.count + 1))
        for band in picked:
            if not 1 <= band <= raster.count:
                raise DataError(
                    f"{path}: no band {band}, it has {raster.count}; bands count from 1"
                )
        _check_chunks(path, raster)
        stored = raster.read(picked, window=_window(raster, rows))
        own = [_declared(raster, band) if declared else None for band in picked]
    image = stored.transpose(1, 2, 0)
    missing = _missing(image, own, no_data)
    _check_finite(path, image, missing)
    if not missing.any():
        return np.ascontiguousarray(image, dtype=DTYPES[str(image.dtype)])
    known = image.astype(np.float32, order="C")
    known[missing] = np.nan
    return known


def _window(raster: Any, rows: slice | None) -> Window | None:
    if rows is None:
        return None
    first, last, _ = rows.indices(raster.height)
    return Window(0, first, raster.width, last - first)


@dataclass(frozen=True)
class Rows:
    """A GeoTIFF of which a band of rows can be read at a time.

    Attributes:
        shape: (H, W, C) of all of it.
        dtype: of what is read where no pixel is missing.
        read: takes which rows, and returns them as `rasters.read` does, (rows, W, C).
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    read: Callable[[slice], NDArray[Any]]


def by_rows(
    path: Path,
    bands: Sequence[int] | None = None,
    no_data: Sequence[float] = (),
    max_pixels: int | None = None,
    declared: bool = True,
) -> Rows | None:
    """Return a GeoTIFF to be read as `read` would with these arguments; None of other files."""
    if not is_tiff(path):
        return None
    found = header(path, max_pixels)

    def rows(wanted: slice) -> NDArray[Any]:
        return read(path, bands, no_data, max_pixels, declared, wanted)

    count = found.count if bands is None else len(bands)
    return Rows((*found.shape, count), found.dtype, rows)


def _check_chunks(path: Path, raster: Any) -> None:
    """GDAL fills what a truncated PNG lacks without a word; Pillow checks every chunk's sum."""
    if raster.driver == "PNG":
        with images.opened(path, raster.width * raster.height) as picture:
            picture.verify()


def _missing(
    image: NDArray[Any], own: Sequence[float | None], no_data: Sequence[float]
) -> NDArray[np.bool_]:
    """Return which pixels of (H, W, C) hold a value that means none; NaN always means none."""
    missing = np.zeros(image.shape, dtype=bool)
    for band, value in enumerate(own):
        values = [*no_data, *([] if value is None else [value])]
        if values:
            missing[..., band] = np.isin(image[..., band], _comparable(values, image.dtype))
    return missing | np.isnan(image) if image.dtype.kind == "f" else missing


def _comparable(values: Sequence[float], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return the values as they stand in a file of the type: 1e-5 is another number in float32."""
    return np.asarray(values, dtype=dtype if dtype.kind == "f" else np.float64)


def _check_finite(path: Path, image: NDArray[Any], missing: NDArray[np.bool_]) -> None:
    if image.dtype.kind != "f":
        return
    infinite = np.isinf(image) & ~missing
    if infinite.any():
        raise DataError(
            f"{path}: {infinite.sum()} infinite values; repair the file, or where they mean that "
            "data is missing, set nodata: [.inf, -.inf]"
        )


def _ignore_missing_georeferences() -> None:
    """Keep rasterio from warning of each plain raster.

    A filter that stays, rather than warnings.catch_warnings: that one swaps the process's filters
    and so would undo, in one reading thread, what another has just set.
    """
    if IGNORED in warnings.filters:
        return
    with _filters:
        if IGNORED not in warnings.filters:
            warnings.simplefilter("ignore", NotGeoreferencedWarning)


def is_tiff(path: Path) -> bool:
    """Whether a file is a TIFF (or BigTIFF), by its first bytes."""
    with path.open("rb") as file:
        return file.read(4) in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@contextmanager
def created(
    path: Path, like: Path | None, bands: int, shape: tuple[int, int], dtype: str, **profile: Any
) -> Iterator[Any]:
    """Write a compressed GeoTIFF, (bands, H, W), with the georeference of another raster.

    Args:
        like: the other raster; None leaves the georeference out.

    Raises:
        DataError: the file cannot be written.
    """
    _ignore_missing_georeferences()
    place = _georeference(like) if like is not None else {}
    rpcs = place.pop("rpcs", None)
    height, width = shape
    try:
        with rasterio.Env(GDAL_CACHEMAX=CACHE_MB), rasterio.open(
            path, "w", driver="GTiff", width=width, height=height, count=bands, dtype=dtype,
            compress="deflate", bigtiff="if_safer", **place, **profile,
        ) as raster:  # fmt: skip
            if rpcs is not None:
                raster.rpcs = rpcs
            yield raster
    except (OSError, RasterioError) as error:
        raise DataError(f"{path}: cannot be written ({error})") from error


def _georeference(path: Path) -> dict[str, Any]:
    """A raster's coordinate system with its transform or its ground control points, and RPCs."""
    with opened(path) as raster:
        points, system = raster.gcps
        placed = raster.crs is not None or not raster.transform.is_identity
        if points and not placed:
            return {"gcps": points, "crs": system, "rpcs": raster.rpcs}
        place = {"crs": raster.crs, "rpcs": raster.rpcs}
        return place | ({"transform": raster.transform} if placed else {})
