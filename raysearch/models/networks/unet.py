"""The standard U-Net of Ronneberger et al., https://arxiv.org/abs/1505.04597.

With batch normalisation, padding that keeps the size, and transposed convolutions on the way up:
31.0 million parameters at width 64 and depth 4.
"""

from pydantic import Field
from torch import Tensor, nn

from raysearch.config import Task, Values
from raysearch.models.blocks import (
    AttentionGate,
    DoubleConvolution,
    NearestUp,
    NoGate,
    TransposedUp,
    UpBlock,
    initialise,
    through,
)


class Options(Values):
    """width: channels at full size, doubled by each of the `depth` halvings of the size.

    dropout: the share of channels dropped after the two deepest levels in training.
    """

    width: int = Field(default=64, ge=1)
    depth: int = Field(default=4, ge=1, le=5)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class UNet(nn.Module):
    """Encoder and decoder with a skip at each size.

    gates: puts an attention gate on each skip, and upsamples by nearest neighbour and convolution.
    """

    def __init__(self, bands: int, channels: int, options: Options, gates: bool = False) -> None:
        super().__init__()
        widths = [options.width * 2**level for level in range(options.depth + 1)]
        deepest = options.depth - 1
        self.encoder = nn.ModuleList(
            DoubleConvolution(before, after, options.dropout if level >= deepest else 0.0)
            for level, (before, after) in enumerate(zip([bands, *widths], widths, strict=False))
        )
        self.up = nn.ModuleList(
            UpBlock(
                width,
                NearestUp(2 * width, width) if gates else TransposedUp(2 * width, width),
                AttentionGate(width) if gates else NoGate(),
            )
            for width in reversed(widths[:-1])
        )
        self.head = nn.Conv2d(options.width, channels, 1)
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, bands, h, w), h and w multiples of 2 ** depth, give (N, channels, h, w)."""
        logits: Tensor = self.head(through(images, self.encoder, self.up))
        return logits


def build(options: Options, task: Task, channels: int) -> nn.Module:
    return UNet(task.bands, channels, options)
