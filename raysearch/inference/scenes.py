"""GeoTIFFs too large for memory: bands of rows are read where those of an array would be taken."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from raysearch.data.display import for_display
from raysearch.data.moments import combined, moments
from raysearch.data.rasters import Rows
from raysearch.data.resize import fitted, resize_image
from raysearch.errors import DataError

WHOLE = 128 * 2**20  # Bytes of pixels up to which a raster is read at once.
AT_ONCE = 64 * 2**20  # Bytes of pixels that are read together, beyond the height of a block.
BLOCK = 256  # Rows; files are decoded in blocks, mostly of this height or less.
PREVIEW = 1024  # The longer side of what is looked at to choose contrast.

Pixels = NDArray[Any]


class Scene:
    """A GeoTIFF as its network sees it, that stays on the disk.

    It is looked through once when it is made, for damage, and for the means that fill its gaps as
    those of a study's own images are filled.

    Attributes:
        shape: (H, W, bands).
        dtype: as `raysearch.data.rasters.read` gives all of it.
        missing: (H, W), where every band lacks data; None where none does.
    """

    def __init__(self, name: str, rows: Rows) -> None:
        """Look through a raster.

        Args:
            name: what faults call it.

        Raises:
            DataError: it is damaged, or its mask does not fit into memory.
        """
        self.shape, self.dtype, self._rows = rows.shape, rows.dtype, rows
        self._resized: dict[tuple[int, int], Pixels] = {}
        _check_room(name, self.shape)
        self.missing: NDArray[np.bool_] | None = np.zeros(self.shape[:2], bool)
        found, gapped = [], False
        for place in self._places():
            part = rows.read(place)
            gaps = np.isnan(part) if part.dtype.kind == "f" else None
            if gaps is not None and gaps.any():
                gapped, self.dtype = True, part.dtype
                self.missing[place] = gaps.all(axis=2)
            found.append(moments(part, gaps))
        self._means = combined(np.stack(found))[1].astype(self.dtype) if gapped else None
        if not self.missing.any():
            self.missing = None

    def __getitem__(self, rows: slice) -> Pixels:
        """Return rows (rows, W, bands), without gaps."""
        part = self._rows.read(rows).astype(self.dtype, copy=False)
        if self._means is not None:
            np.copyto(part, self._means, where=np.isnan(part))
        return part

    def resized(self, size: tuple[int, int]) -> Pixels:
        """Return all of it at a height and width, as `resize_image` would, but for rounding.

        Areas are averaged across and then down, so that no more is held than is read at once, and
        the narrowed image as float32.
        """
        if size not in self._resized:
            self._resized[size] = self._resize(size)
        return self._resized[size]

    def _resize(self, size: tuple[int, int]) -> Pixels:
        height, width = size
        if height >= self.shape[0] or width >= self.shape[1]:
            return resize_image(self[:], size)
        narrow = np.empty((self.shape[0], width, self.shape[2]), np.float32)
        for place in self._places():
            part = self[place].astype(np.float32, copy=False)
            narrow[place] = resize_image(part, (len(part), width))
        small = resize_image(narrow, size)
        return small if self.dtype.kind == "f" else np.rint(small).astype(self.dtype)

    def displayed(self) -> NDArray[np.uint8]:
        """Return it as a picture for the eye, (H, W, 3)."""
        like = self.resized(fitted(self.shape, min(PREVIEW, *self.shape[:2])))
        return np.concatenate([for_display(self[place], like) for place in self._places()])

    def _places(self) -> Iterator[slice]:
        """Rows that are read together."""
        height, width, bands = self.shape
        many = AT_ONCE // (width * bands * self.dtype.itemsize) // BLOCK * BLOCK
        step = max(BLOCK, many)
        return (slice(top, min(top + step, height)) for top in range(0, height, step))


def displayed(pixels: Pixels | Scene) -> NDArray[np.uint8]:
    """Return any image as a picture for the eye, (H, W, 3)."""
    return pixels.displayed() if isinstance(pixels, Scene) else for_display(pixels)


def scene_of(name: str, rows: Rows | None) -> Scene | None:
    """Return a scene where an image can be read by rows, and is too large to be read at once."""
    if rows is None or np.prod(rows.shape, dtype=np.int64) * rows.dtype.itemsize <= WHOLE:
        return None
    return Scene(name, rows)


def _check_room(name: str, shape: tuple[int, ...]) -> None:
    """Two bytes a pixel stay in memory: the class, and whether there is data."""
    needed, free = 2 * shape[0] * shape[1], psutil.virtual_memory().available
    if needed > free:
        raise DataError(
            f"{name}: {shape[1]}x{shape[0]} pixels; their mask takes {needed / 2**30:.1f} GiB of "
            f"memory, and {free / 2**30:.1f} are free; cut the image into parts, such as with "
            "gdal_retile.py"
        )
