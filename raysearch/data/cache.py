"""Every image and mask decoded once per node, in memory-mapped .npy files.

A cache is a folder named by its key: `images.npy`, `masks.npy` and, where the format has them,
`weights.npy` hold the pixels of all samples, one after the other (so any mixture of sizes is one
file); `index.json` says where each begins, and the labels of whole images. All processes of a node
map the same pages. `moments.npy` and, for masks, `class_pixels.npy` sum up each sample.
"""

import json
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from raysearch.data.decoding import THREADS, build
from raysearch.data.digests import digest, file_digest
from raysearch.data.formats import Reader
from raysearch.data.moments import Moments
from raysearch.data.samples import Sample, damaged
from raysearch.errors import DataError

LAYOUT = 3


@dataclass(frozen=True)
class Cache:
    """Decoded samples in the order of their names. Opens in milliseconds; pickles by its path."""

    path: Path

    @cached_property
    def _index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads((self.path / "index.json").read_text(encoding="utf-8"))
        return index

    @cached_property
    def _images(self) -> NDArray[Any]:
        return np.asarray(np.load(self.path / "images.npy", mmap_mode="r"))

    @cached_property
    def _masks(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.path / "masks.npy", mmap_mode="r"))

    @cached_property
    def _weights(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.path / "weights.npy", mmap_mode="r"))

    @cached_property
    def _offsets(self) -> NDArray[np.int64]:
        """Where each mask begins, in pixels."""
        pixels = [height * width for height, width in self._index["shapes"]]
        return np.cumsum([0, *pixels], dtype=np.int64)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {name: position for position, name in enumerate(self.names)}

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path}

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def names(self) -> tuple[str, ...]:
        return tuple(self._index["names"])

    @property
    def bands(self) -> int:
        return int(self._index["bands"])

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the images."""
        return self._images.dtype

    @property
    def ignore_index(self) -> int:
        """Id of mask pixels that belong to no class."""
        return int(self._index["ignore_index"])

    @property
    def digest(self) -> str:
        """Digest of every file's bytes and of what the reader makes of them."""
        return str(self._index["digest"])

    @cached_property
    def file_digests(self) -> dict[str, str]:
        """Digest of each image file's bytes, by name; equal means duplicate."""
        return dict(zip(self.names, self._index["file_digests"], strict=True))

    @cached_property
    def class_pixels(self) -> NDArray[np.integer[Any]]:
        """Pixels of each class in each sample, (N, K); ignored ones are not counted.

        A classified image counts 1 for its class.
        """
        if self.segmented:
            pixels: NDArray[np.int64] = np.load(self.path / "class_pixels.npy")
            return pixels
        labels = np.array(self._index["labels"])
        # One byte each: a hundred thousand images of a hundred classes are usual.
        return (labels[:, None] == np.arange(self._index["classes"])).astype(np.int8)

    @cached_property
    def moments(self) -> Moments:
        """Count, mean and variance of each sample's bands where there are data, (N, 3, C)."""
        found: Moments = np.load(self.path / "moments.npy")
        return found

    def index(self, name: str) -> int:
        return self._positions[name]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width)."""
        height, width = self._index["shapes"][index]
        return height, width

    def image(self, index: int) -> NDArray[Any]:
        """Return a read-only view, (H, W, C)."""
        begin, end = (int(at) * self.bands for at in self._offsets[index : index + 2])
        return self._images[begin:end].reshape(*self.shape(index), self.bands)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Return the class ids of a segmented image's pixels: a read-only view, (H, W)."""
        begin, end = self._offsets[index : index + 2]
        return self._masks[begin:end].reshape(self.shape(index))

    def weight(self, index: int) -> NDArray[np.uint8]:
        """Return how sure each pixel's class is, 255 for fully: a read-only view, (H, W)."""
        begin, end = self._offsets[index : index + 2]
        return self._weights[begin:end].reshape(self.shape(index))

    def label(self, index: int) -> int:
        """Return the class id of a classified image."""
        return int(self._index["labels"][index])

    @property
    def segmented(self) -> bool:
        """Whether pixels are labelled, not whole images."""
        return "masks" in self._index["arrays"]

    @property
    def weighted(self) -> bool:
        return bool(self._index["weighted"])

    @cached_property
    def no_data(self) -> NDArray[np.float64]:
        """Share of each sample's values that the sensor did not give, (N,)."""
        return np.array(self._index["no_data"], dtype=np.float64)


def open_cache(reader: Reader, samples: Sequence[Sample], folder: Path) -> Cache:
    """Open the cache of these samples in a folder, and build it first where it does not exist.

    Built under a lock beside its final name and renamed when complete: a killed builder leaves
    nothing that looks like a cache, and of two builders one waits and opens the other's.

    Raises:
        DataError: damaged samples (all of them listed), or a folder that cannot be written.
    """
    samples = sorted(samples, key=lambda sample: sample.name)
    image_digests, target_digests = _digests(samples)
    whole = _combine(reader, samples, image_digests, target_digests)
    cache = Cache(folder / whole[:16])
    try:
        if not _complete(cache.path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{whole[:16]}.lock"):
                if not _complete(cache.path):
                    shutil.rmtree(cache.path, ignore_errors=True)
                    build(reader, samples, cache.path, whole, image_digests)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache cannot be written ({error}); "
            "name another folder in resources.cache"
        ) from error
    return cache


def _complete(path: Path) -> bool:
    """Whether nobody has cleaned up some of the files since the cache was built."""
    try:
        index = json.loads((path / "index.json").read_text(encoding="utf-8"))
        return all((path / f"{name}.npy").is_file() for name in index["arrays"])
    except (OSError, ValueError, KeyError):
        return False


def data_digest(reader: Reader, samples: Sequence[Sample]) -> str:
    """Return the digest that a cache of these samples has, without building it."""
    samples = sorted(samples, key=lambda sample: sample.name)
    return _combine(reader, samples, *_digests(samples))


def _digests(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    def one(path: Path | int) -> str:
        try:
            return str(path) if isinstance(path, int) else file_digest(path)
        except DataError as error:
            return f"! {error}"

    with ThreadPoolExecutor(THREADS) as pool:
        images = list(pool.map(one, [sample.image for sample in samples]))
        targets = list(pool.map(one, [sample.target for sample in samples]))
    unreadable = [text[2:] for text in [*images, *targets] if text.startswith("! ")]
    if unreadable:
        raise damaged(unreadable, len(samples))
    return images, targets


def _combine(
    reader: Reader, samples: Sequence[Sample], images: Sequence[str], targets: Sequence[str]
) -> str:
    names = [sample.name for sample in samples]
    files = list(zip(names, images, targets, strict=True))
    text = json.dumps([LAYOUT, reader.meaning(), files], sort_keys=True)
    return digest(text.encode())
