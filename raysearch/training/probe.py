"""A few fixed validation images whose predictions are kept, so that trials compare side by side."""

import os
from pathlib import Path

import cv2
import numpy as np
from torch import Tensor

from raysearch.data import Data

COUNT, SIDE = 6, 256
FILE = "predictions.npz"


class Probe:
    """Keeps what the network predicts for evenly spaced validation images of this rank."""

    def __init__(self, data: Data) -> None:
        self.data = data
        images = data.indices("val")
        places = np.linspace(0, len(images) - 1, min(COUNT, len(images))).round().astype(int)
        self.indices = [images[place] for place in places]
        self.predicted: dict[int, np.ndarray] = {}

    def keep(self, index: int, predicted: Tensor) -> None:
        """Keep a predicted mask (H, W) of class ids if its image is one of the probes."""
        if index in self.indices:
            self.predicted[index] = _small(predicted.cpu().numpy().astype(np.uint8))

    def save(self, folder: Path) -> None:
        """Write images, labels and predictions, at most 256 pixels a side, as predictions.npz."""
        arrays: dict[str, np.ndarray] = {}
        for number, index in enumerate(sorted(self.predicted)):
            arrays[f"image{number}"] = _small(
                np.asarray(self.data.cache.image(index)), cv2.INTER_AREA
            )
            arrays[f"label{number}"] = _small(np.asarray(self.data.cache.mask(index)))
            arrays[f"prediction{number}"] = self.predicted[index]
        aside = folder / f".{os.getpid()}.{FILE}"
        np.savez_compressed(aside, allow_pickle=False, **arrays)
        aside.replace(folder / FILE)


def _small(array: np.ndarray, how: int = cv2.INTER_NEAREST_EXACT) -> np.ndarray:
    height, width = array.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(array, size, interpolation=how)
