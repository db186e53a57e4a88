"""What can be told of an image without looking at a single pixel of it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from raysearch.data import Sample, rasters
from raysearch.data.formats import Reader
from raysearch.errors import DataError

MAKER, MODEL = 0x010F, 0x0110
WITH_EXIF = ("JPEG", "WEBP", "MPO")
RASTERS = (".tif", ".tiff")
ENDINGS = {
    ".jpg": {"JPEG", "MPO"}, ".jpeg": {"JPEG", "MPO"}, ".png": {"PNG"}, ".bmp": {"BMP"},
    ".tif": {"TIFF"}, ".tiff": {"TIFF"}, ".webp": {"WEBP"},
}  # fmt: skip


def outside_facts(reader: Reader, sample: Sample) -> dict[str, str]:
    """Return what the file's place and header say, and what the format knows beside it.

    The number of bytes is left out: it follows from what the picture shows.
    """
    return {**place_facts(reader, sample), **_header_facts(sample.image)}


def place_facts(reader: Reader, sample: Sample) -> dict[str, str]:
    """Return what is known without opening the file: folder, ending, and the sample's own facts."""
    return {
        "folder": _folder(reader, sample),
        "file ending": sample.image.suffix.lower(),
        **sample.facts,
    }


def _folder(reader: Reader, sample: Sample) -> str:
    """Return the folder of an image, without the part that is how the data set names the class.

    A root for each class (VOC) and a folder for each class (classification) are where the label
    itself is kept.
    """
    if not sample.image.is_relative_to(reader.root):
        return sample.image.parent.as_posix()
    folder = sample.image.parent.relative_to(reader.root)
    homes = [home for home in getattr(reader, "roots", ()) if home != Path()]
    home = next((home for home in homes if folder.is_relative_to(home)), Path())
    parts = folder.relative_to(home).parts
    if isinstance(sample.target, int):
        named = {_plain(name) for name in reader.data.classes}
        parts = tuple(part for part in parts if _plain(part) not in named)
    return "/".join(parts) or "."


def _plain(name: str) -> str:
    return "".join(letter for letter in name.casefold() if letter.isalnum())


def _header_facts(path: Path) -> dict[str, str]:
    """Return format, mode, camera and JPEG quality, as far as the header says them."""
    try:
        return _raster_facts(path) if path.suffix.lower() in RASTERS else _picture_facts(path)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, DataError):
        return {}  # The reader tells what is wrong with the file.


def _raster_facts(path: Path) -> dict[str, str]:
    """Return what rasterio knows: Pillow opens few of the rasters that satellites come in."""
    with rasters.opened(path) as raster:
        kind = "TIFF" if raster.driver == "GTiff" else raster.driver
        return {"file format": kind, "mode": f"{raster.count} x {raster.dtypes[0]}"}


def _picture_facts(path: Path) -> dict[str, str]:
    with Image.open(path) as picture:
        kind = picture.format or ""
        facts = {"file format": kind, "mode": picture.mode, "camera": _camera(picture, kind)}
        tables: Any = getattr(picture, "quantization", None)
        if tables:
            facts["JPEG quantisation"] = str(sum(sum(table) for table in tables.values()))
        return facts


def _camera(picture: Image.Image, kind: str) -> str:
    if kind not in WITH_EXIF:
        return "unknown"
    exif = picture.getexif()
    named = (str(exif.get(tag, "")).strip("\0 ") for tag in (MAKER, MODEL))
    return " ".join(part for part in named if part) or "unknown"


def false_ending(path: Path, outside: Mapping[str, str]) -> str | None:
    """Return the true format of a file whose ending tells another."""
    kind, told = outside.get("file format"), ENDINGS.get(path.suffix.lower())
    return kind if kind and told and kind not in told else None
