"""What every network returns."""

from typing import NamedTuple

from torch import Tensor, nn


class Output(NamedTuple):
    """Logits of the heads.

    semantic: (N, K, h, w) at the size of the images, or (N, K) of whole images; to be compared by
        softmax over K classes.
    boundary: (N, 1, h, w), the logit that a pixel lies on an edge between two classes; None for
        whole images.
    """

    semantic: Tensor
    boundary: Tensor | None


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


class OneHead(nn.Module):
    """Pass on the logits (N, K) of a network for whole images, which have no boundary."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Output:
        return Output(self.network(images), None)


def encoder_of(network: nn.Module) -> nn.Module:
    """Return the part of a network that is pretrained, frozen or trained at a rate of its own."""
    inner = network.network if isinstance(network, TwoHeads | OneHead) else network
    return inner.get_submodule("encoder")


def encoder_parameters(network: nn.Module) -> list[nn.Parameter]:
    """Return the encoder's parameters that are trained, in the order of the network's own.

    To be asked before an encoder is frozen: parameters that no output depends on are left out by
    their requires_grad, and are never to be thawed.
    """
    return [p for p in encoder_of(network).parameters() if p.requires_grad]
