"""From stored values to the numbers that networks train on."""

import numpy as np
import torch
from torch import Tensor, nn

from raysearch.data import Data

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
IMAGES, PIXELS = 64, 10_000


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
    any other images have those of evenly spaced training images.
    """
    indices = data.indices("train")
    first = data.cache.image(indices[0])
    if data.cache.bands == 3 and first.dtype == np.uint8:
        return 255 * torch.tensor(IMAGENET_MEAN), 255 * torch.tensor(IMAGENET_STD)
    step = max(1, len(indices) // IMAGES)
    values = np.concatenate([_pixels(data.cache.image(i)) for i in indices[::step]])
    std = values.std(axis=0)
    return torch.from_numpy(values.mean(axis=0)), torch.from_numpy(np.where(std > 0, std, 1.0))


def _pixels(image: np.ndarray) -> np.ndarray:
    """Return evenly spaced pixels of an image, (n, C) as float64."""
    pixels = image.reshape(-1, image.shape[-1])
    return pixels[:: max(1, len(pixels) // PIXELS)].astype(np.float64)
