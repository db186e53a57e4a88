"""From stored values to the numbers that networks train on."""

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.data import Data
from raysearch.data.moments import combined

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# A band that varies less than float32 can tell is constant.
RESOLUTION = 1e-6


class Normalisation(nn.Module):
    """Maps images (N, C, H, W) as they are stored to float32 with mean 0 and deviation 1 by band.

    Args:
        mean: of each band, (C,), in the images' own units.
        std: of each band, (C,).
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.mean, self.std = mean.float(), std.float()
        self.register_buffer("scale", (1 / self.std).view(-1, 1, 1))
        self.register_buffer("shift", -(self.mean / self.std).view(-1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return torch.addcmul(self.shift, images.float(), self.scale)  # type: ignore[arg-type]


def statistics(data: Data) -> tuple[Tensor, Tensor]:
    """Return mean and deviation of each band, (C,) each, in the images' own units.

    Colour photographs (three bands of 8 bits) have ImageNet's, which pretrained encoders expect;
    any other images have those of all training images' values, without those that are missing.
    The deviation of a constant band is 1.
    """
    if data.cache.bands == 3 and data.cache.dtype == np.uint8:
        return 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
    _, mean, variance = combined(data.cache.moments[list(data.indices("train"))])
    std = np.sqrt(variance)
    varies = std > RESOLUTION * np.abs(mean)
    return torch.from_numpy(mean), torch.from_numpy(np.where(varies, std, 1.0))
