"""The U-Net with attention gates on its skips, https://arxiv.org/abs/1804.03999.

Upsampling by nearest neighbour and a 3 x 3 convolution: 34.9 million parameters at width 64 and
depth 4.
"""

from torch import nn

from raysearch.config import Task
from raysearch.models.networks.unet import Options, UNet

__all__ = ["Options", "build"]


def build(options: Options, task: Task, channels: int) -> nn.Module:
    return UNet(task.bands, channels, options, gates=True)
