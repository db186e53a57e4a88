"""Parts that the U-Nets share."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class DoubleConvolution(nn.Sequential):
    """Twice a 3 x 3 convolution, batch normalisation and ReLU, then spatial dropout."""

    def __init__(self, in_channels: int, out_channels: int, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
            nn.Dropout2d(dropout) if dropout else nn.Identity(),
        )


class TransposedUp(nn.ConvTranspose2d):
    """Double the size by a 2 x 2 transposed convolution with stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(in_channels, out_channels, 2, stride=2)


class NearestUp(nn.Sequential):
    """Double the size by repeating pixels, then a 3 x 3 convolution with normalisation and ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__(
            nn.Upsample(scale_factor=2, mode="nearest"),
            nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )


class NoGate(nn.Module):
    """Pass the skip on as it is."""

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        return skip


class AttentionGate(nn.Module):
    """Additive attention gate on a skip connection.

    With skip x and gating signal g (the decoder's features, already at the skip's size) it returns
    x * sigmoid(psi(relu(W_x x + W_g g))), the coefficient being one number a pixel: equations 1
    and 2 of Oktay et al., Attention U-Net, https://arxiv.org/abs/1804.03999.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        between = max(1, channels // 2)
        self.from_skip = self._projection(channels, between)
        self.from_gating = self._projection(channels, between)
        self.coefficient = nn.Sequential(
            nn.ReLU(inplace=True), self._projection(between, 1), nn.Sigmoid()
        )

    @staticmethod
    def _projection(in_channels: int, out_channels: int) -> nn.Sequential:
        convolution = nn.Conv2d(in_channels, out_channels, 1, bias=False)
        return nn.Sequential(convolution, nn.BatchNorm2d(out_channels))

    def forward(self, skip: Tensor, gating: Tensor) -> Tensor:
        """Weigh skip (N, C, h, w) by gating (N, C, h, w)."""
        return skip * self.coefficient(self.from_skip(skip) + self.from_gating(gating))


class SelfAttention(nn.Module):
    """Let every pixel look at the whole image, and add what it sees.

    Scaled dot-product attention (https://arxiv.org/abs/1706.03762) over pixels. Keys and values are
    average-pooled to at most `keys` x `keys` of them, as in PVT v2
    (https://arxiv.org/abs/2106.13797), so that memory grows with the pixels and not with their
    square. The sum is scaled by a learnt number that begins at 0, as in SAGAN
    (https://arxiv.org/abs/1805.08318): an untrained block passes its input on.
    """

    def __init__(self, channels: int, head_channels: int = 64, keys: int = 16) -> None:
        super().__init__()
        most = max(1, channels // head_channels)
        self.heads = next(heads for heads in range(most, 0, -1) if channels % heads == 0)
        self.keys = keys
        self.normalisation = nn.GroupNorm(1, channels)
        self.queries = nn.Conv2d(channels, channels, 1)
        self.keys_and_values = nn.Conv2d(channels, 2 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.zeros(()))

    def forward(self, features: Tensor) -> Tensor:
        """Features (N, C, h, w) give the same shape."""
        normal = self.normalisation(features)
        size = (min(features.shape[-2], self.keys), min(features.shape[-1], self.keys))
        seen = self.keys_and_values(F.adaptive_avg_pool2d(normal, size))
        key, value = (self._tokens(part) for part in seen.chunk(2, dim=1))
        found = F.scaled_dot_product_attention(self._tokens(self.queries(normal)), key, value)
        return features + self.scale * self.out(found.mT.reshape(features.shape))

    def _tokens(self, features: Tensor) -> Tensor:
        """(N, C, h, w) as (N, heads, h * w, C / heads)."""
        count, channels = features.shape[:2]
        return features.reshape(count, self.heads, channels // self.heads, -1).mT


class UpBlock(nn.Module):
    """Double the decoder's features, join the (gated) skip, convolve twice."""

    def __init__(self, channels: int, up: nn.Module, gate: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        self.up = up
        self.gate = gate
        self.convolutions = DoubleConvolution(2 * channels, channels, dropout)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Features (N, 2C, h, w) and skip (N, C, 2h, 2w) give (N, C, 2h, 2w)."""
        features = self.up(features)
        return self.convolutions(torch.cat([self.gate(skip, features), features], dim=1))


class Refined(nn.Module):
    """A decoder block, then a module that keeps the shape of its features, such as attention."""

    def __init__(self, block: nn.Module, refinement: nn.Module) -> None:
        super().__init__()
        self.block = block
        self.refinement = refinement

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        refined: Tensor = self.refinement(self.block(features, skip))
        return refined


class OutputBlock(nn.Sequential):
    """One more 3 x 3 convolution with normalisation and ReLU before the 1 x 1 that gives logits."""

    def __init__(self, in_channels: int, channels: int) -> None:
        super().__init__(
            nn.Conv2d(in_channels, in_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(in_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(in_channels, channels, 1),
        )


class UShape(nn.Module):
    """Encoder and decoder with a skip at each size.

    Args:
        encoder: a block for each size, the largest first; the features are halved between them,
            and the last is the bottleneck.
        decoder: takes features and skip, a block for each size but the smallest, upwards.
        head: from the features at full size to logits.
    """

    def __init__(
        self, encoder: Sequence[nn.Module], decoder: Sequence[nn.Module], head: nn.Module
    ) -> None:
        super().__init__()
        self.encoder = nn.ModuleList(encoder)
        self.decoder = nn.ModuleList(decoder)
        self.head = head
        self.apply(initialise)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, bands, h, w), h and w multiples of 2 ** depth, give (N, channels, h, w)."""
        logits: Tensor = self.head(through(images, self.encoder, self.decoder))
        return logits


def through(images: Tensor, encoder: Iterable[nn.Module], decoder: Iterable[nn.Module]) -> Tensor:
    """Return the last features of an encoder and a decoder with a skip at each size."""
    skips: list[Tensor] = []
    features = images
    for block in encoder:
        features = block(F.max_pool2d(features, 2) if skips else features)
        skips.append(features)
    for block, skip in zip(decoder, reversed(skips[:-1]), strict=True):
        features = block(features, skip)
    return features


def initialise(module: nn.Module) -> None:
    """He initialisation (https://arxiv.org/abs/1502.01852) of the convolutions before a ReLU."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if module.bias is not None:
            nn.init.zeros_(module.bias)
