"""Every image and mask decoded once per node, in memory-mapped .npy files.

A cache is a folder named by its key: `images.npy` and `masks.npy` hold the pixels of all samples,
one after the other (so any mixture of sizes is one file), `index.json` says where each begins.
All processes of a node map the same pages.
"""

import json
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from raysearch.data.formats import Reader
from raysearch.data.samples import Sample, damaged
from raysearch.errors import DataError

LAYOUT = 1
THREADS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class Cache:
    """Decoded samples in the order of their names. Opens in milliseconds; pickles by its path."""

    path: Path

    @cached_property
    def _index(self) -> dict[str, Any]:
        index: dict[str, Any] = json.loads((self.path / "index.json").read_text(encoding="utf-8"))
        return index

    @cached_property
    def _images(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.path / "images.npy", mmap_mode="r"))

    @cached_property
    def _masks(self) -> NDArray[np.uint8]:
        return np.asarray(np.load(self.path / "masks.npy", mmap_mode="r"))

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
    def class_pixels(self) -> NDArray[np.int64]:
        """Pixels of each class in each sample, (N, K); ignored ones are not counted."""
        return np.array(self._index["class_pixels"], dtype=np.int64)

    def index(self, name: str) -> int:
        return self._positions[name]

    def shape(self, index: int) -> tuple[int, int]:
        """Return (height, width)."""
        height, width = self._index["shapes"][index]
        return height, width

    def image(self, index: int) -> NDArray[np.uint8]:
        """Return a read-only view, (H, W, C)."""
        begin, end = (int(at) * self.bands for at in self._offsets[index : index + 2])
        return self._images[begin:end].reshape(*self.shape(index), self.bands)

    def mask(self, index: int) -> NDArray[np.uint8]:
        """Return a read-only view, (H, W)."""
        begin, end = self._offsets[index : index + 2]
        return self._masks[begin:end].reshape(self.shape(index))


def open_cache(reader: Reader, samples: Sequence[Sample], folder: Path) -> Cache:
    """Open the cache of these samples in a folder, and build it first where it does not exist.

    Built under a lock beside its final name and renamed when complete: a killed builder leaves
    nothing that looks like a cache, and of two builders one waits and opens the other's.

    Raises:
        DataError: damaged samples (all of them listed), or a folder that cannot be written.
    """
    samples = sorted(samples, key=lambda sample: sample.name)
    image_digests, target_digests = _digests(samples)
    digest = _combine(reader, samples, image_digests, target_digests)
    cache = Cache(folder / digest[:16])
    try:
        if not _complete(cache.path):
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / f"{digest[:16]}.lock"):
                if not _complete(cache.path):
                    shutil.rmtree(cache.path, ignore_errors=True)
                    _build(reader, samples, cache.path, digest, image_digests)
    except OSError as error:
        raise DataError(
            f"{folder}: the cache cannot be written ({error}); "
            "name another folder in resources.cache"
        ) from error
    return cache


def _complete(path: Path) -> bool:
    """Whether nobody has cleaned up some of the files since the cache was built."""
    return all((path / name).is_file() for name in ("index.json", "images.npy", "masks.npy"))


def data_digest(reader: Reader, samples: Sequence[Sample]) -> str:
    """Return the digest that a cache of these samples has, without building it."""
    samples = sorted(samples, key=lambda sample: sample.name)
    return _combine(reader, samples, *_digests(samples))


def _digests(samples: Sequence[Sample]) -> tuple[list[str], list[str]]:
    def digest(path: Path | int) -> str:
        if isinstance(path, int):
            return str(path)
        try:
            return blake2b(path.read_bytes(), digest_size=16).hexdigest()
        except OSError as error:
            return f"! {path}: cannot be read ({error.strerror})"

    with ThreadPoolExecutor(THREADS) as pool:
        images = list(pool.map(digest, [sample.image for sample in samples]))
        targets = list(pool.map(digest, [sample.target for sample in samples]))
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
    return blake2b(text.encode(), digest_size=16).hexdigest()


def _build(
    reader: Reader,
    samples: Sequence[Sample],
    path: Path,
    digest: str,
    image_digests: Sequence[str],
) -> None:
    """Decode all samples into path; the caller holds the lock."""
    if not samples:
        raise DataError(f"{reader.root}: the lists name no image")
    partial = path.with_name(f"{path.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        shapes, class_pixels = _decode(reader, samples, partial)
        index = {
            "digest": digest,
            "bands": reader.data.bands,
            "ignore_index": reader.data.ignore_index,
            "names": [sample.name for sample in samples],
            "shapes": shapes,
            "file_digests": list(image_digests),
            "class_pixels": class_pixels,
        }
        (partial / "index.json").write_text(json.dumps(index), encoding="utf-8")
        partial.rename(path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _decode(
    reader: Reader, samples: Sequence[Sample], folder: Path
) -> tuple[list[tuple[int, int]], list[list[int]]]:
    """Write images.npy and masks.npy; return each sample's shape and pixels by class."""
    with ThreadPoolExecutor(THREADS) as pool:
        headers = list(pool.map(lambda sample: _try(_shape, reader, sample), samples))
        shapes = [(0, 0) if isinstance(found, str) else found for found in headers]
        ends = np.cumsum([height * width for height, width in shapes], dtype=np.int64)
        bands = reader.data.bands
        _check_space(folder, int(ends[-1]) * (bands + 1))
        images = _create(folder / "images.npy", int(ends[-1]) * bands)
        masks = _create(folder / "masks.npy", int(ends[-1]))

        def write(position: int) -> str | list[int]:
            if isinstance(header := headers[position], str):
                return header
            decoded = _try(_pixels, reader, samples[position], header)
            if isinstance(decoded, str):
                return decoded
            image, mask, counts = decoded
            end = int(ends[position])
            images[(end - mask.size) * bands : end * bands] = image.ravel()
            masks[end - mask.size : end] = mask.ravel()
            return counts

        results = list(pool.map(write, range(len(samples))))
    faults = [result for result in results if isinstance(result, str)]
    if faults:
        raise damaged(faults, len(samples))
    images.flush()
    masks.flush()
    return shapes, [result for result in results if not isinstance(result, str)]


def _try(function: Any, *arguments: Any) -> Any:
    """Return the function's result, or the message of its DataError."""
    try:
        return function(*arguments)
    except DataError as error:
        return str(error)


def _shape(reader: Reader, sample: Sample) -> tuple[int, int]:
    return reader.shape(sample)


def _pixels(
    reader: Reader, sample: Sample, shape: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[int]]:
    image, mask = reader.image(sample), reader.target(sample)
    if image.shape[:2] != mask.shape or mask.shape != shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[:2], mask.shape)]
        raise DataError(f"{sample.image}: {sizes[0]} pixels, but its mask has {sizes[1]}")
    counts = np.bincount(mask.ravel(), minlength=256)
    counts[reader.data.ignore_index] = 0
    return image, mask, counts[: len(reader.data.classes)].tolist()


def _create(path: Path, size: int) -> np.memmap[Any, np.dtype[np.uint8]]:
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.uint8, shape=(max(size, 1),))


def _check_space(folder: Path, needed: int) -> None:
    """A full disk under a memory map kills the process, so it is asked before."""
    free = shutil.disk_usage(folder).free
    if free < needed * 1.02:
        raise DataError(
            f"{folder.parent}: the cache needs {needed / 1e6:.0f} MB, but {free / 1e6:.0f} MB are "
            "free; make room, or name another folder in resources.cache"
        )
