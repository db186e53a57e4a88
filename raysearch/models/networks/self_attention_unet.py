"""The U-Net with self-attention at the bottleneck and in every decoder block.

One more convolution stands before the output. 36.7 million parameters at width 64 and depth 4, with
11 bands: the convolutions of a U-Net with those channels are 31 million of them.
"""

from pydantic import Field
from torch import nn

from raysearch.config import Task
from raysearch.models.blocks import (
    DoubleConvolution,
    NoGate,
    OutputBlock,
    Refined,
    SelfAttention,
    TransposedUp,
    UpBlock,
    UShape,
)
from raysearch.models.networks import unet


class Options(unet.Options):
    """head_channels: of one attention head.

    keys: a decoder's pixel looks at keys x keys places; one of the bottleneck at 16 x 16, which are
        all that an image of 256 pixels has there.
    dropout: the share of channels dropped after every block in training.
    """

    dropout: float = Field(default=0.2, ge=0, lt=1)
    head_channels: int = Field(default=64, ge=1)
    keys: int = Field(default=8, ge=1)


def build(options: Options, task: Task, channels: int) -> nn.Module:
    widths = [options.width * 2**level for level in range(options.depth + 1)]
    pairs = zip([task.bands, *widths], widths, strict=False)
    encoder: list[nn.Module] = [
        DoubleConvolution(before, after, options.dropout) for before, after in pairs
    ]
    encoder[-1] = nn.Sequential(encoder[-1], SelfAttention(widths[-1], options.head_channels))
    decoder = [
        Refined(
            UpBlock(width, TransposedUp(2 * width, width), NoGate(), options.dropout),
            SelfAttention(width, options.head_channels, options.keys),
        )
        for width in reversed(widths[:-1])
    ]
    return UShape(encoder, decoder, OutputBlock(options.width, channels))
