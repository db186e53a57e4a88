"""Read PNG, JPEG and other pictures of any mode as uint8 arrays; every fault is a DataError."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from raysearch.errors import DataError

# `opened` checks every header against the study's own max_pixels before it decodes.
Image.MAX_IMAGE_PIXELS = None

LARGE_TILE = 2**24  # Pixels of a tile that are never too many.
ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
# Others, such as EPS, are programs: a file's ending says nothing of what Pillow would make of it.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "GIF")
MODES = {1: "L", 3: "RGB"}
ORIENTATION, TILE_WIDTH, TILE_LENGTH = 0x0112, 322, 323


def by_stem(folder: Path, hidden: bool = True) -> dict[str, Path]:
    """Return the pictures below a folder by their path from there, without ending.

    Args:
        hidden: whether files whose names begin with a dot are among them.

    Raises:
        DataError: two have one name.
    """
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in ENDINGS or (path.name.startswith(".") and not hidden):
            continue
        stem = path.relative_to(folder).with_suffix("").as_posix()
        if stem in files:
            raise DataError(f"{path} and {files[stem].name} have one name; remove one of them")
        files[stem] = path
    return files


@contextmanager
def opened(path: Path, max_pixels: int) -> Iterator[Image.Image]:
    """Open a picture without decoding it.

    Raises:
        DataError: missing, empty, truncated, no picture, or more than max_pixels; also when
            one of these shows while the picture is decoded inside the block.
    """
    try:
        if path.stat().st_size == 0:
            raise DataError(f"{path}: the file is empty")
        with Image.open(path, formats=FORMATS) as picture:
            width, height = picture.size
            if width * height > max_pixels:
                raise DataError(
                    f"{path}: {width}x{height} pixels are more than data.max_pixels ({max_pixels})"
                )
            _check_tiles(path, picture, max_pixels)
            yield picture
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except UnidentifiedImageError as error:
        raise DataError(f"{path}: not a picture, or damaged in its header") from error
    except (OSError, SyntaxError, ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged or truncated ({error})") from error


def _check_tiles(path: Path, picture: Image.Image, max_pixels: int) -> None:
    """A TIFF is decoded by whole tiles, and they may be larger than the picture."""
    tags = getattr(picture, "tag_v2", {})
    tile = int(tags.get(TILE_WIDTH, 0)) * int(tags.get(TILE_LENGTH, 0))
    if tile > max(max_pixels, LARGE_TILE):
        raise DataError(f"{path}: tiles of {tile} pixels in a small picture; save it anew")


def shape(path: Path, max_pixels: int) -> tuple[int, int]:
    """Return (height, width) as `read` gives it, from the header alone."""
    with opened(path, max_pixels) as picture:
        width, height = picture.size
        return (width, height) if _orientation(picture) > 4 else (height, width)


def read(path: Path, bands: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return a picture as (H, W, bands).

    Alpha is dropped, a palette is looked up, 16 bits become 8, and a camera's EXIF orientation
    is applied to a JPEG, as viewers and annotation tools do.
    """
    with opened(path, max_pixels) as picture:
        upright = _upright(picture)
        if upright.mode == "F":
            raise DataError(f"{path}: floating point pixels have no known range; save 8 bits")
        if upright.mode.startswith("I"):
            upright = Image.fromarray((np.asarray(upright) // 257).clip(0, 255).astype(np.uint8))
        if upright.mode == "P" and "transparency" in upright.info:
            upright = upright.convert("RGBA")
        pixels = np.array(upright.convert(MODES[bands]), dtype=np.uint8)
    return pixels.reshape(*pixels.shape[:2], bands)


def read_mask(path: Path, max_pixels: int) -> tuple[NDArray[np.integer], NDArray[np.uint8] | None]:
    """Return a mask's pixels as they are stored, and its palette (256, 3) if it has one.

    Returns:
        (H, W) numbers for a palette or greyscale mask, (H, W, 3) for a coloured one.
    """
    with opened(path, max_pixels) as picture:
        if picture.mode == "P":
            colours = np.array(picture.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            palette = np.zeros((256, 3), dtype=np.uint8)
            palette[: len(colours)] = colours
            return np.array(picture), palette
        if picture.mode in ("1", "LA"):
            return np.array(picture.convert("L")) // (255 if picture.mode == "1" else 1), None
        if picture.mode == "L" or picture.mode.startswith("I"):
            return np.array(picture), None
        return np.array(picture.convert("RGB")), None


def _orientation(picture: Image.Image) -> int:
    if picture.format != "JPEG":
        return 1
    return int(picture.getexif().get(ORIENTATION, 1))


def _upright(picture: Image.Image) -> Image.Image:
    if _orientation(picture) == 1:
        return picture
    from PIL import ImageOps

    return ImageOps.exif_transpose(picture)
