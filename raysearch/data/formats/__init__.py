"""Readers of native data formats: one module a format, found by its name.

A new format is a new file here, with a class `Format` that derives from `Reader`.
"""

from abc import ABC, abstractmethod
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from raysearch.config import DataConfig
from raysearch.data import images, rasters
from raysearch.data.samples import Sample
from raysearch.errors import ConfigError, DataError, closest

# Bands of a TIFF that holds a picture, without alpha.
COLOURS = {1: ("gray",), 3: ("red", "green", "blue")}


class Reader(ABC):
    """Turn a folder in its native format into samples, and samples into arrays.

    Attributes:
        dtype: of the images: uint8, uint16, int16 or float32. NaN in a float image means no data.
        weighted: whether `weight` says how sure each pixel's class is.
    """

    dtype: np.dtype[Any] = np.dtype(np.uint8)
    weighted: bool = False

    class Options(BaseModel):
        """What a study may say under data.options."""

        model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, root: Path, data: DataConfig) -> None:
        """Check the folder and the options.

        Raises:
            DataError: no such folder.
            ConfigError: an unknown or wrong option.
        """
        if not root.is_dir():
            raise DataError(f"{root}: no such folder; give the data set's folder with --data")
        self.root = root
        self.data = data
        self.options = self._options(data.options)

    @classmethod
    def _options(cls, values: dict[str, Any]) -> Any:
        for key in values:
            if key not in cls.Options.model_fields:
                valid = closest(key, cls.Options.model_fields)
                raise ConfigError(f"data.options: unknown key '{key}'. {valid}")
        try:
            return cls.Options.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            key = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"data.options.{key}: {first['input']!r}: {first['msg']}") from error

    @abstractmethod
    def samples(self) -> list[Sample]:
        """Return every sample that the lists name, sorted by name; decodes nothing.

        Raises:
            DataError: lists that are missing, contradict each other, or name missing files.
        """

    @abstractmethod
    def shape(self, sample: Sample) -> tuple[int, int]:
        """Return the image's (height, width) from its header."""

    @abstractmethod
    def image(self, sample: Sample) -> NDArray[Any]:
        """Return the image, (H, W, bands), of this reader's dtype."""

    def target(self, sample: Sample) -> NDArray[np.uint8]:
        """Return the class id of every pixel, (H, W), or the ignore index.

        Not asked for samples whose target is the class of the whole image.
        """
        raise TypeError(f"{self.data.format}: {sample.name} has no mask")

    def weight(self, sample: Sample) -> NDArray[np.uint8]:
        """Return how sure the class of every pixel is, (H, W), 255 for fully."""
        raise TypeError(f"{self.data.format}: {sample.name} has no weights")

    @classmethod
    def picture(cls, path: Path, data: DataConfig) -> NDArray[Any]:
        """Return an image that no data set names, (H, W, bands), read as this format's own.

        Raises:
            DataError: it is damaged, or has other bands than the study's.
        """
        return images.read(path, data.bands, data.max_pixels)

    @classmethod
    def rows(cls, path: Path, data: DataConfig) -> rasters.Rows | None:
        """Return a GeoTIFF of which bands of rows can be read as `picture` reads all of it.

        None where it has to be read at once, as PNG and JPEG have.

        Raises:
            DataError: it is damaged, or has other bands than the study's.
        """
        if not rasters.is_tiff(path):
            return None
        header = rasters.header(path, data.max_pixels)
        plain = tuple(colour for colour in header.colours if colour != "alpha")
        if header.dtype != np.uint8 or plain != COLOURS.get(data.bands):
            return None
        bands = range(1, data.bands + 1)
        return rasters.by_rows(path, bands, max_pixels=data.max_pixels, declared=False)

    @classmethod
    def recognise(cls, folder: Path) -> dict[str, Any] | None:
        """Return what a study says of a folder in this format, None where it is of another.

        The keys are those of a study's data, such as {"classes": [...], "bands": 3, "options": {}};
        "task": "classification" says that whole images are labelled. Quick, and never raises.
        """
        return None

    def settled(self) -> dict[str, Any]:
        """Return the options as they came out: what was guessed from this folder is written out.

        A study that says so reads another folder with the same meaning.
        """
        return dict(self.data.options)

    def meaning(self) -> dict[str, Any]:
        """Return what decides, beside the files' own bytes, which arrays come out (as JSON)."""
        return {
            "format": self.data.format,
            "options": self._options(self.settled()).model_dump(mode="json"),
            "classes": list(self.data.classes),
            "bands": self.data.bands,
            "ignore_index": self.data.ignore_index,
            "cache_side": self.data.cache_side,
        }


def names() -> list[str]:
    """Return the formats that exist."""
    return sorted(module.name for module in iter_modules(__path__))


def reader(name: str) -> type[Reader]:
    """Return the reader of a format.

    Raises:
        DataError: an unknown format, with the nearest name.
    """
    if name not in names():
        raise DataError(f"data.format: no format is called '{name}'. {closest(name, names())}")
    format_: type[Reader] = import_module(f"{__name__}.{name}").Format
    return format_
