"""A data set that is checked, decoded and split."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from raysearch.config import DataConfig
from raysearch.data.cache import Cache, open_cache
from raysearch.data.formats import reader
from raysearch.data.splits import Splits, rarest_classes, split


@dataclass(frozen=True)
class Data:
    """A cache and its splits. Pickles by the cache's path."""

    cache: Cache
    splits: Splits
    num_classes: int

    @property
    def digest(self) -> str:
        return self.cache.digest

    def indices(self, name: str) -> tuple[int, ...]:
        """Return a split's positions in the cache: "train", "val" or "test"."""
        return tuple(self.cache.index(sample) for sample in getattr(self.splits, name))

    @property
    def class_frequency(self) -> NDArray[np.float64]:
        """Each class's share of the training split's labelled pixels, (K,); sums to 1."""
        pixels = self.cache.class_pixels[list(self.indices("train"))].sum(axis=0)
        return np.asarray(pixels / max(1, pixels.sum()), dtype=np.float64)


def open_data(data: DataConfig, root: Path, cache_folder: Path, seed: int) -> Data:
    """Check and decode every image that the lists name, and split them.

    Raises:
        DataError: anything wrong with folders, lists, images or masks; nothing is left behind.
        ConfigError: options that the format does not know.
    """
    source = reader(data.format)(root, data)
    samples = source.samples()
    cache = open_cache(source, samples, cache_folder)
    strata = rarest_classes(cache.names, cache.class_pixels > 0)
    parts = split(samples, cache.file_digests, data, seed, strata)
    return Data(cache, parts, len(data.classes))


def settled(data: DataConfig, root: Path) -> DataConfig:
    """Return what the study says of its data, with the options as they came out for this folder.

    What was guessed is written out, so that another folder is read with the same meaning.

    Raises:
        DataError, ConfigError: as `open_data`.
    """
    return data.model_copy(update={"options": reader(data.format)(root, data).settled()})
