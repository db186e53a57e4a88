"""Parts that the U-Nets share."""

import torch
from torch import Tensor, nn


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


class UpBlock(nn.Module):
    """Double the decoder's features, join the (gated) skip, convolve twice."""

    def __init__(self, channels: int, up: nn.Module, gate: nn.Module) -> None:
        super().__init__()
        self.up = up
        self.gate = gate
        self.convolutions = DoubleConvolution(2 * channels, channels)

    def forward(self, features: Tensor, skip: Tensor) -> Tensor:
        """Features (N, 2C, h, w) and skip (N, C, 2h, 2w) give (N, C, 2h, 2w)."""
        features = self.up(features)
        return self.convolutions(torch.cat([self.gate(skip, features), features], dim=1))
