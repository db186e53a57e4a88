"""Arrays put aside on the disk, so that memory does not grow with the number of images."""

import math
import tempfile
import weakref
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray


class Scratch:
    """Arrays in a file without a name, which is gone with the process.

    Args:
        folder: on whose disk it lies.
        kind: what the arrays' values are kept as.
    """

    def __init__(self, folder: Path, kind: DTypeLike) -> None:
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
        weakref.finalize(self, self.file.close)
        self.kind = np.dtype(kind)
        self.begins: list[int] = []

    def add(self, parts: Iterable[NDArray[Any]]) -> None:
        """Keep arrays as one, one after the other."""
        self.begins.append(self.file.seek(0, 2))
        for part in parts:
            self.file.write(part.astype(self.kind).tobytes())

    def read(self, number: int, shape: Sequence[int]) -> NDArray[Any]:
        """Return what was kept so manyth, in a shape."""
        self.file.seek(self.begins[number])
        kept = self.file.read(self.kind.itemsize * math.prod(shape))
        return np.frombuffer(kept, self.kind).reshape(shape)
