"""Ask a trained network for every image of a split, and time it."""

import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from raysearch.data import Data, validation_batches
from raysearch.training.trained import Trained


def asked(trained: Trained, data: Data, split: str) -> Iterator[tuple[Any, Tensor, float]]:
    """Yield each validation batch of a split, its logits, and the network's seconds an image.

    The logits are (N, K, ...) of the batch's images, on the network's device.
    """
    device = trained.normalise.scale.device
    for batch in validation_batches(data, trained.recipe, split=split):
        images = batch.images.to(device)
        began = time.perf_counter()
        logits = trained.logits(images)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        yield batch, logits, (time.perf_counter() - began) / len(batch)
