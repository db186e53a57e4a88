"""What every network returns."""

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """Logits of both heads, at the size of the images.

    semantic: (N, K, h, w), to be compared by softmax over K classes.
    boundary: (N, 1, h, w), the logit that a pixel lies on an edge between two classes.
    """

    semantic: Tensor
    boundary: Tensor


class TwoHeads(nn.Module):
    """Divide the last channels of a network into the semantic and the boundary head.

    Both heads are convolutions over the same features, so one convolution with K + 1 channels is
    the same function as two.
    """

    def __init__(self, network: nn.Module, num_classes: int) -> None:
        super().__init__()
        self.network = network
        self.num_classes = num_classes

    def forward(self, images: Tensor) -> Output:
        logits = self.network(images)
        return Output(logits[:, : self.num_classes], logits[:, self.num_classes :])
