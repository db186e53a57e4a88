"""From stored uint8 values to the numbers that networks train on."""

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.data import Data

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
ENOUGH = 64


class Normalisation(nn.Module):
    """Maps uint8 images (N, C, H, W) to float32 with mean 0 and deviation 1 in each band.

    Three bands have ImageNet's statistics, which pretrained encoders expect; any other number has
    those of the training images.
    """

    def __init__(self, data: Data) -> None:
        super().__init__()
        mean, std = statistics(data)
        self.register_buffer("scale", 1 / (255 * std).view(-1, 1, 1))
        self.register_buffer("shift", -(mean / std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.float(), self.scale)  # type: ignore[arg-type]


def statistics(data: Data) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each band as shares of 255, (C,) each."""
    if data.cache.bands == 3:
        return torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)
    indices = data.indices("train")
    step = max(1, len(indices) // ENOUGH)
    pixels = [
        np.asarray(data.cache.image(i)).reshape(-1, data.cache.bands) for i in indices[::step]
    ]
    values = torch.from_numpy(np.concatenate(pixels)).float() / 255
    return values.mean(0), values.std(0).clamp_min(1e-3)
