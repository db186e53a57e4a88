"""Open one sample and note everything that the checks ask about it."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import imagehash
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from raysearch.data import Sample
from raysearch.data.decoding import THREADS, decode
from raysearch.data.digests import digest, file_digest
from raysearch.data.display import for_display
from raysearch.data.formats import Reader
from raysearch.errors import DataError
from raysearch.inspection.outside import outside_facts

THUMB = 16
VALUES = 2_000_000  # Pixels of the whole set that percentiles are taken of.
Array = NDArray[Any]
_NONE: Array = np.empty(0)


@dataclass(frozen=True)
class Look:
    """What is known of a sample. From `classes` on it is left empty where there is a fault.

    Attributes:
        fault: why the sample cannot be used; None where it can.
        shape: (height, width).
        outside: what can be told without looking at a pixel, such as {"file format": "PNG"}.
        classes: pixels of each class, (K,); for a classified image 1 for its class.
        digest: of the image file's bytes; equal means duplicate.
        label: the class id, or the digest of the mask; equal means labelled alike.
        no_data: share of the values that are missing.
        low, high: the least and the greatest value of each band, (bands,).
        values: some pixels, (n, bands); NaN where the sensor gave nothing.
        hash: perceptual hash, 64 bits.
        thumb: the image at 16x16 pixels, (16, 16, 3).
    """

    sample: Sample
    fault: str | None = None
    shape: tuple[int, int] = (0, 0)
    outside: Mapping[str, str] = field(default_factory=dict)
    classes: Array = field(default_factory=lambda: _NONE)
    digest: str = ""
    label: str = ""
    no_data: float = 0.0
    low: Array = field(default_factory=lambda: _NONE)
    high: Array = field(default_factory=lambda: _NONE)
    values: Array = field(default_factory=lambda: _NONE)
    hash: int = 0
    thumb: Array = field(default_factory=lambda: _NONE)

    @property
    def pixels(self) -> int:
        return self.shape[0] * self.shape[1]

    @property
    def constant(self) -> bool:
        """Whether every band has one value all over the image."""
        return bool(np.all(self.low == self.high))


def held_classes(looks: Sequence[Look], count: int) -> NDArray[np.bool_]:
    """Return which of `count` classes each image holds, (N, count)."""
    rows = [look.classes for look in looks]
    return np.array(rows, dtype=np.int64).reshape(len(looks), count) > 0


def look_at(reader: Reader, sample: Sample, values: int = 256) -> Look:
    """Open and decode one sample; a fault is noted in its reader's words, not raised."""
    look = Look(sample)
    try:
        look = replace(
            look, digest=file_digest(sample.image), outside=outside_facts(reader, sample)
        )
        shape = reader.shape(sample)
        decoded = decode(reader, sample, shape)
        raw = reader.image(sample) if decoded.no_data else decoded.image
    except DataError as error:
        return replace(look, fault=str(error))
    label = str(sample.target) if decoded.mask is None else digest(decoded.mask.tobytes())
    picture = for_display(decoded.image)
    low, high = _range(raw)
    return replace(
        look,
        shape=shape,
        classes=np.array(decoded.counts, dtype=np.int64),
        label=label,
        no_data=decoded.no_data,
        low=low,
        high=high,
        values=_some(raw, values),
        hash=perceptual_hash(picture),
        thumb=cv2.resize(picture, (THUMB, THUMB), interpolation=cv2.INTER_AREA),
    )


def look_at_all(
    reader: Reader, samples: Sequence[Sample], advance: Callable[[], None] = lambda: None
) -> list[Look]:
    """Open all samples in parallel; advance is called after each."""
    values = min(1024, max(16, VALUES // max(1, len(samples))))

    def one(sample: Sample) -> Look:
        found = look_at(reader, sample, values)
        advance()
        return found

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, samples))


def perceptual_hash(picture: NDArray[np.uint8]) -> int:
    """Return the 64 bits of a picture's (H, W, 3) perceptual hash (imagehash.phash)."""
    bits = imagehash.phash(Image.fromarray(picture)).hash
    return int.from_bytes(np.packbits(bits.ravel()).tobytes(), "big")


def _range(image: Array) -> tuple[Array, Array]:
    """Return each band's least and greatest value; NaN where a band has none."""
    flat = image.reshape(-1, image.shape[2])
    if image.dtype.kind != "f":
        return flat.min(axis=0).astype(np.float64), flat.max(axis=0).astype(np.float64)
    low, high = np.fmin.reduce(flat, axis=0), np.fmax.reduce(flat, axis=0)
    return low.astype(np.float64), high.astype(np.float64)


def _some(image: Array, count: int) -> NDArray[np.float32]:
    """Return about `count` pixels, evenly over the image, (n, bands)."""
    flat = image.reshape(-1, image.shape[2])
    # An odd step does not walk down one column of an image with an even width.
    step = max(1, len(flat) // count) | 1
    return flat[::step].astype(np.float32)
