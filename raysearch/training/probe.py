"""A few fixed validation images whose predictions are kept, so that models compare side by side."""

import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from torch import Tensor

from raysearch.data import Data
from raysearch.data.display import for_display

COUNT, SIDE = 6, 256
LABELLED_COUNT, LABELLED_SIDE = 12, 160  # Written anew with each best epoch.
FILE = "predictions.npz"


class Probe:
    """Keeps what the network predicts for evenly spaced validation images of this rank."""

    def __init__(self, data: Data) -> None:
        self.data = data
        images = data.indices("val")
        count, self.side = (
            (COUNT, SIDE) if data.cache.segmented else (LABELLED_COUNT, LABELLED_SIDE)
        )
        count = min(count, len(images))
        places = np.linspace(0, len(images) - 1, count).round().astype(int)
        self.indices = [images[place] for place in places]
        self.predicted: dict[int, dict[str, Any]] = {}

    def keep(self, index: int, logits: Tensor) -> None:
        """Keep the prediction of logits (1, K, H, W) or (1, K) of an image that is a probe."""
        if index not in self.indices:
            return
        if self.data.cache.segmented:
            self.keep_mask(index, logits.argmax(1)[0].cpu().numpy().astype(np.uint8))
        else:
            probability, number = logits.softmax(1)[0].max(0)
            self.keep_class(index, int(number), float(probability))

    def keep_mask(self, index: int, mask: np.ndarray) -> None:
        """Keep a mask (H, W) of class ids, uint8."""
        self.predicted[index] = {"prediction": small(mask)}

    def keep_class(self, index: int, number: int, probability: float) -> None:
        """Keep a class id and its probability."""
        self.predicted[index] = {
            "prediction": np.int64(number),
            "probability": np.float32(probability),
        }

    def save(self, folder: Path) -> None:
        """Write predictions.npz: image0, label0, prediction0, image1, ...

        Images are uint8 (H, W, 3), at most 256 pixels a side (160 where whole images are
        labelled); labels and predictions are masks of the same size, or class ids with the
        probability of the one predicted.
        """
        cache, arrays = self.data.cache, dict[str, Any]()
        for number, index in enumerate(sorted(self.predicted)):
            label = small(cache.mask(index)) if cache.segmented else np.int64(cache.label(index))
            picture = small(for_display(cache.image(index)), cv2.INTER_AREA, self.side)
            parts = {"image": picture, "label": label, **self.predicted[index]}
            arrays |= {f"{kind}{number}": value for kind, value in parts.items()}
        aside = folder / f".{os.getpid()}.{FILE}"
        np.savez_compressed(aside, allow_pickle=False, **arrays)
        aside.replace(folder / FILE)


def small(array: np.ndarray, how: int = cv2.INTER_NEAREST_EXACT, side: int = SIDE) -> np.ndarray:
    """Return a picture or a mask with at most `side` pixels a side."""
    height, width = array.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return cv2.resize(np.asarray(array), size, interpolation=how)
