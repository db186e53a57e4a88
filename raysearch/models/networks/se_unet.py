"""The U-Net with squeeze-and-excitation blocks, https://arxiv.org/abs/1709.01507.

A block's channels are weighed after each encoder block, the bottleneck and the deepest decoder
block; one more convolution stands before the output. 31.3 million parameters at width 64 and
depth 4, with 11 bands.
"""

from pydantic import Field
from timm.layers import SqueezeExcite
from torch import nn

from raysearch.config import Task
from raysearch.models.blocks import (
    DoubleConvolution,
    NoGate,
    OutputBlock,
    Refined,
    TransposedUp,
    UpBlock,
    UShape,
)
from raysearch.models.networks import unet


class Options(unet.Options):
    """reduction: a block looks at its channels through that share of them.

    dropout: the share of channels dropped after every block in training.
    """

    dropout: float = Field(default=0.2, ge=0, lt=1)
    reduction: int = Field(default=16, ge=1)


def build(options: Options, task: Task, channels: int) -> nn.Module:
    widths = [options.width * 2**level for level in range(options.depth + 1)]
    pairs = zip([task.bands, *widths], widths, strict=False)
    encoder = [
        nn.Sequential(DoubleConvolution(before, after, options.dropout), _excite(after, options))
        for before, after in pairs
    ]
    decoder: list[nn.Module] = [
        UpBlock(width, TransposedUp(2 * width, width), NoGate(), options.dropout)
        for width in reversed(widths[:-1])
    ]
    decoder[0] = Refined(decoder[0], _excite(widths[-2], options))
    return UShape(encoder, decoder, OutputBlock(options.width, channels))


def _excite(channels: int, options: Options) -> nn.Module:
    excite: nn.Module = SqueezeExcite(channels, rd_channels=max(1, channels // options.reduction))
    return excite
